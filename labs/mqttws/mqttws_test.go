package mqttws_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/embedded"
	"github.com/sluice-gateway/sluice/internal/testenv"
	"github.com/sluice-gateway/sluice/labs"
	"github.com/sluice-gateway/sluice/labs/mqttws"
)

// place is a broker behind WebSockets, and beside them.
type place struct {
	direct  string // its own address: mqtt://…
	connect func(t *testing.T, rules mqttws.Rules, prefix string, refused func(string)) func(context.Context, net.Conn) error
}

// ofOurs is the embedded broker.
func ofOurs(t *testing.T) place {
	t.Helper()
	broker, err := embedded.StartMQTT(embedded.MQTTConfig{Logger: testenv.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Close() })
	return place{broker.URL(), func(_ *testing.T, rules mqttws.Rules, prefix string, _ func(string)) func(context.Context, net.Conn) error {
		return func(_ context.Context, conn net.Conn) error {
			return broker.ServeConn(conn, embedded.Guest{Rules: rules, Prefix: prefix})
		}
	}}
}

// relayed is a real broker behind the relay.
func relayed(t *testing.T) place {
	t.Helper()
	url := testenv.Mosquitto(t).URL()
	return place{url, func(t *testing.T, rules mqttws.Rules, prefix string, refused func(string)) func(context.Context, net.Conn) error {
		return relay(t, mqttws.RelayConfig{URL: url, Rules: rules, Prefix: prefix, Refused: refused})
	}}
}

// everywhere runs a test against both.
func everywhere(t *testing.T, test func(t *testing.T, p place)) {
	t.Run("embedded", func(t *testing.T) { test(t, ofOurs(t)) })
	t.Run("relay", func(t *testing.T) { test(t, relayed(t)) })
}

func relay(t *testing.T, cfg mqttws.RelayConfig) func(context.Context, net.Conn) error {
	t.Helper()
	r, err := mqttws.NewRelay(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r.Connect
}

// refusals counts what a server refuses.
type refusals struct {
	mu    sync.Mutex
	codes map[string]int
}

func (r *refusals) add(code string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.codes == nil {
		r.codes = make(map[string]int)
	}
	r.codes[code]++
}

func (r *refusals) of(code string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.codes[code]
}

// site is a server under test.
type site struct {
	*mqttws.Server
	url     string
	refused *refusals
}

func serve(t *testing.T, door labs.DoorConfig, connect func(context.Context, net.Conn) error) site {
	t.Helper()
	s := site{refused: new(refusals)}
	door.Refused = s.refused.add
	s.Server = mqttws.New(mqttws.Config{Door: door, Connect: connect})
	srv := httptest.NewServer(s.Server)
	s.url = "ws" + strings.TrimPrefix(srv.URL, "http")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		srv.Close()
	})
	return s
}

// of serves a place to a lab session; everyone may read demo topics.
func (p place) of(t *testing.T, publicName string) site {
	t.Helper()
	rules, err := bridges.NewMQTTRules([]string{"demo/#"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	access := bridges.MQTTAccess{Topics: bridges.DefaultTopicLimits, Rules: rules, Lab: publicName}
	return serve(t, labs.DoorConfig{}, p.connect(t, access, publicName+"-", func(string) {}))
}

// client connects with paho, to ws://… or mqtt://….
func client(t *testing.T, url string, options ...func(*paho.ClientOptions)) (paho.Client, <-chan paho.Message) {
	t.Helper()
	messages := make(chan paho.Message, 1000)
	o := paho.NewClientOptions().AddBroker(url).SetAutoReconnect(false).SetProtocolVersion(4)
	o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { messages <- m })
	for _, option := range options {
		option(o)
	}
	c := paho.NewClient(o)
	done(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(1000) })
	return c, messages
}

func done(t *testing.T, token paho.Token) {
	t.Helper()
	if err := paho.WaitTokenTimeout(token, 10*time.Second); err != nil {
		t.Fatal(err)
	}
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

func TestEveryQoSBothWays(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		s := p.of(t, "a")
		over, got := client(t, s.url)
		direct, seen := client(t, p.direct)
		done(t, direct.Subscribe("lab/a/up/#", 2, nil))
		done(t, over.Subscribe("lab/a/down/#", 2, nil))
		for qos := range byte(3) {
			payload := strings.Repeat(fmt.Sprint(qos), 100_000) // more than one message of the socket
			done(t, over.Publish("lab/a/up/x", qos, false, payload))
			if m := next(t, seen); m.Qos() != qos || string(m.Payload()) != payload {
				t.Errorf("up with QoS %d: came with %d and %d bytes", qos, m.Qos(), len(m.Payload()))
			}
			done(t, direct.Publish("lab/a/down/x", qos, false, payload))
			if m := next(t, got); m.Qos() != qos || string(m.Payload()) != payload {
				t.Errorf("down with QoS %d: came with %d and %d bytes", qos, m.Qos(), len(m.Payload()))
			}
		}
	})
}

