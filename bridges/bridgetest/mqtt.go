package bridgetest

import (
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bridges"
)

// What brokers with MQTT's topics do.

func (s *suite) overlap(t *testing.T) {
	b, root := s.open(t), s.topic()
	filters := map[string][]string{ // and what matches
		root + "/#":    {"", "/a", "/a/b", "/a/b/c", "/x/b"},
		root + "/+":    {"/a"},
		root + "/a/#":  {"/a", "/a/b", "/a/b/c"},
		root + "/+/b":  {"/a/b", "/x/b"},
		root + "/a/+":  {"/a/b"},
		root + "/a/b":  {"/a/b"},
		root + "/a":    {"/a"},
		root + "/+/+":  {"/a/b", "/x/b"},
		root + "/no/#": {},
	}
	readers := make(map[string]*Reader)
	for filter := range filters {
		readers[filter] = Subscribe(t, b, filter, bridges.AtMostOnce)
	}
	for _, topic := range []string{"", "/a", "/a/b", "/a/b/c", "/x/b"} {
		s.send(t, root+topic, topic)
	}
	for filter, topics := range filters {
		for _, topic := range topics {
			if ev := readers[filter].Want(topic); ev.Value.Topic != root+topic {
				t.Errorf("%s: topic %q, want %q", filter, ev.Value.Topic, root+topic)
			}
		}
	}
	// Whatever is too much comes before what was sent later.
	for filter, topic := range map[string]string{"/#": "/a", "/+": "/a", "/a/#": "/a", "/+/b": "/a/b", "/a/+": "/a/b", "/a/b": "/a/b", "/a": "/a", "/+/+": "/a/b", "/no/#": "/no"} {
		t.Run(filter, func(t *testing.T) {
			s.send(t, root+topic, "last "+filter)
			r := readers[root+filter]
			for got := ""; got != "last "+filter; {
				got = string(r.Next().Value.Payload)
				if got == topic {
					t.Errorf("a second copy of %q", topic)
				}
			}
		})
	}
}

func (s *suite) dollar(t *testing.T) {
	b, topic := s.open(t), s.topic()
	all := Subscribe(t, b, "#", bridges.AtMostOnce)
	first := Subscribe(t, b, "+/#", bridges.AtMostOnce)
	own := Subscribe(t, b, "$SYS/#", bridges.AtMostOnce)
	s.send(t, topic, "end")
	for _, r := range []*Reader{all, first} {
		for ev := r.Next(); string(ev.Value.Payload) != "end"; ev = r.Next() {
			if ev.Value.Topic[0] == '$' {
				t.Errorf("a wildcard in the first place matched %q", ev.Value.Topic)
			}
		}
	}
	if ev, ok := own.TryNext(0); ok && ev.Value.Topic[0] != '$' {
		t.Errorf("$SYS/# matched %q", ev.Value.Topic)
	}
}

func (s *suite) qos(t *testing.T) {
	b, topic := s.open(t), s.topic()
	readers := []*Reader{
		Subscribe(t, b, topic, bridges.ExactlyOnce),
		Subscribe(t, b, topic, bridges.AtLeastOnce),
		Subscribe(t, b, topic, bridges.AtMostOnce),
	}
	for sent := bridges.AtMostOnce; sent <= bridges.ExactlyOnce; sent++ {
		s.Publish(t, bridges.Publication{Topic: topic, Payload: []byte("x"), QoS: sent})
		for i, r := range readers {
			own := bridges.ExactlyOnce - bridges.QoS(i)
			if got, want := r.Next().Value.QoS, min(sent, own); got != want {
				t.Errorf("sent with QoS %d, subscribed with %d: told %d, want %d", sent, own, got, want)
			}
		}
	}
}

func (s *suite) highestQoS(t *testing.T) {
	b, topic := s.open(t), s.topic()
	low := Subscribe(t, b, topic, bridges.AtMostOnce)
	high := Subscribe(t, b, topic, bridges.AtLeastOnce)
	s.Publish(t, bridges.Publication{Topic: topic, Payload: []byte("x"), QoS: bridges.ExactlyOnce})
	wantQoS(t, low, bridges.AtMostOnce)
	wantQoS(t, high, bridges.AtLeastOnce)
}

