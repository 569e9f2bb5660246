package course_test

import (
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/labs"
	"github.com/sluice-gateway/sluice/labs/course"
)

func startFlood(t *testing.T, cfg course.FloodConfig) (*lab, *course.Flood) {
	t.Helper()
	l := &lab{}
	cfg.Refused = l.refuse
	f := course.NewFlood(cfg)
	return l.start(t, f), f
}

func TestFloodDisconnectsWhoDoesNotRead(t *testing.T) {
	l, f := startFlood(t, course.FloodConfig{
		DoorConfig: labs.DoorConfig{WriteDeadline: 200 * time.Millisecond},
		Every:      time.Millisecond, Bytes: 64 << 10, Queue: 16,
	})
	conn := l.dial(t, "/flood", func(d *websocket.Dialer) {
		d.NetDial = func(network, addr string) (net.Conn, error) {
			conn, err := net.Dial(network, addr)
			if err == nil {
				err = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
			}
			return conn, err
		}
	})
	next(t, conn) // and no more
	until(t, "it is disconnected", func() bool { return f.Last().Made > 0 })
	r := f.Last()
	if !r.Slow || r.Queued < 16 || r.Queued > 17 || r.Dropped < 1 || r.Sent < 1 || r.Sent+r.Queued+r.Dropped != r.Made {
		t.Errorf("%+v", r)
	}
	until(t, "it is counted", func() bool { return l.refusals() == "WRITE_TIMEOUT" })
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			if websocket.IsCloseError(err, 1000) {
				t.Errorf("it was closed: %v", err)
			}
			break
		}
	}
	var told course.Report
	response := newCounting(t).get(t, l.URL+"/flood")
	if err := json.NewDecoder(response.Body).Decode(&told); err != nil || told != r {
		t.Errorf("a GET tells %+v, %v", told, err)
	}
}

func TestFloodSendsAllToWhoReads(t *testing.T) {
	l, f := startFlood(t, course.FloodConfig{Every: time.Millisecond, Bytes: 1000, Messages: 100})
	conn := l.dial(t, "/flood")
	var last struct{ N, Queued, Dropped int }
	for n := 1; ; n++ {
		_, message, err := conn.ReadMessage()
		if websocket.IsCloseError(err, 1000) && n == 101 {
			break
		}
		if err != nil {
			t.Fatal(n, err)
		}
		if err := json.Unmarshal(message, &last); err != nil || last.N != n || len(message) != 1000 {
			t.Fatalf("message %d of %d bytes is %.60s, %v", n, len(message), message, err)
		}
	}
	until(t, "it is over", func() bool { return f.Last().Made == 100 })
	if r := f.Last(); r != (course.Report{Made: 100, Sent: 100}) || l.refusals() != "" {
		t.Errorf("%+v, %s", r, l.refusals())
	}
}

func TestFloodTellsWhoReadsSlowlyWhatItMissed(t *testing.T) {
	l, f := startFlood(t, course.FloodConfig{Every: time.Millisecond, Bytes: 64 << 10, Queue: 4})
	conn := l.dial(t, "/flood")
	until(t, "messages are dropped", func() bool {
		message := next(t, conn)
		time.Sleep(10 * time.Millisecond) // is slow
		return !strings.Contains(message, `"dropped":0,`)
	})
	conn.Close()
	until(t, "it is over", func() bool { return f.Last().Made > 0 })
	if r := f.Last(); r.Slow || r.Dropped == 0 {
		t.Errorf("%+v", r)
	}
}
