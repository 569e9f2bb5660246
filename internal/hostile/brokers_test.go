//go:build linux

package hostile

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/internal/testenv"
)

// redisFields and mqttFields ask for everything that a payload can go through.
const (
	redisFields = `{ channel payload encoding json }`
	mqttFields  = `{ topic payload encoding json qos retained }`
)

// received is an event of redisMessages or mqttMessages.
type received struct {
	Channel, Topic, Payload, Encoding string
	JSON                              json.RawMessage
}

func event(t *testing.T, m message) (r received, codes []string) {
	t.Helper()
	if !utf8.Valid(m.Payload) {
		t.Errorf("not UTF-8: %.100q", m.Payload)
	}
	data, codes := parseResult(m.Payload)
	var fields map[string]received
	if err := json.Unmarshal(data, &fields); err != nil && len(codes) == 0 {
		t.Errorf("%v: %.100q", err, m.Payload)
	}
	for _, r = range fields {
	}
	return r, codes
}

func TestPayloadsThatAreHostileArriveAsWellFormedEvents(t *testing.T) {
	g := start(t)
	s := openSocket(t, g)
	s.subscribe("redis", `subscription { redisPatternMessages(pattern: "demo:*") `+redisFields+` }`)
	s.subscribe("mqtt", `subscription { mqttMessages(topic: "demo/#", qos: AT_LEAST_ONCE) `+mqttFields+` }`)
	testenv.Eventually(t, 5*time.Second, "both are subscribed", func() string {
		if f := g.figures(t); f.upstreams != 4 {
			return fmt.Sprint(f.upstreams, " upstreams")
		}
		return ""
	})
	for _, test := range []struct{ name, payload string }{
		{"nothing", ""},
		{"invalid UTF-8", secret + "\xff\xfe\x80"},
		{"invalid UTF-8 in JSON", "{\"a\":\"\xc3\x28\"}"},
		{"overlong", "\xc0\xaf\xe0\x80\xaf"},
		{"a surrogate in bytes", "\xed\xa0\x80"},
		{"a lone surrogate in JSON", `{"a":"\ud800"}`},
		{"null bytes", "a\x00b"},
		{"control characters", "\x01\x02\x1b[2J\x7f\r\n\t"},
		{"line separators", "\u2028\u2029\ufeff"},
		{"HTML", "<script>alert(1)</script>"},
		{"an event of SSE", "a\n\nevent: next\ndata: {}\n\n"},
		{"a huge number", repeat("9", 10_000)},
		{"a huge exponent", "1e999999999"},
		{"a long fraction", "0." + repeat("1", 10_000)},
		{"minus zero", "-0"},
		{"9,900 levels", repeat("[", 9900) + repeat("]", 9900)},
		{"10,001 levels", repeat("[", 10_001) + repeat("]", 10_001)},
		{"100,000 levels, open", repeat("[", 100_000)},
		{"200,000 levels of objects", repeat(`{"a":`, 40_000)},
		{"the same member twice", `{"a":1,"a":2,"__proto__":{"b":1}}`},
		{"20,000 members", "{" + strings.TrimSuffix(numbered(15_000, `"a%d":1,`), ",") + "}"},
		{"much white space", repeat(" \n\r\t", 20_000) + "1"},
		{"NaN", "NaN"},
		{"two values", "{}{}"},
	} {
		g.publishRedis(t, "demo:hostile", []byte(test.payload))
		g.publishMQTT(t, "demo/hostile", []byte(test.payload))
		for range 2 {
			m, err := s.message()
			if err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
			r, codes := event(t, m)
			if len(codes) > 0 && len(test.payload) < 60_000 {
				t.Errorf("%s, %s: %v", test.name, m.ID, codes)
			}
			got := r.Payload
			if r.Encoding == "BASE64" {
				b, _ := base64.StdEncoding.DecodeString(got)
				got = string(b)
			}
			if len(codes) == 0 && got != test.payload {
				t.Errorf("%s, %s: the payload is not what was published: %.100q", test.name, m.ID, got)
			}
		}
	}
}

