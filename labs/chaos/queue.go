package chaos

import "sync"

// queue is what waits between the two goroutines of a flow, at most half of
// HeldBytes of it, or one item. What is taken counts until it is freed.
type queue struct {
	more chan struct{} // has a value when something was put
	room chan struct{} // has a value when something was freed

	mu    sync.Mutex
	items []item
	bytes int
}

func (q *queue) init() { q.more, q.room = make(chan struct{}, 1), make(chan struct{}, 1) }

// put waits for room; false: done was closed first.
func (q *queue) put(it item, done <-chan struct{}) bool {
	for !q.tryPut(it) {
		select {
		case <-q.room:
		case <-done:
			return false
		}
	}
	signal(q.more)
	return true
}

func (q *queue) tryPut(it item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bytes > 0 && q.bytes+len(it.raw) > HeldBytes/2 {
		return false
	}
	q.items = append(q.items, it)
	q.bytes += len(it.raw)
	return true
}

// head is the oldest item.
func (q *queue) head() (it item, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return item{}, false
	}
	return q.items[0], true
}

// next takes the oldest item away.
func (q *queue) next() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items[0] = item{}
	q.items = q.items[1:]
}

// free gives the room of an item back.
func (q *queue) free(bytes int) {
	q.mu.Lock()
	q.bytes -= bytes
	q.mu.Unlock()
	signal(q.room)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
