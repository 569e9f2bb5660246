package wire

import (
	"encoding/json"
	"slices"
)

// The two GraphQL subprotocols.
const (
	GraphQLTransportWS = "graphql-transport-ws"
	GraphQLWS          = "graphql-ws" // the legacy one
)

// graphqlTypes lists what each side may send.
var graphqlTypes = map[string][2][]string{
	GraphQLTransportWS: {
		ToServer: {"connection_init", "ping", "pong", "subscribe", "complete"},
		ToClient: {"connection_ack", "ping", "pong", "next", "error", "complete"},
	},
	GraphQLWS: {
		ToServer: {"connection_init", "start", "stop", "connection_terminate"},
		ToClient: {"connection_ack", "connection_error", "ka", "data", "error", "complete"},
	},
}

// GraphQL is a message of a GraphQL subprotocol.
type GraphQL struct {
	Type    string
	ID      string          // of the operation; empty: none
	Payload json.RawMessage // nil: none
	Known   bool            // the subprotocol has this type in this direction
}

// ParseGraphQL reads a text message; nil: the subprotocol is not one of the two,
// or this is not a JSON object whose type is a string.
func ParseGraphQL(subprotocol string, d Direction, text []byte) *GraphQL {
	types, ok := graphqlTypes[subprotocol]
	if !ok {
		return nil
	}
	var m struct {
		Type    *string         `json:"type"`
		ID      string          `json:"id"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(text, &m); err != nil || m.Type == nil {
		return nil
	}
	return &GraphQL{Type: *m.Type, ID: m.ID, Payload: m.Payload, Known: slices.Contains(types[d], *m.Type)}
}
