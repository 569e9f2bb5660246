package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/labs"
)

// Config is what a Server needs. Pings measure, so that PingEvery is 5 s where
// it is zero.
type Config struct {
	labs.DoorConfig
}

// Server is one to put load on. It holds connections and reports what comes.
//
// The query of the URL sets up the connection. What it does not know it ignores.
//
//	mode  echo: messages are sent back [the default]
//	      silent: they are counted
//	      broadcast: besides, the server sends messages that count from 0
//	rate  of a broadcast, 0.1/s to 100/s [10/s]
//	size  of its messages, 63 to 65536 bytes [128]; a broadcast sends at most
//	      1 MiB a second over a connection
//	ping  time between two pings, 200ms to 60s; the answer is due within it
//
// Message n of a broadcast is due n/rate after the Server was made, for all
// connections alike, and begins with a stamp that says so. It is sent to a
// client as soon as that has room for it: who reads slowly gets it late, and who
// does not read at all for the write deadline is dropped.
type Server struct {
	door      *labs.Door
	pingEvery time.Duration
	pong      time.Duration
	clock     clock
	since     time.Time

	in, out         meter
	roundTrip, ages histogram

	mu         sync.Mutex
	open, peak int
	opened     int64
	closed     int64
	codes      map[int]int64
	usedBefore Process // of the last report but for those within a second
	usedAt     time.Time
	cpus       *float64
}

// New makes a Server. It starts nothing until somebody comes.
func New(cfg Config) *Server {
	s := &Server{
		door: labs.NewDoor(cfg.DoorConfig), clock: newClock(), since: time.Now(), codes: make(map[int]int64),
		pingEvery: cmp.Or(cfg.PingEvery, 5*time.Second), pong: cmp.Or(cfg.PongWithin, 10*time.Second),
	}
	s.roundTrip.coarse, s.ages.coarse = true, true // there may be hundreds of servers
	s.usedBefore, s.usedAt = ownProcess(), s.since
	return s
}

// Shutdown tells clients to leave, with 1012, and waits for them; when ctx ends
// it drops the rest and returns an error.
func (s *Server) Shutdown(ctx context.Context) error { return s.door.Shutdown(ctx) }

// serverOptions are those of one connection.
type serverOptions struct {
	mode       string
	rate       PerSecond
	size       int
	ping, pong time.Duration
}

// broadcastBytes is what a broadcast may send over a connection in a second.
const broadcastBytes = 1 << 20

func (s *Server) options(query url.Values) (o serverOptions, wrong string) {
	o = serverOptions{cmp.Or(query.Get("mode"), "echo"), 10, 128, s.pingEvery, s.pong}
	if o.mode != "echo" && o.mode != "silent" && o.mode != "broadcast" {
		return o, fmt.Sprintf("mode=%s is not accepted: it is echo, silent or broadcast.", o.mode)
	}
	if text := query.Get("rate"); text != "" {
		if err := o.rate.UnmarshalText([]byte(text)); err != nil || o.rate < 0.1 || o.rate > 100 {
			return o, fmt.Sprintf("rate=%s is not accepted: it is 0.1/s to 100/s.", text)
		}
	}
	if text := query.Get("size"); text != "" {
		var err error
		if o.size, err = strconv.Atoi(text); err != nil || o.size < stampBytes || o.size > 64<<10 {
			return o, fmt.Sprintf("size=%s is not accepted: it is a number of bytes, from %d to %d.", text, stampBytes, 64<<10)
		}
	}
	if bytes := float64(o.rate) * float64(o.size); bytes > broadcastBytes {
		return o, fmt.Sprintf("rate and size are not accepted: they make %.0f bytes a second, and at most %d are sent.", bytes, broadcastBytes)
	}
	if text := query.Get("ping"); text != "" {
		var err error
		if o.ping, err = time.ParseDuration(text); err != nil || o.ping < 200*time.Millisecond || o.ping > time.Minute {
			return o, fmt.Sprintf("ping=%s is not accepted: it is a time such as 5s, from 200ms to 1m.", text)
		}
		o.pong = min(o.pong, o.ping)
	}
	return o, ""
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o, wrong := s.options(r.URL.Query())
	if wrong != "" {
		s.door.Refuse(w, r, http.StatusBadRequest, "ARGUMENT_OUT_OF_RANGE", wrong)
		return
	}
	s.door.Serve(w, r, labs.Options{
		PingEvery: o.ping, PongWithin: o.pong,
		PingPayload: func() []byte { return strconv.AppendInt(nil, s.clock.now(), 10) },
		OnPong: func(payload []byte) {
			if sent, err := strconv.ParseInt(string(payload), 10, 64); err == nil && sent >= s.clock.wall && sent <= s.clock.now() {
				s.roundTrip.record(time.Duration(s.clock.now() - sent))
			}
		},
	}, func(socket *labs.Socket) error { return s.play(socket, o) })
}

// play counts a connection and what comes over it.
func (s *Server) play(socket *labs.Socket, o serverOptions) error {
	s.enter()
	var sending sync.WaitGroup
	if o.mode == "broadcast" {
		sending.Go(func() { s.broadcast(socket, o) })
	}
	err := s.take(socket, o.mode == "echo")
	sending.Wait()
	s.leave(err)
	return err
}

