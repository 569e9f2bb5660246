//go:build linux

package faults

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/testenv"
)

// resumesWithin is what is promised from the moment at which a broker accepts
// connections.
const resumesWithin = 5 * time.Second

const qos0 = "MQTT QoS 0"

// everything is one stream of each kind, all with clients of each kind.
func everything(t *testing.T, b brokers, addr string) (all []*stream) {
	t.Helper()
	room := newRoom()
	add := func(name, query string, kept bool, senders ...*sender) *stream {
		s := &stream{name: name, kept: kept, senders: senders}
		for _, protocol := range []string{modern, legacy, sse} {
			s.clients = append(s.clients, subscribe(t, protocol, query, addr))
		}
		all = append(all, s)
		return s
	}
	add("room", messagesOf(room), true, toRoom("ann", room, addr), toRoom("bob", room, addr)).history = room
	add("Redis stream", `subscription { redisStreamEntries(stream: "demo:stream") { text: field(name: "n") } }`, true,
		toStream("ann", "demo:stream", addr))
	add("Redis channel", `subscription { redisMessages(channel: "demo:channel") { text: payload } }`, false,
		toChannel("gateway", "demo:channel", addr), straightToChannel(t, "straight", "demo:channel", b.redis.Addr()))
	add("Redis pattern", `subscription { redisPatternMessages(pattern: "demo:p*") { text: payload } }`, false,
		toChannel("gateway", "demo:pattern", addr), straightToChannel(t, "straight", "demo:pattern", b.redis.Addr()))
	for qos, name := range []string{"AT_MOST_ONCE", "AT_LEAST_ONCE"} {
		topic := fmt.Sprint("demo/qos", qos)
		add([]string{qos0, "MQTT QoS 1"}[qos], fmt.Sprintf(`subscription { mqttMessages(topic: %q, qos: %s) { text: payload } }`, topic, name), false,
			toTopic("gateway", topic, name, addr), straightToTopic(t, "straight", topic, byte(qos), b.mosquitto.Addr()))
	}
	return all
}

func sendersOf(all []*stream) (senders []*sender) {
	for _, s := range all {
		senders = append(senders, s.senders...)
	}
	return senders
}

// throughGateway are the senders that the gateway refuses while a broker is away,
// and with which code.
func throughGateway(all []*stream) map[*sender]string {
	codes := make(map[*sender]string)
	for _, s := range all {
		for _, from := range s.senders {
			switch {
			case from.name == "straight":
			case s.history != "":
				codes[from] = "LOG_UNAVAILABLE"
			default:
				codes[from] = "UPSTREAM_UNAVAILABLE"
			}
		}
	}
	return codes
}

// areRefused waits until every sender has been refused once more.
func areRefused(t *testing.T, codes map[*sender]string) {
	t.Helper()
	before := make(map[*sender]int)
	for s, code := range codes {
		before[s], _ = s.refused(code)
	}
	for s, code := range codes {
		testenv.Eventually(t, 10*time.Second, s.name+" is refused with "+code, func() string {
			if n, _ := s.refused(code); n == before[s] {
				s.mu.Lock()
				defer s.mu.Unlock()
				return fmt.Sprint(s.refusals)
			}
			return ""
		})
	}
}

// resumed checks that every client gets something soon.
func resumed(t *testing.T, clients []*client, back time.Time) {
	t.Helper()
	var slowest time.Duration
	for _, c := range clients {
		testenv.Eventually(t, 3*resumesWithin, "delivery resumes in "+c.query, func() string {
			if c.since(back) < 0 {
				return "nothing has come"
			}
			return ""
		})
		slowest = max(slowest, c.since(back))
		if took := c.since(back); took > resumesWithin {
			t.Errorf("%s: %s got its first message after %v, want at most %v", c.query, c.protocol, took, resumesWithin)
		}
	}
	t.Logf("delivery resumed after %v at most", slowest.Round(time.Millisecond))
}

