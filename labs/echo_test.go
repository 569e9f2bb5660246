package labs

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// bad changes the header of a frame.
func bad(f wire.Frame, change func(*wire.Header)) wire.Frame {
	change(&f.Header)
	return f
}

// What the server does with frames, right and wrong, however they are cut into
// TCP segments. Unless a case ends by itself, the client closes with 1000.
func TestEchoKeepsToTheProtocol(t *testing.T) {
	const bye = "close 1000"
	mid := func(s string) wire.Frame { return frame(false, wire.Continuation, s) }
	last := func(s string) wire.Frame { return frame(true, wire.Continuation, s) }
	start := func(s string) wire.Frame { return frame(false, wire.Text, s) }
	ping := func(s string) wire.Frame { return frame(true, wire.Ping, s) }
	p125 := repeat("p", 125)
	for name, c := range map[string]struct {
		frames []wire.Frame
		want   []string
	}{
		// Framing: every length form at its edges, both kinds.
		"empty text":         {[]wire.Frame{text("")}, []string{`text ""`, bye}},
		"empty binary":       {[]wire.Frame{frame(true, wire.Binary, "")}, []string{`binary ""`, bye}},
		"binary":             {[]wire.Frame{frame(true, wire.Binary, "\x00\xff\xfe")}, []string{`binary "\x00\xff\xfe"`, bye}},
		"text of 125":        {[]wire.Frame{text(repeat("*", 125))}, []string{"text of 125", bye}},
		"text of 126":        {[]wire.Frame{text(repeat("*", 126))}, []string{"text of 126", bye}},
		"text of 127":        {[]wire.Frame{text(repeat("*", 127))}, []string{"text of 127", bye}},
		"text of 65535":      {[]wire.Frame{text(repeat("*", 65535))}, []string{"text of 65535", bye}},
		"text of 65536":      {[]wire.Frame{text(repeat("*", 65536))}, []string{"text of 65536", bye}},
		"binary of 65536":    {[]wire.Frame{frame(true, wire.Binary, repeat("\xfe", 65536))}, []string{"binary of 65536", bye}},
		"not the short form": {[]wire.Frame{bad(text("a"), func(h *wire.Header) { h.Form = wire.Length16 })}, []string{"close 1002 length 1 is written in 16 bits: the shortest form has 7 (RFC 6455, section 5.2)"}},
		"nor here":           {[]wire.Frame{bad(text(repeat("a", 200)), func(h *wire.Header) { h.Form = wire.Length64 })}, []string{"close 1002 length 200 is written in 64 bits: the shortest form has 16 (RFC 6455, section 5.2)"}},
		"the top bit":        {[]wire.Frame{bad(text(""), func(h *wire.Header) { h.Form, h.Length = wire.Length64, 1<<63 })}, []string{"close 1002 the top bit of a 64-bit length is set (RFC 6455, section 5.2)"}},

		// Pings and pongs.
		"ping":                  {[]wire.Frame{ping("")}, []string{`pong ""`, bye}},
		"ping with text":        {[]wire.Frame{ping("Hello")}, []string{`pong "Hello"`, bye}},
		"ping with bytes":       {[]wire.Frame{ping("\x00\xff\xfe")}, []string{`pong "\x00\xff\xfe"`, bye}},
		"ping of 125":           {[]wire.Frame{ping(p125)}, []string{fmt.Sprintf("pong %q", p125), bye}},
		"ping of 126":           {[]wire.Frame{ping(p125 + "p")}, []string{"close 1002 a ping frame of 126 bytes: control frames carry at most 125 (RFC 6455, section 5.5)"}},
		"pong unasked":          {[]wire.Frame{frame(true, wire.Pong, "a")}, []string{bye}},
		"pong unasked and ping": {[]wire.Frame{frame(true, wire.Pong, "a"), ping("b")}, []string{`pong "b"`, bye}},
		"three pings":           {[]wire.Frame{ping("1"), ping("2"), ping("3")}, []string{`pong "1"`, `pong "2"`, `pong "3"`, bye}},

		// Reserved bits, opcodes and the mask.
		"RSV1":         {[]wire.Frame{text("a"), bad(text("b"), func(h *wire.Header) { h.RSV1 = true })}, []string{`text "a"`, "close 1002 RSV1 is set, but no extension that uses it was agreed on (RFC 6455, section 5.2)"}},
		"RSV2":         {[]wire.Frame{bad(ping("a"), func(h *wire.Header) { h.RSV2 = true })}, []string{"close 1002 RSV2 is set, but no extension that uses it was agreed on (RFC 6455, section 5.2)"}},
		"RSV3":         {[]wire.Frame{bad(wire.NewClose(1000, ""), func(h *wire.Header) { h.RSV3 = true })}, []string{"close 1002 RSV3 is set, but no extension that uses it was agreed on (RFC 6455, section 5.2)"}},
		"opcode 3":     {[]wire.Frame{frame(true, 3, "")}, []string{"close 1002 opcode 0x3 is reserved (RFC 6455, section 5.2)"}},
		"opcode 7":     {[]wire.Frame{text("a"), frame(true, 7, "b"), ping("")}, []string{`text "a"`, "close 1002 opcode 0x7 is reserved (RFC 6455, section 5.2)"}},
		"opcode 11":    {[]wire.Frame{frame(true, 11, "")}, []string{"close 1002 opcode 0xB is reserved (RFC 6455, section 5.2)"}},
		"opcode 15":    {[]wire.Frame{text("a"), frame(true, 15, "b")}, []string{`text "a"`, "close 1002 opcode 0xF is reserved (RFC 6455, section 5.2)"}},
		"after a foul": {[]wire.Frame{frame(true, 3, ""), text("a"), ping("b")}, []string{"close 1002 opcode 0x3 is reserved (RFC 6455, section 5.2)"}},

		// Fragmentation.
		"two fragments":              {[]wire.Frame{start("Hel"), last("lo")}, []string{`text "Hello"`, bye}},
		"empty fragments":            {[]wire.Frame{start(""), mid(""), last("")}, []string{`text ""`, bye}},
		"empty fragments with one":   {[]wire.Frame{start(""), mid("a"), last("")}, []string{`text "a"`, bye}},
		"a ping between fragments":   {[]wire.Frame{start("a"), ping("p"), last("b")}, []string{`pong "p"`, `text "ab"`, bye}},
		"pings between fragments":    {[]wire.Frame{start("a"), ping("p"), mid("b"), ping("q"), last("c")}, []string{`pong "p"`, `pong "q"`, `text "abc"`, bye}},
		"a ping in fragments":        {[]wire.Frame{frame(false, wire.Ping, "a"), last("b")}, []string{"close 1002 a ping frame without FIN: control frames are not fragmented (RFC 6455, section 5.5)"}},
		"a pong in fragments":        {[]wire.Frame{frame(false, wire.Pong, "a"), last("b")}, []string{"close 1002 a pong frame without FIN: control frames are not fragmented (RFC 6455, section 5.5)"}},
		"continuation of nothing":    {[]wire.Frame{mid("a"), text("b")}, []string{"close 1002 a continuation frame, but there is no message to continue (RFC 6455, section 5.4)"}},
		"last of nothing":            {[]wire.Frame{last("a"), text("b")}, []string{"close 1002 a continuation frame, but there is no message to continue (RFC 6455, section 5.4)"}},
		"continuation of an old one": {[]wire.Frame{start("a"), last("b"), last("c")}, []string{`text "ab"`, "close 1002 a continuation frame, but there is no message to continue (RFC 6455, section 5.4)"}},
		"a message in a message":     {[]wire.Frame{start("a"), text("b")}, []string{"close 1002 a text frame inside a message that is not finished: its fragments are continuation frames (RFC 6455, section 5.4)"}},
		"close between fragments":    {[]wire.Frame{start("a"), wire.NewClose(1000, "")}, []string{bye}},

		// Text.
		"kana":                   {[]wire.Frame{text("さくら")}, []string{`text "さくら"`, bye}},
		"beyond the BMP":         {[]wire.Frame{text("\U0001F600\U0010FFFF")}, []string{fmt.Sprintf("text %q", "\U0001F600\U0010FFFF"), bye}},
		"non-characters":         {[]wire.Frame{text("\uFFFE\uFFFF")}, []string{fmt.Sprintf("text %q", "\uFFFE\uFFFF"), bye}},
		"cut within a character": {[]wire.Frame{start("\xe3\x81"), ping("p"), last("\x82")}, []string{`pong "p"`, `text "あ"`, bye}},
		"cut twice within one":   {[]wire.Frame{start("\xf0"), mid("\x9f\x98"), last("\x80")}, []string{fmt.Sprintf("text %q", "\U0001F600"), bye}},
		"a bad byte":             {[]wire.Frame{text("a\xffb")}, []string{"close 1007 a text message is not UTF-8: byte 0xFF cannot stand where it stands (RFC 6455, section 8.1)"}},
		"a surrogate":            {[]wire.Frame{text("\xed\xa0\x80")}, []string{"close 1007 a text message is not UTF-8: byte 0xA0 cannot stand where it stands (RFC 6455, section 8.1)"}},
		"overlong":               {[]wire.Frame{text("\xc0\xaf")}, []string{"close 1007 a text message is not UTF-8: byte 0xC0 cannot stand where it stands (RFC 6455, section 8.1)"}},
		"beyond U+10FFFF":        {[]wire.Frame{text("\xf4\x90\x80\x80")}, []string{"close 1007 a text message is not UTF-8: byte 0x90 cannot stand where it stands (RFC 6455, section 8.1)"}},
		"half a character":       {[]wire.Frame{text("\xe3\x81")}, []string{"close 1007 a text message ends within a character (RFC 6455, section 8.1)"}},
		"bad in a late fragment": {[]wire.Frame{start("a"), mid("b"), last("\xf5")}, []string{"close 1007 a text message is not UTF-8: byte 0xF5 cannot stand where it stands (RFC 6455, section 8.1)"}},
		"bytes are no text":      {[]wire.Frame{frame(true, wire.Binary, "\xed\xa0\x80")}, []string{`binary "\xed\xa0\x80"`, bye}},

		// Closing.
		"a Close without a body":   {[]wire.Frame{wire.NewClose(0, "")}, []string{"close 1005"}},
		"a Close of one byte":      {[]wire.Frame{frame(true, wire.Close, "a")}, []string{"close 1002 a Close body of one byte: it is empty or begins with a code of two (RFC 6455, section 5.5.1)"}},
		"a reason":                 {[]wire.Frame{wire.NewClose(1000, "Hello")}, []string{bye}},
		"a reason of 123":          {[]wire.Frame{wire.NewClose(1000, repeat("a", 123))}, []string{bye}},
		"a reason of 124":          {[]wire.Frame{wire.NewClose(1000, repeat("a", 124))}, []string{"close 1002 a close frame of 126 bytes: control frames carry at most 125 (RFC 6455, section 5.5)"}},
		"a reason that is no text": {[]wire.Frame{wire.NewClose(1000, "\xce\xba\xff")}, []string{"close 1007 the reason of a Close frame is not UTF-8 (RFC 6455, section 5.5.1)"}},
		"two Closes":               {[]wire.Frame{wire.NewClose(1000, ""), wire.NewClose(1001, "")}, []string{bye}},
		"a message behind Close":   {[]wire.Frame{wire.NewClose(1000, ""), text("a"), ping("b")}, []string{bye}},
	} {
		t.Run(name, func(t *testing.T) {
			l := startEcho(t, EchoConfig{})
			whole := encode(append(c.frames, wire.NewClose(1000, ""))...)
			for _, n := range []int{len(whole), 1000, 3, 1} {
				if len(whole) > 1000*n {
					continue // the pieces are too many to wait for
				}
				client := open(t, l, "/", "")
				client.send(whole, n)
				if diff := cmp.Diff(c.want, client.rest()); diff != "" {
					t.Errorf("in pieces of %d: %s", n, diff)
				}
			}
		})
	}
}

