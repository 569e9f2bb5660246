package sessions

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/sluice-gateway/sluice/labs"
	"github.com/sluice-gateway/sluice/labs/chaos"
	"github.com/sluice-gateway/sluice/labs/load"
	"github.com/sluice-gateway/sluice/labs/mock"
)

// Env is what one set of practice servers is made of. Its owner is a lab session,
// or the gateway itself for those who practise without one.
type Env struct {
	Door labs.DoorConfig
	// MaxMessageBytes is what ?limit= of the echo server may ask for [Door.MessageBytes].
	MaxMessageBytes int64
	// Vars are values for the scripts of the mock server.
	Vars map[string]string
	Load bool // whether there is a load server
}

// Servers is one set of practice servers. What is set up in one set, and what is
// seen by it, no other set knows of.
type Servers struct {
	Echo    *labs.Echo
	Deflate *labs.Echo // an echo server that accepts compression
	Mock    *mock.Server
	Chaos   *chaos.Server
	Load    *load.Server // nil: there is none

	mux   *http.ServeMux
	names []string
	all   map[string]server
}

// server is a practice server.
type server interface {
	http.Handler
	Shutdown(context.Context) error
}

// NewServers makes a set. It costs little until the first client comes.
func NewServers(env Env) *Servers {
	s := &Servers{mux: http.NewServeMux(), all: make(map[string]server)}
	echo := labs.EchoConfig{DoorConfig: env.Door, MaxMessageBytes: env.MaxMessageBytes}
	s.Echo = add(s, "echo", labs.NewEcho(echo))
	s.mux.Handle("/{$}", s.Echo)
	echo.Deflate = true
	s.Deflate = add(s, "deflate", labs.NewEcho(echo))
	s.Mock = add(s, "mock", mock.New(mock.Config{Door: env.Door, Vars: env.Vars}))
	s.Chaos = add(s, "chaos", chaos.New(chaos.Config{Door: env.Door}))
	if env.Load {
		s.Load = add(s, "load", load.New(load.Config{DoorConfig: env.Door}))
	}
	return s
}

// add puts a server on the path of its name.
func add[S server](s *Servers, name string, one S) S {
	s.names = append(s.names, name)
	s.all[name] = one
	s.mux.Handle("/"+name, one)
	return one
}

// Names lists the servers.
func (s *Servers) Names() []string { return s.names }

// Named returns a server, which answers on every path; nil: there is none.
func (s *Servers) Named(name string) http.Handler { return s.all[name] }

// ServeHTTP serves each server on its path.
func (s *Servers) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Shutdown ends the servers' connections, those of all at once, and waits for
// them. When ctx ends it drops the rest and returns an error.
func (s *Servers) Shutdown(ctx context.Context) error {
	errs := make([]error, len(s.names))
	var ending sync.WaitGroup
	for i, name := range s.names {
		ending.Go(func() { errs[i] = s.all[name].Shutdown(ctx) })
	}
	ending.Wait()
	return errors.Join(errs...)
}
