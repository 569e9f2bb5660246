package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
)

// eventSource reads a stream of events.
type eventSource struct {
	*testing.T
	*http.Response
	lines *bufio.Scanner
	leave context.CancelFunc
}

// listen asks for a document with GET, as a page's EventSource does.
func (g *gateway) listen(t *testing.T, document string) *eventSource {
	t.Helper()
	return listen(t, http.DefaultClient, http.MethodGet, g.url+"/graphql?query="+url.QueryEscape(document), "")
}

// listenByPOST asks as the npm package graphql-sse does.
func (g *gateway) listenByPOST(t *testing.T, document string) *eventSource {
	t.Helper()
	body, _ := json.Marshal(map[string]any{"query": document})
	return listen(t, http.DefaultClient, http.MethodPost, g.url+"/graphql", string(body))
}

func listen(t *testing.T, client *http.Client, method, address, body string) *eventSource {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	r, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", asEvents)
	r.Header.Set("Content-Type", asJSON)
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	leave := func() {
		cancel()
		resp.Body.Close()
	}
	t.Cleanup(leave)
	return &eventSource{t, resp, lines, leave}
}

// next returns the next event as "name data", or a comment as ": text".
// "" is the end of the stream.
func (s *eventSource) next() (event string) {
	s.Helper()
	for s.lines.Scan() {
		switch line := s.lines.Text(); {
		case line == "" && event != "":
			return event
		case strings.HasPrefix(line, "event: "):
			event = line[len("event: "):]
		case strings.HasPrefix(line, "data:"):
			event += " " + strings.TrimPrefix(line[len("data:"):], " ")
		case strings.HasPrefix(line, ": "):
			event = line
		default:
			s.Fatalf("not a line of an event: %q", line)
		}
	}
	if err := s.lines.Err(); err != nil {
		s.Fatal(err)
	}
	return event
}

// event is next without the comments that keep the stream alive.
func (s *eventSource) event() string {
	s.Helper()
	event := s.next()
	for event == ": " {
		event = s.next()
	}
	return event
}

// want reads these events and, after "complete ", the end of the stream.
func (s *eventSource) want(events ...string) {
	s.Helper()
	for _, want := range events {
		if got := s.event(); got != want {
			s.Fatalf("got %s\nwant %s", got, want)
		}
	}
	if events[len(events)-1] == "complete " {
		if got := s.event(); got != "" {
			s.Fatalf("%s comes after the completion", got)
		}
	}
}

func TestEventStream(t *testing.T) {
	g := start(t)
	for _, test := range []struct {
		name, document string
		events         []string
	}{
		{"a stream completes", `subscription { countdown(from: 1, intervalMs: 100) }`, []string{`next {"data":{"countdown":1}}`, `next {"data":{"countdown":0}}`, "complete "}},
		{"a query", `{ echo(text: "あ\n") }`, []string{`next {"data":{"echo":"あ\n"}}`, "complete "}},
		{"a field error", `{ fail(code: "TEAPOT") }`, []string{`next {"data":{"fail":null},"errors":[{"message":"This field fails with the code that you asked for. (TEAPOT)","path":["fail"],"locations":[{"line":1,"column":3}],"extensions":{"code":"TEAPOT"}}]}`, "complete "}},
		{"a resolver refuses", `subscription { countdown(from: -1) }`, []string{`next {"errors":[{"message":"from is -1: 0 to 1000 is accepted. (ARGUMENT_OUT_OF_RANGE)","path":["countdown"],"locations":[{"line":1,"column":16}],"extensions":{"code":"ARGUMENT_OUT_OF_RANGE"}}]}`, "complete "}},
		{"an invalid document", `subscription { nothing }`, []string{`next {"errors":[{"message":"Cannot query field \"nothing\" on type \"Subscription\".","locations":[{"line":1,"column":16}],"extensions":{"code":"GRAPHQL_VALIDATION_FAILED"}}]}`, "complete "}},
		{"no document", `{`, []string{`next {"errors":[{"message":"Expected Name, found \u003cEOF\u003e","locations":[{"line":1,"column":2}],"extensions":{"code":"GRAPHQL_PARSE_FAILED"}}]}`, "complete "}},
		{"a stream ends with an error", `subscription { failing(after: 1) }`, []string{`next {"data":{"failing":1}}`, `next {"errors":[{"message":"This fails on purpose, so that you can see how your client takes it. (DEMO_FAILURE)","extensions":{"code":"DEMO_FAILURE"}}]}`, "complete "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, s := range []*eventSource{g.listen(t, test.document), g.listenByPOST(t, test.document)} {
				if s.StatusCode != http.StatusOK || s.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" ||
					s.Header.Get("Cache-Control") != "no-cache" || s.Header.Get("X-Accel-Buffering") != "no" {
					t.Errorf("answered %d with %v", s.StatusCode, s.Header)
				}
				s.want(test.events...)
			}
		})
	}
}

