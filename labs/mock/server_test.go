package mock

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// rig is a mock under test.
type rig struct {
	*Server
	t   testing.TB
	url string
}

func start(t testing.TB, script string) *rig { return startWith(t, script, Config{Seed: 7}) }

func startWith(t testing.TB, script string, cfg Config) *rig {
	t.Helper()
	if script != "" {
		parsed, err := Parse([]byte(script))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Script = parsed
	}
	s := New(cfg)
	web := httptest.NewServer(s)
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		_ = s.Shutdown(ctx) // what is left of clients that the test abandoned
		web.Close()
	})
	return &rig{s, t, "ws" + strings.TrimPrefix(web.URL, "http")}
}

// client is gorilla's.
type client struct {
	t testing.TB
	*websocket.Conn
	pings []string
}

func (r *rig) dial(path string, subprotocols ...string) *client {
	r.t.Helper()
	dialer := websocket.Dialer{Subprotocols: subprotocols, HandshakeTimeout: 10 * time.Second}
	conn, response, err := dialer.Dial(r.url+path, nil)
	if err != nil {
		status := ""
		if response != nil {
			status = response.Status
		}
		r.t.Fatalf("%s: %v %s", path, err, status)
	}
	r.t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	c := &client{t: r.t, Conn: conn}
	conn.SetPingHandler(func(payload string) error {
		c.pings = append(c.pings, payload)
		return conn.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(time.Second))
	})
	return c
}

// next is the next message or the end: "close 1001 reason", "lost".
func (c *client) next() string {
	c.t.Helper()
	kind, data, err := c.ReadMessage()
	var closed *websocket.CloseError
	switch {
	case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
		return strings.TrimSpace(fmt.Sprintf("close %d %s", closed.Code, closed.Text))
	case err != nil:
		return "lost"
	case kind == websocket.BinaryMessage:
		return "binary " + hex.EncodeToString(data)
	}
	return string(data)
}

func (c *client) say(text string) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) sayBinary(data []byte) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.BinaryMessage, data); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) want(lines ...string) {
	c.t.Helper()
	for _, line := range lines {
		if got := c.next(); got != line {
			c.t.Fatalf("got %s, want %s", got, line)
		}
	}
}

func (c *client) leave(code int, reason string) {
	c.t.Helper()
	_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(time.Second))
	for {
		if _, _, err := c.ReadMessage(); err != nil {
			break
		}
	}
	c.Close()
}

func TestDefaultGreetsAndEchoes(t *testing.T) {
	r := startWith(t, "", Config{})
	c := r.dial("/any/where")
	c.want(`{"type":"hello","connection":1}`)
	c.say("hi")
	c.want("hi")
	c.sayBinary([]byte{1, 2})
	c.want("binary 0102")
	if got := r.Verdict().State; got != None {
		t.Errorf("the verdict is %s", got)
	}
	r.dial("/").want(`{"type":"hello","connection":2}`)
}