// take takes messages until the client leaves.
func (s *Server) take(socket *labs.Socket, echo bool) error {
	for {
		kind, message, err := socket.Read()
		if err != nil {
			return err
		}
		now := s.clock.now()
		s.in.count(now, len(message))
		if sent, ok := sentAt(message); ok {
			s.ages.record(time.Duration(now - sent))
		}
		if !echo {
			continue
		}
		if err := socket.Write(kind, message); err != nil {
			return err
		}
		s.out.count(s.clock.now(), len(message))
	}
}

// sentAt is when a message says that it was sent.
func sentAt(message []byte) (int64, bool) {
	if st, ok := findStamp(message); ok {
		return st.sent, true
	}
	return findSentAt(message)
}

// broadcast sends messages until the socket ends.
func (s *Server) broadcast(socket *labs.Socket, o serverOptions) {
	step := 1e9 / float64(o.rate)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var message []byte
	for n := int64(float64(s.clock.now()-s.clock.wall)/step) + 1; ; n++ {
		due := s.clock.wall + int64(float64(n)*step)
		timer.Reset(time.Duration(due - s.clock.now()))
		select {
		case <-timer.C:
		case <-socket.Context().Done():
			return
		}
		message = stamp{seq: int(n), due: due, sent: s.clock.now()}.append(message[:0], o.size)
		if socket.Write(websocket.TextMessage, message) != nil {
			_ = socket.Cut() // so that the reader finds out, too
			return
		}
		s.out.count(s.clock.now(), len(message))
	}
}

func (s *Server) enter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	s.opened++
	s.peak = max(s.peak, s.open)
}

func (s *Server) leave(err error) {
	code := websocket.CloseAbnormalClosure
	var closed *websocket.CloseError
	var foul *labs.Foul
	switch {
	case errors.As(err, &closed):
		code = closed.Code
	case errors.As(err, &foul):
		code = foul.Code
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	s.closed++
	s.codes[code]++
}

// Report is what a Server has counted since it was made.
type Report struct {
	Since  time.Time `json:"since"`
	Open   int       `json:"open"`
	Peak   int       `json:"peak"` // most that were open at a time
	Opened int64     `json:"opened"`
	Closed int64     `json:"closed"`
	// CloseCodes are those of the clients' Close frames, or the server's own where
	// the client broke a rule; 1005: a Close frame without a code, 1006: none came.
	CloseCodes map[int]int64 `json:"closeCodes"`
	In         Traffic       `json:"in"`
	Out        Traffic       `json:"out"`
	// RoundTrip is the time from a ping of the server's to its pong.
	RoundTrip *Latency `json:"roundTrip"`
	// Age is how old messages were when they came, of those that say when they
	// were sent: by the client's clock, which has to agree with the server's.
	Age     *Latency `json:"age"`
	CPUs    *float64 `json:"cpus"` // processors' time a second, since the report before
	Process Process  `json:"process"`
}

// Traffic is what went one way. Rates are those of the last full second.
type Traffic struct {
	Messages          int64 `json:"messages"`
	Bytes             int64 `json:"bytes"` // of payloads
	MessagesPerSecond int64 `json:"messagesPerSecond"`
	BytesPerSecond    int64 `json:"bytesPerSecond"`
}

// Report says what has been counted until now.
func (s *Server) Report() Report {
	now, process := time.Now(), ownProcess()
	s.mu.Lock()
	defer s.mu.Unlock()
	if seconds := now.Sub(s.usedAt).Seconds(); seconds >= 1 && process.CPUSeconds != nil && s.usedBefore.CPUSeconds != nil {
		cpus := (*process.CPUSeconds - *s.usedBefore.CPUSeconds) / seconds
		s.cpus, s.usedBefore, s.usedAt = &cpus, process, now
	}
	at := s.clock.now()
	return Report{
		Since: s.since, Open: s.open, Peak: s.peak, Opened: s.opened, Closed: s.closed, CloseCodes: maps.Clone(s.codes),
		In: s.in.traffic(at), Out: s.out.traffic(at), RoundTrip: s.roundTrip.latency(false), Age: s.ages.latency(false),
		CPUs: s.cpus, Process: process,
	}
}

// meter counts messages in all and by the second.
type meter struct {
	mu              sync.Mutex
	messages, bytes int64
	second          int64 // which the current ones belong to
	current, last   [2]int64
}

func (m *meter) count(now int64, size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(now)
	m.messages++
	m.bytes += int64(size)
	m.current[0]++
	m.current[1] += int64(size)
}

// turn begins the second that now belongs to.
func (m *meter) turn(now int64) {
	switch second := now / 1e9; {
	case second == m.second+1:
		m.last, m.current, m.second = m.current, [2]int64{}, second
	case second > m.second:
		m.last, m.current, m.second = [2]int64{}, [2]int64{}, second
	}
}

func (m *meter) traffic(now int64) Traffic {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(now)
	return Traffic{m.messages, m.bytes, m.last[0], m.last[1]}
}
