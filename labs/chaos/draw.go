package chaos

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// chance makes the generator of one fault for the nth target of a connection.
// It depends on nothing else, so no draw moves another.
func (p *place) chance(direction Towards, fault Name, n uint64) *rand.Rand {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %s %s %d", p.seed, p.connection, direction, fault, n))
	return rand.New(rand.NewPCG(binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])))
}

// draw returns what the faults do to the nth target.
func (f *Faults) draw(p *place, what target, direction Towards, n uint64) (blows []blow) {
	for _, fault := range f.all() {
		fault, ok := fault.(drawn)
		if !ok || fault.strikes() != what {
			continue
		}
		if b, hit := fault.strike(p.chance(direction, fault.name(), n)); hit {
			b.name = fault.name()
			blows = append(blows, b)
		}
	}
	return blows
}
