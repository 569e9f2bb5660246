package live

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// acks counts how often the Done of each event was called.
type acks struct {
	mu     sync.Mutex
	counts []int
}

// event makes the next event; its value is its number.
func (a *acks) event() Event[int] {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := len(a.counts)
	a.counts = append(a.counts, 0)
	return Event[int]{Value: i, Done: func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.counts[i]++
	}}
}

func (a *acks) want(t *testing.T, when string, counts ...int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	equal(t, when+": calls of Done", a.counts, counts)
}

func TestQueueLeavesDoneToWhoTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a acks
		q := NewQueue[int](Limit{}, nil)
		q.Push(a.event(), 1)
		q.Push(a.event(), 1)
		var one [1]Event[int]
		q.Next(one[:])
		a.want(t, "taken", 0, 0)
		one[0].Done()
		a.want(t, "done", 1, 0)
		q.Close()
		a.want(t, "closed", 1, 1)
		time.Sleep(time.Hour)
		a.want(t, "much later", 1, 1)
	})
}

func TestQueueIsDoneWithWhatItRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, q := range map[string]*Queue[int]{
			"ended":  NewQueue[int](Limit{}, nil),
			"closed": NewQueue[int](Limit{}, nil),
			"full":   NewQueue[int](Limit{Events: 1}, nil),
		} {
			switch name {
			case "ended":
				q.End(nil)
			case "closed":
				q.Close()
			default:
				push(q, 7)
			}
			var a acks
			if q.Push(a.event(), 1) {
				t.Errorf("a queue that is %s took an event", name)
			}
			a.want(t, name, 1)
		}
	})
}

func TestQueueIsDoneWithWhatAStuckReaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a acks
		q := NewQueue[int](Limit{Stall: time.Second}, nil)
		defer q.Close()
		q.Push(a.event(), 1)
		q.Push(a.event(), 1)
		time.Sleep(time.Second - 1)
		a.want(t, "within Stall", 0, 0)
		time.Sleep(time.Second)
		a.want(t, "after Stall", 1, 1)
		q.Push(a.event(), 1)
		a.want(t, "the reader is known to be stuck", 1, 1, 1)

		events := make([]Event[int], 4)
		if n, _ := q.Next(events); n != 3 {
			t.Errorf("%d events were left, want all 3", n)
		}
		for _, ev := range events[:3] {
			if ev.Done != nil {
				t.Errorf("event %d is given twice to be done with", ev.Value)
			}
		}
		q.Push(a.event(), 1)
		time.Sleep(time.Second - 1)
		a.want(t, "the reader moves again", 1, 1, 1, 0)
	})
}

func TestQueueWaitsWithDoneForAReaderWhoMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a acks
		q := NewQueue[int](Limit{Stall: time.Second}, nil)
		defer q.Close()
		for range 5 {
			q.Push(a.event(), 1)
		}
		var one [1]Event[int]
		for range 4 {
			time.Sleep(900 * time.Millisecond)
			q.Next(one[:])
			one[0].Done()
		}
		a.want(t, "the last one waits for a slow reader", 1, 1, 1, 1, 0)
	})
}

func TestHubIsDoneOnceAllAre(t *testing.T) {
	for n := range 4 {
		t.Run(fmt.Sprintf("to=%d", n), func(t *testing.T) {
			hub := NewHub(HubConfig[string, int]{Open: func(context.Context, string) (func(), error) { return func() {}, nil }})
			defer hub.Close()
			queues := make([]*Queue[int], n)
			for i := range queues {
				var err error
				if queues[i], err = hub.Subscribe(t.Context(), "a"); err != nil {
					t.Fatal(err)
				}
			}
			var a acks
			hub.Publish("a", a.event())
			for i, q := range queues {
				a.want(t, "not yet all", 0)
				if i == 1 {
					q.Close() // is done, too
					continue
				}
				var one [1]Event[int]
				q.Next(one[:])
				one[0].Done()
			}
			a.want(t, "all", 1)
		})
	}
}

// Whatever a reader, Close and a full queue do at the same time, Done is called
// once for each event.
func TestDoneIsCalledOnceUnderChurn(t *testing.T) {
	hub := NewHub(HubConfig[string, int]{
		Open:  func(context.Context, string) (func(), error) { return func() {}, nil },
		Limit: Limit{Events: 2, Stall: 50 * time.Microsecond},
	})
	const events = 2000
	var calls [events]atomic.Int32
	var work sync.WaitGroup
	over := make(chan struct{})
	for range 4 {
		work.Go(func() {
			for {
				q, err := hub.Subscribe(t.Context(), "a")
				if err != nil {
					t.Errorf("Subscribe: %v", err)
					return
				}
				var buf [3]Event[int]
				for range 20 {
					n, _ := q.Next(buf[:])
					for _, ev := range buf[:n] {
						if ev.Done != nil {
							ev.Done()
						}
					}
				}
				q.Close()
				select {
				case <-over:
					return
				default:
				}
			}
		})
	}
	for i := range calls {
		hub.Publish("a", Event[int]{Done: func() { calls[i].Add(1) }})
	}
	close(over)
	work.Wait()
	hub.Close()
	for i := range calls {
		if n := calls[i].Load(); n != 1 {
			t.Errorf("Done of event %d was called %d times", i, n)
		}
	}
}

func TestStreamIsDoneWithEachEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a acks
		q := NewQueue[int](Limit{}, nil)
		q.Push(a.event(), 1)
		q.Push(a.event(), 1)
		q.Push(a.event(), 1)
		q.Push(a.event(), 1)
		ctx, cancel := context.WithCancel(t.Context())
		out := Stream(ctx, q, func(ev Event[int]) (int, error) {
			if ev.Value == 1 {
				return 0, errors.New("cannot be converted")
			}
			return ev.Value, nil
		})
		synctest.Wait()
		a.want(t, "nobody reads: one is in the channel, one waits for it", 1, 1, 0, 0)
		cancel()
		synctest.Wait()
		a.want(t, "given up", 1, 1, 1, 1)
		<-out
	})
}
