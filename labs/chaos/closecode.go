package chaos

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// CloseCode puts another code into Close frames, such as one that is never sent
// (1005, 1006, 1015) or not defined (999, 1016): a strict receiver answers 1002.
type CloseCode struct {
	Rate float64 `json:"rate" yaml:"rate"`
	Code int     `json:"code" yaml:"code"` // 0 to 65,535
}

func (c CloseCode) name() Name      { return NameCloseCode }
func (c CloseCode) strikes() target { return closings }

func (c CloseCode) check() error {
	if c.Code < 0 || c.Code > math.MaxUint16 {
		return &InvalidError{"closeCode.code", c.Code, fmt.Sprintf("a number from 0 to %d", math.MaxUint16)}
	}
	return checkRate(c.name(), c.Rate)
}

func (c CloseCode) strike(chance *rand.Rand) (blow, bool) {
	return blow{code: uint16(c.Code)}, chance.Float64() < c.Rate
}
