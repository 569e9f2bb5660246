package lessons

import (
	"errors"
	"slices"
	"strings"
	"time"
)

// Matcher says what has to be seen on the wire for a step. README.md in the
// content folder tells its words.
type Matcher struct {
	alternatives []alternative
}

// alternative is one way to fulfil a Matcher: events that fit together.
type alternative struct {
	want  []*pattern
	never []*pattern
}

// pattern is one event, or a row of them, with how it stands to others.
type pattern struct {
	on    string
	as    string
	where []condition // those that need no other event
	refer []condition // those that do
	after []string    // names of patterns and steps

	window   window // since the first of after
	sameConn string
	newConn  string

	atLeast  int // 0: this is not about a row
	oneConn  bool
	span     window
	every    []condition
	inOrder  string // the name of a field
	overRow  []rowCondition
	captures []field // fields that are remembered

	hold  time.Duration // of never: how long
	until string        // of never: the name of another pattern
}

// rowCondition is a condition on one number of a row.
type rowCondition struct {
	of string // smallest, largest, total
	condition
}

// window is a time between two events; nil: no bound.
type window struct{ from, to any }

func (w window) set() bool { return w.from != nil || w.to != nil }

func (p *pattern) capture(f field) {
	if !slices.ContainsFunc(p.captures, func(c field) bool { return c.name == f.name }) {
		p.captures = append(p.captures, f)
	}
}

