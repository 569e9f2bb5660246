package model

import (
	"maps"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/labs/chaos"
)

// ChaosEvent is a fault as a subscriber is told of it.
type ChaosEvent struct {
	chaos.Event
	Cursor string
}

// Number is the event's number.
func (e ChaosEvent) Number() int { return int(e.Seq) }

// Run is the run that it happened in.
func (e ChaosEvent) Run() int { return int(e.Event.Run) }

// Connection is its number; nil: all of them.
func (e ChaosEvent) Connection() *int { return known(e.Event.Connection) }

// Message is its number; nil: none.
func (e ChaosEvent) Message() *int { return known(e.Event.Message) }

// DelayMs is how long it takes; nil: it is about no time.
func (e ChaosEvent) DelayMs() *int { return known(e.Event.DelayMs) }

// Byte is what was changed; nil: nothing.
func (e ChaosEvent) Byte() *ChaosByte {
	if e.Event.Byte == nil {
		return nil
	}
	return &ChaosByte{At: e.Event.Byte.At, From: int(e.Event.Byte.From), To: int(e.Event.Byte.To)}
}

// known is a number, or nil for 0.
func known[N uint64 | int64](n N) *int {
	if n == 0 {
		return nil
	}
	i := int(n)
	return &i
}

// NewChaosState tells how a server stands. cursor names its newest event.
func NewChaosState(s *chaos.Server, cursor string) ChaosState {
	state, counts := s.State(), s.Events().Counts()
	told := ChaosState{
		Faults: state.Faults, Seed: int(state.Seed), Run: int(state.Run), Connections: int(state.Connections), Open: state.Open,
		SilentUntil: orNil(state.SilentUntil), Counts: make([]ChaosCount, 0, len(counts)), Cursor: cursor,
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		told.Counts = append(told.Counts, ChaosCount{Fault: name, Times: int(counts[name])})
	}
	return told
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
