package gqlws

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"github.com/99designs/gqlgen/graphql"
	"github.com/gorilla/websocket"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/sluice-gateway/sluice/internal/live"
)

// operation is one id on one socket.
type operation struct {
	conn     *conn
	id       string
	head     []byte // begins each of its results
	asked    Asked  // set before there is a source, as is:
	policy   overflowPolicy
	missed   uint64      // results dropped since the last one queued; the outbox's
	source   source      // under conn.mu; nil while it is being found
	leave    func()      // of Config.Join; under conn.mu; may be nil
	silenced atomic.Bool // the client has completed it, or has gone
	paced    atomic.Bool // it waits for room, so its results are never refused
}

var _ receiver = (*operation)(nil)

func (o *operation) next(results []result) {
	if !o.silenced.Load() {
		o.conn.deliver(o, results)
	}
}

func (o *operation) ready(cursor func() string) {
	if o.asked.Ready {
		o.next([]result{readyResult(cursor())})
	}
}

func (o *operation) complete() { o.conn.finish(o, o.conn.protocol.complete(o.id)) }

func (o *operation) fail(errs gqlerror.List) {
	o.conn.finish(o, o.conn.protocol.ending(o.id, errs)...)
}

func (o *operation) wants() Asked { return o.asked }

func (o *operation) pace(on bool) { o.paced.Store(on) }

func (o *operation) room(f func()) bool { return o.conn.out.room(f) }

func (o *operation) giveBack() { o.conn.out.giveBack() }

// frame is a result as a message to this client.
func (o *operation) frame(r result) frame {
	return frame{op: o, head: o.head, result: r, tail: o.tail(r)}
}

// append appends that message as a WebSocket frame.
func (o *operation) append(b []byte, r result) []byte {
	var space [tailSpace]byte
	tail := o.appendTail(space[:0], r)
	b = appendFrameHeader(b, websocket.TextMessage, len(o.head)+len(r.body)+len(tail))
	b = append(b, o.head...)
	b = append(b, r.body...)
	return append(b, tail...)
}

// tailSpace is enough for a tail with a cursor.
const tailSpace = 128

// appendTail closes a result and the message.
func (o *operation) appendTail(b []byte, r result) []byte {
	return append(r.appendTail(b, o.asked.Cursor), '}')
}

// tail is that by itself, shared where there are no extensions.
func (o *operation) tail(r result) []byte {
	if r.more == nil {
		return messageTail
	}
	return o.appendTail(make([]byte, 0, tailSpace), r)
}

var messageTail = []byte("}}")

// enter asks Config.Join about a subscription. leave may be nil.
func (t *Transport) enter(ctx context.Context, exec graphql.GraphExecutor, opCtx *graphql.OperationContext) (leave func(), _ gqlerror.List) {
	if opCtx.Operation.Operation != ast.Subscription || t.cfg.Join == nil {
		return nil, nil
	}
	leave, err := t.cfg.Join(ctx, opCtx)
	if err != nil {
		return nil, exec.DispatchError(ctx, gqlerror.List{gqlerror.WrapIfUnwrapped(err)}).Errors
	}
	return leave, nil
}

// sink is where the results of an execution go: complete or fail comes last.
type sink interface {
	// ready says that the stream is open, once and before any result. cursor
	// names where it begins; it may yield an empty one.
	ready(cursor func() string)
	// next takes results. Their bytes may go to many sinks and are not changed;
	// the slice that holds them is the caller's.
	next(results []result)
	complete()
	fail(errs gqlerror.List)
}

// receiver is a sink that ends at a client.
type receiver interface {
	sink
	wants() Asked
	// room reports whether the client has taken most of what it was sent. Then
	// none other of its operations hears the same until giveBack. Else f is called,
	// never blocking, when it has.
	room(f func()) bool
	giveBack()
	// pace says whether whoever sends waits for room, so that nothing needs to
	// be refused.
	pace(on bool)
}

// source is where the results of an operation come from: an execution of its
// own, or its membership in a group. stop ends the interest in it.
type source interface{ stop() }

