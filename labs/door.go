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
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// DoorConfig is what a Door needs. Zero fields take the defaults in brackets.
type DoorConfig struct {
	MessageBytes  int64         // limit of a message, inflated [1 MiB]: close 1009
	PingEvery     time.Duration // [25 s]
	PongWithin    time.Duration // after a ping, else the socket is dropped [10 s]
	WriteDeadline time.Duration // for one write [10 s]
	// CheckOrigin says whether the page that asks may open a socket [same origin only].
	CheckOrigin func(*http.Request) bool
	// Admit takes a place for a socket, or says which limit stands against it.
	// release gives it back, once [there is always a place].
	Admit func(*http.Request) (release func(), refusal string)
	// Allow takes a place for one message or ping of a client, or says which limit
	// stands against it: close 1008 [there is always a place].
	Allow func() (refusal string)
	// Refused is told the code of each refusal, and the close code, or
	// PONG_TIMEOUT or WRITE_TIMEOUT, of each connection that the server ends for
	// the client's fault [nobody is told].
	Refused func(code string)
}

// Options are those of one socket. Zero fields take the Door's, or the defaults
// in brackets.
type Options struct {
	MessageBytes int64
	// PingEvery is the time between two pings of the server's own. Below zero
	// there are none, and the client may be silent for as long as it likes.
	PingEvery  time.Duration
	PongWithin time.Duration
	// PingPayload is what the next ping carries, at most 125 bytes [its number].
	PingPayload func() []byte
	// Subprotocols are what to choose from, in the client's order [none].
	Subprotocols []string
	// RequireSubprotocol refuses clients that offer none of Subprotocols.
	RequireSubprotocol bool
	// Deflate accepts permessage-deflate, without context takeover, since that is
	// all that the library does.
	Deflate bool
	// Wrap puts something between the library and the network [nothing].
	Wrap func(net.Conn) net.Conn
	// OnPing and OnPong are told the payload of each, on the reading goroutine.
	OnPing, OnPong func(payload []byte)
	NoPong         bool // leaves pings without an answer
}

// Door opens the sockets of one practice server, strictly by RFC 6455, and ends
// them. It names everything that is wrong with a handshake, and the rule that a
// client breaks. A zero limit of DoorConfig takes its default.
type Door struct {
	cfg     DoorConfig
	sockets sockets
	buffers sync.Pool // gorilla's, for writing
	last    atomic.Uint64
}

// NewDoor makes a Door.
func NewDoor(cfg DoorConfig) *Door {
	cfg.MessageBytes = cmp.Or(cfg.MessageBytes, 1<<20)
	cfg.PingEvery = cmp.Or(cfg.PingEvery, 25*time.Second)
	cfg.PongWithin = cmp.Or(cfg.PongWithin, 10*time.Second)
	cfg.WriteDeadline = cmp.Or(cfg.WriteDeadline, 10*time.Second)
	if cfg.Admit == nil {
		cfg.Admit = func(*http.Request) (func(), string) { return func() {}, "" }
	}
	if cfg.Allow == nil {
		cfg.Allow = func() string { return "" }
	}
	if cfg.Refused == nil {
		cfg.Refused = func(string) {}
	}
	return &Door{cfg: cfg}
}

// Shutdown refuses new connections, tells the clients of those that are open to
// leave, with 1012, and waits for them. When ctx ends it drops the rest and
// returns an error.
func (d *Door) Shutdown(ctx context.Context) error { return d.sockets.shutdown(ctx) }

// refuse answers a request and counts it.
func (d *Door) refuse(w http.ResponseWriter, f *refusal) {
	d.cfg.Refused(f.code)
	f.write(w)
}

// Refuse answers a handshake with an error that a server has found, unless the
// handshake itself is wrong. message is a sentence.
func (d *Door) Refuse(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	if f := handshake(r); f != nil {
		d.refuse(w, f)
		return
	}
	d.refuse(w, &refusal{status, code, message})
}