func TestEchoRefusesFramesWithoutAMask(t *testing.T) {
	l := startEcho(t, EchoConfig{})
	for _, f := range []wire.Frame{text("a"), text(""), wire.NewClose(1000, ""), frame(true, wire.Ping, "")} {
		client := open(t, l, "/", "")
		client.send(f.Append(nil), 1)
		want := []string{"close 1002 a client's frame is not masked (RFC 6455, section 5.1)"}
		if diff := cmp.Diff(want, client.rest()); diff != "" {
			t.Errorf("%v: %s", f.Opcode, diff)
		}
	}
	if got := l.refusals(t); got != "1002 1002 1002 1002" {
		t.Errorf("counted %s", got)
	}
}

func TestEchoAnswersEveryCloseCode(t *testing.T) {
	l := startEcho(t, EchoConfig{})
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		client := open(t, l, "/", "")
		client.send(encode(wire.NewClose(code, "why")), 100)
		if diff := cmp.Diff([]string{fmt.Sprintf("close %d", code)}, client.rest()); diff != "" {
			t.Errorf("%d: %s", code, diff)
		}
	}
	for _, code := range []int{1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		client := open(t, l, "/", "")
		client.send(frame(true, wire.Close, string([]byte{byte(code >> 8), byte(code)})).Mask(mask).Append(nil), 100)
		got := client.rest()
		if len(got) != 1 || !strings.HasPrefix(got[0], fmt.Sprintf("close 1002 close code %d is", code)) {
			t.Errorf("%d: %q", code, got)
		}
	}
}

