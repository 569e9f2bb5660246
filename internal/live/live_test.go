package live

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// drain takes everything that waits.
func drain[T any](s Sub[T]) (values []T, gaps []*Gap, open bool) {
	buf := make([]Event[T], 3)
	for {
		n, open := s.Next(buf)
		if n == 0 {
			return values, gaps, open
		}
		for _, ev := range buf[:n] {
			values = append(values, ev.Value)
			gaps = append(gaps, ev.Gap)
		}
	}
}

func push(q *Queue[int], values ...int) {
	for _, v := range values {
		q.Push(Event[int]{Value: v}, 1)
	}
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestQueueKeepsOrderAcrossGrowth(t *testing.T) {
	q := NewQueue[int](Limit{}, nil)
	var got, want []int
	buf := make([]Event[int], 1)
	for i := range 1000 {
		push(q, i)
		want = append(want, i)
		if i%3 == 0 { // so that the ring wraps
			q.Next(buf)
			got = append(got, buf[0].Value)
		}
	}
	rest, _, open := drain(q)
	equal(t, "values", append(got, rest...), want)
	if !open {
		t.Error("the queue has ended")
	}
}

func TestQueueEndsAfterWhatWaits(t *testing.T) {
	why := errors.New("why")
	for _, end := range []error{nil, why} {
		q := NewQueue[int](Limit{}, nil)
		push(q, 1, 2)
		q.End(end)
		q.End(errors.New("too late"))
		if q.Push(Event[int]{}, 1) {
			t.Error("an ended queue took an event")
		}
		got, _, open := drain(q)
		equal(t, "values", got, []int{1, 2})
		if open || !errors.Is(q.Err(), end) {
			t.Errorf("open %t, err %v; want closed, %v", open, q.Err(), end)
		}
	}
}

func TestQueueWakesOncePerSilence(t *testing.T) {
	q := NewQueue[int](Limit{}, nil)
	woken := 0
	q.Wake(func() { woken++ })
	push(q, 1, 2, 3)
	if woken != 1 {
		t.Errorf("woken %d times for three events in a row", woken)
	}
	drain(q)
	push(q, 4)
	if woken != 2 {
		t.Errorf("woken %d times after a silence", woken)
	}
	late := 0
	q.Wake(func() { late++ })
	if late != 1 {
		t.Error("not woken at once for what waits")
	}
}

func TestQueueOverBoundTellsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue[int](Limit{Events: 2, Stall: time.Second}, nil)
		push(q, 1, 2)
		start := time.Now()
		push(q, 3) // waits for a second, then gives up
		push(q, 4) // does not wait again
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("waited %v", waited)
		}
		got, _, _ := drain(q)
		equal(t, "values", got, []int{1, 2})
		push(q, 5)
		got, gaps, _ := drain(q)
		equal(t, "values", got, []int{5})
		if gaps[0] == nil || *gaps[0] != (Gap{Reason: GapOverflow, Missed: 2}) {
			t.Errorf("gap %+v", gaps[0])
		}
	})
}

func TestQueueWaitsForAReaderWhoMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue[int](Limit{Events: 1}, nil)
		var got []int
		go func() {
			defer q.End(nil)
			push(q, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
		}()
		for open := true; open; {
			time.Sleep(900 * time.Millisecond)
			var some []int
			some, _, open = drain(q)
			got = append(got, some...)
		}
		equal(t, "values", got, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	})
}

func TestQueueBoundsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue[int](Limit{Bytes: 10}, nil)
		if !q.Push(Event[int]{Value: 1}, 100) {
			t.Error("a large event must pass when nothing waits")
		}
		if q.Push(Event[int]{Value: 2}, 1) {
			t.Error("the queue is over its bound")
		}
	})
}

func TestQueueCloseFreesAWaitingPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := 0
		q := NewQueue[int](Limit{Events: 1, Stall: time.Hour}, func() { closed++ })
		push(q, 1)
		done := make(chan bool)
		go func() { done <- q.Push(Event[int]{Value: 2}, 1) }()
		synctest.Wait()
		q.Close()
		q.Close()
		if <-done {
			t.Error("a closed queue took an event")
		}
		if closed != 1 {
			t.Errorf("onClose ran %d times", closed)
		}
	})
}

func TestGapsMerge(t *testing.T) {
	q := NewQueue[int](Limit{}, nil)
	since := time.Unix(1, 0)
	q.Mark(Gap{Reason: GapOutage, Missed: 2, LastGood: since})
	q.Mark(Gap{Reason: GapOverflow, Missed: 3})
	push(q, 1)
	_, gaps, _ := drain(q)
	if *gaps[0] != (Gap{GapOutage, 5, since}) {
		t.Errorf("got %+v", gaps[0])
	}
	q.Mark(Gap{Reason: GapOutage, Missed: 2})
	q.Mark(Gap{Reason: GapOutage}) // how many is not known
	push(q, 1)
	_, gaps, _ = drain(q)
	if gaps[0].Missed != 0 {
		t.Errorf("a sum with an unknown part came as %d", gaps[0].Missed)
	}
}

