package chaos

import (
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
)

const (
	// drainTime is how long what is held may take to reach a client whose server
	// has closed the connection.
	drainTime = 15 * time.Second
	// lingerTime is how long a client may take to close its side then.
	lingerTime = time.Second
	// abandonedTime is how long half a connection lasts.
	abandonedTime = 10 * time.Minute
)

// line lies between a client and what serves it.
type line struct {
	server *Server
	order  uint64 // of its opening
	place  atomic.Pointer[place]

	client net.Conn
	inner  *end    // what serves has this one
	outer  *end    // and the line that one
	flows  [2]flow // by wire.Direction

	abandoned atomic.Bool // nothing reaches the client any more
	leaving   chan struct{}
	leave     sync.Once
	done      chan struct{}
	ending    sync.Once
}

// newLine makes a line; what serves is to use its inner end.
func newLine(s *Server, client net.Conn) *line {
	l := &line{server: s, client: client, leaving: make(chan struct{}), done: make(chan struct{})}
	l.inner, l.outer = newPipe(client)
	l.flows[wire.ToServer].join(l, wire.ToServer, client, l.outer)
	l.flows[wire.ToClient].join(l, wire.ToClient, l.outer, client)
	return l
}

// work moves bytes until the connection is over.
func (l *line) work() {
	var working sync.WaitGroup
	for i := range l.flows {
		working.Go(l.flows[i].read)
		working.Go(l.flows[i].write)
	}
	l.watch()
	working.Wait()
}

// end ends the line: both connections are closed, or reset.
func (l *line) end(hard bool) {
	l.ending.Do(func() {
		if hard {
			resetConn(l.client)
			resetConn(l.outer)
		} else {
			_ = l.client.Close()
			_ = l.outer.Close()
		}
		close(l.done)
	})
}

// goAway tells the client to leave, with 1012.
func (l *line) goAway() { l.leave.Do(func() { close(l.leaving) }) }

// watch strikes the connection when its time has come, and ends the line when
// both directions have.
func (l *line) watch() {
	clocks := make(map[Name]clock)
	gone, reset, leaving := l.inner.gone, l.outer.reset.done, l.leaving
	toServer, toClient := l.flows[wire.ToServer].done, l.flows[wire.ToClient].done
	var limit <-chan time.Time
	for toServer != nil || toClient != nil {
		s, p := l.server.settings.Load(), l.place.Load()
		next, due := l.next(s, p, clocks)
		timer := time.NewTimer(time.Until(due))
		select {
		case <-l.done:
			timer.Stop()
			return
		case <-s.changed:
		case <-timer.C:
			if next.abandon {
				l.abandon(p, next)
				reset, limit = nil, time.After(abandonedTime)
				break
			}
			l.tell(p, next.name, Both, p.messages(wire.ToClient), Event{What: fmt.Sprintf("reset after %v", next.after)})
			l.end(true)
			return
		case <-reset:
			l.end(true)
			return
		case <-leaving:
			if l.abandoned.Load() { // there is nobody to tell
				l.end(true)
				return
			}
			leaving, limit = nil, time.After(drainTime)
		case <-toServer:
			toServer = nil
		case <-toClient:
			if toClient = nil; gone == nil && !l.abandoned.Load() {
				limit = time.After(lingerTime)
			}
		case <-gone:
			if gone = nil; l.abandoned.Load() {
				break
			}
			limit = time.After(drainTime)
			if toClient == nil {
				limit = time.After(lingerTime)
			}
		case <-limit:
			l.end(l.abandoned.Load())
			return
		}
		timer.Stop()
	}
	l.end(false)
}

// clock says since when the settings of a fault hold for a connection.
type clock struct {
	fault fault
	place *place
	since time.Time
}

// next is the first blow to the connection, and when.
func (l *line) next(s *settings, p *place, clocks map[Name]clock) (first blow, due time.Time) {
	due = time.Now().Add(math.MaxInt64)
	if l.abandoned.Load() {
		return first, due
	}
	for _, fault := range s.all() {
		fault, ok := fault.(drawn)
		if !ok || fault.strikes() != connections {
			continue
		}
		c := clocks[fault.name()]
		if c.fault != fault || c.place != p {
			c = clock{fault, p, time.Now()}
			clocks[fault.name()] = c
		}
	}
	for _, b := range s.draw(p, connections, Both, 0) {
		if at := clocks[b.name].since.Add(b.after); at.Before(due) {
			first, due = b, at
		}
	}
	return first, due
}

// abandon leaves the client alone with its half of the connection.
func (l *line) abandon(p *place, b blow) {
	l.abandoned.Store(true)
	resetConn(l.outer)
	l.tell(p, b.name, Both, p.messages(wire.ToClient), Event{What: fmt.Sprintf("half-open after %v", b.after)})
}

// tell tells what a fault did.
func (l *line) tell(p *place, name Name, direction Towards, message uint64, e Event) {
	e.Run, e.Fault, e.Connection, e.Direction, e.Message = p.run, name, p.connection, direction, message
	l.server.events.add(e)
}
