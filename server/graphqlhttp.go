package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/sluice-gateway/sluice/server/gqlws"
)

// overHTTP is GraphQL over HTTP
// (https://graphql.github.io/graphql-over-http/draft/): POST with a JSON body,
// and GET for all but mutations. It stands in for gqlgen's own POST and GET,
// which echo malformed bodies and answer a subscription with its first event.
// Who accepts text/event-stream is answered as sse.go says.
type overHTTP struct {
	bodyBytes int64
	bodyWait  time.Duration
	engine    *gqlws.Transport // runs subscriptions, and has the limits of what goes out
}

var _ graphql.Transport = overHTTP{}

// The media types of a response.
const (
	typeGraphQL = "application/graphql-response+json"
	typeJSON    = "application/json"
	typeEvents  = "text/event-stream"
)

// Supports implements graphql.Transport: everything that the transports before
// it leave. Some clients offer an upgrade to h2c, which a server may ignore.
func (overHTTP) Supports(*http.Request) bool { return true }

// Do implements graphql.Transport.
func (t overHTTP) Do(w http.ResponseWriter, r *http.Request, exec graphql.GraphExecutor) {
	w.Header().Add("Vary", "Accept")
	w.Header().Set("Content-Type", typeJSON+"; charset=utf-8") // unless it turns out otherwise
	accepted := parseAccept(r.Header.Values("Accept"))
	mediaType := accepted.choose()
	params, failed := t.params(w, r, mediaType)
	if failed != nil {
		t.refuse(w, mediaType, failed)
		return
	}
	asked, err := gqlws.ParseAsked(params.Extensions) // here, because the document guard drops them
	if err != nil {
		t.refuse(w, mediaType, bad("%s.", err))
		return
	}
	// Writing has its deadline, executing has not: over HTTP/2 one that passes
	// resets the stream although nothing is being written.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	ctx := r.Context()
	opCtx, errs := exec.CreateOperationContext(ctx, params)
	ctx = graphql.WithOperationContext(ctx, opCtx)
	if errs != nil {
		t.answer(w, mediaType, exec.DispatchError(ctx, errs))
		return
	}
	operation := opCtx.Operation.Operation
	if failed := fits(operation, r.Method, accepted); failed != nil {
		t.refuse(w, mediaType, failed)
		return
	}
	if operation == ast.Subscription {
		t.stream(ctx, w, r, exec, opCtx, asked)
		return
	}
	respond, ctx := exec.DispatchOperation(ctx, opCtx)
	if response := respond(ctx); response != nil { // nil: the client has gone
		t.answer(w, mediaType, response)
	}
}

