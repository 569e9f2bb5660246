package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/labs/mock"
)

// said is what a program prints while it runs.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await waits until something was said, and returns what the pattern found.
func (s *said) await(t *testing.T, pattern string) []string {
	t.Helper()
	expression := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if found := expression.FindStringSubmatch(s.String()); found != nil {
			return found
		}
	}
	t.Fatalf("%s was not said, but\n%s", pattern, s)
	return nil
}

func mockScript(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const greeting = "rules: [ { on: connect, do: [ { send: hello } ] }, { on: message, do: [echo] } ]\n"

func TestMockRunsAScriptUntilItIsStopped(t *testing.T) {
	file := mockScript(t, greeting+"expect: { messages: [ { text: hi } ] }\n")
	verdict := filepath.Join(t.TempDir(), "verdict.json")
	var stdout, stderr said
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- run(ctx, []string{"mock", file, "--addr", "127.0.0.1:0", "--seed", "5", "--verdict-json", verdict, "-v"}, &stdout, &stderr)
	}()
	url := stdout.await(t, `The mock server is on (ws://127\.0\.0\.1:\d+) · seed 5`)[1]
	greeted := func(want string) *websocket.Conn {
		t.Helper()
		conn, _, err := websocket.DefaultDialer.Dial(url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, text, err := conn.ReadMessage(); err != nil || string(text) != want {
			t.Fatalf("got %q, %v", text, err)
		}
		return conn
	}
	greeted("hello").Close()

	if err := os.WriteFile(file, []byte("rules: [ { on: conect, do: [echo] } ]"), 0o600); err != nil {
		t.Fatal(err)
	}
	stderr.await(t, `line 1, column 16: "conect" is not known as "on": did you mean "connect"\?; the script before stays`)
	greeted("hello").Close()
	again := strings.Replace(greeting, "hello", "again", 1) + "expect: { messages: [ { text: hi } ] }\n"
	if err := os.WriteFile(file, []byte(again), 0o600); err != nil {
		t.Fatal(err)
	}
	stderr.await(t, "has changed and is obeyed from now on · seed 5")
	conn := greeted("again")
	defer conn.Close()
	if err := conn.WriteMessage(websocket.TextMessage, []byte("hi")); err != nil {
		t.Fatal(err)
	}
	stderr.await(t, `connection 1 on /, line 2: an expectation was met by message 1, text "hi"`)
	conn.Close()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	stdout.await(t, "Verdict: passed · seed 5\n")
	text, err := os.ReadFile(verdict)
	if err != nil {
		t.Fatal(err)
	}
	var v mock.Verdict
	if err := json.Unmarshal(text, &v); err != nil || v.State != mock.Passed || v.Seed != 5 {
		t.Errorf("the file says %s, %v", text, err)
	}
}

func TestMockEndsWithTheStatusOfItsCommand(t *testing.T) {
	expecting := mockScript(t, greeting+"expect: { messages: [ { text: hi } ] }\n")
	for _, c := range []struct {
		name, script, command string
		want                  error
	}{
		{"good", mockScript(t, greeting), `test "${MOCK_URL#ws://127.0.0.1:}" -gt 0`, nil},
		{"its own status", expecting, "exit 3", exitError(3)},
		{"a signal", expecting, "kill -TERM $$", exitError(143)},
		{"not what was expected", expecting, "true", exitError(1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr said
			err := run(t.Context(), []string{"mock", c.script, "--addr", "127.0.0.1:0", "--", "sh", "-c", c.command}, &stdout, &stderr)
			if !errors.Is(err, c.want) {
				t.Errorf("ended with %v: %s%s", err, &stdout, &stderr)
			}
			if !strings.Contains(stdout.String(), "Verdict: ") {
				t.Errorf("said %s", &stdout)
			}
		})
	}
	var stdout said
	if err := run(t.Context(), []string{"mock", expecting, "--addr", "127.0.0.1:0", "--", "no-such-command"}, &stdout, &stdout); err == nil {
		t.Error("a command that does not exist was run")
	}
}

func TestMockOnlyChecks(t *testing.T) {
	var stdout said
	good := mockScript(t, greeting)
	if err := run(t.Context(), []string{"mock", "--check", good}, &stdout, &stdout); err != nil || stdout.String() != good+" is right.\n" {
		t.Errorf("%v: %s", err, &stdout)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"a wrong script":    {[]string{mockScript(t, "rules: 3"), "--check"}, `line 1, column 8: "rules" is a list`},
		"no file":           {[]string{"nowhere.yaml"}, "nowhere.yaml"},
		"nothing to check":  {[]string{"--check"}, "--check needs a script"},
		"other machines":    {[]string{"--addr", "0.0.0.0:0"}, "--anonymous"},
		"no address":        {[]string{"--addr", "9999"}, "host:port"},
		"too long a delay":  {[]string{"--latency", "11s", "--addr", "127.0.0.1:0"}, "from 0s to 10s"},
		"no such thing":     {[]string{"--overflow", "wait"}, "cut"},
		"not a page at all": {[]string{"--origin", "app.example"}, "--origin"},
	} {
		if err := run(t.Context(), append([]string{"mock"}, c.args...), &stdout, &stdout); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var schema said
	if err := run(t.Context(), []string{"mock", "--schema"}, &schema, &schema); err != nil || schema.String() != string(mock.Schema()) {
		t.Errorf("the schema: %v", err)
	}
}