// execution is one dispatched operation and where its results go.
//
// gqlgen's response handler must not run twice at a time: the run queue gives
// an execution to one worker at a time.
type execution struct {
	runState
	exec    graphql.GraphExecutor
	opCtx   *graphql.OperationContext
	limit   int // of a result, in bytes
	runs    *runQueue
	report  func(msg string, args ...any)
	to      sink
	back    *catchUp    // nil: its subscribers have not come back, or its source keeps nothing
	cursors atomic.Bool // somebody asked for them: they are made once for all
	ctx     context.Context
	cancel  context.CancelFunc
	respond graphql.ResponseHandler
	respCtx context.Context
	feed    live.Feed   // nil: the resolver has a channel of its own
	kept    live.Kept   // the feed's; may be nil
	opened  atomic.Bool // the fields above are set for good
	begun   bool        // by who opens it, then by its worker alone, as are:
	over    bool
	refusal gqlerror.List
}

func newExecution(ctx context.Context, t *Transport, exec graphql.GraphExecutor, opCtx *graphql.OperationContext, to sink) *execution {
	x := &execution{
		exec: exec, opCtx: opCtx, limit: t.cfg.PayloadBytes, runs: &t.runs,
		report: t.cfg.Logger.Error, to: to,
	}
	x.ctx, x.cancel = context.WithCancel(ctx)
	return x
}

// stop ends the execution without a last frame. What the resolver does under
// its context ends with it.
func (x *execution) stop() {
	x.cancel()
	if x.opened.Load() && x.feed != nil {
		x.feed.Close()
	}
}

// Attach implements live.Feeder: the engine feeds the root field's stream.
func (x *execution) Attach(feed live.Feed) bool {
	if x.feed != nil || x.opened.Load() || x.opCtx.Operation.Operation != ast.Subscription {
		return false
	}
	x.feed, x.kept = feed, feed.Kept()
	return true
}

// open dispatches the operation. It may wait for what the resolver waits for.
func (x *execution) open() {
	defer x.rescue()
	x.respond, x.respCtx = x.exec.DispatchOperation(live.WithFeeder(x.ctx, x), x.opCtx)
	if x.back != nil && x.kept == nil {
		x.back.stay()
		x.back = nil
	}
	if x.feed != nil {
		x.begin()
	}
	x.opened.Store(true)
	switch {
	case x.feed != nil && x.ctx.Err() != nil: // stopped while it opened
		x.feed.Close()
	case x.feed != nil:
		x.feed.Wake(x.wake)
	case x.opCtx.Operation.Operation == ast.Subscription:
		x.pump()
	default:
		x.answer()
	}
}

// wake has a worker look at the execution.
func (x *execution) wake() {
	if x.opened.Load() {
		x.runs.wake(x)
	}
}

// answer serves a query or a mutation.
func (x *execution) answer() {
	defer x.cancel()
	response := x.respond(x.respCtx)
	if response == nil { // cancelled
		return
	}
	if x.refused(response) {
		return
	}
	x.next(response)
	x.to.complete()
}

// next hands on a single response.
func (x *execution) next(response *graphql.Response) {
	x.to.next([]result{encodeResult(response, x.limit)})
}

// pump serves a subscription whose resolver returned a channel of its own. Only
// its first response tells whether the resolver did.
func (x *execution) pump() {
	defer x.cancel()
	for first := true; ; first = false {
		response := x.respond(x.respCtx)
		if first && response != nil && x.refused(response) {
			return
		}
		if first {
			x.to.ready(noCursor)
		}
		if response == nil {
			x.to.complete()
			return
		}
		x.next(response)
	}
}

// noCursor is the cursor of a stream whose source keeps nothing.
func noCursor() string { return "" }

// refused ends an operation that was answered with nothing but errors: by a
// resolver that could not open its stream, or by an interceptor.
func (x *execution) refused(response *graphql.Response) bool {
	if response.Data != nil || len(response.Errors) == 0 {
		return false
	}
	x.to.fail(response.Errors)
	return true
}

// An execution that has handled so many events, or made so many bytes, hands
// its results on and lets others run.
const (
	turnEvents = 256
	turnBytes  = batchBytes
)

// turn is the room that a worker lends for what an execution does at a time.
type turn struct {
	results [turnEvents]result
	done    []func() // of the events
}