func (s *suite) overlappingQoS(t *testing.T) {
	b, root := s.open(t), s.topic()
	exact := Subscribe(t, b, root+"/a", bridges.AtMostOnce)
	wild := Subscribe(t, b, root+"/+", bridges.AtLeastOnce)
	other := Subscribe(t, b, root+"/#", bridges.AtMostOnce)
	// The raise of the others is not waited for, so it may take a few.
	Eventually(t, "the subscriber of QoS 1 is told QoS 1", func() bool {
		s.send(t, root+"/a", "x")
		wantQoS(t, exact, bridges.AtMostOnce)
		wantQoS(t, other, bridges.AtMostOnce)
		return wild.Next().Value.QoS == bridges.AtLeastOnce
	})
}

func wantQoS(t *testing.T, r *Reader, want bridges.QoS) {
	t.Helper()
	if got := r.Next().Value.QoS; got != want {
		t.Errorf("told QoS %d, want %d", got, want)
	}
}

// retain publishes a retained message.
func (s *suite) retain(t *testing.T, topic, payload string) {
	t.Helper()
	s.Publish(t, bridges.Publication{Topic: topic, Payload: []byte(payload), QoS: bridges.AtLeastOnce, Retain: true})
}

// wantRetained checks the next message and its flag.
func wantRetained(t *testing.T, r *Reader, payload string, retained bool) {
	t.Helper()
	if ev := r.Want(payload); ev.Value.Retained != retained {
		t.Errorf("%q: retained is %v, want %v", payload, ev.Value.Retained, retained)
	}
}

func (s *suite) retainedFirst(t *testing.T) {
	b, topic := s.open(t), s.topic()
	s.retain(t, topic, "kept")
	t.Cleanup(func() { s.retain(t, topic, "") })
	r := Subscribe(t, b, topic, bridges.AtMostOnce)
	wantRetained(t, r, "kept", true)
	s.send(t, topic, "live")
	wantRetained(t, r, "live", false)
}

func (s *suite) retainedShared(t *testing.T) {
	b, topic := s.open(t), s.topic()
	s.retain(t, topic, "old")
	t.Cleanup(func() { s.retain(t, topic, "") })
	first := Subscribe(t, b, topic, bridges.AtMostOnce)
	wantRetained(t, first, "old", true)
	second := Subscribe(t, b, topic, bridges.AtLeastOnce)
	wantRetained(t, second, "old", true)

	s.retain(t, topic, "new")
	wantRetained(t, first, "new", false) // and "old" not a second time
	wantRetained(t, second, "new", false)
	third := Subscribe(t, b, topic, bridges.AtMostOnce)
	wantRetained(t, third, "new", true)

	s.retain(t, topic, "") // deletes
	for _, r := range []*Reader{first, second, third} {
		wantRetained(t, r, "", false)
	}
	fourth := Subscribe(t, b, topic, bridges.AtMostOnce)
	s.send(t, topic, "end")
	for _, r := range []*Reader{first, second, third, fourth} {
		wantRetained(t, r, "end", false)
	}
}

func (s *suite) retainedWildcard(t *testing.T) {
	b, root := s.open(t), s.topic()
	for _, level := range []string{"/a", "/b", "/c"} {
		s.retain(t, root+level, "kept")
		t.Cleanup(func() { s.retain(t, root+level, "") })
	}
	// One after the other, so that each newcomer sees the others' bursts.
	var readers []*Reader
	for range 3 {
		r := Subscribe(t, b, root+"/+", bridges.AtMostOnce)
		readers = append(readers, r)
		got := make(map[string]bool)
		for len(got) < 3 {
			ev := r.Want("kept")
			if !ev.Value.Retained || got[ev.Value.Topic] {
				t.Errorf("%q came as %+v", ev.Value.Topic, ev.Value)
			}
			got[ev.Value.Topic] = true
		}
	}
	s.send(t, root+"/d", "end")
	for _, r := range readers {
		wantRetained(t, r, "end", false)
	}
}

// IllFormedMQTT are filters and topics that break a rule of MQTT 3.1.1,
// section 4.7, or one of ours.
var IllFormedMQTT = []string{
	"",
	"#/a",
	"a/#/b",
	"a#",
	"a/b#",
	"+a",
	"a/+b",
	"a/b+/c",
	"##",
	"++",
	"a\x00b",
	"a\nb",
	"a\xff",
	"$share/group/a",
	strings.Repeat("a", 256),
	strings.Repeat("/", 32),
}
