package wire

import (
	"net/http"
	"sort"
	"sync"
	"time"
)

// Event is one thing that happened. Exactly one of its pointers is set. Events
// are never changed once they are told.
type Event struct {
	Seq  uint64    // within the transcript, from 1, without holes
	Conn uint64    // which connection, or plain request, of the transcript: from 1
	At   time.Time // with a monotonic reading, so that differences are true

	Request  *Request
	Response *Response
	Frame    *FrameEvent
	Message  *MessageEvent
	Close    *CloseEvent
	End      *EndEvent
}

// Request is the head of an HTTP request: for a WebSocket, its opening handshake.
type Request struct {
	Method, URI, Proto, Host string
	Header                   http.Header
}

// Response is the head of the answer.
type Response struct {
	Status int
	Header http.Header
}

// FrameEvent is a frame that is complete, or that nothing more will come of.
type FrameEvent struct {
	Direction Direction
	Frame     // its Payload has at most Bounds.Payload bytes, and none once it had to make room
	Received  uint64
	Problems  []Problem
}

// Partial reports whether bytes of the frame are missing.
func (f *FrameEvent) Partial() bool { return f.Received < f.Length }

// MessageEvent is a message, complete or given up: then it has problems.
type MessageEvent struct {
	Direction Direction
	Message   // its Data has at most Bounds.Payload bytes, and none once it had to make room
}

// Side is who did something.
type Side string

// The sides. Nobody: a connection that ended without a Close frame.
const (
	Client Side = "client"
	Server Side = "server"
	Nobody Side = "nobody"
)

// CloseEvent is the closing handshake as far as it went. It is told once it is
// complete, else when the connection ends.
type CloseEvent struct {
	By       Side   // who sent the first Close frame
	Code     int    // of that; NoStatus, Abnormal when By is Nobody
	Reason   string // of that
	Complete bool   // the other side sent one, too
}

// Ending is how a TCP connection came to its end.
type Ending string

// The endings.
const (
	FIN     Ending = "fin"     // closed
	RST     Ending = "rst"     // reset, or closed although something was left to read
	Timeout Ending = "timeout" // given up by the server: nothing came, or nothing was taken
)

// EndEvent is the end of a TCP connection.
type EndEvent struct {
	By  Side // Client or Server
	How Ending
	// Bytes counts what went each way behind the handshake, indexed by Direction.
	Bytes [2]uint64
}

// Bounds are the limits of a Transcript. Zero fields take the defaults in brackets.
type Bounds struct {
	Events int // that are kept [10,000]
	// Bytes of payloads and headers that are kept [1 MiB]. What is under way
	// comes on top: for each connection and direction a frame and a message of
	// Payload bytes, a compressed one twice.
	Bytes   int
	Payload int // bytes of one frame or message that are kept [128 KiB]
}

// Counts is what a Transcript has seen, whether it still has it or not.
// Arrays are indexed by Direction.
type Counts struct {
	Events, Conns uint64
	Open          int // taps that have not ended
	Frames        [2]uint64
	Messages      [2]uint64
	Bytes         [2]uint64 // behind the handshakes
	Problems      uint64
}

// Transcript is what happened on the connections of a tap, in memory only. When
// there is no more room for bytes, the payloads of the oldest frames and messages
// go first, then the headers of the oldest handshakes; frames' headers, sizes and
// sums stay. When there is no more room for events the oldest leave; Counts
// still counts them, and readers see that by the next Seq.
type Transcript struct {
	bounds Bounds
	now    func() time.Time

	mu     sync.Mutex
	events []Event // by Seq
	bytes  int
	// How many of the events, from the oldest, have given up their payloads, and
	// their headers.
	noPayload, noHeader int
	counts              Counts
	closed              bool
	followers           map[int]func()
	nextID              int
}

// NewTranscript makes an empty one.
func NewTranscript(b Bounds) *Transcript {
	if b.Events == 0 {
		b.Events = 10_000
	}
	if b.Bytes == 0 {
		b.Bytes = 1 << 20
	}
	if b.Payload == 0 {
		b.Payload = 128 << 10
	}
	return &Transcript{bounds: b, now: time.Now, followers: make(map[int]func())}
}

// After copies the events behind seq into buf, oldest first, and says how many.
// If the first has not seq+1, those between have left. open is false once the
// transcript is closed and nothing is behind what was copied.
func (t *Transcript) After(seq uint64, buf []Event) (n int, open bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := sort.Search(len(t.events), func(i int) bool { return t.events[i].Seq > seq })
	n = copy(buf, t.events[first:])
	return n, !t.closed || first+n < len(t.events)
}

