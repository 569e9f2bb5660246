package gqlws

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// player plays one side of a conversation against a protocol, without a socket.
type player struct {
	protocol protocol
	active   map[string]bool
	said     []string // what the protocol did, as the scripts write it
	closed   bool
}

func newPlayer(token string) *player {
	return &player{protocol: newProtocol(token), active: make(map[string]bool)}
}

func (p *player) send(text string) {
	s := p.protocol.step([]byte(text), func(id string) bool { return p.active[id] })
	if s.init {
		for _, m := range p.protocol.acknowledge(nil) {
			p.say("want %s", m)
		}
	}
	if s.stop != "" {
		delete(p.active, s.stop)
		p.say("stop %s", s.stop)
	}
	if s.start != nil {
		p.active[s.id] = true
		p.say("start %s %s", s.id, s.start.Query)
	}
	if s.send != nil {
		p.say("want %s", s.send)
	}
	if s.end != nil {
		p.closed = true
		p.say("close %d %s", s.end.Code, s.end.Reason)
	}
}

func (p *player) say(format string, args ...any) {
	p.said = append(p.said, fmt.Sprintf(format, args...))
}

// TestScripts plays testdata/*.ws: conversations that a learner can read.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.ws")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".ws"), func(t *testing.T) { playScript(t, path) })
	}
}

func playScript(t *testing.T, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var p *player
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		verb, rest, _ := strings.Cut(lines.Text(), " ")
		switch verb {
		case "", "#":
		case "protocol":
			p = newPlayer(rest)
		case "send":
			if len(p.said) > 0 {
				t.Fatalf("%s:%d: not in the script before this line: %q", path, n, p.said)
			}
			if p.closed {
				t.Fatalf("%s:%d: the socket is closed", path, n)
			}
			p.send(rest)
		default:
			if len(p.said) == 0 {
				t.Fatalf("%s:%d: nothing happened, want %q", path, n, lines.Text())
			}
			if p.said[0] != lines.Text() {
				t.Fatalf("%s:%d:\n got %s\nwant %s", path, n, p.said[0], lines.Text())
			}
			p.said = p.said[1:]
		}
	}
	if len(p.said) > 0 {
		t.Fatalf("%s: at the end, not in the script: %q", path, p.said)
	}
}

func TestInvalidMessagesClose4400(t *testing.T) {
	tests := []struct{ name, text, reason string }{
		{"not JSON", `hello`, `Message is not a JSON object`},
		{"empty", ``, `Message is not a JSON object`},
		{"trailing text", `{"type":"ping"} {}`, `Message is not a JSON object`},
		{"an array", `[{"type":"ping"}]`, `Message is not a JSON object`},
		{"null", `null`, `Message has no "type"`},
		{"no type", `{}`, `Message has no "type"`},
		{"type of another case", `{"Type":"ping"}`, `Message has no "type"`},
		{"type is a number", `{"type":1}`, `"type" must be a string`},
		{"unknown type", `{"type":"dance"}`, `Message type "dance" is not one that a client sends`},
		{"a server's type", `{"type":"next","id":"1","payload":{}}`, `Message type "next" is not one that a client sends`},
		{"a legacy type", `{"type":"start","id":"1","payload":{"query":"{a}"}}`, `Message type "start" is not one that a client sends`},
		{"init payload is a string", `{"type":"connection_init","payload":"x"}`, `Payload of "connection_init" must be an object`},
		{"ping payload is an array", `{"type":"ping","payload":[]}`, `Payload of "ping" must be an object`},
		{"id is a number", `{"id":1,"type":"subscribe","payload":{"query":"{a}"}}`, `"id" must be a string`},
		{"id is empty", `{"id":"","type":"subscribe","payload":{"query":"{a}"}}`, `Message of type "subscribe" needs an "id" that is a string of at least one character`},
		{"no id", `{"type":"complete"}`, `Message of type "complete" needs an "id" that is a string of at least one character`},
		{"no payload", `{"id":"1","type":"subscribe"}`, `Payload of "subscribe" must be an object with a "query"`},
		{"no query", `{"id":"1","type":"subscribe","payload":{}}`, `"query" must be a string`},
		{"query is an object", `{"id":"1","type":"subscribe","payload":{"query":{}}}`, `"query" must be a string`},
		{"variables is an array", `{"id":"1","type":"subscribe","payload":{"query":"{a}","variables":[]}}`, `"variables" must be an object`},
		{"extensions is a string", `{"id":"1","type":"subscribe","payload":{"query":"{a}","extensions":"x"}}`, `"extensions" must be an object`},
		{"operationName is a number", `{"id":"1","type":"subscribe","payload":{"query":"{a}","operationName":1}}`, `"operationName" must be a string`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := newPlayer(TransportWS)
			p.send(test.text)
			if want := "close 4400 " + test.reason; len(p.said) != 1 || p.said[0] != want {
				t.Errorf("%s\n got %q\nwant %q", test.text, p.said, want)
			}
		})
	}
}

