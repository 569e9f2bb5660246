package gqlws

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/sluice-gateway/sluice/internal/live"
)

// operation is one id on one socket.
type operation struct {
	conn     *conn
	id       string
	head     []byte         // begins each of its results
	policy   overflowPolicy // set before there is a source
	missed   uint64         // results dropped since the last one queued; the outbox's
	source   source         // under conn.mu; nil while it is being found
	silenced atomic.Bool    // the client has completed it, or has gone
}

var _ sink = (*operation)(nil)

func (o *operation) next(bodies [][]byte) {
	if !o.silenced.Load() {
		o.conn.deliver(o, bodies)
	}
}

func (o *operation) complete() { o.conn.finish(o, o.conn.protocol.complete(o.id)) }

func (o *operation) fail(errs gqlerror.List) {
	o.conn.finish(o, o.conn.protocol.ending(o.id, errs)...)
}

// resultTail closes the result and the message.
var resultTail = []byte("}}")

// sink is where the results of an execution go: complete or fail comes last.
type sink interface {
	// next takes results as encodeResult made them. The bytes may go to many
	// sinks and are not changed; the slice that holds them is the caller's.
	next(bodies [][]byte)
	complete()
	fail(errs gqlerror.List)
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
	ctx     context.Context
	cancel  context.CancelFunc
	respond graphql.ResponseHandler
	respCtx context.Context
	feed    live.Feed   // nil: the resolver has a channel of its own
	opened  atomic.Bool // the fields above are set for good
	done    bool        // by its worker alone, as is:
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
	x.feed = feed
	return true
}

// open dispatches the operation. It may wait for what the resolver waits for.
func (x *execution) open() {
	defer x.rescue()
	x.respond, x.respCtx = x.exec.DispatchOperation(live.WithFeeder(x.ctx, x), x.opCtx)
	x.opened.Store(true)
	switch {
	case x.feed != nil && x.ctx.Err() != nil: // stopped while it opened
		x.feed.Close()
	case x.feed != nil:
		x.feed.Wake(func() { x.runs.wake(x) })
	case x.opCtx.Operation.Operation == ast.Subscription:
		x.pump()
	default:
		x.answer()
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
	x.next(encodeResult(response, nil, x.limit))
	x.to.complete()
}

// next hands on a single result.
func (x *execution) next(body []byte) { x.to.next([][]byte{body}) }

// pump serves a subscription whose resolver returned a channel of its own.
func (x *execution) pump() {
	defer x.cancel()
	for first := true; ; first = false {
		response := x.respond(x.respCtx)
		if response == nil {
			x.to.complete()
			return
		}
		if first && x.refused(response) {
			return
		}
		x.next(encodeResult(response, nil, x.limit))
	}
}

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

// run executes events that wait and hands their results on together; true:
// there may be more. results is room that the worker lends.
func (x *execution) run(results *[turnEvents][]byte) (again bool) {
	defer x.rescue()
	if x.done {
		return false
	}
	n, size, state := 0, 0, live.Fed
	for n < turnEvents && size < turnBytes && state == live.Fed {
		if results[n], state = x.event(); results[n] != nil {
			size += len(results[n])
			n++
		}
	}
	if n > 0 {
		x.to.next(results[:n])
		clear(results[:n])
	}
	if state == live.Ended {
		x.end()
	}
	return state == live.Fed
}

// event executes one event. Without a result, none waits or the stream is over.
func (x *execution) event() (result []byte, _ live.State) {
	item, state := x.feed.Pull()
	if state != live.Fed {
		return nil, state
	}
	if item.Done != nil {
		defer item.Done()
	}
	if err := x.feed.Put(); err != nil {
		return encodeResult(&graphql.Response{Errors: x.present(err)}, item.Gap, x.limit), live.Fed
	}
	response := x.respond(x.respCtx)
	switch {
	case response == nil: // stopped
		return nil, live.Ended
	case x.feed.Taken():
		return encodeResult(response, item.Gap, x.limit), live.Fed
	case response.Data == nil && len(response.Errors) > 0: // by somebody else, such as an interceptor
		x.refusal = response.Errors
		return nil, live.Ended
	}
	return encodeResult(response, nil, x.limit), live.Ended
}

// end completes the operation, or fails it with the reason for the end.
func (x *execution) end() {
	x.done = true
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
		x.report("panic in an operation", "panic", p, "stack", string(debug.Stack()))
		x.done = true
		x.opened.Store(true) // if it panicked while opening: stop closes the feed
		x.to.fail(x.present(fmt.Errorf("gqlws: panic: %v", p)))
		x.stop()
	}
}
