package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/graph"
	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/presence"
	"github.com/sluice-gateway/sluice/internal/rooms"
	"github.com/sluice-gateway/sluice/lessons"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/dlclark/regexp2/v2.runClock")) // of the highlighter; it stops by itself
}

// memoryChannels is the in-memory bridge in Redis's place; patterns are its
// filters. It has no streams.
type memoryChannels struct {
	*bridges.Memory
	bridges.Streams
}

func (m memoryChannels) SubscribePattern(ctx context.Context, pattern string) (live.Sub[*bridges.Message], error) {
	return m.Subscribe(ctx, pattern, bridges.AtMostOnce)
}

// gateway is a server on in-memory brokers.
type gateway struct {
	*Server
	url       string
	mqtt      *bridges.Memory
	redis     *bridges.Memory
	states    *bridges.States
	rooms     *rooms.Rooms
	classroom *lessons.Classroom
	log       *bytes.Buffer // read it after a request has been answered
	stop      func() error  // Shutdown, once
}

// embedded reads the course once: to render its texts takes a while.
var embedded = sync.OnceValues(lessons.Embedded)

// start starts one; change may alter its configuration.
func start(t *testing.T, change ...func(*Config)) *gateway {
	t.Helper()
	g := build(t, change...)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config, srv.Listener = g.HTTPServer(g), g.Watch(srv.Listener)
	srv.Start()
	g.url = srv.URL
	t.Cleanup(func() {
		_ = g.stop()
		srv.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return g
}

// build makes one that nobody can reach.
func build(t *testing.T, change ...func(*Config)) *gateway {
	t.Helper()
	g := &gateway{
		mqtt: bridges.NewMemory(bridges.MemoryConfig{}), redis: bridges.NewMemory(bridges.MemoryConfig{}),
		states: new(bridges.States), log: new(bytes.Buffer),
	}
	g.states.Set("mqtt", bridges.KindMQTT, bridges.Status{State: bridges.Connected})
	events, members := eventlog.New(eventlog.NewMemory(eventlog.Retention{}, nil), eventlog.Config{}), presence.NewMemory()
	room := rooms.New(events, members)
	g.rooms = room
	mqttRules, err1 := bridges.NewMQTTRules([]string{"demo/#"}, []string{"demo/#"})
	redisRules, err2 := bridges.NewRedisRules([]string{"demo/*"}, []string{"demo/*"})
	access, err3 := NewAccess(true, []string{"https://app.example"}, []string{"gateway.internal"})
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			t.Fatal(err)
		}
	}
	guard := bridges.Guard{Topics: bridges.DefaultTopicLimits, PublishBytes: 1000}
	cfg := Config{
		Logger: slog.New(slog.NewTextHandler(g.log, nil)), Access: access, Introspection: true,
		Limits: Limits{HeaderBytes: 16 << 10, HeaderWait: 5 * time.Second, Idle: time.Minute, BodyBytes: 10_000, BodyWait: time.Second, Document: DocumentLimits{
			Bytes: 32 << 10, Tokens: 500, Depth: 12, IntrospectionDepth: 20, Aliases: 30, Directives: 50,
			Fragments: 50, RootFields: 20, Selections: 1000, Complexity: 500, Errors: 20,
		}, Connections: 1000, ConnectionsPerAddress: 10, PublishPerSecond: 1000, PublishBurst: 1000},
		Resolver: &graph.Resolver{
			MQTT:    bridges.GuardedMQTT{Guard: guard, Bridge: g.mqtt, Rules: mqttRules},
			Redis:   bridges.GuardedRedis{Guard: guard, Bridge: memoryChannels{Memory: g.redis}, Rules: redisRules},
			Rooms:   room,
			States:  g.states,
			Cursors: eventlog.NewCursors(eventlog.NewMemory(eventlog.Retention{}, nil), ""),
		},
	}
	course, err := embedded()
	if err != nil {
		t.Fatal(err)
	}
	g.classroom = lessons.NewClassroom(lessons.ClassroomConfig{Course: course, Log: events})
	cfg.Resolver.Classroom = g.classroom
	for _, alter := range change {
		alter(&cfg)
	}
	if g.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	cfg.Resolver.Stats = g.Stats
	g.stop = sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := g.Server.Shutdown(ctx)
		g.classroom.Close()
		events.Close()
		return errors.Join(err, members.Close())
	})
	t.Cleanup(func() {
		if err := g.stop(); err != nil {
			t.Error(err)
		}
		g.mqtt.Close()
		g.redis.Close()
	})
	return g
}

