package embedded_test

import (
	"bytes"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sluice-gateway/sluice/internal/embedded"
	"github.com/sluice-gateway/sluice/internal/testenv"
)

func startMQTT(t *testing.T, cfg embedded.MQTTConfig) *embedded.MQTT {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = testenv.Logger(t)
	}
	broker, err := embedded.StartMQTT(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Close() })
	return broker
}

func client(t *testing.T, o *paho.ClientOptions) paho.Client {
	t.Helper()
	c := paho.NewClient(o.SetAutoReconnect(false))
	done(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(1000) })
	return c
}

func done(t *testing.T, token paho.Token) {
	t.Helper()
	if err := paho.WaitTokenTimeout(token, 10*time.Second); err != nil {
		t.Fatal(err)
	}
}

// read subscribes and returns what arrives.
func read(t *testing.T, c paho.Client, filter string) <-chan paho.Message {
	t.Helper()
	messages := make(chan paho.Message, 100)
	done(t, c.Subscribe(filter, 1, func(_ paho.Client, m paho.Message) { messages <- m }))
	return messages
}

func next(t *testing.T, messages <-chan paho.Message) paho.Message {
	t.Helper()
	select {
	case m := <-messages:
		return m
	case <-time.After(10 * time.Second):
		t.Fatal("no message within 10 s")
		return nil
	}
}

func TestMQTTTakesAFreePortWhenTheWantedOneIsTaken(t *testing.T) {
	first := startMQTT(t, embedded.MQTTConfig{})
	second := startMQTT(t, embedded.MQTTConfig{Addr: first.Addr()})
	if first.Addr() == second.Addr() {
		t.Fatalf("both brokers say that they are on %s", first.Addr())
	}
	for _, broker := range []*embedded.MQTT{first, second} {
		client(t, paho.NewClientOptions().AddBroker(broker.URL()))
	}
}

func TestMQTTAddressThatIsNone(t *testing.T) {
	_, err := embedded.StartMQTT(embedded.MQTTConfig{Addr: "1883"})
	if err == nil || !strings.Contains(err.Error(), "host:port") {
		t.Fatalf("error %v, want one that says host:port", err)
	}
}

func TestMQTTOwnTopicsAreReadOnly(t *testing.T) {
	broker := startMQTT(t, embedded.MQTTConfig{})
	c := client(t, paho.NewClientOptions().AddBroker(broker.URL()))
	version := next(t, read(t, c, "$SYS/broker/version"))
	if len(version.Payload()) == 0 {
		t.Error("the broker does not say its version")
	}
	own := read(t, c, "$own/#")
	open := read(t, c, "open")
	done(t, c.Publish("$own/topic", 0, false, "forged"))
	done(t, c.Publish("$SYS/broker/version", 0, true, "forged"))
	done(t, c.Publish("open", 1, false, "free"))
	if m := next(t, open); string(m.Payload()) != "free" {
		t.Errorf("payload %q, want %q", m.Payload(), "free")
	}
	if len(own) > 0 {
		t.Errorf("a client published to %s", (<-own).Topic())
	}
}

func TestMQTTServesOtherConnections(t *testing.T) {
	broker := startMQTT(t, embedded.MQTTConfig{})
	ours, theirs := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- broker.ServeConn(theirs, embedded.Guest{}) }()
	o := paho.NewClientOptions().AddBroker("tcp://pipe")
	o.CustomOpenConnectionFn = func(*url.URL, paho.ClientOptions) (net.Conn, error) { return ours, nil }
	piped := client(t, o)
	messages := read(t, piped, "greetings")

	done(t, client(t, paho.NewClientOptions().AddBroker(broker.URL())).Publish("greetings", 1, false, "hello"))
	if m := next(t, messages); string(m.Payload()) != "hello" {
		t.Errorf("payload %q, want %q", m.Payload(), "hello")
	}
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-served:
		t.Logf("ServeConn returned %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("ServeConn has not returned 10 s after Close")
	}
}

func TestMQTTCloseDoesNotWaitForTheSilent(t *testing.T) {
	broker := startMQTT(t, embedded.MQTTConfig{})
	silent, err := net.Dial("tcp", broker.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	client(t, paho.NewClientOptions().AddBroker(broker.URL())) // by then the silent one was accepted
	began := time.Now()
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("Close took %v", took)
	}
}

func TestMQTTLogHoldsNoPayload(t *testing.T) {
	var log bytes.Buffer
	broker, err := embedded.StartMQTT(embedded.MQTTConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, paho.NewClientOptions().AddBroker(broker.URL()))
	// Publishing to a wildcard breaks the protocol, and mochi logs the packet.
	c.Publish("topic/#", 1, false, "secret").WaitTimeout(10 * time.Second)
	if err := broker.Close(); err != nil { // waits for the clients, so for the log too
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "error processing packet") {
		t.Errorf("the log does not tell of the packet:\n%s", &log)
	}
	if strings.Contains(log.String(), "secret") || strings.Contains(log.String(), "115 101 99 114 101 116") {
		t.Errorf("the log holds a payload:\n%s", &log)
	}
}
