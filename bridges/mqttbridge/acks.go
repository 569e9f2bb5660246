package mqttbridge

import (
	"context"
	"sync"
)

// acks sends the acknowledgements of one connection in the order in which its
// messages came, as MQTT 3.1.1 wants it (section 4.6), in whatever order they
// are done. The broker bounds how many there are: it sends only so many
// messages ahead.
type acks struct {
	news chan struct{}

	mu     sync.Mutex
	window []*ack // oldest first
}

type ack struct {
	send func() // may wait for the network
	done bool
}

func newAcks() *acks { return &acks{news: make(chan struct{}, 1)} }

// expect puts the next message into the window. send is called once it and all
// before it are done; done says so, never blocking.
func (x *acks) expect(send func()) (done func()) {
	a := &ack{send: send}
	x.mu.Lock()
	x.window = append(x.window, a)
	x.mu.Unlock()
	return func() {
		x.mu.Lock()
		a.done = true
		due := x.window[0].done
		x.mu.Unlock()
		if !due {
			return
		}
		select {
		case x.news <- struct{}{}:
		default:
		}
	}
}

// run sends until ctx ends.
func (x *acks) run(ctx context.Context) {
	for ctx.Err() == nil {
		if send := x.next(); send != nil {
			send()
			continue
		}
		select {
		case <-x.news:
		case <-ctx.Done():
		}
	}
}

// next takes the oldest message if it is done.
func (x *acks) next() (send func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.window) == 0 || !x.window[0].done {
		return nil
	}
	send = x.window[0].send
	x.window[0] = nil
	x.window = x.window[1:]
	return send
}