// judgeOutage takes the accounts after the brokers were away once: whoever
// listens to what is not kept was told so.
func judgeOutage(t *testing.T, all []*stream, addr string) {
	t.Helper()
	stayed(t, clientsOf(all))
	for _, s := range all {
		s.settle(t)
		if s.history != "" {
			s.clients = append(s.clients, readBack(t, s.history, addr))
		}
		s.judge(t)
		for _, c := range s.clients {
			if !s.kept && c.protocol != history && !slices.ContainsFunc(c.seen(), func(e event) bool { return e.gap }) {
				t.Errorf("%s: %s was not told of the outage", s.name, c.protocol)
			}
		}
	}
	refusedSoon(t, slices.Collect(maps.Keys(throughGateway(all))))
}

// refusedSoon checks how long senders were kept waiting for a refusal.
func refusedSoon(t *testing.T, senders []*sender) {
	t.Helper()
	var longest time.Duration
	for _, s := range senders {
		_, slowest := s.refused("")
		longest = max(longest, slowest)
		if slowest > refusedWithin {
			t.Errorf("a message of %s was refused after %v, want at most 3 s", s.name, slowest)
		}
	}
	t.Logf("messages were refused after %v at most", longest.Round(time.Millisecond))
}

func TestSubscriptionsSurviveKilledBrokers(t *testing.T) {
	b := startBrokers(t)
	g := start(t, b.flags()...)
	g.ready(t)
	all := everything(t, b, g.Addr())
	allOpen(t, clientsOf(all))
	perSecond(t, 20, sendersOf(all)...)
	flow(t, clientsOf(all), 40)
	for _, outage := range []time.Duration{0, longOutage} {
		b.redis.Stop(t)
		b.mosquitto.Stop(t)
		gone := time.Now()
		areRefused(t, throughGateway(all))
		time.Sleep(time.Until(gone.Add(outage))) // the fault itself
		b.redis.Start(t)
		b.mosquitto.Start(t)
		resumed(t, clientsOf(all), time.Now())
		flow(t, clientsOf(all), 40)
	}
	judgeOutage(t, all, g.Addr())
}

// longOutage is one after which nobody tries to connect any more often than it
// ever will.
const longOutage = 8 * time.Second

// stoppedFor is longer than any timeout with which the gateway notices.
const stoppedFor = 20 * time.Second

// A broker that is stopped still has its connections. MQTT QoS 0 has no answers,
// so its messages count as sent until the gateway notices.
func TestSubscriptionsSurviveStoppedBrokers(t *testing.T) {
	b := startBrokers(t)
	g := start(t, b.flags()...)
	g.ready(t)
	all := everything(t, b, g.Addr())
	allOpen(t, clientsOf(all))
	perSecond(t, 20, sendersOf(all)...)
	flow(t, clientsOf(all), 40)
	b.redis.Pause(t)
	b.mosquitto.Pause(t)
	stopped := time.Now()
	answered := throughGateway(all)
	for _, s := range all {
		if s.name == qos0 {
			delete(answered, s.senders[0])
		}
	}
	areRefused(t, answered)
	time.Sleep(time.Until(stopped.Add(stoppedFor))) // the fault itself
	b.redis.Resume(t)
	b.mosquitto.Resume(t)
	resumed(t, clientsOf(all), time.Now())
	flow(t, clientsOf(all), 40)
	judgeOutage(t, all, g.Addr())
}

// The clients come while nothing is there yet, so they are told that something
// may be missing, those of streams that are kept too.
func TestStartOrderDoesNotMatter(t *testing.T) {
	b := startBrokers(t)
	b.redis.Stop(t)
	b.mosquitto.Stop(t)
	g := start(t, b.flags()...)
	if g.readiness() == "" {
		t.Error("the gateway is ready without its brokers")
	}
	all := everything(t, b, g.Addr())
	for _, c := range clientsOf(all) {
		testenv.Eventually(t, 5*time.Second, "the gateway takes sockets", func() string {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.sockets == 0 {
				return fmt.Sprint(c.ends)
			}
			return ""
		})
	}
	perSecond(t, 20, sendersOf(all)...)
	areRefused(t, throughGateway(all))
	b.redis.Start(t)
	b.mosquitto.Start(t)
	back := time.Now()
	resumed(t, clientsOf(all), back)
	testenv.Eventually(t, time.Until(back.Add(resumesWithin)), "the gateway is ready", g.readiness)
	flow(t, clientsOf(all), 40)
	for _, s := range all {
		s.kept = false
	}
	judgeOutage(t, all, g.Addr())
}
