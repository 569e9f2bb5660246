package mock

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// State is how far an expectation, a connection or a script has come.
type State string

// The states.
const (
	None   State = "NONE"   // nothing is expected
	Open   State = "OPEN"   // it can still pass or fail
	Passed State = "PASSED" // everything came that had to
	Failed State = "FAILED" // something came that may not, or did not come
)

// Verdict says how what clients sent compares with what the script expects.
type Verdict struct {
	State       State               `json:"state"`
	Script      string              `json:"script"` // its name; may be empty
	Seed        uint64              `json:"seed,string"`
	Passed      int                 `json:"passed"`      // connections
	Failed      int                 `json:"failed"`      // connections
	Connections []ConnectionVerdict `json:"connections"` // in the order in which they opened, at most 100
	Omitted     int                 `json:"omitted"`     // connections that are not listed any more
}

// ConnectionVerdict is the verdict on one connection.
type ConnectionVerdict struct {
	Number   int     `json:"number"` // on its path since the script was set, from 1
	Path     string  `json:"path"`
	State    State   `json:"state"`
	Ended    bool    `json:"ended"`
	Received int     `json:"received"` // messages
	Checks   []Check `json:"checks"`
}

// Check is the verdict on one expectation.
type Check struct {
	Line    int    `json:"line"` // of the script
	Wanted  string `json:"wanted"`
	State   State  `json:"state"`
	Saw     string `json:"saw,omitempty"`     // what stands against it, or comes nearest to it
	Message int    `json:"message,omitempty"` // the number of the message that was seen, from 1; 0: none
}

// String is the verdict for people.
func (v Verdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Verdict: %s", strings.ToLower(string(v.State)))
	if v.State == None {
		b.Reset()
		b.WriteString("Verdict: none, since the script expects nothing")
	}
	if v.Script != "" {
		fmt.Fprintf(&b, " · %s", v.Script)
	}
	fmt.Fprintf(&b, " · seed %d\n", v.Seed)
	if v.State == None {
		return b.String()
	}
	if len(v.Connections) == 0 {
		b.WriteString("  no connection has come\n")
	}
	for _, c := range v.Connections {
		fmt.Fprintf(&b, "  connection %d on %s: %s, %s\n", c.Number, c.Path, strings.ToLower(string(c.State)), messages(c.Received))
		for _, check := range c.Checks {
			fmt.Fprintf(&b, "    %-6s line %d: %s\n", strings.ToLower(string(check.State)), check.Line, check.Wanted)
			if check.State == Failed || check.State == Open && check.Saw != "" {
				fmt.Fprintf(&b, "           saw %s\n", check.Saw)
			}
		}
	}
	if v.Omitted > 0 {
		fmt.Fprintf(&b, "  and %d more connections\n", v.Omitted)
	}
	return b.String()
}

func messages(n int) string {
	if n == 1 {
		return "1 message"
	}
	return fmt.Sprintf("%d messages", n)
}

// maxVerdicts is how many connections a verdict lists.
const maxVerdicts = 100

// bench is where the judges of a script's connections sit.
type bench struct {
	mu             sync.Mutex
	judges         []*judge
	passed, failed int            // of those that are forgotten
	arrived        map[string]int // connections by path
}

// admit numbers a connection and gives it a judge.
func (b *bench) admit(name, path string, e *expectations) *judge {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.arrived == nil {
		b.arrived = make(map[string]int)
	}
	b.arrived[name]++
	j := &judge{bench: b, number: b.arrived[name], path: path, expect: e}
	if e == nil {
		return j
	}
	for _, x := range e.Messages {
		if x.Connection == 0 || x.Connection == j.number {
			j.items = append(j.items, newItem(x, e.Strict))
		}
	}
	if len(j.items) == 0 && !e.Strict {
		return j
	}
	b.judges = append(b.judges, j)
	b.shorten()
	return j
}

