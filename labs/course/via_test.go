package course_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/labs"
	"github.com/sluice-gateway/sluice/labs/course"
)

func startVia(t *testing.T, cfg course.ViaConfig) (*lab, *course.Via) {
	t.Helper()
	l := &lab{}
	cfg.Refused = l.refuse
	v := course.NewVia(cfg)
	return l.start(t, v), v
}

func TestViaGoodPassesEverythingOn(t *testing.T) {
	l, _ := startVia(t, course.ViaConfig{})
	conn, response := l.try(t, "/lab/x/via/good?subprotocol=a", func(d *websocket.Dialer) { d.Subprotocols = []string{"a"} })
	if conn == nil || conn.Subprotocol() != "a" || response.Header.Get("Via") != "1.1 good" {
		t.Fatalf("answered %s, %v", response.Status, response.Header)
	}
	pongs := make(chan string, 1)
	conn.SetPongHandler(func(payload string) error {
		pongs <- payload
		return nil
	})
	if err := conn.WriteControl(websocket.PingMessage, []byte("p"), time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("a", 1<<20)
	for _, message := range []string{"hello", big} {
		send(t, conn, message)
		if got := next(t, conn); got != message {
			t.Errorf("got %.20q", got)
		}
	}
	if got := <-pongs; got != "p" {
		t.Errorf("got pong %q", got)
	}
	send(t, conn, big+"a")
	if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, 1009) {
		t.Errorf("one byte too many ended with %v", err)
	}
	if got := l.refusals(); got != "1009" {
		t.Errorf("counted %q", got)
	}
}

func TestViaBrokenStripsTheHeadersOfTheHop(t *testing.T) {
	l, v := startVia(t, course.ViaConfig{})
	conn, response := l.try(t, "/lab/x/via/broken")
	if conn != nil {
		t.Fatal("it opened")
	}
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusBadRequest || response.Header.Get("Via") != "1.1 broken" {
		t.Errorf("answered %s, %v", response.Status, response.Header)
	}
	for _, header := range v.Stripped() {
		if !strings.Contains(string(body), `"`+header+": ") {
			t.Errorf("the echo server does not miss %s: %s", header, body)
		}
	}
	if strings.Contains(string(body), "Sec-WebSocket") || !slices.Equal(v.Stripped(), []string{"Connection", "Upgrade"}) {
		t.Errorf("%s, and %v", body, v.Stripped())
	}
	if got := l.refusals(); got != "HANDSHAKE_INVALID" {
		t.Errorf("counted %q", got)
	}
}

func TestViaIdleCutsSilence(t *testing.T) {
	t.Parallel()
	const silence = time.Second
	l, _ := startVia(t, course.ViaConfig{Silence: silence})
	silent, busy := l.dial(t, "/via/idle"), l.dial(t, "/via/idle")
	begun := time.Now()
	pinged := l.dial(t, "/via/idle?ping=200ms")
	alive := make(chan error, 1)
	go func() {
		_, _, err := pinged.ReadMessage() // answers the pings
		alive <- err
	}()
	for range 12 {
		send(t, busy, "still here")
		if got := next(t, busy); got != "still here" {
			t.Errorf("got %q", got)
		}
		time.Sleep(silence / 4) // what is measured is how long silence may last
	}
	if _, _, err := silent.ReadMessage(); !websocket.IsCloseError(err, 1006) {
		t.Errorf("silence ended with %v", err)
	}
	if _, _, err := busy.ReadMessage(); !websocket.IsCloseError(err, 1006) {
		t.Errorf("silence after talk ended with %v", err)
	}
	if took := time.Since(begun); took < 3*silence {
		t.Errorf("it was cut after %v already", took)
	}
	select {
	case err := <-alive:
		t.Errorf("with pings it ended: %v", err)
	default:
	}
	pinged.Close()
	if err := <-alive; websocket.IsCloseError(err, 1006) {
		t.Errorf("with pings it was cut: %v", err)
	}
}

// A client that has sent its Close frame and does not close TCP is not waited for.
func TestViaLetsGoOfWhoDoesNotClose(t *testing.T) {
	t.Parallel()
	l, v := startVia(t, course.ViaConfig{})
	conn := l.dial(t, "/via/good")
	if err := conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(4000, "")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, 4000) {
		t.Errorf("ended with %v", err)
	}
	if err := v.Shutdown(t.Context()); err != nil { // which waits for all that is inside
		t.Error(err)
	}
}

func TestViaLetsInPagesOfItsOwnOrigin(t *testing.T) {
	l, _ := startVia(t, course.ViaConfig{})
	for origin, want := range map[string]int{l.URL: http.StatusSwitchingProtocols, "http://example.com": http.StatusForbidden} {
		conn, response, _ := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(l.URL, "http")+"/via/good", http.Header{"Origin": {origin}})
		if conn != nil {
			conn.Close()
		}
		if response == nil || response.StatusCode != want {
			t.Errorf("%s: %v", origin, response)
		}
	}
}

// behind is a Via behind something that changes requests.
type behind struct {
	*course.Via
	change func(*http.Request) *http.Request
}

func (b behind) ServeHTTP(w http.ResponseWriter, r *http.Request) { b.Via.ServeHTTP(w, b.change(r)) }

func TestViaKeepsTheRulesOfTheDoor(t *testing.T) {
	type key struct{}
	var from []string
	v := course.NewVia(course.ViaConfig{EchoConfig: labs.EchoConfig{DoorConfig: labs.DoorConfig{
		CheckOrigin: func(r *http.Request) bool { return r.Header.Get("Origin") == "" },
		Admit: func(r *http.Request) (func(), string) {
			from = append(from, r.RemoteAddr, fmt.Sprint(r.Context().Value(key{})))
			return nil, "There are too many."
		},
	}}})
	l := (&lab{}).start(t, behind{v, func(r *http.Request) *http.Request {
		return r.WithContext(context.WithValue(r.Context(), key{}, "a client"))
	}})
	if _, response := l.try(t, "/via/good"); response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("answered %s", response.Status)
	}
	if len(from) != 2 || !strings.HasPrefix(from[0], "127.0.0.1:") || from[1] != "a client" {
		t.Errorf("the echo server counts connections from %v", from)
	}
	if _, response := l.try(t, "/via/other"); response.StatusCode != http.StatusNotFound {
		t.Errorf("another proxy answered %s", response.Status)
	}
}

func TestViaTellsItsClientsWhenItIsShutDown(t *testing.T) {
	t.Parallel()
	l, v := startVia(t, course.ViaConfig{})
	conn := l.dial(t, "/via/good")
	ended := make(chan error)
	go func() { ended <- v.Shutdown(t.Context()) }()
	if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, 1012) {
		t.Errorf("ended with %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, response := l.try(t, "/via/good"); response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("then answered %s", response.Status)
	}
}
