package gqlws

import (
	"encoding/json"
	"maps"
	"testing"
)

// Messages are taken apart as encoding/json does it.
func FuzzMembers(f *testing.F) {
	for _, text := range []string{
		`{"id":"1","type":"subscribe","payload":{"query":"{ a(b: \"}\") }"}}`,
		` { "a" : [1, {"b": "]\\"}, [] ] , "a" :null,"":-1.5e3 } `,
		`{"\u0074ype":"a\ud800b","t":true}`, "{\"\xff\":\"\xff\"}",
		`{}`, ` null `, `[]`, `"a"`, `{"a":}`, `{"a":1`, `{"a":1}}`, ``,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want map[string]json.RawMessage
		failed := json.Unmarshal(text, &want)
		got := make(map[string]json.RawMessage)
		if err := eachMember(text, func(name string, value json.RawMessage) { got[name] = value }); (err == nil) != (failed == nil) {
			t.Fatalf("%q: %v, but encoding/json says %v", text, err, failed)
		}
		if failed == nil && !maps.EqualFunc(got, want, func(a, b json.RawMessage) bool { return string(a) == string(b) }) {
			t.Errorf("%q has the members %q, but encoding/json finds %q", text, got, want)
		}
	})
}
