package mock

import (
	"strings"
	"testing"
	"time"
)

// Server behaviours that exercises are made of, each in a few lines of script.
const course = `
vars: { hidden: amber, pinged: birch, parting: cedar, last: 0 }
draw: { lucky: { float: [0, 1000] } }
paths:
  /hunt:
    ping_every: never
    rules:
      - on: connect
        do:
          - send: { binary: [ { random: 8 }, { text: "{{hidden}}" }, { random: 8 } ] }
          - ping: "{{pinged}}"
      - { on: { text: "{{hidden}}" }, do: [ { send: found } ] }
      - { on: { text: done }, do: [ { close: { code: 4000, reason: "{{parting}}" } } ] }
  /cuts:
    rules:
      - { on: connect, if: connection <= 5, do: [ { wait: { from: 0s, to: 50ms } }, cut ] }
      - { on: connect, if: connection > 5, do: [ { send: "stable on connection {{connection}}" } ] }
  /third:
    rules:
      - { on: message, if: received == 3, do: [ cut ] }
      - { on: message, do: [ echo ] }
  /busy: { rules: [ { on: { text: work }, do: [ { close: { code: 1013, reason: "later" } } ] } ] }
  /forbidden: { rules: [ { on: { json: { token: { $type: any } } }, do: [ { close: 1008 } ] } ] }
  /float:
    rules:
      - { on: connect, do: [ { send: "{{lucky}}" } ] }
      - { on: { binary: [ { f64: "{{lucky}}" } ] }, do: [ { send: right } ] }
      - { on: binary, if: bytes == 8, do: [ { send: "wrong: that is {{f64(0)}}" } ] }
      - { on: message, do: [ { send: "wrong: eight bytes are wanted" } ] }
  /back:
    rules:
      - { on: connect, do: [ { send: { binary: [ { f64: "{{lucky}}" } ] } } ] }
      - { on: text, if: number(text) == lucky, do: [ { send: right } ] }
      - { on: message, do: [ { send: wrong } ] }
  /client:
    rules:
      - on: { json: { type: run } }
        do:
          - send: { json: { type: confetti } }
          - send: { json: { type: item, id: 1 } }
          - send: { json: { type: item, id: 1 } }
          - send: { json: { type: item, id: 3 } }
          - send: { json: { type: item, id: 2 } }
          - wait: 30ms
          - send: { json: { type: item, id: 4, late: true } }
          - close: 1012
  /limit: { message_bytes: 10, rules: [ { on: message, do: [echo] } ] }
`

func TestWhatExercisesAreMadeOf(t *testing.T) {
	r := start(t, course)

	hunt := r.dial("/hunt")
	if got := hunt.next(); !strings.Contains(got, "616d626572") || len(got) != len("binary ")+2*21 { // amber
		t.Errorf("hidden in %s", got)
	}
	hunt.say("amber")
	hunt.want("found")
	if len(hunt.pings) != 1 || hunt.pings[0] != "birch" {
		t.Errorf("pings %q", hunt.pings)
	}
	hunt.say("done")
	hunt.want("close 4000 cedar")

	for range 5 {
		r.dial("/cuts").want("lost")
	}
	r.dial("/cuts").want("stable on connection 6")

	third := r.dial("/third")
	for _, text := range []string{"1", "2"} {
		third.say(text)
		third.want(text)
	}
	third.say("3")
	third.want("lost")

	busy, forbidden := r.dial("/busy"), r.dial("/forbidden")
	busy.say("work")
	busy.want("close 1013 later")
	forbidden.say(`{"token":null}`)
	forbidden.want("close 1008")

	float := r.dial("/float")
	n := float.next()
	float.sayBinary([]byte{0x3f, 0xf8, 0, 0, 0, 0, 0, 0})
	float.want("wrong: that is 1.5")
	float.say(n)
	float.want("wrong: eight bytes are wanted")
	back := r.dial("/back")
	back.next()
	back.say("1e3")
	back.want("wrong")

	client := r.dial("/client")
	begin := time.Now()
	client.say(`{"type":"run"}`)
	client.want(`{"type":"confetti"}`, `{"type":"item","id":1}`, `{"type":"item","id":1}`, `{"type":"item","id":3}`, `{"type":"item","id":2}`,
		`{"type":"item","id":4,"late":true}`, "close 1012")
	if took := time.Since(begin); took < 30*time.Millisecond {
		t.Errorf("the late one came after %v", took)
	}

	limit := r.dial("/limit")
	limit.say("12345678901")
	if got := limit.next(); !strings.HasPrefix(got, "close 1009") {
		t.Errorf("got %s", got)
	}
}
