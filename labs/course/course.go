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
	"net/http"
	"strings"

	"github.com/sluice-gateway/sluice/labs"
	"github.com/sluice-gateway/sluice/labs/mock"
)

// Config is what a set of Servers needs.
type Config struct {
	labs.EchoConfig                   // of those that echo; its DoorConfig is everybody's
	Scripts         []*mock.Script    // of the lessons; their paths differ
	Vars            map[string]string // what they give away, see Vars
}

// Servers are one set of all servers of this package. Each of those with a name
// can be used by itself, too.
type Servers struct {
	Compare *Compare   // …/compare, …/compare/poll, …/compare/long, …/compare/events
	Via     *Via       // …/via/good, …/via/broken, …/via/idle
	Flood   *Flood     // …/flood
	Upload  *Upload    // …/upload
	Deflate *labs.Echo // …/deflate: the echo server with compression

	scripts map[string]*mock.Server // by path
	all     []server
}

type server interface {
	Shutdown(ctx context.Context) error
}

// New makes a set.
func New(cfg Config) *Servers {
	deflate, flood := cfg.EchoConfig, cfg.DoorConfig
	deflate.Deflate = true
	flood.WriteDeadline = 0 // its own is shorter
	s := &Servers{
		Compare: NewCompare(CompareConfig{DoorConfig: cfg.DoorConfig}),
		Via:     NewVia(ViaConfig{EchoConfig: cfg.EchoConfig}),
		Flood:   NewFlood(FloodConfig{DoorConfig: flood}),
		Upload:  NewUpload(UploadConfig{DoorConfig: cfg.DoorConfig}),
		Deflate: labs.NewEcho(deflate),
		scripts: make(map[string]*mock.Server),
	}
	s.all = []server{s.Compare, s.Via, s.Flood, s.Upload, s.Deflate}
	for _, script := range cfg.Scripts {
		scripted := mock.New(mock.Config{Door: cfg.DoorConfig, Script: script, Vars: cfg.Vars})
		s.all = append(s.all, scripted)
		for _, path := range script.Paths() {
			s.scripts[path] = scripted
		}
	}
	return s
}

// Handler returns the server for a path below the one that the set is mounted
// at, such as "/via/good"; nil: there is none.
func (s *Servers) Handler(path string) http.Handler {
	if scripted := s.scripts[path]; scripted != nil {
		return scripted
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case name == "compare":
		return s.Compare
	case name == "via" && s.Via.proxies[rest] != nil:
		return s.Via
	case path == "/flood":
		return s.Flood
	case path == "/upload":
		return s.Upload
	case path == "/deflate":
		return s.Deflate
	}
	return nil
}

// Shutdown ends all, each as it does.
func (s *Servers) Shutdown(ctx context.Context) error { return shutdown(ctx, s.all) }
