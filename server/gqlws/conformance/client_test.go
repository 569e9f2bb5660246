package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

const (
	modern = "graphql-transport-ws"
	legacy = "graphql-ws"

	// silence is how long nothing must come, where nothing that comes later can
	// prove it.
	silence = 200 * time.Millisecond
)

// client is one side of a conversation with a server. The first thing that
// goes wrong is kept, and whatever a case asks for after that does nothing, so
// that a case reads as the conversation it wants to see.
type client struct {
	url    string // of the server
	name   string // of the case: for topics and gates that are its own
	dialer websocket.Dialer
	ws     *websocket.Conn
	failed *failure

	forbidden func(message) bool // may be nil
}

// failure is what a server did instead of what the case wanted.
type failure struct {
	seen   string // short, and the same in every run
	wanted string
	raw    string // all of what was seen
}

func (f *failure) Error() string {
	text := fmt.Sprintf("saw %s, wanted %s", f.seen, f.wanted)
	if f.raw != "" {
		text += "\n     in full: " + strings.ToValidUTF8(f.raw, "\ufffd")
	}
	return text
}

func (c *client) fail(wanted, seen string) { c.failRaw(wanted, seen, "") }

func (c *client) failRaw(wanted, seen, raw string) {
	if c.failed == nil {
		c.failed = &failure{seen: seen, wanted: wanted, raw: raw}
	}
}

func (c *client) hangUp() {
	if c.ws != nil {
		c.ws.Close()
	}
}

// another plays with a second client of the same server.
func (c *client) another(play func(*client)) {
	if c.failed != nil {
		return
	}
	second := &client{url: c.url, name: c.name}
	defer second.hangUp()
	play(second)
	if c.failed == nil {
		c.failed = second.failed
	}
}

// dial opens a socket that offers subprotocols.
func (c *client) dial(tokens ...string) { c.dialPath("", tokens...) }

func (c *client) dialPath(path string, tokens ...string) {
	if c.failed != nil {
		return
	}
	c.dialer.Subprotocols = tokens
	ws, resp, err := c.dialer.Dial(c.url+path, nil)
	if err != nil {
		seen := "no answer to the handshake"
		if resp != nil {
			seen = fmt.Sprintf("handshake refused with %d", resp.StatusCode)
		}
		c.failRaw("an open socket", seen, err.Error())
		return
	}
	c.ws = ws
}

// wantToken checks what the handshake agreed on.
func (c *client) wantToken(token string) {
	if c.failed == nil && c.ws.Subprotocol() != token {
		c.fail(fmt.Sprintf("subprotocol %q", token), fmt.Sprintf("subprotocol %q", c.ws.Subprotocol()))
	}
}

// wantNoSocket wants a handshake to be refused with 400.
func (c *client) wantNoSocket(tokens ...string) {
	c.dialer.Subprotocols = tokens
	ws, resp, err := c.dialer.Dial(c.url, nil)
	switch {
	case err == nil:
		ws.Close()
		c.fail("handshake refused with 400", fmt.Sprintf("open socket with subprotocol %q", ws.Subprotocol()))
	case resp == nil || resp.StatusCode != http.StatusBadRequest:
		c.failRaw("handshake refused with 400", "another failure", err.Error())
	}
}

// connect opens an acknowledged connection of graphql-transport-ws.
func (c *client) connect() {
	c.dial(modern)
	c.send(`{"type":"connection_init"}`)
	c.want(`{"type":"connection_ack"}`)
}

// connectLegacy opens an acknowledged connection of graphql-ws.
func (c *client) connectLegacy() {
	c.dial(legacy)
	c.send(`{"type":"connection_init"}`)
	c.want(`{"type":"connection_ack"}`)
	c.want(`{"type":"ka"}`)
}

// Sending. A server may have closed the socket by then, which the next read
// tells better than a failed write.

func (c *client) send(text string) { c.write(websocket.TextMessage, []byte(text)) }

func (c *client) write(kind int, b []byte) {
	if c.failed == nil {
		_ = c.ws.WriteMessage(kind, b)
	}
}