// upstreams counts what a hub opens and stops.
type upstreams struct {
	sync.Mutex
	open  map[string]int
	most  int
	opens int
	delay time.Duration
	fail  error
}

func (u *upstreams) Open(ctx context.Context, key string) (func(), error) {
	select {
	case <-time.After(u.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	u.Lock()
	defer u.Unlock()
	if u.fail != nil {
		return nil, u.fail
	}
	if u.open == nil {
		u.open = make(map[string]int)
	}
	u.open[key]++
	u.opens++
	u.most = max(u.most, u.open[key])
	return func() {
		time.Sleep(u.delay)
		u.Lock()
		defer u.Unlock()
		u.open[key]--
	}, nil
}

func (u *upstreams) count(key string) int {
	u.Lock()
	defer u.Unlock()
	return u.open[key]
}

func newTestHub(u *upstreams) *Hub[string, int] {
	return NewHub(HubConfig[string, int]{Open: u.Open})
}

func TestHubOneUpstreamPerKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &upstreams{delay: time.Second}
		h := newTestHub(u)
		defer h.Close()
		var subs [3]*Queue[int]
		var wg sync.WaitGroup
		for i := range subs {
			wg.Go(func() { subs[i], _ = h.Subscribe(t.Context(), "a") })
		}
		wg.Wait()
		if n := h.Publish("a", Event[int]{Value: 7}); n != 3 {
			t.Errorf("delivered to %d", n)
		}
		h.Publish("b", Event[int]{Value: 8})
		for _, s := range subs {
			got, _, _ := drain(s)
			equal(t, "values", got, []int{7})
			s.Close()
		}
		time.Sleep(4 * time.Second)
		if u.count("a") != 1 {
			t.Error("the upstream did not linger")
		}
		time.Sleep(3 * time.Second)
		if u.count("a") != 0 || u.opens != 1 || len(h.Keys()) != 0 {
			t.Errorf("open %d, opened %d times, keys %v", u.count("a"), u.opens, h.Keys())
		}
	})
}

func TestHubReopensOnlyAfterTheStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &upstreams{delay: time.Second}
		h := newTestHub(u)
		defer h.Close()
		s, _ := h.Subscribe(t.Context(), "a")
		s.Close()
		time.Sleep(5*time.Second + 500*time.Millisecond) // it is stopping
		s, err := h.Subscribe(t.Context(), "a")
		if err != nil || u.opens != 2 || u.most != 1 {
			t.Errorf("err %v, opened %d times, %d at once", err, u.opens, u.most)
		}
		s.Close()
	})
}

func TestHubFailureIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &upstreams{fail: errors.New("refused")}
		h := newTestHub(u)
		defer h.Close()
		if _, err := h.Subscribe(t.Context(), "a"); !errors.Is(err, u.fail) {
			t.Errorf("got %v", err)
		}
		u.fail = nil
		if _, err := h.Subscribe(t.Context(), "a"); err != nil {
			t.Errorf("the failure was kept: %v", err)
		}
	})
}

func TestHubFirstSubscriberMayLeaveWhileOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &upstreams{delay: time.Second}
		h := newTestHub(u)
		defer h.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		second := make(chan error)
		go func() {
			_, err := h.Subscribe(t.Context(), "a")
			second <- err
		}()
		if _, err := h.Subscribe(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := <-second; err != nil || u.opens != 1 {
			t.Errorf("the other: %v; opened %d times", err, u.opens)
		}
	})
}

func TestHubCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &upstreams{delay: time.Second}
		h := newTestHub(u)
		s, _ := h.Subscribe(t.Context(), "a")
		opening := make(chan error)
		go func() {
			_, err := h.Subscribe(t.Context(), "b")
			opening <- err
		}()
		synctest.Wait()
		h.Close()
		if _, _, open := drain(s); open || !errors.Is(s.Err(), ErrHubClosed) {
			t.Errorf("open %t, err %v", open, s.Err())
		}
		if err := <-opening; !errors.Is(err, ErrHubClosed) {
			t.Errorf("a subscription that was opening got %v", err)
		}
		if _, err := h.Subscribe(t.Context(), "a"); !errors.Is(err, ErrHubClosed) {
			t.Errorf("got %v", err)
		}
		if u.count("a") != 0 {
			t.Error("the upstream is still open")
		}
	})
}

