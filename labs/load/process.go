package load

import "runtime/metrics"

// Process is what this process uses. What the system does not tell is nil.
type Process struct {
	CPUSeconds      *float64 `json:"cpuSeconds"`      // as a user and in the kernel, since its start
	MemoryBytes     *int64   `json:"memoryBytes"`     // resident; where unknown, what Go holds
	Descriptors     *int     `json:"descriptors"`     // open files and sockets
	DescriptorLimit *int     `json:"descriptorLimit"` // ulimit -n
	Goroutines      int      `json:"goroutines"`
}

// heldByGo is the memory that Go holds from the system.
func heldByGo() int64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}

func known[T any](value T, ok bool) *T {
	if !ok {
		return nil
	}
	return &value
}