func TestTheFirstRuleThatFitsAnswers(t *testing.T) {
	c := start(t, `
vars: { who: nobody }
rules:
  - { on: { text: hello }, do: [ { send: "hello to you" } ] }
  - { on: { text: { contains: "lo" } }, do: [ { send: "contains" } ] }
  - { on: { text: { matches: "^[0-9]+$" } }, do: [ { send: "{{number(text) * 2}}" } ] }
  - { on: { json: { type: join, "user.name": { $type: string } } }, do: [ { set: { who: "{{json.user.name}}" } }, { send: { json: { type: joined, who: "{{who}}", n: "{{received}}" } } } ] }
  - { on: { json: { list: [1, { $matches: "^a" }] } }, do: [ { send: "list {{json.list[1]}}, {{json.list.0}}" } ] }
  - { on: json, if: 'length(json.items) > 2', do: [ { send: "{{length(json.items)}} items" } ] }
  - { on: { binary: "de ad be ef" }, do: [ { send: "exactly" } ] }
  - { on: { binary: { starts: ca } }, do: [ { send: { binary: [ { u16: "{{u8(1)}}" }, { text: "é" }, { zeros: 2 } ] } } ] }
  - { on: { binary: { contains: "00 00" } }, if: bytes >= 3, do: [ { send: "{{hex}} {{u16(0)}} {{sha256}}" } ] }
  - { on: message, do: [ { send: "{{kind}}, {{who}}" } ] }
`).dial("/")
	for _, step := range []struct{ say, want string }{
		{"hello", "hello to you"},
		{"lollo", "contains"},
		{"21", "42"},
		{`{"type":"join","user":{"name":"Ann"}}`, `{"type":"joined","who":"Ann","n":4}`},
		{`{"type":"join","user":{"name":7}}`, "text, Ann"},
		{`{"list":[1,"abc"]}`, "list abc, 1"},
		{`{"list":[1,"abc",2]}`, "text, Ann"},
		{`{"items":[1,2,3]}`, "3 items"},
		{`{"items":[1,2]}`, "text, Ann"},
		{`{"items":`, "text, Ann"},
	} {
		c.say(step.say)
		c.want(step.want)
	}
	for _, step := range []struct{ say, want string }{
		{"deadbeef", "exactly"},
		{"ca07", "binary 0007c3a90000"},
		{"010000", fmt.Sprintf("010000 256 %x", sha256.Sum256([]byte{1, 0, 0}))},
		{"010203", "binary, Ann"},
	} {
		data, _ := hex.DecodeString(step.say)
		c.sayBinary(data)
		c.want(step.want)
	}
}

func TestWhatTakesTimeDoesNotHoldUpTheRest(t *testing.T) {
	r := start(t, `
vars: { n: 0 }
rules:
  - on: connect
    do:
      - repeat: { times: 3, every: 10ms, do: [ { set: { n: "{{n + 1}}" } }, { send: "{{n}} in round {{round}}" } ] }
      - send: ready
  - on: { text: slow }
    do: [ { wait: 300ms }, { send: slow } ]
  - on: { text: tick }
    do: [ { repeat: { every: 10ms, do: [ { send: tick } ] } } ]
  - on: { text: stop }
    do: [ stop, { send: stopped } ]
  - on: message
    do: [ echo ]
`)
	c := r.dial("/")
	c.want("1 in round 1", "2 in round 2", "3 in round 3", "ready")
	begin := time.Now()
	c.say("slow")
	c.say("fast")
	c.want("fast", "slow")
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("slow after %v", took)
	}
	c.say("tick")
	c.want("tick", "tick")
	c.say("stop")
	for line := c.next(); line != "stopped"; line = c.next() {
		if line != "tick" {
			t.Fatalf("got %s", line)
		}
	}
	c.say("quiet")
	if line := c.next(); line != "quiet" && line != "tick" { // one that was due may still come
		t.Errorf("got %s", line)
	}
}

func TestEveryWayToEnd(t *testing.T) {
	r := start(t, `
rules:
  - { on: { text: leave }, do: [ { close: 1001 } ] }
  - { on: { text: policy }, do: [ { close: { code: 1008, reason: "no {{text}}" } }, { send: never } ] }
  - { on: { text: later }, do: [ { send: before }, { close: { code: 1013, reason: later } } ] }
  - { on: { text: cut }, do: [ { send: before }, cut ] }
  - { on: { text: bad }, do: [ { raw: "83 00" } ] }
  - { on: { text: masked }, do: [ { raw: "81 81 00 00 00 00 41" } ] }
  - { on: { text: error }, do: [ { error: "no \"{{text}}\" today" } ] }
`)
	for _, step := range []struct {
		say  string
		want []string
	}{
		{"leave", []string{"close 1001"}},
		{"policy", []string{"close 1008 no policy"}},
		{"later", []string{"before", "close 1013 later"}},
		{"cut", []string{"before", "lost"}},
		{"error", []string{`{"type":"error","message":"no \"error\" today"}`}},
		{"bad", []string{"lost"}},
		{"masked", []string{"lost"}},
	} {
		c := r.dial("/")
		c.say(step.say)
		c.want(step.want...)
	}
}

