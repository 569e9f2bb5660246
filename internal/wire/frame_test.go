package wire

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var key = [4]byte{0x37, 0xfa, 0x21, 0x3d}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The examples of RFC 6455, section 5.7.
func TestExamplesOfTheRFC(t *testing.T) {
	for name, c := range map[string]struct {
		bytes  string
		frames []Frame
	}{
		"text":             {"81 05 48 65 6c 6c 6f", []Frame{NewFrame(true, Text, []byte("Hello"))}},
		"masked text":      {"81 85 37 fa 21 3d 7f 9f 4d 51 58", []Frame{NewFrame(true, Text, []byte("Hello")).Mask(key)}},
		"fragmented text":  {"01 03 48 65 6c 80 02 6c 6f", []Frame{NewFrame(false, Text, []byte("Hel")), NewFrame(true, Continuation, []byte("lo"))}},
		"ping":             {"89 05 48 65 6c 6c 6f", []Frame{NewFrame(true, Ping, []byte("Hello"))}},
		"masked pong":      {"8a 85 37 fa 21 3d 7f 9f 4d 51 58", []Frame{NewFrame(true, Pong, []byte("Hello")).Mask(key)}},
		"256 bytes binary": {"82 7e 01 00" + strings.Repeat("ab", 256), []Frame{NewFrame(true, Binary, bytes.Repeat([]byte{0xab}, 256))}},
		"64 KiB binary":    {"82 7f 00 00 00 00 00 01 00 00" + strings.Repeat("ab", 65536), []Frame{NewFrame(true, Binary, bytes.Repeat([]byte{0xab}, 65536))}},
	} {
		t.Run(name, func(t *testing.T) {
			want := unhex(t, c.bytes)
			var encoded []byte
			for _, f := range c.frames {
				encoded = f.Append(encoded)
			}
			if !bytes.Equal(encoded, want) {
				t.Errorf("encoded as % x", encoded[:min(len(encoded), 20)])
			}
			frames, partial := Frames(want)
			if diff := cmp.Diff(c.frames, frames); diff != "" || partial != nil {
				t.Errorf("decoded otherwise, and partly %v: %s", partial, diff)
			}
		})
	}
}

func TestLengthForms(t *testing.T) {
	for _, c := range []struct {
		length uint64
		form   LengthForm
		size   int // of the header
		want   []Rule
	}{
		{0, Length7, 2, nil},
		{125, Length7, 2, nil},
		{126, Length16, 4, nil},
		{65535, Length16, 4, nil},
		{65536, Length64, 10, nil},
		{1<<63 - 1, Length64, 10, nil},
		{125, Length16, 4, []Rule{RuleLengthForm}},
		{0, Length64, 10, []Rule{RuleLengthForm}},
		{65535, Length64, 10, []Rule{RuleLengthForm}},
		{1 << 63, Length64, 10, []Rule{RuleLengthForm}},
		{1<<64 - 1, Length64, 10, []Rule{RuleLengthForm}},
	} {
		f := Frame{Header: Header{FIN: true, Opcode: Binary, Form: c.form, Length: c.length}}
		b := f.Append(nil)
		if len(b) != c.size || f.Size() != c.size {
			t.Errorf("%d in %d bits: the header has %d bytes, says %d: want %d", c.length, c.form, len(b), f.Size(), c.size)
		}
		frames, partial := Frames(b)
		if len(frames) == 1 {
			partial = &frames[0]
		}
		if partial == nil || partial.Length != c.length || partial.Form != c.form {
			t.Fatalf("%d in %d bits was decoded as %+v", c.length, c.form, partial)
		}
		if got := rules(partial.Problems(ToClient, false)); !cmp.Equal(got, c.want) {
			t.Errorf("%d in %d bits breaks %v, want %v", c.length, c.form, got, c.want)
		}
	}
}

func rules(problems []Problem) (list []Rule) {
	for _, p := range problems {
		list = append(list, p.Rule)
	}
	return list
}

