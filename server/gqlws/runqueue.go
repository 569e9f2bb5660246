package gqlws

import (
	"sync"
	"sync/atomic"
)

// runQueue hands woken executions to workers. An execution stands in it at most
// once and is run by at most one worker at a time, so its length is bounded by
// the number of active operations.
type runQueue struct {
	mu      sync.Mutex
	ready   *sync.Cond
	waiting []*execution
	stopped bool
}

// runState is an execution's place in the queue's life.
type runState struct{ atomic.Int32 }

const (
	asleep  int32 = iota // waits to be woken
	waiting              // in the queue
	running              // with a worker
	rerun                // with a worker, and woken meanwhile
)

func (q *runQueue) init() { q.ready = sync.NewCond(&q.mu) }

// wake puts an execution into the queue, unless it is there.
func (q *runQueue) wake(x *execution) {
	for {
		switch x.Load() {
		case asleep:
			if x.CompareAndSwap(asleep, waiting) {
				q.push(x)
				return
			}
		case running:
			if x.CompareAndSwap(running, rerun) {
				return
			}
		default:
			return
		}
	}
}

func (q *runQueue) push(x *execution) {
	q.mu.Lock()
	q.waiting = append(q.waiting, x)
	q.mu.Unlock()
	q.ready.Signal()
}

// pop waits for an execution; nil means that the queue has stopped.
func (q *runQueue) pop() *execution {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) == 0 && !q.stopped {
		q.ready.Wait()
	}
	if q.stopped {
		return nil
	}
	x := q.waiting[0]
	q.waiting[0] = nil
	q.waiting = q.waiting[1:]
	return x
}

// serve is a worker. It ends with stop.
func (q *runQueue) serve() {
	var t turn
	for x := q.pop(); x != nil; x = q.pop() {
		x.Store(running)
		if again := x.run(&t); again || !x.CompareAndSwap(running, asleep) {
			x.Store(waiting)
			q.push(x)
		}
	}
}

func (q *runQueue) stop() {
	q.mu.Lock()
	q.stopped = true
	q.mu.Unlock()
	q.ready.Broadcast()
}
