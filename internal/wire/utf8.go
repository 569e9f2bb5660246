package wire

// UTF8 checks text that arrives in pieces and finds the first byte after which
// it cannot become valid any more. Zero is ready for the first piece.
type UTF8 struct {
	missing  int  // continuation bytes that have to come
	low, top byte // what the next one may be
	bad      bool
}

// Write checks one more piece and returns how many of its bytes are good: all,
// or those before the first bad one. After a bad byte none is good.
func (u *UTF8) Write(p []byte) int {
	if u.bad {
		return 0
	}
	for i, b := range p {
		if u.missing == 0 {
			if b < 0x80 {
				continue
			}
			// The table of RFC 3629, section 4.
			u.low, u.top = 0x80, 0xbf
			switch {
			case b < 0xc2, b > 0xf4:
				u.bad = true
			case b < 0xe0:
				u.missing = 1
			case b < 0xf0:
				u.missing = 2
			default:
				u.missing = 3
			}
			switch b {
			case 0xe0:
				u.low = 0xa0 // else overlong
			case 0xed:
				u.top = 0x9f // else a surrogate
			case 0xf0:
				u.low = 0x90 // else overlong
			case 0xf4:
				u.top = 0x8f // else beyond U+10FFFF
			}
		} else {
			u.bad = b < u.low || b > u.top
			u.missing--
			u.low, u.top = 0x80, 0xbf
		}
		if u.bad {
			return i
		}
	}
	return len(p)
}

// Complete reports whether the text may end here: it is valid, and no character
// has begun that is not whole.
func (u *UTF8) Complete() bool { return !u.bad && u.missing == 0 }
