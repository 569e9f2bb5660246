package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
)

// pipes is a listener whose connections are pipes: time in a bubble of synctest
// does not wait for sockets of the system.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error { return nil }
func (pipes) Addr() net.Addr { return &net.TCPAddr{} }

// onFakeTime runs f with a connection to a gateway, and tells what was counted.
// Nothing is held between the ends: writing takes until it is read.
func onFakeTime(t *testing.T, change func(*Limits), f func(t *testing.T, c *pipeClient)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := build(t, func(cfg *Config) { change(&cfg.Limits) })
		p := make(pipes, 1)
		srv := g.HTTPServer(g)
		var serving sync.WaitGroup
		serving.Go(func() { _ = srv.Serve(g.Watch(p)) })
		near, far := net.Pipe()
		p <- far
		f(t, &pipeClient{t, near, bufio.NewReader(near), g})
		near.Close()
		close(p)
		srv.Close()
		serving.Wait()
	})
}

type pipeClient struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
	g  *gateway
}

func (c *pipeClient) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// answered reads an answer.
func (c *pipeClient) answered(status int) string {
	c.t.Helper()
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != status {
		c.t.Fatalf("answered %s %s, %v", response.Status, body, err)
	}
	return string(body)
}

// gone waits for the end of the connection, which must come after this time.
func (c *pipeClient) gone(after time.Duration) {
	c.t.Helper()
	begin := time.Now()
	rest, err := io.ReadAll(c.in)
	if took := time.Since(begin); err != nil || len(rest) > 0 || took != after {
		c.t.Errorf("ended with %q, %v after %v, want the end after %v", rest, err, took, after)
	}
}

