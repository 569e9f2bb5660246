package bridges

import (
	"context"
	"slices"
	"sync"

	"github.com/sluice-gateway/sluice/internal/live"
)

// Named is a bridge by its name, and how it stands.
type Named struct {
	Name string
	Kind Kind
	Status
}

// States keeps how each bridge stands and tells who wants to know. The zero
// value is ready.
type States struct {
	mu    sync.Mutex
	all   []Named // in the order in which they were first set
	queue map[*live.Queue[Named]]struct{}
}

// Set records a bridge's state and tells it to every subscriber.
func (s *States) Set(name string, kind Kind, status Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := Named{Name: name, Kind: kind, Status: status}
	if i := slices.IndexFunc(s.all, func(n Named) bool { return n.Name == name }); i >= 0 {
		s.all[i] = now
	} else {
		s.all = append(s.all, now)
	}
	for q := range s.queue {
		q.Push(live.Event[Named]{Value: now}, 1)
	}
}

// List returns the states of all bridges.
func (s *States) List() []Named {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// Subscribe opens a stream of the present state of every bridge, then of each
// change.
func (s *States) Subscribe(context.Context) (live.Sub[Named], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var q *live.Queue[Named]
	// Set must not wait: a reader that is far behind learns it by a gap.
	q = live.NewQueue[Named](live.Limit{Events: 64, Stall: 1}, func() { s.forget(q) })
	for _, now := range s.all {
		q.Push(live.Event[Named]{Value: now}, 1)
	}
	if s.queue == nil {
		s.queue = make(map[*live.Queue[Named]]struct{})
	}
	s.queue[q] = struct{}{}
	return q, nil
}

func (s *States) forget(q *live.Queue[Named]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.queue, q)
}
