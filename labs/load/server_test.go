package load

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func dial(t *testing.T, url string) *websocket.Conn {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.DialContext(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.Close() })
	_ = ws.SetReadDeadline(time.Now().Add(20 * time.Second))
	return ws
}

// await polls until a report is as it should be.
func await(t *testing.T, s *Server, what string, as func(Report) bool) Report {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		r := s.Report()
		if as(r) {
			return r
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v", what, r)
		}
	}
}

func TestReportSaysWhatIsOpenAndHowItEnded(t *testing.T) {
	s, url := start(t, Config{})
	if r := s.Report(); r.Open != 0 || r.RoundTrip != nil || r.Age != nil || r.CPUs != nil || r.Process.MemoryBytes == nil {
		t.Errorf("at first: %+v", r)
	}
	polite, rude, wrong := dial(t, url), dial(t, url), dial(t, url)
	await(t, s, "three are open", func(r Report) bool { return r.Open == 3 && r.Peak == 3 })
	_ = polite.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(4000, "bye"))
	_ = rude.Close()
	_ = wrong.WriteMessage(websocket.TextMessage, []byte{0xff})
	r := await(t, s, "all are gone", func(r Report) bool { return r.Open == 0 })
	if fmt.Sprint(r.CloseCodes) != "map[1006:1 1007:1 4000:1]" || r.Opened != 3 || r.Closed != 3 || r.Peak != 3 {
		t.Errorf("%+v", r)
	}
}

func TestModes(t *testing.T) {
	s, url := start(t, Config{})
	echo := dial(t, url)
	_ = echo.WriteMessage(websocket.BinaryMessage, []byte("abc"))
	if kind, got, err := echo.ReadMessage(); kind != websocket.BinaryMessage || string(got) != "abc" {
		t.Errorf("%d %q %v", kind, got, err)
	}
	silent := dial(t, url+"?mode=silent")
	_ = silent.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"sentAt":%d}`, time.Now().UnixMilli()))
	r := await(t, s, "two came, one left", func(r Report) bool { return r.In.Messages == 2 && r.Age != nil })
	if r.Out.Messages != 1 || r.In.Bytes <= 3 || r.Age.Count != 1 || r.Age.Max > 10*time.Second {
		t.Errorf("%+v", r)
	}
	broadcast := dial(t, url+"?mode=broadcast&rate=100/s&size=99")
	next := 0
	for i := range 5 {
		_, message, err := broadcast.ReadMessage()
		st, ok := findStamp(message)
		if err != nil || !ok || len(message) != 99 || i > 0 && st.seq != next {
			t.Fatalf("%v %q, want number %d", err, message, next)
		}
		next = st.seq + 1
	}
}

func TestPingsMeasureTheRoundTrip(t *testing.T) {
	s, url := start(t, Config{})
	ws := dial(t, url+"?ping=200ms")
	go func() { _, _, _ = ws.ReadMessage() }() // answers pings, until the test closes ws
	r := await(t, s, "a pong", func(r Report) bool { return r.RoundTrip != nil })
	if r.RoundTrip.Max > 10*time.Second {
		t.Errorf("%+v", r.RoundTrip)
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	var refused []string
	cfg := Config{}
	cfg.Refused = func(code string) { refused = append(refused, code) }
	_, url := start(t, cfg)
	for query, want := range map[string]string{
		"mode=loud": "echo, silent or broadcast", "rate=0": "0.1/s to 100/s", "rate=101": "0.1/s to 100/s", "rate=100&size=20000": "at most 1048576",
		"size=62": "63 to 65536", "size=x": "63 to 65536", "ping=1ms": "200ms to 1m",
	} {
		_, response, err := websocket.DefaultDialer.DialContext(t.Context(), url+"?"+query, nil)
		if err == nil || response.StatusCode != http.StatusBadRequest {
			t.Fatalf("%s: %v", query, err)
		}
		body, _ := io.ReadAll(response.Body)
		if !strings.Contains(string(body), want) || !strings.Contains(string(body), "(ARGUMENT_OUT_OF_RANGE)") {
			t.Errorf("%s: %s", query, body)
		}
	}
	response, err := http.Get("http" + strings.TrimPrefix(url, "ws") + "?mode=loud")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); !strings.Contains(string(body), "(HANDSHAKE_INVALID)") {
		t.Errorf("no handshake at all: %s", body)
	}
	if len(refused) != 8 {
		t.Errorf("counted %q", refused)
	}
}

func TestShutdownTellsClientsToLeave(t *testing.T) {
	s, url := start(t, Config{})
	ws := dial(t, url+"?mode=broadcast")
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	for {
		_, _, err := ws.ReadMessage()
		if websocket.IsCloseError(err, websocket.CloseServiceRestart) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if r := s.Report(); r.Open != 0 || r.CloseCodes[1012] != 1 {
		t.Errorf("%+v", r)
	}
}

func TestMeterKnowsTheLastFullSecond(t *testing.T) {
	var m meter
	const second = 1e9
	for i := range 10 {
		m.count(100*second+int64(i), 5)
	}
	m.count(101*second, 7)
	if got := m.traffic(101*second + 1); got != (Traffic{11, 57, 10, 50}) {
		t.Errorf("%+v", got)
	}
	if got := m.traffic(102 * second); got != (Traffic{11, 57, 1, 7}) {
		t.Errorf("%+v", got)
	}
	if got := m.traffic(104 * second); got != (Traffic{11, 57, 0, 0}) {
		t.Errorf("%+v", got)
	}
}
