package sessions

import (
	"context"

	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/wire"
)

// Watch is the stream of a session's wire events: those after a position, or
// without one those to come. It ends with CodeUnknown once the session has ended
// and all was read, and with live.CodeCursorTooOld when events behind the
// position are not kept any more.
func (s *Sessions) Watch(ctx context.Context, id string, after *live.Position) (live.Sub[wire.Event], error) {
	one, err := s.Find(id)
	if err != nil {
		return nil, err
	}
	return s.tail.Subscribe(ctx, one, after)
}

// Position is where an event stands in its session.
func Position(e wire.Event) live.Position { return live.Position{Lo: e.Seq} }

// Last returns the newest events, at most n, oldest first.
func (one *Session) Last(n int) []wire.Event {
	events := make([]wire.Event, n)
	before := one.Transcript.Counts().Events
	kept, _ := one.Transcript.After(before-min(before, uint64(n)), events)
	return events[:kept]
}

// archive is the transcripts as a live.Archive.
type archive struct{ of *Sessions }

// Read implements live.Archive.
func (a archive) Read(_ context.Context, one *Session, after live.Position, limit int) ([]live.Event[wire.Event], error) {
	found := make([]wire.Event, limit)
	n, open := one.Transcript.After(after.Lo, found)
	if n == 0 && !open {
		return nil, errEnded
	}
	if n > 0 && found[0].Seq != after.Lo+1 {
		return nil, &live.Trimmed{Through: live.Position{Lo: found[0].Seq - 1}}
	}
	if !open {
		a.of.tail.Grown(one) // the next read tells that it has ended
	}
	events := make([]live.Event[wire.Event], n)
	for i, e := range found[:n] {
		events[i] = live.Event[wire.Event]{Value: e, Pos: Position(e)}
	}
	return events, nil
}

// Head implements live.Archive.
func (archive) Head(_ context.Context, one *Session) (live.Position, error) {
	return live.Position{Lo: one.Transcript.Counts().Events}, nil
}
