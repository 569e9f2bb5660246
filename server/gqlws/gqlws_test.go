package gqlws

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/internal/live"
)

// Every test runs twice: with operations shared, and each on its own.
func TestMain(m *testing.M) { goleak.VerifyTestMain(bothWays{m}) }

type bothWays struct{ *testing.M }

var unshared bool

func (b bothWays) Run() int {
	code := b.M.Run()
	unshared = true
	return max(code, b.M.Run())
}

// gateway is a server under test.
type gateway struct {
	*testSchema
	transport *Transport
	url       string
}

func start(t testing.TB, cfg Config) *gateway {
	t.Helper()
	cfg.Unshared = unshared
	g := &gateway{testSchema: newTestSchema(t), transport: New(cfg)}
	srv := httptest.NewServer(newTestHandler(g.testSchema, g.transport))
	g.url = "ws" + strings.TrimPrefix(srv.URL, "http")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = g.transport.Shutdown(ctx)
		srv.Close()
	})
	return g
}

// subscribers says how many operations watch a topic.
func (g *gateway) subscribers(topic string) int {
	streams := len(g.queues(topic))
	g.transport.groups.mu.Lock()
	defer g.transport.groups.mu.Unlock()
	for key, group := range g.transport.groups.open {
		if strings.Contains(key.document, fmt.Sprintf("topic: %q", topic)) && streams > 0 {
			group.mu.Lock()
			streams += len(group.members) - 1
			group.mu.Unlock()
		}
	}
	return streams
}

// await waits until n operations watch a topic.
func (g *gateway) await(t testing.TB, topic string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d subscriptions of %s", n, topic), func() bool { return g.subscribers(topic) == n })
}

// client is a client that reads what it is told, for up to ten seconds.
type client struct {
	t testing.TB
	*websocket.Conn
}

func (g *gateway) dial(t testing.TB, tokens ...string) *client {
	t.Helper()
	d := websocket.Dialer{Subprotocols: tokens}
	ws, resp, err := d.Dial(g.url, nil)
	if err != nil {
		t.Fatalf("dial %v: %v %v", tokens, err, resp)
	}
	resp.Body.Close()
	t.Cleanup(func() { ws.Close() })
	_ = ws.SetReadDeadline(time.Now().Add(60 * time.Second))
	return &client{t, ws}
}

// connect is dial and an acknowledged connection_init.
func (g *gateway) connect(t testing.TB) *client {
	t.Helper()
	c := g.dial(t, TransportWS)
	c.send(`{"type":"connection_init"}`)
	c.want(`{"type":"connection_ack"}`)
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatalf("send %s: %v", text, err)
	}
}

func (c *client) subscribe(id, query string) {
	c.t.Helper()
	b, _ := json.Marshal(map[string]any{"id": id, "type": "subscribe", "payload": map[string]string{"query": query}})
	c.send(string(b))
}

func (c *client) words(id, topic string) {
	c.t.Helper()
	c.subscribe(id, fmt.Sprintf(`subscription { words(topic: %q) }`, topic))
}

func (c *client) read() string {
	c.t.Helper()
	_, b, err := c.ReadMessage()
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	return string(b)
}

func (c *client) want(text string) {
	c.t.Helper()
	if got := c.read(); got != text {
		c.t.Fatalf("\n got %s\nwant %s", got, text)
	}
}

func (c *client) wantWord(id, word string) {
	c.t.Helper()
	c.want(fmt.Sprintf(`{"id":%q,"type":"next","payload":{"data":{"words":%q}}}`, id, word))
}

// wantClose reads on to the end of the connection.
func (c *client) wantClose(code int, reason string) {
	c.t.Helper()
	for {
		_, _, err := c.ReadMessage()
		if err == nil {
			continue
		}
		var closed *websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != code || !strings.HasPrefix(closed.Text, reason) {
			c.t.Fatalf("ended with %v, want close %d %s", err, code, reason)
		}
		return
	}
}

