package mqttbridge

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/bridges/bridgetest"
	"github.com/sluice-gateway/sluice/internal/live"
)

func TestParseURL(t *testing.T) {
	for in, want := range map[string]string{
		"mqtt://broker":                "mqtt://broker:1883",
		"tcp://10.0.0.1:1884":          "tcp://10.0.0.1:1884",
		"mqtts://broker":               "mqtts://broker:8883",
		"ssl://broker":                 "ssl://broker:8883",
		"ws://broker/mqtt":             "ws://broker:80/mqtt",
		"wss://me:secret@broker/mqtt":  "wss://me:xxxxx@broker:443/mqtt",
		"mqtt://[::1]":                 "mqtt://[::1]:1883",
		"MQTT://me:s%40cret@broker:99": "mqtt://me:xxxxx@broker:99",
	} {
		u, err := parseURL(in)
		if err != nil {
			t.Errorf("parseURL(%q): %v", in, err)
		} else if u.Redacted() != want {
			t.Errorf("parseURL(%q) = %s, want %s", in, u.Redacted(), want)
		}
	}
}

func TestParseURLSaysWhatIsAcceptedAndNoPassword(t *testing.T) {
	for _, in := range []string{
		"",
		"broker",
		"broker:1883",
		"me:secret@broker:1883",
		"http://me:secret@broker",
		"mqtt://me:secret@",
		"mqtt://me:secret@broker:port",
		"mqtt://me:sec%zzret@broker",
		"mqtt://me:secret@bro ker",
		"mqtt:me:secret@broker",
	} {
		_, err := parseURL(in)
		if err == nil {
			t.Errorf("parseURL(%q) gave no error", in)
			continue
		}
		if !strings.Contains(err.Error(), "mqtt://[user:password@]host[:port]") {
			t.Errorf("parseURL(%q): %v: does not say what is accepted", in, err)
		}
		if strings.Contains(err.Error(), "sec") {
			t.Errorf("parseURL(%q): %v: shows the password", in, err)
		}
	}
}

func message(qos bridges.QoS, payload string) item {
	return item{message: &bridges.Message{Topic: "t", QoS: qos, Payload: []byte(payload)}}
}

func contents(x *inbox) (payloads []string) {
	for {
		it, ok := x.pop()
		switch {
		case !ok:
			return payloads
		case it.outage != nil:
			payloads = append(payloads, "outage")
		default:
			payloads = append(payloads, string(it.message.Payload))
		}
	}
}

