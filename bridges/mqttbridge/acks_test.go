package mqttbridge_test

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/bridges/bridgetest"
	"github.com/sluice-gateway/sluice/bridges/mqttbridge"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/testenv"
)

// wiretap passes MQTT packets on and notes the ids of the messages that the
// broker sent with QoS 1 and 2, and of those that were acknowledged.
type wiretap struct {
	broker string
	ln     net.Listener
	work   sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	sent  []uint16
	acked []uint16
}

func tap(t *testing.T, broker string) *wiretap {
	t.Helper()
	w := &wiretap{broker: broker, ln: listen(t)}
	w.work.Go(w.accept)
	t.Cleanup(func() {
		w.ln.Close()
		w.mu.Lock()
		for _, c := range w.conns {
			c.Close()
		}
		w.mu.Unlock()
		w.work.Wait()
	})
	return w
}

func (w *wiretap) url() string { return "mqtt://" + w.ln.Addr().String() }

func (w *wiretap) accept() {
	for {
		client, err := w.ln.Accept()
		if err != nil {
			return
		}
		broker, err := net.Dial("tcp", w.broker)
		if err != nil {
			client.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, client, broker)
		w.mu.Unlock()
		w.work.Go(func() { w.carry(client, broker) })
		w.work.Go(func() { w.carry(broker, client) })
	}
}

// carry copies packets until one side hangs up.
func (w *wiretap) carry(to, from net.Conn) {
	defer to.Close()
	for {
		packet, err := packets.ReadPacket(from)
		if err != nil {
			return
		}
		w.mu.Lock()
		switch p := packet.(type) {
		case *packets.PublishPacket:
			if from.RemoteAddr().String() == w.broker && p.Qos > 0 {
				w.sent = append(w.sent, p.MessageID)
			}
		case *packets.PubackPacket:
			if to.RemoteAddr().String() == w.broker {
				w.acked = append(w.acked, p.MessageID)
			}
		case *packets.PubrecPacket:
			if to.RemoteAddr().String() == w.broker {
				w.acked = append(w.acked, p.MessageID)
			}
		}
		w.mu.Unlock()
		if packet.Write(to) != nil {
			return
		}
	}
}

func (w *wiretap) seen() (sent, acked []uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sent), slices.Clone(w.acked)
}

func (w *wiretap) wantAcked(t *testing.T, when string, n int) {
	t.Helper()
	bridgetest.Eventually(t, fmt.Sprintf("%d messages are acknowledged: %s", n, when), func() bool {
		_, acked := w.seen()
		return len(acked) == n
	})
	sent, acked := w.seen()
	if !slices.Equal(acked, sent[:n]) {
		t.Errorf("%s: %v were acknowledged of %v, want the first %d in order", when, acked, sent, n)
	}
}