// A text message is refused at the byte that spoils it: whatever is promised
// behind it is not waited for.
func TestEchoRefusesTextAtItsFirstBadByte(t *testing.T) {
	l := startEcho(t, EchoConfig{})
	whole := encode(text("κόσμε\xf4\x90" + repeat("a", 100)))
	const header, good = 2 + 4, len("κόσμε\xf4")
	for name, n := range map[string]int{"in one frame": header + good, "with what is good of the character": header + good - 1} {
		client := open(t, l, "/", "")
		client.send(whole[:n], n)
		client.send(whole[n:header+good+1], 1)
		if got := client.rest(); len(got) != 1 || !strings.HasPrefix(got[0], "close 1007 ") {
			t.Errorf("%s: %q", name, got)
		}
	}
	client := open(t, l, "/", "")
	client.send(encode(frame(false, wire.Text, "\xed")), 100)
	client.send(encode(frame(true, wire.Ping, "still here")), 100)
	if got := client.next(); got != `pong "still here"` {
		t.Errorf("a surrogate's first byte is good, but got %s", got)
	}
	client.send(encode(frame(false, wire.Continuation, "\xa0")), 100)
	if got := client.rest(); len(got) != 1 || !strings.HasPrefix(got[0], "close 1007 ") {
		t.Errorf("its second is not: %q", got)
	}
}

