package lessons

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// condition is what one field of an event has to be.
type condition struct {
	field field
	tests []test
}

// test is one word of a condition.
type test struct {
	op     string
	values []any // is, not, has, lacks, token, noToken, contains, matches, hex, startsHex
	re     *regexp.Regexp
	from   any // float64 or time.Duration; nil: no bound
	to     any
	yes    bool       // of present
	ref    *reference // same, differs, near
	by     any        // of differs: at least so much; nil: anything
	fact   *Fact      // fact, near
	// percent that near allows; wrong is how many places of a list fact allows.
	percent float64
	wrong   int
}

// reference names a field of a named event.
type reference struct {
	name  string
	field field
}

// env is what conditions are compared with, beside the event.
type env struct {
	facts  map[string]any
	nonce  string
	totals map[string]float64
	bound  map[string]*candidate // by name of pattern or step
}

func (e *env) fact(f *Fact) any {
	if strings.HasPrefix(f.Name, "seen.") {
		return e.totals[f.Name]
	}
	return e.facts[f.Name]
}

// refers reports whether the condition needs another event.
func (c *condition) refers() bool {
	return slices.ContainsFunc(c.tests, func(t test) bool { return t.ref != nil })
}

// failing is the first test that value does not pass; nil: it passes all.
func (c *condition) failing(value any, e *env) *test {
	for i := range c.tests {
		if !c.tests[i].holds(value, e) {
			return &c.tests[i]
		}
	}
	return nil
}

// holds reports whether value, nil for an absent one, passes.
func (t *test) holds(value any, e *env) bool {
	equals := func(other any) bool { return equal(value, other) }
	if value == nil {
		return t.op == "not" || t.op == "noToken" || t.op == "lacks" || t.op == "present" && !t.yes
	}
	switch t.op {
	case "is":
		return slices.ContainsFunc(t.values, equals)
	case "not":
		return !slices.ContainsFunc(t.values, equals)
	case "present":
		return t.yes
	case "range":
		return inRange(value, t.from, t.to)
	case "matches":
		list, ok := value.([]any)
		if !ok {
			list = []any{value}
		}
		return slices.ContainsFunc(list, func(v any) bool {
			s, ok := v.(string)
			return ok && t.re.MatchString(s)
		})
	case "contains":
		s, ok := value.(string)
		return ok && strings.Contains(s, t.values[0].(string))
	case "token", "noToken":
		s, _ := value.(string)
		return hasToken(s, t.values[0].(string)) == (t.op == "token")
	case "has", "lacks":
		list, ok := value.([]any)
		for _, wanted := range t.values {
			if slices.ContainsFunc(list, func(v any) bool { return equal(v, wanted) }) != (t.op == "has") {
				return false
			}
		}
		return ok
	case "hex":
		b, ok := asBytes(value)
		return ok && bytes.Equal(b, t.values[0].([]byte))
	case "startsHex":
		b, ok := asBytes(value)
		return ok && bytes.HasPrefix(b, t.values[0].([]byte))
	case "nonce":
		s, ok := value.(string)
		return ok && e.nonce != "" && (s == e.nonce || t.yes && strings.Contains(s, e.nonce))
	case "fact":
		return t.fact.equals(value, e.fact(t.fact), t.wrong)
	}
	other := e.other(t)
	if other == nil {
		return false
	}
	switch t.op {
	case "same":
		return equal(value, other)
	case "differs":
		if t.by == nil {
			return !equal(value, other)
		}
		a, okA := asNumber(value)
		b, okB := asNumber(other)
		by, _ := asNumber(t.by)
		return okA && okB && math.Abs(a-b) >= by
	default: // near
		a, okA := asNumber(value)
		b, okB := asNumber(other)
		return okA && okB && math.Abs(a-b) <= math.Abs(b)*t.percent/100
	}
}

// other is the value that t compares with: a fact, or a field of a bound event.
func (e *env) other(t *test) any {
	if t.fact != nil {
		return e.fact(t.fact)
	}
	if c := e.bound[t.ref.name]; c != nil {
		return c.values[t.ref.field.name]
	}
	return nil
}