func TestNegotiation(t *testing.T) {
	g := start(t, Config{})
	tests := []struct {
		offered []string
		chosen  string // empty: refused
	}{
		{[]string{TransportWS}, TransportWS},
		{[]string{LegacyWS}, LegacyWS},
		{[]string{TransportWS, LegacyWS}, TransportWS},
		{[]string{LegacyWS, TransportWS}, TransportWS},
		{[]string{"mqtt", LegacyWS}, LegacyWS},
		{[]string{"mqtt"}, ""},
		{nil, ""},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.offered, ","), func(t *testing.T) {
			ws, resp, err := (&websocket.Dialer{Subprotocols: test.offered}).Dial(g.url, nil)
			if test.chosen == "" {
				if err == nil || resp.StatusCode != http.StatusBadRequest {
					t.Fatalf("got %v %v, want 400", resp, err)
				}
				body, _ := io.ReadAll(resp.Body)
				if !strings.Contains(string(body), TransportWS) {
					t.Errorf("the refusal does not name what is accepted: %s", body)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer ws.Close()
			if ws.Subprotocol() != test.chosen {
				t.Errorf("chose %q, want %q", ws.Subprotocol(), test.chosen)
			}
		})
	}
}

func TestClosesByTheBook(t *testing.T) {
	g := start(t, Config{MessageBytes: 4096})
	hasty := start(t, Config{InitWait: 50 * time.Millisecond})
	tests := []struct {
		name string
		do   func(c *client)
		code int
	}{
		{"no connection_init in time", func(*client) {}, 4408},
		{"a ping does not count as connection_init", func(c *client) { c.send(`{"type":"ping"}`) }, 4408},
		{"subscribe before connection_init", func(c *client) { c.subscribe("1", `{ hello }`) }, 4401},
		{"second connection_init", func(c *client) {
			c.send(`{"type":"connection_init"}`)
			c.send(`{"type":"connection_init"}`)
		}, 4429},
		{"id in use", func(c *client) {
			c.send(`{"type":"connection_init"}`)
			c.words("1", "a")
			c.words("1", "a")
		}, 4409},
		{"not JSON", func(c *client) { c.send(`{`) }, 4400},
		{"binary", func(c *client) { _ = c.WriteMessage(websocket.BinaryMessage, []byte(`{}`)) }, 1003},
		{"invalid UTF-8", func(c *client) { c.send("{\"type\":\"\xff\"}") }, 1007},
		{"too large", func(c *client) { c.send(strings.Repeat(" ", 5000)) }, 1009},
		{"unmasked", func(c *client) { _, _ = c.NetConn().Write([]byte{0x81, 2, '{', '}'}) }, 1002},
		{"reserved bit", func(c *client) { _, _ = c.NetConn().Write([]byte{0xc1, 0x80, 0, 0, 0, 0}) }, 1002},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			at := g
			if test.code == 4408 { // the others must not be in a hurry
				at = hasty
			}
			c := at.dial(t, TransportWS)
			test.do(c)
			c.wantClose(test.code, "")
		})
	}
}

func TestCloseFrameIsEchoed(t *testing.T) {
	c := start(t, Config{}).connect(t)
	if err := c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4321, "bye"), time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	c.wantClose(4321, "")
}

func TestQueryOverTheSocket(t *testing.T) {
	c := start(t, Config{}).connect(t)
	c.subscribe("q", `{ greeting: hello }`)
	c.want(`{"id":"q","type":"next","payload":{"data":{"greeting":"world"}}}`)
	c.want(`{"id":"q","type":"complete"}`)
}

