package chaos

import (
	"fmt"
	"math"
	"time"
)

// Throttling makes a line slow: bytes pass at BytesPerSecond, whatever they
// belong to. 0 is as fast as the network is.
type Throttling struct {
	BytesPerSecond int `json:"bytesPerSecond" yaml:"bytesPerSecond"` // 0, or 1 to 1,000,000,000
}

const maxBytesPerSecond = 1_000_000_000

func (t Throttling) name() Name { return NameThrottling }

func (t Throttling) check() error {
	if t.BytesPerSecond >= 0 && t.BytesPerSecond <= maxBytesPerSecond {
		return nil
	}
	return &InvalidError{"throttling.bytesPerSecond", t.BytesPerSecond, fmt.Sprintf("bytes a second from 1 to %d, or 0 for no limit", maxBytesPerSecond)}
}

// takes is how long so many bytes are on their way.
func (t Throttling) takes(bytes uint64) time.Duration {
	seconds := float64(bytes) / float64(t.BytesPerSecond)
	return time.Duration(min(seconds, time.Duration(math.MaxInt64).Truncate(time.Hour).Seconds()) * float64(time.Second))
}

// step is how many bytes go at once: those of 20 ms, so that they trickle.
func (t Throttling) step() int { return max(1, t.BytesPerSecond/50) }
