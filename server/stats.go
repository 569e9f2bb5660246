package server

import (
	"cmp"
	"maps"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/graph/model"
)

// refusals counts what was refused, by code. Codes are the gateway's own words
// but for those that the demo field "fail" makes up, so their number is bounded.
type refusals struct {
	mu     sync.Mutex
	counts map[string]uint64
}

// maxCodes is far above the number of codes that there are.
const maxCodes = 200

func (r *refusals) add(code string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = make(map[string]uint64)
	}
	if _, known := r.counts[code]; !known && len(r.counts) >= maxCodes {
		code = "OTHER"
	}
	r.counts[code]++
}

// Refusals says how often each code was refused.
func (s *Server) Refusals() map[string]uint64 {
	s.refusals.mu.Lock()
	defer s.refusals.mu.Unlock()
	return maps.Clone(s.refusals.counts)
}

// Stats counts what the gateway has to do.
func (s *Server) Stats() model.GatewayStats {
	sockets := s.sockets.Stats()
	stats := model.GatewayStats{
		At: time.Now(), StartedAt: s.started,
		Connections: sockets.Connections, Operations: sockets.Operations, Upstreams: s.upstreams(),
		FramesSent: float64(sockets.Frames), BytesSent: float64(sockets.Bytes),
		Refusals:    []model.RefusalCount{},
		MemoryBytes: float64(memory()), Goroutines: runtime.NumGoroutine(),
	}
	for code, n := range s.Refusals() {
		stats.Refusals = append(stats.Refusals, model.RefusalCount{Code: code, Count: float64(n)})
	}
	slices.SortFunc(stats.Refusals, func(a, b model.RefusalCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Code, b.Code))
	})
	return stats
}

// memory is what the Go runtime holds from the operating system. It does not
// stop the world, as runtime.ReadMemStats would.
func memory() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
