package conformance

import (
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// frame is a masked frame with a mask of zeroes, as a client sends it.
func frame(first byte, payload string) []byte {
	return append([]byte{first, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
}

// ends writes bytes to an acknowledged connection, which must end for them. RFC
// 6455 leaves it to the server whether it says why: 1002, if it does.
func ends(raw []byte) func(*client) {
	return func(c *client) {
		c.connect()
		c.raw(raw...)
		c.wantEnd()
	}
}

var socketCases = []testCase{
	// Handshake
	{"token-modern", "A client offers graphql-transport-ws.", open, "it is chosen", func(c *client) {
		c.dial(modern)
		c.wantToken(modern)
	}},
	{"token-legacy", "A client offers graphql-ws.", open, "it is chosen", func(c *client) {
		c.dial(legacy)
		c.wantToken(legacy)
	}},
	{"token-both", "A client offers both, the newer first.", open, "the newer is chosen", func(c *client) {
		c.dial(modern, legacy)
		c.wantToken(modern)
	}},
	{"token-both-reversed", "A client offers both, the older first.", open, "the newer is chosen", func(c *client) {
		c.dial(legacy, modern)
		c.wantToken(modern)
	}},
	{"token-unknown-and-known", "A client offers one that is not known, and a known one.", open, "the known one is chosen", func(c *client) {
		c.dial("mqtt", legacy)
		c.wantToken(legacy)
	}},
	{"token-unknown", "A client offers only one that is not known.", open, "400: neither side would know how to talk", func(c *client) {
		c.wantNoSocket("mqtt")
	}},
	{"token-none", "A client offers none.", open, "400", func(c *client) { c.wantNoSocket() }},
	{"token-case", "A client offers GraphQL-Transport-WS.", open, "400: subprotocols are compared letter by letter", func(c *client) {
		c.wantNoSocket("GraphQL-Transport-WS")
	}},
	{"token-legacy-speaks-legacy", "Messages of the newer protocol on graphql-ws.", open, "are not understood", func(c *client) {
		c.connectLegacy()
		c.subscribe("1", `{ hello }`)
		c.wantKind("error", "1")
	}},

	// Frames
	{
		"ping", "\"Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response\" (5.5.2)", must,
		"with the same data", func(c *client) {
			c.connect()
			pongs := make(chan string, 1)
			if c.failed == nil {
				c.ws.SetPongHandler(func(data string) error { pongs <- data; return nil })
			}
			c.write(websocket.PingMessage, []byte("are you there?"))
			c.wantAlive()
			if c.failed == nil && (len(pongs) != 1 || <-pongs != "are you there?") {
				c.fail("a pong with the ping's data", "another pong, or none")
			}
		},
	},
	{"ping-before-init", "The same, before connection_init.", must, "", func(c *client) {
		c.dial(modern)
		pongs := make(chan string, 1)
		if c.failed == nil {
			c.ws.SetPongHandler(func(data string) error { pongs <- data; return nil })
		}
		c.write(websocket.PingMessage, nil)
		c.send(`{"type":"connection_init"}`)
		c.wantKind("connection_ack", "")
		if c.failed == nil && len(pongs) != 1 {
			c.fail("a pong", "none")
		}
	}},
	{"pong", "\"A Pong frame MAY be sent unsolicited\" (5.5.3)", must, "and is not answered", func(c *client) {
		c.connect()
		c.write(websocket.PongMessage, []byte("heartbeat"))
		c.wantAlive()
	}},
	{"fragments", "\"a fragmented message\" (5.4)", must, "is put together", func(c *client) {
		c.dialer.WriteBufferSize = 64
		c.connect()
		payload := strings.Repeat("🙂", 200)
		c.send(`{"type":"ping","payload":{"long":"` + payload + `"}}`)
		c.want(`{"type":"pong","payload":{"long":"` + payload + `"}}`)
	}},
	{"fragments-and-ping", "\"Control frames MAY be injected in the middle of a fragmented message.\" (5.4)", must, "a ping between two fragments", func(c *client) {
		c.connect()
		c.raw(frame(0x01, `{"type":`)...)
		c.raw(frame(0x89, "now")...)
		c.raw(frame(0x80, `"ping"}`)...)
		c.want(`{"type":"pong"}`)
	}},
	{"fragment-inside-a-character", "A fragment that ends inside a character.", must, "\"a particular text frame might include a partial UTF-8 sequence\" (5.6)", func(c *client) {
		c.connect()
		c.raw(frame(0x01, "{\"type\":\"ping\",\"payload\":{\"a\":\"\xf0\x9f")...)
		c.raw(frame(0x80, "\x99\x82\"}}")...)
		c.want(`{"type":"pong","payload":{"a":"🙂"}}`)
	}},
	{"close-echo", "\"it MUST send a Close frame in response\" (5.5.1)", must, "with the same code", func(c *client) {
		c.connect()
		c.write(websocket.CloseMessage, websocket.FormatCloseMessage(4321, "bye"))
		c.untilClose(4321)
	}},
	{"close-without-code", "A Close frame without a code.", must, "is answered", func(c *client) {
		c.connect()
		c.raw(frame(0x88, "")...)
		if m, ok := c.read(); ok && !websocket.IsCloseError(m.err, websocket.CloseNoStatusReceived, websocket.CloseNormalClosure) {
			c.failRaw("a close frame", m.String(), m.raw)
		}
	}},
	{
		"unmasked", "\"The server MUST close the connection upon receiving a frame that is not masked.\" (5.1)", must, "",
		ends(append([]byte{0x81, 15}, `{"type":"ping"}`...)),
	},
	{
		"reserved-bit", "\"If a nonzero value is received [...] the receiving endpoint MUST _Fail the WebSocket Connection_.\" (5.2)", must, "a reserved bit",
		ends(frame(0xc1, `{"type":"ping"}`)),
	},
	{
		"reserved-opcode", "\"If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket Connection_.\" (5.2)", must, "",
		ends(frame(0x83, `{"type":"ping"}`)),
	},
	{
		"fragmented-control", "\"All control frames [...] MUST NOT be fragmented.\" (5.5)", must, "a ping that is not final",
		ends(frame(0x09, "x")),
	},
	{
		"stray-continuation", "A continuation of nothing (5.4).", must, "",
		ends(frame(0x80, `{"type":"ping"}`)),
	},
	{
		"invalid-utf8", "\"When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is not, in fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_.\" (8.1)", must,
		"1007", func(c *client) {
			c.connect()
			c.send("{\"type\":\"ping\",\"payload\":{\"a\":\"\xff\"}}")
			c.wantClose(1007, "")
		},
	},
	{"invalid-utf8-legacy", "The same on graphql-ws, which forgives parsing errors.", must, "1007", func(c *client) {
		c.connectLegacy()
		c.send("{\"type\":\"start\",\"id\":\"\xc3\x28\",\"payload\":{\"query\":\"{ hello }\"}}")
		c.wantClose(1007, "")
	}},
	{"surrogate", "A surrogate of UTF-16, encoded (RFC 3629, section 3).", must, "1007", func(c *client) {
		c.connect()
		c.send("{\"type\":\"ping\",\"payload\":{\"a\":\"\xed\xa0\x80\"}}")
		c.wantClose(1007, "")
	}},
	{"binary", "A message in a binary frame.", open, "1003: \"it has received a type of data it cannot accept\" (7.4.1)", func(c *client) {
		c.connect()
		c.write(websocket.BinaryMessage, []byte(`{"type":"ping"}`))
		c.wantClose(1003, "")
	}},
	{"binary-legacy", "The same on graphql-ws.", open, "1003", func(c *client) {
		c.connectLegacy()
		c.write(websocket.BinaryMessage, []byte(`{"id":"1","type":"start","payload":{"query":"{ hello }"}}`))
		c.wantClose(1003, "")
	}},
	{"binary-before-init", "The same before connection_init.", open, "1003", func(c *client) {
		c.dial(modern)
		c.write(websocket.BinaryMessage, []byte(`{"type":"connection_init"}`))
		c.wantClose(1003, "")
	}},
	{"too-large", "A message over the server's limit (64 KiB here).", open, "1009", func(c *client) {
		c.connect()
		c.send(strings.Repeat(" ", messageBytes+1))
		c.wantClose(1009, "")
	}},
	{"too-large-fragments", "The same in fragments.", open, "1009", func(c *client) {
		c.dialer.WriteBufferSize = 8 << 10
		c.connect()
		c.send(strings.Repeat(" ", messageBytes+1))
		c.wantClose(1009, "")
	}},
	{"too-large-legacy", "The same on graphql-ws.", open, "1009", func(c *client) {
		c.connectLegacy()
		c.send(strings.Repeat(" ", messageBytes+1))
		c.wantClose(1009, "")
	}},
	{"large", "A message right at the limit.", open, "is accepted", func(c *client) {
		c.connect()
		head, tail := `{"type":"ping"`, `}`
		c.send(head + strings.Repeat(" ", messageBytes-len(head+tail)) + tail)
		c.want(`{"type":"pong"}`)
	}},
	{"server-pings", "Does a server send Ping frames of its own?", open, "yes, so that it notices who has gone", func(c *client) {
		c.dialPath(lively, modern)
		if c.failed != nil {
			return
		}
		pinged := false
		c.ws.SetPingHandler(func(data string) error {
			pinged = true
			return c.ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(time.Second))
		})
		c.send(`{"type":"connection_init"}`)
		c.want(`{"type":"connection_ack"}`)
		c.listen(silence)
		if c.failed == nil && !pinged {
			c.fail("a ping", "none")
		}
	}},
	{"compression", "A client offers permessage-deflate (RFC 7692).", open, "it is declined: what it saves costs memory for each socket", func(c *client) {
		c.dialer.EnableCompression = true
		c.dialer.Subprotocols = []string{modern}
		ws, resp, err := c.dialer.Dial(c.url, nil)
		if err != nil {
			c.failRaw("an open socket", "another answer", err.Error())
			return
		}
		defer ws.Close()
		if accepted := resp.Header.Get("Sec-WebSocket-Extensions"); accepted != "" {
			c.fail("no extension", accepted)
		}
	}},
}