// do sends a request; header are name, value, name, value …
func (g *gateway) do(t *testing.T, method, path, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, g.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), resp.Header
}

// query posts a document and returns the response's text.
func (g *gateway) query(t *testing.T, document string, variables map[string]any) string {
	t.Helper()
	b, _ := json.Marshal(map[string]any{"query": document, "variables": variables})
	_, body, _ := g.do(t, "POST", "/graphql", string(b), "Content-Type", "application/json")
	return body
}

func TestWhoMayCome(t *testing.T) {
	g := start(t)
	tests := []struct {
		name, origin, host string
		status             int
	}{
		{"no page", "", "", 200},
		{"same origin", "http://gateway.internal", "gateway.internal", 200},
		{"a page of this machine", "http://localhost:5173", "", 200},
		{"another one", "https://127.0.0.1", "", 200},
		{"by IPv6", "http://[::1]:3000", "", 200},
		{"a configured origin", "https://app.example", "", 200},
		{"a foreign page", "https://evil.example", "", 403},
		{"a look-alike", "https://app.example.evil.com", "", 403},
		{"localhost as a prefix", "http://localhost.evil.com", "", 403},
		{"a sandboxed page", "null", "", 403},
		{"a configured origin over http", "http://app.example", "", 403},
		{"a file", "file://", "", 403},
		{"a rebound name", "", "evil.example", 403},
		{"a rebound name with its own page", "http://evil.example", "evil.example", 403},
		{"a configured host", "", "gateway.internal:8080", 200},
		{"an origin's host", "", "app.example", 200},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var header []string
			if test.origin != "" {
				header = append(header, "Origin", test.origin)
			}
			if test.host != "" {
				header = append(header, "Host", test.host)
			}
			status, body, _ := g.do(t, "GET", "/graphql?query=%7Bhello%7D", "", header...)
			if status != test.status {
				t.Errorf("got %d %s", status, body)
			}
			h := http.Header{"Sec-Websocket-Protocol": {"graphql-transport-ws"}}
			for i := 0; i < len(header); i += 2 {
				h.Set(header[i], header[i+1])
			}
			ws, resp, err := websocket.DefaultDialer.Dial(strings.Replace(g.url, "http", "ws", 1)+"/graphql", h)
			if err == nil {
				ws.Close()
			}
			if want := test.status == 200; (err == nil) != want {
				t.Errorf("WebSocket: %v %v", err, resp)
			}
			if status, _, _ := g.do(t, "GET", "/healthz", "", header...); status != 200 {
				t.Errorf("healthz answers %d", status)
			}
		})
	}
}

func TestPreflight(t *testing.T) {
	g := start(t)
	status, _, header := g.do(t, "OPTIONS", "/graphql", "", "Origin", "https://app.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
	if status != 204 || header.Get("Access-Control-Allow-Origin") != "https://app.example" || header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("got %d %v", status, header)
	}
	if status, _, header = g.do(t, "OPTIONS", "/graphql", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST"); status != 403 || header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("got %d %v", status, header)
	}
}

func TestBadAccessSettings(t *testing.T) {
	for _, origin := range []string{"app.example", "https://app.example/", "ftp://x", "https://u:p@x", "*"} {
		if _, err := NewAccess(false, []string{origin}, nil); err == nil {
			t.Errorf("origin %q was accepted", origin)
		}
	}
	for _, host := range []string{"", "https://x", "a b", "a/b"} {
		if _, err := NewAccess(false, nil, []string{host}); err == nil {
			t.Errorf("host %q was accepted", host)
		}
	}
}

