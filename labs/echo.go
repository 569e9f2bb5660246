package labs

import (
	"cmp"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// EchoConfig is what an Echo needs. Zero fields take the defaults in brackets.
type EchoConfig struct {
	MessageBytes    int64         // limit of a message, inflated [1 MiB]: close 1009
	MaxMessageBytes int64         // what ?limit= may ask for [MessageBytes]
	PingEvery       time.Duration // [25 s]
	PongWithin      time.Duration // after a ping, else the socket is dropped [10 s]
	WriteDeadline   time.Duration // for one write [10 s]
	Deflate         bool          // compression is accepted where the query does not say otherwise
	// CheckOrigin says whether the page that asks may open a socket [same origin only].
	CheckOrigin func(*http.Request) bool
	// Admit takes a place for a socket, or says which limit stands against it.
	// release gives it back, once [there is always a place].
	Admit func(*http.Request) (release func(), refusal string)
	// Refused is told the code of each refusal, and the close code, or
	// PONG_TIMEOUT or WRITE_TIMEOUT, of each connection that the server ends for
	// the client's fault [nobody is told].
	Refused func(code string)
}

// Echo sends every message back, text as text and bytes as bytes, in one piece.
// It is strict: a client that breaks a rule of RFC 6455 is told which, by a
// Close frame with 1002, 1007 or 1009. It holds one message per connection.
//
// The query of the URL sets up the connection. What it does not know it ignores.
//
//	limit        bytes of a message, from 1 to MaxMessageBytes
//	ping         time between two pings, 200ms to 60s; the answer is due within it
//	subprotocol  what to choose from, in the client's order: repeated, or with commas
//	deflate      whether permessage-deflate is accepted: 1 or 0. Without context
//	             takeover, since that is all that the library does
type Echo struct {
	cfg     EchoConfig
	sockets sockets
	buffers sync.Pool // gorilla's, for writing
}

// NewEcho makes an Echo.
func NewEcho(cfg EchoConfig) *Echo {
	cfg.MessageBytes = cmp.Or(cfg.MessageBytes, 1<<20)
	cfg.MaxMessageBytes = max(cfg.MaxMessageBytes, cfg.MessageBytes)
	cfg.PingEvery = cmp.Or(cfg.PingEvery, 25*time.Second)
	cfg.PongWithin = cmp.Or(cfg.PongWithin, 10*time.Second)
	cfg.WriteDeadline = cmp.Or(cfg.WriteDeadline, 10*time.Second)
	if cfg.Admit == nil {
		cfg.Admit = func(*http.Request) (func(), string) { return func() {}, "" }
	}
	if cfg.Refused == nil {
		cfg.Refused = func(string) {}
	}
	return &Echo{cfg: cfg}
}

// Shutdown refuses new connections, tells the clients of those that are open to
// leave, with 1012, and waits for them. When ctx ends it drops the rest and
// returns an error.
func (e *Echo) Shutdown(ctx context.Context) error { return e.sockets.shutdown(ctx) }

// echoOptions are those of one connection.
type echoOptions struct {
	limit        int64
	ping, pong   time.Duration
	subprotocols []string
	deflate      bool
}

// The bounds of ?ping= and ?subprotocol=.
const (
	minPing, maxPing = 200 * time.Millisecond, time.Minute
	maxSubprotocols  = 10
)

func (e *Echo) options(query url.Values) (echoOptions, *refusal) {
	o := echoOptions{limit: e.cfg.MessageBytes, ping: e.cfg.PingEvery, pong: e.cfg.PongWithin, deflate: e.cfg.Deflate}
	invalid := func(name, accepted string) (echoOptions, *refusal) {
		return o, &refusal{http.StatusBadRequest, "ARGUMENT_OUT_OF_RANGE", fmt.Sprintf("%s=%s is not accepted: %s.", name, query.Get(name), accepted)}
	}
	var err error
	if s := query.Get("limit"); s != "" {
		if o.limit, err = strconv.ParseInt(s, 10, 64); err != nil || o.limit < 1 || o.limit > e.cfg.MaxMessageBytes {
			return invalid("limit", fmt.Sprintf("it is a number of bytes, from 1 to %d", e.cfg.MaxMessageBytes))
		}
	}
	if s := query.Get("ping"); s != "" {
		if o.ping, err = time.ParseDuration(s); err != nil || o.ping < minPing || o.ping > maxPing {
			return invalid("ping", fmt.Sprintf("it is a time such as 5s, from %v to %v", minPing, maxPing))
		}
		o.pong = min(o.pong, o.ping)
	}
	for _, s := range query["subprotocol"] {
		for name := range strings.SplitSeq(s, ",") {
			if !wire.IsToken(name) || len(o.subprotocols) == maxSubprotocols {
				return invalid("subprotocol", fmt.Sprintf("it is a list of tokens (RFC 6455, section 4.1), at most %d of them", maxSubprotocols))
			}
			o.subprotocols = append(o.subprotocols, name)
		}
	}
	if s := query.Get("deflate"); s != "" {
		if o.deflate, err = strconv.ParseBool(s); err != nil {
			return invalid("deflate", "it is 1 or 0")
		}
	}
	return o, nil
}

// ServeHTTP implements http.Handler.
func (e *Echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refuse := func(f *refusal) {
		e.cfg.Refused(f.code)
		f.write(w)
	}
	if f := handshake(r); f != nil {
		refuse(f)
		return
	}
	o, f := e.options(r.URL.Query())
	if f != nil {
		refuse(f)
		return
	}
	c := &echoConn{echo: e, options: o, done: make(chan struct{})}
	if !e.sockets.enter(c) {
		w.Header().Set("Retry-After", "5")
		refuse(&refusal{http.StatusServiceUnavailable, "SHUTTING_DOWN", "The server is stopping: try again in a moment."})
		return
	}
	defer e.sockets.leave(c)
	release, full := e.cfg.Admit(r)
	if full != "" {
		w.Header().Set("Retry-After", "5")
		refuse(&refusal{http.StatusServiceUnavailable, "TOO_MANY_CONNECTIONS", full})
		return
	}
	defer release()
	compressed := o.deflate && acceptDeflate(r)
	upgrader := websocket.Upgrader{
		HandshakeTimeout: e.cfg.WriteDeadline, WriteBufferPool: &e.buffers, EnableCompression: compressed, CheckOrigin: e.cfg.CheckOrigin,
		Error: func(_ http.ResponseWriter, _ *http.Request, status int, reason error) {
			if status == http.StatusForbidden {
				refuse(&refusal{status, "ORIGIN_FORBIDDEN", fmt.Sprintf("Pages of %q may not use this server.", r.Header.Get("Origin"))})
				return
			}
			refuse(&refusal{status, "HANDSHAKE_INVALID", fmt.Sprintf("The handshake failed: %v.", reason)})
		},
	}
	for _, offer := range offered(r) { // the library would take the server's order
		if slices.Contains(o.subprotocols, offer) {
			upgrader.Subprotocols = []string{offer}
			break
		}
	}
	ref := &referee{checker: wire.Checker{Compressed: compressed}, limit: uint64(o.limit)}
	if compressed {
		ref.limit += uint64(o.limit/1000 + 100) // what does not compress grows a little
	}
	conn, err := upgrader.Upgrade(wire.WrapConn(w, func(conn net.Conn) net.Conn {
		ref.Conn = conn
		return ref
	}), r, nil)
	if err != nil {
		return // the answer was written by Error, or the client is gone
	}
	c.serve(conn, ref.Conn)
}

// echoConn is one connection.
type echoConn struct {
	echo    *Echo
	options echoOptions
	conn    atomic.Pointer[websocket.Conn] // nil: not open yet
	leaving atomic.Bool
	done    chan struct{} // closed when the connection is over

	message []byte
	chunk   [4096]byte
	pings   int
}

// serve reads and answers until the connection ends. raw is the connection
// below the referee, on which the rest is read and not looked at.
func (c *echoConn) serve(conn *websocket.Conn, raw net.Conn) {
	conn.SetPongHandler(func(string) error {
		c.expect(conn, c.options.ping+c.options.pong)
		return nil
	})
	conn.SetPingHandler(func(payload string) error { return c.control(conn, websocket.PongMessage, []byte(payload)) })
	c.expect(conn, c.options.ping+c.options.pong)
	c.conn.Store(conn)
	if c.leaving.Load() { // Shutdown came while the handshake was made
		c.leave()
	}
	pinging := make(chan struct{})
	go func() {
		defer close(pinging)
		c.ping(conn)
	}()
	err := c.echoAll(conn)
	c.end(conn, raw, err)
	close(c.done)
	<-pinging
}

// expect sets how long the client may be silent.
func (c *echoConn) expect(conn *websocket.Conn, wait time.Duration) {
	if !c.leaving.Load() { // else it was told to go, and by when
		_ = conn.SetReadDeadline(time.Now().Add(wait))
	}
}

// control sends a control frame. That a Close frame was sent before is no error.
func (c *echoConn) control(conn *websocket.Conn, kind int, payload []byte) error {
	err := conn.WriteControl(kind, payload, time.Now().Add(c.echo.cfg.WriteDeadline))
	if errors.Is(err, websocket.ErrCloseSent) {
		return nil
	}
	return err
}

// ping sends numbered pings until the connection is over.
func (c *echoConn) ping(conn *websocket.Conn) {
	ticker := time.NewTicker(c.options.ping)
	defer ticker.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-ticker.C:
			c.pings++
			if c.control(conn, websocket.PingMessage, strconv.AppendInt(nil, int64(c.pings), 10)) != nil {
				return // the reader finds out why
			}
		}
	}
}

