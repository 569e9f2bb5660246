package mock

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// outbox holds what waits to be sent to one client, in order, bounded in bytes.
// Many put, one takes.
type outbox struct {
	server *Server
	wake   chan struct{} // holds a value when there is something to look at

	mu    sync.Mutex
	items []outgoing
	bytes int // of the items, and of the one that is being written
	taken int // of the one that is being written
	ended bool
}

type outgoing struct {
	due   time.Time
	bytes int
	write func() error
}

// frameBytes is what an item counts in addition to its payload.
const frameBytes = 16

func (o *outbox) init(s *Server) { o.server, o.wake = s, make(chan struct{}, 1) }

// put takes something in; false: there is no room.
func (o *outbox) put(bytes int, write func() error) bool {
	knobs := o.server.knobs.Load()
	o.mu.Lock()
	defer o.mu.Unlock()
	bytes += frameBytes
	if o.bytes > 0 && o.bytes+bytes > knobs.BufferBytes {
		return false
	}
	o.add(bytes, write)
	return true
}

// last takes in what ends the connection, whether there is room or not.
func (o *outbox) last(write func() error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.add(0, write)
}

func (o *outbox) add(bytes int, write func() error) {
	o.bytes += bytes
	o.items = append(o.items, outgoing{time.Now().Add(o.server.knobs.Load().Latency), bytes, write})
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// end has next return nil.
func (o *outbox) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.signal()
}

// next waits for what is to be written; what it returned before has been
// written. nil: there is nothing more.
func (o *outbox) next(ctx context.Context) func() error {
	o.mu.Lock()
	o.bytes -= o.taken
	o.taken = 0
	for len(o.items) == 0 && !o.ended && ctx.Err() == nil {
		o.mu.Unlock()
		select {
		case <-o.wake:
		case <-ctx.Done():
		}
		o.mu.Lock()
	}
	if len(o.items) == 0 || o.ended || ctx.Err() != nil {
		o.mu.Unlock()
		return nil
	}
	item := o.items[0]
	o.items[0] = outgoing{}
	o.items = o.items[1:]
	o.taken = item.bytes
	o.mu.Unlock()
	if pause(ctx, time.Until(item.due)); ctx.Err() != nil {
		return nil
	}
	return item.write
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func errorAs[T error](err error) (T, bool) {
	var target T
	ok := errors.As(err, &target)
	return target, ok
}
