package gqlws

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"time"
)

// wire is a socket of which gorilla only reads, once the handshake has been
// answered. What gorilla writes by itself, a Close for a broken frame or a large
// message, would not wait for its turn: a frame may be half written.
type wire struct {
	net.Conn
	open    bool   // the handshake has been answered
	verdict []byte // payload of the Close that gorilla would have sent, or nil
}

// Write keeps gorilla's Close, behind a header of two bytes (RFC 6455, section
// 5.2).
func (w *wire) Write(b []byte) (int, error) {
	if !w.open {
		return w.Conn.Write(b)
	}
	w.verdict = bytes.Clone(b[2:])
	return len(b), nil
}

// SetWriteDeadline keeps gorilla's deadline for that Close from the socket.
func (w *wire) SetWriteDeadline(t time.Time) error {
	if !w.open {
		return w.Conn.SetWriteDeadline(t)
	}
	return nil
}

// onWire lets gorilla take over the connection of a response as a wire.
type onWire struct{ http.ResponseWriter }

// Hijack implements http.Hijacker.
func (o onWire) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	socket, buffers, err := http.NewResponseController(o.ResponseWriter).Hijack()
	return &wire{Conn: socket}, buffers, err
}