func TestReadiness(t *testing.T) {
	g := start(t)
	if status, body, _ := g.do(t, "GET", "/readyz", ""); status != 200 || !strings.Contains(body, `"ready"`) {
		t.Errorf("got %d %s", status, body)
	}
	g.states.Set("mqtt", bridges.KindMQTT, bridges.Status{State: bridges.Connecting})
	if status, body, _ := g.do(t, "GET", "/readyz", ""); status != 503 || !strings.Contains(body, `"mqtt":"CONNECTING"`) {
		t.Errorf("got %d %s", status, body)
	}
	g.states.Set("mqtt", bridges.KindMQTT, bridges.Status{State: bridges.Connected})
	g.Drain(t.Context())
	if status, body, _ := g.do(t, "GET", "/readyz", ""); status != 503 || !strings.Contains(body, "draining") {
		t.Errorf("got %d %s", status, body)
	}
	if status, _, _ := g.do(t, "GET", "/healthz", ""); status != 200 {
		t.Errorf("healthz answers %d", status)
	}
}

func TestRefusalsCarryCodes(t *testing.T) {
	g := start(t)
	tests := []struct {
		name, document string
		variables      map[string]any
		code           string
	}{
		{"slow beyond its bound", `{ slow(ms: 10001) }`, nil, "ARGUMENT_OUT_OF_RANGE"},
		{"a code of one's own", `{ fail(code: "MINE") }`, nil, "MINE"},
		{"a code that is none", `{ fail(code: "not a code") }`, nil, "ARGUMENT_OUT_OF_RANGE"},
		{"publishing outside the list", `mutation { publishMQTT(input: {topic: "secret", payload: "x"}) { acknowledgedAt } }`, nil, "TOPIC_FORBIDDEN"},
		{"publishing to a wildcard", `mutation { publishMQTT(input: {topic: "demo/#", payload: "x"}) { acknowledgedAt } }`, nil, "TOPIC_INVALID"},
		{"publishing too much", `mutation P($p: String!) { publishMQTT(input: {topic: "demo/a", payload: $p}) { acknowledgedAt } }`, map[string]any{"p": strings.Repeat("x", 1001)}, "PAYLOAD_TOO_LARGE"},
		{"publishing broken base64", `mutation { publishMQTT(input: {topic: "demo/a", payload: "?", encoding: BASE64}) { acknowledgedAt } }`, nil, "PAYLOAD_INVALID"},
		{"a channel with a line break", `mutation { publishRedis(input: {channel: "demo/a\r\nPING", payload: "x"}) { receivers } }`, nil, "TOPIC_INVALID"},
		{"a room that is none", `mutation { sendMessage(input: {room: "kitchen", content: "x"}) { id } }`, nil, "ROOM_INVALID"},
		{"an empty message", `mutation { sendMessage(input: {content: " "}) { id } }`, nil, "MESSAGE_INVALID"},
		{"a long message", `mutation S($c: String!) { sendMessage(input: {content: $c}) { id } }`, map[string]any{"c": strings.Repeat("あ", 501)}, "MESSAGE_INVALID"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if body := g.query(t, test.document, test.variables); !strings.Contains(body, fmt.Sprintf(`"code":%q`, test.code)) {
				t.Errorf("got %s", body)
			}
		})
	}
}

func TestInternalErrorsAreMasked(t *testing.T) {
	g := start(t)
	present := graph.Present(slog.New(slog.NewTextHandler(g.log, nil)), func(string) {})
	told := present(graphql.WithResponseContext(t.Context(), present, graphql.DefaultRecover), fmt.Errorf("dial tcp 10.0.0.7: password hunter2"))
	if strings.Contains(told.Message, "hunter2") || told.Extensions["code"] != "INTERNAL" {
		t.Errorf("told %+v", told)
	}
	id := strings.Fields(told.Message[strings.Index(told.Message, "under ")+6:])[0]
	if !strings.Contains(g.log.String(), strings.Trim(id, ".")) {
		t.Errorf("the log does not hold %s: %s", id, g.log)
	}
}

// socket is a client of graphql-transport-ws.
type socket struct {
	*testing.T
	*websocket.Conn
}

func (g *gateway) socket(t *testing.T) *socket {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{"graphql-transport-ws"}}
	ws, resp, err := d.Dial(strings.Replace(g.url, "http", "ws", 1)+"/graphql", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	t.Cleanup(func() { ws.Close() })
	_ = ws.SetReadDeadline(time.Now().Add(30 * time.Second))
	s := &socket{t, ws}
	s.send(`{"type":"connection_init"}`)
	s.read()
	return s
}

