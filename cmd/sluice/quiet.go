package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// When the gateway counts as quiet, and when that is worth a garbage collection.
const (
	quietFor   = 5 * time.Second
	quietBytes = 1 << 20  // allocated in that time
	dirtyBytes = 16 << 20 // allocated since memory was last given back
)

// giveBackMemory returns memory to the system whenever the gateway has become
// quiet, until ctx ends. After a storm of connections Go's heap holds about as
// much garbage as live data, and with little to do it would for minutes.
func giveBackMemory(ctx context.Context) {
	ticks := time.NewTicker(quietFor)
	defer ticks.Stop()
	last, given := allocated(), uint64(0)
	for {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
		now := allocated()
		if now-last < quietBytes && now-given > dirtyBytes {
			debug.FreeOSMemory()
			given = now
		}
		last = now
	}
}

// allocated is how many bytes of heap have been allocated since the start.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
