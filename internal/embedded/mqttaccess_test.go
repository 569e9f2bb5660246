package embedded_test

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/embedded"
)

// labGuest is a guest from a lab session; everyone may read demo topics.
func labGuest(t *testing.T, publicName string) embedded.Guest {
	t.Helper()
	rules, err := bridges.NewMQTTRules([]string{"demo/#"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return embedded.Guest{
		Rules:  bridges.MQTTAccess{Topics: bridges.DefaultTopicLimits, Rules: rules, Lab: publicName},
		Prefix: publicName + "-",
	}
}

// asGuest makes a client come by ServeConn.
func asGuest(t *testing.T, broker *embedded.MQTT, guest embedded.Guest) *paho.ClientOptions {
	t.Helper()
	o := paho.NewClientOptions().AddBroker("tcp://guest")
	o.CustomOpenConnectionFn = func(*url.URL, paho.ClientOptions) (net.Conn, error) {
		ours, theirs := net.Pipe()
		served := make(chan struct{})
		go func() {
			defer close(served)
			t.Logf("the guest has left: %v", broker.ServeConn(theirs, guest))
		}()
		t.Cleanup(func() {
			ours.Close()
			<-served
		})
		return ours, nil
	}
	return o
}

// send publishes with QoS 1 and waits for the acknowledgement.
func send(t *testing.T, c paho.Client, retained bool, topics ...string) {
	t.Helper()
	for _, topic := range topics {
		done(t, c.Publish(topic, 1, retained, "x"))
	}
}

// until returns the topics of the messages before one of the topic end, in order.
func until(t *testing.T, messages <-chan paho.Message, end string) []string {
	t.Helper()
	var topics []string
	for {
		m := next(t, messages)
		if m.Topic() == end {
			slices.Sort(topics)
			return topics
		}
		topics = append(topics, m.Topic())
	}
}

func TestMQTTNoWildcardSpansLabs(t *testing.T) {
	broker := startMQTT(t, embedded.MQTTConfig{})
	publisher := client(t, paho.NewClientOptions().AddBroker(broker.URL()))
	own := read(t, publisher, "open/kept")
	send(t, publisher, true, "lab/a/kept", "lab/b/kept", "open/kept")
	next(t, own) // mochi acknowledges before it sends around: now that has been done
	tests := []struct{ filters, want string }{
		{"#", "open/kept open/x"},
		{"+/#", "open/kept open/x"},
		{"+/+", "open/kept open/x"},
		{"+/+/+", ""},
		{"+/a/x", ""},
		{"+/a/#", ""},
		{"lab/#", ""},
		{"lab/+", ""},
		{"lab/+/x", ""},
		{"lab/+/#", ""},
		{"lab/a/#", "lab/a lab/a/kept lab/a/will lab/a/x"},
		{"lab/a/+", "lab/a/kept lab/a/will lab/a/x"},
		{"lab/b/x", "lab/b/x"},
		{"$share/g1/#", "open/x"}, // no retained messages for shared subscriptions
		{"$share/g2/lab/#", ""},
		{"$share/g3/lab/+/x", ""},
		{"$SHARE/g4/+/a/x", ""},
		{"$share/g5/lab/a/#", "lab/a lab/a/will lab/a/x"},
		{"# lab/a/x", "lab/a/x open/kept open/x"},
		{"$share/g6/# lab/+/x lab/a/x", "lab/a/x open/x"},
	}
	readers := make([]chan paho.Message, len(tests))
	for i, test := range tests {
		messages := make(chan paho.Message, 100)
		readers[i] = messages
		o := paho.NewClientOptions().AddBroker(broker.URL())
		o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { messages <- m })
		c := client(t, o)
		for filter := range strings.FieldsSeq(test.filters) {
			done(t, c.Subscribe(filter, 1, nil))
		}
		done(t, c.Subscribe("end", 1, nil))
	}
	send(t, publisher, false, "lab/a", "lab/a/x", "lab/b/x", "open/x")
	dying(t, broker, "lab/a/will")
	got := make([][]string, len(tests))
	for i, test := range tests {
		if strings.Contains(test.want, "lab/a/will") { // nobody has published it: it may come after the end
			got[i] = append(until(t, readers[i], "lab/a/will"), "lab/a/will")
		}
	}
	send(t, publisher, false, "end")
	for i, test := range tests {
		topics := slices.Concat(got[i], until(t, readers[i], "end"))
		slices.Sort(topics)
		if got := strings.Join(topics, " "); got != test.want {
			t.Errorf("%s got %q, want %q", test.filters, got, test.want)
		}
	}
}

// dying connects with a retained will of QoS 1 and goes without DISCONNECT.
func dying(t *testing.T, broker *embedded.MQTT, will string) {
	t.Helper()
	conn, err := net.Dial("tcp", broker.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rest := "\x00\x04MQTT\x04\x2e\x00\x3c" + text("dying") + text(will) + text("x")
	if _, err := conn.Write([]byte("\x10" + string(rune(len(rest))) + rest)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 4)); err != nil { // CONNACK
		t.Fatal(err)
	}
}

// text is a string as MQTT writes it, up to 127 bytes.
func text(s string) string { return "\x00" + string(rune(len(s))) + s }

// TestMQTTOwnTopicsAreFoundByName: mochi alone would give them to any shared
// subscription.
func TestMQTTOwnTopicsAreFoundByName(t *testing.T) {
	broker := startMQTT(t, embedded.MQTTConfig{})
	c := client(t, paho.NewClientOptions().AddBroker(broker.URL()))
	all := read(t, c, "#")
	shared := read(t, c, "$share/g/#")
	uptime := read(t, c, "$SYS/broker/uptime")
	for range 4 { // the retained one, and then with all others, once in a second
		next(t, uptime)
	}
	for _, messages := range []<-chan paho.Message{all, shared} {
		for len(messages) > 0 {
			if m := <-messages; m.Topic() != "$SYS/broker/uptime" {
				t.Errorf("a wildcard got %s", m.Topic())
			}
		}
	}
}

func TestMQTTGuestsKeepToTheirRules(t *testing.T) {
	broker := startMQTT(t, embedded.MQTTConfig{})
	all := make(chan paho.Message, 100)
	o := paho.NewClientOptions().AddBroker(broker.URL())
	o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) {
		if !m.Retained() { // the broker may still look for those when SUBACK is there
			all <- m
		}
	})
	everything := client(t, o)
	done(t, everything.SubscribeMultiple(map[string]byte{"#": 1, "lab/a/#": 1, "lab/b/#": 1}, nil))

	for _, version := range []uint{3, 4} {
		t.Run(fmt.Sprintf("level %d", version), func(t *testing.T) {
			var refused atomic.Int32
			as := labGuest(t, "a")
			as.Refused = func(string) { refused.Add(1) }
			guest := client(t, asGuest(t, broker, as).SetProtocolVersion(version))
			for filter, want := range map[string]byte{
				"lab/a/#": 1, "lab/a/x": 1, "demo/#": 1, "demo/+": 1,
				"#": 0x80, "+/a/#": 0x80, "lab/#": 0x80, "lab/+/x": 0x80, "lab/b/x": 0x80, "lab/b/#": 0x80, "other": 0x80,
				"$SYS/#": 0x80, "$share/g/lab/a/#": 0x80, "$share/g/demo/x": 0x80,
			} {
				token := guest.Subscribe(filter, 1, nil).(*paho.SubscribeToken)
				token.WaitTimeout(10 * time.Second)
				codes := slices.Collect(maps.Values(token.Result())) // of the one filter, under a name of paho's
				if len(codes) != 1 || codes[0] != want {
					t.Errorf("SUBSCRIBE to %s: %#x (%v), want %#x", filter, codes, token.Error(), want)
				}
			}
			for qos := range byte(3) { // each is acknowledged, or done would fail
				for _, topic := range []string{"lab/b/x", "demo/x", "other", "$SYS/x", "$own", "lab/a/x"} {
					done(t, guest.Publish(topic, qos, true, "x"))
				}
			}
			send(t, everything, false, "end")
			if got, want := until(t, all, "end"), []string{"lab/a/x", "lab/a/x", "lab/a/x"}; !slices.Equal(got, want) {
				t.Errorf("what arrived is %q, want %q", got, want)
			}
			if !guest.IsConnectionOpen() {
				t.Error("the guest was thrown out")
			}
			if n := refused.Load(); n != 10+3*5 {
				t.Errorf("%d refusals were counted, want 25", n)
			}
		})
	}
	kept := read(t, client(t, paho.NewClientOptions().AddBroker(broker.URL())), "demo/#")
	send(t, everything, false, "demo/end")
	if got := until(t, kept, "demo/end"); len(got) > 0 {
		t.Errorf("refused publications were retained: %q", got)
	}
}

