package labs

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// doorway plays with every socket as the test says.
type doorway struct {
	door    *Door
	options Options
	play    func(*Socket) error
}

func (d *doorway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.door.Serve(w, r, d.options, d.play)
}

func startDoor(t *testing.T, cfg DoorConfig, o Options, play func(*Socket) error) *lab {
	t.Helper()
	l := &lab{}
	cfg.Refused = l.refuse
	d := &doorway{NewDoor(cfg), o, play}
	l.Server = newServer(t, d)
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		if err := d.door.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return l
}

// dialGorilla is a client of the library's, for what needs no wrong frames.
func dialGorilla(t *testing.T, l *lab, subprotocols ...string) *websocket.Conn {
	t.Helper()
	conn, _, err := (&websocket.Dialer{Subprotocols: subprotocols}).Dial("ws"+strings.TrimPrefix(l.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	return conn
}

func closeOf(t *testing.T, conn *websocket.Conn) (int, string) {
	t.Helper()
	_, _, err := conn.ReadMessage()
	var closed *websocket.CloseError
	if !errors.As(err, &closed) {
		return 0, err.Error()
	}
	return closed.Code, closed.Text
}

func TestDoorEndsASocketAsPlayAsksFor(t *testing.T) {
	tests := map[string]struct {
		play   func(*Socket) error
		code   int
		reason string
	}{
		"it returns":          {func(*Socket) error { return nil }, 1000, ""},
		"it closes and waits": {func(s *Socket) error { _ = s.Close(1001, "bye"); return PlayEcho(s) }, 1001, "bye"},
		"it closes, returns":  {func(s *Socket) error { return s.Close(1013, "later") }, 1013, "later"},
		"an empty close":      {func(s *Socket) error { return s.Close(0, "") }, 1005, ""},
		"a reason too long":   {func(s *Socket) error { return s.Close(4000, strings.Repeat("あ", 50)) }, 4000, strings.Repeat("あ", 41)},
		"a foul": {func(*Socket) error {
			return &Foul{wire.Problem{Text: "no more", Code: 1008}}
		}, 1008, "no more"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			code, reason := closeOf(t, dialGorilla(t, startDoor(t, DoorConfig{}, Options{}, test.play)))
			if code != test.code || reason != test.reason {
				t.Errorf("closed %d %q, want %d %q", code, reason, test.code, test.reason)
			}
		})
	}
}

func TestDoorCutsTCP(t *testing.T) {
	transcript := wire.NewTranscript(wire.Bounds{})
	d := &doorway{NewDoor(DoorConfig{}), Options{}, func(s *Socket) error { return s.Cut() }}
	l := &lab{Server: newServer(t, transcript.Tap(d))}
	if code, reason := closeOf(t, dialGorilla(t, l)); code != 0 || !strings.Contains(reason, "reset") {
		t.Errorf("ended with %d %s, want a reset", code, reason)
	}
	if err := d.door.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	events := make([]wire.Event, 10)
	n, _ := transcript.After(0, events)
	if end := events[n-1].End; end == nil || end.By != wire.Server || end.How != wire.RST {
		t.Errorf("the transcript ends with %+v", events[n-1])
	}
}

func TestDoorRequiresASubprotocol(t *testing.T) {
	l := startDoor(t, DoorConfig{}, Options{Subprotocols: []string{"v1", "v2"}, RequireSubprotocol: true}, PlayEcho)
	_, response, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(l.URL, "http"), nil)
	if err == nil || response.StatusCode != http.StatusBadRequest {
		t.Errorf("without one: %v, %v", response, err)
	}
	if codes := l.refusals(t); codes != "SUBPROTOCOL_UNKNOWN" {
		t.Errorf("counted %s", codes)
	}
	if got := dialGorilla(t, l, "v3", "v2", "v1").Subprotocol(); got != "v2" {
		t.Errorf("chose %q, want the client's first", got)
	}
}

func TestDoorLimitsTheRateOfMessages(t *testing.T) {
	left := 2
	l := startDoor(t, DoorConfig{Allow: func() string {
		if left--; left < 0 {
			return "lab-rate is 2 messages"
		}
		return ""
	}}, Options{}, PlayEcho)
	conn := dialGorilla(t, l)
	for range 3 {
		if err := conn.WriteMessage(websocket.TextMessage, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, _, err := conn.ReadMessage(); err != nil {
			t.Fatal(err)
		}
	}
	if code, reason := closeOf(t, conn); code != 1008 || reason != "lab-rate is 2 messages" {
		t.Errorf("closed %d %q", code, reason)
	}
	if codes := l.refusals(t); codes != "1008" {
		t.Errorf("counted %s", codes)
	}
}

func TestDoorShowsPings(t *testing.T) {
	got := make(chan string, 2)
	l := startDoor(t, DoorConfig{}, Options{
		PingEvery: -1, NoPong: true,
		OnPing: func(b []byte) { got <- "ping " + string(b) }, OnPong: func(b []byte) { got <- "pong " + string(b) },
	}, PlayEcho)
	conn := dialGorilla(t, l)
	conn.SetPongHandler(func(payload string) error { t.Errorf("a pong: %q", payload); return nil })
	for _, kind := range []int{websocket.PingMessage, websocket.PongMessage} {
		if err := conn.WriteControl(kind, []byte("a"), time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.WriteMessage(websocket.TextMessage, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := conn.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	if a, b := <-got, <-got; a != "ping a" || b != "pong a" {
		t.Errorf("told %q, %q", a, b)
	}
}

func TestDoorSendsFragmentsAndRawBytes(t *testing.T) {
	l := startDoor(t, DoorConfig{}, Options{}, func(s *Socket) error {
		if err := s.WriteFragments(websocket.TextMessage, []byte("a"), nil, []byte("b")); err != nil {
			return err
		}
		return s.WriteRaw([]byte{0x83, 0}) // a reserved opcode
	})
	conn := dialGorilla(t, l)
	if _, message, err := conn.ReadMessage(); err != nil || string(message) != "ab" {
		t.Fatalf("%q, %v", message, err)
	}
	if _, _, err := conn.ReadMessage(); err == nil || !strings.Contains(err.Error(), "bad opcode 3") {
		t.Errorf("the wrong frame gave %v", err)
	}
}

func TestDoorEndsTheContextOfItsSockets(t *testing.T) {
	waiting, ended := make(chan struct{}), make(chan struct{})
	l := startDoor(t, DoorConfig{}, Options{}, func(s *Socket) error {
		close(waiting)
		go func() { <-s.Context().Done(); close(ended) }()
		return PlayEcho(s)
	})
	conn := dialGorilla(t, l)
	<-waiting
	conn.Close()
	<-ended
}