func TestLargeIntegersKeepTheirDigits(t *testing.T) {
	p := newProtocol(TransportWS)
	p.step([]byte(`{"type":"connection_init"}`), nil)
	s := p.step([]byte(`{"id":"1","type":"subscribe","payload":{"query":"{a}","variables":{"n":9007199254740993}}}`), func(string) bool { return false })
	if got := fmt.Sprint(s.start.Variables["n"]); got != "9007199254740993" {
		t.Errorf("variable arrived as %s", got)
	}
}

func TestReasonsFitIntoACloseFrame(t *testing.T) {
	for _, id := range []string{strings.Repeat("x", 300), strings.Repeat("あ", 100), strings.Repeat("é", 61) + "🙂🙂", "\xff\xfe"} {
		e := DuplicateID.because("Subscriber for " + id + " already exists")
		if len(e.Reason) > maxReason || !utf8.ValidString(e.Reason) {
			t.Errorf("reason of %d bytes, valid UTF-8 %t: %q", len(e.Reason), utf8.ValidString(e.Reason), e.Reason)
		}
	}
}

func TestEndingsAreOneTable(t *testing.T) {
	seen := make(map[int]bool)
	for _, e := range Endings {
		if seen[e.Code] {
			t.Errorf("code %d stands twice", e.Code)
		}
		seen[e.Code] = true
		if e.Reason == "" || len(e.Reason) > maxReason {
			t.Errorf("code %d: reason of %d bytes", e.Code, len(e.Reason))
		}
		// The npm package graphql-ws gives up for good on these.
		fatal := map[int]bool{1000: true, 1002: true, 1003: true, 1007: true, 1008: true, 1009: true, 1011: true, 4400: true, 4401: true, 4406: true, 4409: true, 4429: true, 4500: true}
		if e.Retry == fatal[e.Code] {
			t.Errorf("code %d: Retry is %t", e.Code, e.Retry)
		}
	}
}

// FuzzStep: no message may panic, start what it may not, or lead to a reply
// that is not JSON.
func FuzzStep(f *testing.F) {
	scripts, _ := filepath.Glob("testdata/*.ws")
	for _, path := range scripts {
		text, _ := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			if message, ok := strings.CutPrefix(line, "send "); ok {
				f.Add(message, true)
				f.Add(message, false)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string, old bool) {
		token := TransportWS
		if old {
			token = LegacyWS
		}
		fresh := newPlayer(token)
		fresh.send(text)
		if len(fresh.active) > 0 {
			t.Errorf("started an operation before connection_init")
		}
		p := newPlayer(token)
		p.send(`{"type":"connection_init"}`)
		p.send(text)
		for _, said := range p.said {
			if reply, ok := strings.CutPrefix(said, "want "); ok && !json.Valid([]byte(reply)) {
				t.Errorf("reply is not JSON: %s", reply)
			}
			if reason, ok := strings.CutPrefix(said, "close "); ok && len(reason) > len("4400 ")+maxReason {
				t.Errorf("reason too long: %s", reason)
			}
		}
	})
}
