package lessons

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// Event is one thing that a Grader is told. Either one of the pointers of its
// wire.Event is set, or one of those below, or none: then it is a moment, which
// says that nothing happened until its time. Seq and At never go back; Seq 0 is
// the number of the event before.
type Event struct {
	wire.Event
	Answer *Answer
	Bridge *Bridge
	Probe  *Probe
	Sample *Sample
	Chaos  *Chaos
	// Facts that the server knows from this event on, besides the others: such
	// as its counters when an answer came.
	Facts map[string]any
}

// Answer is what a learner submits to a step.
type Answer struct {
	Step  string
	Name  string // which of the step's answers
	Value any    // as encoding/json decodes it
}

// Bridge is what a bridge did with a message of a broker.
type Bridge struct {
	Source string // redis, mqtt
	Name   string // of the channel or topic
	What   string // delivered, dropped
	Value  map[string]any
}

// Probe is the result of one case of the probe.
type Probe struct {
	Case   string
	Passed bool
	Value  map[string]any
}

// Sample is what a practice server has measured.
type Sample struct {
	Source string
	Value  map[string]any
}

// Chaos is an injected fault.
type Chaos struct {
	Fault  string
	Number int // of the fault within the run, from 1
	Seed   int64
	Value  map[string]any
}

// view is an event as matchers see it. One event may have several.
type view struct {
	on    string // the kind of event
	seq   uint64
	conn  uint64
	n     uint64 // number among all views
	began uint64 // number that was next when the connection began
	at    time.Time
	age   time.Duration // of the connection
	frame int           // number of the frame within its connection; 0: none

	request  *wire.Request
	response *wire.Response
	open     int           // connections
	idle     time.Duration // since one ended; negative: none has

	wireFrame *wire.FrameEvent
	position  int           // of the frame or message in its direction
	roundTrip time.Duration // of a pong; negative: it answers no ping
	splits    bool

	message *wire.MessageEvent
	gql     *wire.GraphQL
	mqtt    *wire.MQTTPacket
	dir     wire.Direction
	chosen  string // subprotocol

	close *wire.CloseEvent
	end   *wire.EndEvent

	answer *Answer
	bridge *Bridge
	probe  *Probe
	sample *Sample
	chaos  *Chaos

	// What was read already.
	uri       *url.URL
	json      any
	decodedIt bool
	payload   any // of a gql message
	payloadIt bool
	document  *ast.QueryDocument
	operation *ast.OperationDefinition
	parsedIt  bool
}

// link is what is known of one connection.
type link struct {
	id       uint64
	began    uint64 // number of the view that was next
	at       time.Time
	request  *wire.Request
	chosen   string
	opened   bool
	ended    bool
	frames   int
	framesOf [2]int // by direction
	messages [2]int
	closing  int           // number of the first Close frame; 0: none
	lastData [2]int        // number of the last data frame
	pings    [2][]sentPing // by direction, the last maxPings
	text     [2]*wire.UTF8 // of a text message under way
}

type sentPing struct {
	payload string
	at      time.Time
}

// The bounds of what a Grader remembers of connections.
const (
	maxLinks = 1000
	maxPings = 16
)

// history follows the connections of a session.
type history struct {
	links   map[uint64]*link
	order   []uint64 // of links, oldest first
	n       uint64   // views so far
	open    int
	lastEnd time.Time
	totals  map[string]float64
}

func newHistory() history {
	return history{links: make(map[uint64]*link), totals: map[string]float64{
		"seen.opens": 0, "seen.frames.c2s": 0, "seen.frames.s2c": 0, "seen.messages.c2s": 0, "seen.messages.s2c": 0,
		"seen.bytes.c2s": 0, "seen.bytes.s2c": 0, "seen.saved.c2s": 0, "seen.saved.s2c": 0,
	}}
}

// link finds or begins what is known of a connection. When there are too many,
// the oldest that has ended is forgotten, else the oldest.
func (h *history) link(e *Event) *link {
	if l := h.links[e.Conn]; l != nil {
		return l
	}
	if len(h.order) == maxLinks {
		i := max(0, slices.IndexFunc(h.order, func(id uint64) bool { return h.links[id].ended }))
		delete(h.links, h.order[i])
		h.order = slices.Delete(h.order, i, i+1)
	}
	l := &link{id: e.Conn, began: h.n + 1, at: e.At}
	h.links[e.Conn] = l
	h.order = append(h.order, e.Conn)
	return l
}

// add takes an event and returns how matchers see it.
func (h *history) add(e *Event) []*view {
	views := h.views(e)
	for _, v := range views {
		h.n++
		v.n = h.n
	}
	return views
}

