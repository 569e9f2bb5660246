package probe

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// definition is one check. The ids are known outside: they never change.
type definition struct {
	id, step, title, wanted, section string

	optional bool // only tried when cfg asks for it
	ordered  bool // on the first of a step: its checks build on one another
	run      func(context.Context, *prober) outcome
}

// catalogue is all checks in the order of a report, those of a step together.
// The first one finds out whether the others can be tried.
var catalogue = []definition{
	{
		id: "accept", step: "S1", section: "4.2.2", title: "A right handshake is accepted",
		wanted: "101 with Upgrade: websocket, Connection: Upgrade and the key's Sec-WebSocket-Accept", run: accepts("GET", "websocket", "Upgrade"),
	},
	{
		id: "header-case", step: "S1", section: "4.2.1", title: "Header values are compared as they should be",
		wanted: "the same answer to Upgrade: WebSocket and Connection: keep-alive, upgrade", run: accepts("GET", "WebSocket", "keep-alive, upgrade"),
	},
	{
		id: "nothing-unasked", step: "S1", section: "4.2.2", title: "Nothing is agreed on that was not offered",
		wanted: "no Sec-WebSocket-Protocol and no Sec-WebSocket-Extensions in the answer, as none was offered", run: agreesOnNothing,
	},
	{
		id: "wrong-version", step: "S1", section: "4.4", title: "Another version is refused",
		wanted: "426 (or 400) with Sec-WebSocket-Version: 13", run: refusesVersion,
	},
	{
		id: "missing-key", step: "S1", section: "4.2.1", title: "A handshake without a key is refused",
		wanted: "400, or another status from 400 to 499", run: refuses("GET", 400, upgradeLine+connectionLine+versionLine),
	},
	{
		id: "short-key", step: "S1", section: "4.2.1", title: "A key that is not 16 bytes is refused",
		wanted: "400, or another status from 400 to 499", run: refuses("GET", 400, upgradeLine+connectionLine+versionLine+"Sec-WebSocket-Key: c2hvcnQ=\r\n"),
	},
	{
		id: "missing-upgrade", step: "S1", section: "4.2.1", title: "A request without Upgrade is no handshake",
		wanted: "an HTTP answer other than 101", run: refuses("GET", 200, connectionLine+versionLine+"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
	},
	{
		id: "missing-connection", step: "S1", section: "4.2.1", title: "Nor is one without Connection: Upgrade",
		wanted: "an HTTP answer other than 101", run: refuses("GET", 200, upgradeLine+versionLine+"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
	},
	{
		id: "method", step: "S1", section: "4.2.1", title: "A WebSocket is opened by GET alone",
		wanted: "an HTTP answer other than 101 to POST", run: refuses("POST", 200, "Content-Length: 0\r\n"+upgradeLine+connectionLine+versionLine+"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
	},

	{
		id: "text", step: "S2", section: "5.6", title: "Text comes back as text",
		wanted: "text, the same characters", run: echoes(message(wire.Text, "Hello, こんにちは")),
	},
	{
		id: "binary", step: "S2", section: "5.6", title: "Bytes come back as bytes",
		wanted: "binary, the same 256 bytes", run: echoes(message(wire.Binary, everyByte())),
	},
	{
		id: "empty", step: "S2", section: "5.2", title: "An empty message comes back empty",
		wanted: "text, 0 bytes", run: echoes(message(wire.Text, "")),
	},
	{
		id: "long", step: "S2", section: "5.2", title: "A length of 64 bits is read and written",
		wanted: "binary, the same 70,000 bytes", run: echoes(message(wire.Binary, strings.Repeat("0123456789", 7000))),
	},
	{
		id: "bytewise", step: "S2", section: "5.2", title: "A frame may come byte by byte: TCP has no frames",
		wanted: "one echo, after the last byte", run: echoesBytewise,
	},
	{
		id: "together", step: "S2", section: "5.2", title: "Several frames may arrive at once",
		wanted: "three echoes in order", run: echoes(message(wire.Text, "one"), message(wire.Text, "two"), message(wire.Text, "three")),
	},

	{
		id: "fragments", step: "S3", section: "5.4", title: "Fragments are one message",
		wanted: "one text message: Hello", run: echoes(fragments(wire.Text, "Hel", "", "lo")),
	},
	{
		id: "character-split", step: "S3", section: "5.6", title: "A character may be split over fragments",
		wanted: "one text message: あ", run: echoes(fragments(wire.Text, "\xe3\x81", "\x82")),
	},
	{
		id: "ping", step: "S3", section: "5.5.3", title: "A ping is answered with its own payload",
		wanted: `a pong with "are you there"`, run: answersPing,
	},
	{
		id: "ping-inside", step: "S3", section: "5.4", title: "A ping between two fragments is answered there",
		wanted: `a pong with "between" before the message is finished, then the message`, run: answersPingInside,
	},
	{
		id: "pong-unasked", step: "S3", section: "5.5.3", title: "A pong that nobody asked for is ignored",
		wanted: "no answer to the pong, and the connection goes on", run: ignoresPong,
	},

	{
		id: "close", step: "S4", section: "5.5.1", title: "Close is answered with the same code",
		wanted: "Close 1000", run: answersClose(wire.NewClose(1000, "done"), 1000),
	},
	{
		id: "close-private", step: "S4", section: "5.5.1", title: "Also one of an application's own codes",
		wanted: "Close 4001", run: answersClose(wire.NewClose(4001, "my own reason"), 4001),
	},
	{
		id: "close-empty", step: "S4", section: "5.5.1", title: "An empty Close is answered",
		wanted: "an empty Close, or Close 1000: 1005 is never sent", run: answersClose(wire.NewClose(0, ""), wire.NoStatus, 1000),
	},
	{
		id: "close-tcp", step: "S4", section: "7.1.1", title: "After both Close frames the server closes TCP",
		wanted: "the end of TCP at once", run: closesTCP,
	},

	{
		id: "unmasked", step: "S5", section: "5.1", title: "A frame that is not masked is refused",
		wanted: "Close 1002", run: closes(1002, wire.NewFrame(true, wire.Text, []byte("bare")).Append(nil)),
	},
	{
		id: "reserved-bit", step: "S5", section: "5.2", title: "A reserved bit is refused",
		wanted: "Close 1002", run: closes(1002, encode(reserved(wire.NewFrame(true, wire.Text, []byte("RSV1"))))),
	},
	{
		id: "reserved-opcode", step: "S5", section: "5.2", title: "A reserved opcode is refused",
		wanted: "Close 1002", run: closes(1002, encode(wire.NewFrame(true, 0x3, []byte("what is it")))),
	},
	{
		id: "control-fragmented", step: "S5", section: "5.5", title: "A ping without FIN is refused",
		wanted: "Close 1002", run: closes(1002, encode(wire.NewFrame(false, wire.Ping, []byte("half")))),
	},
	{
		id: "control-long", step: "S5", section: "5.5", title: "A ping of 126 bytes is refused",
		wanted: "Close 1002", run: closes(1002, encode(wire.NewFrame(true, wire.Ping, make([]byte, 126)))),
	},
	{
		id: "continuation-alone", step: "S5", section: "5.4", title: "A continuation of nothing is refused",
		wanted: "Close 1002", run: closes(1002, encode(wire.NewFrame(true, wire.Continuation, []byte("and so on")))),
	},
	{
		id: "message-inside", step: "S5", section: "5.4", title: "A message inside an unfinished one is refused",
		wanted: "Close 1002", run: closes(1002, encode(wire.NewFrame(false, wire.Text, []byte("not yet")), wire.NewFrame(true, wire.Text, []byte("finished")))),
	},
	{
		id: "close-short", step: "S5", section: "5.5.1", title: "A Close body of one byte is refused",
		wanted: "Close 1002", run: closes(1002, encode(wire.NewFrame(true, wire.Close, []byte{3}))),
	},
	{
		id: "close-reserved", step: "S5", section: "7.4.1", title: "A Close frame with 1005 is refused",
		wanted: "Close 1002", run: closes(1002, encode(wire.NewFrame(true, wire.Close, []byte{0x03, 0xed}))),
	},
	{
		id: "utf8", step: "S5", section: "8.1", title: "Text that is not UTF-8 is refused",
		wanted: "Close 1007", run: closes(1007, encode(wire.NewFrame(true, wire.Text, []byte("caf\xe9!")))),
	},
	{
		id: "utf8-split", step: "S5", section: "8.1", title: "Also when a fragment's end hides it",
		wanted: "Close 1007", run: closes(1007, encode(fragments(wire.Text, "caf\xc3", "(").frames...)),
	},
	{
		id: "too-large", step: "S5", section: "7.4.1", title: "A message that is too large is refused", optional: true,
		wanted: "Close 1009", run: refusesLarge,
	},

	{
		id: "load", step: "S6", section: "5.4", title: "50 connections with 20 messages each lose nothing",
		wanted: "every message back, on its own connection and in its order", run: carriesLoad,
	},

	{
		id: "leave-close", step: "S7", section: "7.1.1", title: "Clients that close are let go", ordered: true,
		wanted: "the server closes its side of TCP behind its Close frame", run: letsGo("a Close frame", func(c *peer) { c.send(wire.NewClose(1000, "")) }),
	},
	{
		id: "leave-cut", step: "S7", section: "7.1.5", title: "Clients that are cut off are let go, too",
		wanted: "the server closes its side of TCP when the client's has ended without a Close frame", run: letsGo("the end of TCP", func(c *peer) { _ = c.conn.CloseWrite() }),
	},
	{
		id: "leave-count", step: "S7", section: "7.1.4", title: "The server itself counts none any more", optional: true,
		wanted: "the status URL counts the 50 while they are there, and as few as before when they have left", run: countsNone,
	},
}

// accepts opens a WebSocket with the given values of two headers.
func accepts(method, upgrade, connection string) func(context.Context, *prober) outcome {
	return func(ctx context.Context, p *prober) outcome {
		key := newKey()
		c, answer, err := p.ask(ctx, request{method, "Upgrade: " + upgrade + "\r\nConnection: " + connection + "\r\n" + versionLine + "Sec-WebSocket-Key: " + key + "\r\n"})
		if err != nil {
			return fail("%v", err)
		}
		defer c.conn.Close()
		h := answer.header
		if answer.code != http.StatusSwitchingProtocols {
			return fail("%s", answer.status)
		}
		for _, name := range []string{"Upgrade", "Connection", "Sec-Websocket-Accept"} {
			if len(h.Values(name)) == 0 {
				return fail("101 without the header %s", strings.Replace(name, "Websocket", "WebSocket", 1))
			}
		}
		if !strings.EqualFold(h.Get("Upgrade"), "websocket") {
			return fail("101 with Upgrade: %s", h.Get("Upgrade"))
		}
		if !hasToken(h, "Connection", "upgrade") {
			return fail("101 with Connection: %s", h.Get("Connection"))
		}
		if got, want := h.Get("Sec-Websocket-Accept"), acceptOf(key); got != want {
			return fail("Sec-WebSocket-Accept: %s for the key %s, which makes %s", got, key, want)
		}
		return pass("101 with all three")
	}
}

func hasToken(h http.Header, name, token string) bool {
	for element := range strings.SplitSeq(strings.Join(h.Values(name), ","), ",") {
		if strings.EqualFold(strings.TrimSpace(element), token) {
			return true
		}
	}
	return false
}

func agreesOnNothing(ctx context.Context, p *prober) outcome {
	c, answer, err := p.ask(ctx, request{"GET", upgradeLine + connectionLine + versionLine + "Sec-WebSocket-Key: " + newKey() + "\r\n"})
	if err != nil {
		return fail("%v", err)
	}
	defer c.conn.Close()
	for _, name := range []string{"Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"} {
		if values := answer.header.Values(name); len(values) > 0 {
			return fail("%s: %s", name, values[0])
		}
	}
	if answer.code != http.StatusSwitchingProtocols {
		return fail("%s", answer.status)
	}
	return pass("101 with neither")
}

func refusesVersion(ctx context.Context, p *prober) outcome {
	c, answer, err := p.ask(ctx, request{"GET", upgradeLine + connectionLine + "Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: " + newKey() + "\r\n"})
	if err != nil {
		return fail("%v", err)
	}
	defer c.conn.Close()
	if answer.code != http.StatusUpgradeRequired && answer.code != http.StatusBadRequest {
		return fail("%s to version 12", answer.status)
	}
	if !hasToken(answer.header, "Sec-Websocket-Version", "13") {
		return fail("%s, but no header Sec-WebSocket-Version that says 13", answer.status)
	}
	return pass("%s with Sec-WebSocket-Version: %s", answer.status, answer.header.Get("Sec-Websocket-Version"))
}

// refuses asks for a WebSocket wrongly. lowest is the least status of a right answer.
func refuses(method string, lowest int, headers string) func(context.Context, *prober) outcome {
	return func(ctx context.Context, p *prober) outcome {
		c, answer, err := p.ask(ctx, request{method, headers})
		if err != nil {
			return fail("%v", err)
		}
		defer c.conn.Close()
		if answer.code < lowest || answer.code > 499 {
			return fail("%s", answer.status)
		}
		return pass("%s", answer.status)
	}
}

// sent is a message and the frames that carry it.
type sent struct {
	opcode  wire.Opcode
	payload string
	frames  []wire.Frame
}

func message(opcode wire.Opcode, payload string) sent { return fragments(opcode, payload) }

func fragments(opcode wire.Opcode, parts ...string) sent {
	s := sent{opcode: opcode, payload: strings.Join(parts, "")}
	for i, part := range parts {
		s.frames = append(s.frames, wire.NewFrame(i == len(parts)-1, opcode, []byte(part)))
		opcode = wire.Continuation
	}
	return s
}

func everyByte() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}

func reserved(f wire.Frame) wire.Frame {
	f.RSV1 = true
	return f
}

// with opens a connection for one check.
func (p *prober) with(ctx context.Context, look func(c *peer) outcome) outcome {
	c, err := p.open(ctx)
	if err != nil {
		return fail("%v", err)
	}
	defer c.conn.Close()
	return look(c)
}

// expect waits for the echo of a message.
func (c *peer) expect(m sent) outcome {
	e, err := c.next()
	switch {
	case err != nil:
		return fail("%v", err)
	case e.foul != nil || e.opcode != m.opcode:
		return fail("%v", e)
	case string(e.payload) != m.payload:
		return fail("%v: not what was sent", e)
	}
	return pass("%v", e)
}

// echoes sends messages in one piece and wants each back.
func echoes(messages ...sent) func(context.Context, *prober) outcome {
	return func(ctx context.Context, p *prober) outcome {
		return p.with(ctx, func(c *peer) (o outcome) {
			var frames []wire.Frame
			for _, m := range messages {
				frames = append(frames, m.frames...)
			}
			c.send(frames...)
			for i, m := range messages {
				if o = c.expect(m); o.status != Passed && len(messages) > 1 {
					return fail("as echo %d: %s", i+1, o.saw)
				}
			}
			if len(messages) > 1 && o.status == Passed {
				return pass("%d echoes in order", len(messages))
			}
			return o
		})
	}
}

func echoesBytewise(ctx context.Context, p *prober) outcome {
	return p.with(ctx, func(c *peer) outcome {
		m := message(wire.Text, "drop by drop")
		for _, b := range encode(m.frames...) {
			c.write([]byte{b})
			time.Sleep(2 * time.Millisecond) // a segment for each byte
		}
		return c.expect(m)
	})
}

func answersPing(ctx context.Context, p *prober) outcome {
	return p.with(ctx, func(c *peer) outcome {
		c.send(wire.NewFrame(true, wire.Ping, []byte("are you there")))
		return c.expect(sent{opcode: wire.Pong, payload: "are you there"})
	})
}

func answersPingInside(ctx context.Context, p *prober) outcome {
	return p.with(ctx, func(c *peer) outcome {
		m := fragments(wire.Text, "be", "hind")
		c.send(m.frames[0], wire.NewFrame(true, wire.Ping, []byte("between")))
		if o := c.expect(sent{opcode: wire.Pong, payload: "between"}); o.status != Passed {
			return o
		}
		c.send(m.frames[1])
		if o := c.expect(m); o.status != Passed {
			return fail("the pong, then %s", o.saw)
		}
		return pass("the pong, then the message")
	})
}

func ignoresPong(ctx context.Context, p *prober) outcome {
	return p.with(ctx, func(c *peer) outcome {
		m := message(wire.Text, "still here")
		c.send(append([]wire.Frame{wire.NewFrame(true, wire.Pong, []byte("by the way"))}, m.frames...)...)
		return c.expect(m)
	})
}

// answersClose sends a Close frame and wants one of codes back.
func answersClose(f wire.Frame, codes ...int) func(context.Context, *prober) outcome {
	return func(ctx context.Context, p *prober) outcome {
		return p.with(ctx, func(c *peer) outcome {
			c.send(f)
			return c.expectClose(codes...)
		})
	}
}

func (c *peer) expectClose(codes ...int) outcome {
	e, err := c.next()
	if err != nil {
		return fail("%v", err)
	}
	code, _ := wire.ClosePayload(e.payload)
	if e.foul != nil || e.opcode != wire.Close || !slices.Contains(codes, code) {
		return fail("%v", e)
	}
	return pass("%v", e)
}

func closesTCP(ctx context.Context, p *prober) outcome {
	return p.with(ctx, func(c *peer) outcome {
		c.send(wire.NewClose(1000, ""))
		if e, err := c.next(); err != nil || e.opcode != wire.Close {
			return fail("no Close frame to begin with")
		}
		began := time.Now()
		if err := c.ended(); err != nil {
			return fail("TCP was still open %v after both Close frames", time.Since(began).Round(100*time.Millisecond))
		}
		return pass("TCP closed by the server")
	})
}

// closes sends what is wrong and wants to be refused for it.
func closes(code int, b []byte) func(context.Context, *prober) outcome {
	return func(ctx context.Context, p *prober) outcome {
		return p.with(ctx, func(c *peer) outcome {
			c.write(b)
			return c.expectClose(code)
		})
	}
}

func refusesLarge(ctx context.Context, p *prober) outcome {
	if p.cfg.TooLarge == 0 {
		return skip("not asked for: how large is too large was not said")
	}
	return p.with(ctx, func(c *peer) outcome {
		frame := wire.NewFrame(true, wire.Binary, nil)
		frame.Form, frame.Length = 0, uint64(p.cfg.TooLarge)
		var writing sync.WaitGroup
		writing.Go(func() { // while the answer is waited for: it may come before the end
			_, err := c.conn.Write(encode(frame))
			for left := p.cfg.TooLarge; left > 0 && err == nil; left -= fragment {
				_, err = c.conn.Write(make([]byte, min(left, fragment)))
			}
		})
		defer writing.Wait()
		defer c.conn.Close()
		return c.expectClose(1009)
	})
}

// carriesLoad fills the house and leaves the visitors in it for the next step.
func carriesLoad(ctx context.Context, p *prober) outcome {
	peers, problems := make([]*peer, visitors), make([]error, visitors)
	everyone := func(do func(i int)) {
		var busy sync.WaitGroup
		for i := range visitors {
			busy.Go(func() { do(i) })
		}
		busy.Wait()
	}
	everyone(func(i int) {
		if peers[i], problems[i] = p.open(ctx); problems[i] == nil {
			p.extend(ctx, peers[i], loadTime)
		}
	})
	for i, c := range peers {
		if c == nil {
			p.keep(peers)
			return fail("connection %d of %d: %v", i+1, visitors, problems[i])
		}
	}
	var lost int
	everyone(func(i int) { problems[i] = peers[i].chat(i) })
	p.keep(peers)
	if p.status != nil {
		p.during = p.held(ctx)
	}
	for _, problem := range problems {
		if problem != nil {
			lost++
		}
	}
	if lost > 0 {
		first := slices.IndexFunc(problems, func(err error) bool { return err != nil })
		return fail("trouble on %d of %d connections, such as %v", lost, visitors, problems[first])
	}
	return pass("%d messages came back", visitors*each)
}

// chat sends all messages of a visitor and reads them back.
func (c *peer) chat(visitor int) error {
	text := func(i int) string { return fmt.Sprintf("visitor %d, message %d", visitor+1, i+1) }
	var frames []wire.Frame
	for i := range each {
		frames = append(frames, message(wire.Text, text(i)).frames...)
	}
	c.send(frames...)
	for i := range each {
		if o := c.expect(message(wire.Text, text(i))); o.status != Passed {
			return fmt.Errorf("%s; %q was due", o.saw, text(i))
		}
	}
	return nil
}

func (p *prober) keep(peers []*peer) {
	p.visitors = slices.DeleteFunc(peers, func(c *peer) bool { return c == nil })
	p.came = len(p.visitors)
}

// extend gives a connection more time.
func (p *prober) extend(ctx context.Context, c *peer, d time.Duration) {
	deadline := time.Now().Add(d)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	_ = c.conn.SetDeadline(deadline)
}

// letsGo makes half of the visitors leave and wants the server to notice.
func letsGo(how string, leave func(*peer)) func(context.Context, *prober) outcome {
	return func(ctx context.Context, p *prober) outcome {
		if len(p.visitors) == 0 {
			return skip("not tried: no connection of step S6 is open")
		}
		n := min(visitors/2, len(p.visitors))
		leaving := p.visitors[:n]
		p.visitors = p.visitors[n:]
		for _, c := range leaving {
			p.extend(ctx, c, leaveTime)
			leave(c)
		}
		kept := 0
		for _, c := range leaving {
			if c.ended() != nil {
				kept++
			}
			c.conn.Close()
		}
		if kept > 0 {
			return fail("%d of %d connections were still open %v after %s", kept, n, leaveTime, how)
		}
		return pass("all %d ended; judged from outside, by the end of TCP", n)
	}
}
