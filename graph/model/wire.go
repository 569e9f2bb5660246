package model

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/wire"
)

// WireEvent is something that the servers of a lab session saw.
type WireEvent interface{ IsWireEvent() }

// NewWireEvent makes one of the types below. cursor names its number.
func NewWireEvent(e wire.Event, cursor func(number uint64) string) WireEvent {
	at := wireEvent{event: e, cursor: cursor}
	switch {
	case e.Request != nil:
		return WireRequest{at, e.Request}
	case e.Response != nil:
		return WireResponse{at, e.Response}
	case e.Frame != nil:
		return WireFrame{at, e.Frame}
	case e.Message != nil:
		return WireMessage{at, e.Message}
	case e.Close != nil:
		return WireClose{at, *e.Close}
	}
	return WireEnd{at, *e.End}
}

// wireEvent is what all have.
type wireEvent struct {
	event  wire.Event
	cursor func(number uint64) string
}

// IsWireEvent implements WireEvent.
func (wireEvent) IsWireEvent() {}

func (e wireEvent) Cursor() string  { return e.cursor(e.event.Seq) }
func (e wireEvent) Number() int     { return int(e.event.Seq) }
func (e wireEvent) Connection() int { return int(e.event.Conn) }
func (e wireEvent) At() time.Time   { return e.event.At }

// WireRequest is an HTTP request.
type WireRequest struct {
	wireEvent
	request *wire.Request
}

func (e WireRequest) Method() string        { return e.request.Method }
func (e WireRequest) URI() string           { return e.request.URI }
func (e WireRequest) Protocol() string      { return e.request.Proto }
func (e WireRequest) Host() string          { return e.request.Host }
func (e WireRequest) Headers() []WireHeader { return headers(e.request.Header) }

// WireResponse is the answer to one.
type WireResponse struct {
	wireEvent
	response *wire.Response
}

func (e WireResponse) Status() int           { return e.response.Status }
func (e WireResponse) Headers() []WireHeader { return headers(e.response.Header) }

func headers(h http.Header) []WireHeader {
	list := make([]WireHeader, 0, len(h))
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[name] {
			list = append(list, WireHeader{Name: name, Value: strings.ToValidUTF8(value, "\uFFFD")})
		}
	}
	return list
}

// WireFrame is a frame.
type WireFrame struct {
	wireEvent
	frame *wire.FrameEvent
}

func (e WireFrame) Direction() wire.Direction { return e.frame.Direction }
func (e WireFrame) Fin() bool                 { return e.frame.FIN }
func (e WireFrame) Rsv1() bool                { return e.frame.RSV1 }
func (e WireFrame) Rsv2() bool                { return e.frame.RSV2 }
func (e WireFrame) Rsv3() bool                { return e.frame.RSV3 }
func (e WireFrame) Opcode() int               { return int(e.frame.Opcode) }
func (e WireFrame) Kind() string              { return e.frame.Opcode.String() }
func (e WireFrame) Masked() bool              { return e.frame.Masked }
func (e WireFrame) LengthForm() int           { return int(e.frame.Form) }
func (e WireFrame) Length() string            { return strconv.FormatUint(e.frame.Length, 10) }
func (e WireFrame) Received() string          { return strconv.FormatUint(e.frame.Received, 10) }
func (e WireFrame) Payload() WireBytes        { return WireBytes{e.frame.Payload} }
func (e WireFrame) Fields() []wire.Field      { return e.frame.Fields() }
func (e WireFrame) Problems() []WireProblem   { return problems(e.frame.Problems) }

// WireMessage is a data message.
type WireMessage struct {
	wireEvent
	message *wire.MessageEvent
}

func (e WireMessage) Direction() wire.Direction { return e.message.Direction }
func (e WireMessage) Text() bool                { return e.message.Opcode == wire.Text }
func (e WireMessage) Size() int                 { return int(e.message.Size) }
func (e WireMessage) WireSize() int             { return int(e.message.WireSize) }
func (e WireMessage) Fragments() int            { return e.message.Fragments }
func (e WireMessage) Compressed() bool          { return e.message.Compressed }
func (e WireMessage) Payload() WireBytes        { return WireBytes{e.message.Data} }
func (e WireMessage) Sha256() string            { return hex.EncodeToString(e.message.SHA256[:]) }
func (e WireMessage) Problems() []WireProblem   { return problems(e.message.Problems) }

// Graphql is what it says in a GraphQL subprotocol.
func (e WireMessage) Graphql() *WireGraphQL {
	m := e.message.GraphQL
	if m == nil {
		return nil
	}
	return &WireGraphQL{Type: m.Type, ID: m.ID, Known: m.Known}
}

