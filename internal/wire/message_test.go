package wire

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// messages assembles frames whose bytes come in chunks of n.
func messages(a *Assembler, n int, frames ...Frame) (list []Message, problems []Problem) {
	var b []byte
	for _, f := range frames {
		b = f.Append(b)
	}
	var d Decoder
	for len(b) > 0 {
		chunk := b[:min(n, len(b))]
		b = b[len(chunk):]
		for part := range d.Parts(chunk) {
			p, m := a.Add(part)
			if problems = append(problems, p...); m != nil {
				list = append(list, *m)
			}
		}
	}
	return list, problems
}

func TestMessagesAreWhatTheirFragmentsSay(t *testing.T) {
	frames := []Frame{
		NewFrame(false, Text, []byte("a\xe3\x81")),
		NewFrame(true, Ping, []byte("p")),
		NewFrame(false, Continuation, nil),
		NewFrame(true, Continuation, []byte("\x82b")),
		NewFrame(true, Binary, []byte{0xff}),
		NewFrame(true, Text, nil),
	}
	want := []Message{
		{Opcode: Text, Size: 5, WireSize: 5, Fragments: 3, Data: []byte("aあb"), SHA256: sha256.Sum256([]byte("aあb"))},
		{Opcode: Binary, Size: 1, WireSize: 1, Fragments: 1, Data: []byte{0xff}, SHA256: sha256.Sum256([]byte{0xff})},
		{Opcode: Text, Fragments: 1, SHA256: sha256.Sum256(nil)},
	}
	for _, n := range []int{1, 2, 3, 1000} {
		got, problems := messages(NewAssembler(ToClient, nil, 100), n, frames...)
		if diff := cmp.Diff(want, got); diff != "" || problems != nil {
			t.Errorf("in chunks of %d: %v %s", n, problems, diff)
		}
	}
}

func TestAMessageIsGivenUpAtItsFirstBadByte(t *testing.T) {
	a := NewAssembler(ToClient, nil, 100)
	b := NewFrame(false, Text, []byte("a\xe3")).Append(nil)
	second := NewFrame(true, Continuation, []byte("b and more")).Append(nil)
	var d Decoder
	var given *Message
	feed := func(b []byte) {
		for part := range d.Parts(b) {
			if _, m := a.Add(part); m != nil {
				given = m
			}
		}
	}
	if feed(b); given != nil {
		t.Fatalf("given up too early: %+v", given)
	}
	if feed(second[:3]); given == nil || !cmp.Equal(rules(given.Problems), []Rule{RuleUTF8}) {
		t.Fatalf("not given up at once: %+v", given)
	}
	given = nil
	if feed(second[3:]); given != nil {
		t.Errorf("given up twice: %+v", given)
	}
	if feed(NewFrame(true, Text, []byte("next")).Append(nil)); given == nil || string(given.Data) != "next" {
		t.Errorf("the next message is %+v", given)
	}
}

func TestOnlyTheFirstBytesOfAMessageAreKept(t *testing.T) {
	whole := bytes.Repeat([]byte("ab"), 100)
	got, _ := messages(NewAssembler(ToClient, nil, 50), 7, NewFrame(true, Binary, whole))
	if len(got) != 1 || got[0].Size != 200 || len(got[0].Data) != 50 || got[0].SHA256 != sha256.Sum256(whole) {
		t.Errorf("got %+v", got)
	}
}

func compressed(f Frame) Frame {
	f.RSV1 = true
	return f
}

// The examples of RFC 7692, section 7.2.3.
func TestInflatesTheExamplesOfTheRFC(t *testing.T) {
	for name, c := range map[string]struct {
		payloads []string
		agreed   Deflate
	}{
		"one block":          {payloads: []string{"f2 48 cd c9 c9 07 00"}},
		"shared window":      {payloads: []string{"f2 48 cd c9 c9 07 00", "f2 00 11 00 00"}},
		"a window each":      {payloads: []string{"f2 48 cd c9 c9 07 00", "f2 48 cd c9 c9 07 00"}, agreed: Deflate{ServerNoContextTakeover: true}},
		"no compression":     {payloads: []string{"00 05 00 fa ff 48 65 6c 6c 6f 00"}},
		"BFINAL":             {payloads: []string{"f3 48 cd c9 c9 07 00 00"}},
		"two blocks":         {payloads: []string{"f2 48 05 00 00 00 ff ff ca c9 c9 07 00"}},
		"BFINAL, then again": {payloads: []string{"f3 48 cd c9 c9 07 00 00", "f2 48 cd c9 c9 07 00"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := NewAssembler(ToClient, &c.agreed, 100)
			for _, payload := range c.payloads {
				b := unhex(t, payload)
				got, problems := messages(a, 3, compressed(NewFrame(false, Text, b[:2])), NewFrame(true, Continuation, b[2:]))
				if len(got) != 1 || string(got[0].Data) != "Hello" || !got[0].Compressed || got[0].WireSize != uint64(len(b)) || problems != nil || got[0].Problems != nil {
					t.Errorf("got %+v, %v", got, problems)
				}
			}
		})
	}
	t.Run("not all are compressed", func(t *testing.T) {
		got, _ := messages(NewAssembler(ToClient, &Deflate{}, 100), 3, NewFrame(true, Text, []byte("Hello")))
		if len(got) != 1 || string(got[0].Data) != "Hello" || got[0].Compressed {
			t.Errorf("got %+v", got)
		}
	})
}

