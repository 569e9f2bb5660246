package lessons

import (
	"bytes"
	"compress/flate"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// script is a sequence of events as test vectors write it.
type script struct {
	Name   string          `json:"name"`
	About  string          `json:"about"`
	Events []scriptEvent   `json:"events"`
	Want   map[string]want `json:"want"`
}

type scriptEvent struct {
	At     timeNode       `json:"at,omitzero"`
	Conn   int            `json:"conn,omitzero"`
	Open   *scriptOpen    `json:"open,omitzero"`
	Frame  *scriptFrame   `json:"frame,omitzero"`
	Close  *scriptClose   `json:"close,omitzero"`
	End    *scriptEnd     `json:"end,omitzero"`
	Answer *scriptAnswer  `json:"answer,omitzero"`
	Bridge *scriptBridge  `json:"bridge,omitzero"`
	Probe  *scriptProbe   `json:"probe,omitzero"`
	Sample *scriptSample  `json:"sample,omitzero"`
	Chaos  *scriptChaos   `json:"chaos,omitzero"`
	Facts  map[string]any `json:"facts,omitzero"`
}

type (
	scriptOpen struct {
		Method string            `json:"method,omitzero"`
		Path   string            `json:"path"`
		Bare   bool              `json:"bare,omitzero"`
		Header map[string]string `json:"header,omitzero"`
		Status int               `json:"status,omitzero"`
		Answer map[string]string `json:"answer,omitzero"`
	}
	scriptFrame struct {
		Dir      string `json:"dir"`
		Opcode   string `json:"opcode"`
		Part     bool   `json:"part,omitzero"`
		RSV1     bool   `json:"rsv1,omitzero"`
		Deflate  bool   `json:"deflate,omitzero"`
		Unmasked bool   `json:"unmasked,omitzero"`
		Form     int    `json:"form,omitzero"`
		Text     string `json:"text,omitzero"`
		Hex      string `json:"hex,omitzero"`
		Times    int    `json:"times,omitzero"`
		Claims   int    `json:"claims,omitzero"`
	}
	scriptClose struct {
		By       string `json:"by"`
		Code     int    `json:"code"`
		Reason   string `json:"reason,omitzero"`
		Complete bool   `json:"complete"`
	}
	scriptEnd struct {
		By  string `json:"by"`
		How string `json:"how"`
	}
	scriptAnswer struct {
		Step  string `json:"step"`
		Name  string `json:"name,omitzero"`
		Value any    `json:"value"`
	}
	scriptBridge struct {
		Source string         `json:"source"`
		Name   string         `json:"name"`
		What   string         `json:"what"`
		Value  map[string]any `json:"value,omitzero"`
	}
	scriptProbe struct {
		Case   string         `json:"case"`
		Passed bool           `json:"passed"`
		Value  map[string]any `json:"value,omitzero"`
	}
	scriptSample struct {
		Source string         `json:"source"`
		Value  map[string]any `json:"value"`
	}
	scriptChaos struct {
		Fault  string         `json:"fault"`
		Number int            `json:"number,omitzero"`
		Seed   int            `json:"seed,omitzero"`
		Value  map[string]any `json:"value,omitzero"`
	}
)

// player turns a script into events, as a tap would tell them.
type player struct {
	t      testing.TB
	start  time.Time
	seq    uint64
	events []Event
	conns  map[int]*playerConn
}

type playerConn struct {
	chosen string
	flows  [2]struct {
		decoder   wire.Decoder
		assembler *wire.Assembler
		mqtt      wire.MQTTDecoder
	}
}

var scriptStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// play returns the events of a script.
func play(t testing.TB, events []scriptEvent) []Event {
	t.Helper()
	p := &player{t: t, start: scriptStart, conns: make(map[int]*playerConn)}
	for _, e := range events {
		p.event(e)
	}
	return p.events
}

func (p *player) tell(e scriptEvent, set func(*Event)) {
	var event Event
	set(&event)
	p.seq++
	event.Seq, event.Conn, event.At, event.Facts = p.seq, uint64(e.Conn), p.start.Add(e.At.d), e.Facts
	p.events = append(p.events, event)
}

func (p *player) event(e scriptEvent) {
	p.t.Helper()
	switch {
	case e.Open != nil:
		p.open(e, e.Open)
	case e.Frame != nil:
		p.frame(e, e.Frame)
	case e.Close != nil:
		p.tell(e, func(event *Event) {
			event.Close = &wire.CloseEvent{By: wire.Side(e.Close.By), Code: e.Close.Code, Reason: e.Close.Reason, Complete: e.Close.Complete}
		})
	case e.End != nil:
		p.tell(e, func(event *Event) { event.End = &wire.EndEvent{By: wire.Side(e.End.By), How: wire.Ending(e.End.How)} })
	case e.Answer != nil:
		p.tell(e, func(event *Event) { event.Answer = (*Answer)(e.Answer) })
	case e.Bridge != nil:
		p.tell(e, func(event *Event) { event.Bridge = (*Bridge)(e.Bridge) })
	case e.Probe != nil:
		p.tell(e, func(event *Event) { event.Probe = (*Probe)(e.Probe) })
	case e.Sample != nil:
		p.tell(e, func(event *Event) { event.Sample = (*Sample)(e.Sample) })
	case e.Chaos != nil:
		p.tell(e, func(event *Event) {
			event.Chaos = &Chaos{Fault: e.Chaos.Fault, Number: e.Chaos.Number, Seed: int64(e.Chaos.Seed), Value: e.Chaos.Value}
		})
	default:
		p.tell(e, func(*Event) {})
	}
}

func (p *player) open(e scriptEvent, o *scriptOpen) {
	request := &wire.Request{Method: o.Method, URI: "/lab/s/" + strings.TrimPrefix(o.Path, "/"), Proto: "HTTP/1.1", Host: "localhost", Header: make(http.Header)}
	if request.Method == "" {
		request.Method = "GET"
	}
	response := &wire.Response{Status: o.Status, Header: make(http.Header)}
	if response.Status == 0 {
		response.Status = http.StatusSwitchingProtocols
	}
	if !o.Bare {
		for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
			request.Header.Set(name, value)
		}
	}
	for name, value := range o.Header {
		request.Header.Set(name, value)
		if value == "" {
			request.Header.Del(name)
		}
	}
	for name, value := range o.Answer {
		response.Header.Set(name, value)
	}
	conn := &playerConn{chosen: response.Header.Get("Sec-WebSocket-Protocol")}
	for d := range conn.flows {
		f := &conn.flows[d]
		f.assembler = wire.NewAssembler(wire.Direction(d), wire.AgreedDeflate(response.Header), 128<<10)
		f.mqtt = wire.MQTTDecoder{Limit: 128 << 10, Level: 4}
	}
	p.conns[e.Conn] = conn
	p.tell(e, func(event *Event) { event.Request = request })
	p.tell(e, func(event *Event) { event.Response = response })
}

