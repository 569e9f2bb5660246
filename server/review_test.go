package server

import (
	"strings"
	"testing"
)

// A cursor of any JSON type is one or is refused, never taken for none: the
// client would miss messages without being told.
func TestCursorThatIsNoTextIsRefused(t *testing.T) {
	g := start(t)
	for _, payload := range []string{
		`{"query":"subscription { messageUpdates(after: 5) { content } }"}`,
		`{"query":"subscription { messageUpdates(after: [\"x\"]) { content } }"}`,
		`{"query":"subscription S($c: Cursor) { messageUpdates(after: $c) { content } }","variables":{"c":5}}`,
		`{"query":"subscription S($c: Cursor) { messageUpdates(after: $c) { content } }","variables":{"c":false}}`,
		`{"query":"subscription S($c: Cursor) { messageUpdates(after: $c) { content } }","variables":{"c":{"x":[1]}}}`,
	} {
		s := g.socket(t)
		s.send(`{"id":"1","type":"subscribe","payload":` + payload + `}`)
		if got := s.read(); !strings.Contains(got, "CURSOR_INVALID") {
			t.Errorf("%s was answered with %s", payload, got)
		}
	}
}