// deflater compresses messages as a sender with context takeover does.
type deflater struct {
	out bytes.Buffer
	w   *flate.Writer
}

func newDeflater(t testing.TB) *deflater {
	d := &deflater{}
	var err error
	if d.w, err = flate.NewWriter(&d.out, 9); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *deflater) deflate(message []byte) Frame {
	d.out.Reset()
	_, _ = d.w.Write(message) // a bytes.Buffer takes everything
	_ = d.w.Flush()
	return compressed(NewFrame(true, Text, bytes.TrimSuffix(bytes.Clone(d.out.Bytes()), []byte("\x00\x00\xff\xff"))))
}

func TestTheWindowOutlivesMessages(t *testing.T) {
	d, a := newDeflater(t), NewAssembler(ToServer, &Deflate{ServerNoContextTakeover: true}, 1<<20)
	for i := range 40 {
		message := []byte(strings.Repeat(string(rune('a'+i%26)), i*500) + " and the same words again")
		got, problems := messages(a, 1000, d.deflate(message).Mask(key))
		if len(got) != 1 || !bytes.Equal(got[0].Data, message) || problems != nil {
			t.Fatalf("message %d: %v", i, problems)
		}
	}
}

func TestInflatingIsBounded(t *testing.T) {
	d := newDeflater(t)
	bomb := d.deflate(make([]byte, 10<<20))
	next := d.deflate([]byte("next"))
	if len(bomb.Payload) > 20_000 {
		t.Fatalf("it is no bomb: %d bytes", len(bomb.Payload))
	}
	got, _ := messages(NewAssembler(ToClient, &Deflate{}, 1<<16), 1000, bomb, next)
	if len(got) != 2 || len(got[0].Data) != 1<<16 || !cmp.Equal(rules(got[0].Problems), []Rule{RuleTooLarge}) || got[0].Problems[0].Code != 1009 {
		t.Errorf("got %d messages", len(got))
	}
	if !cmp.Equal(rules(got[1].Problems), []Rule{RuleDeflate}) {
		t.Errorf("without its window the next is %+v", got[1])
	}
	// Bytes that are never inflated are bounded, too.
	got, _ = messages(NewAssembler(ToClient, &Deflate{}, 1000), 1000, compressed(NewFrame(true, Text, make([]byte, 10_000))))
	if len(got) != 1 || !cmp.Equal(rules(got[0].Problems), []Rule{RuleTooLarge}) {
		t.Errorf("got %+v", got)
	}
}

func TestCompressedMessagesWithProblems(t *testing.T) {
	got, _ := messages(NewAssembler(ToClient, &Deflate{}, 1000), 1000, compressed(NewFrame(true, Text, []byte("\xff\xff\xff"))))
	if len(got) != 1 || !cmp.Equal(rules(got[0].Problems), []Rule{RuleDeflate}) {
		t.Errorf("what cannot be inflated: %+v", got)
	}
	got, _ = messages(NewAssembler(ToClient, &Deflate{}, 1000), 1000, newDeflater(t).deflate([]byte("a\xff")))
	if len(got) != 1 || !cmp.Equal(rules(got[0].Problems), []Rule{RuleUTF8}) {
		t.Errorf("compressed text that is none: %+v", got)
	}
}

func TestParametersOfDeflate(t *testing.T) {
	for value, want := range map[string]string{
		"permessage-deflate":                         "ok",
		"permessage-deflate; client_max_window_bits": "ok",
		"permessage-deflate; client_max_window_bits=\"10\"; server_max_window_bits=15": "ok",
		"permessage-deflate;server_no_context_takeover;client_no_context_takeover":     "ok",
		"permessage-deflate; server_no_context_takeover=1":                             "declined",
		"permessage-deflate; server_max_window_bits":                                   "declined",
		"permessage-deflate; server_max_window_bits=7":                                 "declined",
		"permessage-deflate; server_max_window_bits=16":                                "declined",
		"permessage-deflate; server_max_window_bits=08":                                "declined",
		"permessage-deflate; client_max_window_bits=":                                  "ill formed",
		"permessage-deflate; client_max_window_bits; client_max_window_bits":           "declined",
		"permessage-deflate; other":                                                    "declined",
		"x-webkit-deflate-frame":                                                       "declined",
		"permessage-deflate;":                                                          "ill formed",
		"permessage-deflate a":                                                         "ill formed",
		"permessage-deflate; a=\"b":                                                    "ill formed",
		"":                                                                             "ill formed",
	} {
		got := "ok"
		if list, err := Extensions(http.Header{"Sec-Websocket-Extensions": {value}}); err != nil {
			got = "ill formed"
		} else if _, err := ParseDeflate(list[0]); err != nil {
			got = "declined"
		}
		if got != want {
			t.Errorf("%q is %s, want %s", value, got, want)
		}
	}
	list, err := Extensions(http.Header{"Sec-Websocket-Extensions": {`a; b=c; d, permessage-deflate; client_max_window_bits`, `e; f="g"`}})
	want := []Extension{
		{"a", []Param{{"b", "c", true}, {Name: "d"}}},
		{"permessage-deflate", []Param{{Name: "client_max_window_bits"}}},
		{"e", []Param{{"f", "g", true}}},
	}
	if diff := cmp.Diff(want, list); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}
