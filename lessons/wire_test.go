package lessons

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// TestRealConnection: what a tap tells of a real client is graded as the vectors
// are: two steps are ticked, and a message that came too soon is a near miss.
func TestRealConnection(t *testing.T) {
	transcript := wire.NewTranscript(wire.Bounds{})
	server := httptest.NewServer(transcript.Tap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			kind, message, err := conn.ReadMessage()
			if err != nil || conn.WriteMessage(kind, message) != nil {
				return
			}
		}
	})))
	t.Cleanup(server.Close)
	conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http")+"/lab/x/echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	for _, message := range []string{"kumo-42", "still here"} {
		if err := conn.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.ReadMessage(); err != nil {
			t.Fatal(err)
		}
	}
	conn.Close()

	g := NewGrader(embedded(t).Lesson(model), Config{Nonce: "kumo-42"})
	woken := make(chan struct{}, 1)
	defer transcript.Follow(func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})()
	buf := make([]wire.Event, 4)
	timeout := time.After(10 * time.Second)
	for seq, ended := uint64(0), false; !ended; {
		n, _ := transcript.After(seq, buf)
		for _, e := range buf[:n] {
			g.Feed(Event{Event: e})
			seq, ended = e.Seq, e.End != nil
		}
		if n == 0 {
			select {
			case <-woken:
			case <-timeout:
				t.Fatal("the connection does not end")
			}
		}
	}
	verdicts := g.Verdicts()
	for i, want := range []Place{{Seq: 2, Conn: 1}, {Seq: 4, Conn: 1, Frame: 1}} {
		if tick := verdicts[i].Tick; tick == nil || tick.Events[0] != want {
			t.Errorf("%s is %s, want it ticked by %+v", verdicts[i].Step, told(verdicts[i]), want)
		}
	}
	if m := verdicts[2].Miss; m == nil || m.Frame != 3 || !strings.HasSuffix(m.Sentence.EN, "after frame 1. Wanted: at least 1 s after it.") {
		t.Errorf("S3 is %s", told(verdicts[2]))
	}
}