// Serve answers the handshake and, if it is right, plays with the socket until
// play returns. Then it ends the socket as play's error asks for: nil is a
// closing handshake with 1000, a *Foul one with its code, the client's own close
// its answer; a socket that is lost is dropped. play may leave goroutines of its
// own behind only if they end with the Socket's context, and must return when
// Read fails.
func (d *Door) Serve(w http.ResponseWriter, r *http.Request, o Options, play func(*Socket) error) {
	if f := handshake(r); f != nil {
		d.refuse(w, f)
		return
	}
	o.MessageBytes = cmp.Or(o.MessageBytes, d.cfg.MessageBytes)
	o.PingEvery = cmp.Or(o.PingEvery, d.cfg.PingEvery)
	o.PongWithin = cmp.Or(o.PongWithin, d.cfg.PongWithin)
	chosen := choose(r, o.Subprotocols)
	if o.RequireSubprotocol && chosen == "" {
		d.refuse(w, &refusal{http.StatusBadRequest, "SUBPROTOCOL_UNKNOWN", fmt.Sprintf("Offer a WebSocket subprotocol that is spoken here in Sec-WebSocket-Protocol: %s.", strings.Join(o.Subprotocols, ", "))})
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s := &Socket{door: d, options: o, id: d.last.Add(1), request: r, subprotocol: chosen, ctx: ctx, cancel: cancel, done: make(chan struct{})}
	if !d.sockets.enter(s) {
		w.Header().Set("Retry-After", "5")
		d.refuse(w, &refusal{http.StatusServiceUnavailable, "SHUTTING_DOWN", "The server is stopping: try again in a moment."})
		return
	}
	defer d.sockets.leave(s)
	release, full := d.cfg.Admit(r)
	if full != "" {
		w.Header().Set("Retry-After", "5")
		d.refuse(w, &refusal{http.StatusServiceUnavailable, "TOO_MANY_CONNECTIONS", full})
		return
	}
	defer release()
	if s.open(w, r) {
		s.serve(play)
	}
}

// choose takes the first that the client offers: the library would take the
// server's order.
func choose(r *http.Request, spoken []string) string {
	for _, offer := range offered(r) {
		if slices.Contains(spoken, offer) {
			return offer
		}
	}
	return ""
}

// Socket is one open WebSocket. Read is for one goroutine; the other methods are
// for any, and what they send is on the wire one after the other.
type Socket struct {
	door        *Door
	options     Options
	id          uint64
	request     *http.Request
	subprotocol string
	ctx         context.Context
	cancel      context.CancelFunc

	opened  atomic.Pointer[websocket.Conn] // nil: not open yet
	conn    *websocket.Conn
	raw     net.Conn    // below the referee, on which the rest is read and not looked at
	leaving atomic.Bool // the client has been told to go, and has until the read deadline
	done    chan struct{}

	writing sync.Mutex
	message []byte
	chunk   [4096]byte
}

// ID is the socket's number among those of its Door, from 1.
func (s *Socket) ID() uint64 { return s.id }

// Request is the opening handshake.
func (s *Socket) Request() *http.Request { return s.request }

// Subprotocol is the one that was chosen; empty: none.
func (s *Socket) Subprotocol() string { return s.subprotocol }

// Context ends with the socket, and when the server is told to shut down.
func (s *Socket) Context() context.Context { return s.ctx }

// open makes the upgrade; false: the request was answered otherwise.
func (s *Socket) open(w http.ResponseWriter, r *http.Request) bool {
	d := s.door
	compressed := s.options.Deflate && acceptDeflate(r)
	upgrader := websocket.Upgrader{
		HandshakeTimeout: d.cfg.WriteDeadline, WriteBufferPool: &d.buffers, EnableCompression: compressed, CheckOrigin: d.cfg.CheckOrigin,
		Error: func(_ http.ResponseWriter, _ *http.Request, status int, reason error) {
			if status == http.StatusForbidden {
				d.refuse(w, &refusal{status, "ORIGIN_FORBIDDEN", fmt.Sprintf("Pages of %q may not use this server.", r.Header.Get("Origin"))})
				return
			}
			d.refuse(w, &refusal{status, "HANDSHAKE_INVALID", fmt.Sprintf("The handshake failed: %v.", reason)})
		},
	}
	if s.subprotocol != "" {
		upgrader.Subprotocols = []string{s.subprotocol}
	}
	ref := &referee{checker: wire.Checker{Compressed: compressed}, limit: uint64(s.options.MessageBytes)}
	if compressed {
		ref.limit += uint64(s.options.MessageBytes/1000 + 100) // what does not compress grows a little
	}
	conn, err := upgrader.Upgrade(wire.WrapConn(w, func(conn net.Conn) net.Conn {
		if s.options.Wrap != nil {
			conn = s.options.Wrap(conn)
		}
		ref.Conn = conn
		return ref
	}), r, nil)
	if err != nil {
		return false // the answer was written by Error, or the client is gone
	}
	s.conn, s.raw = conn, ref.Conn
	return true
}

// serve plays until the connection ends.
func (s *Socket) serve(play func(*Socket) error) {
	conn := s.conn
	conn.SetPongHandler(func(payload string) error {
		s.expect()
		if s.options.OnPong != nil {
			s.options.OnPong([]byte(payload))
		}
		return nil
	})
	conn.SetPingHandler(func(payload string) error {
		if full := s.door.cfg.Allow(); full != "" {
			return tooMany(full)
		}
		if s.options.OnPing != nil {
			s.options.OnPing([]byte(payload))
		}
		if s.options.NoPong {
			return nil
		}
		return s.control(websocket.PongMessage, []byte(payload))
	})
	s.expect()
	s.opened.Store(conn)
	if s.leaving.Load() { // Shutdown came while the handshake was made
		s.leave()
	}
	pinging := make(chan struct{})
	go func() {
		defer close(pinging)
		s.ping()
	}()
	err := play(s)
	s.end(err)
	close(s.done)
	<-pinging
}

// expect sets how long the client may be silent.
func (s *Socket) expect() {
	switch {
	case s.leaving.Load(): // it was told to go, and by when
	case s.options.PingEvery < 0:
		_ = s.conn.SetReadDeadline(time.Time{})
	default:
		_ = s.conn.SetReadDeadline(time.Now().Add(s.options.PingEvery + s.options.PongWithin))
	}
}

// control sends a control frame. That a Close frame was sent before is no error.
func (s *Socket) control(kind int, payload []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	err := s.conn.WriteControl(kind, payload, time.Now().Add(s.door.cfg.WriteDeadline))
	return sent(err)
}

// sent leaves out the error of writing behind a Close frame.
func sent(err error) error {
	if err == nil || errors.Is(err, websocket.ErrCloseSent) {
		return nil
	}
	return errors.Join(errWrite, err)
}

// errWrite marks the errors of writing.
var errWrite = errors.New("labs: write")

// ping sends numbered pings until the connection is over.
func (s *Socket) ping() {
	if s.options.PingEvery < 0 {
		return
	}
	ticker := time.NewTicker(s.options.PingEvery)
	defer ticker.Stop()
	for n := int64(1); ; n++ {
		select {
		case <-s.done:
			return
		case <-ticker.C:
			payload := strconv.AppendInt(nil, n, 10)
			if s.options.PingPayload != nil {
				payload = s.options.PingPayload()
			}
			if s.Ping(payload) != nil {
				return // the reader finds out why
			}
		}
	}
}

// Ping sends a ping with at most 125 bytes.
func (s *Socket) Ping(payload []byte) error { return s.control(websocket.PingMessage, payload) }

// Write sends a message in one frame. Behind a Close frame it does nothing.
func (s *Socket) Write(kind int, message []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.door.cfg.WriteDeadline))
	return sent(s.conn.WriteMessage(kind, message))
}

