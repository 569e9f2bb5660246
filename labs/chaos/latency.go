package chaos

import (
	"math/rand/v2"
	"time"
)

// Latency holds messages for a time. What comes behind a message waits for it:
// the order stays.
type Latency struct {
	Rate  float64 `json:"rate" yaml:"rate"`
	MinMs int     `json:"minMs" yaml:"minMs"` // 0 to 10,000
	MaxMs int     `json:"maxMs" yaml:"maxMs"` // MinMs to 10,000
}

// maxDelay bounds the time for which a message is held.
const maxDelay = 10 * time.Second

func (l Latency) name() Name      { return NameLatency }
func (l Latency) strikes() target { return messages }

func (l Latency) check() error {
	if err := checkRate(l.name(), l.Rate); err != nil {
		return err
	}
	return checkRange(l.name(), l.MinMs, l.MaxMs, maxDelay)
}

func (l Latency) strike(chance *rand.Rand) (blow, bool) {
	hit := chance.Float64() < l.Rate
	return blow{delay: between(chance, l.MinMs, l.MaxMs)}, hit
}
