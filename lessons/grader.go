package lessons

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// State is how far a step is.
type State string

// The states.
const (
	Open   State = "open"
	Ticked State = "ticked"
)

// Verdict is what the grader says to one step.
type Verdict struct {
	Step  string
	State State
	Tick  *Tick // why it is ticked; nil: it is not
	Miss  *Miss // what came nearest; nil: nothing has, or it is ticked
}

// Tick says what ticked a step. It is never taken back.
type Tick struct {
	At      time.Time
	Events  []Place // one for each pattern of the matcher
	Because Text
}

// Miss is an event that nearly did.
type Miss struct {
	Place
	Saw, Wanted Text // what differed; empty when the lesson says it in its own words
	Sentence    Text
}

// Place is where to look.
type Place struct {
	Seq, Conn uint64 // Conn 0: on no connection
	Frame     int    // number within its connection, both directions counted together, from 1; 0: no frame
}

// Config is what a Grader knows besides the events.
type Config struct {
	Nonce string         // the session's word; empty: steps that ask for it stay open
	Facts map[string]any // by name, as encoding/json decodes them; they go before the lesson's own values
}

// Grader follows one session through the steps of one lesson. Events are fed
// one by one; however many at a time, the verdicts are the same, for they depend
// on nothing else. It belongs to one goroutine.
//
// Memory is bounded: of each pattern it remembers 32 events that fit, as many
// more as a row has, and 256 of each that may not happen, with values of at most
// 1 KiB; of 1,000 connections what it needs to number their frames. Of more
// events the newest 16 stay, and of the older ones those that lie farthest apart
// in time. Where an event was forgotten that may have broken a "never", it counts
// as broken.
type Grader struct {
	env     env
	history history
	steps   []*grading
	ticks   map[string]*candidate
	seq     uint64
	now     time.Time
}

// grading is one step under way.
type grading struct {
	step  *Step
	alts  []grade
	waits bool // time alone may tick it
	out   Verdict
	score int // of the miss
}

// grade is one alternative under way.
type grade struct {
	alternative
	seen     []memory // of want
	offences []memory // of never
}

// candidate is an event that fits a pattern by itself.
type candidate struct {
	n, began uint64 // numbers of views: of itself, and of its connection's first
	at       time.Time
	place    Place
	name     Text           // how it is called
	values   map[string]any // of the captured fields
	broken   bool           // it does not fulfil every
}

// memory holds the candidates of a pattern, oldest first.
type memory struct {
	list      []*candidate
	max       int
	inTurn    bool   // the oldest is forgotten first
	forgotten uint64 // number of the last that was
}

// The bounds of memories. Values that are longer than maxValue are not captured.
const (
	maxCandidates = 32
	newest        = maxCandidates / 2
	maxNever      = 256
	maxValue      = 1 << 10
)

// NewGrader begins a session.
func NewGrader(l *Lesson, cfg Config) *Grader {
	g := &Grader{history: newHistory(), ticks: make(map[string]*candidate)}
	g.env = env{facts: make(map[string]any), nonce: cfg.Nonce, totals: g.history.totals}
	for _, f := range l.Facts {
		if f.Value != nil {
			g.env.facts[f.Name] = f.Value
		}
	}
	maps.Copy(g.env.facts, cfg.Facts)
	for i := range l.Steps {
		s := &l.Steps[i]
		gr := &grading{step: s, out: Verdict{Step: s.ID, State: Open}}
		for _, a := range s.matcher.alternatives {
			gr.alts = append(gr.alts, newGrade(a))
			gr.waits = gr.waits || slices.ContainsFunc(a.never, func(p *pattern) bool { return p.hold > 0 })
		}
		g.steps = append(g.steps, gr)
	}
	return g
}

func newGrade(a alternative) grade {
	g := grade{alternative: a}
	for _, p := range a.want {
		g.seen = append(g.seen, memory{max: maxCandidates + p.atLeast, inTurn: p.atLeast > 0})
	}
	for range a.never {
		g.offences = append(g.offences, memory{max: maxNever, inTurn: true})
	}
	return g
}

// Grade judges a whole transcript.
func Grade(l *Lesson, cfg Config, events []Event) []Verdict {
	g := NewGrader(l, cfg)
	for _, e := range events {
		g.Feed(e)
	}
	return g.Verdicts()
}

// Verdicts returns what is said to each step now, in the lesson's order.
func (g *Grader) Verdicts() []Verdict {
	list := make([]Verdict, len(g.steps))
	for i, s := range g.steps {
		list[i] = s.out
	}
	return list
}