func TestRetainedIsFlaggedForANewSubscriptionAlone(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		s := p.of(t, "a")
		c, messages := client(t, s.url)
		done(t, c.Publish("lab/a/r", 1, true, "kept"))
		done(t, c.Subscribe("lab/a/r", 1, nil))
		if m := next(t, messages); string(m.Payload()) != "kept" || !m.Retained() {
			t.Errorf("got %q, retained: %v", m.Payload(), m.Retained())
		}
		done(t, c.Publish("lab/a/r", 1, true, "live"))
		if m := next(t, messages); string(m.Payload()) != "live" || m.Retained() {
			t.Errorf("got %q, retained: %v", m.Payload(), m.Retained())
		}
	})
}

func TestRefusedFiltersKeepTheirPlaceInSUBACK(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		raw := open(t, p.of(t, "a").url)
		raw.connect("c", 60)
		raw.send(packet(0x82, "\x00\x07"+str("lab/b/x")+"\x00"+str("lab/a/#")+"\x02"+str("#")+"\x01"+str("a/#/b")+"\x00"+str("demo/+")+"\x01"))
		raw.want(packet(0x90, "\x00\x07\x80\x02\x80\x80\x01"))
		raw.send(packet(0x82, "\x00\x08"+str("lab/+/x")+"\x00"+str("$share/g/demo/x")+"\x00")) // none is left
		raw.want(packet(0x90, "\x00\x08\x80\x80"))
		raw.send(packet(0x82, "\x00\x09"+str("lab/a/x")+"\x01"))
		raw.want(packet(0x90, "\x00\x09\x01"))
	})
}

func TestRefusedPublicationsAreAcknowledgedAndGoNowhere(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		direct, seen := client(t, p.direct)
		done(t, direct.SubscribeMultiple(map[string]byte{"lab/a/#": 2, "lab/b/#": 2, "demo/#": 2, "other": 2}, nil))
		raw := open(t, p.of(t, "a").url)
		raw.connect("c", 60)
		for _, topic := range []string{"lab/b/x", "demo/x", "other", "$SYS/x", "lab"} {
			raw.send(packet(0x31, str(topic)+"kept"))
			raw.send(packet(0x33, str(topic)+"\x00\x01kept"))
			raw.want(packet(0x40, "\x00\x01"))
			raw.send(packet(0x35, str(topic)+"\x00\x02kept"))
			raw.want(packet(0x50, "\x00\x02"))
			raw.send(packet(0x62, "\x00\x02"))
			raw.want(packet(0x70, "\x00\x02"))
		}
		raw.send(packet(0x32, str("lab/a/x")+"\x00\x03own"))
		raw.want(packet(0x40, "\x00\x03"))
		if m := next(t, seen); m.Topic() != "lab/a/x" {
			t.Errorf("%s was published", m.Topic())
		}
	})
}

func TestWillIsPublishedAfterACutAndNotAfterDISCONNECT(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		s := p.of(t, "a")
		direct, seen := client(t, p.direct)
		done(t, direct.Subscribe("lab/a/#", 1, nil))
		for name, leave := range map[string]func(*rawClient){
			"cut":        func(c *rawClient) { c.NetConn().Close() },
			"close":      func(c *rawClient) { c.close(1000) },
			"disconnect": func(c *rawClient) { c.send(packet(0xe0, "")); c.NetConn().Close() },
		} {
			raw := open(t, s.url)
			raw.send(packet(0x10, str("MQTT")+"\x04\x0e\x00\x3c"+str("w-"+name)+str("lab/a/will")+str(name)))
			raw.want("\x20\x02\x00\x00")
			leave(raw)
			if name != "disconnect" {
				if m := next(t, seen); string(m.Payload()) != name {
					t.Errorf("after %s: got %q on %s", name, m.Payload(), m.Topic())
				}
			}
		}
		other, _ := client(t, s.url) // by then the will would have been published
		done(t, other.Publish("lab/a/end", 1, false, "end"))
		if m := next(t, seen); m.Topic() != "lab/a/end" {
			t.Errorf("after DISCONNECT: got %q on %s", m.Payload(), m.Topic())
		}
	})
}

func TestWillThatIsNotAllowedRefusesTheConnection(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		raw := open(t, p.of(t, "a").url)
		raw.send(packet(0x10, str("MQTT")+"\x04\x06\x00\x3c"+str("w")+str("lab/b/will")+str("x")))
		raw.want("\x20\x02\x00\x05")
		raw.wantClose(1000, "The broker has closed the connection")
	})
}

