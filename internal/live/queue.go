package live

import (
	"sync"
	"time"
)

// Limit bounds a Queue. Zero fields take the defaults in brackets.
type Limit struct {
	Events int           // [1,024]
	Bytes  int           // as counted by the size given to Push [4 MiB]
	Stall  time.Duration // how long Push, and Done, wait for a reader that takes nothing [1 s]
}

func (l Limit) withDefaults() Limit {
	if l.Events == 0 {
		l.Events = 1024
	}
	if l.Bytes == 0 {
		l.Bytes = 4 << 20
	}
	if l.Stall == 0 {
		l.Stall = time.Second
	}
	return l
}

// Queue is a bounded Sub that a source pushes into.
//
// The consumer, the engine, takes events quickly: it never waits for a client.
// A full queue therefore means a machine that is out of breath, so Push waits,
// which in turn stops the source from reading its broker. Only a consumer that
// takes nothing for Limit.Stall loses events; it is told by a gap and waited
// for again once it has moved.
//
// The queue calls Event.Done of what it drops, and of what waits for a consumer
// that takes nothing for Limit.Stall: nobody's acknowledgement hangs on one
// reader that is stuck. Such an event is still delivered if the reader moves.
type Queue[T any] struct {
	limit   Limit
	onClose func()

	mu      sync.Mutex
	events  []sized[T] // a ring: head is the oldest of count
	head    int
	count   int
	bytes   int
	gap     *Gap          // goes with the next event
	idle    bool          // Next had nothing to say: the next news calls wake
	wake    func()        // nil until Wake
	room    chan struct{} // closed when a waiting Push may try again; nil: none waits
	lagging bool          // the consumer has taken nothing for Limit.Stall
	owed    int           // waiting events whose Done is to be called
	patient *time.Timer   // runs out on a consumer that holds up Done; nil: never needed
	running bool          // patient was started
	moved   bool          // the consumer has taken something since
	ended   bool
	closed  bool
	err     error
}

type sized[T any] struct {
	Event[T]
	size int
}

// NewQueue makes a queue. onClose, if not nil, is called once, by the Close
// that comes first.
func NewQueue[T any](limit Limit, onClose func()) *Queue[T] {
	return &Queue[T]{limit: limit.withDefaults(), onClose: onClose, idle: true}
}

var _ Sub[int] = (*Queue[int])(nil)

// Push appends an event of the given size in bytes, waiting for room up to
// Limit.Stall. It reports whether the event was queued: false means that the
// queue has ended, or was full and counts the event in its next gap. Either way
// the queue sees to it that Done is called. A single event larger than
// Limit.Bytes is taken when the queue is empty.
func (q *Queue[T]) Push(ev Event[T], size int) bool {
	q.mu.Lock()
	if q.full(size) && !q.lagging && !q.done() {
		q.waitForRoom(size)
		q.lagging = q.full(size)
	}
	if done := q.done(); done || q.full(size) {
		if !done {
			q.gap = q.gap.Merge(Gap{Reason: GapOverflow, Missed: 1})
		}
		q.mu.Unlock()
		if ev.Done != nil {
			ev.Done()
		}
		return false
	}
	if ev.Done != nil && q.lagging {
		defer ev.Done()
		ev.Done = nil
	}
	if q.gap != nil {
		gap := q.gap
		if ev.Gap != nil {
			gap = gap.Merge(*ev.Gap)
		}
		ev.Gap, q.gap = gap, nil
	}
	q.append(sized[T]{ev, size})
	if ev.Done != nil {
		q.owed++
		q.bePatient()
	}
	wake := q.takeWake()
	q.mu.Unlock()
	wake()
	return true
}

// bePatient gives the consumer Limit.Stall, or up to twice that, to take
// something.
func (q *Queue[T]) bePatient() {
	switch {
	case q.running:
		return
	case q.patient == nil:
		q.patient = time.AfterFunc(q.limit.Stall, q.outOfPatience)
	default:
		q.patient.Reset(q.limit.Stall)
	}
	q.running, q.moved = true, false
}

