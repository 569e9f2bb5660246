package chaos

import (
	"crypto/rand"
	"sort"
	"sync"
	"time"
)

// Event is one fault that happened. Events are never changed once they are told.
type Event struct {
	Seq   uint64    `json:"seq"` // within the server, from 1, without holes
	Run   uint64    `json:"run"` // counts the times that the draws began anew, from 1
	At    time.Time `json:"at"`
	Fault Name      `json:"fault"`
	// Connection is its number in the run, from 1; 0: all of them.
	Connection uint64 `json:"connection,omitempty"`
	// Direction is that of the message; both: it concerns the connection.
	Direction Towards `json:"direction"`
	// Message is its number in the connection and direction, from 1; of a
	// connection's end that of the last message to the client. 0: it concerns a
	// control frame, or there was no message yet.
	Message uint64      `json:"message,omitempty"`
	What    string      `json:"what"` // was done, in words
	DelayMs int64       `json:"delayMs,omitempty"`
	Byte    *ByteChange `json:"byte,omitempty"` // in corruption
}

// maxEvents is how many events are kept: the oldest leave.
const maxEvents = 10_000

// Events are the faults of a server as they happened, in memory.
type Events struct {
	id string

	mu        sync.Mutex
	events    []Event // by Seq
	counts    map[Name]uint64
	total     uint64
	closed    bool
	followers map[int]func()
	nextID    int
}

func newEvents() *Events {
	return &Events{id: rand.Text(), counts: make(map[Name]uint64), followers: make(map[int]func())}
}

// ID is unlike that of any other Events, in this process or another.
func (e *Events) ID() string { return e.id }

// After copies the events behind seq into buf, oldest first, and says how many.
// If the first has not seq+1, those between have left. open is false once the
// server has shut down and nothing is behind what was copied.
func (e *Events) After(seq uint64, buf []Event) (n int, open bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	first := sort.Search(len(e.events), func(i int) bool { return e.events[i].Seq > seq })
	n = copy(buf, e.events[first:])
	return n, !e.closed || first+n < len(e.events)
}

// Follow calls wake whenever there are new events, and once when the server has
// shut down, until stop is called. wake must not block; it may be called from
// several goroutines at once, and a last time while stop is called.
func (e *Events) Follow(wake func()) (stop func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := e.nextID
	e.nextID++
	e.followers[id] = wake
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.followers, id)
	}
}

// Counts says how often each fault happened, whether the events are kept or not.
func (e *Events) Counts() map[Name]uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	counts := make(map[Name]uint64, len(e.counts))
	for name, n := range e.counts {
		counts[name] = n
	}
	return counts
}

// Last is the number of the newest event; 0: there is none.
func (e *Events) Last() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.total
}

// add appends an event, whose Seq and At it sets, and wakes.
func (e *Events) add(event Event) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.total++
	e.counts[event.Fault]++
	event.Seq, event.At = e.total, time.Now()
	if len(e.events) == maxEvents {
		e.events[0] = Event{}
		e.events = e.events[1:] // append moves the rest to a new array now and then
	}
	e.events = append(e.events, event)
	wake := e.wakers()
	e.mu.Unlock()
	for _, f := range wake {
		f()
	}
}

// close ends the feed: what was told can still be read.
func (e *Events) close() {
	e.mu.Lock()
	already := e.closed
	e.closed = true
	wake := e.wakers()
	e.mu.Unlock()
	if already {
		return
	}
	for _, f := range wake {
		f()
	}
}

// wakers returns the followers' functions, to be called without the lock.
func (e *Events) wakers() []func() {
	list := make([]func(), 0, len(e.followers))
	for _, f := range e.followers {
		list = append(list, f)
	}
	return list
}