// errWrite marks the errors of writing.
var errWrite = errors.New("labs: write")

func (c *echoConn) echoAll(conn *websocket.Conn) error {
	for {
		kind, reader, err := conn.NextReader()
		if err != nil {
			return err
		}
		if err := c.read(kind, reader); err != nil {
			return err
		}
		_ = conn.SetWriteDeadline(time.Now().Add(c.echo.cfg.WriteDeadline))
		if err := conn.WriteMessage(kind, c.message); err != nil && !errors.Is(err, websocket.ErrCloseSent) {
			return errors.Join(errWrite, err)
		}
		if cap(c.message) > keptBytes {
			c.message = nil
		}
	}
}

// keptBytes is the room for messages that a connection keeps for the next one.
const keptBytes = 64 << 10

// read reads a message into c.message. The referee has seen its frames, but not
// into what was compressed.
func (c *echoConn) read(kind int, reader io.Reader) error {
	var text wire.UTF8
	c.message = c.message[:0]
	for {
		n, err := reader.Read(c.chunk[:])
		if int64(len(c.message)+n) > c.options.limit {
			return &foul{tooLarge(uint64(c.options.limit))}
		}
		c.message = append(c.message, c.chunk[:n]...)
		last := errors.Is(err, io.EOF)
		if kind == websocket.TextMessage && (text.Write(c.chunk[:n]) < n || last && !text.Complete()) {
			return &foul{wire.Problem{Rule: wire.RuleUTF8, Section: "RFC 6455, section 8.1", Text: "a compressed text message is not UTF-8", Code: 1007}}
		}
		if last {
			return nil
		}
		if corrupt := flate.CorruptInputError(0); errors.As(err, &corrupt) || errors.Is(err, io.ErrUnexpectedEOF) {
			return &foul{wire.Problem{Rule: wire.RuleDeflate, Section: "RFC 7692, section 7.2.2", Text: "the message is marked as compressed but cannot be inflated", Code: 1007}}
		}
		if err != nil {
			return err
		}
	}
}