// TestHubUnderChurn: whoever stays from before the first event to after the
// last gets each once and in order, while others come and go; in the end no
// upstream is left. It runs on the real clock, for the race detector.
func TestHubUnderChurn(t *testing.T) {
	u := &upstreams{}
	h := NewHub(HubConfig[string, int]{Open: u.Open, Linger: time.Millisecond})
	const events = 2000
	keys := []string{"a", "b"}
	var stay [2]*Queue[int]
	for i, key := range keys {
		stay[i], _ = h.Subscribe(t.Context(), key)
	}
	var work sync.WaitGroup
	var over atomic.Bool
	for i := range 8 {
		work.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for !over.Load() {
				key := []string{"a", "b", "c"}[r.IntN(3)]
				s, err := h.Subscribe(t.Context(), key)
				if err != nil {
					t.Errorf("subscribe: %v", err)
					return
				}
				last := -1
				for range r.IntN(5) {
					got, _, _ := drain(s)
					for _, v := range got {
						if last >= 0 && v != last+1 {
							t.Errorf("%d after %d", v, last)
						}
						last = v
					}
				}
				s.Close()
			}
		})
	}
	var publishers sync.WaitGroup
	for i, key := range keys {
		publishers.Go(func() {
			for n := range events {
				h.Publish(key, Event[int]{Value: n})
			}
			stay[i].End(nil)
		})
	}
	for i := range keys {
		publishers.Go(func() {
			defer stay[i].Close()
			next := 0
			for open := true; open; {
				var got []int
				got, _, open = drain(stay[i])
				for _, v := range got {
					if v != next {
						t.Errorf("%d, want %d", v, next)
					}
					next = v + 1
				}
			}
			if next != events {
				t.Errorf("%d of %d events", next, events)
			}
		})
	}
	publishers.Wait()
	over.Store(true)
	work.Wait()
	h.Close()
	for _, key := range []string{"a", "b", "c"} {
		if n := u.count(key); n != 0 || u.most != 1 {
			t.Errorf("%d upstreams of %s are left; %d at once", n, key, u.most)
		}
	}
}

func TestStreamWithoutAnEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue[int](Limit{}, nil)
		double := func(ev Event[int]) (int, error) {
			if ev.Value == 2 {
				return 0, errors.New("left out")
			}
			return 2 * ev.Value, nil
		}
		out := Stream(t.Context(), q, double)
		go func() {
			push(q, 1, 2, 3)
			time.Sleep(time.Second)
			push(q, 4)
			q.End(nil)
		}()
		var got []int
		for v := range out {
			got = append(got, v)
		}
		equal(t, "values", got, []int{2, 6, 8})
	})
}

func TestStreamEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		closed := false
		q := NewQueue[int](Limit{}, func() { closed = true })
		out := Stream(ctx, q, Value)
		push(q, 1, 2, 3) // one in the channel, one in hand
		synctest.Wait()
		cancel()
		synctest.Wait()
		for range out {
		}
		if !closed {
			t.Error("the Sub was not closed")
		}
	})
}

// engine records what Stream attaches.
type engine struct{ feeds []Feed }

func (e *engine) Attach(f Feed) bool {
	e.feeds = append(e.feeds, f)
	return len(e.feeds) == 1
}

func TestStreamUnderAnEngine(t *testing.T) {
	q := NewQueue[int](Limit{}, nil)
	e := &engine{}
	out := Stream(WithFeeder(t.Context(), e), q, func(ev Event[int]) (int, error) {
		if ev.Value < 0 {
			return 0, errors.New("negative")
		}
		return ev.Value, nil
	})
	f := e.feeds[0]
	if _, state := f.Pull(); state != Empty {
		t.Errorf("state %v of an empty stream", state)
	}
	q.Push(Event[int]{Value: 1, Pos: Position{2, 3}, Gap: &Gap{Missed: 1}}, 1)
	push(q, -1)
	q.End(nil)
	item, state := f.Pull()
	if state != Fed || item.Pos != (Position{2, 3}) || item.Gap.Missed != 1 || !f.Taken() {
		t.Errorf("%+v %v, taken %t", item, state, f.Taken())
	}
	if err := f.Put(); err != nil || f.Taken() {
		t.Errorf("%v, taken %t", err, f.Taken())
	}
	if v := <-out; v != 1 || !f.Taken() {
		t.Errorf("got %d", v)
	}
	if item, state := f.Pull(); state != Fed || f.Put() == nil || !f.Taken() {
		t.Errorf("%+v %v: an event that fails goes past the channel", item, state)
	}
	if _, state := f.Pull(); state != Ended {
		t.Errorf("state %v", state)
	}
}

func TestEveryTicksWithoutDriftAndSkipsLateOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := Every(time.Second)
		defer s.Close()
		var woken atomic.Int32
		s.Wake(func() { woken.Add(1) })
		at := func() (ticks []time.Duration) {
			times, _, _ := drain(s)
			for _, tick := range times {
				ticks = append(ticks, tick.Sub(start))
			}
			return ticks
		}
		equal(t, "at once", at(), []time.Duration{0})
		time.Sleep(1500 * time.Millisecond)
		equal(t, "after one interval", at(), []time.Duration{time.Second})
		time.Sleep(3 * time.Second) // at 4.5 s, nobody has read
		equal(t, "the newest only", at(), []time.Duration{4 * time.Second})
		if n := woken.Load(); n != 3 {
			t.Errorf("woken %d times", n)
		}
	})
}

func TestCountEndsByItself(t *testing.T) {
	why := errors.New("why")
	synctest.Test(t, func(t *testing.T) {
		s := Count(time.Second, 3, func(i int) int { return 10 - i }, why)
		defer s.Close()
		var got []int
		for open := true; open; time.Sleep(time.Second) {
			var some []int
			some, _, open = drain(s)
			got = append(got, some...)
		}
		equal(t, "values", got, []int{10, 9, 8})
		if !errors.Is(s.Err(), why) {
			t.Errorf("ended with %v", s.Err())
		}
	})
}
