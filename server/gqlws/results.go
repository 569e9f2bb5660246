package gqlws

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// Results are what a subscription yields to a caller that brings them to its
// client by other means than a WebSocket, such as server-sent events. Make them
// with Transport.Subscribe.
//
// They are a socket's promises without the socket: the same workers execute the
// events, results wait in a queue bounded by Config.QueueBytes, and a caller
// that takes them too slowly ends with SlowConsumer and slows nobody else.
//
// One goroutine at a time may call Take. Close may be called from anywhere.
type Results struct {
	t      *Transport
	asked  Asked
	source source
	onEnd  func()        // Config.Join's leave; may be nil
	news   chan struct{} // room for one
	paced  atomic.Bool   // it is waited for, so nothing is too much

	mu      sync.Mutex
	waiting []Result
	waiters []func() // called once there is room
	bytes   int      // of those that wait, and of the batch taken last
	taken   int      // of the batch taken last
	ended   bool     // nothing more is queued
	ending  *Ending  // nil: the operation completed, or runs
}

var _ receiver = (*Results)(nil)

// Result is one result of a subscription.
type Result struct {
	JSON   []byte // the response object
	Cursor string // names the event's place in its source; empty: the source keeps nothing
}

// Subscribe runs a subscription that has been validated. ctx is the parent of
// the resolvers'. The caller takes the results and calls Close in the end. On a
// transport that drains they end at once with ServiceRestart.
func (t *Transport) Subscribe(ctx context.Context, exec graphql.GraphExecutor, opCtx *graphql.OperationContext, asked Asked) *Results {
	r := &Results{t: t, asked: asked, news: make(chan struct{}, 1)}
	if !t.results.add(r) {
		r.interrupt(ServiceRestart)
		return r
	}
	defer t.results.work.Done()
	leave, errs := t.enter(ctx, exec, opCtx)
	if errs != nil {
		r.fail(errs)
		return r
	}
	if leave != nil {
		r.onEnd = sync.OnceFunc(leave)
	}
	source, err := t.subscribe(ctx, exec, opCtx, r, &t.results.work)
	if err != nil {
		t.cfg.Refused(err.Extensions["code"].(string))
		r.fail(gqlerror.List{err})
		return r
	}
	r.mu.Lock()
	r.source = source
	over := r.ended
	r.mu.Unlock()
	if over { // ended before there was a source to stop
		source.stop()
	}
	return r
}

// News is told when Take has something new to say.
func (r *Results) News() <-chan struct{} { return r.news }

// Take returns the oldest results that wait, up to what one write should carry,
// in order. open is false when nothing will follow them; then Ending
// says why. Take until there are none before listening to News again.
func (r *Results) Take() (results []Result, open bool) {
	r.mu.Lock()
	r.bytes -= r.taken
	r.taken = 0
	n := 0
	for n < len(r.waiting) && (n == 0 || r.taken+len(r.waiting[n].JSON) <= batchBytes) {
		r.taken += len(r.waiting[n].JSON)
		n++
	}
	results, r.waiting = r.waiting[:n:n], r.waiting[n:]
	if len(r.waiting) == 0 {
		r.waiting = nil // its memory goes with the batch
	}
	open = len(r.waiting) > 0 || !r.ended
	var waiters []func()
	if r.roomy() {
		waiters, r.waiters = r.waiters, nil
	}
	r.mu.Unlock()
	for _, goOn := range waiters {
		goOn()
	}
	return results, open
}

func (r *Results) roomy() bool { return r.bytes <= r.t.cfg.QueueBytes/4 || r.ended }

// room implements receiver.
func (r *Results) room(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.roomy() {
		return true
	}
	r.waiters = append(r.waiters, f)
	return false
}

// giveBack implements receiver: there is no other operation.
func (r *Results) giveBack() {}

// pace implements receiver.
func (r *Results) pace(on bool) { r.paced.Store(on) }

// wants implements receiver: Result.Cursor is told to all.
func (r *Results) wants() Asked {
	wants := r.asked
	wants.Cursor = true
	return wants
}