// counted compares what the gateway has counted, by code.
func (g *gateway) counted(t *testing.T, want map[string]uint64) {
	t.Helper()
	if got := g.Refusals(); !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

const instant = time.Nanosecond

func TestHeaderWaitToTheInstant(t *testing.T) {
	wait := func(l *Limits) { l.HeaderWait, l.Idle = 5*time.Second, time.Minute }
	const first, second = "GET /healthz HTTP/1.1\r\nHost:", " localhost\r\n\r\n"
	onFakeTime(t, wait, func(t *testing.T, c *pipeClient) {
		for range 2 { // the second one's time begins with its first bytes
			c.send(first)
			time.Sleep(5*time.Second - instant)
			c.send(second)
			c.answered(200)
			time.Sleep(30 * time.Second)
		}
		c.g.counted(t, nil)
		c.send(first)
		c.gone(5 * time.Second)
		c.g.counted(t, map[string]uint64{"HEADERS_TIMEOUT": 1})
	})
	for _, opening := range []string{"", "GET /healthz HTTP/1.1\r\n", first} {
		onFakeTime(t, wait, func(t *testing.T, c *pipeClient) {
			if opening != "" {
				c.send(opening)
			}
			c.gone(5 * time.Second)
			c.g.counted(t, map[string]uint64{"HEADERS_TIMEOUT": 1})
		})
	}
}

const health = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

func TestIdleTimeToTheInstant(t *testing.T) {
	onFakeTime(t, func(l *Limits) { l.Idle = time.Minute }, func(t *testing.T, c *pipeClient) {
		for range 3 {
			c.send(health)
			c.answered(200)
			time.Sleep(time.Minute - instant)
		}
		c.send(health)
		c.answered(200)
		c.g.counted(t, nil)
		c.gone(time.Minute)
		c.g.counted(t, map[string]uint64{"IDLE_TIMEOUT": 1})
	})
}

func TestBodyWaitToTheInstant(t *testing.T) {
	const head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n"
	const body = `{"query":"{hello}"}`
	onFakeTime(t, func(l *Limits) { l.BodyWait = 10 * time.Second }, func(t *testing.T, c *pipeClient) {
		c.send(head)
		time.Sleep(10*time.Second - instant)
		c.send(body)
		c.answered(200)
		c.g.counted(t, nil)
		c.send(head + body[:18])
		begin := time.Now()
		if text := c.answered(408); !strings.Contains(text, "within 10s. (REQUEST_TIMEOUT)") || time.Since(begin) != 10*time.Second {
			t.Errorf("after %v: %s", time.Since(begin), text)
		}
		c.g.counted(t, map[string]uint64{"REQUEST_TIMEOUT": 1})
	})
}

func TestWriteDeadlineToTheInstant(t *testing.T) {
	limits := func(l *Limits) { l.WebSocket.WriteDeadline = 10 * time.Second }
	onFakeTime(t, limits, func(t *testing.T, c *pipeClient) {
		c.send(health)
		time.Sleep(10*time.Second - instant)
		c.answered(200)
		c.g.counted(t, nil)
		c.send(health)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		c.g.counted(t, map[string]uint64{"WRITE_TIMEOUT": 1})
		c.gone(0)
	})
	onFakeTime(t, limits, func(t *testing.T, c *pipeClient) {
		c.send("GET /graphql?query=subscription%7BtimeUpdates%7D HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		c.g.counted(t, map[string]uint64{"WRITE_TIMEOUT": 1})
	})
}

func TestSlowEventStreamIsToldTheLimit(t *testing.T) {
	limits := func(l *Limits) { l.WebSocket.QueueBytes, l.WebSocket.WriteDeadline = 1000, time.Minute }
	onFakeTime(t, limits, func(t *testing.T, c *pipeClient) {
		c.send("GET /graphql?query=subscription%7BmqttMessages(topic:%22demo/a%22)%7Bpayload%7D%7D HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
		until(t, c.g.mqtt, "demo/a")
		for range 3 { // none of which is read
			if _, err := c.g.mqtt.Publish(t.Context(), bridges.Publication{Topic: "demo/a", Payload: []byte(strings.Repeat("x", 600))}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if text := c.answered(200); !strings.HasSuffix(text, ": Slow consumer: events came faster than they were read (at most 1000 bytes may wait)\n\n") {
			t.Errorf("got %q", text)
		}
		c.g.counted(t, map[string]uint64{"4413": 1})
	})
}

// Who goes by himself was not refused anything, at whatever stage.
func TestClientsThatLeaveAreNotCounted(t *testing.T) {
	for _, opening := range []string{
		"", "GET /", health,
		"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc",
		"GET /graphql?query=subscription%7BtimeUpdates%7D HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n",
		"GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-ws\r\n\r\n",
	} {
		onFakeTime(t, func(*Limits) {}, func(t *testing.T, c *pipeClient) {
			var leaving sync.WaitGroup
			leaving.Go(func() { // while what has been sent is read
				time.Sleep(time.Second)
				c.Close()
			})
			_, _ = io.WriteString(c.Conn, opening)
			_, _ = io.Copy(io.Discard, c.in)
			leaving.Wait()
			time.Sleep(time.Hour)
			c.g.counted(t, nil)
		})
	}
}

func TestHeaderBytesToTheByte(t *testing.T) {
	g := start(t, func(cfg *Config) { cfg.Limits.HeaderBytes = 1000 })
	ask := func(size int) (status int, body string) {
		t.Helper()
		head := "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Twice: a\r\nX-Twice: b\r\nX: "
		socket := g.dial(t)
		_, _ = io.WriteString(socket, head+strings.Repeat("x", size-len(head)-len("\r\n\r\n"))+"\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(socket), nil)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		b, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(b)
	}
	if status, body := ask(1000); status != 200 {
		t.Errorf("at the bound: %d %s", status, body)
	}
	g.counted(t, nil)
	status, body := ask(1001)
	if status != 431 || !strings.Contains(body, "have 1001 bytes: at most 1000 are accepted") || !strings.Contains(body, `"code":"HEADERS_TOO_LARGE"`) {
		t.Errorf("past the bound: %d %s", status, body)
	}
	g.counted(t, map[string]uint64{"HEADERS_TOO_LARGE": 1})
	if status, body := ask(10_000); status != 431 { // net/http's own
		t.Errorf("far past the bound: %d %s", status, body)
	}
	g.counted(t, map[string]uint64{"HEADERS_TOO_LARGE": 2})
}

func TestBodyBytesToTheByte(t *testing.T) {
	g := start(t)
	post := func(size int) (int, string) {
		const request = `{"query":"{hello}"}`
		status, body, _ := g.do(t, "POST", "/graphql", request+strings.Repeat(" ", size-len(request)), "Content-Type", asJSON)
		return status, body
	}
	if status, body := post(10_000); status != 200 {
		t.Errorf("at the bound: %d %s", status, body)
	}
	if status, body := post(10_001); status != 413 || !strings.Contains(body, "larger than the 10000 bytes") {
		t.Errorf("past the bound: %d %s", status, body)
	}
	g.counted(t, map[string]uint64{"PAYLOAD_TOO_LARGE": 1})
}

func TestErrorsOfAnAnswerToTheLast(t *testing.T) {
	g := start(t, func(cfg *Config) { cfg.Limits.Document.RootFields = 100 })
	fail := func(n int) string { return g.query(t, "{"+repeat(n, " a%d: fail")+" }", nil) }
	if body := fail(20); strings.Count(body, `"message"`) != 20 || strings.Contains(body, "ERRORS_CUT") {
		t.Errorf("at the bound: %s", body)
	}
	if body := fail(21); strings.Count(body, `"message"`) != 21 || !strings.Contains(body, "1 more errors are not listed: at most 20 are. (ERRORS_CUT)") {
		t.Errorf("past the bound: %s", body)
	}
	g.counted(t, map[string]uint64{"DEMO_FAILURE": 41, "ERRORS_CUT": 1})
}

func TestComplexityToTheField(t *testing.T) {
	g := start(t, func(cfg *Config) { cfg.Limits.Document.Complexity = 3 })
	if body := g.query(t, `{ hello a: hello b: hello }`, nil); strings.Contains(body, "errors") {
		t.Errorf("at the bound: %s", body)
	}
	if body := g.query(t, `{ hello a: hello b: hello c: hello }`, nil); !strings.Contains(body, "a complexity of 4: at most 3 is accepted. (DOCUMENT_TOO_COMPLEX)") {
		t.Errorf("past the bound: %s", body)
	}
	g.counted(t, map[string]uint64{"DOCUMENT_TOO_COMPLEX": 1})
}

// Every way to send a document counts what is refused of it.
func TestRefusedDocumentsAreCountedOnEveryTransport(t *testing.T) {
	for code, document := range map[string]string{
		"DOCUMENT_TOO_LARGE":   "subscription {" + strings.Repeat(" a", 500) + "}",
		"DOCUMENT_TOO_DEEP":    "subscription {" + nest(12, "a") + "}",
		"DOCUMENT_TOO_COMPLEX": "subscription {" + repeat(31, " a%d: a") + "}",
	} {
		g := start(t)
		body, _ := json.Marshal(map[string]string{"query": document})
		g.do(t, "POST", "/graphql", string(body), "Content-Type", asJSON)
		g.counted(t, map[string]uint64{code: 1})
		g.do(t, "POST", "/graphql", string(body), "Content-Type", asJSON, "Accept", asEvents)
		g.counted(t, map[string]uint64{code: 2})
		s := g.socket(t)
		s.subscribe("1", document)
		if got := s.read(); !strings.Contains(got, code) {
			t.Errorf("got %s", got)
		}
		g.counted(t, map[string]uint64{code: 3})
	}
}

func TestLargeResultsAreCountedOnEveryTransport(t *testing.T) {
	data := `{"echo":"` + strings.Repeat("x", 100) + `"}`
	g := start(t, func(cfg *Config) { cfg.Limits.WebSocket.PayloadBytes = len(data) })
	echo := func(n int) string { return `{ echo(text: "` + strings.Repeat("x", n) + `") }` }
	if body := g.query(t, echo(100), nil); body != `{"data":`+data+`}` {
		t.Errorf("at the bound: %s", body)
	}
	g.counted(t, nil)
	g.query(t, echo(101), nil)
	g.counted(t, map[string]uint64{"PAYLOAD_TOO_LARGE": 1})
	s := g.socket(t)
	s.subscribe("1", echo(101))
	if got := s.read(); !strings.Contains(got, "PAYLOAD_TOO_LARGE") {
		t.Errorf("got %s", got)
	}
	g.counted(t, map[string]uint64{"PAYLOAD_TOO_LARGE": 2})
	s.subscribe("2", `subscription { mqttMessages(topic: "demo/a") { payload } }`)
	until(t, g.mqtt, "demo/a")
	if _, err := g.mqtt.Publish(t.Context(), bridges.Publication{Topic: "demo/a", Payload: []byte(strings.Repeat("x", 200))}); err != nil {
		t.Fatal(err)
	}
	for got := s.read(); !strings.Contains(got, "PAYLOAD_TOO_LARGE"); got = s.read() {
	}
	g.counted(t, map[string]uint64{"PAYLOAD_TOO_LARGE": 3})
}

func TestLimitsOfTopicsAndPublishedPayloads(t *testing.T) {
	publish := func(topic string, payload int) string {
		return fmt.Sprintf(`mutation { publishMQTT(input: {topic: %q, payload: %q}) { acknowledgedAt } }`, topic, strings.Repeat("x", payload))
	}
	for _, test := range []struct{ name, at, past, code, limit string }{
		{"topic-bytes", publish("demo/"+strings.Repeat("x", 250), 1), publish("demo/"+strings.Repeat("x", 251), 1), "TOPIC_INVALID", "255"},
		{"topic-levels", publish("demo"+strings.Repeat("/x", 31), 1), publish("demo"+strings.Repeat("/x", 32), 1), "TOPIC_INVALID", "32"},
		{"publish-bytes", publish("demo/a", 1000), publish("demo/a", 1001), "PAYLOAD_TOO_LARGE", "1000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := start(t)
			if body := g.query(t, test.at, nil); strings.Contains(body, "errors") {
				t.Errorf("at the bound: %s", body)
			}
			g.counted(t, nil)
			if body := g.query(t, test.past, nil); !strings.Contains(body, fmt.Sprintf(`"code":%q`, test.code)) || !strings.Contains(body, test.limit) {
				t.Errorf("past the bound: %s", body)
			}
			g.counted(t, map[string]uint64{test.code: 1})
		})
	}
}

// A mutation that could never succeed is told so, and takes nothing.
func TestMutationLargerThanTheBurst(t *testing.T) {
	g := start(t, func(cfg *Config) { cfg.Limits.PublishPerSecond, cfg.Limits.PublishBurst = 1, 2 })
	if body := g.query(t, `mutation { a: createRoom { id } b: createRoom { id } c: createRoom { id } }`, nil); !strings.Contains(body, "The mutation has 3 fields, more than the burst of 2") {
		t.Errorf("got %s", body)
	}
	if body := g.query(t, `mutation { a: createRoom { id } b: createRoom { id } }`, nil); strings.Contains(body, "errors") {
		t.Errorf("got %s", body)
	}
	g.counted(t, map[string]uint64{"RATE_LIMITED": 1})
}