func TestTakeoverByTheSameIdentifierWithinASession(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		a, b := p.of(t, "a"), p.of(t, "b")
		lost := make(chan string, 10)
		named := func(name string) func(*paho.ClientOptions) {
			return func(o *paho.ClientOptions) {
				o.SetClientID("same").SetConnectionLostHandler(func(paho.Client, error) { lost <- name })
			}
		}
		client(t, p.direct, named("directly"))
		client(t, b.url, named("of session b"))
		client(t, a.url, named("of session a"))
		c, _ := client(t, a.url, named("of session a, again"))
		select {
		case name := <-lost:
			if name != "of session a" {
				t.Errorf("the client %s was thrown out", name)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nobody was thrown out")
		}
		done(t, c.Publish("lab/a/x", 1, false, "x"))
		if len(lost) > 0 {
			t.Errorf("the client %s was thrown out, too", <-lost)
		}
	})
}

// Pongs of the WebSocket are no packets of MQTT.
func TestSilentClientIsDroppedAfterOneAndAHalfKeepAlives(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		rules := bridges.MQTTAccess{Topics: bridges.DefaultTopicLimits, Rules: new(bridges.MQTTRules)}
		s := serve(t, labs.DoorConfig{PingEvery: 100 * time.Millisecond, PongWithin: 5 * time.Second}, p.connect(t, rules, "", func(string) {}))
		raw := open(t, s.url)
		began := time.Now() // no later than the broker begins to count
		raw.connect("c", 1)
		raw.wantClose(1000, "The broker has closed the connection")
		if took := time.Since(began); took < 1400*time.Millisecond || took > 8*time.Second {
			t.Errorf("dropped after %v, with a keep alive of 1 s", took)
		}
	})
}

func TestPacketsAndMessagesDoNotAlign(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		raw := open(t, p.of(t, "a").url)
		all := packet(0x10, str("MQTT")+"\x04\x02\x00\x3c"+str("c"))
		for i := range all {
			raw.send(all[i : i+1])
		}
		raw.send("") // an empty message is no packet
		raw.want("\x20\x02\x00\x00")
		raw.send(packet(0x82, "\x00\x01"+str("lab/a/#")+"\x00") + "\xc0\x00\xc0") // and half a PINGREQ
		raw.want(packet(0x90, "\x00\x01\x00"))
		raw.want("\xd0\x00")
		raw.send("\x00")
		raw.want("\xd0\x00")
	})
}

func TestEmbeddedBrokerTakesMQTT5(t *testing.T) {
	raw := open(t, ofOurs(t).of(t, "a").url)
	raw.send(packet(0x10, str("MQTT")+"\x05\x02\x00\x3c\x00"+str("c")))
	_, connack, err := raw.ReadMessage()
	if err != nil || len(connack) < 5 || connack[0] != 0x20 || connack[3] != 0 {
		t.Fatalf("CONNACK %x, %v", connack, err)
	}
}

func TestSubprotocol(t *testing.T) {
	s := serve(t, labs.DoorConfig{}, func(context.Context, net.Conn) error { return nil })
	tests := []struct {
		offers []string
		says   string // empty: opens
	}{
		{[]string{"mqtt"}, ""},
		{[]string{"mqttv3.1", "mqtt"}, ""},
		{nil, "mqtt. (SUBPROTOCOL_UNKNOWN)"},
		{[]string{"graphql-ws"}, "mqtt. (SUBPROTOCOL_UNKNOWN)"},
		{[]string{"mqttv3.1"}, "mqttv3.1 is the subprotocol of MQTT 3.1"},
	}
	for _, test := range tests {
		d := websocket.Dialer{Subprotocols: test.offers}
		ws, resp, err := d.Dial(s.url, nil)
		if test.says == "" {
			if err != nil || ws.Subprotocol() != "mqtt" {
				t.Errorf("%q: %v", test.offers, err)
				continue
			}
			ws.Close()
			continue
		}
		if err == nil {
			t.Errorf("%q opened a socket", test.offers)
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 400 || !strings.Contains(string(body), test.says) {
			t.Errorf("%q: %d %s", test.offers, resp.StatusCode, body)
		}
	}
	if n := s.refused.of("SUBPROTOCOL_UNKNOWN"); n != 3 {
		t.Errorf("%d refusals were counted, want 3", n)
	}
}

func TestTextIsClosedWith1003(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		s := p.of(t, "a")
		raw := open(t, s.url)
		raw.connect("c", 60)
		if err := raw.WriteMessage(websocket.TextMessage, []byte("\x30\x03\x00\x01a")); err != nil {
			t.Fatal(err)
		}
		raw.wantClose(1003, "MQTT packets travel in binary messages, and this one is text (MQTT 3.1.1, section 6)")
		if s.refused.of("1003") != 1 {
			t.Error("it was not counted")
		}
	})
}

