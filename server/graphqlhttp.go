package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// overHTTP is GraphQL over HTTP
// (https://graphql.github.io/graphql-over-http/draft/): POST with a JSON body,
// and GET for queries. It stands in for gqlgen's own POST and GET, which echo
// malformed bodies and answer a subscription with its first event.
type overHTTP struct {
	bodyBytes int64
	bodyWait  time.Duration
}

var _ graphql.Transport = overHTTP{}

// The media types of a response.
const (
	typeGraphQL = "application/graphql-response+json"
	typeJSON    = "application/json"
)

// Supports implements graphql.Transport: everything that is no WebSocket.
func (overHTTP) Supports(r *http.Request) bool { return r.Header.Get("Upgrade") == "" }

// Do implements graphql.Transport.
func (t overHTTP) Do(w http.ResponseWriter, r *http.Request, exec graphql.GraphExecutor) {
	mediaType := negotiateType(r.Header.Values("Accept"))
	if mediaType == "" {
		refuse(w, http.StatusNotAcceptable, "NOT_ACCEPTABLE", "Responses are "+typeGraphQL+" or "+typeJSON+": put one of them into Accept.")
		return
	}
	w.Header().Set("Content-Type", mediaType+"; charset=utf-8")
	params, failed := t.params(w, r)
	if failed != nil {
		failed.write(w)
		return
	}
	ctx := r.Context()
	opCtx, errs := exec.CreateOperationContext(ctx, params)
	ctx = graphql.WithOperationContext(ctx, opCtx)
	if errs != nil {
		status := http.StatusOK // as clients of application/json expect
		if mediaType == typeGraphQL {
			status = http.StatusBadRequest
		}
		writeResponse(w, status, exec.DispatchError(ctx, errs))
		return
	}
	if failed := fits(w, r.Method, opCtx.Operation.Operation); failed != nil {
		failed.write(w)
		return
	}
	respond, ctx := exec.DispatchOperation(ctx, opCtx)
	if response := respond(ctx); response != nil {
		writeResponse(w, http.StatusOK, response)
	}
}

// failure is a request that is answered without being executed.
type failure struct {
	status        int
	code, message string
}

func (f *failure) write(w http.ResponseWriter) { refuse(w, f.status, f.code, f.message) }

func bad(format string, args ...any) *failure {
	return &failure{http.StatusBadRequest, "BAD_REQUEST", fmt.Sprintf(format, args...)}
}

// fits reports an operation that may not come by this method.
func fits(w http.ResponseWriter, method string, operation ast.Operation) *failure {
	switch {
	case operation == ast.Subscription:
		return &failure{http.StatusBadRequest, "SUBSCRIPTION_NOT_SUPPORTED", "A subscription needs a WebSocket: connect to this address with the subprotocol graphql-transport-ws."}
	case operation == ast.Mutation && method != http.MethodPost:
		w.Header().Set("Allow", "POST")
		return &failure{http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "A mutation must be sent by POST."}
	}
	return nil
}

func (t overHTTP) params(w http.ResponseWriter, r *http.Request) (*graphql.RawParams, *failure) {
	params := &graphql.RawParams{Headers: r.Header, ReadTime: graphql.TraceTiming{Start: graphql.Now()}}
	var failed *failure
	switch r.Method {
	case http.MethodPost:
		failed = t.fromBody(w, r, params)
	case http.MethodGet:
		failed = fromURL(r, params)
	default:
		w.Header().Set("Allow", "GET, POST")
		return nil, &failure{http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "Send a query by POST (JSON) or GET."}
	}
	params.ReadTime.End = graphql.Now()
	return params, failed
}

func (t overHTTP) fromBody(w http.ResponseWriter, r *http.Request, params *graphql.RawParams) *failure {
	contentType, attributes, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if charset := strings.ToLower(attributes["charset"]); err != nil || contentType != typeJSON || charset != "" && charset != "utf-8" {
		return &failure{http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", "Send the request as JSON in UTF-8, with Content-Type: application/json."}
	}
	socket := http.NewResponseController(w)
	_ = socket.SetReadDeadline(time.Now().Add(t.bodyWait))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, t.bodyBytes))
	_ = socket.SetReadDeadline(time.Time{})
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return &failure{http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE", fmt.Sprintf("The request is larger than the %d bytes that are accepted.", t.bodyBytes)}
	}
	if err != nil {
		return &failure{http.StatusRequestTimeout, "BAD_REQUEST", "The request could not be read to its end."}
	}
	var members struct {
		Query         *string        `json:"query"`
		OperationName *string        `json:"operationName"`
		Variables     map[string]any `json:"variables"`
		Extensions    map[string]any `json:"extensions"`
	}
	if err := decodeJSON(body, &members); err != nil {
		return bad(`The body must be one JSON object: "query" a string, "operationName" a string or null, "variables" and "extensions" objects or null.`)
	}
	if members.Query == nil {
		return bad(`The body has no "query".`)
	}
	params.Query, params.Variables, params.Extensions = *members.Query, members.Variables, members.Extensions
	if members.OperationName != nil {
		params.OperationName = *members.OperationName
	}
	return nil
}

func fromURL(r *http.Request, params *graphql.RawParams) *failure {
	q := r.URL.Query()
	if !q.Has("query") {
		return bad(`The URL has no parameter "query". Send a query by GET, or anything by POST.`)
	}
	params.Query, params.OperationName = q.Get("query"), q.Get("operationName")
	for name, to := range map[string]*map[string]any{"variables": &params.Variables, "extensions": &params.Extensions} {
		if text := q.Get(name); text != "" && decodeJSON([]byte(text), to) != nil {
			return bad("The parameter %q must be a JSON object.", name)
		}
	}
	return nil
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

// negotiateType picks a media type of the response, or "" when none will do.
// Clients that say nothing are the old ones: they get application/json.
func negotiateType(accept []string) string {
	if len(accept) == 0 {
		return typeJSON
	}
	for _, part := range strings.Split(strings.Join(accept, ","), ",") {
		mediaType, attributes, err := mime.ParseMediaType(part)
		if err != nil || attributes["q"] == "0" {
			continue
		}
		switch mediaType {
		case typeGraphQL:
			return typeGraphQL
		case typeJSON, "application/*", "*/*":
			return typeJSON
		}
	}
	return ""
}

func writeResponse(w http.ResponseWriter, status int, response *graphql.Response) {
	body, err := json.Marshal(response)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "INTERNAL", "The answer could not be written as JSON.")
		return
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
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