func (q *Queue[T]) outOfPatience() {
	q.mu.Lock()
	q.running = false
	var owed []func()
	switch {
	case q.owed == 0:
	case q.moved:
		q.bePatient()
	default:
		q.lagging = true
		owed = q.takeOwed()
	}
	q.mu.Unlock()
	for _, done := range owed {
		done()
	}
}

// takeOwed takes Done from every event that waits; it is for the caller to call
// them, without the lock.
func (q *Queue[T]) takeOwed() []func() {
	if q.owed == 0 {
		return nil
	}
	owed := make([]func(), 0, q.owed)
	for i := range q.count {
		e := &q.events[(q.head+i)%len(q.events)]
		if e.Done != nil {
			owed = append(owed, e.Done)
			e.Done = nil
		}
	}
	q.owed = 0
	return owed
}

// Mark makes the next event carry a gap.
func (q *Queue[T]) Mark(gap Gap) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.gap = q.gap.Merge(gap)
}

// End ends the stream after the events that wait: nil completes it, an error
// says why. Only the first End counts.
func (q *Queue[T]) End(err error) {
	q.mu.Lock()
	if q.done() {
		q.mu.Unlock()
		return
	}
	q.ended, q.err = true, err
	q.releaseRoom()
	wake := q.takeWake()
	q.mu.Unlock()
	wake()
}

// Next implements Sub.
func (q *Queue[T]) Next(buf []Event[T]) (n int, open bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n < len(buf) && q.count > 0 {
		e := &q.events[q.head]
		buf[n] = e.Event
		q.bytes -= e.size
		if e.Done != nil {
			q.owed--
		}
		*e = sized[T]{} // let go of the value
		q.head = (q.head + 1) % len(q.events)
		q.count--
		n++
	}
	if q.count == 0 && len(q.events) > 64 {
		q.events, q.head = nil, 0 // a burst's memory is given back
	}
	if n > 0 {
		q.lagging, q.moved = false, true
		q.releaseRoom()
		return n, true
	}
	q.idle = len(buf) > 0
	return 0, !q.done()
}

// Wake implements Sub.
func (q *Queue[T]) Wake(f func()) {
	q.mu.Lock()
	q.wake = f
	news := q.count > 0 || q.done()
	q.idle = !news
	q.mu.Unlock()
	if news {
		f()
	}
}

// Err implements Sub.
func (q *Queue[T]) Err() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// Close implements Sub.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return
	}
	q.closed = true
	owed := q.takeOwed()
	if q.patient != nil {
		q.patient.Stop()
	}
	q.events, q.head, q.count, q.bytes = nil, 0, 0, 0
	q.releaseRoom()
	q.mu.Unlock()
	for _, done := range owed {
		done()
	}
	if q.onClose != nil {
		q.onClose()
	}
}

func (q *Queue[T]) done() bool { return q.ended || q.closed }

func (q *Queue[T]) full(size int) bool {
	return q.count >= q.limit.Events || q.count > 0 && q.bytes+size > q.limit.Bytes
}

// waitForRoom is called and returns with the lock held.
func (q *Queue[T]) waitForRoom(size int) {
	timer := time.NewTimer(q.limit.Stall)
	defer timer.Stop()
	for q.full(size) && !q.done() {
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
			q.mu.Lock()
		case <-timer.C:
			q.mu.Lock()
			return
		}
	}
}

func (q *Queue[T]) releaseRoom() {
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

// takeWake returns what to call after unlocking.
func (q *Queue[T]) takeWake() func() {
	if !q.idle || q.wake == nil {
		return func() {}
	}
	q.idle = false
	return q.wake
}

func (q *Queue[T]) append(e sized[T]) {
	if q.count == len(q.events) {
		grown := make([]sized[T], max(4, 2*len(q.events)))
		for i := range q.count {
			grown[i] = q.events[(q.head+i)%len(q.events)]
		}
		q.events, q.head = grown, 0
	}
	q.events[(q.head+q.count)%len(q.events)] = e
	q.count++
	q.bytes += e.size
}