var opcodeNumbers = map[string]wire.Opcode{"continuation": 0, "text": 1, "binary": 2, "close": 8, "ping": 9, "pong": 10}

func (p *player) frame(e scriptEvent, f *scriptFrame) {
	p.t.Helper()
	conn := p.conns[e.Conn]
	if conn == nil {
		p.t.Fatalf("a frame on connection %d, which is not open", e.Conn)
	}
	d := wire.ToServer
	if f.Dir == "s2c" {
		d = wire.ToClient
	}
	payload := []byte(f.Text)
	if f.Hex != "" {
		b, err := parseHex(f.Hex)
		if err != nil {
			p.t.Fatal(err)
		}
		payload = b
	}
	if f.Times > 0 {
		payload = bytes.Repeat(payload, f.Times)
	}
	if f.Deflate {
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, flate.BestCompression)
		_, _ = w.Write(payload)
		_ = w.Flush()
		payload = bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
	}
	opcode, ok := opcodeNumbers[f.Opcode]
	if !ok {
		p.t.Fatalf("opcode %q is not known", f.Opcode)
	}
	frame := wire.NewFrame(!f.Part, opcode, payload)
	frame.RSV1 = f.RSV1 || f.Deflate
	if f.Form > 0 {
		frame.Form = wire.LengthForm(f.Form)
	}
	if f.Claims > 0 {
		frame.Length = uint64(f.Claims)
		frame.Form = wire.Length64
	}
	if d == wire.ToServer && !f.Unmasked {
		frame = frame.Mask([4]byte{1, 2, 3, 4})
	}
	flow := &conn.flows[d]
	var broken []wire.Problem
	var messages []*wire.Message
	for part := range flow.decoder.Parts(frame.Append(nil)) {
		problems, message := flow.assembler.Add(part)
		broken = append(broken, problems...)
		if message != nil {
			messages = append(messages, message)
		}
	}
	p.tell(e, func(event *Event) {
		event.Frame = &wire.FrameEvent{Direction: d, Frame: frame, Received: uint64(len(payload)), Problems: broken}
	})
	for _, m := range messages {
		if len(m.Problems) == 0 {
			if m.Opcode == wire.Text {
				m.GraphQL = wire.ParseGraphQL(conn.chosen, d, m.Data)
			} else if conn.chosen == "mqtt" {
				m.MQTT = flow.mqtt.Write(m.Data)
			}
		}
		p.tell(e, func(event *Event) { event.Message = &wire.MessageEvent{Direction: d, Message: *m} })
	}
}