// run executes events that wait and hands their results on together; true:
// there may be more.
func (x *execution) run(t *turn) (again bool) {
	defer t.clear()
	defer x.rescue()
	if x.over {
		return false
	}
	x.begin()
	bytes, near := turnBytes, false
	if x.back != nil {
		if !x.back.room() {
			return false
		}
		defer x.back.to.giveBack()
		near = x.kept.Near() // what it has read by now waits, or has been taken
		bytes = min(bytes, x.back.t.cfg.QueueBytes/4)
	}
	n, size, state := 0, 0, live.Fed
	for n < turnEvents && size < bytes && state == live.Fed {
		if t.results[n], state = x.event(t); t.results[n].body != nil {
			size += len(t.results[n].body)
			n++
		}
	}
	if n > 0 {
		x.to.next(t.results[:n])
	}
	if state == live.Ended {
		x.end()
		return false
	}
	if x.back != nil && x.back.caughtUp(x.kept, near && state == live.Empty) {
		x.over = true
		x.stop()
		return false
	}
	return state == live.Fed
}

// clear lets go of what a turn held. The events are dealt with.
func (t *turn) clear() {
	for i := range t.results {
		if t.results[i].body == nil {
			break
		}
		t.results[i] = result{}
	}
	for i, done := range t.done {
		done()
		t.done[i] = nil
	}
	t.done = t.done[:0]
}

// begin says once that the stream is open, as soon as it is known where it
// begins.
func (x *execution) begin() {
	if x.begun {
		return
	}
	cursor := noCursor
	if x.kept != nil {
		start, ok := x.kept.Start()
		if !ok {
			return
		}
		cursor = func() string { return x.kept.Cursor(start) }
	}
	x.begun = true
	x.to.ready(cursor)
}

// event executes one event. Without a result, none waits or the stream is over,
// as it is after a panic: what was executed before is handed on first.
func (x *execution) event(t *turn) (_ result, state live.State) {
	defer func() {
		if p := recover(); p != nil {
			x.refusal, state = x.panicked(p), live.Ended
		}
	}()
	item, state := x.feed.Pull()
	if state != live.Fed {
		return result{}, state
	}
	if item.Done != nil {
		t.done = append(t.done, item.Done)
	}
	recent := x.back.results()
	if r, ok := recent.get(item.Pos); ok && item.Gap == nil {
		x.feed.Skip()
		return r, live.Fed
	}
	if err := x.feed.Put(); err != nil {
		return x.about(item, &graphql.Response{Errors: x.present(err)}), live.Fed
	}
	response := x.respond(x.respCtx)
	switch {
	case response == nil: // stopped
		return result{}, live.Ended
	case x.feed.Taken():
		r := x.about(item, response)
		recent.put(r)
		return r, live.Fed
	case response.Data == nil && len(response.Errors) > 0: // by somebody else, such as an interceptor
		x.refusal = response.Errors
		return result{}, live.Ended
	}
	return encodeResult(response, x.limit), live.Ended
}

// about encodes the response to an event.
func (x *execution) about(item live.Item, response *graphql.Response) result {
	r := encodeResult(response, x.limit)
	if item.Gap == nil && x.kept == nil {
		return r
	}
	if r.more == nil {
		r.more = &more{}
	}
	r.more.gap, r.more.pos, r.more.kept = item.Gap, item.Pos, x.kept
	if x.cursors.Load() {
		r.more.sealed = r.more.cursor()
	}
	return r
}

// end completes the operation, or fails it with the reason for the end.
func (x *execution) end() {
	x.over = true
	defer x.stop()
	if x.refusal != nil {
		x.to.fail(x.refusal)
		return
	}
	if why := x.feed.Err(); why != nil {
		x.to.fail(x.present(why))
		return
	}
	x.to.complete()
}

// present makes of an error what the client is told, by the server's presenter.
func (x *execution) present(err error) gqlerror.List {
	list := gqlerror.List{gqlerror.WrapIfUnwrapped(err)}
	return x.exec.DispatchError(graphql.WithOperationContext(x.ctx, x.opCtx), list).Errors
}

// rescue ends an operation that panicked outside of a resolver, where gqlgen
// does not recover: in an interceptor or a conversion.
func (x *execution) rescue() {
	if p := recover(); p != nil {
		x.over = true
		x.opened.Store(true) // if it panicked while opening: stop closes the feed
		x.to.fail(x.panicked(p))
		x.stop()
	}
}

// panicked logs a panic and makes of it what the client is told.
func (x *execution) panicked(p any) gqlerror.List {
	x.report("panic in an operation", "panic", p, "stack", string(debug.Stack()))
	return x.present(fmt.Errorf("gqlws: panic: %v", p))
}
