package probe

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

var update = flag.Bool("update", false, "write what was seen into docs/practice.md")

// TestPageSaysWhatPlainGorillaFails holds the table of docs/practice.md to what
// the library does when nothing stands before it.
func TestPageSaysWhatPlainGorillaFails(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upgrader := websocket.Upgrader{}
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // it was answered
		}
		defer conn.Close()
		conn.SetReadLimit(1 << 20)
		for {
			kind, message, err := conn.ReadMessage()
			if err != nil || conn.WriteMessage(kind, message) != nil {
				return
			}
		}
	}))
	defer server.Close()
	report := probe(t, Config{URL: "ws" + strings.TrimPrefix(server.URL, "http"), TooLarge: 1<<20 + 1})

	const page = "../../docs/practice.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	row := fmt.Sprintf("| gorilla/websocket %s | %s |", version(t, "github.com/gorilla/websocket"), failures(report))
	if *update {
		text = regexp.MustCompile(`(?m)^\| gorilla/websocket .*$`).ReplaceAll(text, []byte(row))
		if err := os.WriteFile(page, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(string(text), row) {
		t.Errorf("docs/practice.md lacks the row\n%s\nwhich go test ./labs/probe -update writes", row)
	}
}

// failures is the cell of the table that says which checks failed.
func failures(r *Report) string {
	failed := ids(r, Failed)
	if len(failed) == 0 {
		return "nothing"
	}
	return "`" + strings.Join(failed, "`, `") + "`"
}

// version is the one in go.mod; a test does not know what it is built of.
func version(t *testing.T, module string) string {
	t.Helper()
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(regexp.QuoteMeta(module) + ` v(\S+)`).FindSubmatch(mod)
	if found == nil {
		t.Fatalf("%s is not in go.mod", module)
	}
	return string(found[1])
}