func (c *client) raw(b ...byte) {
	if c.failed == nil {
		_, _ = c.ws.NetConn().Write(b)
	}
}

// request sends a message with an id and, unless it is nil, a payload.
func (c *client) request(kind, id string, payload map[string]any) {
	members := map[string]any{"type": kind, "id": id}
	if payload != nil {
		members["payload"] = payload
	}
	b, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	c.send(string(b))
}

func query(text string) map[string]any { return map[string]any{"query": text} }

func (c *client) subscribe(id, text string) { c.request("subscribe", id, query(text)) }
func (c *client) complete(id string)        { c.request("complete", id, nil) }
func (c *client) start(id, text string)     { c.request("start", id, query(text)) }
func (c *client) stop(id string)            { c.request("stop", id, nil) }

// Operations on a topic and a gate that are the case's own.
func (c *client) words() string { return fmt.Sprintf(`subscription { words(topic: %q) }`, c.name) }
func (c *client) slow() string  { return fmt.Sprintf(`{ slow(gate: %q) }`, c.name) }
func (c *client) open() string  { return fmt.Sprintf(`mutation { open(gate: %q) }`, c.name) }

func (c *client) publish(word string) string {
	return fmt.Sprintf(`mutation { publish(topic: %q, word: %q) }`, c.name, word)
}

func (c *client) subscribers(n int) string {
	return fmt.Sprintf(`{ subscribers(topic: %q, n: %d) }`, c.name, n)
}

// message is what a server sent, or how the socket ended.
type message struct {
	raw     string
	kind    string
	id      string
	payload any
	members map[string]any
	frame   int   // the type of WebSocket message
	err     error // of a socket that ended
}

// String says what the message is in words that are the same in every run.
func (m message) String() string {
	var closed *websocket.CloseError
	var timeout net.Error
	switch {
	case m.err == nil && m.id != "":
		return m.kind + " " + brief(m.id)
	case m.err == nil:
		return m.kind
	case errors.As(m.err, &closed) && closed.Code == websocket.CloseNoStatusReceived:
		return "close without a code"
	case errors.As(m.err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
		return fmt.Sprintf("close %d %q", closed.Code, closed.Text)
	case errors.As(m.err, &timeout) && timeout.Timeout():
		return "silence"
	}
	return "dropped connection without a close frame"
}

func brief(s string) string {
	if len(s) > 20 {
		return fmt.Sprintf("(an id of %d bytes)", len(s))
	}
	return fmt.Sprintf("%q", s)
}

// read takes the next message. When the case has failed before, there is none.
func (c *client) read() (message, bool) { return c.readUntil(time.Now().Add(patience)) }

func (c *client) readUntil(deadline time.Time) (message, bool) {
	if c.failed != nil {
		return message{}, false
	}
	_ = c.ws.SetReadDeadline(deadline)
	frame, b, err := c.ws.ReadMessage()
	if err != nil {
		return message{err: err, raw: err.Error()}, true
	}
	m, err := parseMessage(b)
	m.frame = frame
	switch {
	case err != nil || !utf8.Valid(b):
		c.failRaw("JSON in UTF-8", "a message that is not JSON in UTF-8", m.raw)
	case c.forbidden != nil && c.forbidden(m):
		c.failRaw("no such message", m.String(), m.raw)
	}
	return m, c.failed == nil
}

func parseMessage(b []byte) (message, error) {
	m := message{raw: string(b)}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&m.members); err != nil {
		return m, err
	}
	m.kind, _ = m.members["type"].(string)
	m.id, _ = m.members["id"].(string)
	m.payload = m.members["payload"]
	return m, nil
}

