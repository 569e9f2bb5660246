package load

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Assertion is something that a Result should be, such as p99<100ms.
type Assertion struct {
	text    string
	measure measure
	compare func(a, b float64) bool
	limit   float64
}

// measure is a number of a Result.
type measure struct {
	unit string // "" for milliseconds, "%", "/s", or "#" for a count
	of   func(Result) (float64, bool)
}

var measures = map[string]measure{
	"p50":  latencyMeasure(func(l *Latency) time.Duration { return l.P50 }),
	"p90":  latencyMeasure(func(l *Latency) time.Duration { return l.P90 }),
	"p95":  latencyMeasure(func(l *Latency) time.Duration { return l.P95 }),
	"p99":  latencyMeasure(func(l *Latency) time.Duration { return l.P99 }),
	"p999": latencyMeasure(func(l *Latency) time.Duration { return l.P999 }),
	"max":  latencyMeasure(func(l *Latency) time.Duration { return l.Max }),
	"mean": latencyMeasure(func(l *Latency) time.Duration { return l.Mean }),
	"rate": {"/s", func(r Result) (float64, bool) { return r.Messages.Rate, true }},
	"errors": {"%", func(r Result) (float64, bool) {
		return percent(r.Messages.wrong(), r.Messages.Due), r.Messages.Due > 0
	}},
	"lost": {"%", func(r Result) (float64, bool) {
		return percent(r.Messages.Lost+r.Messages.Unsent, r.Messages.Due), r.Messages.Due > 0
	}},
	"abnormal": {"%", func(r Result) (float64, bool) {
		return percent(r.Connections.abnormal(), int64(r.Connections.Planned)), true
	}},
	"failed": {"%", func(r Result) (float64, bool) {
		return percent(r.Connections.Failed, int64(r.Connections.Planned)), true
	}},
}

// words are the assertions without a number.
var words = map[string]measure{
	"no-loss": {"#", func(r Result) (float64, bool) {
		return float64(r.Messages.Lost + r.Messages.Unsent), r.Messages.Due > 0
	}},
	"no-doubles": {"#", func(r Result) (float64, bool) { return float64(r.Messages.Doubled), true }},
	"in-order":   {"#", func(r Result) (float64, bool) { return float64(r.Messages.Reordered), true }},
	"in-time": {"#", func(r Result) (float64, bool) { // the generator
		if r.Generator.Behind {
			return 1, true
		}
		return 0, true
	}},
}

func latencyMeasure(of func(*Latency) time.Duration) measure {
	return measure{"", func(r Result) (float64, bool) {
		if r.Latency == nil {
			return 0, false
		}
		return ms(of(r.Latency)), true
	}}
}

func percent(part, whole int64) float64 { return 100 * float64(part) / math.Max(1, float64(whole)) }

var comparisons = map[string]func(a, b float64) bool{
	"<":  func(a, b float64) bool { return a < b },
	"<=": func(a, b float64) bool { return a <= b },
	">":  func(a, b float64) bool { return a > b },
	">=": func(a, b float64) bool { return a >= b },
}

var comparison = regexp.MustCompile(`^([a-z0-9-]+)\s*(<=|>=|<|>)\s*(.+)$`)

// ParseAssertion reads an assertion: a word such as no-loss, or a number of the
// result, a comparison and a limit with its unit: p99<100ms, errors<1%,
// rate>900/s.
func ParseAssertion(text string) (Assertion, error) {
	text = strings.TrimSpace(text)
	if word, ok := words[text]; ok {
		return Assertion{text, word, comparisons["<="], 0}, nil
	}
	parts := comparison.FindStringSubmatch(text)
	if parts == nil {
		return Assertion{}, fmt.Errorf("%q is no assertion: %s, or one of %s with <, <=, > or >= and a limit, such as p99<100ms", text, names(words), names(measures))
	}
	m, ok := measures[parts[1]]
	if !ok {
		return Assertion{}, fmt.Errorf("%q asserts %s, which is not measured: %s are", text, parts[1], names(measures))
	}
	limit, err := m.parse(parts[3])
	if err != nil {
		return Assertion{}, fmt.Errorf("%q: %w", text, err)
	}
	return Assertion{text, m, comparisons[parts[2]], limit}, nil
}

// parse reads a limit with its unit.
func (m measure) parse(text string) (float64, error) {
	if m.unit == "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return 0, fmt.Errorf("%s is not a time, such as 100ms or 1.5s", text)
		}
		return ms(d), nil
	}
	number, found := strings.CutSuffix(text, m.unit)
	n, err := strconv.ParseFloat(number, 64)
	if !found || err != nil || !(n >= 0) {
		return 0, fmt.Errorf("%s is not a number with its unit, such as 1%s", text, m.unit)
	}
	return n, nil
}

// Verdict is what became of an Assertion.
type Verdict struct {
	Assertion string `json:"assertion"`
	Holds     bool   `json:"holds"`
	Measured  string `json:"measured"` // with its unit
}

// Judge holds a Result to the assertion. What was not measured does not hold.
func (a Assertion) Judge(r Result) Verdict {
	value, measured := a.measure.of(r)
	if !measured {
		return Verdict{a.text, false, "not measured"}
	}
	text := strconv.FormatFloat(value, 'f', -1, 64)
	switch a.measure.unit {
	case "":
		text = fmt.Sprintf("%.3fms", value)
	case "%", "/s":
		text = fmt.Sprintf("%.2f%s", value, a.measure.unit)
	}
	return Verdict{a.text, a.compare(value, a.limit), text}
}
