package embedded

import "strings"

// matchGlob reports whether a channel matches a pattern as Redis sees it
// (stringmatchlen in its util.c), byte by byte.
func matchGlob(pattern, s string) bool {
	if s == "" {
		return pattern == ""
	}
	at, star, resume := 0, -1, 0
	for i := 0; i < len(s); {
		if at < len(pattern) && pattern[at] == '*' {
			star, resume = at, i
			at++
			continue
		}
		if next, ok := matchByte(pattern, at, s[i]); ok {
			at = next
			i++
			continue
		}
		if star < 0 {
			return false
		}
		resume++ // let the newest star take one byte more
		at, i = star+1, resume
	}
	return strings.Trim(pattern[at:], "*") == ""
}

// matchByte matches what is at a place of the pattern, which is no star, and
// returns the place behind it.
func matchByte(pattern string, at int, c byte) (next int, ok bool) {
	switch {
	case at == len(pattern):
		return at, false
	case pattern[at] == '?':
		return at + 1, true
	case pattern[at] == '[':
		return matchSet(pattern, at+1, c)
	case pattern[at] == '\\' && at+1 < len(pattern):
		at++
	}
	return at + 1, pattern[at] == c
}

// matchSet is matchByte from behind a '['. The end closes a set that is open.
func matchSet(pattern string, at int, c byte) (next int, ok bool) {
	negated := strings.HasPrefix(pattern[at:], "^")
	if negated {
		at++
	}
	for ; at < len(pattern) && pattern[at] != ']'; at++ {
		left := len(pattern) - at
		switch {
		case pattern[at] == '\\' && left >= 2:
			at++
			ok = ok || pattern[at] == c
		case left >= 3 && pattern[at+1] == '-': // signed, as on x86-64; either end may come first
			from, to := int8(pattern[at]), int8(pattern[at+2])
			ok = ok || int8(c) >= min(from, to) && int8(c) <= max(from, to)
			at += 2
		default:
			ok = ok || pattern[at] == c
		}
	}
	return min(at+1, len(pattern)), ok != negated
}
