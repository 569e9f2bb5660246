package model

import (
	"slices"

	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/wire"
	"github.com/sluice-gateway/sluice/labs/sessions"
	"github.com/sluice-gateway/sluice/lessons"
)

// LabSession is a lab session as its owner is told of it.
type LabSession struct {
	*sessions.Session
	// Base is how the client reached the gateway: ws://host:port.
	Base string
	// Own is the name of the server that its lesson uses.
	Own string
	// Verdicts says how far its exercise is.
	Verdicts func() []lessons.Verdict
	Locale   Locale
	// Seal makes the cursor of an event's number.
	Seal func(number uint64) string
}

// Lesson is the slug of the lesson that it is for.
func (s LabSession) Lesson() *string {
	if s.Session.Lesson == "" {
		return nil
	}
	return &s.Session.Lesson
}

// Servers lists where its servers are, that of its lesson first.
func (s LabSession) Servers() []LabServer {
	names := s.Doors()
	slices.SortStableFunc(names, func(a, b string) int {
		switch s.Own {
		case a:
			return -1
		case b:
			return 1
		}
		return 0
	})
	list := make([]LabServer, len(names))
	for i, name := range names {
		list[i] = LabServer{Name: name, URL: s.URL(s.Base, name)}
	}
	return list
}

// Steps says how far its exercise is.
func (s LabSession) Steps() []StepState {
	list := []StepState{}
	for _, v := range s.Verdicts() {
		list = append(list, NewStepState(v, s.Locale))
	}
	return list
}

// Counts is what was seen so far.
func (s LabSession) Counts() WireCounts {
	c := s.Transcript.Counts()
	return WireCounts{
		Connections: int(c.Conns), Open: c.Open, Problems: int(c.Problems),
		FramesToServer: int(c.Frames[wire.ToServer]), FramesToClient: int(c.Frames[wire.ToClient]),
	}
}

// maxEvents is how many events one answer holds.
const maxEvents = 500

// Events lists the newest events.
func (s LabSession) Events(last int) ([]WireEvent, error) {
	if last < 1 || last > maxEvents {
		return nil, live.Errorf("ARGUMENT_OUT_OF_RANGE", "last is %d: 1 to %d is accepted.", last, maxEvents)
	}
	kept := s.Last(last)
	list := make([]WireEvent, len(kept))
	for i, e := range kept {
		list[i] = NewWireEvent(e, s.Seal)
	}
	return list, nil
}