// Next is when the time alone may tick a step: feed a moment then. Zero: never.
func (g *Grader) Next() time.Time {
	var next time.Time
	for _, s := range g.steps {
		if s.out.State == Ticked {
			continue
		}
		for i := range s.alts {
			for _, at := range s.alts[i].ends() {
				if at.After(g.now) && (next.IsZero() || at.Before(next)) {
					next = at
				}
			}
		}
	}
	return next
}

// ends lists when the times of never would be over.
func (a *grade) ends() []time.Time {
	var list []time.Time
	for _, p := range a.never {
		if p.hold == 0 {
			continue
		}
		for i, w := range a.want {
			if w.as == p.after[0] {
				for _, c := range a.seen[i].list {
					list = append(list, c.at.Add(p.hold))
				}
			}
		}
	}
	return list
}

// Feed takes the next event and returns the verdicts that it changed.
func (g *Grader) Feed(e Event) []Verdict {
	if e.Seq == 0 {
		e.Seq = g.seq
	}
	if e.At.Before(g.now) {
		e.At = g.now
	}
	changed := make(map[*grading]bool)
	for end := g.Next(); !end.IsZero() && !end.After(e.At); end = g.Next() {
		g.now = end // so that it is all the same whether the host fed this moment
		for _, s := range g.steps {
			if s.waits && g.solve(s, nil, nil) {
				changed[s] = true
			}
		}
	}
	g.seq, g.now = e.Seq, e.At
	maps.Copy(g.env.facts, e.Facts)
	var misses []*found
	ticked := false
	for _, v := range g.history.add(&e) {
		for _, s := range g.steps {
			if s.out.State == Ticked {
				continue
			}
			fits, miss := g.offer(s, v)
			if g.solve(s, v, fits) {
				changed[s], ticked = true, true
				continue
			}
			if miss = g.nearest(s, v, fits, miss); miss != nil {
				misses = append(misses, miss)
			}
		}
	}
	for _, m := range misses {
		// What ticks a step is no miss of another.
		if !ticked && m.step.out.State == Open && m.step.take(m) {
			changed[m.step] = true
		}
	}
	var list []Verdict
	for _, s := range g.steps {
		if changed[s] {
			list = append(list, s.out)
		}
	}
	return list
}

// take replaces the miss by m, if m is nearer, or as near and newer, or of a
// newer try: a newer connection, or another answer.
func (s *grading) take(m *found) bool {
	if old := s.out.Miss; old != nil && m.score < s.score && m.miss.Conn <= old.Conn && m.on != "answer" {
		return false
	}
	s.out.Miss, s.score = &m.miss, m.score
	return true
}

// fit is an event that a pattern of an alternative has taken.
type fit struct {
	alt   *grade
	i     int // of the pattern in want; in never if never is set
	never bool
	c     *candidate
	every *condition // that it does not fulfil
}

// found is a miss that was found, and how near it came: 1000 is nearest.
type found struct {
	step  *grading
	on    string
	score int
	miss  Miss
}

// offer puts a view before all patterns of a step. It returns where it fits, and
// the nearest of those that it does not fit by itself.
func (g *Grader) offer(s *grading, v *view) (fits []fit, miss *found) {
	if v.answer != nil && v.answer.Step != s.step.ID {
		return nil, nil
	}
	for a := range s.alts {
		alt := &s.alts[a]
		for i, p := range alt.want {
			if p.on != v.on {
				continue
			}
			if failing, about := g.failing(p.where, v); len(failing) > 0 {
				score := 1000 * (len(p.where) - len(failing)) / (len(p.where) + p.relations())
				if !about && (miss == nil || score > miss.score) {
					miss = &found{s, v.on, score, g.missOf(v, g.differences(v, failing))}
				}
				continue
			}
			f := fit{alt: alt, i: i, c: candidateOf(p, v)}
			if failing, _ := g.failing(p.every, v); len(failing) > 0 {
				f.every, f.c.broken = failing[0], true
			}
			alt.seen[i].add(f.c)
			fits = append(fits, f)
		}
		for i, p := range alt.never {
			if p.on != v.on {
				continue
			}
			if failing, _ := g.failing(p.where, v); len(failing) == 0 {
				f := fit{alt: alt, i: i, never: true, c: candidateOf(p, v)}
				alt.offences[i].add(f.c)
				fits = append(fits, f)
			}
		}
	}
	return fits, miss
}

