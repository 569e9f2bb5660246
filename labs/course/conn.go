package course

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// passing is a connection that passes on what net.Conn does not promise.
type passing struct{ net.Conn }

func (p passing) CloseWrite() error { return wire.CloseWrite(p.Conn) }

func (p passing) SetLinger(seconds int) error {
	if conn, ok := p.Conn.(interface{ SetLinger(int) error }); ok {
		return conn.SetLinger(seconds)
	}
	return errors.ErrUnsupported
}

// gate counts the requests within a server, so that Shutdown can wait for them.
type gate struct {
	mu     sync.Mutex
	inside sync.WaitGroup
	shut   chan struct{} // closed when no more may enter
}

func newGate() *gate { return &gate{shut: make(chan struct{})} }

// enter lets a request in, or answers that the server is stopping.
func (g *gate) enter(w http.ResponseWriter, refused func(code string)) (leave func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.shut:
		w.Header().Set("Retry-After", "5")
		refuse(w, refused, http.StatusServiceUnavailable, "SHUTTING_DOWN", "The server is stopping: try again in a moment.")
		return nil, false
	default:
		g.inside.Add(1)
		return g.inside.Done, true
	}
}

// close lets nobody in any more.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.shut:
	default:
		close(g.shut)
	}
}

// wait waits for who is inside. When ctx ends it returns an error instead.
func (g *gate) wait(ctx context.Context) error {
	empty := make(chan struct{})
	go func() {
		g.inside.Wait()
		close(empty)
	}()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("course: requests are still under way: %w", ctx.Err())
	}
}

// refuse answers a request in a sentence and counts it.
func refuse(w http.ResponseWriter, refused func(code string), status int, code, message string) {
	if refused != nil {
		refused(code)
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	fmt.Fprintf(w, "%s (%s)\n", message, code)
}

// shutdown ends several servers at once.
func shutdown(ctx context.Context, servers []server) error {
	errs := make([]error, len(servers))
	var all sync.WaitGroup
	for i, server := range servers {
		all.Go(func() { errs[i] = server.Shutdown(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}