// answer writes the only response of an operation.
func (t overHTTP) answer(w http.ResponseWriter, mediaType string, response *graphql.Response) {
	limits := t.engine.Config()
	body := gqlws.EncodeResponse(response, limits.PayloadBytes)
	if mediaType == typeEvents {
		_ = newEventStream(w, limits).write(appendComplete(appendNext(nil, gqlws.Result{JSON: body})))
		return
	}
	w.Header().Set("Content-Type", mediaType+"; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body))) // or the flush would make it chunked
	w.WriteHeader(status(mediaType, response))
	_ = writeWithin(limits.WriteDeadline, w, body)
}

// status is 200, but for a request error under the new media type. Clients of
// the old one may take any other status for the words of some proxy and not read
// on, so they get 200 for an invalid document, too, as the audits of the npm
// package graphql-http ask.
func status(mediaType string, response *graphql.Response) int {
	if mediaType == typeGraphQL && response.Data == nil {
		return http.StatusBadRequest
	}
	return http.StatusOK
}

// writeWithin writes and flushes under a deadline, and lifts the deadline: it
// would outlive the response on an HTTP/1.1 connection, and end an idle stream
// on an HTTP/2 one.
func writeWithin(wait time.Duration, w http.ResponseWriter, b []byte) error {
	socket := http.NewResponseController(w)
	_ = socket.SetWriteDeadline(time.Now().Add(wait))
	if _, err := w.Write(b); err != nil {
		return err
	}
	if err := socket.Flush(); err != nil {
		return err
	}
	_ = socket.SetWriteDeadline(time.Time{})
	return nil
}

// failure is a request that is answered without being executed.
type failure struct {
	status        int
	code, message string
	allow         string // methods, with 405
	retryAfter    string // seconds, with 503
}

func bad(format string, args ...any) *failure {
	return &failure{status: http.StatusBadRequest, code: "BAD_REQUEST", message: fmt.Sprintf(format, args...)}
}

// fits reports an operation that may not come this way.
func fits(operation ast.Operation, method string, accepted accept) *failure {
	switch {
	case operation == ast.Mutation && method != http.MethodPost:
		return &failure{
			status: http.StatusMethodNotAllowed, code: "METHOD_NOT_ALLOWED", allow: "POST",
			message: "A mutation must be sent by POST: a GET may be repeated or stored on its way.",
		}
	case operation == ast.Subscription && !accepted.names(typeEvents):
		return &failure{
			status: http.StatusBadRequest, code: "SUBSCRIPTION_NOT_SUPPORTED",
			message: "A subscription has more than one answer: send it with Accept: " + typeEvents + ", or over a WebSocket to this address with the subprotocol " + gqlws.TransportWS + ".",
		}
	}
	return nil
}

// refuse answers a failure. An event stream would only promise a client that
// trying again may help, so its refusals are JSON, too.
func (t overHTTP) refuse(w http.ResponseWriter, mediaType string, f *failure) {
	t.engine.Config().Refused(f.code)
	h := w.Header()
	if mediaType == typeGraphQL {
		h.Set("Content-Type", typeGraphQL+"; charset=utf-8")
	}
	if f.allow != "" {
		h.Set("Allow", f.allow)
	}
	if f.retryAfter != "" {
		h.Set("Retry-After", f.retryAfter)
	}
	refuse(w, f.status, f.code, f.message)
}

// params reads the request.
func (t overHTTP) params(w http.ResponseWriter, r *http.Request, mediaType string) (params *graphql.RawParams, failed *failure) {
	begin := graphql.Now()
	body, failed := t.readBody(w, r)
	switch {
	case failed != nil:
		return nil, failed
	case r.Method != http.MethodPost && r.Method != http.MethodGet:
		return nil, &failure{
			status: http.StatusMethodNotAllowed, code: "METHOD_NOT_ALLOWED", allow: "GET, POST",
			message: "Send an operation by POST as JSON, or all but a mutation by GET.",
		}
	case mediaType == "":
		return nil, &failure{
			status: http.StatusNotAcceptable, code: "NOT_ACCEPTABLE",
			message: "Answers are " + typeGraphQL + ", " + typeJSON + " or " + typeEvents + ", in UTF-8: put one of them into Accept.",
		}
	case r.Method == http.MethodPost:
		params, failed = fromBody(r.Header.Get("Content-Type"), body)
	default:
		params, failed = fromURL(r.URL.RawQuery)
	}
	if failed != nil {
		return nil, failed
	}
	params.Headers = r.Header
	params.ReadTime = graphql.TraceTiming{Start: begin, End: graphql.Now()}
	return params, nil
}

// readBody reads the body, also one that nobody asked for: net/http would read
// it before it answers, and wait for it for ever.
func (t overHTTP) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *failure) {
	if r.Body == http.NoBody {
		return nil, nil
	}
	socket := http.NewResponseController(w)
	_ = socket.SetReadDeadline(time.Now().Add(t.bodyWait))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, t.bodyBytes))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, &failure{
			status: http.StatusRequestEntityTooLarge, code: "PAYLOAD_TOO_LARGE",
			message: fmt.Sprintf("The request is larger than the %d bytes that are accepted.", t.bodyBytes),
		}
	}
	if err != nil { // the deadline stays, for net/http
		return nil, &failure{
			status: http.StatusRequestTimeout, code: "REQUEST_TIMEOUT",
			message: fmt.Sprintf("The request could not be read to its end within %s.", t.bodyWait),
		}
	}
	_ = socket.SetReadDeadline(time.Time{})
	return body, nil
}

func fromBody(contentType string, body []byte) (*graphql.RawParams, *failure) {
	mediaType, parameters, err := mime.ParseMediaType(contentType)
	if err != nil || mediaType != typeJSON || !isUTF8(parameters) {
		// Pages may send the other types anywhere without asking first (Fetch,
		// "CORS-safelisted request-header"), so no leniency.
		return nil, &failure{
			status: http.StatusUnsupportedMediaType, code: "UNSUPPORTED_MEDIA_TYPE",
			message: "Send the request as JSON in UTF-8, with Content-Type: " + typeJSON + ".",
		}
	}
	if !utf8.Valid(body) {
		return nil, bad("The body is not valid UTF-8.")
	}
	params, err := gqlws.ParseParams(body)
	if err != nil {
		return nil, bad(`The body must be one JSON object, with "query" a string, "operationName" a string or null, "variables" and "extensions" objects or null. What is wrong: %s.`, oneLine(err))
	}
	return params, nil
}

