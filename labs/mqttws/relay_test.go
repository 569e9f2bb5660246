package mqttws_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/testenv"
	"github.com/sluice-gateway/sluice/labs"
	"github.com/sluice-gateway/sluice/labs/mqttws"
)

// rules are those of a client of a lab session, or of none.
func rules(t *testing.T, publicName string, read ...string) mqttws.Rules {
	t.Helper()
	rules, err := bridges.NewMQTTRules(read, nil)
	if err != nil {
		t.Fatal(err)
	}
	return bridges.MQTTAccess{Topics: bridges.DefaultTopicLimits, Rules: rules, Lab: publicName}
}

// TestRelayLetsNoWildcardSpanLabs: the broker knows nothing of lab sessions.
func TestRelayLetsNoWildcardSpanLabs(t *testing.T) {
	broker := testenv.Mosquitto(t)
	direct, _ := client(t, broker.URL())
	done(t, direct.Publish("lab/a/kept", 1, true, "x"))
	done(t, direct.Publish("lab/b/kept", 1, true, "x"))
	tests := []struct{ lab, filter, want string }{
		{"", "#", "open/0 open/1 open/2"},
		{"", "lab/#", ""},
		{"", "lab/+/x", ""},
		{"", "+/b/#", ""},
		{"a", "+/b/#", ""},
		{"a", "lab/+/kept", "lab/a/kept"}, // the broker sends the session its own
		{"a", "lab/a/#", "lab/a/kept lab/a/0 lab/a/1 lab/a/2"},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%q reads %s", test.lab, test.filter), func(t *testing.T) {
			s := serve(t, labs.DoorConfig{}, relay(t, mqttws.RelayConfig{URL: broker.URL(), Rules: rules(t, test.lab, "#")}))
			c, messages := client(t, s.url)
			done(t, c.Subscribe(test.filter, 2, nil))
			done(t, c.Subscribe("end", 2, nil))
			for qos := range byte(3) {
				for range 30 { // more than a broker sends without an acknowledgement
					done(t, direct.Publish(fmt.Sprintf("lab/b/%d", qos), qos, false, "x"))
				}
				for _, topic := range []string{"lab/a", "open"} {
					done(t, direct.Publish(fmt.Sprintf("%s/%d", topic, qos), qos, false, "x"))
				}
			}
			done(t, direct.Publish("end", 2, false, "x"))
			var got []string
			for m := next(t, messages); m.Topic() != "end"; m = next(t, messages) {
				got = append(got, m.Topic())
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestRelayCountsRefusals(t *testing.T) {
	broker := testenv.Mosquitto(t)
	refused := new(refusals)
	s := serve(t, labs.DoorConfig{}, relay(t, mqttws.RelayConfig{URL: broker.URL(), Rules: rules(t, "", "demo/#"), Refused: refused.add}))
	c, _ := client(t, s.url)
	c.SubscribeMultiple(map[string]byte{"a": 0, "b": 0, "demo/x": 0}, nil).WaitTimeout(10 * time.Second)
	done(t, c.Publish("x", 1, false, "x"))
	if n := refused.of("TOPIC_FORBIDDEN"); n != 3 {
		t.Errorf("%d refusals were counted, want 3", n)
	}
}

func TestRelayTellsThatTheBrokerIsAway(t *testing.T) {
	refused := new(refusals)
	url := fmt.Sprintf("mqtt://127.0.0.1:%d", testenv.FreePort(t))
	s := serve(t, labs.DoorConfig{}, relay(t, mqttws.RelayConfig{URL: url, Rules: rules(t, ""), Refused: refused.add}))
	raw := open(t, s.url)
	raw.send(packet(0x10, str("MQTT")+"\x04\x02\x00\x3c"+str("c")))
	raw.want("\x20\x02\x00\x03")
	raw.wantClose(1000, "The broker has closed the connection")
	if refused.of("UPSTREAM_UNAVAILABLE") != 1 {
		t.Error("it was not counted")
	}
}

func TestRelayAnswersOtherLevels(t *testing.T) {
	s := serve(t, labs.DoorConfig{}, relay(t, mqttws.RelayConfig{URL: "mqtt://127.0.0.1:1", Rules: rules(t, "")}))
	for _, test := range []struct{ connect, connack string }{
		{str("MQTT") + "\x05\x02\x00\x3c\x00" + str("c"), "\x20\x03\x00\x84\x00"}, // in MQTT 5's words
		{str("MQIsdp") + "\x03\x02\x00\x3c" + str("c"), "\x20\x02\x00\x01"},
		{str("MQTT") + "\x04\x00\x00\x3c" + str(""), "\x20\x02\x00\x02"}, // no identifier for a session that is kept
	} {
		raw := open(t, s.url)
		raw.send(packet(0x10, test.connect))
		raw.want(test.connack)
	}
}

// fakeBroker takes one connection and shows what came.
func fakeBroker(t *testing.T) (address string, came <-chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	packets := make(chan string, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		head := make([]byte, 2)
		_, _ = io.ReadFull(conn, head)
		body := make([]byte, head[1])
		_, _ = io.ReadFull(conn, body)
		packets <- string(head) + string(body)
	}()
	t.Cleanup(func() {
		ln.Close()
		<-ended
	})
	return ln.Addr().String(), packets
}

func TestRelaysClientsComeAsTheGateway(t *testing.T) {
	for _, test := range []struct{ user, flags, credentials string }{
		{"gateway:secret@", "\xc2", str("gateway") + str("secret")},
		{"gateway@", "\x82", str("gateway")},
		{"", "\x02", ""},
	} {
		address, came := fakeBroker(t)
		s := serve(t, labs.DoorConfig{}, relay(t, mqttws.RelayConfig{URL: "mqtt://" + test.user + address, Rules: rules(t, ""), Prefix: "ws-"}))
		raw := open(t, s.url)
		raw.send(packet(0x10, str("MQTT")+"\x04\xc2\x00\x3c"+str("c")+str("learner")+str("password")))
		if got, want := <-came, packet(0x10, str("MQTT")+"\x04"+test.flags+"\x00\x3c"+str("ws-c")+test.credentials); got != want {
			t.Errorf("the broker got %q, want %q", got, want)
		}
		raw.want("\x20\x02\x00\x03") // it hung up without an answer
	}
}

func TestWhatBreaksMQTTIsTold(t *testing.T) {
	broker := testenv.Mosquitto(t)
	s := serve(t, labs.DoorConfig{}, relay(t, mqttws.RelayConfig{URL: broker.URL(), Rules: rules(t, "a", "demo/#"), PacketBytes: 100}))
	long := "\x30\xff\x01" + strings.Repeat("x", 255)
	tests := []struct{ sent, reason string }{
		{packet(0x10, str("MQTT")+"\x04\x02\x00\x3c"+str("c")), "a second CONNECT packet (MQTT 3.1.1, section 3.1)"},
		{packet(0x20, "\x00\x00"), "clients send no CONNACK packets (MQTT 3.1.1, section 2.2.1)"},
		{packet(0x82, "\x00\x01"), "a SUBSCRIBE packet that is ill formed (MQTT 3.1.1, section 3.8)"},
		{packet(0x80, "\x00\x01"+str("demo/x")+"\x00"), "a SUBSCRIBE packet that is ill formed (MQTT 3.1.1, section 3.8)"},
		{packet(0x82, "\x00\x01"+str("demo/x")+"\x03"), "a SUBSCRIBE packet that asks for QoS 3 (MQTT 3.1.1, section 3.8.3)"},
		{packet(0x36, str("x")+"\x00\x01"), "a PUBLISH packet of QoS 3 (MQTT 3.1.1, section 3.3.1.2)"},
		{packet(0x32, str("x")+"\x00\x00"), "a PUBLISH packet of QoS 1 without an identifier (MQTT 3.1.1, section 2.3.1)"},
		{packet(0x30, "\x00\x09x"), "a PUBLISH packet that ends too early (MQTT 3.1.1, section 3.3.2)"},
		{packet(0x62, "\x00"), "a PUBREL packet without an identifier (MQTT 3.1.1, section 2.3.1)"},
		{"\x30\xff\xff\xff\xff\x01", "the remaining length has more than four bytes (MQTT 3.1.1, section 2.2.3)"},
		{long, "a PUBLISH packet of more than 100 bytes"},
	}
	for i, test := range tests {
		raw := open(t, s.url)
		raw.connect("c", 60)
		raw.send(test.sent)
		raw.wantClose(1008, test.reason)
		if n := s.refused.of("1008"); n != i+1 {
			t.Errorf("%q: %d ends were counted, want %d", test.reason, n, i+1)
		}
	}
	for _, test := range []struct{ sent, reason string }{
		{packet(0x30, str("x")), "the first packet is PUBLISH and not CONNECT (MQTT 3.1.1, section 3.1)"},
		{packet(0x10, str("HTTP")+"\x04\x02\x00\x3c"+str("c")), "the CONNECT packet does not name the protocol MQTT (MQTT 3.1.1, section 3.1.2.1)"},
		{packet(0x10, str("MQTT")+"\x04\x03\x00\x3c"+str("c")), "a CONNECT packet that is ill formed (MQTT 3.1.1, section 3.1)"},
		{packet(0x10, str("MQTT")+"\x04\x0a\x00\x3c"+str("c")), "a CONNECT packet that is ill formed (MQTT 3.1.1, section 3.1)"}, // QoS of no will
		{packet(0x10, str("MQTT")+"\x04\x42\x00\x3c"+str("c")+str("p")), "a CONNECT packet that is ill formed (MQTT 3.1.1, section 3.1)"},
		{packet(0x10, str("MQTT")+"\x04\x02\x00\x3c"+str("c")+"x"), "a CONNECT packet that is ill formed (MQTT 3.1.1, section 3.1)"},
	} {
		raw := open(t, s.url)
		raw.send(test.sent)
		raw.wantClose(1008, test.reason)
	}
}

// A message that is longer than a relay takes is left out, and the rest comes.
func TestRelayLeavesOutLongMessages(t *testing.T) {
	broker := testenv.Mosquitto(t)
	refused := new(refusals)
	s := serve(t, labs.DoorConfig{}, relay(t, mqttws.RelayConfig{URL: broker.URL(), Rules: rules(t, "", "demo/#"), PacketBytes: 1000, Refused: refused.add}))
	c, messages := client(t, s.url)
	done(t, c.Subscribe("demo/#", 2, nil))
	direct, _ := client(t, broker.URL())
	for qos := range byte(3) {
		done(t, direct.Publish("demo/long", qos, false, strings.Repeat("x", 2000)))
		done(t, direct.Publish("demo/short", qos, false, "x"))
		if m := next(t, messages); m.Topic() != "demo/short" {
			t.Errorf("QoS %d: got %s", qos, m.Topic())
		}
	}
	if n := refused.of("PAYLOAD_TOO_LARGE"); n != 3 {
		t.Errorf("%d refusals were counted, want 3", n)
	}
}

func TestRelayAddresses(t *testing.T) {
	for url, says := range map[string]string{
		"mqtt://host":           "",
		"tcp://host:1":          "",
		"mqtts://u:p@host":      "",
		"ws://u:secret@host":    `not at "ws"`,
		"mqtt://u:secret%@host": "cannot be read",
	} {
		_, err := mqttws.NewRelay(mqttws.RelayConfig{URL: url})
		if (err == nil) != (says == "") || err != nil && (!strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestRelayEndsWithItsClient(t *testing.T) {
	broker := testenv.Mosquitto(t)
	ours, theirs := net.Pipe()
	connect, ended := relay(t, mqttws.RelayConfig{URL: broker.URL(), Rules: rules(t, "")}), make(chan struct{})
	go func() {
		defer close(ended)
		t.Logf("the relay has ended: %v", connect(t.Context(), theirs))
	}()
	if _, err := ours.Write([]byte(packet(0x10, str("MQTT")+"\x04\x02\x00\x3c"+str("c")))); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(ours, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	ours.Close()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("still connected 5 s after its client has gone")
	}
}

// A broker that restarts ends connections; clients come back by themselves.
func TestRelayedClientComesBackAfterARestartOfTheBroker(t *testing.T) {
	broker := testenv.Mosquitto(t)
	s := serve(t, labs.DoorConfig{}, relay(t, mqttws.RelayConfig{URL: broker.URL(), Rules: rules(t, "", "demo/#")}))
	connected := make(chan struct{}, 10)
	client(t, s.url, func(o *paho.ClientOptions) {
		o.SetAutoReconnect(true).SetMaxReconnectInterval(100 * time.Millisecond)
		o.SetOnConnectHandler(func(paho.Client) { connected <- struct{}{} })
	})
	<-connected
	broker.Stop(t)
	broker.Start(t)
	select {
	case <-connected:
	case <-time.After(15 * time.Second):
		t.Fatal("not back 15 s after the broker")
	}
}
