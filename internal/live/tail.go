package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Archive is a source that keeps its events for a while, by key, each key's in
// one order. Implementations are safe for concurrent use.
type Archive[K comparable, T any] interface {
	// Read returns the oldest events after a position, at most limit of them,
	// and fewer only when there are no more. When events after the position are
	// no longer kept, the error is a *Trimmed. An *Error ends those who asked,
	// unless its code ends in _UNAVAILABLE. That, and any other error, is taken
	// to pass: the read is repeated.
	Read(ctx context.Context, key K, after Position, limit int) ([]Event[T], error)
	// Head is a position at or after every event of the key that there is, and
	// before every event to come. Errors are as with Read.
	Head(ctx context.Context, key K) (Position, error)
}

// Trimmed is the error of a read behind which events are missing, because the
// source keeps them only for a while.
type Trimmed struct { //nolint:errname // what it says is a fact about the source
	// Through is the position of the newest event that is gone: everything
	// after it can be read.
	Through Position
}

func (t *Trimmed) Error() string {
	return fmt.Sprintf("events up to %d-%d are no longer kept", t.Through.Hi, t.Through.Lo)
}

// refused tells a refusal, which repeating does not help, from a failure.
func refused(err error) bool {
	var told *Error
	return errors.As(err, &told) && !strings.HasSuffix(told.Code, "_UNAVAILABLE")
}

// PageEvents is how many events of an Archive are read at a time, and about how
// many wait for one subscriber.
const PageEvents = 256

// CodeCursorTooOld ends a subscriber that wants to go on after events that are
// no longer kept.
const CodeCursorTooOld = "CURSOR_TOO_OLD"

// TailConfig is what a Tail needs. Zero fields take the defaults in brackets.
type TailConfig[K comparable, T any] struct {
	Archive Archive[K, T]
	// Cursor names a position to clients.
	Cursor func(key K, p Position) string
	// Follow is called when a key gets its first reader near the head, stop when
	// the last has left; in between, Grown must be called whenever the key has
	// new events. Both are called with a lock held: they must not block and not
	// call the Tail [nobody is told].
	Follow func(key K) (stop func())
	// Size is what one value counts against the MiB that waits for one
	// subscriber [1].
	Size func(T) int
	// Renew is how often the position of those who follow is brought to the
	// head. It must be well below how long the source keeps events, so that who
	// has seen all is never told that something may be missing [1 h].
	Renew      time.Duration
	Retry      time.Duration // how soon a failed read is repeated [250 ms]
	PageEvents int           // how many events a page holds [PageEvents]
	Logger     *slog.Logger  // [discards]
}

const (
	pageBytes   = 1 << 20 // of what waits for one subscriber
	pageReaders = 4       // goroutines of a Tail that read pages
)

// Tail is the one way to read an Archive: catch up, then live.
//
// A subscriber first reads pages at its own pace. Within a page of the head it
// joins the others of its key, to whom a follower brings each new event once.
// One that does not keep up leaves them and reads pages again, so nothing is
// lost, nothing is doubled, and what waits for it is bounded: two pages, of
// PageEvents events and about a MiB each.
//
// Subscribers who want the same page share one read. While the source is away,
// reads are repeated and subscriptions stay.
//
// A Tail has a follower and four readers of pages, whatever the number of
// subscribers. They end with Close.
type Tail[K comparable, T any] struct {
	cfg    TailConfig[K, T]
	ctx    context.Context // ends reads
	cancel context.CancelFunc
	work   sync.WaitGroup // follower, readers, retries

	mu     sync.Mutex
	news   *sync.Cond // dirty or wanted has something, or closed
	keys   map[K]*followed[K, T]
	dirty  []K
	wanted map[request[K]][]*tailSub[K, T]
	queue  []request[K] // keys of wanted, oldest first
	closed bool
	subs   map[*tailSub[K, T]]struct{}
	timers map[*time.Timer]struct{}
}

// followed is a key with subscribers near its head.
type followed[K comparable, T any] struct {
	last   Position // everything up to here has been offered
	dirty  bool     // waits for the follower
	renew  bool     // the follower is to look for the head, too
	failed bool     // the last read failed: it is about to be repeated
	stop   func()
	subs   map[*tailSub[K, T]]struct{}
}

// request is a page, or the head, that subscribers wait for.
type request[K comparable] struct {
	key   K
	after Position
	head  bool
}