func TestMQTTWillsKeepToTheRules(t *testing.T) {
	broker := startMQTT(t, embedded.MQTTConfig{})
	tests := []struct {
		name    string
		options *paho.ClientOptions
		will    string
		allowed bool
	}{
		{"own", asGuest(t, broker, labGuest(t, "a")), "lab/a/will", true},
		{"another session's", asGuest(t, broker, labGuest(t, "a")), "lab/b/will", false},
		{"demo", asGuest(t, broker, labGuest(t, "a")), "demo/will", false},
		{"over TCP", paho.NewClientOptions().AddBroker(broker.URL()), "lab/b/will", true},
		{"the broker's own", paho.NewClientOptions().AddBroker(broker.URL()), "$SYS/will", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := paho.NewClient(test.options.SetWill(test.will, "x", 0, false).SetAutoReconnect(false).SetConnectRetry(false))
			token := c.Connect()
			token.WaitTimeout(10 * time.Second)
			defer c.Disconnect(0)
			if (token.Error() == nil) != test.allowed {
				t.Errorf("CONNECT with a will on %s: %v", test.will, token.Error())
			}
			if !test.allowed && token.(*paho.ConnectToken).ReturnCode() != 5 {
				t.Errorf("CONNACK %d, want 5, not authorized", token.(*paho.ConnectToken).ReturnCode())
			}
		})
	}
}

