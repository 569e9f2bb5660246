package course

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/labs"
)

// FloodConfig is what a Flood needs. Its WriteDeadline is [3 s] here.
type FloodConfig struct {
	labs.DoorConfig
	Every    time.Duration // between two messages [20 ms]
	Bytes    int           // of a message [16 KiB]
	Queue    int           // messages that wait for the client to read [64]
	Messages int           // of one socket, then it is closed with 1000 [1,500]
}

// Flood sends numbered messages whether the client reads or not. What it does
// not read waits in a queue; when that is full, new messages are dropped; and
// when the connection takes nothing for the time of WriteDeadline, the client is
// disconnected. A plain GET tells how it went for the last one that left, as
// Report in JSON.
type Flood struct {
	cfg  FloodConfig
	door *labs.Door

	mu   sync.Mutex
	last Report
}

// Report is what became of the messages of one socket. Sent, Queued and Dropped
// add up to Made.
type Report struct {
	Made    int `json:"made"`
	Sent    int `json:"sent"`    // taken by the connection
	Queued  int `json:"queued"`  // waited when the socket ended, with the one that was not taken
	Dropped int `json:"dropped"` // found the queue full
	// Slow says that the server disconnected the client for not reading.
	Slow bool `json:"slow"`
}

// NewFlood makes a Flood.
func NewFlood(cfg FloodConfig) *Flood {
	cfg.WriteDeadline = cmp.Or(cfg.WriteDeadline, 3*time.Second)
	cfg.Every = cmp.Or(cfg.Every, 20*time.Millisecond)
	cfg.Bytes = cmp.Or(cfg.Bytes, 16<<10)
	cfg.Queue = cmp.Or(cfg.Queue, 64)
	cfg.Messages = cmp.Or(cfg.Messages, 1500)
	return &Flood{cfg: cfg, door: labs.NewDoor(cfg.DoorConfig)}
}

// Shutdown ends its sockets as labs.Door does.
func (f *Flood) Shutdown(ctx context.Context) error { return f.door.Shutdown(ctx) }

// Last reports on the socket that ended last.
func (f *Flood) Last() Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// ServeHTTP implements http.Handler.
func (f *Flood) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && r.Header.Get("Upgrade") == "" {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(f.Last())
		return
	}
	f.door.Serve(w, r, labs.Options{}, f.play)
}

func (f *Flood) play(s *labs.Socket) error {
	p := &pouring{cfg: f.cfg, socket: s, queue: make(chan int, f.cfg.Queue)}
	var both sync.WaitGroup
	both.Go(p.make)
	both.Go(p.send)
	var err error
	for err == nil {
		_, _, err = s.Read()
	}
	both.Wait()
	report := Report{Made: p.made, Sent: p.sent, Dropped: int(p.dropped.Load()), Slow: late(p.err)}
	report.Queued = report.Made - report.Sent - report.Dropped
	f.mu.Lock()
	f.last = report
	f.mu.Unlock()
	return cmp.Or(p.err, err)
}

func late(err error) bool {
	timeout := net.Error(nil)
	return errors.As(err, &timeout) && timeout.Timeout()
}

// pouring is what is done for one socket: one goroutine makes messages, another
// sends them.
type pouring struct {
	cfg     FloodConfig
	socket  *labs.Socket
	queue   chan int // numbers of messages
	dropped atomic.Int64

	made int   // of make
	sent int   // of send
	err  error // of send
}

func (p *pouring) make() {
	defer close(p.queue)
	ticker := time.NewTicker(p.cfg.Every)
	defer ticker.Stop()
	for p.made < p.cfg.Messages {
		select {
		case <-ticker.C:
		case <-p.socket.Context().Done():
			return
		}
		p.made++
		select {
		case p.queue <- p.made:
		default:
			p.dropped.Add(1)
		}
	}
}

func (p *pouring) send() {
	filler := bytes.Repeat([]byte{'.'}, p.cfg.Bytes)
	for n := range p.queue {
		if p.socket.Context().Err() != nil {
			return // the rest was queued in vain
		}
		message := fmt.Appendf(nil, `{"n":%d,"queued":%d,"dropped":%d,"filler":"`, n, len(p.queue), p.dropped.Load())
		message = append(message, filler[:max(0, p.cfg.Bytes-len(message)-len(`"}`))]...)
		message = append(message, `"}`...)
		if p.err = p.socket.Write(websocket.TextMessage, message); p.err != nil {
			_ = p.socket.Cut() // which ends Read
			return
		}
		p.sent++
	}
	_ = p.socket.Close(websocket.CloseNormalClosure, "")
}
