package server

import (
	"context"
	"net/http"
	"time"

	"github.com/99designs/gqlgen/graphql"

	"github.com/sluice-gateway/sluice/server/gqlws"
)

// GraphQL over server-sent events, in the "distinct connections mode" of
// https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md: the response
// to a request is a stream of its results, each an event "next", and at the end
// an event "complete". The client ends a subscription by closing the response.
//
// A stream without "complete" was cut: by a gateway that stops, or because the
// client read too slowly. Clients come back then, graphql-sse and EventSource by
// themselves; a comment at the end tells a person why.

// stream answers a subscription.
func (t overHTTP) stream(ctx context.Context, w http.ResponseWriter, r *http.Request, exec graphql.GraphExecutor, opCtx *graphql.OperationContext, asked gqlws.Asked) {
	limits := t.engine.Config()
	if t.engine.Draining() {
		t.turnAway(w, r)
		return
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		asked.Resume = last // an EventSource that comes back
	}
	release, refusal := limits.Admit(r)
	if refusal != "" {
		t.refuse(w, typeEvents, &failure{
			status: http.StatusServiceUnavailable, code: "TOO_MANY_CONNECTIONS", retryAfter: "5", message: refusal,
		})
		return
	}
	defer release()
	results := t.engine.Subscribe(ctx, exec, opCtx, asked)
	defer results.Close()
	keepAlive := time.NewTicker(limits.PingEvery)
	defer keepAlive.Stop()

	events := newEventStream(w, limits)
	open := events.write(appendComment(nil, "")) == nil // shows the client that it is heard
	for open {
		select {
		case <-results.News():
			open = events.forward(results)
		case <-keepAlive.C:
			open = events.write(appendComment(nil, "")) == nil
		case <-ctx.Done(): // the client has gone
			open = false
		}
	}
}

// turnAway refuses a stream while the gateway drains. EventSource, which always
// sends a GET, gives up for good on any status but 200, and comes back after a
// stream that was cut: so it gets one.
func (t overHTTP) turnAway(w http.ResponseWriter, r *http.Request) {
	const code = "SHUTTING_DOWN"
	if r.Method != http.MethodGet {
		t.refuse(w, typeEvents, &failure{
			status: http.StatusServiceUnavailable, code: code, retryAfter: "5",
			message: "The gateway is restarting: subscribe again in a moment.",
		})
		return
	}
	limits := t.engine.Config()
	limits.Refused(code)
	events := newEventStream(w, limits)
	_ = events.write(events.appendEnding(nil, &gqlws.ServiceRestart))
}

// eventStream is a response that sends events.
type eventStream struct {
	w      http.ResponseWriter
	limits gqlws.Config
}

// newEventStream sets the headers of the response.
func newEventStream(w http.ResponseWriter, limits gqlws.Config) eventStream {
	h := w.Header()
	h.Set("Content-Type", typeEvents+"; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // nginx would wait for a full buffer
	return eventStream{w, limits}
}

// write sends events at once. An error means that the client is gone, or read
// nothing for the length of the deadline.
func (s eventStream) write(events []byte) error {
	return writeWithin(s.limits.WriteDeadline, s.w, events)
}

// forward writes the results that wait, many events to a write. It reports
// whether there will be more.
func (s eventStream) forward(results *gqlws.Results) (open bool) {
	for {
		batch, open := results.Take()
		var events []byte
		for _, result := range batch {
			events = appendNext(events, result)
		}
		if !open {
			events = s.appendEnding(events, results.Ending())
		}
		if len(events) > 0 && s.write(events) != nil {
			return false
		}
		if !open || len(batch) == 0 {
			return open
		}
	}
}

// appendNext appends a result as an event. Its id is what the client sends as
// Last-Event-ID when it comes back.
func appendNext(b []byte, result gqlws.Result) []byte {
	b = append(b, "event: next\n"...)
	if result.Cursor != "" {
		b = append(append(append(b, "id: "...), result.Cursor...), '\n')
	}
	b = append(b, "data: "...)
	begin := len(b)
	b = append(b, result.JSON...)
	// A line break would end the data. In JSON it can only be white space between
	// two tokens, such as gqlgen puts behind a value of a map scalar.
	for i, c := range b[begin:] {
		if c == '\n' || c == '\r' {
			b[begin+i] = ' '
		}
	}
	return append(b, "\n\n"...)
}

// appendComplete appends the event that ends an operation. Its data is empty but
// there: EventSource keeps quiet about an event without.
func appendComplete(b []byte) []byte { return append(b, "event: complete\ndata:\n\n"...) }

// appendEnding appends what comes last.
func (s eventStream) appendEnding(b []byte, why *gqlws.Ending) []byte {
	if why == nil {
		return appendComplete(b)
	}
	return appendComment(b, s.limits.Explain(*why).Reason)
}

// appendComment appends a line that clients ignore.
func appendComment(b []byte, text string) []byte {
	return append(append(append(b, ": "...), text...), "\n\n"...)
}
