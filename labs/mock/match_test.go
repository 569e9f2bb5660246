package mock

import (
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// expecting parses a script with one expectation.
func expecting(t *testing.T, matcher string) *expectation {
	t.Helper()
	script, err := Parse([]byte("vars: { who: Ann, n: 7 }\nexpect: { messages: [ { " + matcher + " } ] }"))
	if err != nil {
		t.Fatal(err)
	}
	return script.Behaviour.Expect.Messages[0]
}

func TestMatchersSayWhatTheyWantAndKnowIt(t *testing.T) {
	s := &scope{vars: map[string]any{"who": "Ann", "n": 7.0}}
	for _, c := range []struct {
		matcher, wanted string
		fits, misses    []string // JSON and other text; bytes after 0x
	}{
		{`text: "{{who}}"`, `text "{{who}}"`, []string{"Ann"}, []string{"ann", "Anna", "0x416e6e"}},
		{`text: { contains: n }`, `text with "n" in it`, []string{"Ann"}, []string{"a"}},
		{`text: { matches: "^a+$" }`, `text that matches ^a+$`, []string{"aaa"}, []string{"aab"}},
		{`json: { name: "{{who}}", n: "{{n}}" }`, `JSON with {name: "{{who}}", n: "{{n}}"}`, []string{`{"name":"Ann","n":7,"more":1}`}, []string{`{"name":"Ann","n":"7"}`, `{"name":"Ann"}`, `[]`, `x`}},
		{`json: {}`, `any JSON`, []string{`{}`, `{"a":1}`}, []string{`[]`, `1`, `{`}},
		{`json: 1`, `JSON with 1`, []string{"1", "1.0"}, []string{"2", `"1"`}},
		{`json: [1, { a: [] }, { $type: any }]`, `JSON with [1, {a: []}, anything]`, []string{`[1,{"a":[]},null]`}, []string{`[1,{"a":[]}]`, `[1,{"a":[2]},0]`, `{}`}},
		{`json: { a.0.b: true }`, `JSON with {a.0.b: true}`, []string{`{"a":[{"b":true}]}`}, []string{`{"a":[{"b":false}]}`, `{"a":[]}`, `{"a":{"0":{}}}`}},
		{`json: { a: null }`, `JSON with {a: null}`, []string{`{"a":null}`}, []string{`{}`, `{"a":0}`}},
		{`json: { a: { $matches: "^x" } }`, `JSON with {a: a text that matches ^x}`, []string{`{"a":"xy"}`}, []string{`{"a":"y"}`, `{"a":1}`}},
		{`json: { a: { $type: string } }`, `JSON with {a: a value of type string}`, []string{`{"a":""}`}, []string{`{"a":1}`}},
		{`json: { a: { $type: number } }`, `JSON with {a: a value of type number}`, []string{`{"a":1}`}, []string{`{"a":"1"}`}},
		{`json: { a: { $type: boolean } }`, `JSON with {a: a value of type boolean}`, []string{`{"a":false}`}, []string{`{"a":null}`}},
		{`json: { a: { $type: array } }`, `JSON with {a: a value of type array}`, []string{`{"a":[1]}`}, []string{`{"a":{}}`}},
		{`json: { a: { $type: object } }`, `JSON with {a: a value of type object}`, []string{`{"a":{}}`}, []string{`{"a":[]}`}},
		{`json: { a: { $type: "null" } }`, `JSON with {a: a value of type null}`, []string{`{"a":null}`}, []string{`{"a":0}`, `{}`}},
		{`binary: [ "ca fe", { text: "{{who}}" }, { u8: "{{n}}" }, { zeros: 1 } ]`, `binary ca fe, "{{who}}", u8 "{{n}}", 1 zeros`, []string{"0xcafe416e6e0700"}, []string{"0xcafe", "cafe"}},
		{`binary: { starts: ca }`, `binary that starts with ca`, []string{"0xca", "0xcafe"}, []string{"0xfeca"}},
		{`binary: { contains: [ { random: 2 } ] }`, `binary with 2 random bytes in it`, nil, []string{"0x00"}},
		{`ping: x`, `ping "x"`, nil, []string{"x"}},
		{`pong: { contains: x }`, `pong with "x" in it`, nil, []string{"x"}},
	} {
		x := expecting(t, c.matcher)
		if got := x.Received.String(); got != c.wanted {
			t.Errorf("%s wants %s", c.matcher, got)
		}
		for want, list := range map[bool][]string{true: c.fits, false: c.misses} {
			for _, text := range list {
				m := &message{kind: wire.Text, data: []byte(text), number: 1}
				if digits, bytes := strings.CutPrefix(text, "0x"); bytes {
					m.kind = wire.Binary
					m.data, _ = hex.DecodeString(digits)
				}
				if x.Received.fits(m, s) != want {
					t.Errorf("%s and %s: fits is %v", c.matcher, text, !want)
				}
			}
		}
	}
}

func TestNumbersInBytesAreCutToTheirSize(t *testing.T) {
	for _, c := range []struct{ part, want string }{
		{"u8: 255", "ff"},
		{"u8: 256", "00"},
		{"u8: -1", "ff"},
		{"u16: 1.9", "0001"},
		{"u32: 4294967295", "ffffffff"},
		{"u64: 18446744073709551615", "fffffffffffff800"}, // a float is not more exact
		{"u64: -1", "ffffffffffffffff"},
		{"u64: 1e300", "fffffffffffff800"},
		{"u64: -1e300", "0000000000000000"},
		{"f64: -2", "c000000000000000"},
		{`u16: "258"`, "0102"},
		{"u16: nonsense", "0000"},
		{`u16: "{{connection + 1}}"`, "0002"},
	} {
		x := expecting(t, "binary: [ { "+c.part+" } ]")
		got := x.Received.Binary.Exact.bytes(&scope{conn: connFacts{number: 1}}, rand.New(rand.NewPCG(1, 1)))
		if hex.EncodeToString(got) != c.want {
			t.Errorf("%s is %x, want %s", c.part, got, c.want)
		}
	}
}

func TestWhatIsMadeHasAtMostAMebibyte(t *testing.T) {
	script, err := Parse([]byte(`
rules:
  - on: message
    do:
      - send: "{{text}}{{text}}{{text}}"
      - send: { json: ["{{text}}", "{{json}}", "{{text}}", { a: "{{text}}" }] }
      - send: { binary: [ { text: "{{text}}" }, { text: "{{text}}" } ] }
      - send: "{{text + text}}"
`))
	if err != nil {
		t.Fatal(err)
	}
	s := &scope{message: &message{kind: wire.Text, data: []byte(`"` + strings.Repeat("x", maxBytes-2) + `"`)}}
	for i, a := range script.Behaviour.Rules[0].Do {
		var size int
		switch p := a.Send; {
		case p.JSON != nil:
			size = len(p.JSON.text(s))
		case p.Binary != nil:
			size = len(p.Binary.bytes(s, nil))
		default:
			size = len(p.Text.text(s))
		}
		if size > maxBytes+1000 {
			t.Errorf("action %d makes %d bytes", i, size)
		}
	}
	if got := script.Vars(); len(got) != 0 {
		t.Errorf("the variables are %v", got)
	}
}

func TestALongMessageIsShownShortened(t *testing.T) {
	for _, c := range []struct {
		m    *message
		want string
	}{
		{&message{kind: wire.Text, data: []byte(strings.Repeat("x", 99) + "é" + "more")}, `text "` + strings.Repeat("x", 99) + `"… (105 bytes)`},
		{&message{kind: wire.Binary, data: make([]byte, 17)}, "binary, 17 bytes: " + strings.TrimSpace(strings.Repeat("00 ", 16)) + " …"},
		{&message{kind: wire.Close, code: 1000}, "close 1000"},
		{&message{kind: wire.Close, code: wire.NoStatus}, "an empty Close frame"},
	} {
		if got := c.m.String(); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}
