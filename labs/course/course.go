// Package course holds the servers that the lessons name beside the echo server:
// a feed in four ways, proxies before an echo server, a flood, uploads in chunks,
// and the lessons' own scripts of the mock server, each on its paths.
//
// Each is cheap to make and starts nothing before its first request. A request
// has its handler's goroutine; a socket of the feed and an upload have one more,
// which sends, of the flood two, of a proxy those that net/http and its proxy
// start. All end before Shutdown returns.
package course

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/sluice-gateway/sluice/labs"
	"github.com/sluice-gateway/sluice/labs/mock"
)

// Config is what a set of Servers needs.
type Config struct {
	labs.EchoConfig                   // of the one behind the proxies; its DoorConfig is everybody's
	Scripts         []*mock.Script    // of the lessons; their paths differ
	Vars            map[string]string // what they give away, see Vars
}

// Servers are one set of all servers of this package. Each of those with a name
// can be used by itself, too.
type Servers struct {
	Compare *Compare
	Via     *Via
	Flood   *Flood
	Upload  *Upload

	paths map[string]http.Handler
	all   []server
}

type server interface {
	http.Handler
	Shutdown(ctx context.Context) error
}

// plain are the paths that answer HTTP requests and no WebSocket.
var plain = []string{"/compare/poll", "/compare/long", "/compare/events"}

// Plain says whether a path answers HTTP requests and no WebSocket.
func Plain(path string) bool { return slices.Contains(plain, path) }

// New makes a set.
func New(cfg Config) *Servers {
	flood := cfg.DoorConfig
	flood.WriteDeadline = 0 // its own is shorter
	s := &Servers{
		Compare: NewCompare(CompareConfig{DoorConfig: cfg.DoorConfig}),
		Via:     NewVia(ViaConfig{EchoConfig: cfg.EchoConfig}),
		Flood:   NewFlood(FloodConfig{DoorConfig: flood}),
		Upload:  NewUpload(UploadConfig{DoorConfig: cfg.DoorConfig}),
		paths:   make(map[string]http.Handler),
	}
	s.mount(s.Compare, append([]string{"/compare"}, plain...)...)
	s.mount(s.Via, "/via/good", "/via/broken", "/via/idle")
	s.mount(s.Flood, "/flood")
	s.mount(s.Upload, "/upload")
	for _, script := range cfg.Scripts {
		s.mount(mock.New(mock.Config{Door: cfg.DoorConfig, Script: script, Vars: cfg.Vars}), script.Paths()...)
	}
	return s
}

func (s *Servers) mount(one server, paths ...string) {
	s.all = append(s.all, one)
	for _, path := range paths {
		s.paths[path] = one
	}
}

// Paths are those that are served, in alphabetical order.
func (s *Servers) Paths() []string { return slices.Sorted(maps.Keys(s.paths)) }

// ServeHTTP implements http.Handler.
func (s *Servers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if one := s.paths[r.URL.Path]; one != nil {
		one.ServeHTTP(w, r)
		return
	}
	http.NotFound(w, r)
}

// Shutdown ends all, each as it does.
func (s *Servers) Shutdown(ctx context.Context) error { return shutdown(ctx, s.all) }
