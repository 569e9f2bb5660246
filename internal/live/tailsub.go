package live

import "sync"

// tailSub is one subscriber of a Tail.
//
//	starting ─ head known ─> catching up ─ short page ─> joined ─ short page ─> live
//	                              ^                                              │
//	                              └──────────── too much waits ──────────────────┘
//
// The fields of the first block belong to the lock of the Tail, those of the
// second to its own; the Tail's is taken first.
type tailSub[K comparable, T any] struct {
	tail      *Tail[K, T]
	key       K
	resumed   bool          // began at a client's position
	tried     chan struct{} // closed when the head has been looked for
	once      sync.Once     // closes tried
	joined    bool          // is offered new events
	asked     bool          // a request of it is on its way
	held      []Event[T]    // offered while joined, but behind the page that is on its way
	heldBytes int           // of held, unless that is empty

	mu      sync.Mutex
	start   Position // set with started
	started bool
	pos     Position // everything up to here waits or was taken
	near    bool     // the last page was short
	live    bool     // joined, and has every page before
	waiting []Event[T]
	taken   int  // how many of waiting were taken
	bytes   int  // of the others
	gap     *Gap // goes with the next event
	idle    bool // Next had nothing to say: the next news calls wake
	wake    func()
	ended   bool
	closed  bool
	err     error
}

var (
	_ Sub[int] = (*tailSub[string, int])(nil)
	_ Kept     = (*tailSub[string, int])(nil)
)

// request asks for the next page, or first for the head.
func (s *tailSub[K, T]) request() {
	if s.asked || s.ended || s.closed {
		return
	}
	s.asked = true
	s.tail.want(request[K]{s.key, s.pos, !s.started}, s)
}

// begin takes the head: where a subscriber without a position starts.
func (s *tailSub[K, T]) begin(head Position) (wake func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start, s.pos, s.started = head, head, true
	s.once.Do(func() { close(s.tried) })
	s.asked = false
	s.request()
	return s.takeWake()
}

// fail notes that the source is away. Who does not know the head misses what
// comes before it is known.
func (s *tailSub[K, T]) fail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		s.gap = &Gap{Reason: GapOutage}
	}
	s.once.Do(func() { close(s.tried) })
}

// miss takes the news that what it wants is gone.
func (s *tailSub[K, T]) miss(trimmed *Trimmed) (wake func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = false
	if s.closed {
		return func() {}
	}
	if s.resumed {
		s.tail.leave(s)
		s.ended, s.err = true, TooOld(s.tail.cfg.Cursor(s.key, trimmed.Through))
		return s.takeWake()
	}
	s.pos, s.gap = trimmed.Through, s.gap.Merge(Gap{Reason: GapOverflow})
	s.held = nil
	s.request()
	return func() {}
}

// refuse ends a subscriber whose source refuses to be read.
func (s *tailSub[K, T]) refuse(err error) (wake func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tail.leave(s)
	s.ended, s.err = true, err
	s.once.Do(func() { close(s.tried) }) // last: it lets Subscribe look
	return s.takeWake()
}

// TooOld is the error of a cursor behind which events are missing. first is the
// cursor from which on all of them are there.
func TooOld(first string) *Error {
	return &Error{
		Code:    CodeCursorTooOld,
		Message: "Events after this cursor are no longer kept. Subscribe without a cursor for what comes, or with the one in extensions.cursor for all that is left.",
		Cursor:  first,
	}
}

// page takes events that it asked for.
func (s *tailSub[K, T]) page(events []Event[T]) (wake func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = false
	if s.closed {
		return func() {}
	}
	s.near = len(events) < s.tail.cfg.PageEvents
	for _, ev := range events {
		if s.bytes >= pageBytes {
			s.near = false // the rest is read again
			break
		}
		s.append(ev)
	}
	switch {
	case s.near && s.joined:
		s.live = true
		held := s.held
		s.held = nil
		s.take(held)
	case s.near:
		// What comes from now on is held until one more page has closed the
		// space between this one and the first event that is held.
		s.tail.join(s)
		s.request()
	}
	return s.takeWake()
}

// offer takes new events from the follower: all up to a position.
func (s *tailSub[K, T]) offer(events []Event[T], through Position) (wake func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live {
		before := s.count()
		s.take(events)
		if s.live && through.Compare(s.pos) > 0 {
			s.pos = through
		}
		if s.count() == before {
			return func() {}
		}
		return s.takeWake()
	}
	if len(s.held) == 0 {
		s.heldBytes = 0
	}
	for _, ev := range events {
		s.heldBytes += s.tail.cfg.Size(ev.Value)
	}
	s.held = append(s.held, events...)
	if len(s.held) > 2*s.tail.cfg.PageEvents || s.heldBytes > 2*pageBytes {
		s.tail.leave(s)
		s.held = nil // the page that is on its way goes on
	}
	return func() {}
}