// want reads a message that says the same as text; an absent payload and a null
// one are the same.
func (c *client) want(text string) {
	m, ok := c.read()
	if !ok {
		return
	}
	wanted, err := parseMessage([]byte(text))
	if err != nil {
		panic(fmt.Sprintf("%s: %v", text, err))
	}
	got := m.members
	if got["payload"] == nil {
		delete(got, "payload")
	}
	if !reflect.DeepEqual(got, wanted.members) {
		seen := m.String()
		if m.err == nil && m.kind == wanted.kind && m.id == wanted.id {
			seen += " with another content"
		}
		c.failRaw(text, seen, m.raw)
	}
}

func text(members map[string]any) string {
	b, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// wantResult reads a result of either subprotocol whose data is a field's value.
func (c *client) wantResult(kind, id, field string, value any) {
	c.want(text(map[string]any{"type": kind, "id": id, "payload": map[string]any{"data": map[string]any{field: value}}}))
}

func (c *client) wantNext(id, field string, value any) { c.wantResult("next", id, field, value) }
func (c *client) wantData(id, field string, value any) { c.wantResult("data", id, field, value) }

func (c *client) wantComplete(id string) {
	c.want(text(map[string]any{"type": "complete", "id": id}))
}

// wantKind reads a message of some kind and id, whatever else it says.
func (c *client) wantKind(kind, id string) message {
	m, ok := c.read()
	if ok && (m.err != nil || m.kind != kind || m.id != id) {
		c.failRaw(strings.TrimSpace(kind+" "+id), m.String(), m.raw)
	}
	return m
}

// wantErrors reads an error of graphql-transport-ws.
func (c *client) wantErrors(id string) {
	m := c.wantKind("error", id)
	list, ok := m.payload.([]any)
	if c.failed == nil && (!ok || !isErrorList(list)) {
		c.failRaw("error whose payload is a list of GraphQL errors", m.String()+" with another payload", m.raw)
	}
}

func isErrorList(list []any) bool {
	for _, e := range list {
		if !isError(e) {
			return false
		}
	}
	return len(list) > 0
}

func isError(e any) bool {
	members, _ := e.(map[string]any)
	_, ok := members["message"].(string)
	return ok
}

// wantError reads an error of graphql-ws.
func (c *client) wantError(id string) {
	m := c.wantKind("error", id)
	if c.failed != nil || isError(m.payload) {
		return
	}
	seen := m.String() + " with another payload"
	if _, ok := m.payload.([]any); ok {
		seen = m.String() + " with a list as its payload"
	}
	c.failRaw("error whose payload is one error", seen, m.raw)
}

// wantConnectionError reads a connection_error of graphql-ws.
func (c *client) wantConnectionError() {
	m := c.wantKind("connection_error", "")
	if c.failed == nil && !isError(m.payload) {
		c.failRaw("connection_error whose payload is an error", "connection_error with another payload", m.raw)
	}
}

// wantClose wants the socket to be closed next, with a code and, unless it is
// empty, a reason.
func (c *client) wantClose(code int, reason string) {
	wanted := fmt.Sprintf("close %d %q", code, reason)
	if m, before, ended := c.end(wanted); ended {
		c.checkClose(m, wanted, code, reason, before)
	}
}

// wantEnd wants the socket to end next, in whatever way.
func (c *client) wantEnd() {
	m, before, ended := c.end("the end of the socket")
	if ended && (before != "" || m.String() == "silence") {
		c.failRaw("the end of the socket", m.String()+before, m.raw)
	}
}

// end waits for the socket to end. It sends something that a server answers if
// it does not close, so that an open socket is noticed at once.
func (c *client) end(wanted string) (m message, before string, ended bool) {
	c.nudge()
	for {
		m, ok := c.read()
		switch {
		case !ok:
			return m, before, false
		case m.err != nil:
			return m, before, true
		case m.kind == "pong" || m.id == nudgeID:
			c.failRaw(wanted, "an open socket", m.raw)
			return m, before, false
		case before == "":
			before = " after " + m.String()
		}
	}
}

func (c *client) checkClose(m message, wanted string, code int, reason, before string) {
	var closed *websocket.CloseError
	switch {
	case before != "" || !errors.As(m.err, &closed) || closed.Code != code || reason != "" && closed.Text != reason:
		c.failRaw(wanted, m.String()+before, m.raw)
	case len(closed.Text) > 123 || !utf8.ValidString(closed.Text):
		c.failRaw("a reason of at most 123 bytes of UTF-8", "another reason", m.raw)
	case closed.Text == "" && code >= 4000:
		c.fail("a reason", m.String())
	}
}

const nudgeID = "nudge"

func (c *client) nudge() {
	switch {
	case c.failed != nil:
	case c.ws.Subprotocol() == modern:
		c.send(`{"type":"ping"}`)
	default:
		c.start(nudgeID, `{ hello }`)
	}
}

// wantAlive proves that the connection goes on and that nothing came before.
func (c *client) wantAlive() {
	if c.failed != nil {
		return
	}
	if c.ws.Subprotocol() == modern {
		c.send(`{"type":"ping","payload":{"alive":true}}`)
		c.wantKind("pong", "")
		return
	}
	c.start("alive", `{ hello }`)
	c.wantData("alive", "hello", "world")
	c.wantComplete("alive")
}

// ask runs an operation under an id of its own, wants it to yield anything but
// false, and drops what else comes.
func (c *client) ask(id, text string) {
	if c.failed != nil {
		return
	}
	kind, result := "start", "data"
	if c.ws.Subprotocol() == modern {
		kind, result = "subscribe", "next"
	}
	c.request(kind, id, query(text))
	if m := c.until(result, id); c.failed == nil && isFalse(m) {
		c.failRaw("another answer to "+text, "the answer false", m.raw)
	}
	c.until("complete", id)
}

// isFalse says whether the one field of a result is false.
func isFalse(m message) bool {
	result, _ := m.payload.(map[string]any)
	data, _ := result["data"].(map[string]any)
	for _, value := range data {
		return value == false
	}
	return true
}

// until drops messages up to one of a kind and id.
func (c *client) until(kind, id string) message {
	for {
		m, ok := c.read()
		switch {
		case !ok:
			return m
		case m.err != nil:
			c.failRaw(strings.TrimSpace(kind+" "+id), m.String(), m.raw)
			return m
		case m.kind == kind && m.id == id:
			return m
		}
	}
}

// untilClose drops messages up to a Close frame with a code.
func (c *client) untilClose(code int) {
	for {
		m, ok := c.read()
		if !ok || websocket.IsCloseError(m.err, code) {
			return
		}
		if m.err != nil {
			c.failRaw(fmt.Sprintf("close %d", code), m.String(), m.raw)
		}
	}
}

// forbid makes any later message of a kind and an id a failure. An empty kind or
// id stands for every one.
func (c *client) forbid(kind, id string) {
	c.forbidden = func(m message) bool { return (kind == "" || m.kind == kind) && (id == "" || m.id == id) }
}

// listen reads on for a while and wants the socket to stay open. Nothing can be
// read after it.
func (c *client) listen(d time.Duration) {
	deadline := time.Now().Add(d)
	for {
		m, ok := c.readUntil(deadline)
		switch {
		case !ok || m.String() == "silence":
			return
		case m.err != nil:
			c.failRaw("an open socket", m.String(), m.raw)
		}
	}
}

// wantSilence wants nothing at all for a moment.
func (c *client) wantSilence() {
	c.forbid("", "")
	c.listen(silence)
}

// wantEach wants n operations, whose ids are 0 to n-1, to get a message of each
// of some kinds, in the order of the kinds, and nothing else.
func (c *client) wantEach(n int, kinds ...string) {
	got := make(map[string]int)
	for range n * len(kinds) {
		m, ok := c.read()
		if !ok {
			return
		}
		i := got[m.id]
		if m.err != nil || i == len(kinds) || m.kind != kinds[i] {
			c.failRaw(fmt.Sprint(kinds, " of each operation"), m.String(), m.raw)
			return
		}
		got[m.id]++
	}
}

// number is a JSON number as the client decodes it.
func number(digits string) json.Number { return json.Number(digits) }

func itoa(i int) string { return strconv.Itoa(i) }
