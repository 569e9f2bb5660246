//go:build linux

package hostile

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/testenv"
)

func TestTenThousandSubscribesOnOneSocketAreLimited(t *testing.T) {
	g := start(t)
	s := openSocket(t, g)
	go func() {
		for i := range 100 {
			s.send(batch(100, func(n int) string {
				return text(subscribe(fmt.Sprint(i*100+n), "subscription { timeUpdates(intervalMs: 60000) }"))
			}))
		}
	}()
	codes := make(map[string]int)
	for {
		m, err := s.message()
		if err != nil {
			var end closed
			if !errors.As(err, &end) || end.code != 1013 {
				t.Errorf("ended with %v, want 1013", err)
			}
			break
		}
		kind := m.Type
		if kind == "error" {
			_, list := parseResult([]byte(`{"errors":` + string(m.Payload) + `}`))
			kind = strings.Join(list, " ")
		}
		codes[kind]++
	}
	if codes["TOO_MANY_SUBSCRIPTIONS"] == 0 || codes["RATE_LIMITED"] == 0 {
		t.Errorf("got %v, want both limits", codes)
	}
	for _, code := range []string{"TOO_MANY_SUBSCRIPTIONS", "RATE_LIMITED", "1013"} {
		if g.refusals(t, code) == 0 {
			t.Errorf("%s is not counted", code)
		}
	}
}

func batch(n int, make func(int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(make(i))
	}
	return b.String()
}

func TestAHundredThousandSubscriptionsThatComeAndGoLeaveNothing(t *testing.T) {
	g := start(t, "operations=1000000", "operations-burst=1000000")
	documents := []string{
		`subscription { timeUpdates }`,
		`subscription { redisMessages(channel: "demo:probe") { payload } }`,
		`subscription { mqttMessages(topic: "demo/probe") { payload } }`,
		`subscription { messageUpdates { content } }`,
		`{ slow(ms: 10000) }`,
	}
	var sockets sync.WaitGroup
	t.Cleanup(sockets.Wait) // after they are closed
	for range 4 {
		s := openSocket(t, g)
		sockets.Go(func() { // reads what comes
			for {
				if _, err := s.message(); err != nil {
					return
				}
			}
		})
		for i := range 25 {
			s.send(batch(1000, func(n int) string {
				id := fmt.Sprint(i, "-", n)
				return text(subscribe(id, documents[n%len(documents)])) + text(`{"id":"`+id+`","type":"complete"}`)
			}))
		}
	}
	testenv.Eventually(t, 60*time.Second, "every operation has ended", func() string {
		if f := g.figures(t); f.operations > 3 {
			return fmt.Sprintf("%d operations", f.operations)
		}
		return ""
	})
}

func TestAFloodBeforeConnectionInitIsCutOff(t *testing.T) {
	g := start(t)
	for name, test := range map[string]struct {
		message string
		code    int
	}{
		"subscribe": {subscribe("1", "{ hello }"), 4401},
		"ping":      {`{"type":"ping"}`, 1013},
		"pong":      {`{"type":"pong","payload":{"a":"` + repeat("a", 500) + `"}}`, 1013},
		"complete":  {`{"id":"1","type":"complete"}`, 1013},
		"noise":     {`{"type":"` + secret + `"}`, 4400},
	} {
		s := upgrade(t, g, modern)
		go s.send(repeat(text(test.message), 10_000))
		if got := s.ending(5 * time.Second); got != test.code {
			t.Errorf("%s: closed with %d, want %d", name, got, test.code)
		}
	}
	for name, message := range map[string]string{
		"noise": "a", "start": `{"id":"1","type":"start","payload":{"query":"{ hello }"}}`,
		"init": `{"type":"connection_init"}`, "unknown": `{"id":"1","type":"` + secret + `"}`,
	} {
		s := upgrade(t, g, legacy)
		go s.send(repeat(text(message), 10_000))
		if got := s.ending(10 * time.Second); got != 1013 && got != 4413 {
			t.Errorf("legacy, %s: closed with %d", name, got)
		}
	}
}

func TestSocketsThatDoNotInitialiseAreClosedInTime(t *testing.T) {
	g := start(t, "init-wait=500ms")
	init := text(`{"type":"connection_init"}`)
	var waiting sync.WaitGroup
	for name, bytes := range map[string]string{
		"silent":                     "",
		"half a frame":               init[:len(init)-1],
		"half a header":              init[:1],
		"a message without an end":   frame(opText, `{"type":`),
		"a message of much padding":  frame(opText, repeat(" ", 100_000)),
		"pings of WebSocket":         repeat(frame(fin|opPing, ""), 10),
		"pings of the subprotocol":   repeat(text(`{"type":"ping"}`), 10),
		"a claim of a large message": "\x81\xff\x00\x00\x00\x00\x00\x03\xff\xffmask",
	} {
		for _, subprotocol := range []string{modern, legacy} {
			if subprotocol == legacy && strings.HasSuffix(name, "subprotocol") {
				continue
			}
			s := upgrade(t, g, subprotocol)
			s.send(bytes)
			waiting.Go(func() {
				if got := s.ending(3 * time.Second); got != 4408 {
					t.Errorf("%s, %s: closed with %d, want 4408", subprotocol, name, got)
				}
			})
		}
	}
	waiting.Wait()
}

