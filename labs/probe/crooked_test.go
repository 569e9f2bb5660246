package probe

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// crooked is an echo server that is right in everything but one fault.
type crooked struct {
	fault    string
	listener net.Listener
	open     atomic.Int64
	running  sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
}

// large is the size of the messages that a crooked server refuses.
const large = 200_000

func startCrooked(t *testing.T, fault string) *crooked {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &crooked{fault: fault, listener: ln}
	s.running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			s.running.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		s.mu.Lock()
		for _, conn := range s.conns {
			conn.Close()
		}
		s.mu.Unlock()
		s.running.Wait()
	})
	return s
}

func (s *crooked) url(scheme, path string) string {
	return scheme + "://" + s.listener.Addr().String() + path
}

func (s *crooked) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	r, err := http.ReadRequest(in)
	if err != nil {
		conn.Close()
		return
	}
	if r.URL.Path == "/status" {
		s.count(conn)
		return
	}
	answer := s.handshake(r)
	opened := strings.HasPrefix(answer, "HTTP/1.1 101")
	if opened {
		s.open.Add(1)
	}
	fmt.Fprint(conn, answer)
	if !opened {
		conn.Close()
		return
	}
	game := &game{server: s, conn: conn, messages: wire.NewAssembler(wire.ToServer, nil, 1<<20)}
	hold := game.play(in)
	if s.fault != "never counts down" {
		s.open.Add(-1)
	}
	if !hold {
		_ = wire.CloseWrite(conn)
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		for _, err := in.Discard(4096); err == nil; _, err = in.Discard(4096) {
		}
		conn.Close()
	}
}

func (s *crooked) count(conn net.Conn) {
	defer conn.Close()
	text, status := fmt.Sprintf("%d\n", s.open.Load()), "200 OK"
	switch s.fault {
	case "counts nobody":
		text = "0"
	case "counts in words":
		text = "none at all"
	case "has no status":
		text, status = "", "404 Not Found"
	}
	fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, len(text), text)
}