func TestInboxKeepsOrderAndBound(t *testing.T) {
	size := message(0, "0a").message.Size() // of every message below
	tests := []struct {
		name string
		room int // for messages
		put  []string
		want []string
		lost []string
	}{
		{"all fit", 3, []string{"0a", "1b", "2c"}, []string{"0a", "1b", "2c"}, nil},
		{"the oldest goes", 2, []string{"0a", "0b", "0c"}, []string{"0b", "0c"}, []string{"0a"}},
		{"QoS 1 and 2 stay", 2, []string{"1a", "0b", "2c", "0d"}, []string{"1a", "2c"}, []string{"0b", "0d"}},
		{"beyond the bound, too", 2, []string{"1a", "1b", "1c", "2d"}, []string{"1a", "1b", "1c", "2d"}, nil},
		{"one that is too large passes alone", 0, []string{"0a"}, []string{"0a"}, nil},
		{"an outage takes no room", 1, []string{"0a", "outage", "0b"}, []string{"outage", "0b"}, []string{"0a"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			x := newInbox(test.room * size)
			var lost []string
			for _, s := range test.put {
				it := item{outage: &outage{}}
				if s != "outage" {
					it = message(bridges.QoS(s[0]-'0'), s)
				}
				for _, m := range x.put(it) {
					lost = append(lost, string(m.Payload))
				}
			}
			if diff := cmp.Diff(test.lost, lost); diff != "" {
				t.Errorf("lost (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.want, contents(x)); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
			if x.bytes != 0 {
				t.Errorf("the empty inbox counts %d bytes", x.bytes)
			}
		})
	}
}

func TestInboxInterleaved(t *testing.T) {
	x := newInbox(1 << 20)
	put, taken := 0, 0
	for round := range 500 { // grows, and moves its contents to the front
		for range 3 {
			x.put(message(bridges.QoS(put%3), fmt.Sprint(put)))
			put++
		}
		for range 2 + round%2 {
			it, ok := x.take(context.Background())
			if got := string(it.message.Payload); !ok || got != fmt.Sprint(taken) {
				t.Fatalf("took %s, want %d", got, taken)
			}
			taken++
		}
	}
	if rest := len(contents(x)); rest != put-taken {
		t.Errorf("%d are left, want %d", rest, put-taken)
	}
}

// arrival is a message as paho hands it over.
type arrival struct {
	paho.Message
	payload string
}

func (arrival) Topic() string     { return "t" }
func (a arrival) Payload() []byte { return []byte(a.payload) }
func (arrival) Qos() byte         { return 0 }
func (arrival) Retained() bool    { return false }
func (arrival) Ack()              {}

// TestFullInboxIsAGap has the dispatcher wait for a subscriber, so that the
// inbox, which has room for one message, overflows.
func TestFullInboxIsAGap(t *testing.T) {
	b, err := New(Config{
		URL:        "mqtt://127.0.0.1:1", // nobody
		QueueBytes: message(0, "1").message.Size(),
		Queue:      live.Limit{Events: 1, Stall: time.Minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	sub, err := b.Subscribe(t.Context(), "+", bridges.AtMostOnce)
	if err != nil {
		t.Fatal(err)
	}
	r := bridgetest.Read(t, sub)
	taken := func(n uint64) {
		t.Helper()
		bridgetest.Eventually(t, "the dispatcher has taken it", func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.arrived == n
		})
	}
	c := &connection{acks: newAcks()}
	b.receive(c, arrival{payload: "1"}) // fills the queue
	taken(1)
	b.receive(c, arrival{payload: "2"}) // makes the dispatcher wait
	taken(2)
	for _, payload := range []string{"3", "4", "5"} {
		b.receive(c, arrival{payload: payload})
	}
	for _, want := range []string{"1", "2", "5"} {
		ev := r.Want(want)
		if want != "5" {
			continue
		}
		if ev.Gap == nil || ev.Gap.Reason != live.GapOverflow || ev.Gap.Missed != 2 {
			t.Errorf("gap %+v, want 2 missed by overflow", ev.Gap)
		}
	}
}

// topics are all topics of up to three levels out of three.
func topics() (all []string) {
	levels := []string{"a", "b", "$x"}
	for _, l := range levels {
		all = append(all, l)
		for _, m := range levels {
			all = append(all, l+"/"+m)
			for _, n := range levels {
				all = append(all, l+"/"+m+"/"+n)
			}
		}
	}
	return all
}

func TestOverlapMeansThatATopicMatchesBoth(t *testing.T) {
	filters := append(topics(), "#", "+", "+/#", "a/#", "a/+", "+/b", "+/+", "a/+/b", "a/b/#", "+/+/+", "$x/#", "$x/+", "+/b/#", "a/+/#", "+/+/#")
	for _, f := range filters {
		for _, g := range filters {
			want := false
			for _, topic := range topics() {
				want = want || bridges.MatchMQTT(f, topic) && bridges.MatchMQTT(g, topic)
			}
			if got := overlap(f, g); got != want {
				t.Errorf("overlap(%q, %q) = %v, want %v", f, g, got, want)
			}
		}
	}
}

func TestMatchingFindsWhatMatches(t *testing.T) {
	x := newFilters()
	names := append(topics(), "#", "+/b", "a/#", "$x/+")
	for _, name := range names {
		x.add(&filter{name: name, wild: strings.ContainsAny(name, "+#")})
	}
	for _, topic := range topics() {
		got := make(map[string]bool)
		for f := range x.matching(topic) {
			got[f.name] = true
		}
		for _, name := range names {
			if want := bridges.MatchMQTT(name, topic); got[name] != want {
				t.Errorf("topic %q, filter %q: found is %v, want %v", topic, name, got[name], want)
			}
		}
	}
}

// TestRetained plays what may arrive while newcomers wait. A step is a join
// ("+" and a name), an answer to the SUBSCRIBE for all ("ok"), a retained
// message ("r" and its topic) with those who must get it, a live one ("l" and
// its topic), or time that passes ("wait").
func TestRetained(t *testing.T) {
	tests := []struct {
		name  string
		wild  bool
		steps []string
	}{
		{"once each", false, []string{"+A", "ok", "ra A", "ra", "+B", "ok", "ra B", "ra"}},
		{"not after a live one", false, []string{"+A", "ok", "la", "ra"}},
		{"a live one before the newcomer changes nothing", false, []string{"la", "+A", "ok", "ra A"}},
		{"not too late", false, []string{"+A", "ok", "wait", "ra"}},
		{"before the answer", false, []string{"+A", "wait", "ra A"}},
		{"each topic once", true, []string{"+A", "ok", "ra A", "rb A", "ra", "+B", "ok", "ra B", "rb B", "ra"}},
		{"a live one counts for its topic", true, []string{"+A", "ok", "la", "ra", "rb A"}},
		{"a long burst", true, []string{"+A", "ok", "ra A", "pause", "rb A", "pause", "rc A", "pause", "rd A", "wait", "re"}},
		{"the burst of another counts", true, []string{"+A", "ok", "+B", "ra A B", "ok", "rb A B", "ra", "rb"}},
		{"live between the bursts", true, []string{"+A", "ok", "ra A", "la", "+B", "ok", "ra B"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := &filter{name: "x", wild: test.wild}
			now, arrived := time.Now(), uint64(0)
			names := make(map[*subscription]string)
			for i, step := range test.steps {
				words := strings.Fields(step)
				topic := words[0][1:]
				switch {
				case step == "ok":
					f.takeNext()
					f.startWaiting(now.Add(retainedWait))
				case step == "wait":
					now = now.Add(retainedWait + time.Second)
				case step == "pause":
					now = now.Add(retainedWait - time.Second)
				case step[0] == '+':
					s := &subscription{arrived: arrived}
					names[s] = topic
					f.newcomers = append(f.newcomers, s)
				case step[0] == 'l':
					arrived++
					f.saw(&bridges.Message{Topic: topic, ReceivedAt: now}, arrived)
				case step[0] == 'r':
					arrived++
					var got []string
					for _, s := range f.takeRetained(nil, &bridges.Message{Topic: topic, ReceivedAt: now}, arrived) {
						got = append(got, names[s])
					}
					if diff := cmp.Diff(strings.Join(words[1:], " "), strings.Join(got, " ")); diff != "" {
						t.Errorf("step %d, %s: delivered to (-want +got):\n%s", i+1, words[0], diff)
					}
				}
			}
		})
	}
}

func BenchmarkMatching(b *testing.B) {
	x := newFilters()
	for i := range 20_000 {
		name := fmt.Sprint("demo/sensors/", i, "/temperature")
		x.add(&filter{name: name})
	}
	for i := range 20 {
		x.add(&filter{name: fmt.Sprint("demo/+/", i, "/#"), wild: true})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		found := 0
		for range x.matching("demo/sensors/7/temperature") {
			found++
		}
		if found != 2 {
			b.Fatal(found)
		}
	}
}
