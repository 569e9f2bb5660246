package sessions

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/sluice-gateway/sluice/labs"
)

// Env is what one set of practice servers is made of. Its owner is a lab session,
// or the gateway itself for those who practise without one.
type Env struct {
	Door labs.DoorConfig
	// MaxMessageBytes is what ?limit= of the echo server may ask for [Door.MessageBytes].
	MaxMessageBytes int64
}

// Servers is one set of practice servers. What is set up in one set, and what is
// seen by it, no other set knows of.
type Servers struct {
	Echo    *labs.Echo
	Deflate *labs.Echo // an echo server that accepts compression

	mux *http.ServeMux
	all []server
}

// server is a practice server.
type server interface {
	http.Handler
	Shutdown(context.Context) error
}

// NewServers makes a set. It costs little until the first client comes.
func NewServers(env Env) *Servers {
	s := &Servers{mux: http.NewServeMux()}
	s.Echo = mount(s, labs.NewEcho(labs.EchoConfig{DoorConfig: env.Door, MaxMessageBytes: env.MaxMessageBytes}), "/echo", "/{$}")
	s.Deflate = mount(s, labs.NewEcho(labs.EchoConfig{DoorConfig: env.Door, MaxMessageBytes: env.MaxMessageBytes, Deflate: true}), "/deflate")
	return s
}

// mount gives a server its paths.
func mount[S server](s *Servers, one S, paths ...string) S {
	s.all = append(s.all, one)
	for _, path := range paths {
		s.mux.Handle(path, one)
	}
	return one
}

// ServeHTTP serves each server on its path.
func (s *Servers) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Shutdown ends the servers' connections, those of all at once, and waits for
// them. When ctx ends it drops the rest and returns an error.
func (s *Servers) Shutdown(ctx context.Context) error {
	errs := make([]error, len(s.all))
	var ending sync.WaitGroup
	for i, one := range s.all {
		ending.Go(func() { errs[i] = one.Shutdown(ctx) })
	}
	ending.Wait()
	return errors.Join(errs...)
}