func (h *history) views(e *Event) []*view {
	base := view{seq: e.Seq, at: e.At}
	switch {
	case e.Answer != nil:
		base.on, base.answer = "answer", e.Answer
	case e.Bridge != nil:
		base.on, base.bridge = "bridge", e.Bridge
	case e.Probe != nil:
		base.on, base.probe = "probe", e.Probe
	case e.Sample != nil:
		base.on, base.sample = "sample", e.Sample
	case e.Chaos != nil:
		base.on, base.chaos, base.conn = "chaos", e.Chaos, e.Conn
	case e.Request == nil && e.Response == nil && e.Frame == nil && e.Message == nil && e.Close == nil && e.End == nil:
		return nil
	default:
		return h.wire(e, base)
	}
	return []*view{&base}
}

// wire takes an event of a connection.
func (h *history) wire(e *Event, base view) []*view {
	l := h.link(e)
	base.conn, base.began, base.age, base.request, base.chosen = l.id, l.began, e.At.Sub(l.at), l.request, l.chosen
	switch {
	case e.Request != nil:
		l.request = e.Request
		return nil
	case e.Response != nil:
		return h.response(e.Response, l, base)
	case e.Frame != nil:
		h.frame(e.Frame, l, &base)
	case e.Message != nil:
		return h.message(e.Message, l, base)
	case e.Close != nil:
		base.on, base.close, base.frame = "close", e.Close, l.closing
	default:
		if l.opened && !l.ended {
			h.open--
			h.lastEnd = e.At
		}
		l.ended = true
		base.on, base.end, base.open = "tcp", e.End, h.open
	}
	return []*view{&base}
}

func (h *history) response(r *wire.Response, l *link, base view) []*view {
	base.on, base.response = "http.request", r
	if base.request == nil {
		base.request = &wire.Request{}
	}
	if l.opened || r.Status != http.StatusSwitchingProtocols {
		l.ended = !l.opened
		return []*view{&base}
	}
	l.opened, l.chosen = true, r.Header.Get("Sec-WebSocket-Protocol")
	l.at, base.age = base.at, 0
	base.idle = -1
	if !h.lastEnd.IsZero() {
		base.idle = base.at.Sub(h.lastEnd)
	}
	h.open++
	h.totals["seen.opens"]++
	open := base
	open.on, open.open, open.chosen = "open", h.open, l.chosen
	return []*view{&base, &open}
}

var ways = [2]string{wire.ToServer: "c2s", wire.ToClient: "s2c"}

func (h *history) frame(f *wire.FrameEvent, l *link, v *view) {
	d := f.Direction & 1
	l.frames++
	l.framesOf[d]++
	h.totals["seen.frames."+ways[d]]++
	h.totals["seen.bytes."+ways[d]] += float64(f.Size()) + float64(f.Received)
	v.on, v.wireFrame, v.dir, v.frame, v.position, v.roundTrip = "frame", f, d, l.frames, l.framesOf[d], -1
	payload := f.Payload
	switch f.Opcode {
	case wire.Close:
		if l.closing == 0 {
			l.closing = l.frames
		}
	case wire.Ping:
		l.pings[d] = append(l.pings[d], sentPing{string(payload), v.at})
		if over := len(l.pings[d]) - maxPings; over > 0 {
			l.pings[d] = slices.Delete(l.pings[d], 0, over)
		}
	case wire.Pong:
		for _, ping := range slices.Backward(l.pings[1-d]) {
			if ping.payload == string(payload) {
				v.roundTrip = v.at.Sub(ping.at)
				break
			}
		}
	case wire.Text, wire.Binary, wire.Continuation:
		l.lastData[d] = l.frames
		switch {
		case f.Opcode == wire.Text && !f.RSV1:
			l.text[d] = new(wire.UTF8)
		case f.Opcode != wire.Continuation:
			l.text[d] = nil
		}
		if text := l.text[d]; text != nil {
			whole := uint64(len(payload)) == f.Length && text.Write(payload) == len(payload)
			v.splits = whole && !f.FIN && !text.Complete()
			if !whole || f.FIN {
				l.text[d] = nil
			}
		}
	}
}

func (h *history) message(m *wire.MessageEvent, l *link, base view) []*view {
	d := m.Direction & 1
	l.messages[d]++
	h.totals["seen.messages."+ways[d]]++
	if m.Compressed {
		h.totals["seen.saved."+ways[d]] += float64(m.Size) - float64(m.WireSize)
	}
	base.on, base.message, base.dir, base.position = "message", m, d, l.messages[d]
	if len(m.Problems) == 0 { // else it may be told before its last frame
		base.frame = l.lastData[d]
	}
	views := []*view{&base}
	if m.GraphQL != nil {
		gql := base
		gql.on, gql.gql = "gql", m.GraphQL
		views = append(views, &gql)
	}
	for i := range m.MQTT {
		packet := base
		packet.on, packet.mqtt = "mqtt", &m.MQTT[i]
		views = append(views, &packet)
	}
	return views
}

