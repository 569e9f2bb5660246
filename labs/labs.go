// Package labs holds the practice servers: servers to learn WebSocket with, and
// to test clients against. Each is an http.Handler; those with a vocabulary of
// their own are packages below.
//
// A Door opens their sockets. It keeps to the protocol more strictly than the
// library below it, and says what it has against a client in the reason of the
// Close frame or in the answer to the handshake. A connection has two
// goroutines, its handler's, which reads, and one that pings. It holds one
// message of bounded size; nothing waits in a queue: who does not read is not
// read from. Every read and write has a deadline. Shutdown ends a server's
// connections and waits for them.
//
// They know no sessions and record nothing: wire.Transcript taps them from
// outside.
package labs

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// socket is an open connection, as far as Shutdown goes.
type socket interface {
	leave() // tells the client to go
	drop()  // closes the connection
}

// sockets are the open connections of one server.
type sockets struct {
	mu       sync.Mutex
	open     map[socket]struct{}
	stopping bool
	gone     sync.WaitGroup
}

// enter adds a connection; false: the server is shutting down.
func (s *sockets) enter(c socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	if s.open == nil {
		s.open = make(map[socket]struct{})
	}
	s.open[c] = struct{}{}
	s.gone.Add(1)
	return true
}

func (s *sockets) leave(c socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	s.gone.Done()
}

// shutdown refuses new connections, tells those that are open to leave, and
// waits for them. When ctx ends it drops the rest and returns an error.
func (s *sockets) shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	var told sync.WaitGroup
	for _, c := range s.list() {
		told.Go(c.leave) // which may wait for a write
	}
	gone := make(chan struct{})
	go func() {
		s.gone.Wait()
		close(gone)
	}()
	var err error
	select {
	case <-gone:
	case <-ctx.Done():
		left := s.list()
		for _, c := range left {
			c.drop()
		}
		if len(left) > 0 {
			err = fmt.Errorf("labs: dropped %d connections: %w", len(left), ctx.Err())
		}
		<-gone
	}
	told.Wait()
	return err
}

func (s *sockets) list() []socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]socket, 0, len(s.open))
	for c := range s.open {
		list = append(list, c)
	}
	return list
}

// How long and how much linger reads.
const (
	lingerTime  = time.Second
	lingerBytes = 16 << 20
)

// linger closes a connection so that the client gets what was sent last: closing
// while bytes wait to be read would reset it (RFC 6455, section 7.1.1).
func linger(conn net.Conn) {
	_ = wire.CloseWrite(conn)
	_ = conn.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, lingerBytes))
	_ = conn.Close()
}