// WriteRaw sends bytes as they are, right or wrong. The library does not know of
// them: behind a Close frame they are sent, too.
func (s *Socket) WriteRaw(b []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	_ = s.raw.SetWriteDeadline(time.Now().Add(s.door.cfg.WriteDeadline))
	if _, err := s.raw.Write(b); err != nil {
		return errors.Join(errWrite, err)
	}
	return nil
}

// WriteFragments sends a message in as many frames as there are parts.
func (s *Socket) WriteFragments(kind int, parts ...[]byte) error {
	var b []byte
	for i, part := range parts {
		opcode := wire.Continuation
		if i == 0 {
			opcode = wire.Opcode(kind)
		}
		b = wire.NewFrame(i == len(parts)-1, opcode, part).Append(b)
	}
	return s.WriteRaw(b)
}

// Close sends the Close frame; code 0 is an empty one. Read goes on until the
// client's answer, which it returns as an error, for at most five seconds.
func (s *Socket) Close(code int, reason string) error {
	s.leaving.Store(true)
	_ = s.conn.SetReadDeadline(time.Now().Add(closeWait))
	var payload []byte
	if code != 0 {
		payload = websocket.FormatCloseMessage(code, cut(reason))
	}
	return s.control(websocket.CloseMessage, payload)
}