// fromURL reads the request of a GET.
func fromURL(query string) (*graphql.RawParams, *failure) {
	q, err := url.ParseQuery(query)
	if err != nil || !utf8.ValidString(strings.Join(q["query"], "")) {
		return nil, bad("The parameters of the URL are not UTF-8 in URL encoding.")
	}
	if !q.Has("query") {
		return nil, bad(`The URL has no parameter "query". Send an operation by GET as query, operationName, variables and extensions, or by POST as JSON.`)
	}
	params := &graphql.RawParams{Query: q.Get("query"), OperationName: q.Get("operationName")}
	for name, to := range map[string]*map[string]any{"variables": &params.Variables, "extensions": &params.Extensions} {
		if text := q.Get(name); text != "" && decodeJSON([]byte(text), to) != nil {
			return nil, bad("The parameter %q must be a JSON object.", name)
		}
	}
	return params, nil
}

// decodeJSON reads exactly one JSON value; large integers keep their digits.
func decodeJSON(b []byte, to any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(to); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("text after the JSON value")
	}
	return nil
}

// oneLine writes joined errors one after the other.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// isUTF8 looks at the parameters of a media type; UTF-8 is the default.
func isUTF8(parameters map[string]string) bool {
	charset, given := parameters["charset"]
	return !given || strings.EqualFold(charset, "utf-8")
}

// accept is what a client takes, and how gladly (RFC 9110, section 12.5.1).
type accept []mediaRange

type mediaRange struct {
	pattern string  // a media type, such as text/html, or text/*, or */*
	quality float64 // 0 (not at all) to 1
}

// parseAccept reads the Accept headers of a request. What is malformed, or asks
// for a charset other than UTF-8, is no offer. A client that says nothing takes
// everything.
func parseAccept(headers []string) accept {
	text := strings.Join(headers, ",")
	if strings.Trim(text, ", ") == "" {
		return accept{{"*/*", 1}}
	}
	var a accept
	for _, part := range strings.Split(text, ",") {
		pattern, parameters, err := mime.ParseMediaType(part)
		if err != nil || !isUTF8(parameters) {
			continue
		}
		quality := 1.0
		if q, given := parameters["q"]; given {
			if quality, err = strconv.ParseFloat(q, 64); err != nil || !(quality >= 0 && quality <= 1) {
				continue
			}
		}
		a = append(a, mediaRange{pattern, quality})
	}
	return a
}

// quality says how gladly a media type is taken, and whether by its name:
// "the most specific reference has precedence".
func (a accept) quality(mediaType string) (quality float64, named bool) {
	family, _, _ := strings.Cut(mediaType, "/")
	for _, pattern := range []string{mediaType, family + "/*", "*/*"} {
		for _, r := range a {
			if r.pattern == pattern {
				return r.quality, pattern == mediaType
			}
		}
	}
	return 0, false
}

// names reports whether the client asks for a media type by its name.
func (a accept) names(mediaType string) bool {
	quality, named := a.quality(mediaType)
	return named && quality > 0
}

// choose picks the media type of a response that can have any, or "" when none
// will do. Of those that are equally welcome, the new one comes first when it is
// named; a wildcard says nothing of knowing it, and means the one that every
// client reads. Nobody gets a stream of events without asking.
func (a accept) choose() (best string) {
	most := 0.0
	for _, offer := range []struct {
		mediaType string
		named     bool
	}{
		{typeGraphQL, true}, {typeJSON, true}, {typeEvents, true}, {typeJSON, false}, {typeGraphQL, false},
	} {
		if quality, named := a.quality(offer.mediaType); named == offer.named && quality > most {
			best, most = offer.mediaType, quality
		}
	}
	return best
}

// refuse answers with an error in the form of a GraphQL response.
func refuse(w http.ResponseWriter, status int, code, message string) {
	h := w.Header()
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", typeJSON+"; charset=utf-8")
	}
	body, _ := json.Marshal(map[string]any{"errors": gqlerror.List{{
		Message:    fmt.Sprintf("%s (%s)", message, code),
		Extensions: map[string]any{"code": code},
	}}})
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