func TestEventStreamIsRefusedAsJSON(t *testing.T) {
	g := start(t, func(cfg *Config) { cfg.Limits.Connections = 1 })
	first := g.listen(t, `subscription { timeUpdates }`)
	first.next()
	tests := []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"a mutation by GET", "GET", "/graphql?query=mutation%7BcreateRoom%7Bid%7D%7D", "", 405, "METHOD_NOT_ALLOWED"},
		{"a broken body", "POST", "/graphql", "{", 400, "BAD_REQUEST"},
		{"no query", "GET", "/graphql", "", 400, "BAD_REQUEST"},
		{"too many streams", "GET", "/graphql?query=subscription%7BtimeUpdates%7D", "", 503, "TOO_MANY_CONNECTIONS"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status, body, header := g.do(t, test.method, test.path, test.body, "Accept", asEvents, "Content-Type", asJSON)
			if status != test.status || !strings.Contains(body, fmt.Sprintf(`"code":%q`, test.code)) || header.Get("Content-Type") != "application/json; charset=utf-8" {
				t.Errorf("got %d %s %s", status, header.Get("Content-Type"), body)
			}
		})
	}
}

// A subscription needs events; other operations have what the client likes best.
func TestSubscriptionPicksTheEventStream(t *testing.T) {
	g := start(t)
	accept := asGraphQL + ", " + asJSON + ", " + asEvents + ";q=0.1"
	_, body, header := g.do(t, "GET", "/graphql?query=subscription%7Bcountdown(from:0)%7D", "", "Accept", accept)
	if !strings.Contains(body, "event: complete") || !strings.HasPrefix(header.Get("Content-Type"), asEvents) {
		t.Errorf("got %s %s", header.Get("Content-Type"), body)
	}
}

func TestEventStreamOfABroker(t *testing.T) {
	g := start(t)
	s := g.listen(t, `subscription { mqttMessages(topic: "demo/+") { payload json } }`)
	until(t, g.mqtt, "demo/+")
	for _, test := range []struct{ payload, want string }{
		{"hi", `{"payload":"hi","json":null}`},
		{"{\"a\":\r\n[1]}", `{"payload":"{\"a\":\r\n[1]}","json":{"a":[1]}}`},
		{"\xff", `{"payload":"/w==","json":null}`},
	} {
		if _, err := g.mqtt.Publish(t.Context(), bridges.Publication{Topic: "demo/a", Payload: []byte(test.payload)}); err != nil {
			t.Fatal(err)
		}
		s.want(`next {"data":{"mqttMessages":` + test.want + `}}`)
	}
	s.leave()
	eventually(t, "the subscription to end", func() bool { return g.sockets.Stats().Operations == 0 })
}

