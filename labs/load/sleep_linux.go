package load

import (
	"syscall"
	"time"
)

// sleep waits about 0.1 ms longer than it was told to. A timer of Go's waits
// half a millisecond longer, on average, since it waits in epoll.
func sleep(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil)
}
