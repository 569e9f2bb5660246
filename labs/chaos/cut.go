package chaos

import (
	"math/rand/v2"
	"time"
)

// Cut resets TCP connections: no Close frame, which the client reports as 1006.
// It is drawn once for each connection. The time counts from the opening, or from
// the last change of these settings.
type Cut struct {
	Rate  float64 `json:"rate" yaml:"rate"`
	MinMs int     `json:"minMs" yaml:"minMs"` // 0 to 600,000
	MaxMs int     `json:"maxMs" yaml:"maxMs"` // MinMs to 600,000
}

// maxAfter bounds the time until a connection is cut or abandoned.
const maxAfter = 10 * time.Minute

func (c Cut) name() Name      { return NameCut }
func (c Cut) strikes() target { return connections }

func (c Cut) check() error {
	if err := checkRate(c.name(), c.Rate); err != nil {
		return err
	}
	return checkRange(c.name(), c.MinMs, c.MaxMs, maxAfter)
}

func (c Cut) strike(chance *rand.Rand) (blow, bool) {
	hit := chance.Float64() < c.Rate
	return blow{after: between(chance, c.MinMs, c.MaxMs)}, hit
}