// ready implements sink.
func (r *Results) ready(cursor func() string) {
	if r.asked.Ready {
		at := cursor()
		r.deliver(readyResult(at), at)
	}
}

// Ending says why the results ended: nil when the operation completed or failed,
// which its last result tells, else ServiceRestart or SlowConsumer.
func (r *Results) Ending() *Ending {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ending
}

// Close gives up interest; what the resolvers do for it ends.
func (r *Results) Close() {
	r.finish(nil)
	r.stop()
	if r.onEnd != nil {
		r.onEnd()
	}
	r.t.results.forget(r)
}

// next implements sink.
func (r *Results) next(results []result) {
	for _, one := range results {
		r.deliver(one, one.more.cursor())
	}
}

func (r *Results) deliver(one result, cursor string) {
	encoded := one.appendTail(slices.Clip(one.body), r.asked.Cursor) // a copy: others may have the body, too
	r.mu.Lock()
	full := r.bytes > 0 && r.bytes+len(encoded) > r.t.cfg.QueueBytes && !r.paced.Load()
	if !full && !r.ended {
		r.queue(Result{JSON: encoded, Cursor: cursor})
	}
	r.mu.Unlock()
	r.tell()
	if full {
		r.interrupt(SlowConsumer)
	}
}

// complete implements sink.
func (r *Results) complete() { r.finish(nil) }

// fail implements sink. The errors are the last result: one without "data",
// because nothing was executed for it.
func (r *Results) fail(errs gqlerror.List) {
	r.finish(EncodeResponse(&graphql.Response{Errors: errs}, r.t.cfg.PayloadBytes))
}

// finish ends the results with a last one, which may be nil.
func (r *Results) finish(last []byte) {
	r.mu.Lock()
	if !r.ended && last != nil {
		r.queue(Result{JSON: last})
	}
	r.ended = true
	r.mu.Unlock()
	r.tell()
}

// interrupt ends the results before the operation does. A slow consumer's are
// dropped; other callers get what waits.
func (r *Results) interrupt(why Ending) {
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		return
	}
	r.ended, r.ending = true, &why
	if why == SlowConsumer {
		r.waiting, r.bytes = nil, r.taken
	}
	r.mu.Unlock()
	r.tell()
	r.stop()
	if why == SlowConsumer {
		r.t.cfg.Refused(strconv.Itoa(why.Code))
		r.t.cfg.Logger.Info("slow consumer ended", "queue", r.t.cfg.QueueBytes)
	}
}

func (r *Results) stop() {
	r.mu.Lock()
	source := r.source
	r.mu.Unlock()
	if source != nil {
		source.stop()
	}
}

func (r *Results) queue(result Result) {
	r.waiting = append(r.waiting, result)
	r.bytes += len(result.JSON)
}

func (r *Results) tell() {
	select {
	case r.news <- struct{}{}:
	default: // told already
	}
}

// resultSet is the Results of a transport that are open.
type resultSet struct {
	mu      sync.Mutex
	open    map[*Results]struct{}
	refuses bool           // there are no new ones …
	empty   chan struct{}  // … and, closed, no old ones
	work    sync.WaitGroup // operations with a goroutine
}

// add reports whether the set takes new ones; work may be added to then, until
// the Results are closed.
func (s *resultSet) add(r *Results) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuses {
		return false
	}
	if s.open == nil {
		s.open = make(map[*Results]struct{})
	}
	s.open[r] = struct{}{}
	s.work.Add(1)
	return true
}

func (s *resultSet) forget(r *Results) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.open[r]; !ok {
		return
	}
	delete(s.open, r)
	if s.refuses && len(s.open) == 0 {
		close(s.empty)
	}
}

func (s *resultSet) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// refuse takes no new ones from now on and lists those that are open.
func (s *resultSet) refuse() []*Results {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.refuses {
		s.refuses = true
		if len(s.open) == 0 {
			close(s.empty)
		}
	}
	return slices.Collect(maps.Keys(s.open))
}
