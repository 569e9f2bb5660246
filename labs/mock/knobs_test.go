package mock

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func ptr[T any](v T) *T { return &v }

func (r *rig) turn(change KnobChange) {
	r.t.Helper()
	if _, err := r.SetKnobs(change); err != nil {
		r.t.Fatal(err)
	}
}

const echoScript = "rules: [ { on: message, do: [echo] } ]"

func TestLatencyReachesOpenConnectionsAndKeepsOrder(t *testing.T) {
	r := start(t, echoScript)
	c := r.dial("/")
	r.turn(KnobChange{Latency: ptr(200 * time.Millisecond)})
	begin := time.Now()
	c.say("first")
	c.say("second")
	c.want("first", "second")
	if took := time.Since(begin); took < 200*time.Millisecond {
		t.Errorf("answered after %v", took)
	}
}

func TestErrorRateAnswersByErrors(t *testing.T) {
	r := start(t, echoScript)
	r.turn(KnobChange{ErrorRate: ptr(0.5)})
	c := r.dial("/")
	errors := 0
	for i := range 200 {
		text := fmt.Sprint(i)
		c.say(text)
		switch got := c.next(); got {
		case text:
		case `{"type":"error","message":"The mock fails on purpose"}`:
			errors++
		default:
			t.Fatalf("got %s", got)
		}
	}
	if errors < 50 || errors > 150 {
		t.Errorf("%d of 200 are errors", errors)
	}
	r.turn(KnobChange{ErrorRate: ptr(0.0)})
	c.say("good")
	c.want("good")
}

func TestConnectionsHaveALimit(t *testing.T) {
	r := start(t, echoScript)
	r.turn(KnobChange{Connections: ptr(1)})
	c := r.dial("/")
	_, response, err := websocket.DefaultDialer.Dial(r.url, nil)
	if err == nil || response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the second one: %v", err)
	}
	c.leave(1000, "")
	for deadline := time.Now().Add(10 * time.Second); r.Status().Open > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("its place was not given back")
		}
	}
	r.dial("/")
}

func TestKnobsHaveBounds(t *testing.T) {
	r := start(t, echoScript)
	before := r.Status().Knobs
	for want, change := range map[string]KnobChange{
		"latency":          {Latency: ptr(11 * time.Second)},
		"error rate":       {ErrorRate: ptr(1.5)},
		"connection limit": {Connections: ptr(0)},
		"buffer":           {BufferBytes: ptr(maxBuffer + 1)},
		"overflow":         {Overflow: ptr(Overflow("WAIT"))},
	} {
		if _, err := r.SetKnobs(change); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if r.Status().Knobs != before {
		t.Error("a refused change changed something")
	}
}

// flood sends more than the system's buffers hold of a client that does not read.
const flood = `
rules:
  - on: connect
    do:
      - repeat: { every: 10ms, do: [ { send: { binary: [ { u32: "{{round}}" }, { zeros: 262144 } ] } } ] }
`

func TestWhoReadsTooSlowlyIsCutOrMissesMessages(t *testing.T) {
	t.Run("cut", func(t *testing.T) {
		r := start(t, flood)
		r.turn(KnobChange{BufferBytes: ptr(512 << 10)})
		c := r.dial("/")
		r.await(func(Verdict) bool { return r.Status().Opened == 1 && r.Status().Open == 0 })
		for c.next() != "lost" { // what was on its way still comes
			continue
		}
	})
	t.Run("drop", func(t *testing.T) {
		r := start(t, flood)
		r.turn(KnobChange{BufferBytes: ptr(512 << 10), Overflow: ptr(Drop)})
		c := r.dial("/")
		r.await(func(Verdict) bool { return r.Status().Dropped > 3 })
		for last := uint32(0); ; {
			_, data, err := c.ReadMessage()
			if err != nil {
				t.Fatal(err)
			}
			round := binary.BigEndian.Uint32(data)
			if round > last+1 {
				break // it missed some, and goes on
			}
			last = round
		}
	})
}

func TestANewScriptIsForNewConnections(t *testing.T) {
	r := startWith(t, `{ "$schema": "mock-script.schema.json", "seed": 3, "rules": [ { "on": "message", "do": [ { "send": "old {{connection}}" } ] } ] }`, Config{})
	old := r.dial("/")
	old.say("x")
	old.want("old 1")
	script, err := Parse([]byte(`{ "seed": 5, "rules": [ { "on": "message", "do": [ { "send": "new {{connection}}" } ] } ] }`))
	if err != nil {
		t.Fatal(err)
	}
	if seed := r.SetScript(script); seed != 5 || r.Status().Seed != 5 || r.Status().Opened != 0 {
		t.Errorf("the seed is %d, %+v", seed, r.Status())
	}
	old.say("x")
	old.want("old 1")
	fresh := r.dial("/")
	fresh.say("x")
	fresh.want("new 1")
}

func TestTooManyWaitingRulesCloseTheConnection(t *testing.T) {
	r := start(t, "rules: [ { on: message, do: [ { wait: 10s } ] } ]")
	for _, c := range []struct{ messages, size int }{{maxRunning + 1, 1}, {2, maxHeld/2 + 1}, {2, maxBytes}} {
		client := r.dial("/")
		for range c.messages {
			client.sayBinary(make([]byte, c.size))
		}
		client.want("close 1013 Too many rules are waiting or repeating: at most 64, for messages of 262144 bytes")
	}
}

func TestShutdownEndsRulesAndTellsClients(t *testing.T) {
	r := start(t, "rules: [ { on: connect, do: [ { repeat: { every: 10ms, do: [ { send: x } ] } } ] }, { on: connect, do: [ { wait: 10s }, { send: late } ] } ]")
	c := r.dial("/")
	c.want("x")
	ended := make(chan error)
	go func() { ended <- r.Shutdown(context.Background()) }()
	for line := c.next(); line != "close 1012 The server is restarting"; line = c.next() {
		if line != "x" {
			t.Fatalf("got %s", line)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestEventsTellWhatHappens(t *testing.T) {
	var mu sync.Mutex
	var told []string
	script, err := Parse([]byte("rules:\n  - on: { text: a }\n    do: [echo]\nexpect:\n  messages:\n    - text: a\n"))
	if err != nil {
		t.Fatal(err)
	}
	r := startWith(t, "", Config{Script: script, Event: func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprintf("%d %s %d %s", e.Connection, e.Path, e.Line, e.Text))
	}})
	c := r.dial("/p")
	c.say("a")
	c.want("a")
	c.say("b")
	c.leave(4000, "why")
	r.ended(1)
	want := `1 /p 0 opened
1 /p 6 an expectation was met by message 1, text "a"
1 /p 2 the rule fits message 1, text "a"
1 /p 0 nothing was done about message 2, text "b"
1 /p 0 ended: close 4000 "why"`
	r.await(func(Verdict) bool {
		mu.Lock()
		defer mu.Unlock()
		return len(told) == 5
	})
	if got := strings.Join(told, "\n"); got != want {
		t.Errorf("told\n%s", got)
	}
}
