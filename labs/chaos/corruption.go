package chaos

import (
	"fmt"
	"math/rand/v2"
)

// Corruption makes exactly one byte of a message another one. Text stays UTF-8
// unless BreakUTF8 is set: then the byte becomes one that UTF-8 never has, which
// a receiver closes with 1007. Empty messages have no byte to change.
type Corruption struct {
	Rate      float64 `json:"rate" yaml:"rate"`
	BreakUTF8 bool    `json:"breakUtf8" yaml:"breakUtf8"`
}

// ByteChange is a byte that was made another.
type ByteChange struct {
	At   int  `json:"at"` // in the message's payload, from 0
	From byte `json:"from"`
	To   byte `json:"to"`
}

func (c *ByteChange) String() string {
	return fmt.Sprintf("byte %d: 0x%02X → 0x%02X", c.At, c.From, c.To)
}

func (c Corruption) name() Name      { return NameCorruption }
func (c Corruption) strikes() target { return messages }
func (c Corruption) check() error    { return checkRate(c.name(), c.Rate) }

func (c Corruption) strike(chance *rand.Rand) (blow, bool) {
	hit := chance.Float64() < c.Rate
	return blow{edit: func(text bool, payload []byte) *ByteChange {
		if len(payload) == 0 {
			return nil
		}
		at := chance.IntN(len(payload))
		if text && !c.BreakUTF8 {
			at = lastOfCharacter(payload, at)
		}
		from := payload[at]
		return &ByteChange{at, from, c.another(chance, text, from)}
	}}, hit
}

// lastOfCharacter is where the character ends that has a byte at at. The last
// byte of a character may be any of its kind.
func lastOfCharacter(payload []byte, at int) int {
	for at+1 < len(payload) && payload[at+1]&0xc0 == 0x80 {
		at++
	}
	return at
}

func (c Corruption) another(chance *rand.Rand, text bool, from byte) byte {
	switch {
	case !text:
		return from ^ byte(1+chance.IntN(255))
	case c.BreakUTF8 && from == 0xff:
		return 0xfe
	case c.BreakUTF8:
		return 0xff
	case from >= 0x80: // another continuation byte
		return 0x80 | (from+1+byte(chance.IntN(63)))&0x3f
	}
	to := byte(' ' + chance.IntN('~'-' '))
	if to >= from && from >= ' ' {
		to++
	}
	return to
}