func (s *socket) send(text string) {
	s.Helper()
	if err := s.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		s.Fatal(err)
	}
}

func (s *socket) subscribe(id, document string) {
	s.Helper()
	b, _ := json.Marshal(map[string]any{"id": id, "type": "subscribe", "payload": map[string]any{"query": document}})
	s.send(string(b))
}

func (s *socket) read() string {
	s.Helper()
	_, b, err := s.ReadMessage()
	if err != nil {
		s.Fatal(err)
	}
	return string(b)
}

// until waits for a bridge's upstream, which is there before the first message.
func until(t *testing.T, b *bridges.Memory, topic string) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !strings.Contains(fmt.Sprint(b.Upstreams()), topic) {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("no subscription of %s", topic)
		}
	}
}

func TestBrokerMessageReachesASubscription(t *testing.T) {
	g := start(t)
	s := g.socket(t)
	s.subscribe("1", `subscription { mqttMessages(topic: "demo/+", qos: AT_LEAST_ONCE) { topic payload encoding json qos retained } }`)
	until(t, g.mqtt, "demo/+")
	for _, test := range []struct{ payload, want string }{
		{`"hi" <b>`, `"payload":"\"hi\" <b>","encoding":"UTF8","json":null`},
		{` { "a" : [1, 2] } `, `"payload":" { \"a\" : [1, 2] } ","encoding":"UTF8","json":{"a":[1,2]}`},
		{"\xff\xfe", `"payload":"//4=","encoding":"BASE64","json":null`},
		{"", `"payload":"","encoding":"UTF8","json":null`},
	} {
		if _, err := g.mqtt.Publish(t.Context(), bridges.Publication{Topic: "demo/a", Payload: []byte(test.payload), QoS: bridges.ExactlyOnce}); err != nil {
			t.Fatal(err)
		}
		got := s.read()
		if !strings.Contains(got, test.want) || !strings.Contains(got, `"qos":"AT_LEAST_ONCE"`) || !json.Valid([]byte(got)) {
			t.Errorf("got %s\nwant %s", got, test.want)
		}
	}
}

func TestRoomsReachEverybodyInOneOrder(t *testing.T) {
	g := start(t)
	readers := []*socket{g.socket(t), g.socket(t)}
	for _, s := range readers {
		s.subscribe("1", `subscription { messageUpdates { id } }`)
	}
	// Two senders go on until both readers have seen enough: who subscribes
	// later misses what came before.
	ctx, enough := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	for range 2 {
		senders.Go(func() {
			pace := time.NewTicker(time.Millisecond)
			defer pace.Stop()
			for ctx.Err() == nil {
				_, _ = g.rooms.Send(ctx, rooms.Draft{Room: rooms.Lobby, Author: "ann", Content: "hello"})
				<-pace.C
			}
		})
	}
	const n = 50
	seen := make([][]string, len(readers))
	for range n {
		for i, s := range readers {
			seen[i] = append(seen[i], s.read())
		}
	}
	enough()
	senders.Wait()
	last, err := g.rooms.Send(t.Context(), rooms.Draft{Room: rooms.Lobby, Author: "ann", Content: "goodbye"})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range readers { // both read on to the end, which is where they can be compared
		for !strings.Contains(seen[i][len(seen[i])-1], strconv.Quote(last.ID)) {
			seen[i] = append(seen[i], s.read())
		}
	}
	shared := min(len(seen[0]), len(seen[1]))
	early, late := seen[0][len(seen[0])-shared:], seen[1][len(seen[1])-shared:]
	if !slices.Equal(early, late) {
		t.Errorf("two orders:\n%s\n%s", early, late)
	}
}