func TestEchoHoldsMessagesToTheirLimit(t *testing.T) {
	l := startEcho(t, EchoConfig{DoorConfig: DoorConfig{MessageBytes: 1000}, MaxMessageBytes: 16 << 20})
	huge := text("")
	huge.Form, huge.Length = wire.Length64, 1<<62
	for name, c := range map[string]struct {
		path   string
		frames []wire.Frame
		want   string
	}{
		"at the limit":            {"/", []wire.Frame{text(repeat("a", 1000))}, "text of 1000"},
		"over it":                 {"/", []wire.Frame{text(repeat("a", 1001))}, "close 1009 the message is too large: at most 1000 bytes (RFC 6455, section 10.4)"},
		"over it in fragments":    {"/", []wire.Frame{frame(false, wire.Text, repeat("a", 600)), frame(true, wire.Continuation, repeat("a", 600))}, "close 1009 the message is too large: at most 1000 bytes (RFC 6455, section 10.4)"},
		"two within it":           {"/", []wire.Frame{frame(true, wire.Binary, repeat("a", 600)), frame(true, wire.Binary, repeat("a", 600))}, "binary of 600"},
		"a promise":               {"/", []wire.Frame{huge}, "close 1009 the message is too large: at most 1000 bytes (RFC 6455, section 10.4)"},
		"a promise in a fragment": {"/", []wire.Frame{frame(false, wire.Text, "a"), bad(huge, func(h *wire.Header) { h.Opcode = wire.Continuation })}, "close 1009 the message is too large: at most 1000 bytes (RFC 6455, section 10.4)"},
		"a limit asked for":       {"/?limit=5", []wire.Frame{text("123456")}, "close 1009 the message is too large: at most 5 bytes (RFC 6455, section 10.4)"},
		"the highest one":         {"/?limit=16777216", []wire.Frame{frame(true, wire.Binary, repeat("a", 16<<20))}, "binary of 16777216"},
		"in many fragments":       {"/?limit=16777216", fragments(repeat("a", 4<<20), 4096), "text of 4194304"},
	} {
		t.Run(name, func(t *testing.T) {
			client := open(t, l, c.path, "")
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				client.send(encode(append(c.frames, wire.NewClose(1000, ""))...), 1<<20)
			}()
			if got := client.rest(); len(got) == 0 || got[0] != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			client.Close()
			<-sent
		})
	}
}

