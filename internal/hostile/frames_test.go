//go:build linux

package hostile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBrokenFramesEndTheirSocketAlone(t *testing.T) {
	g := start(t)
	closeFrame := func(code int, reason string) string {
		return frame(fin|opClose, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
	}
	claims := func(length uint64) string {
		return string(binary.BigEndian.AppendUint64([]byte{fin | opText, 0x80 | 127}, length)) + "mask"
	}
	ping := `{"type":"ping"}`
	protocolError := []int{1002}
	for _, test := range []struct {
		name, bytes string
		codes       []int // 0: ended without a Close frame
	}{
		{"reserved bit 1, compression that was not agreed on", frame(fin|0x40|opText, ping), protocolError},
		{"reserved bit 2", frame(fin|0x20|opText, ping), protocolError},
		{"reserved bit 3", frame(fin|0x10|opText, ping), protocolError},
		{"opcode 3", frame(fin|0x3, ping), protocolError},
		{"opcode 15", frame(fin|0xf, ping), protocolError},
		{"unmasked", "\x81\x0f" + ping, protocolError},
		{"2^62 bytes", claims(1 << 62), []int{1009}},
		{"2^64 - 1 bytes", claims(1<<64 - 1), []int{0, 1002, 1009}},
		{"16 MB, as a ping", string([]byte{fin | opPing, 0x80 | 127, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4}), protocolError},
		{"a message over the limit", text(repeat("a", 300<<10)), []int{1009}},
		{"a message over the limit, in fragments", frame(opText, "{") + repeat(frame(opContinuation, repeat(" ", 1000)), 300), []int{1009}},
		{"a ping of 126 bytes", frame(fin|opPing, repeat("a", 126)), protocolError},
		{"a Close of 126 bytes", closeFrame(1000, repeat("a", 124)), protocolError},
		{"a ping in fragments", frame(opPing, "a"), protocolError},
		{"a continuation of nothing", frame(fin|opContinuation, "a"), protocolError},
		{"a text within a text", frame(opText, "{") + text(ping), protocolError},
		{"a binary within a text", frame(opText, "{") + frame(fin|opBinary, "a"), protocolError},
		{"binary", frame(fin|opBinary, ping), []int{1003}},
		{"empty", text(""), []int{4400}},
		{"not UTF-8", text("{\"type\":\"\xff\xfe" + secret + "\"}"), []int{1007}},
		{"not UTF-8, in fragments", frame(opText, "\"\xe2\x82") + frame(fin|opContinuation, "\"}"), []int{1007}},
		{"close with 999", closeFrame(999, ""), protocolError},
		{"close with 1005", closeFrame(1005, ""), protocolError},
		{"close with 1006", closeFrame(1006, ""), protocolError},
		{"close with 1015", closeFrame(1015, ""), protocolError},
		{"close with 5000", closeFrame(5000, ""), protocolError},
		{"close with 65535", closeFrame(65535, ""), protocolError},
		{"close with half a code", frame(fin|opClose, "\x03"), []int{1002, 1005}},
		{"close for a reason that is not UTF-8", closeFrame(1000, "\xff\xfe"), []int{1002, 1007}},
		{"close without a code", frame(fin|opClose, ""), []int{1005}},
		{"close with 1000", closeFrame(1000, "bye"), []int{1000}},
		{"close with 4999", closeFrame(4999, ""), []int{4999}},
		{"text after close", closeFrame(1000, "") + repeat(text(subscribe("1", "{ hello }")), 100), []int{1000}},
		{"close twice", closeFrame(1000, "") + closeFrame(1001, ""), []int{1000}},
		{"HTTP", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", protocolError},
		{"noise", repeat("\xa5\x5a\x3c", 5000), protocolError},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := openSocket(t, g)
			go s.send(test.bytes)
			if got := s.ending(5 * time.Second); !slices.Contains(test.codes, got) {
				t.Errorf("closed with %d, want %v", got, test.codes)
			}
		})
	}
}

