package chaos

import "math/rand/v2"

// Duplication sends messages twice, one right behind the other.
type Duplication struct {
	Rate float64 `json:"rate" yaml:"rate"`
}

func (d Duplication) name() Name      { return NameDuplication }
func (d Duplication) strikes() target { return messages }
func (d Duplication) check() error    { return checkRate(d.name(), d.Rate) }

func (d Duplication) strike(chance *rand.Rand) (blow, bool) {
	return blow{again: true}, chance.Float64() < d.Rate
}