// path is the request's without the session's own beginning.
func (v *view) path() string {
	if v.request == nil { // it was not recorded
		return ""
	}
	path := v.url().Path
	if rest, ok := strings.CutPrefix(path, "/lab/"); ok {
		_, rest, _ = strings.Cut(rest, "/")
		return "/" + rest
	}
	return path
}

func (v *view) url() *url.URL {
	if v.uri == nil {
		var err error
		if v.uri, err = url.ParseRequestURI(v.request.URI); err != nil {
			v.uri = &url.URL{}
		}
	}
	return v.uri
}

// header joins the values of a header; nil: it is not there.
func header(h http.Header, name string) any {
	values := h.Values(name)
	if len(values) == 0 {
		return nil
	}
	return strings.Join(values, ", ")
}

func (v *view) keyBytes() any {
	key, err := base64.StdEncoding.DecodeString(v.request.Header.Get("Sec-WebSocket-Key"))
	if err != nil || len(key) == 0 {
		return nil
	}
	return float64(len(key))
}

// elements is a header's list of elements without their parameters.
func elements(h http.Header, name string) any {
	var list []any
	for _, value := range h.Values(name) {
		for element := range strings.SplitSeq(value, ",") {
			element, _, _ = strings.Cut(element, ";")
			if element = strings.TrimSpace(element); element != "" {
				list = append(list, element)
			}
		}
	}
	if list == nil {
		return nil
	}
	return list
}

// whole is a message's data, if all of it is there and it is well formed.
func (v *view) whole() []byte {
	m := v.message
	if len(m.Problems) > 0 || uint64(len(m.Data)) != m.Size {
		return nil
	}
	return m.Data
}

func (v *view) text() any {
	if v.message.Opcode != wire.Text {
		return nil
	}
	data := v.whole()
	if data == nil && v.message.Size > 0 {
		return nil
	}
	return string(data)
}

// decoded is the JSON that a message is; nil: it is none.
func (v *view) decoded() any {
	if !v.decodedIt {
		v.decodedIt = true
		if text, ok := v.text().(string); ok {
			v.json = decodeJSON([]byte(text))
		}
	}
	return v.json
}

func decodeJSON(b []byte) any {
	var value any
	if json.Unmarshal(b, &value) != nil {
		return nil
	}
	return value
}

// at finds what stands at a path of keys and indexes; nil: nothing.
func at(value any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

// maxTokens bounds the documents that are looked into.
const maxTokens = 10_000

// parsedOperation is the operation that a gql message starts; nil: none.
func (v *view) parsedOperation() *ast.OperationDefinition {
	if v.parsedIt {
		return v.operation
	}
	v.parsedIt = true
	var payload struct{ Query, OperationName string }
	if v.gql.Type != "subscribe" && v.gql.Type != "start" || json.Unmarshal(v.gql.Payload, &payload) != nil {
		return nil
	}
	document, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: payload.Query}, maxTokens)
	if err != nil {
		return nil
	}
	v.document = document
	v.operation = document.Operations.ForName(payload.OperationName)
	return v.operation
}

// rootFields are the names of the operation's fields, through fragments.
func (v *view) rootFields() any {
	operation := v.parsedOperation()
	if operation == nil {
		return nil
	}
	list := []any{}
	visited := make(map[string]bool)
	var walk func(ast.SelectionSet)
	walk = func(set ast.SelectionSet) {
		for _, selection := range set {
			switch s := selection.(type) {
			case *ast.Field:
				list = append(list, s.Name)
			case *ast.InlineFragment:
				walk(s.SelectionSet)
			case *ast.FragmentSpread:
				if f := v.document.Fragments.ForName(s.Name); f != nil && !visited[s.Name] {
					visited[s.Name] = true
					walk(f.SelectionSet)
				}
			}
		}
	}
	walk(operation.SelectionSet)
	return list
}

// decodedPayload is that of a gql message.
func (v *view) decodedPayload() any {
	if !v.payloadIt {
		v.payloadIt = true
		v.payload = decodeJSON(v.gql.Payload)
	}
	return v.payload
}

// errorCodes are those of the errors in a gql message.
func (v *view) errorCodes() any {
	payload := v.decodedPayload()
	if object, ok := payload.(map[string]any); ok && v.gql.Type != "error" {
		payload = object["errors"]
	}
	list, ok := payload.([]any)
	if !ok {
		if payload == nil {
			return nil
		}
		list = []any{payload} // as the legacy protocol sends one error
	}
	codes := []any{}
	for _, e := range list {
		if code, ok := at(e, "extensions.code").(string); ok {
			codes = append(codes, code)
		}
	}
	return codes
}

func sum(b [32]byte) string { return hex.EncodeToString(b[:]) }