func fragments(s string, n int) []wire.Frame {
	list := []wire.Frame{frame(false, wire.Text, s[:n])}
	for s = s[n:]; len(s) > n; s = s[n:] {
		list = append(list, frame(false, wire.Continuation, s[:n]))
	}
	return append(list, frame(true, wire.Continuation, s))
}

func TestEchoAgreesOnCompressionWhereAsked(t *testing.T) {
	const answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	l := startEcho(t, EchoConfig{})
	for _, c := range []struct{ path, offer, want string }{
		{"/", "permessage-deflate", ""},
		{"/?deflate=0", "permessage-deflate", ""},
		{"/?deflate=1", "permessage-deflate", answer},
		{"/?deflate=1", "permessage-deflate; client_max_window_bits", answer},
		{"/?deflate=1", "permessage-deflate; client_max_window_bits=9", answer},
		{"/?deflate=1", "permessage-deflate; client_no_context_takeover; server_no_context_takeover", answer},
		{"/?deflate=1", "permessage-deflate; server_max_window_bits=9", ""},
		{"/?deflate=1", "permessage-deflate; server_max_window_bits=9, permessage-deflate", answer},
		{"/?deflate=1", "permessage-deflate; client_max_window_bits=7", ""},
		{"/?deflate=1", "permessage-deflate; foo", ""},
		{"/?deflate=1", "foo, permessage-deflate", answer},
	} {
		client := open(t, l, c.path, "Sec-WebSocket-Extensions: "+c.offer+"\r\n")
		if got := client.response.Header.Get("Sec-WebSocket-Extensions"); got != c.want {
			t.Errorf("%s %s: got %q, want %q", c.path, c.offer, got, c.want)
		}
	}
	client := open(t, startEcho(t, EchoConfig{Deflate: true}), "/", "Sec-WebSocket-Extensions: permessage-deflate\r\n")
	if got := client.response.Header.Get("Sec-WebSocket-Extensions"); got != answer {
		t.Errorf("where it is on by default: %q", got)
	}
}

