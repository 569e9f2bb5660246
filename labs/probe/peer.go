package probe

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455, section 1.3, asks for it
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// peer is a client of the server under test. It belongs to one goroutine.
type peer struct {
	conn     *net.TCPConn
	in       *bufio.Reader
	decoder  wire.Decoder
	messages *wire.Assembler
	control  []byte // the payload of a control frame, as far as it is there
	chunk    []byte // read, and not looked at yet
	ready    []event
}

// maxEcho is how much of a message is kept: more than any that is sent.
const maxEcho = 1 << 20

// request is an opening handshake; the fields are wrong where a check wants it.
type request struct {
	method  string
	headers string // lines, each with its \r\n
}

// answer is what a server says to a handshake.
type answer struct {
	code   int
	status string // with the code: "400 Bad Request"
	header http.Header
}

// header lines of a right handshake, but the key.
const (
	upgradeLine    = "Upgrade: websocket\r\n"
	connectionLine = "Connection: Upgrade\r\n"
	versionLine    = "Sec-WebSocket-Version: 13\r\n"
)

func newKey() string {
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	return base64.StdEncoding.EncodeToString(nonce)
}

// acceptOf is what a server makes of a key (RFC 6455, section 4.2.2).
func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // see above
	return base64.StdEncoding.EncodeToString(sum[:])
}

// ask connects and sends the head of a request. The caller closes the peer.
func (p *prober) ask(ctx context.Context, r request) (*peer, answer, error) {
	conn, err := p.target.dial(ctx)
	if err != nil {
		return nil, answer{}, fmt.Errorf("no TCP connection: %w", err)
	}
	deadline := time.Now().Add(patience)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	_ = conn.SetDeadline(deadline)
	c := &peer{conn: conn, in: bufio.NewReader(conn), messages: wire.NewAssembler(wire.ToClient, nil, maxEcho)}
	head := &io.LimitedReader{R: conn, N: 16 << 10}
	c.in.Reset(head)
	if _, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", r.method, p.target.path(), p.target.url.Host, r.headers); err == nil {
		var response *http.Response
		if response, err = http.ReadResponse(c.in, nil); err == nil { //nolint:bodyclose // it ends with the connection
			head.N = 1 << 40 // frames follow
			return c, answer{response.StatusCode, response.Status, response.Header}, nil
		}
	}
	conn.Close()
	return nil, answer{}, fmt.Errorf("no HTTP answer: %w", told(err))
}

// open opens a WebSocket, with everything right.
func (p *prober) open(ctx context.Context) (*peer, error) {
	key := newKey()
	c, got, err := p.ask(ctx, request{"GET", upgradeLine + connectionLine + versionLine + "Sec-WebSocket-Key: " + key + "\r\n"})
	if err != nil {
		return nil, err
	}
	if got.code != http.StatusSwitchingProtocols || got.header.Get("Sec-Websocket-Accept") != acceptOf(key) {
		c.conn.Close()
		return nil, fmt.Errorf("the handshake failed this time: %s", got.status)
	}
	return c, nil
}

// told says what an error of a connection means to a reader.
func told(err error) error {
	timeout := net.Error(nil)
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return errSilent
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errEnded
	case strings.Contains(err.Error(), "reset by peer"), strings.Contains(err.Error(), "broken pipe"):
		return errReset
	}
	return err
}

var (
	errSilent = errors.New("nothing came in time")
	errEnded  = errors.New("TCP was closed without a Close frame")
	errReset  = errors.New("TCP was reset without a Close frame")
)

var key = [4]byte{0x5a, 0xc3, 0x11, 0x7e}

// encode renders frames as a client sends them.
func encode(frames ...wire.Frame) []byte {
	var b []byte
	for _, f := range frames {
		b = f.Mask(key).Append(b)
	}
	return b
}

// send writes frames. That the server has gone is for the reader to find out.
func (c *peer) send(frames ...wire.Frame) { c.write(encode(frames...)) }

func (c *peer) write(b []byte) { _, _ = c.conn.Write(b) }

// event is what a server did: a data message, a control frame, or a foul.
type event struct {
	opcode  wire.Opcode
	payload []byte
	foul    *wire.Problem
}

func (e event) String() string {
	switch {
	case e.foul != nil:
		return fmt.Sprintf("the server itself breaks a rule: %v", e.foul)
	case e.opcode == wire.Close:
		code, reason := wire.ClosePayload(e.payload)
		if code == wire.NoStatus {
			return "an empty Close"
		}
		if reason != "" {
			return fmt.Sprintf("Close %d %q", code, short(reason, 60))
		}
		return fmt.Sprintf("Close %d", code)
	case len(e.payload) == 0:
		if e.opcode.Control() {
			return fmt.Sprintf("an empty %v", e.opcode)
		}
		return fmt.Sprintf("an empty %v message", e.opcode)
	case e.opcode == wire.Binary:
		return fmt.Sprintf("binary, %d bytes (%s)", len(e.payload), short(fmt.Sprintf("% X", e.payload[:min(len(e.payload), 12)]), 40))
	}
	return fmt.Sprintf("%v, %d bytes (%q)", e.opcode, len(e.payload), short(string(e.payload[:min(len(e.payload), 60)]), 40))
}

// next waits for what the server does next. Its pings are answered and not told.
func (c *peer) next() (event, error) {
	for {
		if len(c.ready) > 0 {
			e := c.ready[0]
			c.ready = c.ready[1:]
			if e.opcode == wire.Ping && e.foul == nil {
				c.send(wire.NewFrame(true, wire.Pong, e.payload))
				continue
			}
			return e, nil
		}
		if c.chunk == nil {
			c.chunk = make([]byte, 4096)
		}
		n, err := c.in.Read(c.chunk)
		for part := range c.decoder.Parts(c.chunk[:n]) {
			c.look(part)
		}
		if len(c.ready) == 0 && err != nil {
			return event{}, told(err)
		}
	}
}

// look makes events of a part of a frame.
func (c *peer) look(part wire.Part) {
	problems, message := c.messages.Add(part)
	for _, problem := range problems {
		c.ready = append(c.ready, event{foul: &problem})
	}
	if part.Header.Opcode.Control() {
		if part.First {
			c.control = nil
		}
		c.control = append(c.control, part.Data[:min(len(part.Data), 125-len(c.control))]...)
		if part.Last {
			c.ready = append(c.ready, event{opcode: part.Header.Opcode, payload: c.control})
		}
	}
	if message != nil && len(message.Problems) == 0 {
		c.ready = append(c.ready, event{opcode: message.Opcode, payload: message.Data})
	}
}

// ended waits until the server has closed its side of TCP.
func (c *peer) ended() error {
	for {
		_, err := c.next()
		if errors.Is(err, errEnded) || errors.Is(err, errReset) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
