package live

import (
	"sync"
	"time"
)

// Every returns a Sub that yields the time at once and then once per interval,
// without drift. A late tick is skipped, never queued: the reader of a slow
// Sub gets the present time. It needs no goroutine. It ends with Close.
func Every(interval time.Duration) Sub[time.Time] {
	t := &ticker{interval: interval, due: true, last: time.Now()}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next = t.last.Add(interval)
	t.timer = time.AfterFunc(interval, t.tick)
	return t
}

type ticker struct {
	interval time.Duration
	timer    *time.Timer

	mu     sync.Mutex
	last   time.Time // of the newest tick
	next   time.Time
	due    bool // a tick waits to be taken
	closed bool
	wake   func()
}

func (t *ticker) tick() {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	now := time.Now()
	t.last = now
	for !t.next.After(now) {
		t.next = t.next.Add(t.interval)
	}
	t.timer.Reset(t.next.Sub(now))
	wake := t.wake
	if t.due || wake == nil { // woken already, or nobody listens yet
		wake = func() {}
	}
	t.due = true
	t.mu.Unlock()
	wake()
}

func (t *ticker) Next(buf []Event[time.Time]) (int, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || !t.due || len(buf) == 0 {
		return 0, !t.closed
	}
	t.due = false
	buf[0] = Event[time.Time]{Value: t.last}
	return 1, true
}

func (t *ticker) Wake(f func()) {
	t.mu.Lock()
	t.wake = f
	due := t.due
	t.mu.Unlock()
	if due {
		f()
	}
}

func (t *ticker) Err() error { return nil }

func (t *ticker) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.timer.Stop()
}

// Count returns a Sub that yields value(0), value(1) … value(n-1), the first at
// once and then one per interval, and ends with err after the last: nil
// completes it. It needs no goroutine.
func Count[T any](interval time.Duration, n int, value func(i int) T, err error) Sub[T] {
	return &counter[T]{Sub: Every(interval), n: n, value: value, err: err}
}

// counter counts the ticks of a clock.
type counter[T any] struct {
	Sub[time.Time]
	i, n  int
	value func(int) T
	err   error
}

func (c *counter[T]) Next(buf []Event[T]) (int, bool) {
	if c.i == c.n {
		return 0, false
	}
	if len(buf) == 0 {
		return 0, true
	}
	var tick [1]Event[time.Time]
	if n, open := c.Sub.Next(tick[:]); n == 0 {
		return 0, open
	}
	buf[0] = Event[T]{Value: c.value(c.i)}
	c.i++
	return 1, true
}

func (c *counter[T]) Err() error {
	if c.i < c.n {
		return nil
	}
	return c.err
}
