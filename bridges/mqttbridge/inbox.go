package mqttbridge

import (
	"context"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
)

// item is something to dispatch: a message, or an outage that goes before the
// messages that follow.
type item struct {
	message *bridges.Message
	acks    *acks // of its connection
	ack     func()
	outage  *outage
	order   uint64
}

// outage is a time without a connection.
type outage struct {
	lastGood time.Time
	joined   uint64 // those who joined up to here have a gap
}

// inbox holds what the broker sent until it is dispatched, in order. Beyond
// its bound the oldest messages of QoS 0 go.
type inbox struct {
	limit int
	news  chan struct{}

	mu    sync.Mutex
	bytes int
	count uint64 // items so far
	loose fifo   // messages of QoS 0
	firm  fifo   // everything else, which never goes
}

func newInbox(limit int) *inbox {
	return &inbox{limit: limit, news: make(chan struct{}, 1)}
}

// put appends an item, never blocking, and returns the messages that had to go.
func (x *inbox) put(it item) (lost []*bridges.Message) {
	x.mu.Lock()
	x.count++
	it.order = x.count
	if it.message != nil && it.message.QoS == bridges.AtMostOnce {
		x.loose.push(it)
	} else {
		x.firm.push(it)
	}
	if it.message != nil {
		x.bytes += it.message.Size()
	}
	// A message larger than the bound passes when nothing else waits.
	for x.bytes > x.limit && x.loose.len() > 0 && x.loose.len()+x.firm.len() > 1 {
		m := x.loose.pop().message
		x.bytes -= m.Size()
		lost = append(lost, m)
	}
	x.mu.Unlock()
	select {
	case x.news <- struct{}{}:
	default:
	}
	return lost
}

// take removes the oldest item, waiting for one until ctx ends.
func (x *inbox) take(ctx context.Context) (item, bool) {
	for ctx.Err() == nil {
		if it, ok := x.pop(); ok {
			return it, true
		}
		select {
		case <-x.news:
		case <-ctx.Done():
		}
	}
	return item{}, false
}

func (x *inbox) pop() (item, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	from := &x.loose
	switch {
	case x.loose.len() == 0 && x.firm.len() == 0:
		return item{}, false
	case x.loose.len() == 0, x.firm.len() > 0 && x.firm.first().order < x.loose.first().order:
		from = &x.firm
	}
	it := from.pop()
	if it.message != nil {
		x.bytes -= it.message.Size()
	}
	return it, true
}

// fifo is a queue of items.
type fifo struct {
	items []item
	head  int
}

func (q *fifo) len() int     { return len(q.items) - q.head }
func (q *fifo) first() *item { return &q.items[q.head] }

func (q *fifo) push(it item) {
	if q.head > 64 && q.head > len(q.items)/2 { // most of it is used up: move the rest to the front
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, it)
}

func (q *fifo) pop() item {
	it := q.items[q.head]
	q.items[q.head] = item{} // let go of the message
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
		if cap(q.items) > 1024 {
			q.items = nil // a burst's memory is given back
		}
	}
	return it
}
