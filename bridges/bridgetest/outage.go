package bridgetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
)

// resumeWithin is the promise: delivery goes on within this time of the
// broker's accepting connections.
const resumeWithin = 5 * time.Second

func (s *suite) awayAtStart(t *testing.T) {
	topic := s.topic()
	s.Stop(t)
	t.Cleanup(func() { s.Start(t) }) // for the tests that follow, should this one fail
	b := s.openAway(t)

	r := Subscribe(t, b, topic, bridges.AtMostOnce) // is accepted
	s.publishFails(t, b, topic)
	if up := b.Status(); up.State != bridges.Connecting {
		t.Errorf("Status() = %+v while the broker is away, want %s", up, bridges.Connecting)
	}

	s.Start(t)
	ev := s.resume(t, r, topic)
	wantOutage(t, ev)
	if up := b.Status(); up.State != bridges.Connected {
		t.Errorf("Status() = %+v while messages arrive, want %s", up, bridges.Connected)
	}
}

func (s *suite) outage(t *testing.T) {
	b, topic := s.open(t), s.topic()
	t.Cleanup(func() { s.Start(t) })
	r := Subscribe(t, b, topic, bridges.AtLeastOnce)
	s.send(t, topic, "before")
	r.Want("before")
	connected := b.Status()

	s.Stop(t)
	Eventually(t, "the bridge has noticed", func() bool { return b.Status().State == bridges.Connecting })
	if lost := b.Status(); lost.Since.Before(connected.Since) {
		t.Errorf("connecting since %v, before it was connected at %v", lost.Since, connected.Since)
	}
	s.publishFails(t, b, topic)
	during := Subscribe(t, b, topic, bridges.AtMostOnce)

	s.Start(t)
	wantOutage(t, s.resume(t, r, topic))
	wantOutage(t, during.Next())
	after := Subscribe(t, b, topic, bridges.AtMostOnce)
	s.send(t, topic, "after")
	for name, reader := range map[string]*Reader{"old": r, "made during the outage": during, "new": after} {
		ev := reader.Next()
		for string(ev.Value.Payload) != "after" { // what resume sent
			ev = reader.Next()
		}
		if ev.Gap != nil {
			t.Errorf("the %s subscription has a gap again: %+v", name, *ev.Gap)
		}
	}
}

// publishFails checks that a publication fails, and soon.
func (s *suite) publishFails(t *testing.T, b bridges.Bridge, topic string) {
	t.Helper()
	began := time.Now()
	_, err := b.Publish(t.Context(), bridges.Publication{Topic: topic, QoS: bridges.AtLeastOnce})
	wantCode(t, "Publish while the broker is away", err, bridges.CodeUpstreamUnavailable)
	if took := time.Since(began); took > bridges.PublishTimeout+time.Second {
		t.Errorf("Publish took %v to fail, want at most %v", took, bridges.PublishTimeout)
	}
}

// resume publishes until something arrives, and returns that.
func (s *suite) resume(t *testing.T, r *Reader, topic string) live.Event[*bridges.Message] {
	t.Helper()
	began := time.Now()
	for i := 0; time.Since(began) < resumeWithin; i++ {
		s.send(t, topic, fmt.Sprint("try ", i))
		if ev, ok := r.TryNext(50 * time.Millisecond); ok {
			return ev
		}
	}
	t.Fatalf("nothing delivered %v after the broker came back", resumeWithin)
	return live.Event[*bridges.Message]{}
}

func wantOutage(t *testing.T, ev live.Event[*bridges.Message]) {
	t.Helper()
	switch gap := ev.Gap; {
	case gap == nil:
		t.Errorf("the first message after an outage carries no gap")
	case gap.Reason != live.GapOutage:
		t.Errorf("the gap is %+v, want the reason %s", *gap, live.GapOutage)
	case gap.LastGood.After(time.Now()):
		t.Errorf("the stream was last whole at %v, which is yet to come", gap.LastGood)
	}
}