func TestMQTTGuestsTakeOverTheirOwnAlone(t *testing.T) {
	broker := startMQTT(t, embedded.MQTTConfig{})
	lost := make(chan string, 10)
	join := func(name string, o *paho.ClientOptions) {
		o.SetClientID("same").SetConnectionLostHandler(func(paho.Client, error) { lost <- name })
		client(t, o)
	}
	join("over TCP", paho.NewClientOptions().AddBroker(broker.URL()))
	join("of session b", asGuest(t, broker, labGuest(t, "b")))
	join("of session a", asGuest(t, broker, labGuest(t, "a")))
	join("of session a, again", asGuest(t, broker, labGuest(t, "a")))
	select {
	case name := <-lost:
		if name != "of session a" {
			t.Errorf("the client %s was thrown out", name)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was thrown out by the second client of one session")
	}
	send(t, client(t, paho.NewClientOptions().AddBroker(broker.URL())), false, "x") // the broker goes on
	if len(lost) > 0 {
		t.Errorf("the client %s was thrown out, too", <-lost)
	}
}

func TestMQTTSilentGuestsAreDroppedInTime(t *testing.T) {
	broker := startMQTT(t, embedded.MQTTConfig{})
	ours, theirs := net.Pipe()
	defer ours.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		t.Logf("the guest has left: %v", broker.ServeConn(theirs, embedded.Guest{}))
	}()
	// CONNECT with a keep alive of one second, then nothing.
	began := time.Now() // no later than the broker begins to count
	if _, err := ours.Write([]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x01\x00\x01s")); err != nil {
		t.Fatal(err)
	}
	connack := make([]byte, 4)
	if _, err := ours.Read(connack); err != nil || connack[3] != 0 {
		t.Fatalf("CONNACK %x, %v", connack, err)
	}
	select {
	case <-served:
		if took := time.Since(began); took < 1400*time.Millisecond {
			t.Errorf("dropped after %v, before 1.5 times the keep alive of 1 s", took)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still there after 10 s with a keep alive of 1 s")
	}
}