func TestSubscriptionRefusalsLeaveTheSocketOpen(t *testing.T) {
	g := start(t)
	s := g.socket(t)
	for i, test := range []struct{ field, code string }{
		{`mqttMessages(topic: "+x") { topic }`, "TOPIC_INVALID"},
		{`mqttMessages(topic: "a/#/b") { topic }`, "TOPIC_INVALID"},
		{`mqttMessages(topic: "") { topic }`, "TOPIC_INVALID"},
		{`mqttMessages(topic: "` + strings.Repeat("x", 20_000) + `") { topic }`, "TOPIC_INVALID"},
		{`mqttMessages(topic: "#") { topic }`, "TOPIC_FORBIDDEN"},
		{`redisMessages(channel: "demo/a\r\nb") { channel }`, "TOPIC_INVALID"},
		{`redisPatternMessages(pattern: "*") { channel }`, "TOPIC_FORBIDDEN"},
		{`timeUpdates(intervalMs: 99)`, "ARGUMENT_OUT_OF_RANGE"},
		{`countdown(from: -1)`, "ARGUMENT_OUT_OF_RANGE"},
		{`failing(after: 101)`, "ARGUMENT_OUT_OF_RANGE"},
		{`messageUpdates(room: "kitchen") { id }`, "ROOM_INVALID"},
		{`failing(after: 0)`, "DEMO_FAILURE"},
	} {
		id := fmt.Sprint(i)
		s.subscribe(id, `subscription { `+test.field+` }`)
		if got := s.read(); !strings.HasPrefix(got, fmt.Sprintf(`{"id":%q,"type":"error"`, id)) || !strings.Contains(got, fmt.Sprintf(`"code":%q`, test.code)) {
			t.Errorf("%s: got %s", test.field, got)
		}
	}
	s.subscribe("last", `subscription { countdown(from: 0) }`)
	if got := s.read(); got != `{"id":"last","type":"next","payload":{"data":{"countdown":0}}}` {
		t.Errorf("got %s", got)
	}
}

func TestEveryElementOfTheSchemaIsDescribed(t *testing.T) {
	g := start(t)
	var answer struct {
		Data struct {
			Schema struct {
				Types []struct {
					Name, Description string
					Fields            []struct {
						Name, Description string
						Args              []struct{ Name, Description string }
					}
					InputFields, EnumValues []struct{ Name, Description string }
				}
			} `json:"__schema"`
		}
	}
	body := g.query(t, `{ __schema { types { name description
		fields { name description args { name description } } inputFields { name description } enumValues { name description } } } }`, nil)
	if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Data.Schema.Types) < 20 {
		t.Fatalf("%v: %s", err, body)
	}
	missing := func(description string, path ...string) {
		if strings.TrimSpace(description) == "" {
			t.Errorf("%s has no description", strings.Join(path, "."))
		}
	}
	for _, typ := range answer.Data.Schema.Types {
		if strings.HasPrefix(typ.Name, "__") {
			continue
		}
		missing(typ.Description, typ.Name)
		for _, f := range typ.Fields {
			missing(f.Description, typ.Name, f.Name)
			for _, a := range f.Args {
				missing(a.Description, typ.Name, f.Name, a.Name)
			}
		}
		for _, f := range append(typ.InputFields, typ.EnumValues...) {
			missing(f.Description, typ.Name, f.Name)
		}
	}
}

func TestBridgeStatesAreTold(t *testing.T) {
	g := start(t)
	s := g.socket(t)
	s.subscribe("1", `subscription { bridgeStateChanges { name state } }`)
	for _, state := range []bridges.State{bridges.Connected, bridges.Connecting, bridges.Connected} {
		want := fmt.Sprintf(`{"id":"1","type":"next","payload":{"data":{"bridgeStateChanges":{"name":"mqtt","state":%q}}}}`, state)
		if got := s.read(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
		next := bridges.Connecting
		if state == bridges.Connecting {
			next = bridges.Connected
		}
		g.states.Set("mqtt", bridges.KindMQTT, bridges.Status{State: next})
	}
}

func TestGatewayStatsCountWhatIsThere(t *testing.T) {
	g := start(t)
	s := g.socket(t)
	s.subscribe("1", `subscription { gatewayStats(intervalMs: 100) { connections operations framesSent refusals { code count } } }`)
	if got := s.read(); !strings.Contains(got, `"connections":1,"operations":1,`) || !strings.Contains(got, `"refusals":[]`) {
		t.Errorf("got %s", got)
	}
	g.query(t, `{ fail }`, nil)
	for got := ""; !strings.Contains(got, `"refusals":[{"code":"DEMO_FAILURE","count":1}]`); {
		got = s.read()
	}
}
