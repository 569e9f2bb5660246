package bridges

// MatchRedis reports whether a channel matches a pattern as Redis sees it
// (stringmatchlen in its util.c): '*' is any bytes, '?' one byte, [abc],
// [a-z] and [^a] one byte of a set, and '\' takes away the meaning of what
// follows. No pattern is an error: a '[' that is never closed is closed by the
// end.
func MatchRedis(pattern, channel string) bool {
	g, _ := parseGlob(pattern)
	return g.match(channel)
}

// glob is a parsed Redis pattern. The empty string, which "*" does not match
// in Redis either, is no channel of ours.
type glob []token

// token is '*' or one byte of a set.
type token struct {
	star bool
	set  byteSet
}

type byteSet [4]uint64

func (s *byteSet) has(c byte) bool { return s[c>>6]&(1<<(c&63)) != 0 }
func (s *byteSet) add(c byte)      { s[c>>6] |= 1 << (c & 63) }

// addRange adds a range; Redis takes its ends in either order.
func (s *byteSet) addRange(from, to int8) {
	for c := int(min(from, to)); c <= int(max(from, to)); c++ {
		s.add(byte(c))
	}
}

func (s *byteSet) invert() {
	for i := range s {
		s[i] = ^s[i]
	}
}

func mustGlob(pattern string) glob {
	g, ok := parseGlob(pattern)
	if !ok {
		panic("bridges: pattern " + pattern)
	}
	return g
}

// parseGlob follows Redis token by token. ok is false when a range ends in a
// byte above 127: Redis compares those as signed or unsigned, as the C
// compiler of the server's machine has it. The glob is then that of x86-64,
// signed.
func parseGlob(pattern string) (g glob, ok bool) {
	ok = true
	for i := 0; i < len(pattern); i++ {
		var t token
		switch c := pattern[i]; {
		case c == '*':
			if len(g) > 0 && g[len(g)-1].star {
				continue
			}
			t.star = true
		case c == '?':
			t.set.invert() // of nothing
		case c == '[':
			var ascii bool
			t.set, i, ascii = parseSet(pattern, i+1)
			ok = ok && ascii
		case c == '\\' && i+1 < len(pattern):
			i++
			t.set.add(pattern[i])
		default:
			t.set.add(c)
		}
		g = append(g, t)
	}
	return g, ok
}

// parseSet reads a set from behind its '[' and returns the index of its ']'.
func parseSet(pattern string, i int) (set byteSet, end int, ascii bool) {
	ascii = true
	negated := i < len(pattern) && pattern[i] == '^'
	if negated {
		i++
	}
	for ; i < len(pattern) && pattern[i] != ']'; i++ {
		left := len(pattern) - i
		switch {
		case pattern[i] == '\\' && left >= 2:
			i++
			set.add(pattern[i])
		case left >= 3 && pattern[i+1] == '-': // the right end may be any byte, even ']'
			from, to := pattern[i], pattern[i+2]
			set.addRange(int8(from), int8(to))
			ascii = ascii && from < 0x80 && to < 0x80
			i += 2
		default:
			set.add(pattern[i])
		}
	}
	if negated {
		set.invert()
	}
	return set, i, ascii
}

// match is the usual walk with one point to come back to.
func (g glob) match(s string) bool {
	if s == "" {
		return len(g) == 0
	}
	at, star, resume := 0, -1, 0
	for i := 0; i < len(s); {
		switch {
		case at < len(g) && g[at].star:
			star, resume = at, i
			at++
		case at < len(g) && g[at].set.has(s[i]):
			at++
			i++
		case star >= 0: // let the newest star take one byte more
			resume++
			at, i = star+1, resume
		default:
			return false
		}
	}
	return g.acceptsAt(at)
}

// acceptsAt reports whether nothing but stars is left.
func (g glob) acceptsAt(at int) bool {
	for _, t := range g[at:] {
		if !t.star {
			return false
		}
	}
	return true
}

// after lists where a byte can lead from a place: to at most two places, since
// parseGlob joins stars. It is called so often that it must not allocate.
func (g glob) after(at int, c byte) (next [2]int, n int) {
	if at < len(g) && g[at].star {
		next[n] = at
		n++
		at++
	}
	if at < len(g) && g[at].set.has(c) {
		next[n] = at + 1
		n++
	}
	return next, n
}

