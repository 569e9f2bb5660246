package server

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

// withDeadlines bounds how long a client may take to send the body of a request
// and to read the answer. Handlers that read or write for longer move the
// deadlines themselves. Without them net/http waits for ever: for a body that no
// handler asked for, which it reads before it answers, and for a client that
// does not read.
func withDeadlines(bodyWait, writeWait time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		socket := http.NewResponseController(w)
		wait := writeWait
		if r.ContentLength != 0 { // -1: chunked
			_ = socket.SetReadDeadline(time.Now().Add(bodyWait))
			wait += bodyWait // net/http reads the rest of the body before it writes
		}
		_ = socket.SetWriteDeadline(time.Now().Add(wait))
		next.ServeHTTP(w, r)
		if !websocket.IsWebSocketUpgrade(r) { // else it may be a WebSocket by now, with deadlines of its own
			_ = socket.SetWriteDeadline(time.Now().Add(wait)) // net/http has still to write
		}
	})
}

// steadily bounds each write of an answer instead of the whole: a large file may
// take its time as long as the client goes on reading.
func steadily(wait time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&steadyWriter{w, http.NewResponseController(w), wait}, r)
	})
}

type steadyWriter struct {
	http.ResponseWriter
	socket *http.ResponseController
	wait   time.Duration
}

func (s *steadyWriter) Write(b []byte) (int, error) {
	_ = s.socket.SetWriteDeadline(time.Now().Add(s.wait))
	return s.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (s *steadyWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// limitHeaders refuses a request whose line and headers have more than limit
// bytes, as they would be written without spare spaces. net/http has a limit of
// its own, but says neither what it is nor, to a handler, that it was hit.
func limitHeaders(limit int, count func(code string), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := headerBytes(r); n > limit {
			count("HEADERS_TOO_LARGE")
			w.Header().Set("Connection", "close") // as net/http does
			refuse(w, http.StatusRequestHeaderFieldsTooLarge, "HEADERS_TOO_LARGE",
				fmt.Sprintf("The request's first line and headers have %d bytes: at most %d are accepted. A long document goes into the body of a POST.", n, limit))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func headerBytes(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(r.Proto) + len("  \r\n") + len("\r\n")
	line := func(name, value string) { n += len(name) + len(value) + len(": \r\n") }
	if r.Host != "" {
		line("Host", r.Host) // net/http keeps it apart from the others
	}
	for name, values := range r.Header {
		for _, value := range values {
			line(name, value)
		}
	}
	return n
}

// closeChunked ends the connection after a chunked request: net/http would
// read what follows a body with two lengths as a second request.
func closeChunked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// HTTPServer returns a server of h, which is the gateway or one of its doors,
// that holds connections to their limits. Let it serve Watch's listener. What
// clients do wrong goes to the log as debugging.
func (s *Server) HTTPServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: s.limits.HeaderWait,
		IdleTimeout:       s.limits.Idle,
		// Twice, so that whoever goes over the limit by a little is told by
		// limitHeaders. The rest net/http answers without a word.
		MaxHeaderBytes: 2 * s.limits.HeaderBytes,
		ErrorLog:       slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
		ConnState: func(c net.Conn, state http.ConnState) {
			if c, ok := c.(*watchedConn); ok {
				c.enter(state)
			}
		},
	}
}

// Watch returns a listener that lets the gateway count the clients that a server
// made by HTTPServer drops by itself. It is for HTTP without TLS.
func (s *Server) Watch(ln net.Listener) net.Listener { return watchedListener{ln, s.refusals.add} }

type watchedListener struct {
	net.Listener
	count func(code string)
}

// Accept implements net.Listener.
func (l watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watchedConn{Conn: c, count: l.count}, nil
}

// watchedConn is a connection that counts the deadlines that pass. A client that
// leaves lets none pass, so it is told apart.
type watchedConn struct {
	net.Conn
	count func(code string)
	stage atomic.Int32
}

var _ syscall.Conn = (*watchedConn)(nil) // else sockets could not be written to directly

// The stages of a connection.
const (
	fresh int32 = iota // waits for the first request, which should come at once
	idle               // waits for the next one
	begun              // has something of the next one
	busy               // answers one
	over               // is no longer HTTP's, or has been given up
)

func (c *watchedConn) enter(state http.ConnState) {
	switch state {
	case http.StateIdle:
		c.stage.Store(idle)
	case http.StateActive: // once its headers are read, or given up
		c.stage.Store(busy)
	case http.StateHijacked:
		c.stage.Store(over)
	}
}

// Read implements net.Conn. While a request is answered, deadlines are those of
// its handler, or a way of net/http to interrupt itself.
func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.stage.CompareAndSwap(idle, begun)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		switch c.stage.Load() {
		case fresh, begun:
			c.giveUp("HEADERS_TIMEOUT")
		case idle:
			c.giveUp("IDLE_TIMEOUT")
		}
	}
	return n, err
}

// refusedHeaders begins the answer of net/http to headers that it does not read
// to their end. It calls no handler for them.
var refusedHeaders = []byte("HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain")

// Write implements net.Conn.
func (c *watchedConn) Write(b []byte) (int, error) {
	if bytes.HasPrefix(b, refusedHeaders) {
		c.giveUp("HEADERS_TOO_LARGE")
	}
	n, err := c.Conn.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.giveUp("WRITE_TIMEOUT")
	}
	return n, err
}

// giveUp counts once: net/http may try again before it closes.
func (c *watchedConn) giveUp(code string) {
	if c.stage.Swap(over) != over {
		c.count(code)
	}
}

// CloseWrite is for net/http, which lets a client read why it is refused, and
// for sockets.
func (c *watchedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SyscallConn implements syscall.Conn, for sockets.
func (c *watchedConn) SyscallConn() (syscall.RawConn, error) {
	if own, ok := c.Conn.(syscall.Conn); ok {
		return own.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