// failing lists the conditions that v does not fulfil. about: one of them says
// that the event is about something else.
func (g *Grader) failing(conditions []condition, v *view) (list []*condition, about bool) {
	for i := range conditions {
		c := &conditions[i]
		if c.failing(c.field.get(v), &g.env) != nil {
			list = append(list, c)
			about = about || c.field.about
		}
	}
	return list, about
}

func candidateOf(p *pattern, v *view) *candidate {
	c := &candidate{n: v.n, began: v.began, at: v.at, place: v.place(), name: v.name()}
	for _, f := range p.captures {
		value := f.get(v)
		if size(value) > maxValue {
			continue
		}
		if b, ok := value.([]byte); ok {
			value = slices.Clone(b) // so that it holds no message in memory
		}
		if s, ok := value.(string); ok {
			value = strings.Clone(s)
		}
		if c.values == nil {
			c.values = make(map[string]any)
		}
		c.values[f.name] = value
	}
	return c
}

// size is about what a value takes in memory.
func size(value any) int {
	switch v := value.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	case []any, map[string]any:
		return len(compact(v))
	}
	return 0
}

// add takes a candidate, and forgets one if there are too many.
func (m *memory) add(c *candidate) {
	m.list = append(m.list, c)
	if len(m.list) <= m.max {
		return
	}
	i := 0
	if !m.inTurn {
		least := time.Duration(-1)
		for k := 1; k < len(m.list)-newest; k++ {
			if gap := m.list[k+1].at.Sub(m.list[k-1].at); least < 0 || gap < least {
				i, least = k, gap
			}
		}
	}
	m.forgotten = max(m.forgotten, m.list[i].n)
	m.list = slices.Delete(m.list, i, i+1)
}

// maxChecks bounds the work for one event and step.
const maxChecks = 20_000

// search looks for events that fit together.
type search struct {
	g      *Grader
	alt    *grade
	fixed  int                   // the number of the pattern that is bound to new
	new    *candidate            // nil: none is
	bound  map[string]*candidate // patterns by name, and ticked steps
	chosen []*candidate
	end    time.Time // when the last time of never was over
	checks int
}

func (g *Grader) search(alt *grade) *search {
	return &search{g: g, alt: alt, bound: maps.Clone(g.ticks), checks: maxChecks}
}

// env is what relations are compared with.
func (s *search) env() *env {
	e := s.g.env
	e.bound = s.bound
	return &e
}

// solve ticks the step if the events that are remembered suffice: with one that
// has just come, or, if v is nil, because a time is over.
func (g *Grader) solve(s *grading, v *view, fits []fit) bool {
	if v == nil {
		for i := range s.alts {
			if search := g.search(&s.alts[i]); search.from(0, search.env()) {
				g.tick(s, search, g.history.n)
				return true
			}
		}
	}
	for _, f := range fits {
		if f.never {
			continue
		}
		search := g.search(f.alt)
		search.fixed, search.new = f.i, f.c
		if search.from(0, search.env()) {
			g.tick(s, search, v.n)
			return true
		}
	}
	return false
}

// tick ticks a step with what a search has found; n is the number of the last view.
func (g *Grader) tick(s *grading, search *search, n uint64) {
	last := search.chosen[0]
	tick := &Tick{}
	for _, c := range search.chosen {
		tick.Events = append(tick.Events, c.place)
		if c.n > last.n {
			last = c
		}
	}
	if tick.At = last.at; search.end.After(tick.At) {
		tick.At = search.end
	}
	tick.Because = s.step.Because
	if tick.Because == none {
		tick.Because = because(last)
	}
	g.ticks[s.step.ID] = &candidate{n: n, began: last.began, at: tick.At, place: last.place, name: last.name}
	s.out = Verdict{Step: s.step.ID, State: Ticked, Tick: tick}
	s.alts, s.waits = nil, false
}

// from binds the patterns from number i on.
func (s *search) from(i int, e *env) bool {
	if i == len(s.alt.want) {
		return s.undisturbed(e)
	}
	p := s.alt.want[i]
	for c := range s.choices(i, p, e) {
		s.chosen = append(s.chosen, c)
		if p.as != "" {
			s.bound[p.as] = c
		}
		if s.from(i+1, e) {
			return true
		}
		s.chosen = s.chosen[:len(s.chosen)-1]
		if s.checks <= 0 {
			break
		}
	}
	if p.as != "" {
		delete(s.bound, p.as)
	}
	return false
}