const (
	// maxPlaces bounds a pattern that contains is asked of.
	maxPlaces = 64 * len(places{})
	// effort bounds the work of contains and overlaps, in bytes tried.
	// Ordinary rules need some hundred; for contains, a star before many question marks needs two to the power
	// of their number.
	effort = 20_000
)

// places is a set of places in a glob.
type places [5]uint64

func (p *places) has(at int) bool { return p[at>>6]&(1<<(at&63)) != 0 }
func (p *places) add(at int)      { p[at>>6] |= 1 << (at & 63) }

// contains reports whether every non-empty string that matches inner matches
// g. It walks through both, with the set of all places in g that the same
// string can lead to, and looks for a string that matches inner and not g.
// When it runs out of effort the answer is false: never wrongly true.
func (g glob) contains(inner glob) bool {
	type pair struct {
		inner int
		outer places
	}
	if len(g) >= maxPlaces {
		return false
	}
	alphabet := representatives(g, inner)
	start := pair{outer: places{1}}
	seen := map[pair]bool{start: true}
	work := 0
	for todo := []pair{start}; len(todo) > 0; {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, c := range alphabet {
			if work++; work > effort {
				return false
			}
			next, n := inner.after(p.inner, c)
			if n == 0 {
				continue
			}
			outer, all := g.step(&p.outer, c)
			if all {
				continue
			}
			for _, at := range next[:n] {
				if inner.acceptsAt(at) && !g.accepts(&outer) {
					return false
				}
				if q := (pair{at, outer}); !seen[q] {
					seen[q] = true
					todo = append(todo, q)
				}
			}
		}
	}
	return true
}

// step is after for a set of places. all reports that whatever follows will
// match. A place at a star makes those before it superfluous: whatever matches
// from there, the star can swallow up to the point where that would reach it.
func (g glob) step(from *places, c byte) (to places, all bool) {
	for at := len(g) - 1; at >= 0; at-- {
		if !from.has(at) {
			continue
		}
		next, n := g.after(at, c)
		for _, at := range next[:n] {
			to.add(at)
			if at == len(g)-1 && g[at].star {
				return to, true
			}
		}
		if g[at].star {
			break
		}
	}
	return to, false
}

func (g glob) accepts(p *places) bool {
	for at := len(g); at >= 0 && g.acceptsAt(at); at-- {
		if p.has(at) {
			return true
		}
	}
	return false
}

// overlaps reports whether some non-empty string matches both. When it runs out
// of effort the answer is true: never wrongly false.
func (g glob) overlaps(other glob) bool {
	type pair struct{ a, b int }
	alphabet := representatives(g, other)
	seen := map[pair]bool{{}: true}
	work := 0
	for todo := []pair{{}}; len(todo) > 0; {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, c := range alphabet {
			if work++; work > effort {
				return true
			}
			as, na := g.after(p.a, c)
			bs, nb := other.after(p.b, c)
			for _, a := range as[:na] {
				for _, b := range bs[:nb] {
					if g.acceptsAt(a) && other.acceptsAt(b) {
						return true
					}
					if q := (pair{a, b}); !seen[q] {
						seen[q] = true
						todo = append(todo, q)
					}
				}
			}
		}
	}
	return false
}

// representatives returns one byte of each kind that the globs tell apart.
func representatives(globs ...glob) []byte {
	var class [256]int // of each byte; refined by one set after the other
	classes := 1
	for _, g := range globs {
		for i := range g {
			if g[i].star {
				continue
			}
			var finer [256][2]int // class and in the set or not: new class + 1
			classes = 0
			for c, old := range class {
				side := &finer[old][0]
				if g[i].set.has(byte(c)) {
					side = &finer[old][1]
				}
				if *side == 0 {
					classes++
					*side = classes
				}
				class[c] = *side - 1
			}
		}
	}
	bytes := make([]byte, 0, classes)
	known := make([]bool, classes)
	for c := range class {
		if !known[class[c]] {
			known[class[c]] = true
			bytes = append(bytes, byte(c))
		}
	}
	return bytes
}