func TestTopicsThatAreOddAreServedOrRefusedAlone(t *testing.T) {
	g := start(t, "operations-burst=10000")
	s := openSocket(t, g)
	s.subscribe("all", `subscription { redisPatternMessages(pattern: "demo:*") `+redisFields+` }`)
	testenv.Eventually(t, 5*time.Second, "the pattern is subscribed", func() string {
		if f := g.figures(t); f.upstreams != 3 {
			return fmt.Sprint(f.upstreams, " upstreams")
		}
		return ""
	})
	for i, topic := range []string{
		"a\u202eb", "\u0301", "e\u0301", "\u00e9", "\U0001F600", "\u200b", "\ufeff", "\ufffd", "\uffff", "\ufdd0", "\u0000", "\u0001", "\u007f", "\u0085",
		"\n", "+x", "a#", "#a", "a/+b", "+/+/#/a", "//", "/", " ", "$SYS/#", "$share/g/a", "../a", "%2e%2e", "*", "?", "[a", "[^a]", "\\", "a\\", "{a}",
		repeat("a", 250), repeat("a", 251), repeat("\U0001F600", 62), repeat("/", 31), repeat("/", 32), repeat("a/", 200), repeat("[a-z]*", 40),
	} {
		for _, document := range []string{
			"subscription { mqttMessages(topic: %s) { payload } }",
			"subscription { redisMessages(channel: %s) { payload } }",
			"subscription { redisPatternMessages(pattern: %s) { payload } }",
		} {
			separator := "/"
			if strings.Contains(document, "redis") {
				separator = ":"
			}
			name, _ := json.Marshal("demo" + separator + topic)
			begin := time.Now()
			id := fmt.Sprint(i, document[15:35])
			s.subscribe(id, fmt.Sprintf(document, name))
			s.subscribe(id+"!", "{ hello }")
			s.await("complete", id+"!")
			if took := time.Since(begin); took > servedWithin() {
				t.Errorf("%s: took %v", name, took)
			}
			s.send(text(fmt.Sprintf(`{"id":%q,"type":"complete"}`, id)))
		}
	}
	// Channels that no client could name, published straight to Redis.
	for _, channel := range []string{"demo:\xff\xfe", "demo:\x00", "demo:\n\r", "demo:" + repeat("a", 70_000), "demo:\u202e\u2028"} {
		g.publishRedis(t, channel, []byte("{}"))
		if m := s.await("next", "all"); !utf8.Valid(m.Payload) || !json.Valid(m.Payload) {
			t.Errorf("%.50q arrived as %.100q", channel, m.Payload)
		}
	}
}

func TestPublishesOfTenMegabytesCostOthersNothing(t *testing.T) {
	g := start(t)
	s := openSocket(t, g)
	const subscribers = 20
	for i := range subscribers {
		s.subscribe(fmt.Sprint("redis", i), `subscription { redisMessages(channel: "demo:large") `+redisFields+` }`)
		s.subscribe(fmt.Sprint("mqtt", i), `subscription { mqttMessages(topic: "demo/large", qos: EXACTLY_ONCE) `+mqttFields+` }`)
	}
	testenv.Eventually(t, 5*time.Second, "all have subscribed", func() string {
		if f := g.figures(t); f.operations != 3+2*subscribers || f.upstreams != 4 {
			return fmt.Sprintf("%+v", f)
		}
		return ""
	})
	large := []byte(`"` + secret + repeat("<", 10_000_000) + `"`)
	for range 2 {
		g.publishRedis(t, "demo:large", large)
		g.publishMQTT(t, "demo/large", large)
		for range 2 * subscribers {
			m, err := s.message()
			if err != nil {
				t.Fatal(err)
			}
			if _, codes := event(t, m); len(codes) != 1 || codes[0] != "PAYLOAD_TOO_LARGE" {
				t.Fatalf("%s got %v, %.200s", m.ID, codes, m.Payload)
			}
		}
	}
	g.publishRedis(t, "demo:large", []byte("small"))
	if r, _ := event(t, s.await("next", "redis1")); r.Payload != "small" {
		t.Errorf("after them came %+v", r)
	}
}