// Cut resets the TCP connection: the client gets no Close frame, which it
// reports as 1006.
func (s *Socket) Cut() error {
	if conn, ok := s.raw.(interface{ SetLinger(int) error }); ok {
		_ = conn.SetLinger(0)
	}
	return s.raw.Close()
}

// keptBytes is the room for messages that a connection keeps for the next one.
const keptBytes = 64 << 10

// Read returns the next message, valid until the next call. Pings are answered
// within it. Its errors are what play is to return: what the client did wrong,
// its Close frame, or that it is gone.
func (s *Socket) Read() (kind int, message []byte, err error) {
	defer func() {
		if err != nil {
			s.cancel()
		}
	}()
	if cap(s.message) > keptBytes {
		s.message = nil
	}
	kind, reader, err := s.conn.NextReader()
	if err != nil {
		return 0, nil, err
	}
	if err := s.collect(kind, reader); err != nil {
		return 0, nil, err
	}
	if full := s.door.cfg.Allow(); full != "" {
		return 0, nil, tooMany(full)
	}
	return kind, s.message, nil
}

// tooMany is the end of a client that Allow is against.
func tooMany(refusal string) error {
	return &Foul{wire.Problem{Text: refusal, Code: websocket.ClosePolicyViolation}}
}

// collect reads a message into s.message. The referee has seen its frames, but
// not into what was compressed.
func (s *Socket) collect(kind int, reader io.Reader) error {
	var text wire.UTF8
	s.message = s.message[:0]
	for {
		n, err := reader.Read(s.chunk[:])
		if int64(len(s.message)+n) > s.options.MessageBytes {
			return &Foul{tooLarge(uint64(s.options.MessageBytes))}
		}
		s.message = append(s.message, s.chunk[:n]...)
		last := errors.Is(err, io.EOF)
		if kind == websocket.TextMessage && (text.Write(s.chunk[:n]) < n || last && !text.Complete()) {
			return &Foul{wire.Problem{Rule: wire.RuleUTF8, Section: "RFC 6455, section 8.1", Text: "a compressed text message is not UTF-8", Code: 1007}}
		}
		if last {
			return nil
		}
		if corrupt := flate.CorruptInputError(0); errors.As(err, &corrupt) || errors.Is(err, io.ErrUnexpectedEOF) {
			return &Foul{wire.Problem{Rule: wire.RuleDeflate, Section: "RFC 7692, section 7.2.2", Text: "the message is marked as compressed but cannot be inflated", Code: 1007}}
		}
		if err != nil {
			return err
		}
	}
}

// end closes the connection as its last error asks for, and counts it.
func (s *Socket) end(err error) {
	s.cancel()
	if err == nil {
		_ = s.Close(websocket.CloseNormalClosure, "")
		for err == nil {
			_, _, err = s.conn.NextReader()
		}
	}
	refused := s.door.cfg.Refused
	broken, closed := (*Foul)(nil), (*websocket.CloseError)(nil)
	timeout := net.Error(nil) // the library hides that it was a deadline
	late := errors.As(err, &timeout) && timeout.Timeout()
	switch {
	case errors.As(err, &broken):
		refused(strconv.Itoa(broken.Code))
		_ = s.control(websocket.CloseMessage, websocket.FormatCloseMessage(broken.Code, cut(broken.String())))
		linger(s.raw)
		return
	case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
		_ = s.control(websocket.CloseMessage, websocket.FormatCloseMessage(closed.Code, ""))
		linger(s.raw)
		return
	case s.leaving.Load(): // it did not answer in time
	case errors.Is(err, errWrite) && late:
		refused("WRITE_TIMEOUT")
	case late:
		refused("PONG_TIMEOUT")
	}
	_ = s.conn.Close()
}

// maxReason is what a Close frame has room for (RFC 6455, section 5.5).
const maxReason = 123

// cut shortens a reason to what a Close frame can hold, between two characters.
func cut(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	return strings.ToValidUTF8(reason[:maxReason], "")
}

// closeWait is how long a client that was told to leave may take for its Close frame.
const closeWait = 5 * time.Second

// leave implements socket.
func (s *Socket) leave() {
	s.leaving.Store(true)
	if s.opened.Load() != nil {
		_ = s.Close(websocket.CloseServiceRestart, "The server is restarting")
		s.cancel()
	}
}

// drop implements socket.
func (s *Socket) drop() {
	s.cancel()
	if conn := s.opened.Load(); conn != nil {
		_ = conn.Close()
	}
}