func openTapped(t *testing.T, w *wiretap, stall time.Duration) *mqttbridge.Bridge {
	t.Helper()
	b, err := mqttbridge.New(mqttbridge.Config{
		URL: w.url(), Linger: linger, Logger: testenv.Logger(t), Queue: live.Limit{Stall: stall},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	bridgetest.WaitConnected(t, b)
	return b
}

func subscribe(t *testing.T, b bridges.Bridge, topic string) live.Sub[*bridges.Message] {
	t.Helper()
	sub, err := b.Subscribe(t.Context(), topic, bridges.ExactlyOnce)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Close)
	return sub
}

// take takes n events and is not done with them.
func take(t *testing.T, sub live.Sub[*bridges.Message], n int) []live.Event[*bridges.Message] {
	t.Helper()
	events := make([]live.Event[*bridges.Message], n)
	got := 0
	bridgetest.Eventually(t, fmt.Sprintf("%d events can be taken", n), func() bool {
		more, _ := sub.Next(events[got:])
		got += more
		return got == n
	})
	return events
}

// roundTrip returns when the broker has answered something that was sent after
// any acknowledgement that was due.
func roundTrip(t *testing.T, b bridges.Bridge) {
	t.Helper()
	if _, err := b.Publish(t.Context(), bridges.Publication{Topic: "elsewhere", QoS: bridges.AtLeastOnce}); err != nil {
		t.Fatal(err)
	}
}

func TestAcknowledgedInOrderOnceEverySubscriberIsDone(t *testing.T) {
	t.Parallel()
	broker := testenv.Mosquitto(t)
	w := tap(t, broker.Addr())
	b := openTapped(t, w, time.Hour)
	first, second, wild := subscribe(t, b, "a"), subscribe(t, b, "a"), subscribe(t, b, "+")
	p := &publisher{url: broker.URL()}
	t.Cleanup(p.close)
	const n = 6
	for i := range n {
		p.publish(t, bridges.Publication{Topic: "a", Payload: fmt.Append(nil, i), QoS: bridges.QoS(1 + i%2)})
	}
	for _, sub := range []live.Sub[*bridges.Message]{first, wild} {
		for _, ev := range take(t, sub, n) {
			ev.Done()
		}
	}
	events := take(t, second, 4)
	roundTrip(t, b)
	w.wantAcked(t, "one subscriber is not done", 0)
	events[2].Done()
	events[1].Done()
	roundTrip(t, b)
	w.wantAcked(t, "the oldest is not done", 0)
	events[0].Done()
	w.wantAcked(t, "the oldest three are done", 3)
	second.Close() // done with what it has not taken
	roundTrip(t, b)
	w.wantAcked(t, "the fourth was taken", 3)
	events[3].Done()
	w.wantAcked(t, "the subscription is closed", n)
}

func TestWithoutSubscribersAMessageIsAcknowledged(t *testing.T) {
	t.Parallel()
	broker := testenv.Mosquitto(t)
	w := tap(t, broker.Addr())
	b, err := mqttbridge.New(mqttbridge.Config{URL: w.url(), Linger: time.Hour, Logger: testenv.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	bridgetest.WaitConnected(t, b)
	subscribe(t, b, "a").Close() // the upstream stays
	p := &publisher{url: broker.URL()}
	t.Cleanup(p.close)
	p.publish(t, bridges.Publication{Topic: "a", QoS: bridges.AtLeastOnce})
	w.wantAcked(t, "nobody is there", 1)
}

// window is how many messages Mosquitto sends before they are acknowledged.
const window = 20

func TestTheBrokerWaitsForASubscriberThatIsNotDone(t *testing.T) {
	t.Parallel()
	broker := testenv.Mosquitto(t)
	w := tap(t, broker.Addr())
	b := openTapped(t, w, time.Hour)
	slow := subscribe(t, b, "a")
	p := &publisher{url: broker.URL()}
	t.Cleanup(p.close)
	const n = 2*window + 5
	for i := range n {
		p.publish(t, bridges.Publication{Topic: "a", Payload: fmt.Append(nil, i), QoS: bridges.AtLeastOnce})
	}
	bridgetest.Eventually(t, "the broker has filled its window", func() bool {
		sent, _ := w.seen()
		return len(sent) == window
	})
	roundTrip(t, b)
	if sent, acked := w.seen(); len(sent) != window || len(acked) != 0 {
		t.Errorf("%d messages were sent and %d acknowledged, want %d and none", len(sent), len(acked), window)
	}
	for i := range n {
		ev := take(t, slow, 1)[0]
		if got := string(ev.Value.Payload); got != fmt.Sprint(i) || ev.Gap != nil {
			t.Fatalf("message %q with the gap %+v, want %d without", got, ev.Gap, i)
		}
		ev.Done()
	}
	w.wantAcked(t, "all were taken", n)
}

// A subscriber that takes nothing holds up the others for Limit.Stall at most,
// and gets what its queue holds when it comes back.
func TestAStuckSubscriberHoldsUpNobody(t *testing.T) {
	t.Parallel()
	broker := testenv.Mosquitto(t)
	w := tap(t, broker.Addr())
	b := openTapped(t, w, 100*time.Millisecond)
	stuck := subscribe(t, b, "a")
	quick := bridgetest.Subscribe(t, b, "a", bridges.AtLeastOnce)
	p := &publisher{url: broker.URL()}
	t.Cleanup(p.close)
	const n = 10 * window
	began := time.Now()
	for i := range n {
		p.publish(t, bridges.Publication{Topic: "a", Payload: fmt.Append(nil, i), QoS: bridges.AtLeastOnce})
		quick.Want(fmt.Sprint(i))
	}
	w.wantAcked(t, "the stuck subscriber was given up", n)
	t.Logf("%d messages in %v", n, time.Since(began))
	for i, ev := range take(t, stuck, n) {
		if got := string(ev.Value.Payload); got != fmt.Sprint(i) || ev.Gap != nil {
			t.Fatalf("message %q with the gap %+v, want %d without", got, ev.Gap, i)
		}
	}
}

// What was acknowledged to a connection that is gone is the past: the next one
// begins afresh.
func TestMessagesOfALostConnectionHoldUpNothing(t *testing.T) {
	t.Parallel()
	broker := testenv.Mosquitto(t)
	w := tap(t, broker.Addr())
	b := openTapped(t, w, time.Hour)
	sub := subscribe(t, b, "a")
	p := &publisher{url: broker.URL()}
	t.Cleanup(p.close)
	p.publish(t, bridges.Publication{Topic: "a", Payload: []byte("before"), QoS: bridges.AtLeastOnce})
	before := take(t, sub, 1)[0]
	broker.Stop(t)
	bridgetest.Eventually(t, "the bridge has noticed", func() bool { return b.Status().State == bridges.Connecting })
	broker.Start(t)
	bridgetest.Eventually(t, "the upstream is back", func() bool { return len(b.Upstreams()) == 1 })
	p.publish(t, bridges.Publication{Topic: "a", Payload: []byte("after"), QoS: bridges.AtLeastOnce})
	after := take(t, sub, 1)[0]
	if after.Gap == nil || after.Gap.Reason != live.GapOutage {
		t.Errorf("gap %+v after an outage", after.Gap)
	}
	after.Done()
	bridgetest.Eventually(t, "the message of the new connection is acknowledged", func() bool {
		_, acked := w.seen()
		return len(acked) == 1
	})
	before.Done()
	roundTrip(t, b)
	if sent, acked := w.seen(); len(acked) != 1 || acked[0] != sent[1] {
		t.Errorf("%v were acknowledged of %v, want the second alone", acked, sent)
	}
}