// Mqtt is the packets that end in it.
func (e WireMessage) Mqtt() []WireMQTT {
	list := make([]WireMQTT, len(e.message.MQTT))
	for i, p := range e.message.MQTT {
		list[i] = WireMQTT{Type: p.Type.String(), Summary: p.Summary()}
	}
	return list
}

func problems(list []wire.Problem) []WireProblem {
	out := make([]WireProblem, len(list))
	for i, p := range list {
		out[i] = WireProblem{Rule: string(p.Rule), Text: p.Text, Section: p.Section, CloseCode: p.Code}
	}
	return out
}

// WireGraphQL is a message of a GraphQL subprotocol.
type WireGraphQL struct {
	Type, ID string
	Known    bool
}

// WireMQTT is an MQTT packet.
type WireMQTT struct{ Type, Summary string }

// WireClose is the closing handshake.
type WireClose struct {
	wireEvent
	close wire.CloseEvent
}

func (e WireClose) By() wire.Side  { return e.close.By }
func (e WireClose) Code() int      { return e.close.Code }
func (e WireClose) Reason() string { return strings.ToValidUTF8(e.close.Reason, "\uFFFD") }
func (e WireClose) Complete() bool { return e.close.Complete }

// WireEnd is the end of a TCP connection.
type WireEnd struct {
	wireEvent
	end wire.EndEvent
}

func (e WireEnd) By() wire.Side    { return e.end.By }
func (e WireEnd) How() wire.Ending { return e.end.How }
func (e WireEnd) BytesToServer() string {
	return strconv.FormatUint(e.end.Bytes[wire.ToServer], 10)
}

func (e WireEnd) BytesToClient() string {
	return strconv.FormatUint(e.end.Bytes[wire.ToClient], 10)
}

// WireBytes are bytes that a client sees as much of as it asks for.
type WireBytes struct{ Bytes []byte }

// maxWireBytes is how much of a payload one field may show.
const maxWireBytes = 64 << 10

func (b WireBytes) Kept() int { return len(b.Bytes) }

// Text is the first bytes as text.
func (b WireBytes) Text(first int) (string, error) {
	shown, err := b.first(first)
	return strings.ToValidUTF8(string(shown), "\uFFFD"), err
}

// Hex is the first bytes in hexadecimal.
func (b WireBytes) Hex(first int) (string, error) {
	shown, err := b.first(first)
	return hex.EncodeToString(shown), err
}

func (b WireBytes) first(n int) ([]byte, error) {
	if n < 1 || n > maxWireBytes {
		return nil, live.Errorf("ARGUMENT_OUT_OF_RANGE", "first is %d: 1 to %d is accepted.", n, maxWireBytes)
	}
	return b.Bytes[:min(n, len(b.Bytes))], nil
}

// RawFrame makes the bytes of a frame that a client wants to be played.
func RawFrame(in RawFrameInput, random [4]byte) ([]byte, error) {
	invalid := func(format string, args ...any) ([]byte, error) {
		return nil, live.Errorf("ARGUMENT_OUT_OF_RANGE", format, args...)
	}
	if in.Opcode < 0 || in.Opcode > 15 {
		return invalid("opcode is %d: it has four bits, 0 to 15.", in.Opcode)
	}
	var payload []byte
	switch {
	case in.Hex != nil && in.Text != nil:
		return invalid("A frame has text or hex, not both.")
	case in.Hex != nil:
		var err error
		if payload, err = hex.DecodeString(strings.Join(strings.Fields(*in.Hex), "")); err != nil {
			return invalid("hex is not hexadecimal: %v.", err)
		}
	case in.Text != nil:
		payload = []byte(*in.Text)
	}
	f := wire.NewFrame(in.Fin, wire.Opcode(in.Opcode), payload)
	f.RSV1, f.RSV2, f.RSV3 = in.Rsv1, in.Rsv2, in.Rsv3
	if in.LengthForm != nil {
		switch *in.LengthForm {
		case 7, 16, 64:
			f.Form = wire.LengthForm(*in.LengthForm)
		default:
			return invalid("lengthForm is %d: it is 7, 16 or 64.", *in.LengthForm)
		}
	}
	if in.Length != nil {
		if *in.Length < 0 {
			return invalid("length is %d: it is 0 or more.", *in.Length)
		}
		f.Length = uint64(*in.Length)
		if in.LengthForm == nil {
			f.Form = 0 // the shortest for what it says
		}
	}
	if in.Masked {
		if in.Key != nil {
			if n, err := hex.Decode(random[:], []byte(fmt.Sprintf("%.8s", *in.Key))); err != nil || n != 4 || len(*in.Key) != 8 {
				return invalid("key is %.20q: it is 8 hexadecimal digits.", *in.Key)
			}
		}
		f = f.Mask(random)
	}
	return f.Append(nil), nil
}