func TestFramesMayComeByteByByte(t *testing.T) {
	g := start(t)
	s := upgrade(t, g, modern)
	_ = s.SetNoDelay(true)
	for _, b := range []byte(text(`{"type":"connection_init"}`) + frame(opText, `{"id":"1","type":"subscr`) + frame(fin|opPing, "in between") +
		frame(opContinuation, "") + frame(fin|opContinuation, `ibe","payload":{"query":"{ hello }"}}`)) {
		s.send(string([]byte{b}))
	}
	s.await("next", "1")
	s.await("complete", "1")
}

// Nothing else limits a message of no bytes and no end.
func TestAHundredThousandEmptyFragmentsAreHarmless(t *testing.T) {
	g := start(t)
	s := openSocket(t, g)
	s.send(frame(opText, ""))
	for range 100 {
		s.send(repeat(frame(opContinuation, ""), 1000))
	}
	s.send(frame(fin|opContinuation, subscribe("1", "{ hello }")))
	m, err := s.message()
	if err == nil && m.Type != "next" || err != nil && !errors.Is(err, closed{1013}) {
		t.Errorf("got %v, %v: want the answer or a Close with 1013", m, err)
	}
}

func TestFiftyThousandPingsWhosePongsAreNotRead(t *testing.T) {
	g := start(t, "write-deadline=1s")
	s := upgradeOn(dialBuffer(t, g, 4096), g, modern, "")
	s.init()
	for range 50 {
		s.send(repeat(frame(fin|opPing, repeat("p", 125)), 1000))
	}
	g.settles(t) // although nothing was read
	if got := s.ending(5 * time.Second); got != 1013 && got != 0 {
		t.Errorf("closed with %d", got)
	}
}

// Compression is not offered, so a client that asks for it gets none.
func TestCompressionIsNotAgreedOn(t *testing.T) {
	g := start(t)
	s := upgradeOn(dial(t, g), g, modern, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n")
	s.init()
	s.send(frame(fin|0x40|opText, "\xaa\x56\x2a\x2e\x4d\x52\xb2\x52"+repeat("\x00", 100)))
	if got := s.ending(5 * time.Second); got != 1002 {
		t.Errorf("closed with %d", got)
	}
}

func TestHandshakesThatAreNoneAreRefused(t *testing.T) {
	g := start(t)
	key, version, protocol := "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Protocol: graphql-ws\r\n"
	upgrade := "Connection: Upgrade\r\nUpgrade: websocket\r\n"
	for name, headers := range map[string]string{
		"without a key":               upgrade + version + protocol,
		"with a short key":            upgrade + version + protocol + "Sec-WebSocket-Key: YQ==\r\n",
		"with version 0":              upgrade + key + protocol + "Sec-WebSocket-Version: 0\r\n",
		"without a version":           upgrade + key + protocol,
		"without a subprotocol":       upgrade + key + version,
		"with another subprotocol":    upgrade + key + version + "Sec-WebSocket-Protocol: mqtt\r\n",
		"with 1,000 subprotocols":     upgrade + key + version + "Sec-WebSocket-Protocol: " + repeat("a, ", 1000) + "\r\n",
		"to another protocol":         "Connection: Upgrade\r\nUpgrade: h2c\r\n" + key + version + protocol,
		"without Connection":          "Upgrade: websocket\r\n" + key + version + protocol,
		"with data before the answer": upgrade + key + version + protocol + "\r\n" + repeat(text(`{"type":"connection_init"}`), 10),
	} {
		l := dial(t, g)
		l.send("GET /graphql HTTP/1.1\r\nHost: " + g.addr + "\r\n" + headers + "\r\n")
		response := l.response()
		switch {
		case response == nil && strings.HasPrefix(name, "with data"):
		case response == nil || response.StatusCode < 400 || response.StatusCode >= 500 && !strings.HasPrefix(name, "with data"):
			t.Errorf("%s: answered %v", name, response)
		}
		l.Close()
	}
	for _, method := range []string{"POST", "PUT", "HEAD"} {
		l := dial(t, g)
		l.send(fmt.Sprintf("%s /graphql HTTP/1.1\r\nHost: %s\r\n%s\r\n", method, g.addr, upgrade+key+version+protocol))
		if response := l.response(); response == nil || response.StatusCode/100 != 4 {
			t.Errorf("%s: answered %v", method, response)
		}
	}
}
