// Package bridgetest is the behaviour that every bridge shows, as one suite:
// against memory, embedded and real brokers alike.
package bridgetest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
)

// Subject is a bridge under test and what the suite may do around it. Optional
// parts are zero where a broker has no such thing; their tests are then left
// out. Each test opens a bridge of its own and uses topics of its own, so one
// broker serves the whole suite.
type Subject struct {
	// Open makes a bridge to the broker, with Linger as its grace. The suite
	// waits for it to connect where it matters, and closes it.
	Open func(t testing.TB) bridges.Bridge
	// Linger is how long the bridge keeps an upstream that nobody uses: short,
	// so that the suite can wait for it.
	Linger time.Duration
	// Publish sends a message by a client that is not the bridge, and returns
	// once the broker has it. QoS and Retain mean nothing to some brokers.
	Publish func(t testing.TB, p bridges.Publication)

	// IllFormed are topics that must be refused with TOPIC_INVALID.
	IllFormed []string
	// Wildcards: filters with "+" and "#" are understood (MQTT).
	Wildcards bool
	// Retained: the broker keeps retained messages (MQTT).
	Retained bool
	// QoS: the broker delivers with a quality of service (MQTT).
	QoS bool
	// Receivers: the broker says how many received a publication (Redis).
	Receivers bool
	// Stop takes the broker away, as a crash would; Start brings it back on
	// the same address. Both nil: the broker cannot go away.
	Stop, Start func(t testing.TB)
}

// Run runs the suite.
func Run(t *testing.T, subject Subject) {
	t.Helper()
	s := &suite{Subject: subject}
	tests := []struct {
		name string
		run  func(*testing.T)
		when bool
	}{
		{"messages arrive in order", s.order, true},
		{"several subscribers get one copy each", s.fanOut, true},
		{"one upstream however many subscribe", s.sharedUpstream, true},
		{"an upstream outlives its last subscriber by the linger", s.linger, true},
		{"subscribers come and go", s.churn, true},
		{"payloads are carried as they are", s.payloads, true},
		{"an ill-formed topic is refused and harms nobody", s.illFormed, true},
		{"the bridge publishes", s.publish, true},
		{"Close ends subscriptions", s.close, true},
		{"overlapping filters", s.overlap, s.Wildcards},
		{"topics that begin with a dollar sign", s.dollar, s.Wildcards},
		{"QoS is the lower of the two", s.qos, s.QoS},
		{"the highest QoS is asked upstream", s.highestQoS, s.QoS},
		{"the highest QoS of overlapping filters is asked upstream", s.overlappingQoS, s.QoS && s.Wildcards},
		{"retained to the first subscriber", s.retainedFirst, s.Retained},
		{"retained to later subscribers of a shared upstream", s.retainedShared, s.Retained},
		{"retained to newcomers of a wildcard", s.retainedWildcard, s.Retained && s.Wildcards},
		{"a broker that is away at the start", s.awayAtStart, s.Stop != nil},
		{"a broker that is killed and comes back", s.outage, s.Stop != nil},
	}
	for _, test := range tests {
		if test.when {
			t.Run(test.name, test.run)
		}
	}
}

// suite is a Subject and the topics that its tests have used.
type suite struct {
	Subject
	used int
}

// topic returns a topic that no other test uses.
func (s *suite) topic() string {
	s.used++
	return fmt.Sprintf("bridgetest/%d", s.used)
}

// open returns a connected bridge.
func (s *suite) open(t *testing.T) bridges.Bridge {
	t.Helper()
	b := s.openAway(t)
	WaitConnected(t, b)
	return b
}

// openAway returns a bridge whose broker may be away.
func (s *suite) openAway(t *testing.T) bridges.Bridge {
	t.Helper()
	b := s.Open(t)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return b
}

// send publishes text from outside the bridge and waits until the broker has
// it.
func (s *suite) send(t *testing.T, topic, payload string) {
	t.Helper()
	s.Publish(t, bridges.Publication{Topic: topic, Payload: []byte(payload), QoS: bridges.AtLeastOnce})
}

func (s *suite) order(t *testing.T) {
	b, topic := s.open(t), s.topic()
	before := time.Now()
	r := Subscribe(t, b, topic, bridges.AtMostOnce)
	const n = 100
	for i := range n {
		s.send(t, topic, fmt.Sprint(i))
	}
	for i := range n {
		ev := r.Want(fmt.Sprint(i))
		if ev.Value.Topic != topic {
			t.Errorf("topic %q, want %q", ev.Value.Topic, topic)
		}
		if ev.Gap != nil {
			t.Errorf("message %d carries the gap %+v, want none", i, *ev.Gap)
		}
		if at := ev.Value.ReceivedAt; at.Before(before) || at.After(time.Now()) {
			t.Errorf("message %d was received at %v, want a time since %v", i, at, before)
		}
	}
}

func (s *suite) fanOut(t *testing.T) {
	b, topic := s.open(t), s.topic()
	readers := make([]*Reader, 5)
	for i := range readers {
		readers[i] = Subscribe(t, b, topic, bridges.AtMostOnce)
	}
	s.send(t, topic, "one")
	s.send(t, topic, "two")
	for _, r := range readers {
		r.Want("one")
		r.Want("two")
	}
	readers[0].Close()
	s.send(t, topic, "three")
	for _, r := range readers[1:] {
		r.Want("three")
	}
}

func (s *suite) sharedUpstream(t *testing.T) {
	b, topic, other := s.open(t), s.topic(), s.topic()
	for range 10 {
		Subscribe(t, b, topic, bridges.AtMostOnce)
	}
	Subscribe(t, b, other, bridges.AtMostOnce)
	got := b.Upstreams()
	slices.Sort(got)
	want := []string{topic, other}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("Upstreams() = %q, want %q", got, want)
	}
}

