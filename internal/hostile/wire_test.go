//go:build linux

package hostile

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// line is a TCP connection to the gateway. Writes to one that the gateway has
// closed are not an error: attackers do not look.
type line struct {
	t testing.TB
	*net.TCPConn
	in *bufio.Reader
}

// dial opens a connection that is closed with the test. Nothing on it takes
// longer than a minute.
func dial(t testing.TB, g *gateway) *line {
	t.Helper()
	return dialBuffer(t, g, 0)
}

// dialBuffer opens one with a small buffer for what is received, if not 0: the
// gateway then notices early that nobody reads.
func dialBuffer(t testing.TB, g *gateway, size int) *line {
	t.Helper()
	dialer := net.Dialer{Timeout: 10 * time.Second}
	if size > 0 {
		dialer.Control = func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, size) })
		}
	}
	conn, err := dialer.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return &line{t: t, TCPConn: conn.(*net.TCPConn), in: bufio.NewReader(conn)}
}

func (l *line) send(text string) { _, _ = io.WriteString(l.TCPConn, text) }

// response reads an answer of HTTP; nil: the connection ended without one.
func (l *line) response() *http.Response {
	response, err := http.ReadResponse(l.in, nil)
	if err != nil {
		return nil
	}
	response.Body = io.NopCloser(io.LimitReader(response.Body, 1<<20))
	return response
}

// rest reads until the gateway closes the connection.
func (l *line) rest(within time.Duration) (text string, closed bool) {
	_ = l.SetReadDeadline(time.Now().Add(within))
	b, err := io.ReadAll(io.LimitReader(l.in, 16<<20))
	return string(b), !errors.Is(err, syscall.ETIMEDOUT) && !isTimeout(err)
}

func isTimeout(err error) bool {
	timeout := net.Error(nil)
	return errors.As(err, &timeout) && timeout.Timeout()
}

// reset closes the connection as a crashed machine does.
func (l *line) reset() {
	_ = l.SetLinger(0)
	l.Close()
}

// The opcodes of frames (RFC 6455, section 5.2).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// frame renders one that a client may send, with whatever is in its first byte.
func frame(first byte, payload string) string {
	b := []byte{first}
	switch n := len(payload); {
	case n <= 125:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x5a, 0xc3, 0x11, 0x7e}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return string(b)
}

const fin = 0x80

func text(payload string) string { return frame(fin|opText, payload) }

// upgrade opens a WebSocket and sends nothing over it.
func upgrade(t testing.TB, g *gateway, subprotocol string) *socket {
	t.Helper()
	return upgradeOn(dial(t, g), g, subprotocol, "")
}

func upgradeOn(l *line, g *gateway, subprotocol, more string) *socket {
	l.t.Helper()
	l.send("GET /graphql HTTP/1.1\r\nHost: " + g.addr + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: " + subprotocol + "\r\n" + more + "\r\n")
	if response := l.response(); response == nil || response.StatusCode != http.StatusSwitchingProtocols {
		l.t.Fatalf("the handshake was answered %v", response)
	}
	return &socket{line: l}
}

// socket is a WebSocket with nothing between a test and its frames.
type socket struct{ *line }

const modern, legacy = "graphql-transport-ws", "graphql-ws"

// openSocket opens a WebSocket that may start operations.
func openSocket(t testing.TB, g *gateway) *socket {
	t.Helper()
	s := upgrade(t, g, modern)
	s.init()
	return s
}

func (s *socket) init() {
	s.t.Helper()
	s.send(text(`{"type":"connection_init"}`))
	if m, err := s.message(); err != nil || m.Type != "connection_ack" {
		s.t.Fatalf("connection_init was answered %v, %v", m, err)
	}
}

func (s *socket) subscribe(id, document string) { s.send(text(subscribe(id, document))) }

func subscribe(id, document string) string {
	query, _ := json.Marshal(document)
	return fmt.Sprintf(`{"id":%q,"type":"subscribe","payload":{"query":%s}}`, id, query)
}

// frame reads one.
func (s *socket) frame() (opcode byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return 0, nil, err
	}
	length := uint64(head[1] & 0x7f)
	if length >= 126 {
		extended := make([]byte, map[uint64]int{126: 2, 127: 8}[length])
		if _, err := io.ReadFull(s.in, extended); err != nil {
			return 0, nil, err
		}
		length = 0
		for _, b := range extended {
			length = length<<8 | uint64(b)
		}
	}
	payload = make([]byte, min(length, 64<<20))
	_, err = io.ReadFull(s.in, payload)
	return head[0] & 0x0f, payload, err
}

// message is one of the subprotocol.
type message struct {
	ID, Type string
	Payload  json.RawMessage
}

// message reads the next one and answers pings.
func (s *socket) message() (m message, err error) {
	for {
		opcode, payload, err := s.frame()
		switch {
		case err != nil:
			return m, err
		case opcode == opClose:
			return m, closed{code(payload)}
		case opcode == opText:
			return m, json.Unmarshal(payload, &m)
		case opcode == opPing:
			s.send(frame(fin|opPong, string(payload)))
		}
	}
}

// closed is the end of a socket by a Close frame.
type closed struct{ code int }

func (c closed) Error() string { return fmt.Sprintf("closed with %d", c.code) }

func code(payload []byte) int {
	if len(payload) < 2 {
		return 1005 // none
	}
	return int(binary.BigEndian.Uint16(payload))
}

// ending reads on until the socket ends and says with which code; 0: without a
// Close frame. It fails the test when that takes longer than within.
func (s *socket) ending(within time.Duration) int {
	s.t.Helper()
	_ = s.SetReadDeadline(time.Now().Add(within))
	for {
		_, err := s.message()
		var end closed
		switch {
		case errors.As(err, &end):
			return end.code
		case isTimeout(err):
			s.t.Errorf("the socket is still open after %v", within)
			return -1
		case err != nil && !isSyntax(err):
			return 0
		}
	}
}

func isSyntax(err error) bool {
	syntax := (*json.SyntaxError)(nil)
	return errors.As(err, &syntax)
}

// await reads until a message of this id that is of the type, and returns it.
func (s *socket) await(kind, id string) message {
	s.t.Helper()
	for {
		m, err := s.message()
		if err != nil {
			s.t.Fatalf("waiting for %s of %q: %v", kind, id, err)
		}
		if m.Type == kind && m.ID == id {
			return m
		}
	}
}

func repeat(s string, n int) string { return strings.Repeat(s, n) }