// Follow calls wake whenever there are new events, and once when the transcript
// is closed, until stop is called. wake must not block; it may be called from
// several goroutines at once, and a last time while stop is called.
func (t *Transcript) Follow(wake func()) (stop func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := t.nextID
	t.nextID++
	t.followers[id] = wake
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.followers, id)
	}
}

// Counts returns what has been seen so far.
func (t *Transcript) Counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts
}

// Close ends the transcript: nothing is recorded any more. What was recorded
// can still be read. The tapped connections go on.
func (t *Transcript) Close() {
	t.mu.Lock()
	already := t.closed
	t.closed = true
	wake := t.wakers()
	t.mu.Unlock()
	if !already {
		callAll(wake)
	}
}

// wakers returns the followers' functions, to be called without the lock.
func (t *Transcript) wakers() []func() {
	list := make([]func(), 0, len(t.followers))
	for _, f := range t.followers {
		list = append(list, f)
	}
	return list
}

func callAll(list []func()) {
	for _, f := range list {
		f()
	}
}

// newConn numbers a connection.
func (t *Transcript) newConn() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Conns++
	t.counts.Open++
	return t.counts.Conns
}

// ended counts a plain request out.
func (t *Transcript) ended() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Open--
}

// add appends events of one connection, whose Seq and At it sets, and wakes.
func (t *Transcript) add(conn uint64, moved [2]uint64, events ...Event) {
	t.mu.Lock()
	for _, e := range events {
		if e.End != nil {
			t.counts.Open--
		}
	}
	if t.closed {
		t.mu.Unlock()
		return
	}
	for d, n := range moved {
		t.counts.Bytes[d] += n
	}
	now := t.now()
	for _, e := range events {
		t.counts.Events++
		e.Seq, e.Conn, e.At = t.counts.Events, conn, now
		switch {
		case e.Frame != nil:
			t.counts.Frames[e.Frame.Direction]++
			t.counts.Problems += uint64(len(e.Frame.Problems))
		case e.Message != nil:
			t.counts.Messages[e.Message.Direction]++
			t.counts.Problems += uint64(len(e.Message.Problems))
		}
		t.events = append(t.events, e)
		t.bytes += e.bytes()
	}
	t.spend(&t.noPayload, Event.withoutPayload)
	t.spend(&t.noHeader, Event.withoutHeader)
	if over := len(t.events) - t.bounds.Events; over > 0 {
		for i := range over {
			t.bytes -= t.events[i].bytes()
		}
		clear(t.events[:over])
		t.events = t.events[over:] // append moves the rest to a new array now and then
		t.noPayload, t.noHeader = max(0, t.noPayload-over), max(0, t.noHeader-over)
	}
	var wake []func()
	if len(events) > 0 {
		wake = t.wakers()
	}
	t.mu.Unlock()
	callAll(wake)
}

// bytes is what an event holds that it could do without.
func (e *Event) bytes() int {
	switch {
	case e.Request != nil:
		return len(e.Request.Method) + len(e.Request.URI) + len(e.Request.Proto) + len(e.Request.Host) + headerBytes(e.Request.Header)
	case e.Response != nil:
		return headerBytes(e.Response.Header)
	case e.Frame != nil:
		return len(e.Frame.Payload)
	case e.Message != nil:
		m := e.Message
		n := len(m.Data)
		if m.GraphQL != nil {
			n += len(m.GraphQL.Type) + len(m.GraphQL.ID) + len(m.GraphQL.Payload)
		}
		for i := range m.MQTT {
			n += m.MQTT[i].bytes()
		}
		return n
	}
	return 0
}

func headerBytes(h http.Header) int {
	n := 0
	for name, values := range h {
		for _, value := range values {
			n += len(name) + len(value)
		}
	}
	return n
}

// spend makes room for bytes, from the oldest event on that has not been spent.
func (t *Transcript) spend(from *int, without func(Event) Event) {
	for ; t.bytes > t.bounds.Bytes && *from < len(t.events); *from++ {
		e := &t.events[*from]
		t.bytes -= e.bytes()
		*e = without(*e)
		t.bytes += e.bytes()
	}
}

func (e Event) withoutPayload() Event {
	switch {
	case e.Frame != nil:
		f := *e.Frame
		f.Payload = nil
		e.Frame = &f
	case e.Message != nil:
		m := *e.Message
		m.Data, m.GraphQL, m.MQTT = nil, nil, nil
		e.Message = &m
	}
	return e
}

func (e Event) withoutHeader() Event {
	switch {
	case e.Request != nil:
		e.Request = &Request{Method: e.Request.Method, Proto: e.Request.Proto}
	case e.Response != nil:
		e.Response = &Response{Status: e.Response.Status}
	}
	return e
}