// choices yields what pattern i may be bound to, given those that are bound:
// newest first. Of a row it is the last event.
func (s *search) choices(i int, p *pattern, e *env) iter.Seq[*candidate] {
	return func(yield func(*candidate) bool) {
		list := s.alt.seen[i].list
		fixed := s.new != nil && i == s.fixed
		if fixed && p.atLeast == 0 {
			list = []*candidate{s.new}
		}
		if p.atLeast == 0 {
			for _, c := range slices.Backward(list) {
				if s.related(p, c, e) && !yield(c) {
					return
				}
			}
			return
		}
		for _, row := range slices.Backward(s.rows(p, list, e)) {
			if row.length() >= p.atLeast && (!fixed || row.last() == s.new) && len(row.failing(p, e)) == 0 && !yield(row.last()) {
				return
			}
		}
	}
}

// reach yields what pattern k may be bound to, while those from i on that stand
// before it are bound in every way in which they fit together: newest first.
func (s *search) reach(i, k int, yield func(*candidate) bool) bool {
	p := s.alt.want[i]
	for c := range s.choices(i, p, s.env()) {
		if p.as != "" {
			s.bound[p.as] = c
		}
		if i == k && !yield(c) || i < k && !s.reach(i+1, k, yield) || s.checks <= 0 {
			return false
		}
	}
	if p.as != "" {
		delete(s.bound, p.as)
	}
	return true
}

// related reports whether c stands to the bound events as p says.
func (s *search) related(p *pattern, c *candidate, e *env) bool {
	s.checks--
	return s.checks > 0 && len(s.unrelated(p, c, e, true)) == 0
}

// relation is one way in which an event does not stand to another as it should.
type relation struct {
	word string // after, within, sameConn, newConn, or refer
	to   *candidate
	cond *condition
}

// unrelated lists what is wrong with how c stands to the bound events.
func (s *search) unrelated(p *pattern, c *candidate, e *env, first bool) []relation {
	var list []relation
	for i, name := range p.after {
		to := s.bound[name]
		switch {
		case to == nil || c.n <= to.n:
			list = append(list, relation{word: "after", to: to})
		case i == 0 && p.window.set() && !inRange(c.at.Sub(to.at), p.window.from, p.window.to):
			list = append(list, relation{word: "within", to: to})
		}
		if first && list != nil {
			return list
		}
	}
	if p.sameConn != "" {
		if to := s.bound[p.sameConn]; to == nil || to.place.Conn != c.place.Conn {
			list = append(list, relation{word: "sameConn", to: to})
		}
	}
	if p.newConn != "" {
		if to := s.bound[p.newConn]; to == nil || c.began <= to.n {
			list = append(list, relation{word: "newConn", to: to})
		}
	}
	for i := range p.refer {
		cond := &p.refer[i]
		if t := cond.failing(c.values[cond.field.name], e); t != nil {
			r := relation{word: "refer", cond: cond}
			if t.ref != nil {
				r.to = s.bound[t.ref.name]
			}
			list = append(list, r)
		}
	}
	return list
}

// undisturbed reports whether nothing happened that may not, and the time for it
// is over.
func (s *search) undisturbed(e *env) bool {
	s.end = time.Time{}
	for i, p := range s.alt.never {
		from := s.bound[p.after[0]]
		memory := &s.alt.offences[i]
		if memory.forgotten > from.n {
			return false
		}
		for _, c := range memory.list {
			if s.related(p, c, e) && s.disturbs(p, c, from) {
				return false
			}
		}
		if s.checks <= 0 {
			return false
		}
		if p.hold > 0 {
			end := from.at.Add(p.hold)
			if s.g.now.Before(end) {
				return false
			}
			if end.After(s.end) {
				s.end = end
			}
		}
	}
	return true
}

// disturbs reports whether c came while it may not.
func (s *search) disturbs(p *pattern, c, from *candidate) bool {
	if p.hold > 0 {
		return c.at.Sub(from.at) < p.hold
	}
	until := s.bound[p.until]
	return until == nil || c.n < until.n
}

// row is events that follow each other; the last of them so many as are asked for.
type row struct {
	events []*candidate // the last atLeast of the row, or fewer
	before int          // how many stand before those
}

func (r *row) last() *candidate { return r.events[len(r.events)-1] }
func (r *row) length() int      { return r.before + len(r.events) }

