package load

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// String is a line of at most 79 columns.
func (p Progress) String() string {
	line := fmt.Sprintf("%-7s %3.0f/%.0fs  %d open", p.Phase, p.Elapsed.Seconds(), p.Planned.Seconds(), p.Connections)
	line += fmt.Sprintf("  %s/s out  %s/s in", short(p.SentRate), short(p.Rate))
	if p.Latency != nil {
		line += fmt.Sprintf("  p50 %s  p99 %s", brief(p.Latency.P50), brief(p.Latency.P99))
	}
	if wrong := p.Failed + p.Abnormal + p.Errors; wrong > 0 {
		line += fmt.Sprintf("  %d wrong", wrong)
	}
	return line[:min(len(line), 79)]
}

// short is a number in few digits.
func short(n float64) string {
	switch {
	case n >= 1e6:
		return strconv.FormatFloat(n/1e6, 'f', 1, 64) + "M"
	case n >= 1e4:
		return strconv.FormatFloat(n/1e3, 'f', 1, 64) + "k"
	case n >= 10 || n == 0:
		return strconv.FormatFloat(n, 'f', 0, 64)
	}
	return strconv.FormatFloat(n, 'f', 1, 64)
}

// brief is a time in three digits or so.
func brief(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// WriteTable writes the result for people, in at most 80 columns.
func (r Result) WriteTable(w io.Writer) error {
	var s strings.Builder
	line := func(name, format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		for _, part := range wrap(text, 66) {
			fmt.Fprintf(&s, "%-13s %s\n", name, part)
			name = ""
		}
	}
	c, m := r.Connections, r.Messages
	line("Target", "%s", r.Plan.URL)
	line("Plan", "%s", r.Plan)
	if r.Early {
		line("Ended early", "after %.1f s of the hold", r.HeldSeconds)
	}
	line("Connections", "%d planned, %d opened, %d failed, %d ended abnormally", c.Planned, c.Opened, c.Failed, c.Abnormal)
	if len(c.CloseCodes) > 0 {
		var codes []string
		for _, code := range slices.Sorted(maps.Keys(c.CloseCodes)) {
			codes = append(codes, fmt.Sprintf("%d: %d", code, c.CloseCodes[code]))
		}
		line("Close codes", "%s", strings.Join(codes, ", "))
	}
	for _, reason := range c.Reasons {
		line("", "%d × %s", reason.Count, reason.Text)
	}
	if r.Plan.Loop == Listen {
		line("Events", "%d came in the hold, %.1f/s", m.Answered, m.Rate)
	} else {
		line("Messages", "%d due in the hold, %d sent (%.1f/s), %d answered (%.1f/s)", m.Due, m.Sent, m.SentRate, m.Answered, m.Rate)
	}
	line("", "%d lost, %d unsent, %d doubled, %d reordered, %d foreign, %d errors", m.Lost, m.Unsent, m.Doubled, m.Reordered, m.Foreign, m.Errors)
	g := r.Generator
	fmt.Fprintf(&s, "\n%-13s %8s %8s %8s %8s %8s %8s %8s\n", "", "p50", "p90", "p95", "p99", "p99.9", "max", "mean")
	row := func(name string, l *Latency) {
		if l != nil {
			fmt.Fprintf(&s, "%-13s %8s %8s %8s %8s %8s %8s %8s\n", name, brief(l.P50), brief(l.P90), brief(l.P95), brief(l.P99), brief(l.P999), brief(l.Max), brief(l.Mean))
		}
	}
	row(cmp.Or(map[Loop]string{Listen: "Age of events", Open: "Since due"}[r.Plan.Loop], "Latency"), r.Latency)
	if r.Plan.Loop == Open {
		row("Since sent", r.Service)
	}
	row("Connecting", r.Connect)
	row("Own lateness", g.Lag)
	s.WriteString("\n")
	used := "CPU unknown"
	if g.CPUs != nil {
		used = fmt.Sprintf("%.2f processors", *g.CPUs)
	}
	line("Generator", "%s, %d messages held up by the connection", used, g.HeldUp)
	if g.Behind {
		line("Beware", "the generator itself was behind, so these may be its own figures: %s", g.Why)
	}
	for _, v := range r.Verdicts {
		line(map[bool]string{true: "Holds", false: "DOES NOT HOLD"}[v.Holds], "%s (%s)", v.Assertion, v.Measured)
	}
	_, err := io.WriteString(w, s.String())
	return err
}

// String is the plan in a sentence.
func (p Plan) String() string {
	s := fmt.Sprintf("%d connections, ", p.Connections)
	switch {
	case p.Loop == Listen && p.Expect > 0:
		s += fmt.Sprintf("listening for %s events a second each", short(p.Expect))
	case p.Loop == Listen:
		s += "listening"
	case p.Rate == 0:
		s += "silent"
	case p.Loop == Closed:
		s += fmt.Sprintf("closed loop, at most %s/s each", short(p.Rate))
	default:
		s += fmt.Sprintf("open loop, %s/s each, %s/s in all", short(p.Rate), short(p.messageRate()))
	}
	return s + fmt.Sprintf("; %v ramp, %v warm-up, %v hold; %s", p.Ramp, p.WarmUp, p.Hold, p.Protocol)
}

// wrap breaks a text between words.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}

// WriteJSON writes all of the result.
func (r Result) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// WriteCSV writes the samples, one a line. What was not measured is empty.
func (r Result) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{
		"elapsed_s", "phase", "connections", "failed", "abnormal", "sent", "received", "errors",
		"sent_per_s", "received_per_s", "p50_ms", "p95_ms", "p99_ms", "max_ms", "lag_p99_ms",
	}) // Error tells
	decimal := func(f float64) string { return strconv.FormatFloat(f, 'f', 3, 64) }
	for _, p := range r.Samples {
		record := []string{decimal(p.Elapsed.Seconds()), string(p.Phase), strconv.Itoa(p.Connections)}
		for _, n := range []int64{p.Failed, p.Abnormal, p.Sent, p.Received, p.Errors} {
			record = append(record, strconv.FormatInt(n, 10))
		}
		record = append(record, decimal(p.SentRate), decimal(p.Rate), "", "", "", "", "")
		if l := p.Latency; l != nil {
			for i, d := range []time.Duration{l.P50, l.P95, l.P99, l.Max} {
				record[len(record)-5+i] = decimal(ms(d))
			}
		}
		if p.Lag != nil {
			record[len(record)-1] = decimal(ms(p.Lag.P99))
		}
		_ = out.Write(record)
	}
	out.Flush()
	return out.Error()
}