func equal(a, b any) bool {
	switch a := a.(type) {
	case []byte:
		b, ok := b.([]byte)
		return ok && bytes.Equal(a, b)
	case string, bool, float64, time.Duration:
		return a == b
	}
	return reflect.DeepEqual(a, b)
}

func inRange(value, from, to any) bool {
	v, ok := asNumber(value)
	if low, bounded := asNumber(from); bounded && v < low {
		return false
	}
	if high, bounded := asNumber(to); bounded && v > high {
		return false
	}
	return ok && !math.IsNaN(v)
}

// asNumber makes numbers and times comparable; a text that is a number is one.
func asNumber(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	case time.Duration:
		return float64(v), true
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		return f, err == nil
	}
	return 0, false
}

func asBytes(v any) ([]byte, bool) {
	switch v := v.(type) {
	case []byte:
		return v, true
	case string:
		b, err := parseHex(v)
		return b, err == nil
	}
	return nil, false
}

// parseHex reads bytes in hexadecimal: spaces, capitals and 0x do not matter.
func parseHex(s string) ([]byte, error) {
	var digits strings.Builder
	for _, word := range strings.Fields(s) {
		digits.WriteString(strings.TrimPrefix(strings.ToLower(word), "0x"))
	}
	return hex.DecodeString(digits.String())
}

func hasToken(value, token string) bool {
	for element := range strings.SplitSeq(value, ",") {
		if strings.EqualFold(strings.TrimSpace(element), token) {
			return true
		}
	}
	return false
}

// equals compares an answer with what the server knows. A list may be wrong in
// as many places as wrong says; one of another length never fits.
func (f *Fact) equals(value, known any, wrong int) bool {
	if known == nil {
		return false
	}
	switch f.Type {
	case "number":
		a, okA := asNumber(value)
		b, okB := asNumber(known)
		return okA && okB && a == b
	case "bool":
		return normal(value) == normal(known)
	case "hex":
		a, okA := asBytes(value)
		b, okB := asBytes(known)
		return okA && okB && bytes.Equal(a, b)
	case "list", "set":
		a, okA := words(value)
		b, okB := words(known)
		if !okA || !okB || len(a) != len(b) {
			return false
		}
		if f.Type == "set" {
			slices.Sort(a)
			slices.Sort(b)
		}
		for i := range a {
			if a[i] != b[i] {
				wrong--
			}
		}
		return wrong >= 0
	case "word":
		return normal(value) == normal(known)
	}
	a, okA := value.(string)
	b, okB := known.(string)
	return okA && okB && strings.TrimSpace(a) == strings.TrimSpace(b)
}

