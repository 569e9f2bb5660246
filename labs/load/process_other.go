//go:build !linux && !darwin

package load

import "runtime"

// ownProcess says what Go knows of this process.
func ownProcess() Process {
	memory := heldByGo()
	return Process{Goroutines: runtime.NumGoroutine(), MemoryBytes: &memory}
}

// needDescriptors has nothing to do: there is no limit, or it is not known.
func needDescriptors(int) error { return nil }