func TestIDsOfAllKinds(t *testing.T) {
	c := start(t, Config{}).connect(t)
	for _, id := range []string{strings.Repeat("x", 300), `quo"te\`, "🙂", "a b\n<&>"} {
		c.subscribe(id, `{ hello }`)
		for _, kind := range []string{"next", "complete"} {
			var m struct{ ID, Type string }
			if err := json.Unmarshal([]byte(c.read()), &m); err != nil || m.ID != id || m.Type != kind {
				t.Errorf("id %q: got %+v %v, want %s", id, m, err, kind)
			}
		}
	}
}

func TestErrorEndsAnOperationWithoutComplete(t *testing.T) {
	c := start(t, Config{}).connect(t)
	c.subscribe("1", `subscription { nothing }`)
	if got := c.read(); !strings.HasPrefix(got, `{"id":"1","type":"error","payload":[{"message":"Cannot query field \"nothing\"`) {
		t.Errorf("validation error came as %s", got)
	}
	c.subscribe("2", `subscription { refused }`)
	c.want(`{"id":"2","type":"error","payload":[{"message":"The test refuses.","extensions":{"code":"REFUSED"}}]}`)
	c.subscribe("1", `{ hello }`) // the ids are free, and nothing came between
	c.want(`{"id":"1","type":"next","payload":{"data":{"hello":"world"}}}`)
}

func TestEventsInOrderThenComplete(t *testing.T) {
	g := start(t, Config{})
	for _, query := range []string{`subscription { w: count(n: 500) }`, `subscription { w: plain(n: 500) }`} {
		c := g.connect(t)
		c.subscribe("1", query)
		for i := range 500 {
			c.want(fmt.Sprintf(`{"id":"1","type":"next","payload":{"data":{"w":"%d"}}}`, i))
		}
		c.want(`{"id":"1","type":"complete"}`)
	}
}

func TestStreamEndsWithItsReason(t *testing.T) {
	g := start(t, Config{})
	c := g.connect(t)
	c.words("1", "a")
	g.await(t, "a", 1)
	g.publish("a", "first")
	g.queues("a")[0].End(errRefused)
	c.wantWord("1", "first")
	c.want(`{"id":"1","type":"error","payload":[{"message":"The test refuses.","extensions":{"code":"REFUSED"}}]}`)
}

func TestGapIsTold(t *testing.T) {
	g := start(t, Config{})
	c := g.connect(t)
	c.words("1", "a")
	g.await(t, "a", 1)
	g.queues("a")[0].Mark(live.Gap{Reason: live.GapOutage, Missed: 3, LastGood: time.Unix(0, 0)})
	g.publish("a", "after")
	c.want(`{"id":"1","type":"next","payload":{"data":{"words":"after"},"extensions":{"sluice":{"gap":{"reason":"OUTAGE","missed":3,"lastGood":"1970-01-01T00:00:00.000Z"}}}}}`)
}

func TestNothingAfterTheClientsComplete(t *testing.T) {
	g := start(t, Config{QueueBytes: 64 << 20})
	c := g.connect(t)
	c.words("1", "a")
	g.await(t, "a", 1)
	big := strings.Repeat("x", 60_000)
	for range 200 { // far more than the kernel's buffers hold
		g.publish("a", big)
	}
	c.wantWord("1", big) // the others are queued, or about to be
	c.send(`{"id":"1","type":"complete"}`)
	g.await(t, "a", 0)
	c.words("1", "b") // the same id, for something else
	g.await(t, "b", 1)
	g.publish("b", "fresh")
	late := 0
	for {
		if text := c.read(); strings.Contains(text, `"fresh"`) {
			break
		}
		late++ // was in the kernel's hands already
	}
	if late > 150 {
		t.Errorf("%d of 199 queued frames came after the complete", late)
	}
}

func TestIdleSubscriptionsNeedNoGoroutine(t *testing.T) {
	g := start(t, Config{Operations: 2000, OperationsBurst: 2000})
	c := g.connect(t)
	before := runtime.NumGoroutine()
	for i := range 1000 {
		c.words(strconv.Itoa(i), "a")
	}
	g.await(t, "a", 1000)
	eventually(t, "the goroutines that opened them to end", func() bool { return runtime.NumGoroutine() <= before+2 })
}

func TestTooManyOperationsAreRefusedOneByOne(t *testing.T) {
	g := start(t, Config{Operations: 2})
	c := g.connect(t)
	c.words("1", "a")
	c.words("2", "a")
	c.words("3", "a")
	if got := c.read(); !strings.Contains(got, `{"id":"3","type":"error"`) || !strings.Contains(got, "TOO_MANY_SUBSCRIPTIONS") {
		t.Errorf("got %s", got)
	}
	c.send(`{"id":"1","type":"complete"}`)
	c.words("3", "b")
	g.await(t, "b", 1)
}

func TestSlowConsumerIsClosedAndHurtsNobody(t *testing.T) {
	g := start(t, Config{QueueBytes: 256 << 10})
	slow, fast := g.connect(t), g.connect(t)
	slow.words("1", "a")
	fast.words("1", "a")
	g.await(t, "a", 2)
	word := strings.Repeat("x", 10_000)
	n := 0
	for ; g.subscribers("a") == 2; n++ { // slow reads nothing
		g.publish("a", word)
		fast.wantWord("1", word)
		if n > 10_000 {
			t.Fatal("100 MB were queued for a client that does not read")
		}
	}
	slow.wantClose(SlowConsumer.Code, "Slow consumer")
}

func TestLargeFramePassesAnEmptyQueue(t *testing.T) {
	g := start(t, Config{QueueBytes: 1000})
	c := g.connect(t)
	c.words("1", "a")
	g.await(t, "a", 1)
	word := strings.Repeat("x", 100_000)
	g.publish("a", word)
	c.wantWord("1", word)
}

func TestLargeResultBecomesAnError(t *testing.T) {
	g := start(t, Config{PayloadBytes: 100})
	c := g.connect(t)
	c.words("1", "a")
	g.await(t, "a", 1)
	g.publish("a", strings.Repeat("x", 101))
	if got := c.read(); !strings.Contains(got, `"payload":{"data":null,"errors":`) || !strings.Contains(got, "PAYLOAD_TOO_LARGE") {
		t.Errorf("got %s", got)
	}
	g.publish("a", "small")
	c.wantWord("1", "small")
}

func TestPanicEndsOneOperation(t *testing.T) {
	g := start(t, Config{})
	c := g.connect(t)
	c.words("1", "a")
	c.words("2", "b")
	g.await(t, "a", 1)
	g.await(t, "b", 1)
	g.publish("a", "panic")
	if got := c.read(); !strings.HasPrefix(got, `{"id":"1","type":"error"`) {
		t.Errorf("got %s", got)
	}
	g.publish("b", "fine")
	c.wantWord("2", "fine")
	c.subscribe("3", `{ panic }`)
	if got := c.read(); !strings.HasPrefix(got, `{"id":"3","type":"error"`) {
		t.Errorf("got %s", got)
	}
}

func TestCompleteWhileOpening(t *testing.T) {
	g := start(t, Config{})
	g.hold = make(chan struct{})
	c := g.connect(t)
	c.subscribe("1", `subscription { held }`)
	c.subscribe("2", `{ slow }`)
	c.send(`{"id":"1","type":"complete"}`)
	c.send(`{"id":"2","type":"complete"}`)
	c.send(`{"type":"ping"}`)
	c.want(`{"type":"pong"}`)
	close(g.hold)
	c.subscribe("1", `{ hello }`)
	c.want(`{"id":"1","type":"next","payload":{"data":{"hello":"world"}}}`)
	g.await(t, "held", 0)
}

func TestUpstreamGoesWithTheSocket(t *testing.T) {
	g := start(t, Config{})
	for range 20 {
		c := g.connect(t)
		c.words("1", "a")
		c.words("2", "a")
	}
	g.await(t, "a", 40)
	for _, c := range g.transport.snapshot() {
		c.drop()
	}
	g.await(t, "a", 0)
	eventually(t, "the sockets to go", func() bool { return g.transport.Stats().Connections == 0 })
}

// Of the request that opened a socket, operations see what Context picks and
// nothing else; without it, its headers and its context's values.
func TestContextPicksOfTheRequest(t *testing.T) {
	type key struct{}
	type seen struct {
		picked  any
		headers bool
		request any // a value of the request's context
	}
	for _, c := range []struct {
		name    string
		context func(*http.Request) context.Context
		want    seen
	}{
		{"given", func(r *http.Request) context.Context {
			return context.WithValue(context.Background(), key{}, r.URL.Path)
		}, seen{picked: "/"}},
		{"not given", nil, seen{headers: true, request: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			joins := make(chan seen, 1)
			g := start(t, Config{Context: c.context, Join: func(ctx context.Context, opCtx *graphql.OperationContext) (func(), error) {
				got := seen{picked: ctx.Value(key{}), headers: opCtx.Headers.Get("Sec-WebSocket-Version") != ""}
				if ctx.Value(http.ServerContextKey) != nil {
					got.request = true
				}
				joins <- got
				return nil, nil
			}})
			g.connect(t).words("1", "a")
			if got := <-joins; got != c.want {
				t.Errorf("an operation sees %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestInitDecides(t *testing.T) {
	g := start(t, Config{Init: func(ctx context.Context, payload json.RawMessage) (context.Context, map[string]any, error) {
		if string(payload) == `{"token":"good"}` {
			return ctx, map[string]any{"welcome": true}, nil
		}
		return nil, nil, errors.New("the token is not good")
	}})
	c := g.dial(t, TransportWS)
	c.send(`{"type":"connection_init","payload":{"token":"good"}}`)
	c.want(`{"type":"connection_ack","payload":{"welcome":true}}`)

	c = g.dial(t, TransportWS)
	c.send(`{"type":"connection_init"}`)
	c.wantClose(4403, "the token is not good")

	c = g.dial(t, LegacyWS)
	c.send(`{"type":"connection_init"}`)
	c.want(`{"type":"connection_error","payload":{"message":"the token is not good"}}`)
	c.wantClose(4403, "")
}

func TestLegacyPipelinedAndKeptAlive(t *testing.T) {
	g := start(t, Config{PingEvery: 50 * time.Millisecond, PongWithin: 5 * time.Second})
	c := g.dial(t, LegacyWS)
	c.send(`{"type":"connection_init","payload":{}}`)
	c.send(`{"id":"1","type":"start","payload":{"query":"{ hello }"}}`)
	c.want(`{"type":"connection_ack"}`)
	c.want(`{"type":"ka"}`)
	for got := ""; !strings.Contains(got, "complete"); {
		if got = c.read(); strings.Contains(got, `"ka"`) {
			continue
		}
		if !strings.Contains(got, `{"id":"1","type":"data","payload":{"data":{"hello":"world"}}}`) && !strings.Contains(got, `{"id":"1","type":"complete"}`) {
			t.Fatalf("got %s", got)
		}
	}
	c.want(`{"type":"ka"}`) // by the keeper
	c.send(`{"type":"connection_terminate"}`)
	c.wantClose(1000, "")
}

func TestPingsBothWays(t *testing.T) {
	g := start(t, Config{PingEvery: 20 * time.Millisecond, PongWithin: time.Second})
	c := g.connect(t)
	pinged, ponged := make(chan string, 100), make(chan string, 100)
	answer := c.PingHandler()
	c.SetPingHandler(func(s string) error { pinged <- s; return answer(s) })
	c.SetPongHandler(func(s string) error { ponged <- s; return nil })
	if err := c.WriteControl(websocket.PingMessage, []byte("are you there"), time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	go func() { // gorilla handles control frames while it reads
		for {
			if _, _, err := c.ReadMessage(); err != nil {
				return
			}
		}
	}()
	if got := <-ponged; got != "are you there" {
		t.Errorf("pong carries %q", got)
	}
	for range 60 { // longer than a client without pongs would live
		<-pinged
	}
}

func TestClientWithoutPongsIsDropped(t *testing.T) {
	g := start(t, Config{PingEvery: 20 * time.Millisecond, PongWithin: time.Second}) // to connect takes a while, too
	c := g.connect(t)
	c.SetPingHandler(func(string) error { return nil })
	_, _, err := c.ReadMessage()
	if err == nil || websocket.IsCloseError(err, 1000) {
		t.Fatalf("got %v, want a dropped connection", err)
	}
	eventually(t, "the socket to go", func() bool { return g.transport.Stats().Connections == 0 })
}

func TestFloodOfPingsIsBounded(t *testing.T) {
	g := start(t, Config{WriteDeadline: 200 * time.Millisecond})
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "ws://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", TransportWS)
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v %v", resp, err)
	}
	ping := append([]byte{0x89, 0x80 | 125, 0, 0, 0, 0}, make([]byte, 125)...)
	_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	for range 50_000 { // and read no pong
		if _, err := conn.Write(ping); err != nil {
			return // dropped for not reading: as good
		}
	}
	for _, c := range g.transport.snapshot() {
		c.out.mu.Lock()
		if n := len(c.out.pong); n > 200 {
			t.Errorf("%d bytes of pongs are queued", n)
		}
		c.out.mu.Unlock()
	}
}

func TestShutdownTellsAndWaits(t *testing.T) {
	g := start(t, Config{})
	c := g.connect(t)
	c.words("1", "a")
	g.await(t, "a", 1)
	done := make(chan error, 1)
	go func() { done <- g.transport.Shutdown(t.Context()) }()
	c.wantClose(ServiceRestart.Code, ServiceRestart.Reason)
	if err := <-done; err != nil {
		t.Error(err)
	}
	g.await(t, "a", 0)
}

func TestShutdownDropsThoseWhoDoNotAnswer(t *testing.T) {
	g := start(t, Config{})
	g.connect(t) // never reads again
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := g.transport.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if n := g.transport.Stats().Connections; n != 0 {
		t.Errorf("%d sockets are left", n)
	}
}

// field subscribes to a topic by another field than words.
func (c *client) field(id, field, topic string) {
	c.t.Helper()
	c.subscribe(id, fmt.Sprintf(`subscription { words: %s(topic: %q) }`, field, topic))
}

func TestIdenticalOperationsShareOneExecution(t *testing.T) {
	if unshared {
		t.Skip("this run shares nothing")
	}
	g := start(t, Config{})
	a, b := g.connect(t), g.connect(t)
	a.words("1", "a")
	a.words("2", "a")
	b.words("an id of another length", "a")
	b.words("4", "b")
	b.field("5", "private", "a")
	g.await(t, "b", 1)
	eventually(t, "both streams of a", func() bool { return len(g.queues("a")) == 2 && g.subscribers("a") == 4 })
	g.publish("a", "hello")
	got := a.read() + a.read() + b.read() + b.read()
	for _, id := range []string{"1", "2", "an id of another length", "5"} {
		if !strings.Contains(got, fmt.Sprintf(`{"id":%q,"type":"next","payload":{"data":{"words":"hello"}}}`, id)) {
			t.Errorf("%s got nothing: %s", id, got)
		}
	}
	// The first member leaves; the others keep the stream.
	a.send(`{"id":"1","type":"complete"}`)
	a.send(`{"id":"2","type":"complete"}`)
	b.send(`{"id":"5","type":"complete"}`)
	g.await(t, "a", 1)
	g.publish("a", "still")
	b.wantWord("an id of another length", "still")
	b.send(`{"id":"an id of another length","type":"complete"}`)
	g.await(t, "a", 0)
}

func TestVariablesTellOperationsApart(t *testing.T) {
	g := start(t, Config{})
	c := g.connect(t)
	for _, topic := range []string{"a", "b"} {
		c.send(fmt.Sprintf(`{"id":%q,"type":"subscribe","payload":{"query":"subscription W($t: String!) { words(topic: $t) }","variables":{"t":%q}}}`, topic, topic))
	}
	for _, topic := range []string{"a", "b"} {
		eventually(t, "the stream", func() bool { return len(g.queues(topic)) == 1 })
		g.publish(topic, "of "+topic)
		c.wantWord(topic, "of "+topic)
	}
}

func TestFailureToOpenGoesToAllAndIsNotKept(t *testing.T) {
	g := start(t, Config{})
	c := g.connect(t)
	for _, id := range []string{"1", "2", "1"} {
		c.subscribe(id, `subscription { refused }`)
		c.want(fmt.Sprintf(`{"id":%q,"type":"error","payload":[{"message":"The test refuses.","extensions":{"code":"REFUSED"}}]}`, id))
	}
}

func TestNewcomerGetsTheLastResult(t *testing.T) {
	if unshared {
		t.Skip("a stream of one's own begins when it begins")
	}
	g := start(t, Config{})
	a, b := g.connect(t), g.connect(t)
	a.field("1", "latest", "a")
	g.await(t, "a", 1)
	g.publish("a", "one")
	a.wantWord("1", "one")
	b.field("1", "latest", "a")
	b.wantWord("1", "one")
	g.publish("a", "two")
	a.wantWord("1", "two")
	b.wantWord("1", "two")
}

func TestKeepLatestDropsForTheSlowAndTells(t *testing.T) {
	g := start(t, Config{QueueBytes: 100_000})
	slow, fast := g.connect(t), g.connect(t)
	slow.field("1", "latest", "a")
	fast.field("1", "latest", "a")
	g.await(t, "a", 2)
	word := func(i int) string { return fmt.Sprintf("%d %s", i, strings.Repeat("x", 20_000)) }
	const n = 1000
	for i := range n { // 20 MB, of which slow reads nothing
		g.publish("a", word(i))
		fast.wantWord("1", word(i))
	}
	last, missed := -1, 0
	for last < n-1 {
		var m struct {
			Payload struct {
				Data       struct{ Words string }
				Extensions struct {
					Sluice struct {
						Gap *struct {
							Reason string
							Missed int
						}
					}
				}
			}
		}
		if err := json.Unmarshal([]byte(slow.read()), &m); err != nil {
			t.Fatal(err)
		}
		var i int
		if _, err := fmt.Sscan(m.Payload.Data.Words, &i); err != nil {
			t.Fatal(err)
		}
		skipped := i - last - 1
		gap := m.Payload.Extensions.Sluice.Gap
		if skipped > 0 && (gap == nil || gap.Missed != skipped || gap.Reason != "OVERFLOW") || skipped == 0 && gap != nil {
			t.Fatalf("%d after %d, with the gap %+v", i, last, gap)
		}
		missed += skipped
		last = i
	}
	if missed == 0 {
		t.Error("nothing was dropped: the test did not fill the queue")
	}
}

func TestOperationsPerSecond(t *testing.T) {
	refused := make(chan string, 10)
	g := start(t, Config{OperationsPerSecond: 1, OperationsBurst: 2, Refused: func(code string) { refused <- code }})
	c := g.connect(t)
	for _, id := range []string{"1", "2"} {
		c.subscribe(id, `{ hello }`)
		c.want(fmt.Sprintf(`{"id":%q,"type":"next","payload":{"data":{"hello":"world"}}}`, id))
		c.want(fmt.Sprintf(`{"id":%q,"type":"complete"}`, id))
	}
	c.subscribe("3", `{ hello }`)
	if got := c.read(); !strings.HasPrefix(got, `{"id":"3","type":"error"`) || !strings.Contains(got, "RATE_LIMITED") {
		t.Errorf("got %s", got)
	}
	for range 30 { // ten times the burst, and more
		if c.WriteMessage(websocket.TextMessage, []byte(`{"type":"pong"}`)) != nil {
			break
		}
	}
	c.wantClose(Flooding.Code, Flooding.Reason)
	for _, want := range []string{"RATE_LIMITED", "1013"} {
		if code := <-refused; code != want {
			t.Errorf("counted as %s, want %s", code, want)
		}
	}
}

// TestScopesShareNothing: what one subscriber may see, another of the same
// document may not.
func TestScopesShareNothing(t *testing.T) {
	if unshared {
		t.Skip("this run shares nothing")
	}
	type key struct{}
	g := start(t, Config{
		Init: func(ctx context.Context, payload json.RawMessage) (context.Context, map[string]any, error) {
			return context.WithValue(ctx, key{}, string(payload)), nil, nil
		},
		Scope: func(ctx context.Context) (string, context.Context) {
			scope, _ := ctx.Value(key{}).(string)
			return scope, context.Background()
		},
	})
	for _, scope := range []string{"1", "2", "2", "2"} {
		c := g.dial(t, TransportWS)
		c.send(`{"type":"connection_init","payload":{"scope":` + scope + `}}`)
		c.want(`{"type":"connection_ack"}`)
		c.words("of "+scope, "a")
	}
	eventually(t, "four subscribers", func() bool {
		g.transport.groups.mu.Lock()
		defer g.transport.groups.mu.Unlock()
		members := make(map[string]int)
		for key, group := range g.transport.groups.open {
			group.mu.Lock()
			members[key.scope] += len(group.members)
			group.mu.Unlock()
		}
		return members[`{"scope":1}`] == 1 && members[`{"scope":2}`] == 3
	})
	eventually(t, "two executions", func() bool { return len(g.queues("a")) == 2 })
}