// rows lists for each event, oldest first, the row that ends with it.
func (s *search) rows(p *pattern, list []*candidate, e *env) []row {
	var rows []row
	under := make(map[uint64][]*candidate) // way, by connection if they are told apart
	for _, c := range list {
		if !s.related(p, c, e) {
			continue
		}
		key := uint64(0)
		if p.oneConn {
			key = c.place.Conn
		}
		events := under[key]
		switch {
		case c.broken:
			events = nil
		case p.inOrder != "" && len(events) > 0 && !follows(events[len(events)-1].values[p.inOrder], c.values[p.inOrder]):
			events = []*candidate{c}
		default:
			events = append(events, c)
		}
		under[key] = events
		if len(events) > 0 {
			first := max(0, len(events)-p.atLeast)
			rows = append(rows, row{events[first:], first})
		}
	}
	return rows
}

func follows(a, b any) bool {
	x, okX := asNumber(a)
	y, okY := asNumber(b)
	return okX && okY && y == x+1
}

// failing lists the conditions on the row as a whole that it does not fulfil.
func (r *row) failing(p *pattern, e *env) []rowCondition {
	var list []rowCondition
	if span := r.last().at.Sub(r.events[0].at); p.span.set() && !inRange(span, p.span.from, p.span.to) {
		list = append(list, rowCondition{of: "span"})
	}
	for _, c := range p.overRow {
		if c.condition.failing(r.over(c), e) != nil {
			list = append(list, c)
		}
	}
	return list
}

// over is the least, the greatest or the sum of a field; nil: it is missing somewhere.
func (r *row) over(c rowCondition) any {
	var result float64
	for i, event := range r.events {
		v, ok := asNumber(event.values[c.field.name])
		switch {
		case !ok:
			return nil
		case i == 0 || c.of == "smallest" && v < result || c.of == "largest" && v > result:
			result = v
		case c.of == "total":
			result += v
		}
	}
	if c.field.sort == aTime {
		return time.Duration(result)
	}
	return result
}

// closest finds the bindings of what p refers to under which c comes nearest.
// missing is what has not been seen at all, if anything is.
func (s *search) closest(i int, p *pattern, c *candidate) (best []relation, bound map[string]*candidate, missing string) {
	needed := s.needed(i, p)
	var walk func(k int, e *env)
	walk = func(k int, e *env) {
		if s.checks <= 0 {
			return
		}
		if k == i {
			list := s.unrelated(p, c, e, false)
			if bound == nil || wrongs(list) < wrongs(best) || wrongs(list) == wrongs(best) && s.farther(p, list, bound) {
				best, bound, missing = list, maps.Clone(s.bound), ""
			}
			return
		}
		earlier := s.alt.want[k]
		if !needed[earlier.as] || earlier.as == "" {
			walk(k+1, e)
			return
		}
		for choice := range s.choices(k, earlier, e) {
			s.bound[earlier.as] = choice
			walk(k+1, e)
		}
		delete(s.bound, earlier.as)
		if bound == nil && missing == "" {
			missing = earlier.as
		}
	}
	for _, name := range p.names() {
		if slices.Contains(s.g.stepIDs(), name) && s.bound[name] == nil {
			return nil, nil, name
		}
	}
	walk(0, s.env())
	return best, bound, missing
}

// wrongs counts relations. One to something that has not come before is worse
// than all others.
func wrongs(list []relation) int {
	if slices.ContainsFunc(list, func(r relation) bool { return r.word == "after" }) {
		return maxPatterns * maxPatterns
	}
	return len(list)
}

// farther prefers, when c comes too early, the event that it is farther from.
func (s *search) farther(p *pattern, list []relation, bound map[string]*candidate) bool {
	if len(list) != 1 || list[0].word != "within" || p.window.from == nil {
		return false
	}
	from, known := s.bound[p.after[0]], bound[p.after[0]]
	return known != nil && from.at.Before(known.at)
}

// needed are the names that p refers to, and those that they refer to.
func (s *search) needed(i int, p *pattern) map[string]bool {
	needed := make(map[string]bool)
	for _, name := range p.names() {
		needed[name] = true
	}
	for k := i - 1; k >= 0; k-- {
		if earlier := s.alt.want[k]; needed[earlier.as] {
			for _, name := range earlier.names() {
				needed[name] = true
			}
		}
	}
	return needed
}

func (g *Grader) stepIDs() []string {
	ids := make([]string, len(g.steps))
	for i, s := range g.steps {
		ids[i] = s.step.ID
	}
	return ids
}