// take appends what is new to it, as long as there is room; else it goes back to
// reading pages.
func (s *tailSub[K, T]) take(events []Event[T]) {
	for _, ev := range events {
		if ev.Pos.Compare(s.pos) <= 0 {
			continue
		}
		if s.count() >= s.tail.cfg.PageEvents || s.bytes >= pageBytes {
			s.tail.leave(s)
			s.live, s.near = false, false
			return
		}
		s.append(ev)
	}
}

// fallBehind makes a subscriber that no longer follows read pages again.
func (s *tailSub[K, T]) fallBehind() (wake func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live, s.near, s.held = false, false, nil
	if s.count() == 0 {
		s.request()
	}
	return func() {}
}

// count is how many events wait.
func (s *tailSub[K, T]) count() int { return len(s.waiting) - s.taken }

func (s *tailSub[K, T]) append(ev Event[T]) {
	s.pos = ev.Pos
	if s.gap != nil {
		gap := s.gap
		if ev.Gap != nil {
			gap = gap.Merge(*ev.Gap)
		}
		ev.Gap, s.gap = gap, nil
	}
	if s.taken > len(s.waiting)/2 { // a reader that is never quite done must not make it grow
		n := copy(s.waiting, s.waiting[s.taken:])
		clear(s.waiting[n:])
		s.waiting, s.taken = s.waiting[:n], 0
	}
	s.waiting = append(s.waiting, ev)
	s.bytes += s.tail.cfg.Size(ev.Value)
}

// Next implements Sub.
func (s *tailSub[K, T]) Next(buf []Event[T]) (n int, open bool) {
	s.mu.Lock()
	n = copy(buf, s.waiting[s.taken:])
	for i := range n {
		s.bytes -= s.tail.cfg.Size(buf[i].Value)
		s.waiting[s.taken+i] = Event[T]{} // let go of the value
	}
	s.taken += n
	if s.count() == 0 {
		s.waiting, s.taken = s.waiting[:0], 0
		if cap(s.waiting) > 64 {
			s.waiting = nil // a page's memory is given back
		}
	}
	s.idle = n == 0 && len(buf) > 0
	open = n > 0 || !s.ended && !s.closed
	more := s.count() == 0 && !s.live && s.started && open
	s.mu.Unlock()
	if more {
		s.askForMore()
	}
	return n, open
}

// askForMore is called without a lock: the Tail's comes first.
func (s *tailSub[K, T]) askForMore() {
	s.tail.mu.Lock()
	defer s.tail.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count() == 0 && !s.live && !s.ended && !s.closed {
		s.request()
	}
}

// Wake implements Sub.
func (s *tailSub[K, T]) Wake(f func()) {
	s.mu.Lock()
	s.wake = f
	s.idle = false // it is called at once, and may find nothing but where the stream starts
	s.mu.Unlock()
	f()
}

// takeWake returns what to call after unlocking.
func (s *tailSub[K, T]) takeWake() func() {
	if !s.idle || s.wake == nil {
		return func() {}
	}
	s.idle = false
	return s.wake
}

// Err implements Sub.
func (s *tailSub[K, T]) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *tailSub[K, T]) end(err error) {
	s.mu.Lock()
	if !s.ended {
		s.ended, s.err = true, err
	}
	s.once.Do(func() { close(s.tried) })
	wake := s.takeWake()
	s.mu.Unlock()
	wake()
}

// Close implements Sub.
func (s *tailSub[K, T]) Close() {
	s.tail.mu.Lock()
	defer s.tail.mu.Unlock()
	s.tail.leave(s)
	delete(s.tail.subs, s)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.live = true, false
	s.waiting, s.taken, s.held, s.bytes = nil, 0, nil, 0
}

// Start implements Kept.
func (s *tailSub[K, T]) Start() (Position, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.start, s.started
}

// Near implements Kept.
func (s *tailSub[K, T]) Near() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.near && s.count() < s.tail.cfg.PageEvents
}

// Cursor implements Kept.
func (s *tailSub[K, T]) Cursor(p Position) string { return s.tail.cfg.Cursor(s.key, p) }