// shorten forgets connections that have ended, those that passed first, until
// there are few enough to list. What is still open is bounded by its number.
func (b *bench) shorten() {
	for _, state := range []State{Passed, Failed} {
		for at := 0; at < len(b.judges) && len(b.judges) > maxVerdicts; {
			if j := b.judges[at]; !j.ended || j.state() != state {
				at++
				continue
			}
			b.judges = slices.Delete(b.judges, at, at+1)
			if state == Passed {
				b.passed++
			} else {
				b.failed++
			}
		}
	}
}

// verdict compares with what a script expects.
func (b *bench) verdict(s *Script, seed uint64) Verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := Verdict{State: None, Script: s.Name(), Seed: seed, Passed: b.passed, Failed: b.failed, Omitted: b.passed + b.failed, Connections: []ConnectionVerdict{}}
	open := false
	for _, j := range b.judges {
		c := j.verdict()
		if len(v.Connections) < maxVerdicts {
			v.Connections = append(v.Connections, c)
		} else {
			v.Omitted++
		}
		switch c.State {
		case Passed:
			v.Passed++
		case Failed:
			v.Failed++
		default:
			open = true
		}
	}
	for name, behaviour := range s.behaviours() {
		if behaviour.Expect == nil {
			continue
		}
		v.State = Open
		open = open || b.arrived[name] == 0
		for _, x := range behaviour.Expect.Messages {
			open = open || x.Connection > b.arrived[name]
		}
	}
	switch {
	case v.State == None:
	case v.Failed > 0:
		v.State = Failed
	case !open:
		v.State = Passed
	}
	return v
}

// judge watches one connection. The bench's mutex guards it.
type judge struct {
	bench    *bench
	number   int
	path     string
	expect   *expectations // nil: nothing is expected
	items    []*item
	at       int // when ordered: the item that was met last
	received int
	ended    bool
	extra    *Check // against strictness
}

// item is an expectation on one connection.
type item struct {
	*expectation
	least, most int  // most < 0: there is no bound
	told        bool // the script says how often
	count       int
	saw         string
	message     int
	failed      bool
}

func newItem(x *expectation, strict bool) *item {
	i := &item{expectation: x, least: 1, most: -1, told: x.Count != nil}
	switch {
	case x.Count == nil && strict:
		i.most = 1
	case x.Count == nil:
	case x.Count.Exactly != nil:
		i.least, i.most = *x.Count.Exactly, *x.Count.Exactly
	default:
		i.least = x.Count.Min
		if x.Count.Max != nil {
			i.most = *x.Count.Max
		}
	}
	return i
}

func (i *item) full() bool { return i.most >= 0 && i.count >= i.most }

func (i *item) fits(m *message, s *scope) bool {
	if i.Close != nil {
		return i.Close.fits(m, s)
	}
	return i.Received.fits(m, s)
}

func (i *item) String() string {
	var what string
	if i.Close != nil {
		what = i.Close.String()
	} else {
		what = i.Received.String()
	}
	switch {
	case i.most == 0:
		return what + ", never"
	case i.told && i.least == i.most && i.most > 1:
		return fmt.Sprintf("%s, %d times", what, i.most)
	case i.told && i.most < 0:
		return fmt.Sprintf("%s, at least %d times", what, i.least)
	case i.told && i.least != i.most:
		return fmt.Sprintf("%s, %d to %d times", what, i.least, i.most)
	}
	return what
}

// kind is the kind of message that the item is about.
func (i *item) kind() wire.Opcode {
	if i.Close != nil {
		return wire.Close
	}
	return i.Received.kindOf()
}