func TestEchoOfCompressedMessages(t *testing.T) {
	l := startEcho(t, EchoConfig{DoorConfig: DoorConfig{MessageBytes: 200_000}})
	hello := frame(true, wire.Text, "\xf2\x48\xcd\xc9\xc9\x07\x00") // RFC 7692, section 7.2.3.1
	hello.RSV1 = true
	rsv1 := func(f wire.Frame) wire.Frame {
		f.RSV1 = true
		return f
	}
	for name, c := range map[string]struct {
		frames []wire.Frame
		want   []string
	}{
		"one block":                    {[]wire.Frame{hello, hello}, []string{`text "Hello" compressed`, `text "Hello" compressed`, "close 1000"}},
		"in fragments":                 {[]wire.Frame{rsv1(frame(false, wire.Text, "\xf2\x48\xcd")), frame(true, wire.Ping, "p"), frame(true, wire.Continuation, "\xc9\xc9\x07\x00")}, []string{`pong "p"`, `text "Hello" compressed`, "close 1000"}},
		"a stored block":               {[]wire.Frame{rsv1(frame(true, wire.Binary, "\x00\x05\x00\xfa\xffHello\x00"))}, []string{`binary "Hello" compressed`, "close 1000"}},
		"BFINAL":                       {[]wire.Frame{rsv1(frame(true, wire.Text, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"))}, []string{`text "Hello" compressed`, "close 1000"}},
		"two blocks":                   {[]wire.Frame{rsv1(frame(true, wire.Text, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"))}, []string{`text "Hello" compressed`, "close 1000"}},
		"nothing":                      {[]wire.Frame{rsv1(frame(true, wire.Text, "\x00"))}, []string{`text "" compressed`, "close 1000"}},
		"one that is not compressed":   {[]wire.Frame{text("Hello")}, []string{`text "Hello" compressed`, "close 1000"}},
		"RSV1 on a ping":               {[]wire.Frame{rsv1(frame(true, wire.Ping, ""))}, []string{"close 1002 RSV1 is set on a ping frame: it marks the first frame of a message (RFC 7692, section 6.1)"}},
		"RSV1 on a later fragment":     {[]wire.Frame{frame(false, wire.Text, "a"), rsv1(frame(true, wire.Continuation, "b"))}, []string{"close 1002 RSV1 is set on a continuation frame: it marks the first frame of a message (RFC 7692, section 6.1)"}},
		"RSV2":                         {[]wire.Frame{bad(hello, func(h *wire.Header) { h.RSV2 = true })}, []string{"close 1002 RSV2 is set, but no extension that uses it was agreed on (RFC 6455, section 5.2)"}},
		"what cannot be inflated":      {[]wire.Frame{rsv1(frame(true, wire.Text, "\xff\xff\xff"))}, []string{"close 1007 the message is marked as compressed but cannot be inflated (RFC 7692, section 7.2.2)"}},
		"compressed text that is none": {[]wire.Frame{rsv1(frame(true, wire.Text, "\x00\x02\x00\xfd\xffa\xff\x00"))}, []string{"close 1007 a compressed text message is not UTF-8 (RFC 6455, section 8.1)"}},
		"bytes may be anything":        {[]wire.Frame{rsv1(frame(true, wire.Binary, "\x00\x02\x00\xfd\xffa\xff\x00"))}, []string{`binary "a\xff" compressed`, "close 1000"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{1000, 1} {
				client := open(t, l, "/?deflate=1", "Sec-WebSocket-Extensions: permessage-deflate\r\n")
				client.send(encode(append(c.frames, wire.NewClose(1000, ""))...), n)
				if diff := cmp.Diff(c.want, client.rest()); diff != "" {
					t.Errorf("in pieces of %d: %s", n, diff)
				}
			}
		})
	}
}

// Messages of many sizes go there and back through another implementation of
// compression than the server's own, and what inflates to too much is refused.
func TestEchoOfCompressedMessagesOfManySizes(t *testing.T) {
	l := startEcho(t, EchoConfig{DoorConfig: DoorConfig{MessageBytes: 200_000}})
	dialer := websocket.Dialer{EnableCompression: true}
	conn, _, err := dialer.Dial("ws"+strings.TrimPrefix(l.URL, "http")+"/?deflate=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, size := range []int{0, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072, 200_000} {
		for kind, word := range map[int]string{websocket.TextMessage: "{\"名\": 1}", websocket.BinaryMessage: "\x00\x01\xfe"} {
			message := strings.Repeat(word, size/len(word))
			for range 3 {
				if err := conn.WriteMessage(kind, []byte(message)); err != nil {
					t.Fatal(err)
				}
				got, echoed, err := conn.ReadMessage()
				if err != nil || got != kind || string(echoed) != message {
					t.Fatalf("%d bytes: got %d of kind %d, %v", size, len(echoed), got, err)
				}
			}
		}
	}
	if err := conn.WriteMessage(websocket.BinaryMessage, make([]byte, 4<<20)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, 1009) {
		t.Errorf("a bomb ended with %v", err)
	}
}

func TestHandshakes(t *testing.T) {
	l := startEcho(t, EchoConfig{})
	const get = "GET /echo HTTP/1.1"
	without := func(name string) string {
		var kept []string
		for line := range strings.Lines(goodHeaders) {
			if !strings.HasPrefix(line, name+":") {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	}
	for name, c := range map[string]struct {
		line, headers string
		status        int
		says          string
	}{
		"a right one":             {get, goodHeaders, 101, ""},
		"in another spelling":     {get, "CONNECTION: x, UPGRADE\r\nUPGRADE: x, WEBSOCKET\r\nsec-websocket-VERSION: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 101, ""},
		"version 8":               {get, without("Sec-WebSocket-Version") + "Sec-WebSocket-Version: 8\r\n", 426, `Version "8"`},
		"version 013":             {get, without("Sec-WebSocket-Version") + "Sec-WebSocket-Version: 013\r\n", 426, `Version "013"`},
		"two versions":            {get, goodHeaders + "Sec-WebSocket-Version: 8\r\n", 426, `Version "13, 8"`},
		"without a version":       {get, without("Sec-WebSocket-Version"), 400, `["Sec-WebSocket-Version: 13"]`},
		"without Connection":      {get, without("Connection"), 400, `["Connection: Upgrade"]`},
		"without Upgrade":         {get, without("Upgrade"), 400, `["Upgrade: websocket"]`},
		"without a key":           {get, without("Sec-WebSocket-Key"), 400, `Sec-WebSocket-Key: 16 random bytes`},
		"a plain request":         {get, "", 400, `["Upgrade: websocket" "Connection: Upgrade" "Sec-WebSocket-Key:`},
		"a short key":             {get, without("Sec-WebSocket-Key") + "Sec-WebSocket-Key: YQ==\r\n", 400, "holds 1 bytes"},
		"a key that is no base64": {get, without("Sec-WebSocket-Key") + "Sec-WebSocket-Key: !!\r\n", 400, "not base64"},
		"two keys":                {get, goodHeaders + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 400, "2 headers"},
		"POST":                    {"POST /echo HTTP/1.1", goodHeaders, 405, "not by POST"},
		"HTTP/1.0":                {"GET /echo HTTP/1.0", goodHeaders, 400, "HTTP/1.0"},
		"a bad subprotocol":       {get, goodHeaders + "Sec-WebSocket-Protocol: a b\r\n", 400, `"a b"`},
		"bad extensions":          {get, goodHeaders + "Sec-WebSocket-Extensions: ;\r\n", 400, "ill formed"},
		"a page of another site":  {get, goodHeaders + "Origin: https://other.example\r\n", 403, "other.example"},
		"no such limit":           {"GET /?limit=0 HTTP/1.1", goodHeaders, 400, "limit=0 is not accepted: it is a number of bytes, from 1 to 1048576. (ARGUMENT_OUT_OF_RANGE)"},
		"too high a limit":        {"GET /?limit=1048577 HTTP/1.1", goodHeaders, 400, "from 1 to 1048576"},
		"no such ping":            {"GET /?ping=5 HTTP/1.1", goodHeaders, 400, "ping=5 is not accepted: it is a time such as 5s, from 200ms to 1m0s"},
		"too slow a ping":         {"GET /?ping=2m HTTP/1.1", goodHeaders, 400, "ping=2m"},
		"no such subprotocol":     {"GET /?subprotocol=a,b%20c HTTP/1.1", goodHeaders, 400, "list of tokens"},
		"no such deflate":         {"GET /?deflate=maybe HTTP/1.1", goodHeaders, 400, "1 or 0"},
		"an option of others":     {"GET /?user=7 HTTP/1.1", goodHeaders, 101, ""},
	} {
		t.Run(name, func(t *testing.T) {
			response := dial(t, l).ask(c.line, c.headers)
			if response.StatusCode != c.status {
				t.Errorf("answered %s", response.Status)
			}
			if c.status == http.StatusSwitchingProtocols {
				return
			}
			body, err := io.ReadAll(response.Body)
			if err != nil || !strings.Contains(string(body), c.says) || !strings.HasSuffix(string(body), ")\n") {
				t.Errorf("said %q, %v", body, err)
			}
			h := response.Header
			if c.status == http.StatusUpgradeRequired && (h.Get("Sec-WebSocket-Version") != "13" || h.Get("Upgrade") != "websocket") {
				t.Errorf("without what to upgrade to: %v", h)
			}
			if c.status == http.StatusMethodNotAllowed && h.Get("Allow") != http.MethodGet {
				t.Errorf("without what is allowed: %v", h)
			}
		})
	}
}

func TestEchoChoosesTheClientsFavouriteSubprotocol(t *testing.T) {
	l := startEcho(t, EchoConfig{})
	for _, c := range []struct{ path, offer, want string }{
		{"/", "chat.v2, chat.v1", ""},
		{"/?subprotocol=chat.v1,chat.v2", "chat.v2, chat.v1", "chat.v2"},
		{"/?subprotocol=chat.v1&subprotocol=chat.v2", "chat.v1, chat.v2", "chat.v1"},
		{"/?subprotocol=chat.v1", "chat.v2,chat.v1", "chat.v1"},
		{"/?subprotocol=chat.v1", "chat.v2", ""},
	} {
		client := open(t, l, c.path, "Sec-WebSocket-Protocol: "+c.offer+"\r\n")
		if got := client.response.Header.Get("Sec-WebSocket-Protocol"); got != c.want {
			t.Errorf("%s, %s: chose %q, want %q", c.path, c.offer, got, c.want)
		}
	}
}

func TestEchoPingsAndDropsWhoDoesNotAnswer(t *testing.T) {
	l := startEcho(t, EchoConfig{})
	client := open(t, l, "/?ping=200ms", "")
	for i := range 4 { // two intervals are over by the third
		want := fmt.Sprintf(`ping "%d"`, i+1)
		if got := client.next(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
		client.send(encode(frame(true, wire.Pong, fmt.Sprint(i+1))), 100)
	}
	begin := time.Now()
	for _, line := range client.rest() {
		if strings.HasPrefix(line, "close") {
			t.Errorf("dropped with %s", line)
		}
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("dropped after %v", took)
	}
	if got := l.refusals(t); got != "PONG_TIMEOUT" {
		t.Errorf("counted %s", got)
	}
}

func TestEchoDropsWhoDoesNotRead(t *testing.T) {
	l := startEcho(t, EchoConfig{DoorConfig: DoorConfig{WriteDeadline: 50 * time.Millisecond}})
	client := open(t, l, "/", "")
	message := encode(frame(true, wire.Binary, repeat("a", 1<<20)))
	for {
		if _, err := client.Write(message); err != nil {
			break
		}
	}
	if got := l.refusals(t); got != "WRITE_TIMEOUT" {
		t.Errorf("counted %s", got)
	}
}

func TestEchoLeavesWhenItIsShutDown(t *testing.T) {
	echo := NewEcho(EchoConfig{})
	l := &lab{Server: newServer(t, echo)}
	polite, rude := open(t, l, "/", ""), open(t, l, "/", "")
	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	ended := make(chan error)
	go func() { ended <- echo.Shutdown(ctx) }()
	if got := polite.next(); got != "close 1012 The server is restarting" {
		t.Errorf("got %s", got)
	}
	polite.send(encode(wire.NewClose(1012, "")), 100)
	if got := polite.rest(); got != nil {
		t.Errorf("then got %q", got)
	}
	polite.Close()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "dropped 1 connections") {
		t.Errorf("ended with %v", err)
	}
	if got := rude.rest(); len(got) != 1 {
		t.Errorf("the other got %q", got)
	}
	response := dial(t, l).ask("GET / HTTP/1.1", goodHeaders)
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("then answered %s", response.Status)
	}
}

// A tap outside sees what the server refuses, and who ended the connection.
func TestEchoUnderATap(t *testing.T) {
	transcript := wire.NewTranscript(wire.Bounds{})
	l := &lab{Server: newServer(t, transcript.Tap(NewEcho(EchoConfig{})))}
	client := open(t, l, "/", "")
	client.send(encode(frame(false, wire.Text, "a"), text("b")), 1)
	client.rest()
	client.send(encode(wire.NewClose(1002, "")), 100)
	client.Close()
	for deadline := time.Now().Add(10 * time.Second); transcript.Counts().Open > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the connection did not end")
		}
	}
	events := make([]wire.Event, 100)
	n, _ := transcript.After(0, events)
	var told []string
	for _, e := range events[:n] {
		switch {
		case e.Frame != nil && e.Frame.Direction == wire.ToServer:
			line := fmt.Sprintf("%v %q", e.Frame.Opcode, e.Frame.Payload)
			for _, p := range e.Frame.Problems {
				line += " !" + string(p.Rule)
			}
			told = append(told, line)
		case e.Close != nil:
			told = append(told, fmt.Sprintf("closed by %s with %d, complete %v", e.Close.By, e.Close.Code, e.Close.Complete))
		case e.End != nil:
			told = append(told, fmt.Sprintf("end by %s, %s", e.End.By, e.End.How))
		}
	}
	want := []string{`text "a"`, `text "b" !unfinished`, `close "\x03\xea"`, "closed by server with 1002, complete true", "end by server, fin"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
}