// names are those of the events that the pattern refers to.
func (p *pattern) names() []string {
	names := slices.Clone(p.after)
	if p.sameConn != "" {
		names = append(names, p.sameConn)
	}
	if p.newConn != "" {
		names = append(names, p.newConn)
	}
	for _, c := range p.refer {
		for _, t := range c.tests {
			if t.ref != nil {
				names = append(names, t.ref.name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// relations counts what ties the pattern to others.
func (p *pattern) relations() int {
	n := len(p.refer)
	for _, set := range []bool{len(p.after) > 0, p.window.set(), p.sameConn != "", p.newConn != ""} {
		if set {
			n++
		}
	}
	return n
}

// The bounds of a matcher.
const (
	maxPatterns = 12
	maxRow      = 1000
)

// matchNode is a matcher as it is written: one pattern, patterns, or alternatives.
type matchNode struct {
	at   offset
	Any  []matchNode
	Want []patternNode
	// Never is what may not happen meanwhile.
	Never []patternNode
}

func (m *matchNode) bind(n *node) error {
	members, ok := n.value.([]member)
	if !ok {
		return faultf(n.at, "here stands %s, wanted is a matcher", n.kind())
	}
	m.at = n.at
	has := func(key string) bool {
		return slices.ContainsFunc(members, func(m member) bool { return m.key == key })
	}
	switch {
	case has("any"):
		var object struct {
			Any []matchNode `json:"any"`
		}
		err := bind(n, &object)
		m.Any = object.Any
		if err == nil && len(m.Any) < 2 {
			return faultf(n.at, "%q lists two alternatives or more", "any")
		}
		return err
	case has("want"):
		var object struct {
			Want  []patternNode `json:"want"`
			Never []patternNode `json:"never,omitzero"`
		}
		err := bind(n, &object)
		m.Want, m.Never = object.Want, object.Never
		if err == nil && len(m.Want) == 0 {
			return faultf(n.at, "%q lists a pattern or more", "want")
		}
		return err
	case has("on"):
		m.Want = make([]patternNode, 1)
		return bind(n, &m.Want[0])
	}
	return faultf(n.at, "a matcher has %q, %q or %q", "on", "want", "any")
}

// patternNode is a pattern as it is written.
type patternNode struct {
	here
	On       stringNode     `json:"on"`
	As       string         `json:"as,omitzero"`
	Where    conditionsNode `json:"where,omitzero"`
	After    stringsNode    `json:"after,omitzero"`
	Within   windowNode     `json:"within,omitzero"`
	SameConn sameConnNode   `json:"sameConn,omitzero"`
	NewConn  stringNode     `json:"newConn,omitzero"`
	AtLeast  intNode        `json:"atLeast,omitzero"`
	Span     windowNode     `json:"span,omitzero"`
	Every    conditionsNode `json:"every,omitzero"`
	InOrder  stringNode     `json:"inOrder,omitzero"`
	Smallest conditionsNode `json:"smallest,omitzero"`
	Largest  conditionsNode `json:"largest,omitzero"`
	Total    conditionsNode `json:"total,omitzero"`
	For      timeNode       `json:"for,omitzero"`
	Until    stringNode     `json:"until,omitzero"`
}

// The leaves of a pattern, which know where they stand.
type (
	stringNode struct {
		at offset
		s  string
	}
	stringsNode  []stringNode
	sameConnNode struct {
		stringNode
		all bool
	}
	intNode struct {
		at offset
		n  int
	}
	timeNode struct {
		at offset
		d  time.Duration
	}
	windowNode struct {
		at offset
		window
	}
)

func (s *stringNode) bind(n *node) error {
	s.at = n.at
	return bind(n, &s.s)
}

func (s *stringsNode) bind(n *node) error {
	if _, ok := n.value.(string); ok {
		*s = make(stringsNode, 1)
		return (*s)[0].bind(n)
	}
	return bind(n, (*[]stringNode)(s))
}

func (s *sameConnNode) bind(n *node) error {
	if all, ok := n.value.(bool); ok {
		s.at, s.all = n.at, all
		return nil
	}
	return s.stringNode.bind(n)
}

func (i *intNode) bind(n *node) error {
	i.at = n.at
	return bind(n, &i.n)
}

func (t *timeNode) bind(n *node) error {
	var s string
	if err := bind(n, &s); err != nil {
		return err
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return faultf(n.at, `%q is not a time: wanted is one like "200ms", "5s" or "2m"`, s)
	}
	t.at, t.d = n.at, d
	return nil
}

func (w *windowNode) bind(n *node) error {
	w.at = n.at
	if _, ok := n.value.(string); ok {
		var to timeNode
		err := to.bind(n)
		w.to = to.d
		return errors.Join(err, checkWindow(n.at, nil, w.to))
	}
	var object struct {
		From timeNode `json:"from,omitzero"`
		To   timeNode `json:"to,omitzero"`
	}
	if err := bind(n, &object); err != nil {
		return err
	}
	if object.From.at > 0 {
		w.from = object.From.d
	}
	if object.To.at > 0 {
		w.to = object.To.d
	}
	if !w.set() {
		return faultf(n.at, "a window has %q, %q or both", "from", "to")
	}
	return checkWindow(n.at, w.from, w.to)
}

// compiler turns what is written into patterns. It belongs to one alternative.
type compiler struct {
	facts []Fact
	steps []string // that the lesson has
	step  string   // whose matcher it is
	named map[string]*pattern
}

// compile makes the matcher of a step.
func compile(m *matchNode, facts []Fact, steps []string, step string) (*Matcher, error) {
	if m.Any != nil {
		var all Matcher
		var faults []error
		for i := range m.Any {
			one, err := compile(&m.Any[i], facts, steps, step)
			faults = append(faults, err)
			if one != nil {
				all.alternatives = append(all.alternatives, one.alternatives...)
			}
		}
		return &all, errors.Join(faults...)
	}
	c := compiler{facts, steps, step, make(map[string]*pattern)}
	var a alternative
	var faults []error
	if len(m.Want)+len(m.Never) > maxPatterns {
		faults = append(faults, faultf(m.at, "a matcher has at most %d patterns", maxPatterns))
	}
	for i := range m.Want {
		p, err := c.pattern(&m.Want[i])
		faults = append(faults, err)
		if len(m.Want[i].Until.s) > 0 || m.Want[i].For.at > 0 {
			faults = append(faults, faultf(m.Want[i].at, "%q and %q are words of %q", "for", "until", "never"))
		}
		a.want = append(a.want, p)
		if p.as != "" {
			if c.named[p.as] != nil || slices.Contains(steps, p.as) {
				faults = append(faults, faultf(m.Want[i].at, "the name %q is taken", p.as))
			}
			c.named[p.as] = p
		}
	}
	for i := range m.Never {
		p, err := c.never(&m.Never[i])
		faults = append(faults, err)
		a.never = append(a.never, p)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return &Matcher{[]alternative{a}}, nil
}

func (c *compiler) never(n *patternNode) (*pattern, error) {
	p, err := c.pattern(n)
	if err != nil {
		return p, err
	}
	p.hold, p.until = n.For.d, n.Until.s
	switch {
	case len(p.after) != 1 || c.named[p.after[0]] == nil:
		return p, faultf(n.at, "a pattern in %q says in %q which event it begins with", "never", "after")
	case (n.For.at > 0) == (n.Until.s != ""):
		return p, faultf(n.at, "a pattern in %q ends either with %q or with %q", "never", "for", "until")
	case n.For.at > 0 && p.hold < minSide:
		return p, faultf(n.For.at, "each side of a window is at least %v wide", minSide)
	case p.until != "" && c.named[p.until] == nil:
		return p, faultf(n.Until.at, "%q names no pattern", p.until)
	case p.atLeast > 0 || p.as != "" || p.window.set():
		return p, faultf(n.at, "%q, %q and %q are not for a pattern in %q", "as", "atLeast", "within", "never")
	}
	return p, nil
}

// pattern compiles one pattern; the names that it may use are those before it.
func (c *compiler) pattern(n *patternNode) (*pattern, error) {
	p := &pattern{on: n.On.s, as: n.As, window: n.Within.window, atLeast: n.AtLeast.n, span: n.Span.window, oneConn: n.SameConn.all}
	kind, ok := kinds[p.on]
	if !ok {
		return p, faultf(n.On.at, "the event %q is not known: known are %s", p.on, strings.Join(eventNames(), ", "))
	}
	var faults []error
	fail := func(place offset, format string, args ...any) {
		faults = append(faults, faultf(place, format, args...))
	}
	if strings.Contains(p.as, ".") {
		fail(n.at, "a name has no dot: %q", p.as)
	}
	known := func(s stringNode, stepToo bool) string {
		if s.s == "" || c.named[s.s] != nil || stepToo && s.s != c.step && slices.Contains(c.steps, s.s) {
			return s.s
		}
		fail(s.at, "%q names no pattern that stands before this one, and no other step", s.s)
		return s.s
	}
	for _, name := range n.After {
		p.after = append(p.after, known(name, true))
	}
	p.sameConn, p.newConn = known(n.SameConn.stringNode, true), known(n.NewConn, true)
	if p.window.set() && len(p.after) != 1 {
		fail(n.Within.at, "%q needs one event in %q from which the time counts", "within", "after")
	}
	all := c.conditions(kind, p.on, n.Where, &faults)
	for _, cond := range all {
		if cond.refers() {
			p.refer = append(p.refer, cond)
			p.capture(cond.field)
		} else {
			p.where = append(p.where, cond)
		}
	}
	c.row(kind, p, n, &faults)
	return p, errors.Join(faults...)
}

// row compiles the words that are about several events.
func (c *compiler) row(kind kind, p *pattern, n *patternNode, faults *[]error) {
	fail := func(place offset, format string, args ...any) {
		*faults = append(*faults, faultf(place, format, args...))
	}
	if p.atLeast == 0 {
		if n.AtLeast.at > 0 {
			fail(n.AtLeast.at, "%q is 1 or more", "atLeast")
		} else if p.span.set() || p.oneConn || n.Every != nil || n.InOrder.s != "" || n.Smallest != nil || n.Largest != nil || n.Total != nil {
			fail(n.at, "%q, %q, %q, %q, %q, %q and %q: true need %q", "span", "every", "inOrder", "smallest", "largest", "total", "sameConn", "atLeast")
		}
		return
	}
	if p.atLeast < 1 || p.atLeast > maxRow {
		fail(n.AtLeast.at, "%q is from 1 to %d", "atLeast", maxRow)
		p.atLeast = 1
	}
	p.every = c.conditions(kind, p.on, n.Every, faults)
	for _, cond := range p.every {
		if cond.refers() {
			fail(n.at, "%q cannot refer to other events: put it into %q", "every", "where")
		}
	}
	if p.inOrder = n.InOrder.s; p.inOrder != "" {
		f, ok := kind.field(p.inOrder)
		if !ok || f.sort != aNumber && f.sort != anything {
			fail(n.InOrder.at, "%q is no field of numbers of the event %s", p.inOrder, p.on)
		}
		p.capture(f)
	}
	for _, over := range []struct {
		of    string
		where conditionsNode
	}{{"smallest", n.Smallest}, {"largest", n.Largest}, {"total", n.Total}} {
		for i, cond := range c.conditions(kind, p.on, over.where, faults) {
			if cond.field.sort != aNumber && cond.field.sort != aTime && cond.field.sort != anything || cond.refers() {
				fail(over.where[i].at, "%q is about numbers and times, and refers to no other event", over.of)
			}
			p.capture(cond.field)
			p.overRow = append(p.overRow, rowCondition{over.of, cond})
		}
	}
}

func (c *compiler) conditions(kind kind, on string, members conditionsNode, faults *[]error) []condition {
	var list []condition
	for _, m := range members {
		f, ok := kind.field(m.key)
		if !ok {
			*faults = append(*faults, faultf(m.at, "the event %s has no field %q; it has %s", on, m.key, kind.names()))
			continue
		}
		cond, err := c.condition(f, m.value)
		if err != nil {
			*faults = append(*faults, err)
			continue
		}
		list = append(list, cond)
	}
	return list
}

func eventNames() []string {
	names := make([]string, 0, len(kinds))
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