// hears judges what came and says which line of the script it met, or 0.
func (j *judge) hears(m *message, s *scope) (line position) {
	j.bench.mu.Lock()
	defer j.bench.mu.Unlock()
	if m.number > 0 {
		j.received = m.number
	}
	if j.expect == nil {
		return 0
	}
	var fits []*item
	for _, i := range j.items {
		if !i.fits(m, s) {
			continue
		}
		if fits = append(fits, i); i.most == 0 {
			i.fail(m, "%s", where(m))
			return 0
		}
	}
	if i := j.choose(fits); i != nil {
		i.count++
		i.saw, i.message = "", 0
		return i.At
	}
	if len(fits) > 0 {
		i := fits[0]
		switch {
		case !i.full(): // out of order
			i.near(m, "%s, too early: before %v", where(m), j.blocking())
		case i.told:
			i.fail(m, "%s, which is one too many", where(m))
			return 0
		}
	} else {
		for _, i := range j.items {
			if i.count < i.least && (i.kind() == m.kind || i.kind() == wire.Continuation) {
				i.near(m, "%s", where(m))
			}
		}
	}
	if j.expect.Strict && m.number > 0 && j.extra == nil {
		j.extra = &Check{Wanted: "nothing else", State: Failed, Saw: where(m), Message: m.number}
		if len(fits) > 0 {
			j.extra.Saw = where(m) + ", out of order or once more than is expected"
		}
	}
	return 0
}

// choose takes the item that a message counts for: one that still needs it
// before one that only allows it, and in order where order matters.
func (j *judge) choose(fits []*item) *item {
	if j.expect.Ordered {
		for at := j.at; at < len(j.items); at++ {
			i := j.items[at]
			if slices.Contains(fits, i) && !i.full() {
				j.at = at
				return i
			}
			if i.count < i.least {
				return nil
			}
		}
		return nil
	}
	for _, needed := range []bool{true, false} {
		for _, i := range fits {
			if !i.full() && (i.count < i.least || !needed) {
				return i
			}
		}
	}
	return nil
}

// blocking is the item that has to come first.
func (j *judge) blocking() *item {
	for _, i := range j.items[j.at:] {
		if i.count < i.least {
			return i
		}
	}
	return j.items[j.at]
}

func where(m *message) string {
	if m.number == 0 {
		return m.String()
	}
	return fmt.Sprintf("message %d, %v", m.number, m)
}

func (i *item) fail(m *message, format string, args ...any) {
	if !i.failed {
		i.failed, i.message, i.saw = true, m.number, fmt.Sprintf(format, args...)
	}
}

// near keeps what came nearest, the last of it.
func (i *item) near(m *message, format string, args ...any) {
	if !i.failed {
		i.message, i.saw = m.number, fmt.Sprintf(format, args...)
	}
}

// ends closes the case.
func (j *judge) ends() {
	j.bench.mu.Lock()
	defer j.bench.mu.Unlock()
	j.ended = true
	for _, i := range j.items {
		if i.count >= i.least || i.failed {
			continue
		}
		switch i.failed = true; {
		case i.count > 0:
			i.saw = fmt.Sprintf("%d of them", i.count)
		case i.saw == "":
			i.saw = "nothing like it in " + messages(j.received)
		}
	}
}

func (j *judge) state() State {
	state, sure := Passed, j.ended || !j.expect.Strict
	for _, i := range j.items {
		switch i.state(j.ended) {
		case Failed:
			return Failed
		case Open:
			sure = false
		}
	}
	if j.extra != nil {
		return Failed
	}
	if !sure {
		return Open
	}
	return state
}

func (i *item) state(ended bool) State {
	switch {
	case i.failed:
		return Failed
	case !ended && (i.count < i.least || i.most >= 0):
		return Open
	}
	return Passed
}

func (j *judge) verdict() ConnectionVerdict {
	c := ConnectionVerdict{Number: j.number, Path: j.path, State: j.state(), Ended: j.ended, Received: j.received, Checks: []Check{}}
	for _, i := range j.items {
		c.Checks = append(c.Checks, Check{Line: int(i.At), Wanted: i.String(), State: i.state(j.ended), Saw: i.saw, Message: i.message})
	}
	if j.extra != nil {
		c.Checks = append(c.Checks, *j.extra)
	}
	return c
}