// end closes the connection as its last error asks for, and counts it.
func (c *echoConn) end(conn *websocket.Conn, raw net.Conn, err error) {
	broken, closed := (*foul)(nil), (*websocket.CloseError)(nil)
	timeout := net.Error(nil) // the library hides that it was a deadline
	late := errors.As(err, &timeout) && timeout.Timeout()
	switch {
	case errors.As(err, &broken):
		c.echo.cfg.Refused(strconv.Itoa(broken.Code))
		_ = c.control(conn, websocket.CloseMessage, websocket.FormatCloseMessage(broken.Code, reason(broken.String())))
		linger(raw)
		return
	case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
		_ = c.control(conn, websocket.CloseMessage, websocket.FormatCloseMessage(closed.Code, ""))
		linger(raw)
		return
	case c.leaving.Load(): // it did not answer in time
	case errors.Is(err, errWrite) && late:
		c.echo.cfg.Refused("WRITE_TIMEOUT")
	case late:
		c.echo.cfg.Refused("PONG_TIMEOUT")
	}
	_ = conn.Close()
}

// maxReason is what a Close frame has room for (RFC 6455, section 5.5).
const maxReason = 123

// reason cuts a sentence of ASCII to what a Close frame can hold.
func reason(s string) string { return s[:min(len(s), maxReason)] }

// closeWait is how long a client that was told to leave may take for its Close frame.
const closeWait = 5 * time.Second

// leave implements socket.
func (c *echoConn) leave() {
	c.leaving.Store(true)
	if conn := c.conn.Load(); conn != nil {
		_ = conn.SetReadDeadline(time.Now().Add(closeWait))
		_ = c.control(conn, websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseServiceRestart, "The server is restarting"))
	}
}

// drop implements socket.
func (c *echoConn) drop() {
	if conn := c.conn.Load(); conn != nil {
		_ = conn.Close()
	}
}
