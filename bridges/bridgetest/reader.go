package bridgetest

import (
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
)

// patience is how long the suite waits for what must happen. It only runs out
// when something is broken.
const patience = 10 * time.Second

// Reader reads a subscription in a test. It is done with an event when it takes
// it.
type Reader struct {
	tb   testing.TB
	sub  live.Sub[*bridges.Message]
	news chan struct{}
	one  [1]live.Event[*bridges.Message]
}

// Read makes a reader, which closes the subscription when the test ends.
func Read(tb testing.TB, sub live.Sub[*bridges.Message]) *Reader {
	tb.Helper()
	r := &Reader{tb: tb, sub: sub, news: make(chan struct{}, 1)}
	tb.Cleanup(sub.Close)
	sub.Wake(func() {
		select {
		case r.news <- struct{}{}:
		default:
		}
	})
	return r
}

// Subscribe subscribes and reads.
func Subscribe(tb testing.TB, b bridges.Bridge, topic string, qos bridges.QoS) *Reader {
	tb.Helper()
	sub, err := b.Subscribe(tb.Context(), topic, qos)
	if err != nil {
		tb.Fatalf("Subscribe(%q): %v", topic, err)
	}
	return Read(tb, sub)
}

// Next returns the next event, waiting for it.
func (r *Reader) Next() live.Event[*bridges.Message] {
	r.tb.Helper()
	ev, ok := r.TryNext(patience)
	if !ok {
		r.tb.Fatalf("no message within %v", patience)
	}
	return ev
}

// TryNext returns the next event if there is one within d.
func (r *Reader) TryNext(d time.Duration) (ev live.Event[*bridges.Message], ok bool) {
	r.tb.Helper()
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	for {
		n, open := r.sub.Next(r.one[:])
		if n > 0 {
			done(r.one[0])
			return r.one[0], true
		}
		if !open {
			r.tb.Fatalf("the subscription ended: %v", r.sub.Err())
		}
		select {
		case <-r.news:
		case <-deadline.C:
			return ev, false
		}
	}
}

func done(ev live.Event[*bridges.Message]) {
	if ev.Done != nil {
		ev.Done()
	}
}

// Want waits for the next event and checks its payload. To see that nothing
// else comes, publish one more and want that.
func (r *Reader) Want(payload string) live.Event[*bridges.Message] {
	r.tb.Helper()
	ev := r.Next()
	if got := string(ev.Value.Payload); got != payload {
		r.tb.Fatalf("payload %q on %q (retained: %v), want %q", got, ev.Value.Topic, ev.Value.Retained, payload)
	}
	return ev
}

// Ended waits for the end and returns why the subscription ended.
func (r *Reader) Ended() error {
	r.tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		n, open := r.sub.Next(r.one[:])
		if n == 0 && !open {
			return r.sub.Err()
		}
		if n > 0 {
			done(r.one[0])
			continue
		}
		select {
		case <-r.news:
		case <-deadline.C:
			r.tb.Fatalf("the subscription has not ended within %v", patience)
		}
	}
}

// Close closes the subscription.
func (r *Reader) Close() { r.sub.Close() }

// Eventually waits until ok says so.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	within(tb, patience, what, ok)
}

func within(tb testing.TB, d time.Duration, what string, ok func() bool) {
	tb.Helper()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(d)
	for !ok() {
		select {
		case <-poll.C:
		case <-deadline:
			tb.Fatalf("not so after %v: %s", d, what)
		}
	}
}

// WaitConnected waits until the bridge is connected.
func WaitConnected(tb testing.TB, b bridges.Bridge) {
	tb.Helper()
	Eventually(tb, "the bridge is connected", func() bool { return b.Status().State == bridges.Connected })
}
