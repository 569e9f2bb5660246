package mock

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// socket is a client without a library.
type socket struct {
	t testing.TB
	net.Conn
	in *bufio.Reader
}

func (r *rig) connect(path string) *socket {
	r.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "ws://"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	s := &socket{r.t, conn, bufio.NewReader(conn)}
	fmt.Fprintf(s, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path)
	response, err := http.ReadResponse(s.in, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		r.t.Fatalf("%v, %v", response, err)
	}
	return s
}

func (s *socket) send(frames ...wire.Frame) {
	s.t.Helper()
	var b []byte
	for _, f := range frames {
		b = f.Mask([4]byte{1, 2, 3, 4}).Append(b)
	}
	if _, err := s.Write(b); err != nil {
		s.t.Fatal(err)
	}
}

func (s *socket) bytes(n int) string {
	s.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(s.in, b); err != nil {
		s.t.Fatalf("%v, after %x", err, b)
	}
	return fmt.Sprintf("%x", b)
}

func TestWhatIsOnTheWireIsWhatTheScriptSays(t *testing.T) {
	r := start(t, `
ping_every: never
no_pong: true
rules:
  - on: connect
    do:
      - raw: "c1 01 41"
      - raw: [ "83", { u8: "{{length(path)}}" }, { text: "{{path}}" } ]
      - { send: { text: abcde, fragments: 3 } }
      - { ping: p }
      - pong
      - { send: { binary: [ { u16: 258 }, { u32: 1 }, { f64: 1 } ] } }
  - { on: { text: close }, do: [ { close: { code: 4001, reason: why } } ] }
  - { on: { text: cut }, do: [ cut ] }
  - { on: { ping: x }, do: [ { send: seen } ] }
`)
	s := r.connect("/ab")
	for _, want := range []string{
		"c10141", "83032f6162", "010161", "00026263", "80026465", "890170", "8a00", "820e0102000000013ff0000000000000",
	} {
		if got := s.bytes(len(want) / 2); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	s.send(wire.NewFrame(true, wire.Ping, []byte("x"))) // no pong comes, but what the rule says
	if got := s.bytes(6); got != "81047365656e" {
		t.Errorf("got %s", got)
	}
	s.send(wire.NewFrame(true, wire.Text, []byte("close")))
	if got := s.bytes(7); got != "88050fa1776879" {
		t.Errorf("got %s", got)
	}
	s.send(wire.NewClose(4001, ""))
	if _, err := s.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("then %v", err)
	}
	s = r.connect("/ab")
	s.bytes(3 + 5 + 3 + 4 + 4 + 3 + 2 + 16)
	s.send(wire.NewFrame(true, wire.Text, []byte("cut")))
	if _, err := s.in.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a cut is %v", err)
	}
}

func TestTheServerPingsAsOftenAsTheScriptSays(t *testing.T) {
	r := start(t, "ping_every: 200ms\npong_within: 200ms\nrules: [ { on: pong, do: [ { send: \"{{text}}\" } ] } ]\nexpect: { messages: [ { text: x } ] }")
	s := r.connect("/")
	if got := s.bytes(3); got != "890131" {
		t.Errorf("got %s", got)
	}
	s.send(wire.NewFrame(true, wire.Pong, []byte("1")))
	if got := s.bytes(3); got != "810131" {
		t.Errorf("got %s", got)
	}
	begin := time.Now() // from here on it does not answer
	if _, err := io.Copy(io.Discard, s.in); err != nil || time.Since(begin) > 10*time.Second {
		t.Errorf("not dropped: %v", err)
	}
}

func TestAClientThatBreaksTheProtocolIsNamedInTheVerdict(t *testing.T) {
	r := start(t, "rules: [ { on: message, do: [echo] } ]\nexpect: { messages: [ { close: 1000 } ] }")
	s := r.connect("/")
	_, _ = s.Write([]byte{0x81, 0x01, 0x41}) // not masked
	if got := s.bytes(4); !strings.HasPrefix(got, "88") || !strings.HasSuffix(got, "03ea") {
		t.Errorf("got %s", got)
	}
	s.Close()
	v := r.ended(1)
	if saw := v.Connections[0].Checks[0].Saw; !strings.Contains(saw, "a connection that the server had to end") || !strings.Contains(saw, "mask") {
		t.Errorf("saw %s", saw)
	}
}
