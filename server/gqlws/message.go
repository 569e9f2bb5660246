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
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return message{}, errors.New("Message is not a JSON object")
	}
	var m message
	if err := stringMember(members, "type", &m.kind); err != nil {
		return m, err
	}
	if m.kind == "" {
		return m, errors.New(`Message has no "type"`)
	}
	if err := stringMember(members, "id", &m.id); err != nil {
		return m, err
	}
	if len(m.id) > maxID {
		return message{}, fmt.Errorf("\"id\" has %d bytes: at most %d are accepted", len(m.id), maxID)
	}
	if raw := members["payload"]; !isNull(raw) {
		m.payload = raw
	}
	return m, nil
}

func stringMember(members map[string]json.RawMessage, name string, to *string) error {
	raw := members[name]
	if isNull(raw) {
		return nil
	}
	if raw[0] != '"' {
		return fmt.Errorf("%q must be a string", name)
	}
	return json.Unmarshal(raw, to)
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
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		return nil, errors.New("the request is not one JSON object")
	}
	p := &graphql.RawParams{}
	if raw := members["query"]; isNull(raw) || raw[0] != '"' {
		return nil, errors.New(`"query" must be a string`)
	}
	if err := errors.Join(
		stringMember(members, "query", &p.Query),
		stringMember(members, "operationName", &p.OperationName),
		objectMember(members, "variables", &p.Variables),
		objectMember(members, "extensions", &p.Extensions),
	); err != nil {
		return nil, err
	}
	return p, nil
}

func objectMember(members map[string]json.RawMessage, name string, to *map[string]any) error {
	raw := members[name]
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
