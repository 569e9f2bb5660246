package course

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/labs"
)

// CompareConfig is what a Compare needs.
type CompareConfig struct {
	labs.DoorConfig
	LongPoll time.Duration // how long a long poll waits for an event [25 s]
}

// Compare gives the same feed of numbered events away in four ways, and counts
// what each costs:
//
//	GET …/poll?after=n  answers at once, with the events behind n, in JSON
//	GET …/long?after=n  waits for one, for at most 25 seconds
//	GET …/events        server-sent events; Last-Event-ID or ?after= resumes
//	WebSocket           on any other path, a text message for each event; ?after= resumes
//
// The feed is a function of the time: event n is due n times ?every= (200ms to
// 10s, 1s if it is not said) after the Compare was made, so nothing runs and
// nothing is kept while nobody looks. The last 100 events can be asked for again.
// Without after a poll gets the last event, and the others what comes.
type Compare struct {
	cfg   CompareConfig
	door  *labs.Door
	gate  *gate
	start time.Time

	mu       sync.Mutex
	counters Counters
}

// Counters are what each way has cost so far.
type Counters struct{ Poll, LongPoll, SSE, WebSocket Count }

// Count is what one way has cost so far. Bytes are those of HTTP/1.1 and
// WebSocket in both directions: request lines, headers, chunk sizes, frames,
// without TCP, IP and TLS. Those of a socket are counted on the connection; the
// head of a request is as long as its parsed lines, with one space behind each
// colon; that of an answer and the chunks are as net/http writes them. Requests
// that were refused do not count.
type Count struct {
	Requests, Events  uint64
	BytesIn, BytesOut uint64 // from and to the client
}

// BytesPerEvent is what an event has cost, both directions taken together; 0
// before the first.
func (c Count) BytesPerEvent() float64 {
	if c.Events == 0 {
		return 0
	}
	return float64(c.BytesIn+c.BytesOut) / float64(c.Events)
}

// NewCompare makes a Compare, whose feed begins now.
func NewCompare(cfg CompareConfig) *Compare {
	if cfg.LongPoll == 0 {
		cfg.LongPoll = 25 * time.Second
	}
	return &Compare{cfg: cfg, door: labs.NewDoor(cfg.DoorConfig), gate: newGate(), start: time.Now()}
}

// Counters returns what each way has cost so far.
func (c *Compare) Counters() Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counters
}

// Shutdown ends the sockets as labs.Door does, the event streams, and the polls
// that wait, which are answered without events. Of an event stream whose client
// does not read it knows only at its write deadline.
func (c *Compare) Shutdown(ctx context.Context) error {
	c.gate.close()
	return errors.Join(c.door.Shutdown(ctx), c.gate.wait(ctx))
}

// count adds to the counters of one way.
func (c *Compare) count(way *Count, add Count) {
	c.mu.Lock()
	defer c.mu.Unlock()
	way.Requests += add.Requests
	way.Events += add.Events
	way.BytesIn += add.BytesIn
	way.BytesOut += add.BytesOut
}

// The bounds of ?every=, and how many events can be asked for again.
const (
	minEvery, maxEvery = 200 * time.Millisecond, 10 * time.Second
	keptEvents         = 100
)

// feed is the feed as one client asked for it.
type feed struct {
	start time.Time
	every time.Duration
	after uint64 // the client has all events up to this one
	asked bool   // it said so
}

func (c *Compare) feed(r *http.Request) (feed, string) {
	f := feed{start: c.start, every: time.Second}
	var err error
	query := r.URL.Query()
	if s := query.Get("every"); s != "" {
		if f.every, err = time.ParseDuration(s); err != nil || f.every < minEvery || f.every > maxEvery {
			return f, fmt.Sprintf("every=%s is not accepted: it is a time such as 500ms, from %v to %v.", s, minEvery, maxEvery)
		}
	}
	after := query.Get("after")
	if id := r.Header.Get("Last-Event-ID"); id != "" && path.Base(r.URL.Path) == "events" {
		after = id // an EventSource that comes back; its URL is still the first one
	}
	if f.asked = after != ""; f.asked {
		if f.after, err = strconv.ParseUint(after, 10, 64); err != nil {
			return f, fmt.Sprintf("after=%s is not accepted: it is the number of an event.", after)
		}
	}
	if last := f.last(); !f.asked || f.after > last { // ahead: of a feed that is no more
		f.after = last
	}
	return f, ""
}

