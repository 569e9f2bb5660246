package gqlws

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/sluice-gateway/sluice/internal/live"
)

// result is one response, encoded once for all who get it.
type result struct {
	body []byte // the JSON object up to where "extensions" would stand
	more *more  // nil: the response has no extensions, and its event no position
}

// more is what a result says besides data and errors. Some of it is for those
// alone who asked, so it is written for each receiver, behind the body.
type more struct {
	others []byte    // members of "extensions" that are not ours, without braces
	gap    *live.Gap // what is missing before this event
	pos    live.Position
	kept   live.Kept // names pos; nil: the source keeps nothing
	sealed string    // the name of pos, if it was made for all
	missed uint64    // how many results this receiver has missed by its overflow policy
	ready  bool      // it tells no event, but that the stream is open, at sealed
}

// reached returns the position of the newest of results that has one, or else
// the one that was reached before: what an interceptor answers has none.
func reached(results []result, before live.Position) live.Position {
	for _, r := range slices.Backward(results) {
		if p := r.position(); p != (live.Position{}) {
			return p
		}
	}
	return before
}

// position is where the event stands; zero: nowhere.
func (r result) position() live.Position {
	if r.more == nil {
		return live.Position{}
	}
	return r.more.pos
}

// cursor names the event's position; empty: it has none.
func (m *more) cursor() string {
	switch {
	case m == nil:
		return ""
	case m.sealed != "":
		return m.sealed
	case m.kept == nil:
		return ""
	}
	return m.kept.Cursor(m.pos)
}

// appendTail closes the result, without the braces of the message around it.
func (r result) appendTail(b []byte, withCursor bool) []byte {
	if r.more == nil || !withCursor && r.more.others == nil && r.more.gap == nil && r.more.missed == 0 && !r.more.ready {
		return append(b, '}')
	}
	return r.more.append(b, withCursor)
}

// append appends the member "extensions" and closes the result.
func (m *more) append(b []byte, withCursor bool) []byte {
	ours := sluiceNotes{Ready: m.ready, Gap: m.notice()}
	if withCursor || m.ready {
		ours.Cursor = m.cursor()
	}
	b = append(b, `,"extensions":{`...)
	b = append(b, m.others...)
	if ours != (sluiceNotes{}) {
		if len(m.others) > 0 {
			b = append(b, ',')
		}
		b = append(b, `"sluice":`...)
		b = ours.append(b)
	}
	return append(b, "}}"...)
}

// sluiceNotes is extensions.sluice of a result.
type sluiceNotes struct {
	Ready  bool       `json:"ready,omitempty"`
	Cursor string     `json:"cursor,omitempty"`
	Gap    *gapNotice `json:"gap,omitempty"`
}

// append appends the notes as JSON. Most are a cursor alone, which needs no
// escapes: those are written without encoding/json.
func (n sluiceNotes) append(b []byte) []byte {
	if n != (sluiceNotes{Cursor: n.Cursor}) || !isPlain(n.Cursor) {
		return append(b, marshal(n)...)
	}
	b = append(b, `{"cursor":"`...)
	b = append(b, n.Cursor...)
	return append(b, `"}`...)
}

// isPlain reports whether a text is the same within a JSON string.
func isPlain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

// gapNotice is extensions.sluice.gap: what is missing before this event.
type gapNotice struct {
	Reason   live.GapReason `json:"reason"`
	Missed   uint64         `json:"missed,omitempty"`
	LastGood string         `json:"lastGood,omitempty"`
}

func (m *more) notice() *gapNotice {
	gap := m.gap
	if m.missed > 0 {
		gap = gap.Merge(live.Gap{Reason: live.GapOverflow, Missed: m.missed})
	}
	if gap == nil {
		return nil
	}
	notice := &gapNotice{Reason: gap.Reason, Missed: gap.Missed}
	if !gap.LastGood.IsZero() {
		notice.LastGood = gap.LastGood.UTC().Format(dateTime)
	}
	return notice
}

// dateTime is RFC 3339 with milliseconds.
const dateTime = "2006-01-02T15:04:05.000Z07:00"

// missing returns a result that says, too, that others before it were dropped
// for this receiver.
func (r result) missing(n uint64) result {
	m := more{missed: n}
	if r.more != nil {
		m = *r.more
		m.missed += n
	}
	r.more = &m
	return r
}

// readyResult tells who asked for it that its stream is open.
func readyResult(cursor string) result {
	return result{body: []byte(`{"data":null`), more: &more{ready: true, sealed: cursor}}
}

// EncodeResponse writes a response as JSON, the same as over WebSocket: text is
// valid UTF-8, and data larger than limit becomes an error. "data" is left out
// when nothing was executed ("If the request error was raised, the data entry
// must not be present", GraphQL specification, section 7.1).
func EncodeResponse(response *graphql.Response, limit int) []byte {
	if response.Data == nil && len(response.Errors) > 0 {
		return encodeErrors(response)
	}
	r := encodeResult(response, limit)
	return r.appendTail(r.body, false)
}

func encodeErrors(response *graphql.Response) []byte {
	b, err := json.Marshal(struct {
		Errors     gqlerror.List  `json:"errors"`
		Extensions map[string]any `json:"extensions,omitempty"`
	}{response.Errors, response.Extensions})
	if err != nil { // only an extension could do this
		return []byte(`{"errors":[{"message":"The errors could not be written as JSON. (INTERNAL)","extensions":{"code":"INTERNAL"}}]}`)
	}
	return b
}

// encodeResult writes a response. gqlgen reuses the memory of response.Data for the
// next event, so the bytes are copied here. Data larger than limit becomes an
// error.
func encodeResult(response *graphql.Response, limit int) result {
	data, errs := response.Data, response.Errors
	if len(data) > limit {
		errs = gqlerror.List{{
			Message:    fmt.Sprintf("The result has %d bytes, more than the %d that are accepted: select fewer fields. (PAYLOAD_TOO_LARGE)", len(data), limit),
			Extensions: map[string]any{"code": "PAYLOAD_TOO_LARGE"},
		}}
		data = nil
	}
	if data == nil {
		data = []byte("null")
	}
	b := make([]byte, 0, len(`{"data":`)+len(data)+len(`}`))
	b = append(b, `{"data":`...)
	b = append(b, data...)
	if len(errs) > 0 {
		b = appendMember(b, "errors", errs)
	}
	r := result{body: valid(b)}
	if others := members(response.Extensions); others != nil {
		r.more = &more{others: valid(others)}
	}
	return r
}

// valid is b with what is not UTF-8 replaced: gqlgen passes on what a resolver
// returned, and a browser would close the socket for it (RFC 6455, section 8.1).
func valid(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	return bytes.ToValidUTF8(b, []byte("\uFFFD"))
}

// members writes the members of an object, but for our own, without braces. One
// that does not marshal is left out.
func members(extensions map[string]any) (b []byte) {
	if len(extensions) == 0 {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(extensions)) {
		value, err := json.Marshal(extensions[name])
		if err != nil || name == "sluice" {
			continue
		}
		if b != nil {
			b = append(b, ',')
		}
		b = append(append(append(b, marshal(name)...), ':'), value...)
	}
	return b
}

// marshal writes what always marshals.
func marshal(v any) []byte {
	b, _ := json.Marshal(v)
	return b
}

// appendMember appends a member; one that does not marshal is left out.
func appendMember(b []byte, name string, value any) []byte {
	encoded, err := json.Marshal(value)
	if err != nil {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return append(b, encoded...)
}
