package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
)

// Tap returns a handler that does what next does, and records it: of a plain
// request the two heads, of a WebSocket everything, from below whatever library
// next uses. What next writes is recorded before it goes out, so an answer never
// stands before what caused it.
func (t *Transcript) Tap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &tapped{transcript: t, id: t.newConn()}
		c.toServer.direction, c.toClient.direction = ToServer, ToClient
		t.add(c.id, [2]uint64{}, Event{Request: &Request{Method: r.Method, URI: r.RequestURI, Proto: r.Proto, Host: r.Host, Header: r.Header.Clone()}})
		plain := &plainResponse{ResponseWriter: w, tapped: c}
		defer func() {
			if !c.hijacked() { // else Close says when it ends
				t.ended()
			}
		}()
		next.ServeHTTP(WrapConn(plain, c.tap), r)
		if !c.hijacked() && !plain.told {
			plain.WriteHeader(http.StatusOK) // as net/http does
		}
	})
}

// WrapConn returns a ResponseWriter that gives wrap's connection to whoever
// hijacks it, in place of the true one. Bytes that net/http had read already
// are passed on as before.
func WrapConn(w http.ResponseWriter, wrap func(net.Conn) net.Conn) http.ResponseWriter {
	return &wrapping{w, wrap}
}

type wrapping struct {
	http.ResponseWriter
	wrap func(net.Conn) net.Conn
}

// Unwrap is for http.ResponseController.
func (w *wrapping) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker.
func (w *wrapping) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	conn = w.wrap(conn)
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	in := bufio.NewReader(io.MultiReader(bytes.NewReader(bytes.Clone(early)), conn))
	_, _ = in.Peek(len(early)) // so that Buffered tells of them
	return conn, bufio.NewReadWriter(in, bufio.NewWriter(conn)), nil
}

// plainResponse records the head of an answer that is written in the usual way.
type plainResponse struct {
	http.ResponseWriter
	tapped *tapped
	told   bool
}

// Unwrap is for http.ResponseController.
func (p *plainResponse) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *plainResponse) WriteHeader(status int) {
	if !p.told && status >= 200 {
		p.told = true
		p.tapped.transcript.add(p.tapped.id, [2]uint64{}, Event{Response: &Response{Status: status, Header: p.Header().Clone()}})
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *plainResponse) Write(b []byte) (int, error) {
	if !p.told {
		p.WriteHeader(http.StatusOK)
	}
	return p.ResponseWriter.Write(b)
}

// tapped is a connection that is recorded.
type tapped struct {
	transcript *Transcript
	id         uint64

	mu                 sync.Mutex
	conn               net.Conn // nil: not hijacked
	head               []byte   // of the answer, until it is complete
	opened             bool     // the answer was 101
	answered           bool     // it was something
	subprotocol        string
	toServer, toClient flow
	close              *CloseEvent
	closeTold          bool
	readErr, writeErr  error // the first
	first              bool  // the server sent its FIN before anything ended
	ended              bool
	moved              [2]uint64
}

// flow is one direction of a tapped connection.
type flow struct {
	direction Direction
	decoder   Decoder
	assembler *Assembler
	mqtt      MQTTDecoder
	frame     *keptFrame // under way
	problems  []Problem  // of it
	told      bool       // it was told although it was not complete
}

func (c *tapped) tap(conn net.Conn) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
	return &tappedConn{Conn: conn, tapped: c}
}

func (c *tapped) hijacked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn != nil
}

// tappedConn is what the library gets.
type tappedConn struct {
	net.Conn
	tapped *tapped
}

func (t *tappedConn) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.tapped.read(b[:n], err)
	return n, err
}

func (t *tappedConn) Write(b []byte) (int, error) {
	t.tapped.wrote(b)
	n, err := t.Conn.Write(b)
	t.tapped.failed(err)
	return n, err
}

// CloseWrite sends the server's FIN and leaves the other direction open.
func (t *tappedConn) CloseWrite() error {
	t.tapped.finished()
	return CloseWrite(t.Conn)
}

// SetLinger makes Close reset the connection, with 0, as that of net.TCPConn.
func (t *tappedConn) SetLinger(seconds int) error {
	if seconds == 0 {
		t.tapped.failed(errServerReset)
	}
	if conn, ok := t.Conn.(interface{ SetLinger(int) error }); ok {
		return conn.SetLinger(seconds)
	}
	return errors.ErrUnsupported
}

func (t *tappedConn) Close() error {
	err := t.Conn.Close()
	t.tapped.end()
	return err
}

// CloseWrite closes a connection for writing, if it knows how.
func CloseWrite(conn net.Conn) error {
	if conn, ok := conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return errors.ErrUnsupported
}

var errServerReset = errors.New("wire: reset by the server")

// read records what came, and how it ended.
func (c *tapped) read(b []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.readErr == nil {
		c.readErr = err
	}
	c.moved[ToServer] += uint64(len(b))
	if c.opened && len(b) > 0 {
		c.tell(uint64(len(b)), &c.toServer, c.feed(&c.toServer, b))
	}
}

func (c *tapped) failed(err error) {
	if err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeErr == nil {
		c.writeErr = err
	}
}

func (c *tapped) finished() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.first = c.readErr == nil
}

// wrote records what is about to be written.
func (c *tapped) wrote(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	if !c.answered {
		b = c.answer(b)
	}
	if c.opened && len(b) > 0 {
		c.moved[ToClient] += uint64(len(b))
		c.tell(uint64(len(b)), &c.toClient, c.feed(&c.toClient, b))
	}
}