func TestMessagesThatAreNoneCloseTheirSocket(t *testing.T) {
	g := start(t)
	for name, message := range map[string]string{
		"an array":                  `[{"type":"ping"}]`,
		"a number":                  `1e999`,
		"10,001 levels":             repeat("[", 10_001) + repeat("]", 10_001),
		"100,000 levels in payload": `{"type":"ping","payload":` + repeat(`{"a":`, 40_000) + "1" + repeat("}", 40_000) + "}",
		"100,000 members":           `{` + numbered(12_000, `"a%d":1,`) + `"type":"pong"`,
		"no type":                   `{"id":"` + secret + `"}`,
		"a type of 100 kB":          `{"type":"` + repeat("a", 100_000) + `"}`,
		"an id of 100 kB":           subscribe(repeat("a", 100_000), "{ hello }"),
		"an id that is a number":    `{"id":1,"type":"complete"}`,
		"no query":                  `{"id":"1","type":"subscribe","payload":{}}`,
		"a query that is a list":    `{"id":"1","type":"subscribe","payload":{"query":["` + secret + `"]}}`,
		"variables that are a list": `{"id":"1","type":"subscribe","payload":{"query":"{hello}","variables":[1]}}`,
		"two values":                `{"type":"ping"}{"type":"ping"}`,
		"a lone surrogate":          `{"type":"\ud800"}`,
		"a null byte":               "{\"type\":\"ping\x00\"}",
	} {
		s := openSocket(t, g)
		go s.send(text(message))
		if got := s.ending(5 * time.Second); got != 4400 {
			t.Errorf("%s: closed with %d, want 4400", name, got)
		}
	}
}

// What a client may send along with an operation must not stay in memory for as
// long as the operation runs.
func TestWhatComesWithASubscriptionIsNotKept(t *testing.T) {
	g := start(t)
	large := repeat("{},", 80_000) + "{}"
	s := openSocket(t, g)
	const n = 40
	for i := range n {
		s.send(text(fmt.Sprintf(`{"id":"%d","type":"subscribe","payload":{"query":"subscription { timeUpdates(intervalMs: 60000) }","extensions":{"a":[%s]}}}`, i, large)))
		s.await("next", fmt.Sprint(i))
	}
	f := g.figures(t)
	if f.operations != n+3 {
		t.Fatalf("%d operations", f.operations)
	}
	if grown := f.heap - g.before.heap; grown > spareMemory {
		t.Errorf("%d subscriptions of one socket keep %d MiB", n, grown>>20)
	}
}

func TestTwoThousandSocketsThatAreResetAtOnceLeaveNothing(t *testing.T) {
	g := start(t)
	var lines []*line
	for i := range 2000 {
		s := openSocket(t, g)
		s.subscribe("1", `subscription { timeUpdates(intervalMs: 1000) }`)
		s.subscribe("2", fmt.Sprintf(`subscription { mqttMessages(topic: "demo/reset/%d") { payload } }`, i%50))
		s.subscribe("3", fmt.Sprintf(`subscription { redisMessages(channel: "demo:reset:%d") { payload } }`, i%50))
		lines = append(lines, s.line)
	}
	testenv.Eventually(t, 30*time.Second, "all have subscribed", func() string {
		if f := g.figures(t); f.operations != 6003 || f.upstreams != 102 || f.channels != 51 {
			return fmt.Sprintf("%+v", f)
		}
		return ""
	})
	for _, l := range lines {
		l.reset()
	}
}

func TestSocketsThatAreResetWhileTheyOpenLeaveNothing(t *testing.T) {
	g := start(t)
	handshake := "GET /graphql HTTP/1.1\r\nHost: " + g.addr + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
	stream := "GET /graphql?query=subscription%7BredisMessages(channel:%22demo:x%22)%7Bpayload%7D%7D HTTP/1.1\r\nHost: " + g.addr + "\r\nAccept: text/event-stream\r\n\r\n"
	for i := range 1000 {
		l := dial(t, g)
		switch i % 4 {
		case 0:
			l.send(handshake)
		case 1:
			l.send(handshake)
			l.response()
			l.send(text(`{"type":"connection_init"}`) + text(subscribe("1", `subscription { mqttMessages(topic: "demo/x") { payload } }`)))
		case 2:
			l.send(stream)
		case 3:
			l.send(stream)
			l.response()
		}
		l.reset()
	}
}
