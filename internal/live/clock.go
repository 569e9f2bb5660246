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
