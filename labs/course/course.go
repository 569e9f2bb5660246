// Package course holds the servers of the lessons that are neither the echo
// server nor a script of the mock server: a feed in four ways, proxies before an
// echo server, a flood.
//
// Each is cheap to make and starts nothing before its first request. A request
// has its handler's goroutine; a socket of the feed has one more, which sends, of
// the flood two, of a proxy those that net/http and its proxy start. All end
// before Shutdown returns.
package course

import (
	"context"
	"net/http"
	"strings"

	"github.com/sluice-gateway/sluice/labs"
)

// Servers are one set of all servers of this package, and the echo server with
// compression. Each of them can be used by itself, too.
type Servers struct {
	Compare *Compare   // …/compare, …/compare/poll, …/compare/long, …/compare/events
	Via     *Via       // …/via/good, …/via/broken, …/via/idle
	Flood   *Flood     // …/flood
	Deflate *labs.Echo // …/deflate
}

// New makes a set. Those that echo take echo, the others its DoorConfig.
func New(echo labs.EchoConfig) *Servers {
	deflate, flood := echo, echo.DoorConfig
	deflate.Deflate = true
	flood.WriteDeadline = 0 // its own is shorter
	return &Servers{
		Compare: NewCompare(CompareConfig{DoorConfig: echo.DoorConfig}),
		Via:     NewVia(ViaConfig{EchoConfig: echo}),
		Flood:   NewFlood(FloodConfig{DoorConfig: flood}),
		Deflate: labs.NewEcho(deflate),
	}
}

// Handler returns the server for a path below the one that the set is mounted
// at, such as "/via/good"; nil: there is none.
func (s *Servers) Handler(path string) http.Handler {
	name, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case name == "compare":
		return s.Compare
	case name == "via" && s.Via.proxies[rest] != nil:
		return s.Via
	case name == "flood":
		return s.Flood
	case name == "deflate":
		return s.Deflate
	}
	return nil
}

// Shutdown ends all, each as it does.
func (s *Servers) Shutdown(ctx context.Context) error {
	return shutdown(ctx, s.Compare, s.Via, s.Flood, s.Deflate)
}
