package live

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// ErrHubClosed ends the subscriptions of a hub that was closed.
var ErrHubClosed = &Error{Code: "SHUTTING_DOWN", Message: "The gateway is shutting down; subscribe again in a moment."}

// HubConfig is what a Hub needs. Zero fields take the defaults in brackets.
type HubConfig[K comparable, T any] struct {
	// Open starts the upstream of a key and returns what stops it. It runs in
	// a goroutine of the hub under a context that ends with Hub.Close, never
	// under a subscriber's. An error goes to those who wait and is not kept.
	Open func(ctx context.Context, key K) (stop func(), err error)
	// Size is what one value counts against Limit.Bytes [1].
	Size func(T) int
	// Linger is how long an upstream stays open without subscribers [5 s].
	Linger time.Duration
	// Limit bounds each subscriber's queue.
	Limit Limit
}

// Hub holds one upstream per key, however many subscribe to it. The upstream
// opens with the first subscriber and stops Linger after the last has left. A
// key that comes back while its upstream is stopping waits for the stop, so
// that a broker never sees the two in the wrong order.
//
// Publish delivers in call order; call it for one key from one goroutine at a
// time. Every goroutine of a hub has ended when Close returns.
type Hub[K comparable, T any] struct {
	cfg    HubConfig[K, T]
	ctx    context.Context // ends Open
	cancel context.CancelFunc
	work   sync.WaitGroup // opening and stopping upstreams

	mu     sync.RWMutex
	topics map[K]*topic[T]
	closed bool
}

// topic is one key: opening -> open -> stopping -> gone.
type topic[T any] struct {
	opened  chan struct{} // closed when Open has returned
	err     error         // Open's, readable once opened is closed
	stop    func()        // Open's, nil until then
	gone    chan struct{} // closed when the topic has left the hub
	leaving bool          // stopping: newcomers wait for gone
	linger  *time.Timer   // nil: has subscribers, or waits for Open

	// queues is copied on write, so that Publish needs no lock while it pushes.
	queues []*Queue[T]
}

