package labs

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// lab is a practice server under test.
type lab struct {
	*httptest.Server
	mu      sync.Mutex
	refused []string
}

func (l *lab) refuse(code string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = append(l.refused, code)
}

// refusals waits until something was refused, and says what.
func (l *lab) refusals(t *testing.T) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		l.mu.Lock()
		codes := strings.Join(l.refused, " ")
		l.mu.Unlock()
		if codes != "" {
			return codes
		}
	}
	t.Fatal("nothing was refused")
	return ""
}

func startEcho(t *testing.T, cfg EchoConfig) *lab {
	t.Helper()
	l := &lab{}
	cfg.Refused = l.refuse
	echo := NewEcho(cfg)
	l.Server = httptest.NewServer(echo)
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		if err := echo.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		l.Close()
	})
	return l
}

// learner is a client that may send whatever it likes.
type learner struct {
	t testing.TB
	*net.TCPConn
	in       *bufio.Reader
	response *http.Response
	decoder  wire.Decoder
	messages *wire.Assembler
}

func dial(t testing.TB, l *lab) *learner {
	t.Helper()
	conn, err := net.Dial("tcp", l.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &learner{t: t, TCPConn: conn.(*net.TCPConn), in: bufio.NewReader(conn)}
}

const goodHeaders = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// ask sends the head of a request and reads the answer.
func (c *learner) ask(line, headers string) *http.Response {
	c.t.Helper()
	fmt.Fprintf(c, "%s\r\nHost: %s\r\n%s\r\n", line, c.RemoteAddr(), headers)
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return response
}

// open opens a WebSocket.
func open(t testing.TB, l *lab, path, headers string) *learner {
	t.Helper()
	c := dial(t, l)
	c.response = c.ask("GET "+path+" HTTP/1.1", goodHeaders+headers)
	if c.response.StatusCode != http.StatusSwitchingProtocols || c.response.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("answered %s, %v", c.response.Status, c.response.Header)
	}
	c.messages = wire.NewAssembler(wire.ToClient, wire.AgreedDeflate(c.response.Header), 32<<20)
	return c
}

var mask = [4]byte{0x5a, 0xc3, 0x11, 0x7e}

// encode renders frames as a client sends them: masked, unless they say otherwise.
func encode(frames ...wire.Frame) []byte {
	var b []byte
	for _, f := range frames {
		b = f.Mask(mask).Append(b)
	}
	return b
}

// rest sends nothing more and reads to the server's FIN. Every frame of the
// server's has to be right. Messages are told whole, control frames by the way.
func (c *learner) rest() []string {
	c.t.Helper()
	var told []string
	c.frames(64<<10, func(line string) bool {
		told = append(told, line)
		return true
	})
	return told
}

// next reads up to the next message or control frame.
func (c *learner) next() (told string) {
	c.t.Helper()
	c.frames(1, func(line string) bool {
		told = line
		return false
	})
	return told
}

// frames reads as much at once as size says: who wants to stop must not read
// too far.
func (c *learner) frames(size int, yield func(string) bool) {
	c.t.Helper()
	chunk := make([]byte, size)
	var payload []byte
	for more := true; more; {
		n, err := c.in.Read(chunk)
		if err == io.EOF {
			return
		} else if err != nil {
			c.t.Fatalf("the server did not close: %v", err)
		}
		for part := range c.decoder.Parts(chunk[:n]) {
			problems, m := c.messages.Add(part)
			for _, p := range problems {
				c.t.Errorf("the server's frame is wrong: %v", p)
			}
			if part.Header.Opcode.Control() {
				payload = append(payload, part.Data...)
			}
			if !part.Last {
				continue
			}
			switch part.Header.Opcode {
			case wire.Ping, wire.Pong:
				more = yield(fmt.Sprintf("%v %q", part.Header.Opcode, payload))
			case wire.Close:
				code, reason := wire.ClosePayload(payload)
				more = yield(strings.TrimSpace(fmt.Sprintf("close %d %s", code, reason)))
			}
			payload = payload[:0]
			if m != nil {
				more = yield(tell(m))
			}
		}
	}
}

func tell(m *wire.Message) string {
	text := fmt.Sprintf("%v %q", m.Opcode, m.Data)
	if m.Size > 100 {
		text = fmt.Sprintf("%v of %d", m.Opcode, m.Size)
	}
	if m.Compressed {
		text += " compressed"
	}
	for _, p := range m.Problems {
		text += " !" + string(p.Rule)
	}
	return text
}

// send writes b in pieces of n bytes. An error says that the server is gone,
// which rest finds out.
func (c *learner) send(b []byte, n int) {
	for len(b) > 0 {
		piece := b[:min(n, len(b))]
		b = b[len(piece):]
		if _, err := c.Write(piece); err != nil {
			return
		}
	}
}

func frame(fin bool, opcode wire.Opcode, payload string) wire.Frame {
	return wire.NewFrame(fin, opcode, []byte(payload))
}

func text(s string) wire.Frame { return frame(true, wire.Text, s) }

func repeat(s string, n int) string { return string(bytes.Repeat([]byte(s), n)) }

func newServer(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}