func TestShutdownTellsTheClient(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		s := p.of(t, "a")
		raw := open(t, s.url)
		raw.connect("c", 60)
		ended := make(chan error, 1)
		go func() { ended <- s.Shutdown(t.Context()) }()
		raw.wantClose(1012, "The server is restarting")
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A client that does not read stops the reading of its broker, until the write
// deadline drops it.
func TestSlowSocketIsNotReadFor(t *testing.T) {
	read := make(chan int, 1)
	s := serve(t, labs.DoorConfig{WriteDeadline: 300 * time.Millisecond}, func(_ context.Context, conn net.Conn) error {
		chunk, total := bytes.Repeat([]byte("x"), 64<<10), 0
		for {
			n, err := conn.Write(chunk)
			total += n
			if err != nil {
				read <- total
				return err
			}
		}
	})
	raw := open(t, s.url)
	defer raw.Close()
	select {
	case total := <-read:
		if total > 32<<20 { // what the system's buffers hold
			t.Errorf("%d bytes were taken from the broker for a client that reads none", total)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still connected after 10 s")
	}
	eventually(t, "the client is counted", func() bool { return s.refused.of("WRITE_TIMEOUT") == 1 })
}

// A broker that does not read stops the reading of the socket.
func TestSlowBrokerStopsTheSocket(t *testing.T) {
	s := serve(t, labs.DoorConfig{}, func(ctx context.Context, _ net.Conn) error {
		<-ctx.Done()
		return nil
	})
	raw := open(t, s.url)
	_ = raw.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	sent := 0
	for raw.WriteMessage(websocket.BinaryMessage, make([]byte, 64<<10)) == nil {
		if sent += 64 << 10; sent > 32<<20 {
			t.Fatalf("%d bytes were taken for a broker that reads none", sent)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_ = s.Shutdown(ctx) // drops the socket, which is in the middle of a message
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("waited 10 s until %s", what)
		}
	}
}

// rawClient speaks MQTT byte by byte.
type rawClient struct {
	*testing.T
	*websocket.Conn
	rest []byte // received, not looked at
}

func open(t *testing.T, url string) *rawClient {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{"mqtt"}}
	ws, _, err := d.Dial(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	_ = ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	return &rawClient{T: t, Conn: ws}
}

func (c *rawClient) send(bytes string) {
	c.Helper()
	if err := c.WriteMessage(websocket.BinaryMessage, []byte(bytes)); err != nil {
		c.Fatal(err)
	}
}

// connect says CONNECT and reads CONNACK.
func (c *rawClient) connect(id string, keepAlive byte) {
	c.Helper()
	c.send(packet(0x10, str("MQTT")+"\x04\x02\x00"+string([]byte{keepAlive})+str(id)))
	c.want("\x20\x02\x00\x00")
}

// want reads the next packet.
func (c *rawClient) want(bytes string) {
	c.Helper()
	for len(c.rest) < len(bytes) {
		kind, message, err := c.ReadMessage()
		if err != nil || kind != websocket.BinaryMessage {
			c.Fatalf("got %x, then a message of kind %d, %v; want %x", c.rest, kind, err, bytes)
		}
		c.rest = append(c.rest, message...)
	}
	if got := string(c.rest[:len(bytes)]); got != bytes {
		c.Fatalf("got %x, want %x", got, bytes)
	}
	c.rest = c.rest[len(bytes):]
}

func (c *rawClient) wantClose(code int, reason string) {
	c.Helper()
	_, message, err := c.ReadMessage()
	var closed *websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != code || closed.Text != reason {
		c.Fatalf("got %x, %v; want close %d %s", message, err, code, reason)
	}
}

func (c *rawClient) close(code int) {
	c.Helper()
	_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(time.Second))
	_, _, _ = c.ReadMessage()
}

// packet puts the fixed header before a body of up to 127 bytes.
func packet(first byte, body string) string { return string([]byte{first, byte(len(body))}) + body }

// str is a string as MQTT writes it, up to 255 bytes.
func str(s string) string { return string([]byte{0, byte(len(s))}) + s }

// TestSUBACKOfPahoIsTheSame: what a library makes of the codes.
func TestSUBACKOfPahoIsTheSame(t *testing.T) {
	everywhere(t, func(t *testing.T, p place) {
		c, _ := client(t, p.of(t, "a").url)
		token := c.SubscribeMultiple(map[string]byte{"lab/a/x": 1, "lab/b/x": 1}, nil).(*paho.SubscribeToken)
		token.WaitTimeout(10 * time.Second)
		if got := token.Result(); !maps.Equal(got, map[string]byte{"lab/a/x": 1, "lab/b/x": 0x80}) {
			t.Errorf("codes %v, %v", got, slices.Collect(maps.Keys(got)))
		}
	})
}