func (s *suite) linger(t *testing.T) {
	b, topic := s.open(t), s.topic()
	first := Subscribe(t, b, topic, bridges.AtMostOnce)
	second := Subscribe(t, b, topic, bridges.AtMostOnce)
	first.Close()
	first.Close() // twice is once
	s.send(t, topic, "one left")
	second.Want("one left")

	left := time.Now()
	second.Close()
	Eventually(t, "the upstream is gone", func() bool { return len(b.Upstreams()) == 0 })
	if after := time.Since(left); after < s.Linger {
		t.Errorf("the upstream was gone after %v, want no less than %v", after, s.Linger)
	}

	again := Subscribe(t, b, topic, bridges.AtMostOnce)
	s.send(t, topic, "back")
	again.Want("back")
}

// churn has subscribers race with the end of the linger, and looks at what is
// left.
func (s *suite) churn(t *testing.T) {
	b := s.open(t)
	topics := make([]string, 4)
	for i := range topics {
		topics[i] = s.topic()
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var work sync.WaitGroup
	for i := range 8 {
		chance := rand.New(rand.NewPCG(seed, uint64(i)))
		work.Go(func() {
			for range 25 {
				sub, err := b.Subscribe(t.Context(), topics[chance.IntN(len(topics))], bridges.QoS(chance.IntN(3)))
				if err != nil {
					t.Errorf("Subscribe: %v", err)
					return
				}
				if chance.IntN(2) == 0 { // at times outlive the linger of the others
					pause := time.NewTimer(time.Duration(chance.Int64N(int64(2*s.Linger) + 1)))
					<-pause.C
				}
				sub.Close()
			}
		})
	}
	work.Wait()
	Eventually(t, "no upstream is left", func() bool { return len(b.Upstreams()) == 0 })

	r := Subscribe(t, b, topics[0], bridges.AtMostOnce)
	s.send(t, topics[0], "one")
	s.send(t, topics[0], "two")
	r.Want("one")
	r.Want("two")
}

func (s *suite) payloads(t *testing.T) {
	b, topic := s.open(t), s.topic()
	r := Subscribe(t, b, topic, bridges.AtMostOnce)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, payload := range [][]byte{
		{},
		{0},
		all,
		[]byte("\xff\xfe is not UTF-8"),
		[]byte(`{"text": "日本語"}`),
		bytes.Repeat(all, 256), // 64 KiB
	} {
		s.Publish(t, bridges.Publication{Topic: topic, Payload: payload, QoS: bridges.AtLeastOnce})
		if got := r.Next().Value.Payload; !bytes.Equal(got, payload) {
			t.Errorf("payload of %d bytes %.20q, want %d bytes %.20q", len(got), got, len(payload), payload)
		}
	}
}

func (s *suite) illFormed(t *testing.T) {
	b, topic := s.open(t), s.topic()
	r := Subscribe(t, b, topic, bridges.AtMostOnce)
	for _, bad := range s.IllFormed {
		sub, err := b.Subscribe(t.Context(), bad, bridges.AtMostOnce)
		if sub != nil {
			sub.Close()
		}
		wantCode(t, fmt.Sprintf("Subscribe(%q)", bad), err, bridges.CodeTopicInvalid)
		_, err = b.Publish(t.Context(), bridges.Publication{Topic: bad})
		wantCode(t, fmt.Sprintf("Publish to %q", bad), err, bridges.CodeTopicInvalid)
	}
	s.send(t, topic, "still here")
	if ev := r.Want("still here"); ev.Gap != nil {
		t.Errorf("an ill-formed topic cost the others a gap: %+v", *ev.Gap)
	}
}

func (s *suite) publish(t *testing.T) {
	b, topic := s.open(t), s.topic()
	r := Subscribe(t, b, topic, bridges.ExactlyOnce)
	for qos := bridges.AtMostOnce; qos <= bridges.ExactlyOnce; qos++ {
		before := time.Now()
		receipt, err := b.Publish(t.Context(), bridges.Publication{Topic: topic, Payload: []byte("hello"), QoS: qos})
		if err != nil {
			t.Fatalf("Publish with QoS %d: %v", qos, err)
		}
		if receipt.AcknowledgedAt.Before(before) {
			t.Errorf("acknowledged at %v, before it was sent at %v", receipt.AcknowledgedAt, before)
		}
		want := -1
		if s.Receivers {
			want = 1
		}
		if receipt.Receivers != want {
			t.Errorf("%d receivers, want %d", receipt.Receivers, want)
		}
		r.Want("hello")
	}
}

func (s *suite) close(t *testing.T) {
	b, topic := s.open(t), s.topic()
	r := Subscribe(t, b, topic, bridges.AtMostOnce)
	if err := b.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if err := r.Ended(); !errors.Is(err, live.ErrHubClosed) {
		t.Errorf("the subscription ended with %v, want %v", err, live.ErrHubClosed)
	}
	if _, err := b.Subscribe(t.Context(), topic, bridges.AtMostOnce); !errors.Is(err, live.ErrHubClosed) {
		t.Errorf("Subscribe after Close: %v, want %v", err, live.ErrHubClosed)
	}
	if _, err := b.Publish(t.Context(), bridges.Publication{Topic: topic}); err == nil {
		t.Error("Publish after Close: no error")
	}
	if up := b.Upstreams(); len(up) > 0 {
		t.Errorf("Upstreams() after Close = %q", up)
	}
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	var told *live.Error
	if !errors.As(err, &told) || told.Code != code {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}