// busy publishes 20,000 messages of 1 kB on a channel, as fast as a client reads
// them that sits beside the hostile ones and counts.
func busy(t *testing.T, g *gateway) {
	t.Helper()
	counter := openSocket(t, g)
	counter.subscribe("1", `subscription { redisMessages(channel: "demo:busy") { payload } }`)
	operations := g.figures(t).operations
	testenv.Eventually(t, 5*time.Second, "the channel is subscribed", func() string {
		if f := g.figures(t); f.channels != 2 || f.operations < operations {
			return fmt.Sprintf("%+v", f)
		}
		return ""
	})
	const batches, size = 200, 100
	counted := make(chan int, 4) // how many batches are on their way
	go func() {
		defer close(counted)
		for n := range batches * size {
			m, err := counter.message()
			if err != nil || !strings.Contains(string(m.Payload), fmt.Sprintf("-%06d-", n)) {
				t.Errorf("a client that reads got %v, %.100s instead of message %d", err, m.Payload, n)
				return
			}
			if n%size == size-1 {
				counted <- n
			}
		}
	}()
	publish := func(b int) {
		pipe := g.redis.Pipeline()
		for i := range size {
			pipe.Publish(t.Context(), "demo:busy", fmt.Sprintf("-%06d-%s", b*size+i, repeat("x", 1000)))
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	publish(0)
	publish(1)
	for b := 2; b < batches; b++ {
		if _, ok := <-counted; !ok {
			return
		}
		publish(b)
	}
	for range counted {
	}
}

func TestSocketsThatNeverReadAreClosedWhileATopicIsBusy(t *testing.T) {
	g := start(t, "write-deadline=1s")
	g.lines = 30 // one for each slow consumer
	for range 10 {
		s := upgradeOn(dialBuffer(t, g, 4096), g, modern, "")
		s.init()
		s.subscribe("1", `subscription { redisMessages(channel: "demo:busy") { channel payload json } }`)
		t.Cleanup(func() { s.Close() })
	}
	busy(t, g)
	testenv.Eventually(t, 10*time.Second, "the slow consumers are gone", func() string {
		if f := g.figures(t); f.connections > g.before.connections+1 { // and the counter
			return fmt.Sprintf("%d connections", f.connections)
		}
		return ""
	})
	if n := g.refusals(t, "4413"); n != 10 {
		t.Errorf("%d slow consumers were counted, want 10", n)
	}
}

func TestStreamsThatNeverReadAreEndedWhileATopicIsBusy(t *testing.T) {
	g := start(t, "write-deadline=1s")
	g.lines = 30
	for range 10 {
		l := dialBuffer(t, g, 4096)
		l.send("GET /graphql?query=subscription%7BredisMessages(channel:%22demo:busy%22)%7Bpayload%7D%7D HTTP/1.1\r\nHost: " + g.addr + "\r\nAccept: text/event-stream\r\n\r\n")
		if response := l.response(); response == nil || response.StatusCode != 200 {
			t.Fatalf("answered %v", response)
		}
	}
	busy(t, g)
	testenv.Eventually(t, 10*time.Second, "the streams are gone", func() string {
		if f := g.figures(t); f.operations > g.before.operations+1 || f.goroutines > g.before.goroutines+spareGoroutine+2 {
			return fmt.Sprintf("%+v", f)
		}
		return ""
	})
}

// What comes after the request of a stream is bounded as any body is.
func TestStreamsTakeNothingFromTheirClients(t *testing.T) {
	g := start(t, "body-wait=500ms", "write-deadline=1s")
	for more, want := range map[string]int{
		"\r\n" + repeat("GET /healthz HTTP/1.1\r\nHost: "+g.addr+"\r\n\r\n", 10_000): 200,
		"Content-Length: 10\r\n\r\n":                                   408,
		"Transfer-Encoding: chunked\r\n\r\n":                           408,
		"Content-Length: 100000000\r\n\r\n" + repeat("a", 1<<20):       413,
		"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n": 408,
	} {
		l := dial(t, g)
		go l.send("GET /graphql?query=subscription%7BtimeUpdates%7D HTTP/1.1\r\nHost: " + g.addr + "\r\nAccept: text/event-stream\r\n" + more)
		if response := l.response(); response == nil || response.StatusCode != want {
			t.Errorf("%.30q: answered %v, want %d", more, response, want)
		}
		l.reset()
	}
}