// NewHub makes a hub.
func NewHub[K comparable, T any](cfg HubConfig[K, T]) *Hub[K, T] {
	if cfg.Size == nil {
		cfg.Size = func(T) int { return 1 }
	}
	if cfg.Linger == 0 {
		cfg.Linger = 5 * time.Second
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Hub[K, T]{cfg: cfg, ctx: ctx, cancel: cancel, topics: make(map[K]*topic[T])}
}

// Subscribe joins the key's stream, opening its upstream if need be, and waits
// until the upstream is open or ctx ends. Events published from then on reach
// the queue; the caller closes it.
func (h *Hub[K, T]) Subscribe(ctx context.Context, key K) (*Queue[T], error) {
	for {
		t, q, err := h.join(key)
		if err != nil {
			return nil, err
		}
		if q == nil { // stopping
			select {
			case <-t.gone:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		select {
		case <-t.opened:
			if t.err != nil {
				q.Close()
				return nil, t.err
			}
			return q, nil
		case <-ctx.Done():
			q.Close()
			return nil, ctx.Err()
		}
	}
}

// join adds a queue to the key's topic; a nil queue means that the topic is
// stopping.
func (h *Hub[K, T]) join(key K) (*topic[T], *Queue[T], error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, nil, ErrHubClosed
	}
	t := h.topics[key]
	if t == nil {
		t = &topic[T]{opened: make(chan struct{}), gone: make(chan struct{})}
		h.topics[key] = t
		h.work.Go(func() { h.open(key, t) })
	}
	if t.leaving {
		return t, nil, nil
	}
	if t.linger != nil {
		t.linger.Stop() // if it fired already, expire finds the new queue
		t.linger = nil
	}
	var q *Queue[T]
	q = NewQueue[T](h.cfg.Limit, func() { h.leave(key, t, q) })
	t.queues = append(t.queues[:len(t.queues):len(t.queues)], q)
	return t, q, nil
}

func (h *Hub[K, T]) open(key K, t *topic[T]) {
	stop, err := h.cfg.Open(h.ctx, key)
	if err != nil && h.ctx.Err() != nil {
		err = ErrHubClosed
	}
	h.mu.Lock()
	t.stop, t.err = stop, err
	if err != nil {
		h.drop(key, t)
	} else if len(t.queues) == 0 {
		h.startLinger(key, t)
	}
	h.mu.Unlock()
	close(t.opened)
}

func (h *Hub[K, T]) leave(key K, t *topic[T], q *Queue[T]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	queues := make([]*Queue[T], 0, len(t.queues))
	for _, other := range t.queues {
		if other != q {
			queues = append(queues, other)
		}
	}
	t.queues = queues
	if len(queues) == 0 && t.stop != nil {
		h.startLinger(key, t)
	}
}

func (h *Hub[K, T]) startLinger(key K, t *topic[T]) {
	if h.closed || t.leaving {
		return
	}
	t.linger = time.AfterFunc(h.cfg.Linger, func() { h.expire(key, t) })
}

// expire stops the upstream of a topic that is still without subscribers.
func (h *Hub[K, T]) expire(key K, t *topic[T]) {
	h.mu.Lock()
	if h.closed || t.leaving || len(t.queues) > 0 || t.linger == nil {
		h.mu.Unlock()
		return
	}
	t.leaving = true
	h.work.Add(1)
	h.mu.Unlock()

	defer h.work.Done()
	t.stop()
	h.mu.Lock()
	h.drop(key, t)
	h.mu.Unlock()
}

func (h *Hub[K, T]) drop(key K, t *topic[T]) {
	delete(h.topics, key)
	close(t.gone)
}

// Publish delivers an event to every subscriber of the key, waiting for those
// whose queue is full as Queue.Push does. It says how many took it. Done is
// called once, when all of them have dealt with the event.
func (h *Hub[K, T]) Publish(key K, ev Event[T]) (delivered int) {
	size := h.cfg.Size(ev.Value)
	queues := h.queues(key)
	ev.Done = ShareDone(ev.Done, len(queues))
	for _, q := range queues {
		if q.Push(ev, size) {
			delivered++
		}
	}
	return delivered
}

// ShareDone makes of an Event's Done one for n takers: the n-th call calls it.
// Without takers it is called at once. A nil Done stays nil.
func ShareDone(done func(), n int) func() {
	switch {
	case done == nil || n == 1:
		return done
	case n == 0:
		done()
		return nil
	}
	left := new(atomic.Int64)
	left.Store(int64(n))
	return func() {
		if left.Add(-1) == 0 {
			done()
		}
	}
}

func (h *Hub[K, T]) queues(key K) []*Queue[T] {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if t := h.topics[key]; t != nil {
		return t.queues
	}
	return nil
}

// Mark makes the next event of every subscription carry a gap.
func (h *Hub[K, T]) Mark(gap Gap) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, t := range h.topics {
		for _, q := range t.queues {
			q.Mark(gap)
		}
	}
}

// End ends the key's subscriptions with an error, such as a broker's refusal
// after an outage. The upstream goes after Linger.
func (h *Hub[K, T]) End(key K, err error) {
	for _, q := range h.queues(key) {
		q.End(err)
	}
}

// Keys lists the keys that have an upstream or are opening one.
func (h *Hub[K, T]) Keys() []K {
	h.mu.RLock()
	defer h.mu.RUnlock()
	keys := make([]K, 0, len(h.topics))
	for key, t := range h.topics {
		if !t.leaving {
			keys = append(keys, key)
		}
	}
	return keys
}

// Close ends every subscription with ErrHubClosed, stops every upstream and
// waits until that is done.
func (h *Hub[K, T]) Close() {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.closed = true
	h.cancel()
	var queues []*Queue[T]
	for _, t := range h.topics {
		queues = append(queues, t.queues...)
		if t.linger != nil {
			t.linger.Stop()
		}
	}
	h.mu.Unlock()
	for _, q := range queues {
		q.End(ErrHubClosed)
	}
	h.work.Wait()

	h.mu.Lock()
	topics := h.topics
	h.topics = nil
	h.mu.Unlock()
	for _, t := range topics { // nothing touches them any more
		t.stop()
		close(t.gone)
	}
}
