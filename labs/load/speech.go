package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/gorilla/websocket"
)

// speech is a protocol as a client speaks it: pure functions of a plan.
type speech struct {
	plan    Plan
	start   string // the type that starts an operation
	event   string // the type of its results
	request []byte // GraphQL: the document and its variables
}

func newSpeech(p Plan) speech {
	s := speech{plan: p, start: "subscribe", event: "next"}
	if p.Protocol == LegacyWS {
		s.start, s.event = "start", "data"
	}
	if p.Protocol != Raw {
		s.request, _ = json.Marshal(struct { // which text and checked JSON cannot fail
			Query     string          `json:"query"`
			Variables json.RawMessage `json:"variables,omitempty"`
		}{p.Operation, p.Variables})
	}
	return s
}

func (s speech) subprotocols() []string {
	if s.plan.Protocol == Raw {
		return nil
	}
	return []string{string(s.plan.Protocol)}
}

// kind is that of all messages that are sent.
func (s speech) kind() int {
	if s.plan.Protocol == Raw && s.plan.Binary {
		return websocket.BinaryMessage
	}
	return websocket.TextMessage
}

// message is what carries a stamp: a message, or an operation with the stamp as
// its id, which all its answers have.
func (s speech) message(b []byte, st stamp) []byte {
	if s.plan.Protocol == Raw {
		return st.append(b, s.plan.Size)
	}
	b = append(b, `{"id":"`...)
	b = st.append(b, stampBytes)
	b = fmt.Appendf(b, `","type":%q,"payload":`, s.start)
	return append(append(b, s.request...), '}')
}

// What a message from the server is.
type heard int

const (
	noise    heard = iota // of no interest
	answer                // to an operation, or an echo
	event                 // came by itself
	failure               // an error instead of an answer
	complete              // the end of an operation
	greeting              // the server is ready
	ping                  // is to be answered
)

// word is a message from the server.
type word struct {
	heard heard
	id    []byte // or the whole message: what holds the stamp
	data  []byte // what an event says
	wrong string // GraphQL errors
}

// understand takes a message apart.
func (s speech) understand(message []byte) word {
	if s.plan.Protocol == Raw {
		if s.plan.Loop == Listen {
			return word{heard: event, data: message}
		}
		return word{heard: answer, id: message}
	}
	var envelope struct {
		ID, Type string
		Payload  json.RawMessage
	}
	if json.Unmarshal(message, &envelope) != nil {
		return word{heard: noise}
	}
	w := word{id: []byte(envelope.ID), data: envelope.Payload}
	switch envelope.Type {
	case s.event:
		w.heard = answer
		if s.plan.Loop == Listen {
			w.heard = event
		}
		w.wrong = resultErrors(envelope.Payload)
	case "error", "connection_error":
		w.heard, w.wrong = failure, errorText(envelope.Payload)
	case "complete":
		w.heard = complete
	case "connection_ack":
		w.heard = greeting
	case "ping":
		w.heard = ping
	}
	return w
}

// resultErrors is the first error of a result.
func resultErrors(payload []byte) string {
	if !bytes.Contains(payload, []byte(`"errors"`)) {
		return ""
	}
	var result struct{ Errors json.RawMessage }
	if json.Unmarshal(payload, &result) != nil || len(result.Errors) == 0 {
		return ""
	}
	return errorText(result.Errors)
}

// errorText is the message of an error, or of the first of a list.
func errorText(payload []byte) string {
	type graphQLError struct{ Message string }
	var list []graphQLError
	var one graphQLError
	if json.Unmarshal(payload, &list) == nil && len(list) > 0 {
		one = list[0]
	} else if json.Unmarshal(payload, &one) != nil || one.Message == "" {
		return "a GraphQL error without a message"
	}
	const most = 200
	return string(slices.Clip([]byte(one.Message)[:min(most, len(one.Message))]))
}
