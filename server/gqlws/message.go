package gqlws

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// message is one message of either subprotocol. Names are matched exactly,
// which is why it is not decoded into a struct: encoding/json ignores case.
type message struct {
	kind    string
	id      string
	payload json.RawMessage // nil when absent or null
}

// maxID is how long the id of an operation may be, in bytes. It is kept for as
// long as the operation runs, and written before each of its results.
const maxID = 1024

// parseMessage reads a message of either subprotocol. Members that the
// protocols do not name are ignored.
func parseMessage(text []byte) (message, error) {
	var m message
	var kind, id json.RawMessage
	err := eachMember(text, func(name string, value json.RawMessage) {
		switch name {
		case "type":
			kind = value
		case "id":
			id = value
		case "payload":
			m.payload = value
		}
	})
	if err != nil {
		return message{}, errors.New("Message is not a JSON object")
	}
	if isNull(m.payload) {
		m.payload = nil
	}
	if err := readString("type", kind, &m.kind); err != nil {
		return m, err
	}
	if m.kind == "" {
		return m, errors.New(`Message has no "type"`)
	}
	if err := readString("id", id, &m.id); err != nil {
		return m, err
	}
	if len(m.id) > maxID {
		return message{}, fmt.Errorf("\"id\" has %d bytes: at most %d are accepted", len(m.id), maxID)
	}
	return m, nil
}

// readString reads a member that is a string, or null, or absent.
func readString(name string, raw json.RawMessage, to *string) (err error) {
	if isNull(raw) {
		return nil
	}
	if raw[0] != '"' {
		return fmt.Errorf("%q must be a string", name)
	}
	*to, err = unquote(raw)
	return err
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func isObject(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '{' }

// requireObjectOrNothing checks the payload of the messages that may carry an
// object: connection_init, ping, pong.
func (m message) requireObjectOrNothing() error {
	if m.payload != nil && !isObject(m.payload) {
		return fmt.Errorf("Payload of %q must be an object", m.kind)
	}
	return nil
}

func (m message) requireID() error {
	if m.id == "" {
		return fmt.Errorf("Message of type %q needs an \"id\" that is a string of at least one character", m.kind)
	}
	return nil
}

// params reads the payload of a subscribe or start message.
func (m message) params() (*graphql.RawParams, error) {
	if !isObject(m.payload) {
		return nil, fmt.Errorf("Payload of %q must be an object with a \"query\"", m.kind)
	}
	return ParseParams(m.payload)
}

// ParseParams reads the JSON object of a request: "query", "operationName",
// "variables", "extensions", named exactly so. Its errors repeat nothing of the
// text.
func ParseParams(object []byte) (*graphql.RawParams, error) {
	var query, operationName, variables, extensions json.RawMessage
	err := eachMember(object, func(name string, value json.RawMessage) {
		switch name {
		case "query":
			query = value
		case "operationName":
			operationName = value
		case "variables":
			variables = value
		case "extensions":
			extensions = value
		}
	})
	if err != nil {
		return nil, errors.New("the request is not one JSON object")
	}
	p := &graphql.RawParams{}
	if isNull(query) || query[0] != '"' {
		return nil, errors.New(`"query" must be a string`)
	}
	if err := errors.Join(
		readString("query", query, &p.Query),
		readString("operationName", operationName, &p.OperationName),
		readObject("variables", variables, &p.Variables),
		readObject("extensions", extensions, &p.Extensions),
	); err != nil {
		return nil, err
	}
	return p, nil
}

func readObject(name string, raw json.RawMessage, to *map[string]any) error {
	if isNull(raw) {
		return nil
	}
	if !isObject(raw) {
		return fmt.Errorf("%q must be an object", name)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // 64-bit integers keep their digits
	return dec.Decode(to)
}

// encode writes a message. Strings and errors always marshal.
func encode(kind, id string, payload any) []byte {
	b, err := json.Marshal(struct {
		ID      string `json:"id,omitempty"`
		Type    string `json:"type"`
		Payload any    `json:"payload,omitempty"`
	}{id, kind, payload})
	if err != nil { // only an error's extensions could do this
		b, _ = json.Marshal(map[string]string{"id": id, "type": kind})
	}
	return b
}

// resultHead is the part of a result's frame that comes before the result.
func resultHead(kind, id string) []byte {
	quoted, _ := json.Marshal(id)
	return fmt.Appendf(nil, `{"id":%s,"type":%q,"payload":`, quoted, kind)
}

// legacyError is the payload of the older protocol's error: one error object,
// and all of them under "errors" when there are several, where the old client
// looks first.
func legacyError(errs gqlerror.List) any {
	if len(errs) == 1 {
		return errs[0]
	}
	return map[string]any{"message": errs[0].Message, "errors": errs}
}
