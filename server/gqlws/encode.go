package gqlws

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/sluice-gateway/sluice/internal/live"
)

// EncodeResponse writes a response as JSON, the same as over WebSocket: text is
// valid UTF-8, and data larger than limit becomes an error. "data" is left out
// when nothing was executed ("If the request error was raised, the data entry
// must not be present", GraphQL specification, section 7.1).
func EncodeResponse(response *graphql.Response, limit int) []byte {
	if response.Data == nil && len(response.Errors) > 0 {
		return encodeErrors(response)
	}
	return append(encodeResult(response, nil, limit), '}')
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

// encodeResult writes a response as JSON without its closing brace, which the
// frame's tail brings. gqlgen reuses the memory of response.Data for the next
// event, so the bytes are copied here. Data larger than limit becomes an error.
func encodeResult(response *graphql.Response, gap *live.Gap, limit int) []byte {
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
	if extensions := withGap(response.Extensions, gap); len(extensions) > 0 {
		b = appendMember(b, "extensions", extensions)
	}
	if !utf8.Valid(b) {
		// gqlgen passes on what a resolver returned. A browser would close the
		// socket for it (RFC 6455, section 8.1).
		b = bytes.ToValidUTF8(b, []byte("\uFFFD"))
	}
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

// gapNotice is extensions.sluice.gap: what is missing before this event.
type gapNotice struct {
	Reason   live.GapReason `json:"reason"`
	Missed   uint64         `json:"missed,omitempty"`
	LastGood string         `json:"lastGood,omitempty"`
}

func withGap(extensions map[string]any, gap *live.Gap) map[string]any {
	if gap == nil {
		return extensions
	}
	notice := gapNotice{Reason: gap.Reason, Missed: gap.Missed}
	if !gap.LastGood.IsZero() {
		notice.LastGood = gap.LastGood.UTC().Format(time.RFC3339Nano)
	}
	told := map[string]any{"sluice": map[string]any{"gap": notice}}
	for name, value := range extensions {
		told[name] = value
	}
	return told
}
