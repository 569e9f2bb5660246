// Package model holds the Go types of the GraphQL schema: those that gqlgen
// writes and those that say more than a struct of fields.
package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/99designs/gqlgen/graphql"
)

// dateTimeLayout is RFC 3339 in UTC with exactly three digits of milliseconds,
// so that values sort as text.
const dateTimeLayout = "2006-01-02T15:04:05.000Z"

// MarshalDateTime writes the scalar DateTime.
func MarshalDateTime(t time.Time) graphql.Marshaler {
	return graphql.WriterFunc(func(w io.Writer) {
		b := make([]byte, 0, len(dateTimeLayout)+2)
		b = append(b, '"')
		b = t.UTC().AppendFormat(b, dateTimeLayout)
		_, _ = w.Write(append(b, '"'))
	})
}

// UnmarshalDateTime reads the scalar DateTime: any RFC 3339 time.
func UnmarshalDateTime(v any) (time.Time, error) {
	s, ok := v.(string)
	if !ok {
		return time.Time{}, fmt.Errorf("DateTime must be a string such as %q, not %T", dateTimeLayout, v)
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("DateTime %q is not RFC 3339, such as %q", s, dateTimeLayout)
	}
	return t, nil
}

// JSON is a JSON text that goes out as it is.
type JSON []byte

// MarshalJSON of the scalar JSON writes the text, or null where there is none.
func MarshalJSON(j JSON) graphql.Marshaler {
	if j == nil {
		return graphql.Null
	}
	return graphql.WriterFunc(func(w io.Writer) { _, _ = w.Write(j) })
}

// UnmarshalJSON of the scalar JSON takes any value.
func UnmarshalJSON(v any) (JSON, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, errors.New("JSON value could not be read")
	}
	return b, nil
}

// Decoded is the value as encoding/json decodes it; nil for none.
func (j JSON) Decoded() any {
	var value any
	if json.Unmarshal(j, &value) != nil { // there is none
		return nil
	}
	return value
}

// maxJSONDepth is how deep a payload may be nested: far deeper than people
// write, and shallow enough for every client's parser once it is in a result.
const maxJSONDepth = 500

// parseJSON returns the payload as compact JSON, or nil when it is not JSON or
// too deep. It is checked here because gqlgen writes what it gets: a publisher
// must never be able to break the answer that carries its payload.
func parseJSON(payload []byte) JSON {
	if tooDeep(payload) {
		return nil
	}
	var out bytes.Buffer
	out.Grow(len(payload))
	if json.Compact(&out, payload) != nil {
		return nil
	}
	return out.Bytes()
}

// tooDeep counts brackets outside of strings. What is not JSON may be counted
// wrongly, which is no matter.
func tooDeep(payload []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(payload); i++ {
		switch c := payload[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			if depth++; depth > maxJSONDepth {
				return true
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return false
}