func TestLargeEventBecomesAnError(t *testing.T) {
	g := start(t, func(cfg *Config) { cfg.Limits.WebSocket.PayloadBytes = 1000 })
	s := g.listen(t, `subscription { mqttMessages(topic: "demo/a") { payload } }`)
	until(t, g.mqtt, "demo/a")
	for _, size := range []int{1000, 1} {
		if _, err := g.mqtt.Publish(t.Context(), bridges.Publication{Topic: "demo/a", Payload: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.event(); !strings.HasPrefix(got, `next {"data":null,"errors":`) || !strings.Contains(got, "PAYLOAD_TOO_LARGE") {
		t.Errorf("got %s", got)
	}
	s.want(`next {"data":{"mqttMessages":{"payload":"\u0000"}}}`) // the stream goes on
}

// afterOutage is a bridge that has just come back.
type afterOutage struct{ memoryChannels }

func (afterOutage) Subscribe(context.Context, string, bridges.QoS) (live.Sub[*bridges.Message], error) {
	q := live.NewQueue[*bridges.Message](live.Limit{}, nil)
	q.Mark(live.Gap{Reason: live.GapOutage, Missed: 3})
	q.Push(live.Event[*bridges.Message]{Value: &bridges.Message{Payload: []byte("back")}}, 4)
	q.End(nil)
	return q, nil
}

func TestGapIsToldInEvents(t *testing.T) {
	g := start(t, func(cfg *Config) {
		guarded := cfg.Resolver.Redis.(bridges.GuardedRedis)
		guarded.Bridge = afterOutage{guarded.Bridge.(memoryChannels)}
		cfg.Resolver.Redis = guarded
	})
	g.listen(t, `subscription { redisMessages(channel: "demo/a") { payload } }`).want(
		`next {"data":{"redisMessages":{"payload":"back"}},"extensions":{"sluice":{"gap":{"reason":"OUTAGE","missed":3}}}}`, "complete ")
}

func TestEventStreamIsKeptAlive(t *testing.T) {
	g := start(t, often)
	keptAlive(t, g.listen(t, `subscription { mqttMessages(topic: "demo/idle") { payload } }`), g)
}

// Over HTTP/2 a write deadline that is not lifted ends an idle stream.
func TestEventStreamOverHTTP2(t *testing.T) {
	g := start(t, often)
	s := listen(t, g.http2(t), http.MethodGet, g.url+"/graphql?query="+url.QueryEscape(`subscription { mqttMessages(topic: "demo/idle") { payload } }`), "")
	if s.ProtoMajor != 2 {
		t.Fatalf("the stream runs over %s", s.Proto)
	}
	keptAlive(t, s, g)
}

// http2 serves the gateway over HTTP/2 as well, at g.url from then on.
func (g *gateway) http2(t *testing.T) *http.Client {
	t.Helper()
	srv := httptest.NewUnstartedServer(g.Server)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	g.url = srv.URL
	return srv.Client()
}

// The write deadline is for writing, not for the resolver's work.
func TestSlowQueryOverHTTP2(t *testing.T) {
	g := start(t, often)
	s := listen(t, g.http2(t), http.MethodGet, g.url+"/graphql?query="+url.QueryEscape(`{ slow(ms: 300) }`), "")
	s.want(`next {"data":{"slow":300}}`, "complete ")
}

// often keeps streams alive at a pace that outruns the write deadline soon.
func often(cfg *Config) {
	cfg.Limits.WebSocket.PingEvery = 20 * time.Millisecond
	cfg.Limits.WebSocket.WriteDeadline = 250 * time.Millisecond
}

func keptAlive(t *testing.T, s *eventSource, g *gateway) {
	t.Helper()
	for range 30 {
		if got := s.next(); got != ": " {
			t.Fatalf("got %q instead of a comment", got)
		}
	}
	until(t, g.mqtt, "demo/idle")
	if _, err := g.mqtt.Publish(t.Context(), bridges.Publication{Topic: "demo/idle", Payload: []byte("awake")}); err != nil {
		t.Fatal(err)
	}
	s.want(`next {"data":{"mqttMessages":{"payload":"awake"}}}`)
}

// A stream that is cut must not look complete: clients come back then.
func TestShutdownEndsEventStreams(t *testing.T) {
	g := start(t)
	s := g.listen(t, `subscription { mqttMessages(topic: "demo/a") { payload } }`)
	until(t, g.mqtt, "demo/a")
	if err := g.stop(); err != nil {
		t.Error(err)
	}
	s.want(": The gateway is restarting", "")
}

// EventSource sends a GET, gives up for good on any status but 200, and comes
// back when a stream was cut.
func TestStreamsAreTurnedAwayWhileTheGatewayDrains(t *testing.T) {
	g := start(t)
	g.Drain(t.Context())
	g.listen(t, `subscription { timeUpdates }`).want(": The gateway is restarting", "")
	status, body, header := g.do(t, "POST", "/graphql", `{"query":"subscription { timeUpdates }"}`, "Accept", asEvents, "Content-Type", asJSON)
	if status != 503 || header.Get("Retry-After") == "" || !strings.Contains(body, `"code":"SHUTTING_DOWN"`) || header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("got %d %v %s", status, header, body)
	}
	if n := g.Refusals()["SHUTTING_DOWN"]; n != 2 {
		t.Errorf("%d were counted: %v", n, g.Refusals())
	}
	if body := g.query(t, `{ hello }`, nil); !strings.Contains(body, "Hello") {
		t.Errorf("a query was answered %s", body)
	}
}

func TestSocketsAreRefusedWhileTheGatewayDrains(t *testing.T) {
	g := start(t, func(cfg *Config) { cfg.Limits.Connections = 1 })
	g.listen(t, `subscription { timeUpdates }`).next() // the only place is taken
	g.Drain(t.Context())
	status, body, header := g.do(t, "GET", "/graphql", "", "Connection", "Upgrade", "Upgrade", "websocket",
		"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol", "graphql-transport-ws")
	if status != 503 || header.Get("Retry-After") == "" || !strings.Contains(body, "(SHUTTING_DOWN)") {
		t.Errorf("got %d %v %s", status, header, body)
	}
	if n := g.Refusals()["SHUTTING_DOWN"]; n != 1 {
		t.Errorf("%d were counted: %v", n, g.Refusals())
	}
}

func TestSlowReaderIsCut(t *testing.T) {
	g := start(t, func(cfg *Config) {
		cfg.Limits.WebSocket.QueueBytes = 100_000
		cfg.Limits.WebSocket.WriteDeadline = 200 * time.Millisecond
	})
	slow := g.dial(t) // and reads nothing
	fmt.Fprintf(slow, "GET /graphql?query=%s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n",
		url.QueryEscape(`subscription { mqttMessages(topic: "demo/flood") { payload } }`))
	until(t, g.mqtt, "demo/flood")
	payload := make([]byte, 20_000)
	eventually(t, "the stream to be cut", func() bool {
		if _, err := g.mqtt.Publish(t.Context(), bridges.Publication{Topic: "demo/flood", Payload: payload}); err != nil {
			t.Fatal(err)
		}
		return g.sockets.Stats().Operations == 0
	})
	eventually(t, "one slow consumer to be counted", func() bool { return g.Refusals()["4413"] == 1 })
	text, _ := io.ReadAll(slow) // what the system had buffered, and the end
	if strings.Contains(string(text), "event: complete") {
		t.Error("the stream that was cut looks complete")
	}
}

func TestPageMayListen(t *testing.T) {
	g := start(t)
	for origin, status := range map[string]int{"https://app.example": 200, "https://evil.example": 403} {
		got, _, header := g.do(t, "GET", "/graphql?query=subscription%7Bcountdown(from:0)%7D", "", "Accept", asEvents, "Origin", origin)
		if got != status || (header.Get("Access-Control-Allow-Origin") == origin) != (status == 200) {
			t.Errorf("%s: got %d %v", origin, got, header)
		}
	}
}

// eventually polls a condition that nothing signals.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}