// NewTail makes a Tail and starts its goroutines.
func NewTail[K comparable, T any](cfg TailConfig[K, T]) *Tail[K, T] {
	if cfg.Follow == nil {
		cfg.Follow = func(K) func() { return func() {} }
	}
	if cfg.Size == nil {
		cfg.Size = func(T) int { return 1 }
	}
	if cfg.Renew == 0 {
		cfg.Renew = time.Hour
	}
	if cfg.Retry == 0 {
		cfg.Retry = 250 * time.Millisecond
	}
	if cfg.PageEvents == 0 {
		cfg.PageEvents = PageEvents
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	t := &Tail[K, T]{
		cfg: cfg, keys: make(map[K]*followed[K, T]), wanted: make(map[request[K]][]*tailSub[K, T]),
		subs: make(map[*tailSub[K, T]]struct{}), timers: make(map[*time.Timer]struct{}),
	}
	t.news = sync.NewCond(&t.mu)
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.work.Go(t.follow)
	for range pageReaders {
		t.work.Go(t.readPages)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.after(cfg.Renew, t.renew)
	return t
}

// Grown says that a key has new events. It never blocks.
func (t *Tail[K, T]) Grown(key K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.keys[key]; f != nil {
		t.mark(key, f)
	}
}

// GrownAll says that any key may have new events: the source is back.
func (t *Tail[K, T]) GrownAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, f := range t.keys {
		t.mark(key, f)
	}
}

func (t *Tail[K, T]) mark(key K, f *followed[K, T]) {
	if !f.dirty {
		f.dirty = true
		t.dirty = append(t.dirty, key)
		t.news.Broadcast()
	}
}

// Subscribe opens a stream of a key's events: those after a position, or without
// one those to come. In the second case it waits until the head is known, unless
// the source is away: then the first event carries a gap.
//
// A subscriber that named a position which is too old, or becomes so because it
// reads too slowly, ends with CodeCursorTooOld; one that did not name any is told
// by a gap and goes on. The stream implements Kept.
func (t *Tail[K, T]) Subscribe(ctx context.Context, key K, after *Position) (Sub[T], error) {
	s := &tailSub[K, T]{tail: t, key: key, idle: true, tried: make(chan struct{})}
	if after != nil {
		s.start, s.pos, s.started, s.resumed = *after, *after, true, true
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, ErrHubClosed
	}
	t.subs[s] = struct{}{}
	s.request()
	t.mu.Unlock()
	if after != nil {
		return s, nil
	}
	select {
	case <-s.tried:
		if err := s.Err(); err != nil {
			s.Close()
			return nil, err
		}
		return s, nil
	case <-ctx.Done():
		s.Close()
		return nil, ctx.Err()
	}
}

// Close ends every subscription and waits for the goroutines.
func (t *Tail[K, T]) Close() {
	t.mu.Lock()
	t.closed = true
	t.cancel()
	for timer := range t.timers {
		if timer.Stop() {
			t.work.Done()
		}
	}
	subs := t.subs
	t.subs = nil
	for s := range subs {
		t.leave(s)
	}
	t.news.Broadcast()
	t.mu.Unlock()
	for s := range subs {
		s.end(ErrHubClosed)
	}
	t.work.Wait()
}

// follow brings what is new to the subscribers near the head.
func (t *Tail[K, T]) follow() {
	for {
		t.mu.Lock()
		for len(t.dirty) == 0 && !t.closed {
			t.news.Wait()
		}
		if t.closed {
			t.mu.Unlock()
			return
		}
		key := t.dirty[0]
		t.dirty = t.dirty[1:]
		f := t.keys[key]
		if f == nil { // the last subscriber has left meanwhile
			t.mu.Unlock()
			continue
		}
		f.dirty = false
		last, renew := f.last, f.renew
		f.renew = false
		t.mu.Unlock()

		// The head comes first: what is not among the events then is behind it.
		var head Position
		var err error
		if renew {
			head, err = t.cfg.Archive.Head(t.ctx, key)
		}
		var events []Event[T]
		if err == nil {
			events, err = t.cfg.Archive.Read(t.ctx, key, last, t.cfg.PageEvents)
		}
		t.offer(key, f, events, head, err)
	}
}

// offer hands a page to those who follow the key. Events up to head, too, are
// in it or were offered before, unless there is another page.
func (t *Tail[K, T]) offer(key K, f *followed[K, T], events []Event[T], head Position, err error) {
	var trimmed *Trimmed
	t.mu.Lock()
	var wakes []func()
	switch {
	case t.keys[key] != f: // everybody has left
	case refused(err):
		for s := range f.subs {
			wakes = append(wakes, s.refuse(err))
		}
	case errors.As(err, &trimmed):
		// Those who follow have not seen what is gone either: each finds out
		// for itself.
		for s := range f.subs {
			t.leave(s)
			wakes = append(wakes, s.fallBehind())
		}
	case err != nil:
		t.cfg.Logger.Debug("following a log", "error", err)
		t.followAgain(key, f)
	default:
		if len(events) > 0 {
			f.last = events[len(events)-1].Pos
		}
		if len(events) == t.cfg.PageEvents {
			t.mark(key, f)
		} else if head.Compare(f.last) > 0 {
			f.last = head
		}
		for s := range f.subs {
			wakes = append(wakes, s.offer(events, f.last))
		}
	}
	t.mu.Unlock()
	for _, wake := range wakes {
		wake()
	}
}

// followAgain has the follower repeat a read that failed.
func (t *Tail[K, T]) followAgain(key K, f *followed[K, T]) {
	if f.failed {
		return
	}
	f.failed = true
	t.after(t.cfg.Retry, func() {
		f.failed, f.renew = false, true
		if t.keys[key] == f {
			t.mark(key, f)
		}
	})
}

// renew brings the positions of those who follow to the head.
func (t *Tail[K, T]) renew() {
	for key, f := range t.keys {
		f.renew = true
		t.mark(key, f)
	}
	t.after(t.cfg.Renew, t.renew)
}

// after runs f after a while, unless the Tail is closed by then. Both are called
// with the lock held.
func (t *Tail[K, T]) after(d time.Duration, f func()) {
	if t.closed {
		return
	}
	t.work.Add(1)
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		defer t.work.Done()
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.timers, timer)
		if !t.closed {
			f()
		}
	})
	t.timers[timer] = struct{}{}
}