// handshake answers an opening handshake as it should be but for the fault.
func (s *crooked) handshake(r *http.Request) string {
	h := r.Header
	refuse := func(fault string, wrong bool) bool { return wrong && s.fault != fault }
	same := strings.EqualFold
	if s.fault == "compares Upgrade exactly" {
		same = func(a, b string) bool { return a == b }
	}
	nonce, err := base64.StdEncoding.DecodeString(h.Get("Sec-Websocket-Key"))
	switch {
	case s.fault == "answers 200":
		return "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	case s.fault == "answers no HTTP":
		return "WELCOME\r\n\r\n"
	case s.fault == "answers nothing":
		return ""
	case refuse("takes POST", r.Method != http.MethodGet),
		refuse("needs no Upgrade", len(h["Upgrade"]) == 0), refuse("needs no Connection", len(h["Connection"]) == 0),
		len(h["Upgrade"]) > 0 && !same(h.Get("Upgrade"), "websocket"), len(h["Connection"]) > 0 && !hasToken(h, "Connection", "upgrade"),
		refuse("needs no key", len(h["Sec-Websocket-Key"]) == 0), refuse("takes any key", len(h["Sec-Websocket-Key"]) > 0 && (err != nil || len(nonce) != 16)):
		return "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
	case refuse("takes any version", h.Get("Sec-Websocket-Version") != "13"):
		spoken := "Sec-WebSocket-Version: 13\r\n"
		if s.fault == "hides its version" {
			spoken = ""
		}
		return "HTTP/1.1 426 Upgrade Required\r\n" + spoken + "Content-Length: 0\r\n\r\n"
	}
	accept := acceptOf(h.Get("Sec-Websocket-Key"))
	if s.fault == "accepts with the key itself" {
		accept = h.Get("Sec-Websocket-Key")
	}
	lines := []string{"HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: " + accept}
	switch s.fault {
	case "forgets Connection":
		lines = slices.Delete(lines, 2, 3)
	case "upgrades to h2c":
		lines[1] = "Upgrade: h2c"
	case "keeps alive":
		lines[2] = "Connection: keep-alive"
	case "chooses a subprotocol":
		lines = append(lines, "Sec-WebSocket-Protocol: chat")
	case "compresses":
		lines = append(lines, "Sec-WebSocket-Extensions: permessage-deflate")
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// ignored says which rule a fault does not know.
var ignored = map[string]wire.Rule{
	"takes unmasked frames": wire.RuleMask, "ignores RSV1": wire.RuleReservedBit, "ignores reserved opcodes": wire.RuleOpcode,
	"takes fragments of pings": wire.RuleControlFIN, "takes long pings": wire.RuleControlSize, "continues nothing": wire.RuleContinuation,
	"takes messages inside messages": wire.RuleUnfinished, "takes a Close of one byte": wire.RuleCloseSize,
	"takes any close code": wire.RuleCloseCode, "takes any text": wire.RuleUTF8,
}

// game is one connection of a crooked server.
type game struct {
	server   *crooked
	conn     net.Conn
	decoder  wire.Decoder
	messages *wire.Assembler
	payload  []byte // of a control frame
	fragment []byte
	size     uint64
	echoed   int
	pending  [][]byte // pongs that wait for the end of a message
	inside   bool
}

func (g *game) send(f wire.Frame) { _, _ = g.conn.Write(f.Append(nil)) }

func (g *game) is(fault string) bool { return g.server.fault == fault }

// play reads and answers; hold: the connection stays open.
func (g *game) play(in *bufio.Reader) (hold bool) {
	chunk := make([]byte, 4096)
	for {
		n, err := in.Read(chunk)
		if err != nil {
			return g.is("keeps who is cut off")
		}
		if g.is("falls silent") {
			continue
		}
		for part := range g.decoder.Parts(chunk[:n]) {
			if over, hold := g.take(part); over {
				return hold
			}
			if g.is("reads one frame per segment") && part.Last {
				g.decoder = wire.Decoder{}
				break
			}
		}
		if g.is("wants a frame per segment") && !g.decoder.Between() {
			return false
		}
	}
}

func (g *game) take(part wire.Part) (over, hold bool) {
	h := part.Header
	problems, message := g.messages.Add(part)
	for _, problem := range problems {
		if ignored[g.server.fault] == problem.Rule {
			continue
		}
		code := problem.Code
		if g.is("refuses with 1000") {
			code = 1000
		}
		if !g.is("refuses without a word") {
			g.send(wire.NewClose(code, problem.Text[:min(len(problem.Text), 100)]))
		}
		return true, false
	}
	if h.Opcode.Control() {
		return g.takeControl(part)
	}
	if part.First {
		if h.Opcode != wire.Continuation {
			g.size, g.fragment = 0, nil
		}
		if g.size += h.Length; g.size >= large && !g.is("takes any size") {
			g.send(wire.NewClose(1009, ""))
			return true, false
		}
		g.inside = true
	}
	if g.is("checks fragments by themselves") && h.Opcode <= wire.Text {
		g.fragment = append(g.fragment, part.Data...)
		if text := (wire.UTF8{}); part.Last && (text.Write(g.fragment) < len(g.fragment) || !text.Complete()) {
			g.send(wire.NewClose(1007, ""))
			return true, false
		}
	}
	if g.is("echoes each fragment") {
		if g.fragment = append(g.fragment, part.Data...); part.Last {
			opcode := h.Opcode
			if opcode == wire.Continuation {
				opcode = wire.Text
			}
			g.send(wire.NewFrame(true, opcode, g.fragment))
			g.fragment = nil
		}
		return false, false
	}
	if message != nil {
		g.inside = false
		g.echo(message)
		for _, payload := range g.pending {
			g.send(wire.NewFrame(true, wire.Pong, payload))
		}
		g.pending = nil
	}
	return false, false
}

func (g *game) echo(m *wire.Message) {
	g.echoed++
	opcode, payload := m.Opcode, m.Data
	switch {
	case g.is("echoes everything as binary"):
		opcode = wire.Binary
	case g.is("echoes everything as text"):
		opcode = wire.Text
	case g.is("swallows what is empty") && len(payload) == 0, g.is("loses the 13th message") && g.echoed == 13:
		return
	case g.is("has no 64 bits"):
		payload = payload[:min(len(payload), 65535)]
	case g.is("changes a byte") && len(payload) > 0 && m.Opcode == wire.Binary:
		payload[0]++
	case g.is("echoes in the wrong order") && g.echoed == 2:
		payload = []byte("three")
	}
	frame := wire.NewFrame(true, opcode, payload)
	if g.is("masks its frames") {
		frame = frame.Mask([4]byte{1, 2, 3, 4})
	}
	g.send(frame)
}

func (g *game) takeControl(part wire.Part) (over, hold bool) {
	h := part.Header
	if part.First {
		g.payload = nil
	}
	g.payload = append(g.payload, part.Data...)
	if !part.Last {
		return false, false
	}
	switch h.Opcode {
	case wire.Ping:
		switch {
		case g.is("pongs without the payload"):
			g.send(wire.NewFrame(true, wire.Pong, nil))
		case g.is("pongs behind the message") && g.inside:
			g.pending = append(g.pending, g.payload)
		default:
			g.send(wire.NewFrame(true, wire.Pong, g.payload))
		}
	case wire.Pong:
		if g.is("answers pongs") {
			g.send(wire.NewFrame(true, wire.Pong, g.payload))
		}
	case wire.Close:
		code, _ := wire.ClosePayload(g.payload)
		switch {
		case g.is("closes without a word"):
			return true, false
		case g.is("closes without a code"):
			code = 0
		case g.is("closes with 1000 always"):
			code = 1000
		case g.is("closes with 1005") && code == wire.NoStatus:
			g.send(wire.NewFrame(true, wire.Close, []byte{0x03, 0xed}))
			return true, false
		}
		g.send(wire.NewClose(code, ""))
		return true, g.is("leaves TCP to the client")
	}
	return false, false
}