// normal is a value as a word: without the spaces around it, in small letters.
func normal(v any) string {
	if f, ok := asNumber(v); ok {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return strings.ToLower(strings.TrimSpace(fmt.Sprint(v)))
}

func words(v any) ([]string, bool) {
	var list []string
	switch v := v.(type) {
	case []any:
		for _, element := range v {
			list = append(list, normal(element))
		}
	case []string:
		for _, element := range v {
			list = append(list, normal(element))
		}
	default:
		return nil, false
	}
	return list, true
}

// conditionsNode holds conditions until the event that they are for is known.
type conditionsNode []member

func (c *conditionsNode) bind(n *node) error {
	members, ok := n.value.([]member)
	if !ok {
		return faultf(n.at, "here stands %s, wanted is an object of conditions", n.kind())
	}
	*c = members
	return nil
}

// condition reads the condition on one field.
func (c *compiler) condition(f field, n *node) (condition, error) {
	cond := condition{field: f}
	object, ok := n.value.([]member)
	if !ok {
		values, err := c.values(f, n)
		cond.tests = []test{{op: "is", values: values}}
		return cond, err
	}
	if len(object) == 0 {
		return cond, faultf(n.at, "a condition without a word holds always")
	}
	bounds := test{op: "range"}
	for _, m := range object {
		if m.key == "wrongAtMost" {
			continue // read with fact
		}
		t, err := c.test(f, m, object)
		if err != nil {
			return cond, err
		}
		switch m.key {
		case "from":
			bounds.from = t.from
		case "to":
			bounds.to = t.to
		default:
			cond.tests = append(cond.tests, t)
		}
	}
	if bounds.from != nil || bounds.to != nil {
		if f.sort == aTime {
			if err := checkWindow(n.at, bounds.from, bounds.to); err != nil {
				return cond, err
			}
		}
		cond.tests = append(cond.tests, bounds)
	}
	return cond, nil
}

// words that a condition knows, for errors.
const conditionWords = "not, from, to, present, matches, contains, token, noToken, has, lacks, hex, startsHex, same, differs, near, fact, wrongAtMost, nonce"

// test reads one word of a condition.
func (c *compiler) test(f field, m member, object []member) (test, error) {
	t := test{op: m.key}
	n := m.value
	fits := func(sorts ...sort) error {
		if slices.Contains(append(sorts, anything), f.sort) {
			return nil
		}
		return faultf(m.at, "%q does not fit the field %q, which is %s", m.key, f.name, sortNames[f.sort])
	}
	var err error
	switch m.key {
	case "not":
		t.values, err = c.values(f, n)
	case "from", "to":
		if err = fits(aNumber, aTime); err == nil {
			var values []any
			if values, err = c.values(f, n); err == nil {
				if _, list := n.value.([]*node); list || !isNumber(values[0]) {
					return t, faultf(n.at, "wanted is one number or time")
				}
				t.from, t.to = values[0], values[0]
			}
		}
	case "present":
		err = bind(n, &t.yes)
	case "matches":
		var pattern string
		if err = fits(aText, aList); err == nil {
			err = bind(n, &pattern)
		}
		if err == nil {
			if t.re, err = regexp.Compile(pattern); err != nil {
				return t, faultf(n.at, "this is not a regular expression: %v", err)
			}
			t.values = []any{pattern}
		}
	case "contains", "token", "noToken":
		var s string
		if err = fits(aText); err == nil {
			err = bind(n, &s)
		}
		if err == nil && s == "" {
			return t, faultf(n.at, "this text is empty")
		}
		t.values = []any{s}
	case "has", "lacks":
		if err = fits(aList); err == nil {
			t.values, err = c.values(field{name: f.name, sort: anything}, n)
		}
	case "hex", "startsHex":
		var s string
		if err = fits(someBytes); err == nil {
			err = bind(n, &s)
		}
		if err == nil {
			b, bad := parseHex(s)
			if bad != nil {
				return t, faultf(n.at, "this is not hexadecimal: %v", bad)
			}
			t.values = []any{b}
		}
	case "same":
		t.ref, err = c.reference(f, n)
	case "differs":
		t, err = c.differs(f, n)
	case "near":
		if err = fits(aNumber); err == nil {
			t, err = c.near(f, n)
		}
	case "fact":
		if t.fact, err = c.fact(n); err == nil {
			for _, other := range object {
				if other.key == "wrongAtMost" {
					err = bind(other.value, &t.wrong)
				}
			}
		}
	case "nonce":
		var how string
		if err = fits(aText); err == nil {
			err = bind(n, &how)
		}
		if err == nil && how != "is" && how != "contains" {
			return t, faultf(n.at, `the nonce is asked for by "is" or by "contains"`)
		}
		t.yes = how == "contains"
	default:
		return t, faultf(m.at, "the word %q is not known in a condition: known are %s", m.key, conditionWords)
	}
	return t, err
}

func isNumber(v any) bool {
	switch v.(type) {
	case float64, time.Duration:
		return true
	}
	return false
}

// values reads one value or a list of them, as f has them.
func (c *compiler) values(f field, n *node) ([]any, error) {
	nodes, ok := n.value.([]*node)
	if !ok {
		nodes = []*node{n}
	}
	if len(nodes) == 0 {
		return nil, faultf(n.at, "an empty list is fulfilled by nothing")
	}
	list := make([]any, len(nodes))
	for i, n := range nodes {
		value := n.plain()
		ok := false
		switch f.sort {
		case aText:
			_, ok = value.(string)
			if ok && f.words != nil && f.name != "opcode" && f.words[value.(string)] == none {
				return nil, faultf(n.at, "%q is nothing that the field %q can be: it is one of %s", value, f.name, strings.Join(slices.Sorted(maps.Keys(f.words)), ", "))
			}
		case aNumber:
			_, ok = value.(float64)
		case aBool:
			_, ok = value.(bool)
		case aTime:
			s, _ := value.(string)
			d, err := time.ParseDuration(s)
			value, ok = d, err == nil
		case anything:
			_, object := value.(map[string]any)
			ok = !object && value != nil
		default:
			return nil, faultf(n.at, "the field %q is %s, which has no equal: use %q or %q", f.name, sortNames[f.sort], "has", "hex")
		}
		if !ok {
			return nil, faultf(n.at, "here stands %s, but the field %q is %s", n.kind(), f.name, sortNames[f.sort])
		}
		list[i] = value
	}
	return list, nil
}

// reference reads "name.field", the field being of the same sort as f.
func (c *compiler) reference(f field, n *node) (*reference, error) {
	var s string
	if err := bind(n, &s); err != nil {
		return nil, err
	}
	name, fieldName, ok := strings.Cut(s, ".")
	p := c.named[name]
	if !ok || p == nil {
		return nil, faultf(n.at, "%q names no pattern that stands before this one: wanted is its name, a dot and a field", s)
	}
	other, known := kinds[p.on].field(fieldName)
	if !known {
		return nil, faultf(n.at, "%q: the event %s has no field %q; it has %s", s, p.on, fieldName, kinds[p.on].names())
	}
	if other.sort != f.sort && other.sort != anything && f.sort != anything {
		return nil, faultf(n.at, "%q is %s, but the field %q is %s", s, sortNames[other.sort], f.name, sortNames[f.sort])
	}
	p.capture(other)
	return &reference{name, other}, nil
}

func (c *compiler) differs(f field, n *node) (test, error) {
	t := test{op: "differs"}
	if _, ok := n.value.(string); ok {
		ref, err := c.reference(f, n)
		t.ref = ref
		return t, err
	}
	var object struct {
		From *node `json:"from"`
		By   *node `json:"by"`
	}
	err := bind(n, &object)
	if err != nil {
		return t, err
	}
	if t.ref, err = c.reference(f, object.From); err != nil {
		return t, err
	}
	values, err := c.values(f, object.By)
	if err == nil && (len(values) != 1 || !isNumber(values[0])) {
		err = faultf(object.By.at, "wanted is one number or time")
	}
	if err == nil {
		t.by = values[0]
	}
	return t, err
}

func (c *compiler) near(f field, n *node) (test, error) {
	t := test{op: "near"}
	var object struct {
		Of      *node   `json:"of,omitzero"`
		Fact    *node   `json:"fact,omitzero"`
		Percent float64 `json:"percent"`
	}
	err := bind(n, &object)
	t.percent = object.Percent
	switch {
	case err != nil:
	case t.percent <= 0:
		err = faultf(n.at, "the percent of %q are above 0", "near")
	case (object.Of == nil) == (object.Fact == nil):
		err = faultf(n.at, "%q is compared either with a field (%q) or with a fact (%q)", "near", "of", "fact")
	case object.Of != nil:
		t.ref, err = c.reference(f, object.Of)
	default:
		t.fact, err = c.fact(object.Fact)
	}
	return t, err
}

// fact reads the name of a fact that the lesson lists, or that the grader has.
func (c *compiler) fact(n *node) (*Fact, error) {
	var name string
	if err := bind(n, &name); err != nil {
		return nil, err
	}
	if _, ok := newHistory().totals[name]; ok {
		return &Fact{Name: name, Type: "number"}, nil
	}
	for i := range c.facts {
		if c.facts[i].Name == name {
			return &c.facts[i], nil
		}
	}
	return nil, faultf(n.at, "the lesson lists no fact %q", name)
}

// minSide is the least width of one side of a window.
const minSide = 200 * time.Millisecond

// checkWindow refuses windows that a busy machine may miss by chance.
func checkWindow(place offset, from, to any) error {
	low, hasLow := from.(time.Duration)
	high, hasHigh := to.(time.Duration)
	switch {
	case hasLow && low < minSide, hasHigh && high < minSide:
		return faultf(place, "each side of a window is at least %v wide", minSide)
	case hasLow && hasHigh && high-low < 2*minSide:
		return faultf(place, "a window is at least %v wide", 2*minSide)
	}
	return nil
}

// compact is a value as JSON on one line.
func compact(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
