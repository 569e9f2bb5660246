package gqlws

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"

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
	source source
	news   chan struct{} // room for one

	mu      sync.Mutex
	waiting [][]byte
	bytes   int     // of those that wait, and of the batch taken last
	taken   int     // of the batch taken last
	ended   bool    // nothing more is queued
	ending  *Ending // nil: the operation completed, or runs
}

var _ sink = (*Results)(nil)

// Subscribe runs a subscription that has been validated. ctx is the parent of
// the resolvers'. The caller takes the results and calls Close in the end. On a
// transport that drains they end at once with ServiceRestart.
func (t *Transport) Subscribe(ctx context.Context, exec graphql.GraphExecutor, opCtx *graphql.OperationContext) *Results {
	r := &Results{t: t, news: make(chan struct{}, 1)}
	if !t.results.add(r) {
		r.interrupt(ServiceRestart)
		return r
	}
	defer t.results.work.Done()
	source := t.subscribe(ctx, exec, opCtx, r, &t.results.work)
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
// each a JSON object. open is false when nothing will follow them; then Ending
// says why. Take until there are none before listening to News again.
func (r *Results) Take() (results [][]byte, open bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes -= r.taken
	r.taken = 0
	n := 0
	for n < len(r.waiting) && (n == 0 || r.taken+len(r.waiting[n]) <= batchBytes) {
		r.taken += len(r.waiting[n])
		n++
	}
	results, r.waiting = r.waiting[:n:n], r.waiting[n:]
	if len(r.waiting) == 0 {
		r.waiting = nil // its memory goes with the batch
	}
	return results, len(r.waiting) > 0 || !r.ended
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
	r.t.results.forget(r)
}

// next implements sink.
func (r *Results) next(bodies [][]byte) {
	r.mu.Lock()
	full := false
	for _, body := range bodies {
		full = full || r.bytes > 0 && r.bytes+len(body) >= r.t.cfg.QueueBytes
		if !full && !r.ended {
			r.queue(append(slices.Clip(body), '}')) // a copy: others may have the body, too
		}
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
		r.queue(last)
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

func (r *Results) queue(result []byte) {
	r.waiting = append(r.waiting, result)
	r.bytes += len(result)
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
