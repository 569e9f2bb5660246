package mqttbridge_test

import (
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/bridges/bridgetest"
	"github.com/sluice-gateway/sluice/bridges/mqttbridge"
	"github.com/sluice-gateway/sluice/internal/embedded"
	"github.com/sluice-gateway/sluice/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// linger is short enough to be waited for.
const linger = 50 * time.Millisecond

func open(t testing.TB, url string) *mqttbridge.Bridge {
	t.Helper()
	b, err := mqttbridge.New(mqttbridge.Config{URL: url, Linger: linger, Logger: testenv.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// publisher is a client that is not the bridge. It has one connection, so
// that its messages stay in order.
type publisher struct {
	url    string
	client paho.Client // nil: not connected
}

func (p *publisher) publish(t testing.TB, m bridges.Publication) {
	t.Helper()
	if p.client != nil && p.send(m) == nil {
		return
	}
	p.close() // the broker was restarted
	p.client = paho.NewClient(paho.NewClientOptions().AddBroker(p.url).SetAutoReconnect(false))
	if err := paho.WaitTokenTimeout(p.client.Connect(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := p.send(m); err != nil {
		t.Fatal(err)
	}
}

// send publishes, and asks the broker something else: mochi acknowledges a
// message before it passes it on, but takes a client's packets one by one.
func (p *publisher) send(m bridges.Publication) error {
	if err := paho.WaitTokenTimeout(p.client.Publish(m.Topic, byte(m.QoS), m.Retain, m.Payload), 10*time.Second); err != nil {
		return err
	}
	return paho.WaitTokenTimeout(p.client.Unsubscribe("nothing"), 10*time.Second)
}

func (p *publisher) close() {
	if p.client != nil {
		p.client.Disconnect(1000)
	}
}

func subject(t *testing.T, url string) bridgetest.Subject {
	p := &publisher{url: url}
	t.Cleanup(p.close)
	return bridgetest.Subject{
		Open:      func(t testing.TB) bridges.Bridge { return open(t, url) },
		Linger:    linger,
		Publish:   p.publish,
		IllFormed: bridgetest.IllFormedMQTT,
		Wildcards: true,
		Retained:  true,
		QoS:       true,
	}
}

func TestMosquitto(t *testing.T) {
	broker := testenv.Mosquitto(t)
	s := subject(t, broker.URL())
	s.Stop, s.Start = broker.Stop, broker.Start
	bridgetest.Run(t, s)
}

func TestMosquittoFaults(t *testing.T) {
	testenv.Faults(t)
	killed, paused := testenv.Mosquitto(t), testenv.Mosquitto(t)
	bridgetest.Faults(t, func(t testing.TB) bridges.Bridge { return open(t, killed.URL()) }, bridgetest.Fault{
		Name: "killed and started again", For: 3 * time.Second, Begin: killed.Stop, End: killed.Start,
	})
	bridgetest.Faults(t, func(t testing.TB) bridges.Bridge { return open(t, paused.URL()) }, bridgetest.Fault{
		Name: "stopped for 20 s", For: 20 * time.Second, Begin: paused.Pause, End: paused.Resume,
	})
}

func TestEmbedded(t *testing.T) {
	broker := startEmbedded(t, "")
	s := subject(t, broker.URL())
	s.Stop = func(t testing.TB) {
		if broker != nil {
			broker.Close()
		}
		broker = nil
	}
	addr := broker.Addr()
	s.Start = func(t testing.TB) {
		if broker == nil {
			broker = startEmbedded(t, addr)
		}
	}
	t.Cleanup(func() { s.Stop(t) })
	bridgetest.Run(t, s)
}

func startEmbedded(t testing.TB, addr string) *embedded.MQTT {
	t.Helper()
	broker, err := embedded.StartMQTT(embedded.MQTTConfig{Addr: addr, Logger: testenv.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	if addr != "" && broker.Addr() != addr {
		t.Fatalf("the broker is on %s, want %s", broker.Addr(), addr)
	}
	return broker
}
