package live

import (
	"context"
	"fmt"
	"testing"
)

// One event through a queue whose consumer sleeps in between: with its wake.
func BenchmarkQueue(b *testing.B) {
	b.ReportAllocs()
	q := NewQueue[int](Limit{}, nil)
	defer q.Close()
	q.Wake(func() {})
	var buf [1]Event[int]
	for b.Loop() {
		q.Push(Event[int]{Value: 1}, 256)
		for n := 1; n > 0; {
			n, _ = q.Next(buf[:])
		}
	}
}

// 64 events waiting at once, taken together; the figure is for all of them.
func BenchmarkQueueOf64(b *testing.B) {
	b.ReportAllocs()
	q := NewQueue[int](Limit{}, nil)
	defer q.Close()
	q.Wake(func() {})
	var buf [64]Event[int]
	for b.Loop() {
		for range buf {
			q.Push(Event[int]{Value: 1}, 256)
		}
		for n := 1; n > 0; {
			n, _ = q.Next(buf[:])
		}
	}
}

// One event from a source to n subscribers, who take it.
func BenchmarkHubPublish(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("to=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			hub := NewHub(HubConfig[string, int]{Open: func(context.Context, string) (func(), error) { return func() {}, nil }})
			defer hub.Close()
			queues := make([]*Queue[int], n)
			for i := range queues {
				q, err := hub.Subscribe(b.Context(), "topic")
				if err != nil {
					b.Fatal(err)
				}
				q.Wake(func() {})
				queues[i] = q
			}
			var buf [1]Event[int]
			for b.Loop() {
				if hub.Publish("topic", Event[int]{Value: 1}) != n {
					b.Fatal("not everybody got it")
				}
				for _, q := range queues {
					for n := 1; n > 0; {
						n, _ = q.Next(buf[:])
					}
				}
			}
		})
	}
}

// Subscribers of one topic come, then go; the figure is for all of them.
func BenchmarkHubComeAndGo(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			hub := NewHub(HubConfig[string, int]{Open: func(context.Context, string) (func(), error) { return func() {}, nil }})
			defer hub.Close()
			queues := make([]*Queue[int], n)
			for b.Loop() {
				for i := range queues {
					queues[i], _ = hub.Subscribe(b.Context(), "topic")
				}
				for _, q := range queues {
					q.Close()
				}
			}
		})
	}
}

// An event through the channel of a resolver, fed by an engine.
func BenchmarkFeed(b *testing.B) {
	b.ReportAllocs()
	q := NewQueue[int](Limit{}, nil)
	var feeder attached
	out := Stream(WithFeeder(b.Context(), &feeder), q, Value)
	defer feeder.Close()
	for b.Loop() {
		q.Push(Event[int]{Value: 1}, 256)
		if _, state := feeder.Pull(); state != Fed {
			b.Fatal(state)
		}
		if err := feeder.Put(); err != nil {
			b.Fatal(err)
		}
		<-out
	}
}

// attached is a Feeder that keeps what attaches.
type attached struct{ Feed }

func (a *attached) Attach(f Feed) bool {
	a.Feed = f
	return true
}