func TestPingsFragmentsAndSubprotocols(t *testing.T) {
	r := start(t, `
vars: { word: amber }
subprotocols: [chat.v2, chat.v1]
ping_every: never
rules:
  - { on: connect, if: 'subprotocol == "chat.v1"', do: [ { ping: "{{word}}" }, { send: { text: "in {{path}}", fragments: 3 } } ] }
  - { on: connect, if: 'subprotocol != "chat.v1"', do: [ { send: "none" } ] }
  - { on: { ping: { contains: x } }, do: [ { send: "ping {{text}}" } ] }
  - { on: pong, do: [ { send: "pong {{text}}" } ] }
paths:
  /strict: { require_subprotocol: true, subprotocols: [mqtt], rules: [ { on: message, do: [echo] } ] }
`)
	c := r.dial("/a/b", "chat.v1", "chat.v2")
	c.want("in /a/b", "pong amber")
	if fmt.Sprint(c.pings) != "[amber]" {
		t.Errorf("pings %v", c.pings)
	}
	_ = c.WriteControl(websocket.PingMessage, []byte("xy"), time.Now().Add(time.Second))
	c.want("ping xy")
	r.dial("/", "other").want("none")
	_, response, err := websocket.DefaultDialer.Dial(r.url+"/strict", nil)
	if err == nil || response.StatusCode != http.StatusBadRequest {
		t.Errorf("without a subprotocol: %v", err)
	}
}

func TestPathsBehaveEachInItsWay(t *testing.T) {
	r := start(t, `
paths:
  /hunt: { rules: [ { on: connect, do: [ { send: "hunt {{connection}}" } ] } ] }
  /chat: { rules: [ { on: connect, do: [ { send: "chat {{connection}}" } ] } ] }
`)
	r.dial("/hunt").want("hunt 1")
	r.dial("/lab/0123/chat").want("chat 1")
	r.dial("/mock/hunt/").want("hunt 2")
	_, response, err := websocket.DefaultDialer.Dial(r.url+"/other", nil)
	if err == nil || response.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown path: %v", err)
	}
}

func TestTheSameSeedDrawsTheSame(t *testing.T) {
	const script = `
draw:
  float: { float: [0, 1000] }
  die: { int: [1, 6] }
  word: { one_of: [amber, birch, cedar] }
  shared: { hex: 8, per: script }
rules:
  - on: connect
    do:
      - send: "{{float}} {{die}} {{word}} {{shared}}"
      - send: { binary: [ { random: 4 } ] }
  - on: { binary: [ { f64: "{{float}}" } ] }
    do: [ { send: right } ]
  - on: message
    do: [ { send: wrong } ]
`
	first, again := start(t, script), start(t, script)
	var shared []string
	for range 2 {
		a, b := first.dial("/"), again.dial("/")
		line := a.next()
		b.want(line)
		b.want(a.next())
		shared = append(shared, strings.Fields(line)[3])
		n, err := strconv.ParseFloat(strings.Fields(line)[0], 64)
		if err != nil || n < 0 || n > 1000 {
			t.Fatalf("drew %s", line)
		}
		a.sayBinary(binary.LittleEndian.AppendUint64(nil, math.Float64bits(n)))
		a.want("wrong")
		a.sayBinary(binary.BigEndian.AppendUint64(nil, math.Float64bits(n)))
		a.want("right")
	}
	if shared[0] != shared[1] {
		t.Errorf("drew %v for a script", shared)
	}
}

func TestTheHostSetsDeclaredVariables(t *testing.T) {
	r := startWith(t, `
vars: { nonce: none, other: mine }
rules: [ { on: connect, do: [ { send: "{{nonce}} {{other}}" } ] } ]
`, Config{Vars: map[string]string{"nonce": "birch", "unknown": "x"}})
	r.dial("/").want("birch mine")
}

// settle waits until the verdict is what it has to become.
func (r *rig) settle(want State) Verdict {
	r.t.Helper()
	return r.await(func(v Verdict) bool { return v.State == want })
}

func (r *rig) await(done func(Verdict) bool) Verdict {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		v := r.Verdict()
		if done(v) {
			return v
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain, and the verdict is\n%v", v)
		}
	}
}
