package course_test

import (
	"context"
	"crypto/sha1" //nolint:gosec // RFC 6455 asks for it
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/wire"
	"github.com/sluice-gateway/sluice/labs"
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

func startServers(t *testing.T) *lab {
	t.Helper()
	l := &lab{}
	cfg := course.Config{Scripts: scripts(t), Vars: course.Vars(1)}
	cfg.Refused = l.refuse
	return l.start(t, course.New(cfg))
}

func TestEveryServerHasItsPath(t *testing.T) {
	l := startServers(t)
	for path, want := range map[string]int{
		"/compare": 101, "/via/good": 101, "/via/broken": 400, "/via/idle": 101, "/flood": 101, "/upload": 101,
		"/number": 101, "/going-away": 101, "/cut": 101, "/unsteady": 101, "/busy": 101, "/banned": 101, "/feed": 101, "/hunt": 101, "/chat": 101,
		"/via": 404, "/via/other": 404, "/via/good/more": 404, "/other": 404, "/": 404,
	} {
		if _, response := l.try(t, path); response.StatusCode != want {
			t.Errorf("%s answered %s, not %d", path, response.Status, want)
		}
	}
}

func TestDeflate(t *testing.T) {
	l := (&lab{}).start(t, labs.NewEcho(labs.EchoConfig{Deflate: true}))
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

// tapped is a set of servers below a tap, as in a lab session.
type tapped struct {
	*course.Servers
	http.Handler
}

func (s tapped) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.Handler.ServeHTTP(w, r) }

// What who grades sees, from below the libraries, of what each path does.
func TestServersUnderATap(t *testing.T) {
	servers := course.New(course.Config{Scripts: scripts(t), Vars: course.Vars(1)})
	transcript := wire.NewTranscript(wire.Bounds{})
	l := (&lab{}).start(t, tapped{servers, transcript.Tap(servers)})
	for _, c := range []struct {
		path   string
		client func(*websocket.Conn)
		want   string
	}{
		{"/going-away", nil, "101, close 1001 by server, complete true, fin by server"},
		{"/banned", nil, "101, close 1008 by server, complete true, fin by server"},
		{"/busy", nil, "101, close 1013 by server, complete true, fin by server"},
		{"/cut", nil, "101, close 1006 by nobody, complete false, rst by server"},
		{"/via/good", func(conn *websocket.Conn) {
			_ = conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(4001, "done"))
		}, "101, close 4001 by client, complete true, fin by server"},
		{"/via/broken", nil, "400"},
		{"/compare", func(conn *websocket.Conn) {
			_ = conn.WriteMessage(websocket.CloseMessage, nil)
		}, "101, close 1005 by client, complete true, fin by server"},
	} {
		t.Run(c.path, func(t *testing.T) {
			before := transcript.Counts().Events
			conn, _ := l.try(t, c.path)
			if conn != nil {
				if c.client != nil {
					c.client(conn)
				}
				for err := error(nil); err == nil; {
					_, _, err = conn.ReadMessage()
				}
				_, _ = io.Copy(io.Discard, conn.NetConn()) // the server closes first
				conn.Close()
			}
			var got []string
			until(t, "it is over", func() bool {
				got = nil
				events := make([]wire.Event, 100)
				n, _ := transcript.After(before, events)
				over := false
				for _, e := range events[:n] {
					switch {
					case e.Response != nil:
						got = append(got, strconv.Itoa(e.Response.Status))
						over = conn == nil
					case e.Close != nil:
						got = append(got, fmt.Sprintf("close %d by %s, complete %v", e.Close.Code, e.Close.By, e.Close.Complete))
					case e.End != nil:
						got = append(got, fmt.Sprintf("%s by %s", e.End.How, e.End.By))
						over = true
					}
				}
				return over
			})
			if got := strings.Join(got, ", "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestShutdownDoesNotWaitForLongerThanItMay(t *testing.T) {
	full := make(chan struct{})
	inside := make(chan struct{})
	cfg := course.CompareConfig{DoorConfig: labs.DoorConfig{Admit: func(*http.Request) (func(), string) {
		close(inside)
		<-full
		return nil, "There are too many."
	}}}
	l, c := startCompare(t, cfg)
	go func() {
		if response, err := http.Get(l.URL + "/compare/long"); err == nil { //nolint:noctx // ends with the server
			response.Body.Close()
		}
	}()
	<-inside
	ctx, stop := context.WithTimeout(t.Context(), time.Millisecond)
	defer stop()
	if err := c.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
	close(full)
}