// want puts a subscriber's request into the queue.
func (t *Tail[K, T]) want(r request[K], s *tailSub[K, T]) {
	if t.closed {
		return
	}
	if t.wanted[r] == nil {
		t.queue = append(t.queue, r)
		t.news.Broadcast()
	}
	t.wanted[r] = append(t.wanted[r], s)
}

// readPages serves requests.
func (t *Tail[K, T]) readPages() {
	for {
		t.mu.Lock()
		for len(t.queue) == 0 && !t.closed {
			t.news.Wait()
		}
		if t.closed {
			t.mu.Unlock()
			return
		}
		r := t.queue[0]
		t.queue = t.queue[1:]
		subs := t.wanted[r]
		delete(t.wanted, r)
		t.mu.Unlock()

		if r.head {
			head, err := t.cfg.Archive.Head(t.ctx, r.key)
			t.answer(r, subs, err, func(s *tailSub[K, T]) func() { return s.begin(head) })
			continue
		}
		events, err := t.cfg.Archive.Read(t.ctx, r.key, r.after, t.cfg.PageEvents)
		var trimmed *Trimmed
		if errors.As(err, &trimmed) {
			t.answer(r, subs, nil, func(s *tailSub[K, T]) func() { return s.miss(trimmed) })
			continue
		}
		t.answer(r, subs, err, func(s *tailSub[K, T]) func() { return s.page(events) })
	}
}

// answer gives subscribers what they asked for; after an error they wait for
// the next try.
func (t *Tail[K, T]) answer(r request[K], subs []*tailSub[K, T], err error, give func(*tailSub[K, T]) (wake func())) {
	wakes := make([]func(), 0, len(subs))
	t.mu.Lock()
	switch {
	case t.closed:
	case refused(err):
		for _, s := range subs {
			wakes = append(wakes, s.refuse(err))
		}
	case err != nil:
		t.cfg.Logger.Debug("reading a log", "error", err)
		for _, s := range subs {
			s.fail()
		}
		t.after(t.cfg.Retry, func() { t.again(r, subs) })
	default:
		for _, s := range subs {
			wakes = append(wakes, give(s))
		}
	}
	t.mu.Unlock()
	for _, wake := range wakes {
		wake()
	}
}

func (t *Tail[K, T]) again(r request[K], subs []*tailSub[K, T]) {
	for _, s := range subs {
		if _, open := t.subs[s]; open {
			t.want(r, s)
		}
	}
}

// join makes a subscriber one of those who are brought new events.
func (t *Tail[K, T]) join(s *tailSub[K, T]) {
	f := t.keys[s.key]
	if f == nil {
		f = &followed[K, T]{last: s.pos, stop: t.cfg.Follow(s.key), subs: make(map[*tailSub[K, T]]struct{})}
		t.keys[s.key] = f
		t.mark(s.key, f) // what came since it read
	}
	f.subs[s] = struct{}{}
	s.joined = true
}

func (t *Tail[K, T]) leave(s *tailSub[K, T]) {
	if !s.joined {
		return
	}
	s.joined = false
	f := t.keys[s.key]
	delete(f.subs, s)
	if len(f.subs) == 0 {
		delete(t.keys, s.key)
		f.stop()
	}
}
