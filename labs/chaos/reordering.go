package chaos

import "math/rand/v2"

// Reordering lets the next message of the same direction go first. When none
// comes within WithinMs, the message goes on, held but in its place. The message
// that went first is not itself held, so at a rate of 1 messages change places
// in pairs.
type Reordering struct {
	Rate     float64 `json:"rate" yaml:"rate"`
	WithinMs int     `json:"withinMs" yaml:"withinMs"` // 1 to 10,000
}

func (r Reordering) name() Name      { return NameReordering }
func (r Reordering) strikes() target { return messages }

func (r Reordering) check() error {
	if err := checkRate(r.name(), r.Rate); err != nil {
		return err
	}
	return checkMs(r.name(), "withinMs", r.WithinMs, 1, maxDelay)
}

func (r Reordering) strike(chance *rand.Rand) (blow, bool) {
	return blow{yields: milliseconds(r.WithinMs)}, chance.Float64() < r.Rate
}