// last is the number of the last event; 0: there was none yet.
func (f *feed) last() uint64 { return uint64(time.Since(f.start) / f.every) }

// next takes the events that have become due.
func (f *feed) next() []event {
	last := f.last()
	if f.after >= last {
		return nil
	}
	first := f.after + 1
	if last > keptEvents {
		first = max(first, last-keptEvents+1)
	}
	f.after = last
	events := make([]event, 0, last-first+1)
	for n := first; n <= last; n++ {
		events = append(events, event{N: n, Celsius: float64(180+n*7%80) / 10})
	}
	return events
}

// wait waits for the event that the client lacks; false: one of the channels
// was closed before.
func (f *feed) wait(gone, shut <-chan struct{}) bool {
	timer := time.NewTimer(time.Until(f.start.Add(time.Duration(f.after+1) * f.every)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-gone:
		return false
	case <-shut:
		return false
	}
}

// event is one event of the feed: a thermometer.
type event struct {
	N       uint64  `json:"n"`
	Celsius float64 `json:"celsius"`
}

func (e event) json() []byte {
	b, _ := json.Marshal(e) // of two numbers
	return b
}

// ServeHTTP implements http.Handler.
func (c *Compare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	plain := map[string]func(http.ResponseWriter, *http.Request, feed){"poll": c.poll, "long": c.long, "events": c.events}[path.Base(r.URL.Path)]
	if plain != nil && r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		refuse(w, c.cfg.Refused, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "The feed is read by GET.")
		return
	}
	f, problem := c.feed(r)
	if problem != "" {
		refuse(w, c.cfg.Refused, http.StatusBadRequest, "ARGUMENT_OUT_OF_RANGE", problem)
		return
	}
	if plain == nil {
		c.socket(w, r, f)
		return
	}
	leave, ok := c.gate.enter(w, c.cfg.Refused)
	if !ok {
		return
	}
	defer leave()
	plain(w, r, f)
}

func (c *Compare) poll(w http.ResponseWriter, r *http.Request, f feed) {
	if !f.asked && f.after > 0 {
		f.after--
	}
	c.answer(&c.counters.Poll, w, r, f.next())
}

func (c *Compare) long(w http.ResponseWriter, r *http.Request, f feed) {
	release, ok := c.admit(w, r)
	if !ok {
		return
	}
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), c.cfg.LongPoll)
	defer cancel()
	f.wait(ctx.Done(), c.gate.shut)
	if r.Context().Err() == nil {
		c.answer(&c.counters.LongPoll, w, r, f.next())
	}
}

// admit takes a place for a request that stays.
func (c *Compare) admit(w http.ResponseWriter, r *http.Request) (release func(), ok bool) {
	if c.cfg.Admit == nil {
		return func() {}, true
	}
	release, full := c.cfg.Admit(r)
	if full != "" {
		w.Header().Set("Retry-After", "5")
		refuse(w, c.cfg.Refused, http.StatusServiceUnavailable, "TOO_MANY_CONNECTIONS", full)
		return nil, false
	}
	return release, true
}

// answer answers a poll.
func (c *Compare) answer(way *Count, w http.ResponseWriter, r *http.Request, events []event) {
	if events == nil {
		events = []event{} // not null
	}
	body, _ := json.Marshal(struct { // of numbers
		Events []event `json:"events"`
	}{events})
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	head := writeHead(w, r)
	c.count(way, Count{Requests: 1, Events: uint64(len(events)), BytesIn: requestBytes(r), BytesOut: head + uint64(len(body))})
	_, _ = w.Write(body)
}