func TestProblemsOfFrames(t *testing.T) {
	ping := NewFrame(true, Ping, nil)
	long := NewFrame(true, Ping, make([]byte, 126))
	rsv := func(f Frame, n int) Frame {
		f.RSV1, f.RSV2, f.RSV3 = n == 1, n == 2, n == 3
		return f
	}
	text := NewFrame(true, Text, []byte("a"))
	for name, c := range map[string]struct {
		frames     []Frame
		direction  Direction
		compressed bool
		want       []Rule
		code       int
	}{
		"nothing":                        {frames: []Frame{text.Mask(key)}},
		"from a server":                  {frames: []Frame{text}, direction: ToClient},
		"an unmasked client":             {frames: []Frame{text}, want: []Rule{RuleMask}, code: 1002},
		"a masked server":                {frames: []Frame{text.Mask(key)}, direction: ToClient, want: []Rule{RuleMask}, code: 1002},
		"RSV1":                           {frames: []Frame{rsv(text, 1).Mask(key)}, want: []Rule{RuleReservedBit}, code: 1002},
		"RSV1 with deflate":              {frames: []Frame{rsv(text, 1).Mask(key)}, compressed: true},
		"RSV1 on a ping with deflate":    {frames: []Frame{rsv(ping, 1).Mask(key)}, compressed: true, want: []Rule{RuleReservedBit}, code: 1002},
		"RSV1 on a fragment behind":      {frames: []Frame{NewFrame(false, Binary, nil).Mask(key), rsv(NewFrame(true, Continuation, nil), 1).Mask(key)}, compressed: true, want: []Rule{RuleReservedBit}, code: 1002},
		"RSV2":                           {frames: []Frame{rsv(text, 2).Mask(key)}, compressed: true, want: []Rule{RuleReservedBit}, code: 1002},
		"RSV3":                           {frames: []Frame{rsv(text, 3).Mask(key)}, want: []Rule{RuleReservedBit}, code: 1002},
		"opcode 3":                       {frames: []Frame{NewFrame(true, 3, nil).Mask(key)}, want: []Rule{RuleOpcode}, code: 1002},
		"opcode 15":                      {frames: []Frame{NewFrame(true, 15, nil).Mask(key)}, want: []Rule{RuleOpcode}, code: 1002},
		"a long ping":                    {frames: []Frame{long.Mask(key)}, want: []Rule{RuleControlSize}, code: 1002},
		"a fragmented ping":              {frames: []Frame{NewFrame(false, Ping, nil).Mask(key)}, want: []Rule{RuleControlFIN}, code: 1002},
		"everything at once":             {frames: []Frame{rsv(NewFrame(false, 11, make([]byte, 200)), 2)}, want: []Rule{RuleReservedBit, RuleOpcode, RuleControlFIN, RuleControlSize, RuleMask}, code: 1002},
		"a continuation of nothing":      {frames: []Frame{NewFrame(true, Continuation, []byte("\xff")).Mask(key)}, want: []Rule{RuleContinuation}, code: 1002},
		"a message inside a message":     {frames: []Frame{NewFrame(false, Text, nil).Mask(key), text.Mask(key)}, want: []Rule{RuleUnfinished}, code: 1002},
		"a ping inside a message":        {frames: []Frame{NewFrame(false, Text, nil).Mask(key), ping.Mask(key), NewFrame(true, Continuation, nil).Mask(key)}},
		"bad text":                       {frames: []Frame{NewFrame(true, Text, []byte("a\xffb\xff")).Mask(key)}, want: []Rule{RuleUTF8}, code: 1007},
		"bad bytes":                      {frames: []Frame{NewFrame(true, Binary, []byte("a\xffb\xff")).Mask(key)}},
		"a character in two fragments":   {frames: []Frame{NewFrame(false, Text, []byte("\xe3\x81")).Mask(key), ping.Mask(key), NewFrame(true, Continuation, []byte("\x82")).Mask(key)}},
		"half a character":               {frames: []Frame{NewFrame(false, Text, []byte("\xe3\x81")).Mask(key), NewFrame(true, Continuation, nil).Mask(key)}, want: []Rule{RuleUTF8}, code: 1007},
		"a Close without a body":         {frames: []Frame{NewClose(0, "").Mask(key)}},
		"a Close of one byte":            {frames: []Frame{NewFrame(true, Close, []byte{3}).Mask(key)}, want: []Rule{RuleCloseSize}, code: 1002},
		"a Close with the longest":       {frames: []Frame{NewClose(1000, strings.Repeat("a", 123)).Mask(key)}},
		"a Close with a longer":          {frames: []Frame{NewClose(1000, strings.Repeat("a", 124)).Mask(key)}, want: []Rule{RuleControlSize}, code: 1002},
		"a Close with a reason of bytes": {frames: []Frame{NewClose(1000, "\xff").Mask(key)}, want: []Rule{RuleCloseReason}, code: 1007},
		"a frame behind the Close":       {frames: []Frame{NewClose(1000, "").Mask(key), ping.Mask(key)}, want: []Rule{RuleAfterClose}, code: 1002},
	} {
		t.Run(name, func(t *testing.T) {
			checker := Checker{Direction: c.direction, Compressed: c.compressed}
			var d Decoder
			var problems []Problem
			for _, f := range c.frames {
				for part := range d.Parts(f.Append(nil)) {
					problems = append(problems, checker.Check(part)...)
				}
			}
			if got := rules(problems); !cmp.Equal(got, c.want) {
				t.Fatalf("got %v, want %v", got, c.want)
			}
			for _, p := range problems {
				if p.Code != c.code || !strings.HasPrefix(p.Section, "RFC ") || p.Text == "" {
					t.Errorf("got %+v, want code %d", p, c.code)
				}
			}
		})
	}
}