// want is what a vector expects of a step.
type want struct {
	State  State
	Ticked *wantTick
	Miss   *wantMiss
}

type wantTick struct {
	At      timeNode    `json:"at,omitzero"`
	Events  []wantPlace `json:"events,omitzero"`
	Because Text        `json:"because,omitzero"`
}

type wantPlace struct {
	Seq   int `json:"seq"`
	Conn  int `json:"conn,omitzero"`
	Frame int `json:"frame,omitzero"`
}

type wantMiss struct {
	Seq      int  `json:"seq"`
	Conn     int  `json:"conn,omitzero"`
	Frame    int  `json:"frame,omitzero"`
	Saw      Text `json:"saw,omitzero"`
	Wanted   Text `json:"wanted,omitzero"`
	Sentence Text `json:"sentence"`
}

func (w *want) bind(n *node) error {
	if _, ok := n.value.(string); ok {
		err := bind(n, (*string)(&w.State))
		if w.State != Open && w.State != Ticked {
			return faultf(n.at, `wanted is "open", "ticked", or an object with "ticked" or "miss"`)
		}
		return err
	}
	var object struct {
		Ticked *wantTick `json:"ticked,omitzero"`
		Miss   *wantMiss `json:"miss,omitzero"`
	}
	err := bind(n, &object)
	w.Ticked, w.Miss, w.State = object.Ticked, object.Miss, Open
	if w.Ticked != nil {
		w.State = Ticked
	}
	return err
}

// told is a verdict as JSON of a vector, to be compared, or pasted into one.
func told(v Verdict) string {
	place := func(p Place) string {
		s := fmt.Sprintf(`"seq": %d`, p.Seq)
		if p.Conn > 0 {
			s += fmt.Sprintf(`, "conn": %d`, p.Conn)
		}
		if p.Frame > 0 {
			s += fmt.Sprintf(`, "frame": %d`, p.Frame)
		}
		return s
	}
	both := func(t Text) string { return fmt.Sprintf(`{"en": %s, "ja": %s}`, quoted(t.EN), quoted(t.JA)) }
	switch {
	case v.Tick != nil:
		var places []string
		for _, p := range v.Tick.Events {
			places = append(places, "{"+place(p)+"}")
		}
		return fmt.Sprintf(`{"ticked": {"at": "%v", "events": [%s], "because": %s}}`, v.Tick.At.Sub(scriptStart), strings.Join(places, ", "), both(v.Tick.Because))
	case v.Miss != nil && v.Miss.Saw != none:
		return fmt.Sprintf(`{"miss": {%s, "saw": %s, "wanted": %s, "sentence": %s}}`, place(v.Miss.Place), both(v.Miss.Saw), both(v.Miss.Wanted), both(v.Miss.Sentence))
	case v.Miss != nil:
		return fmt.Sprintf(`{"miss": {%s, "sentence": %s}}`, place(v.Miss.Place), both(v.Miss.Sentence))
	}
	return `"open"`
}

func quoted(s string) string { return compact(s) }

// meets reports whether a verdict is what a vector wants, as far as it says.
func (w *want) meets(v Verdict) bool {
	if v.State != w.State || w.Miss == nil && v.Miss != nil {
		return false
	}
	same := func(p Place, seq, conn, frame int) bool {
		return p == Place{uint64(seq), uint64(conn), frame}
	}
	said := func(got, wanted Text) bool { return wanted == none || got == wanted }
	switch {
	case w.Ticked != nil:
		for i, p := range w.Ticked.Events {
			if i >= len(v.Tick.Events) || !same(v.Tick.Events[i], p.Seq, p.Conn, p.Frame) {
				return false
			}
		}
		return said(v.Tick.Because, w.Ticked.Because) && (w.Ticked.At.at == 0 || v.Tick.At.Equal(scriptStart.Add(w.Ticked.At.d)))
	case w.Miss != nil:
		return v.Miss != nil && same(v.Miss.Place, w.Miss.Seq, w.Miss.Conn, w.Miss.Frame) &&
			said(v.Miss.Saw, w.Miss.Saw) && said(v.Miss.Wanted, w.Miss.Wanted) && v.Miss.Sentence == w.Miss.Sentence
	}
	return true
}
