package gqlws

import (
	"encoding/json"
	"fmt"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// protocol is the server's side of one subprotocol: pure rules without a
// socket, a clock or a goroutine. A value belongs to one connection.
type protocol interface {
	// step takes one message of the client and says what to do. active tells
	// whether an id belongs to an operation that is running.
	step(text []byte, active func(id string) bool) step
	// acknowledge is the answer to an accepted connection_init.
	acknowledge(ack map[string]any) [][]byte
	// refuse is what to say before closing on a refused connection_init; may be nil.
	refuse(reason string) []byte
	// resultHead begins the frame of a result of an operation.
	resultHead(id string) []byte
	// failure refuses an operation that was not executed.
	failure(id string, errs gqlerror.List) []byte
	// ending ends an operation whose execution failed.
	ending(id string, errs gqlerror.List) [][]byte
	// complete ends an operation.
	complete(id string) []byte
	// keepAlive is a message to be sent now and then; may be nil.
	keepAlive() []byte
}

// step is what one message leads to. The parts that are set are done in the
// order of the fields.
type step struct {
	init  bool               // ask Config.Init about payload, then acknowledge or refuse
	stop  string             // end the operation of this id, if there is one
	start *graphql.RawParams // start this operation …
	id    string             // … under this id
	send  []byte             // reply; to a stop only if it ended something
	end   *Ending            // close the socket

	payload json.RawMessage // of connection_init
}

func newProtocol(token string) protocol {
	if token == LegacyWS {
		return &legacy{}
	}
	return &modern{}
}

// modern is graphql-transport-ws. Quotations are of its PROTOCOL.md.
type modern struct {
	initialised bool
}

func (p *modern) step(text []byte, active func(string) bool) step {
	m, err := parseMessage(text)
	if err != nil {
		return invalid(err)
	}
	switch m.kind {
	case "connection_init":
		// "If the server receives more than one ConnectionInit message at any
		// given time, the server will close the socket with the event 4429"
		if p.initialised {
			return step{end: &SecondInit}
		}
		if err := m.requireObjectOrNothing(); err != nil {
			return invalid(err)
		}
		p.initialised = true
		return step{init: true, payload: m.payload}
	case "ping":
		if err := m.requireObjectOrNothing(); err != nil {
			return invalid(err)
		}
		if m.payload == nil {
			return step{send: []byte(`{"type":"pong"}`)}
		}
		return step{send: encode("pong", "", m.payload)}
	case "pong":
		// "may even be sent unsolicited as an unidirectional heartbeat"
		if err := m.requireObjectOrNothing(); err != nil {
			return invalid(err)
		}
		return step{}
	case "subscribe":
		return p.subscribe(m, active)
	case "complete":
		// "It is permissable to simply ignore all unknown IDs"
		if err := m.requireID(); err != nil {
			return invalid(err)
		}
		return step{stop: m.id}
	}
	return invalid(fmt.Errorf("Message type %q is not one that a client sends", cut(m.kind, 40)))
}

func (p *modern) subscribe(m message, active func(string) bool) step {
	if err := m.requireID(); err != nil {
		return invalid(err)
	}
	params, err := m.params()
	if err != nil {
		return invalid(err)
	}
	if !p.initialised {
		return step{end: &Unauthorized}
	}
	if active(m.id) {
		return step{end: DuplicateID.because(fmt.Sprintf("Subscriber for %s already exists", m.id))}
	}
	return step{start: params, id: m.id}
}

func invalid(err error) step { return step{end: InvalidMessage.because(err.Error())} }

func (p *modern) acknowledge(ack map[string]any) [][]byte {
	return [][]byte{acknowledgement(ack)}
}

func (p *modern) refuse(string) []byte        { return nil } // the Close frame says it
func (p *modern) resultHead(id string) []byte { return resultHead("next", id) }
func (p *modern) failure(id string, errs gqlerror.List) []byte {
	return encode("error", id, errs)
}

func (p *modern) ending(id string, errs gqlerror.List) [][]byte {
	return [][]byte{p.failure(id, errs)}
}
func (p *modern) complete(id string) []byte { return encode("complete", id, nil) }
func (p *modern) keepAlive() []byte         { return nil } // WebSocket pings do

// legacy is graphql-ws, the protocol of subscriptions-transport-ws. Where its
// document is silent, it does what that package's server does.
type legacy struct {
	initialised bool
}

func (p *legacy) step(text []byte, active func(string) bool) step {
	m, err := parseMessage(text)
	if err != nil {
		// "in case of a parsing errors of the message (which does not
		// disconnect the client, just ignore the message)"
		return step{send: connectionError(err.Error())}
	}
	switch m.kind {
	case "connection_init":
		// That package's server acknowledges each one, so some clients repeat it.
		p.initialised = true
		return step{init: true, payload: m.payload}
	case "start":
		return p.start(m, active)
	case "stop":
		if !active(m.id) {
			return step{}
		}
		return step{stop: m.id, send: p.complete(m.id)}
	case "connection_terminate":
		return step{end: &Normal}
	}
	return p.fail(m.id, "Invalid message type! Sent may be connection_init, start, stop, connection_terminate.")
}

func (p *legacy) start(m message, active func(string) bool) step {
	if m.id == "" {
		return step{send: connectionError(m.requireID().Error())}
	}
	params, err := m.params()
	if err != nil {
		return p.fail(m.id, err.Error())
	}
	if !p.initialised {
		return p.fail(m.id, "Send connection_init first.")
	}
	next := step{start: params, id: m.id}
	if active(m.id) {
		next.stop = m.id // the new operation replaces the old one
	}
	return next
}

func (p *legacy) fail(id, text string) step {
	return step{send: p.failure(id, gqlerror.List{{Message: text}})}
}

func (p *legacy) acknowledge(ack map[string]any) [][]byte {
	// GQL_CONNECTION_KEEP_ALIVE "should be sent right after each GQL_CONNECTION_ACK"
	return [][]byte{acknowledgement(ack), p.keepAlive()}
}

func (p *legacy) refuse(reason string) []byte { return connectionError(reason) }
func (p *legacy) resultHead(id string) []byte { return resultHead("data", id) }
func (p *legacy) failure(id string, errs gqlerror.List) []byte {
	return encode("error", id, legacyError(errs))
}

// ending sends a result, because "resolver errors are part of GQL_DATA message":
// Apollo Client shows nothing of what it finds in an error message.
func (p *legacy) ending(id string, errs gqlerror.List) [][]byte {
	result := struct {
		Data   any           `json:"data"`
		Errors gqlerror.List `json:"errors"`
	}{nil, errs}
	return [][]byte{encode("data", id, result), p.complete(id)}
}
func (p *legacy) complete(id string) []byte { return encode("complete", id, nil) }
func (p *legacy) keepAlive() []byte         { return []byte(`{"type":"ka"}`) }

func acknowledgement(ack map[string]any) []byte {
	if ack == nil {
		return []byte(`{"type":"connection_ack"}`)
	}
	return encode("connection_ack", "", ack)
}

func connectionError(text string) []byte {
	return encode("connection_error", "", map[string]string{"message": text})
}
