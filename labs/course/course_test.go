package course_test

import (
	"crypto/sha1" //nolint:gosec // RFC 6455 asks for it
	"encoding/base64"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/wire"
	"github.com/sluice-gateway/sluice/labs/course"
)

func TestVarsAreWhatTheirNamesSay(t *testing.T) {
	vars, same, other := course.Vars(1), course.Vars(1), course.Vars(2)
	if !maps.Equal(vars, same) {
		t.Errorf("the same seed draws %v, then %v", vars, same)
	}
	for name, value := range vars {
		if other[name] == value {
			t.Errorf("two seeds draw the same %s: %s", name, value)
		}
	}
	sum := sha1.Sum([]byte(vars[course.Key] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455 asks for it
	if key, err := base64.StdEncoding.DecodeString(vars[course.Key]); err != nil || len(key) != 16 || vars[course.Accept] != base64.StdEncoding.EncodeToString(sum[:]) {
		t.Errorf("key %s, accept %s, %v", vars[course.Key], vars[course.Accept], err)
	}
	if n, err := strconv.ParseFloat(vars[course.Float], 64); err != nil || n*8 != float64(int(n*8)) {
		t.Errorf("float %s", vars[course.Float])
	}
	words := []string{vars[course.WordBinary], vars[course.WordPing], vars[course.WordClose]}
	for _, word := range words {
		if !regexp.MustCompile(`^[a-z]{8}$`).MatchString(word) {
			t.Errorf("%q is no word", word)
		}
	}
	if slices.Sort(words); len(slices.Compact(words)) != 3 {
		t.Errorf("words are the same: %v", words)
	}
}

// served is a set of all servers.
type served struct{ *course.Servers }

func (s served) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := s.Handler(r.URL.Path); h != nil {
		h.ServeHTTP(w, r)
		return
	}
	http.NotFound(w, r)
}

func startServers(t *testing.T) *lab {
	t.Helper()
	l := &lab{}
	cfg := course.Config{Scripts: scripts(t), Vars: course.Vars(1)}
	cfg.Refused = l.refuse
	return l.start(t, served{course.New(cfg)})
}

func TestEveryServerHasItsPath(t *testing.T) {
	l := startServers(t)
	for path, want := range map[string]int{
		"/compare": 101, "/via/good": 101, "/via/broken": 400, "/via/idle": 101, "/flood": 101, "/upload": 101, "/deflate": 101,
		"/number": 101, "/going-away": 101, "/cut": 101, "/unsteady": 101, "/busy": 101, "/banned": 101, "/feed": 101, "/hunt": 101, "/chat": 101,
		"/via": 404, "/via/other": 404, "/via/good/more": 404, "/other": 404, "/": 404,
	} {
		if _, response := l.try(t, path); response.StatusCode != want {
			t.Errorf("%s answered %s, not %d", path, response.Status, want)
		}
	}
}

func TestDeflate(t *testing.T) {
	l := startServers(t)
	offer := func(d *websocket.Dialer) { d.EnableCompression = true }
	conn, response := l.try(t, "/deflate", offer)
	if conn == nil || wire.AgreedDeflate(response.Header) == nil {
		t.Fatalf("answered %s, %v", response.Status, response.Header)
	}
	text := string(make([]byte, 4096))
	send(t, conn, text)
	if got := next(t, conn); got != text {
		t.Errorf("got %d bytes back", len(got))
	}

	plain, response := l.try(t, "/deflate")
	if plain == nil || wire.AgreedDeflate(response.Header) != nil {
		t.Fatalf("who does not offer it is answered %s, %v", response.Status, response.Header)
	}
	compressed := wire.NewFrame(true, wire.Text, []byte("\xf2\x48\xcd\xc9\xc9\x07\x00"))
	compressed.RSV1 = true
	if _, err := plain.NetConn().Write(compressed.Mask([4]byte{1, 2, 3, 4}).Append(nil)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := plain.ReadMessage(); !websocket.IsCloseError(err, 1002) {
		t.Errorf("RSV1 without the extension ended with %v", err)
	}
}
