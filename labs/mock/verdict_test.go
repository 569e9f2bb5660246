package mock

import (
	"fmt"
	"strings"
	"testing"
)

func TestAFailedExpectationSaysWhatWasSeenAndWanted(t *testing.T) {
	for _, c := range []struct {
		name, expect string
		say          []string // "close 4000 why" closes, else the connection is lost
		want         string   // of the verdict on the connection, one line for each that failed
	}{
		{"all came", "messages: [ { text: a }, { json: { n: 1 } } ]", []string{`{"n":1,"m":2}`, "x", "a"}, ""},
		{"one did not", "messages: [ { text: a }, { text: b } ]", []string{"a", "c"}, `text "b": message 2, text "c"`},
		{"nothing like it", "messages: [ { binary: ff } ]", []string{"a", "b"}, `binary ff: nothing like it in 2 messages`},
		{"near in JSON", "messages: [ { json: { type: bye, id: { $type: number } } } ]", []string{`{"type":"bye","id":"7"}`}, `JSON with {type: "bye", id: a value of type number}: message 1, text "{\"type\":\"bye\",\"id\":\"7\"}"`},
		{"in any order", "messages: [ { text: a }, { text: b } ]", []string{"b", "a"}, ""},
		{"not in any order", "{ ordered: true, messages: [ { text: a }, { text: b } ] }", []string{"b", "a"}, `text "b": message 1, text "b", too early: before text "a"`},
		{"in order, and once more", "{ ordered: true, messages: [ { text: a }, { text: b } ] }", []string{"a", "a", "x", "b", "a"}, ""},
		{"strict", "{ strict: true, messages: [ { text: a } ] }", []string{"a", "b"}, `nothing else: message 2, text "b"`},
		{"strict, once more", "{ strict: true, messages: [ { text: a } ] }", []string{"a", "a"}, `nothing else: message 2, text "a", out of order or once more than is expected`},
		{"strict and good", "{ strict: true, messages: [ { text: a }, { close: 4000 } ] }", []string{"a", "close 4000 why"}, ""},
		{"too often", "messages: [ { text: a, count: 2 } ]", []string{"a", "a", "a"}, `text "a", 2 times: message 3, text "a", which is one too many`},
		{"too rarely", "messages: [ { text: a, count: { min: 2 } } ]", []string{"a"}, `text "a", at least 2 times: 1 of them`},
		{"never", "messages: [ { text: { contains: a }, count: 0 } ]", []string{"b", "ba"}, `text with "a" in it, never: message 2, text "ba"`},
		{"never, and it did not", "messages: [ { text: { contains: a }, count: 0 } ]", []string{"b"}, ""},
		{"the special one before the general one", "{ strict: true, messages: [ message, { text: a } ] }", []string{"b", "a"}, ""},
		{"a Close frame", "messages: [ { close: { code: 4000, reason: { contains: b } } } ]", []string{"close 4000 abc"}, ""},
		{"another Close frame", "messages: [ { close: 1000 } ]", []string{"close 4000 abc"}, `close 1000: close 4000 "abc"`},
		{"no Close frame", "messages: [ { close: 1000 } ]", nil, `close 1000: a connection that ended without a Close frame`},
		{"a lost connection", "messages: [ { close: 1006 } ]", nil, ""},
		{"for another connection", "messages: [ { text: a, connection: 2 }, { text: b, connection: 1 } ]", []string{"b"}, ""},
		{"one that waits for what was needed", "{ ordered: true, messages: [ { text: { matches: '^[ab]$' }, count: { min: 1, max: 3 } }, { text: b } ] }", []string{"a", "b", "b", "b"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.HasPrefix(c.expect, "messages") {
				c.expect = "{ " + c.expect + " }"
			}
			r := start(t, "rules: [ { on: message, do: [echo] } ]\nexpect: "+c.expect)
			client := r.dial("/")
			for _, line := range c.say {
				var code int
				if n, _ := fmt.Sscanf(line, "close %d", &code); n == 1 {
					client.leave(code, line[len("close 4000 "):])
					continue
				}
				client.say(line)
				client.want(line)
			}
			client.Close()
			v := r.ended(1)
			var failed []string
			for _, check := range v.Connections[0].Checks {
				if check.State == Failed {
					failed = append(failed, check.Wanted+": "+check.Saw)
				}
			}
			if got := strings.Join(failed, "\n"); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if got := v.Connections[0].State; (got == Failed) != (c.want != "") {
				t.Errorf("the connection %s", got)
			}
		})
	}
}

func TestAVerdictIsOpenUntilItIsSure(t *testing.T) {
	r := start(t, `
paths:
  /lenient: { rules: [ { on: message, do: [echo] } ], expect: { messages: [ { text: a } ] } }
  /strict:  { rules: [ { on: message, do: [echo] } ], expect: { strict: true, messages: [ { text: a } ] } }
`)
	state := func(want State, of ...State) {
		t.Helper()
		v := r.Verdict()
		got := []State{v.State}
		for _, c := range v.Connections {
			got = append(got, c.State)
		}
		if fmt.Sprint(got) != fmt.Sprint(append([]State{want}, of...)) {
			t.Fatalf("got %v, want %v of %v", got, want, of)
		}
	}
	state(Open)
	lenient := r.dial("/lenient")
	lenient.say("a")
	lenient.want("a")
	state(Open, Passed) // since nobody has come to /strict
	strict := r.dial("/strict")
	strict.say("a")
	strict.want("a")
	state(Open, Passed, Open)
	strict.leave(1000, "")
	r.settle(Passed)
	again := r.dial("/strict")
	again.say("b")
	again.want("b")
	state(Failed, Passed, Passed, Failed)
	r.SetScript(r.Status().Script)
	state(Open)
}

func TestAVerdictListsAHundredConnectionsAndCountsAll(t *testing.T) {
	r := start(t, "rules: [ { on: message, do: [echo] } ]\nexpect: { messages: [ { text: a } ] }")
	for i := range maxVerdicts + 3 {
		c := r.dial("/")
		if i != 1 {
			c.say("a")
			c.want("a")
		}
		c.leave(1000, "")
	}
	v := r.ended(maxVerdicts + 3)
	if v.State != Failed || v.Passed != maxVerdicts+2 || v.Failed != 1 || len(v.Connections) != maxVerdicts || v.Omitted != 3 || v.Connections[0].State != Failed {
		t.Errorf("%s: %d passed, %d failed, %d listed, %d omitted", v.State, v.Passed, v.Failed, len(v.Connections), v.Omitted)
	}
}

// ended waits until so many connections have come and gone.
func (r *rig) ended(n int) Verdict {
	r.t.Helper()
	return r.await(func(v Verdict) bool {
		for _, c := range v.Connections {
			if !c.Ended {
				return false
			}
		}
		return len(v.Connections)+v.Omitted == n
	})
}
