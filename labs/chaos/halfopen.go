package chaos

import "math/rand/v2"

// HalfOpen leaves clients with half a connection: the server's side is gone and
// its end reset, while the client's TCP connection stays as it was, takes what
// the client sends and never says anything again. It ends when the client ends
// it, and after ten minutes. It is drawn once for each connection; the time
// counts as that of Cut.
type HalfOpen struct {
	Rate  float64 `json:"rate" yaml:"rate"`
	MinMs int     `json:"minMs" yaml:"minMs"` // 0 to 600,000
	MaxMs int     `json:"maxMs" yaml:"maxMs"` // MinMs to 600,000
}

func (h HalfOpen) name() Name      { return NameHalfOpen }
func (h HalfOpen) strikes() target { return connections }

func (h HalfOpen) check() error {
	if err := checkRate(h.name(), h.Rate); err != nil {
		return err
	}
	return checkRange(h.name(), h.MinMs, h.MaxMs, maxAfter)
}

func (h HalfOpen) strike(chance *rand.Rand) (blow, bool) {
	hit := chance.Float64() < h.Rate
	return blow{after: between(chance, h.MinMs, h.MaxMs), abandon: true}, hit
}
