package graph

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/graph/model"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/labs/chaos"
)

// ChaosTopic is the topic of the cursors of a chaos server's events.
func ChaosTopic(e *chaos.Events) string { return "chaos/" + e.ID() }

// chaosServer finds the server of a session, or the one without.
func (r *Resolver) chaosServer(session *string) (*chaos.Server, error) {
	servers, err := r.Labs.Servers(session)
	if err != nil {
		return nil, err
	}
	return servers.Chaos, nil
}

// chaosState has something done to a server and tells how it stands then.
func (r *Resolver) chaosState(session *string, do func(*chaos.Server) error) (model.ChaosState, error) {
	s, err := r.chaosServer(session)
	if err != nil {
		return model.ChaosState{}, err
	}
	if err := do(s); err != nil {
		var invalid *chaos.InvalidError
		if errors.As(err, &invalid) {
			return model.ChaosState{}, live.Errorf("ARGUMENT_OUT_OF_RANGE", "%v.", invalid)
		}
		return model.ChaosState{}, err
	}
	return model.NewChaosState(s, r.sealChaos(s.Events())(live.Position{Lo: s.Events().Last()})), nil
}

// optional is a number within its bounds, or 0 when none is given.
func optional(name string, value *int, low, high int) (int, error) {
	if value == nil {
		return 0, nil
	}
	return *value, checkRange(name, *value, low, high)
}

// sealChaos makes the cursors of a server's events.
func (r *Resolver) sealChaos(e *chaos.Events) func(live.Position) string {
	return func(p live.Position) string { return r.Cursors.Seal(ChaosTopic(e), p) }
}

// watchChaos opens the stream of a server's events behind a cursor, if it is not
// empty, and says how to tell them.
func (r *Resolver) watchChaos(ctx context.Context, session *string, cursor string) (live.Sub[chaos.Event], func(live.Event[chaos.Event]) (model.ChaosEvent, error), error) {
	s, err := r.chaosServer(session)
	if err != nil {
		return nil, nil, err
	}
	events := s.Events()
	sub := &chaosSub{events: events, cursor: r.sealChaos(events), start: events.Last()}
	if cursor != "" {
		after, err := r.Cursors.Open(ctx, ChaosTopic(events), cursor)
		if err != nil {
			return nil, nil, err
		}
		sub.start, sub.resumed = after.Lo, true
	}
	sub.pos = sub.start
	return sub, func(ev live.Event[chaos.Event]) (model.ChaosEvent, error) {
		return model.ChaosEvent{Event: ev.Value, Cursor: sub.cursor(ev.Pos)}, nil
	}, nil
}

// chaosSub is a stream of a server's events, read from where they are kept: it
// holds nothing itself and has no goroutine. One that falls behind what is kept
// ends with live.CodeCursorTooOld if it came with a cursor, else it is told by a gap.
type chaosSub struct {
	events  *chaos.Events
	cursor  func(live.Position) string
	start   uint64
	resumed bool

	mu     sync.Mutex
	pos    uint64
	err    error
	closed bool
	stop   func() // of following
}

var _ live.Kept = (*chaosSub)(nil)

// Next implements live.Sub.
func (s *chaosSub) Next(buf []live.Event[chaos.Event]) (n int, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.err != nil {
		return 0, false
	}
	found := make([]chaos.Event, min(len(buf), live.PageEvents))
	n, open = s.events.After(s.pos, found)
	for i, e := range found[:n] {
		buf[i] = live.Event[chaos.Event]{Value: e, Pos: live.Position{Lo: e.Seq}}
	}
	if n == 0 {
		return n, open
	}
	if missed := found[0].Seq - s.pos - 1; missed > 0 {
		if s.resumed {
			s.err = live.TooOld(s.cursor(live.Position{Lo: found[0].Seq - 1}))
			return 0, false
		}
		buf[0].Gap = &live.Gap{Reason: live.GapOverflow, Missed: missed, LastGood: time.Time{}}
	}
	s.pos = found[n-1].Seq
	return n, open
}

// Wake implements live.Sub.
func (s *chaosSub) Wake(wake func()) {
	stop := s.events.Follow(wake)
	s.mu.Lock()
	if s.stop != nil {
		s.stop()
	}
	s.stop = stop
	if s.closed {
		stop()
	}
	_, open := s.events.After(s.pos, nil)
	news := !open || s.events.Last() > s.pos || s.err != nil
	s.mu.Unlock()
	if news {
		wake()
	}
}

// Err implements live.Sub.
func (s *chaosSub) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close implements live.Sub.
func (s *chaosSub) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.stop != nil {
		s.stop()
	}
}

// Start implements live.Kept.
func (s *chaosSub) Start() (live.Position, bool) { return live.Position{Lo: s.start}, true }

// Near implements live.Kept.
func (s *chaosSub) Near() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.events.Last()-s.pos <= live.PageEvents
}

// Cursor implements live.Kept.
func (s *chaosSub) Cursor(p live.Position) string { return s.cursor(p) }