func (c *Compare) events(w http.ResponseWriter, r *http.Request, f feed) {
	release, ok := c.admit(w, r)
	if !ok {
		return
	}
	defer release()
	way := &c.counters.SSE
	w.Header().Set("Content-Type", "text/event-stream")
	head := writeHead(w, r) + chunkedHeader
	c.count(way, Count{Requests: 1, BytesIn: requestBytes(r), BytesOut: head})
	flow := http.NewResponseController(w)
	if flow.Flush() != nil {
		return
	}
	deadline := c.cfg.WriteDeadline
	if deadline == 0 {
		deadline = 10 * time.Second
	}
	for f.wait(r.Context().Done(), c.gate.shut) {
		for _, e := range f.next() {
			b := fmt.Appendf(nil, "id: %d\ndata: %s\n\n", e.N, e.json())
			c.count(way, Count{Events: 1, BytesOut: chunkBytes(len(b))})
			_ = flow.SetWriteDeadline(time.Now().Add(deadline)) // not every ResponseWriter can
			if _, err := w.Write(b); err != nil {
				return
			}
			if flow.Flush() != nil {
				return
			}
		}
	}
	if r.Context().Err() == nil { // the server shuts down: net/http ends the answer
		_ = flow.SetWriteDeadline(time.Now().Add(deadline))
		c.count(way, Count{BytesOut: lastChunk})
	}
}

func (c *Compare) socket(w http.ResponseWriter, r *http.Request, f feed) {
	way := &c.counters.WebSocket
	counted := func(conn net.Conn) net.Conn {
		c.count(way, Count{Requests: 1, BytesIn: requestBytes(r)})
		return &countedConn{passing{conn}, func(in, out int) {
			c.count(way, Count{BytesIn: uint64(in), BytesOut: uint64(out)})
		}}
	}
	c.door.Serve(w, r, labs.Options{Wrap: counted}, func(s *labs.Socket) error {
		sending := make(chan error, 1)
		go func() { sending <- c.send(s, f) }()
		for {
			if _, _, err := s.Read(); err != nil {
				if failed := <-sending; failed != nil {
					return failed
				}
				return err
			}
		}
	})
}

// send sends events until the socket ends.
func (c *Compare) send(s *labs.Socket, f feed) error {
	for f.wait(s.Context().Done(), nil) {
		for _, e := range f.next() {
			c.count(&c.counters.WebSocket, Count{Events: 1})
			if err := s.Write(websocket.TextMessage, e.json()); err != nil {
				_ = s.Cut() // which ends Read
				return err
			}
		}
	}
	return nil
}

// countedConn counts what goes through it.
type countedConn struct {
	passing
	count func(in, out int)
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.count(n, 0)
	return n, err
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.count(0, n)
	return n, err
}

// What net/http writes of its own around an answer in chunks.
const (
	chunkedHeader = uint64(len("Transfer-Encoding: chunked\r\n"))
	lastChunk     = uint64(len("0\r\n\r\n"))
)

func chunkBytes(n int) uint64 {
	return uint64(len(strconv.FormatInt(int64(n), 16)) + n + len("\r\n\r\n"))
}

// requestBytes is the size of a request's head.
func requestBytes(r *http.Request) uint64 {
	lines := len(r.Method+" "+r.RequestURI+" "+r.Proto+"\r\n") + len("Host: "+r.Host+"\r\n")
	return uint64(lines) + headerBytes(r.Header)
}

// writeHead writes the head of an answer with status 200, and returns its size.
// It says what net/http would add.
func writeHead(w http.ResponseWriter, r *http.Request) uint64 {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	if r.Close {
		h.Set("Connection", "close")
	}
	w.WriteHeader(http.StatusOK)
	return uint64(len("HTTP/1.1 200 OK\r\n")) + headerBytes(h)
}

// headerBytes is the size of headers and the empty line behind them.
func headerBytes(h http.Header) uint64 {
	n := len("\r\n")
	for name, values := range h {
		for _, value := range values {
			n += len(name) + len(": ") + len(value) + len("\r\n")
		}
	}
	return uint64(n)
}