// maxAnswerBytes bounds the head of an answer that a handler wrote itself.
const maxAnswerBytes = 16 << 10

// answer takes what belongs to the answer's head and returns what is behind it.
func (c *tapped) answer(b []byte) (rest []byte) {
	before := len(c.head)
	c.head = append(c.head, b[:min(len(b), maxAnswerBytes-before)]...)
	size := bytes.Index(c.head, []byte("\r\n\r\n")) + len("\r\n\r\n")
	if size < len("\r\n\r\n") {
		c.answered = len(c.head) == maxAnswerBytes // it is none
		return nil
	}
	c.answered = true
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(c.head[:size])), nil)
	c.head = nil
	if err != nil {
		return nil
	}
	response.Body.Close()
	c.opened = response.StatusCode == http.StatusSwitchingProtocols
	c.subprotocol = response.Header.Get("Sec-WebSocket-Protocol")
	deflate, limit := AgreedDeflate(response.Header), c.transcript.bounds.Payload
	for _, f := range []*flow{&c.toServer, &c.toClient} {
		f.assembler = NewAssembler(f.direction, deflate, limit)
		f.mqtt = MQTTDecoder{Limit: limit, Level: 4}
	}
	c.transcript.add(c.id, [2]uint64{}, Event{Response: &Response{Status: response.StatusCode, Header: response.Header}})
	return b[size-before:]
}

// feed decodes a chunk and returns what happened with it.
func (c *tapped) feed(f *flow, chunk []byte) []Event {
	var events []Event
	for part := range f.decoder.Parts(chunk) {
		if part.First {
			f.frame, f.problems, f.told = &keptFrame{max: c.transcript.bounds.Payload}, nil, false
		}
		f.frame.add(part)
		problems, message := f.assembler.Add(part)
		f.problems = append(f.problems, problems...)
		if part.Last {
			if part.Header.Opcode == Close {
				events = append(events, c.flushFaulty(f)...)
			}
			if !f.told {
				events = append(events, f.tellFrame())
			}
			if part.Header.Opcode == Close {
				events = append(events, c.closing(f)...)
			}
			f.frame = nil
		}
		if message != nil {
			c.view(f, message)
			events = append(events, Event{Message: &MessageEvent{f.direction, *message}})
		}
	}
	return events
}

// tellFrame makes the event of the present frame, whole or not.
func (f *flow) tellFrame() Event {
	f.told = true
	return Event{Frame: &FrameEvent{Direction: f.direction, Frame: f.frame.Frame, Received: f.frame.received, Problems: f.problems}}
}

// flushFaulty tells what the other side is closing for: a frame with a problem
// of which nothing more will be read.
func (c *tapped) flushFaulty(f *flow) []Event {
	other := &c.toServer
	if f.direction == ToServer {
		other = &c.toClient
	}
	if other.frame == nil || other.told || len(other.problems) == 0 {
		return nil
	}
	return []Event{other.tellFrame()}
}

// closing follows the closing handshake; f's frame is a Close frame.
func (c *tapped) closing(f *flow) []Event {
	by := Client
	if f.direction == ToClient {
		by = Server
	}
	switch {
	case c.close == nil:
		c.close = &CloseEvent{By: by}
		c.close.Code, c.close.Reason = ClosePayload(f.frame.Payload)
	case c.close.By != by && !c.closeTold:
		c.close.Complete, c.closeTold = true, true
		return []Event{{Close: c.close}}
	}
	return nil
}

// view adds what a message says in the connection's subprotocol.
func (c *tapped) view(f *flow, m *Message) {
	whole := len(m.Problems) == 0 && uint64(len(m.Data)) == m.Size
	switch {
	case !whole:
	case m.Opcode == Text:
		m.GraphQL = ParseGraphQL(c.subprotocol, f.direction, m.Data)
	case c.subprotocol == "mqtt":
		m.MQTT = f.mqtt.Write(m.Data)
		c.toClient.mqtt.Level = c.toServer.mqtt.Level
	}
}

func (c *tapped) tell(n uint64, f *flow, events []Event) {
	var moved [2]uint64
	moved[f.direction] = n
	c.transcript.add(c.id, moved, events...)
}

// end records the end of the connection, once.
func (c *tapped) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	var events []Event
	for _, f := range []*flow{&c.toServer, &c.toClient} {
		if f.frame != nil && !f.told {
			events = append(events, f.tellFrame())
		}
	}
	if c.opened && !c.closeTold {
		if c.close == nil {
			c.close = &CloseEvent{By: Nobody, Code: Abnormal}
		}
		events = append(events, Event{Close: c.close})
	}
	by, how := howEnded(c.readErr, c.writeErr, c.first)
	events = append(events, Event{End: &EndEvent{By: by, How: how, Bytes: c.moved}})
	c.transcript.add(c.id, [2]uint64{}, events...)
}

// howEnded reads a connection's end from its first errors.
func howEnded(read, write error, serverFirst bool) (Side, Ending) {
	reset := func(err error) bool {
		return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED)
	}
	timeout := func(err error) bool {
		return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT)
	}
	switch {
	case errors.Is(write, errServerReset):
		return Server, RST
	case reset(read) || reset(write):
		return Client, RST
	case errors.Is(read, io.EOF) && !serverFirst:
		return Client, FIN
	case timeout(read) || timeout(write):
		return Server, Timeout
	}
	return Server, FIN
}
