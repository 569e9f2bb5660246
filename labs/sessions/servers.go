package sessions

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/sluice-gateway/sluice/labs"
	"github.com/sluice-gateway/sluice/labs/chaos"
	"github.com/sluice-gateway/sluice/labs/course"
	"github.com/sluice-gateway/sluice/labs/load"
	"github.com/sluice-gateway/sluice/labs/mock"
	"github.com/sluice-gateway/sluice/labs/mqttws"
)

// Env is what one set of practice servers is made of. Its owner is a lab session,
// or the gateway itself for those who practise without one.
type Env struct {
	Door labs.DoorConfig
	// MaxMessageBytes is what ?limit= of the echo server may ask for [Door.MessageBytes].
	MaxMessageBytes int64
	// Scripts are those of the lessons, each on paths of its own.
	Scripts []*mock.Script
	// Vars are values that scripts may use [none].
	Vars map[string]string
	Load bool // whether there is a load server
	// MQTT serves a connection of MQTT over WebSocket (see mqttws.Config); nil:
	// there is no such server.
	MQTT func(context.Context, net.Conn) error
}

// Servers is one set of practice servers. What is set up in one set, and what is
// seen by it, no other set knows of.
type Servers struct {
	Echo    *labs.Echo
	Deflate *labs.Echo // an echo server that accepts compression
	Mock    *mock.Server
	Chaos   *chaos.Server
	Load    *load.Server // nil: there is none
	Course  *course.Servers
	MQTT    *mqttws.Server // nil: there is none

	mux   *http.ServeMux
	names []string
	named map[string]http.Handler
	all   []server
}

// server is a practice server.
type server interface {
	http.Handler
	Shutdown(context.Context) error
}

// NewServers makes a set. It costs little until the first client comes.
func NewServers(env Env) *Servers {
	s := &Servers{mux: http.NewServeMux(), named: make(map[string]http.Handler)}
	echo := labs.EchoConfig{DoorConfig: env.Door, MaxMessageBytes: env.MaxMessageBytes}
	s.Echo = add(s, labs.NewEcho(echo), "echo")
	s.mux.Handle("/{$}", s.Echo)
	echo.Deflate = true
	s.Deflate = add(s, labs.NewEcho(echo), "deflate")
	s.Mock = add(s, mock.New(mock.Config{Door: env.Door, Vars: env.Vars}), "mock")
	s.Chaos = add(s, chaos.New(chaos.Config{Door: env.Door}), "chaos")
	if env.MQTT != nil {
		s.MQTT = add(s, mqttws.New(mqttws.Config{Door: env.Door, Connect: env.MQTT}), "mqtt")
	}
	lessons := course.New(course.Config{EchoConfig: labs.EchoConfig{DoorConfig: env.Door}, Scripts: env.Scripts, Vars: env.Vars})
	paths := lessons.Paths()
	for i := range paths {
		paths[i] = strings.TrimPrefix(paths[i], "/")
	}
	s.Course = add(s, lessons, paths...)
	if env.Load {
		s.Load = add(s, load.New(load.Config{DoorConfig: env.Door}), "load")
	}
	s.mux.Handle("/mock/", s.Mock) // the paths of its script
	return s
}

// add puts a server on the paths of these names.
func add[S server](s *Servers, one S, names ...string) S {
	s.all = append(s.all, one)
	for _, name := range names {
		s.names = append(s.names, name)
		s.named[name] = one
		s.mux.Handle("/"+name, one)
	}
	return one
}

// Names lists the servers.
func (s *Servers) Names() []string { return s.names }

// Named returns a server, which answers on every path; nil: there is none.
func (s *Servers) Named(name string) http.Handler { return s.named[name] }

// serves reports whether one of the servers answers a request.
func (s *Servers) serves(r *http.Request) bool {
	_, pattern := s.mux.Handler(r)
	return pattern != ""
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
