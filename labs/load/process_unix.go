//go:build linux || darwin

package load

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// ownProcess reads what this process uses.
func ownProcess() Process {
	p := Process{Goroutines: runtime.NumGoroutine()}
	var used syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	p.CPUSeconds = known(time.Duration(used.Utime.Nano()+used.Stime.Nano()).Seconds(), err == nil)
	var limit syscall.Rlimit
	err = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	p.DescriptorLimit = known(int(limit.Cur), err == nil)
	if dir, err := os.Open("/dev/fd"); err == nil {
		names, err := dir.Readdirnames(-1)
		p.Descriptors = known(len(names)-1, err == nil) // without dir's own
		_ = dir.Close()
	}
	memory := heldByGo()
	if text, err := os.ReadFile("/proc/self/statm"); err == nil { // Linux
		if fields := bytes.Fields(text); len(fields) > 1 {
			if pages, err := strconv.ParseInt(string(fields[1]), 10, 64); err == nil {
				memory = pages * int64(os.Getpagesize())
			}
		}
	}
	p.MemoryBytes = &memory
	return p
}

// spareDescriptors are for everything but the connections of a run.
const spareDescriptors = 64

// needDescriptors makes room for n more connections, as far as the system lets
// this process raise its own limit.
func needDescriptors(n int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("load: the limit of open files: %w", err)
	}
	need := uint64(n + spareDescriptors)
	if used := ownProcess().Descriptors; used != nil {
		need += uint64(*used)
	}
	if limit.Cur >= need {
		return nil
	}
	if limit.Max < need {
		return fmt.Errorf("load: %d connections need %d descriptors, and this process may have %d: run `ulimit -n %d` first, or plan fewer connections", n, need, limit.Max, need)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("load: %d connections need %d descriptors; run `ulimit -n %d` first: %w", n, need, need, err)
	}
	return nil
}