func TestCloseCodes(t *testing.T) {
	good := func(code int) bool {
		switch code {
		case 1004, 1005, 1006:
			return false
		}
		return code >= 1000 && code <= 1014 || code >= 3000 && code <= 4999
	}
	for code := range 0x10000 {
		payload := []byte{byte(code >> 8), byte(code)}
		if got := closeProblems(payload) == nil; got != good(code) {
			t.Errorf("code %d is good: %v", code, got)
		}
		if got, _ := ClosePayload(payload); got != code {
			t.Errorf("code %d was read as %d", code, got)
		}
	}
}

// A frame that promises 2^62 bytes costs what has arrived of it.
func TestAPromiseCostsNothing(t *testing.T) {
	frame := NewFrame(true, Text, []byte("abc")).Mask(key)
	frame.Form, frame.Length = Length64, 1<<62
	b := frame.Append(nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	frames, partial := Frames(b)
	a := NewAssembler(ToServer, nil, 1<<40)
	var d Decoder
	for part := range d.Parts(b) {
		if problems, m := a.Add(part); len(problems) > 0 || m != nil {
			t.Errorf("got %v, %v", problems, m)
		}
	}
	runtime.ReadMemStats(&after)
	if len(frames) != 0 || partial == nil || string(partial.Payload) != "abc" || partial.Length != 1<<62 {
		t.Errorf("got %v and partly %+v", frames, partial)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 100_000 {
		t.Errorf("it took %d bytes", used)
	}
}

// Frames that are encoded and decoded are the same, whatever they are and
// however their bytes are cut.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x89\x00"), uint64(1))
	f.Add([]byte("\x82\x7e\x00\x01a\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x01a"), uint64(2))
	f.Add([]byte("\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x88\x02\x03\xe8"), uint64(3))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		frames, partial := Frames(b)
		var encoded []byte
		for _, frame := range frames {
			encoded = frame.Append(encoded)
		}
		if partial != nil {
			if uint64(len(partial.Payload)) >= partial.Length {
				t.Fatalf("a frame that is complete was called partial: %+v", partial)
			}
			encoded = partial.Append(encoded)
		}
		if !bytes.HasPrefix(b, encoded) || len(b)-len(encoded) >= maxHeaderBytes {
			t.Fatalf("% x was encoded as % x", b, encoded)
		}

		chance := rand.New(rand.NewPCG(seed, 0))
		var cut []Frame
		var d Decoder
		var under *keptFrame
		assembled := map[bool][]Message{}
		whole := NewAssembler(ToServer, &Deflate{}, 1<<16)
		chunked := NewAssembler(ToServer, &Deflate{}, 1<<16)
		for rest := b; len(rest) > 0; {
			n := 1 + chance.IntN(len(rest))
			for part := range d.Parts(rest[:n]) {
				if part.First {
					under = &keptFrame{max: len(b)}
				}
				under.add(part)
				if part.Last {
					cut = append(cut, under.Frame)
				}
				if _, m := chunked.Add(part); m != nil {
					assembled[true] = append(assembled[true], *m)
				}
			}
			rest = rest[n:]
		}
		if diff := cmp.Diff(frames, cut, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("in chunks the frames differ: %s", diff)
		}
		d = Decoder{}
		for part := range d.Parts(b) {
			if _, m := whole.Add(part); m != nil {
				assembled[false] = append(assembled[false], *m)
			}
		}
		good := func(list []Message) (kept []Message) {
			for _, m := range list {
				if len(m.Problems) == 0 {
					kept = append(kept, m)
				}
			}
			return kept
		}
		if diff := cmp.Diff(good(assembled[false]), good(assembled[true]), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("in chunks the messages differ: %s", diff)
		}
	})
}
