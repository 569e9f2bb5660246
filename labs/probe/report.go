package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// The bounds of a report.
const (
	MaxReport = 64 << 10 // bytes of JSON
	maxURL    = 256
	maxSaw    = 240
)

// steps are those of the lesson on writing a server.
var steps = []struct{ name, title string }{
	{"S1", "Handshake"},
	{"S2", "Echo"},
	{"S3", "Fragments and pings"},
	{"S4", "Close"},
	{"S5", "What has to be refused"},
	{"S6", "Fifty at once"},
	{"S7", "Nobody is left"},
}

// ParseReport reads the JSON of a report, and takes nothing else: every check
// once, in the order of the list and in its words, with a known status.
func ParseReport(b []byte) (*Report, error) {
	if len(b) > MaxReport {
		return nil, fmt.Errorf("the report has %d bytes: at most %d", len(b), MaxReport)
	}
	var r Report
	in := json.NewDecoder(bytes.NewReader(b))
	in.DisallowUnknownFields()
	if err := in.Decode(&r); err != nil {
		return nil, fmt.Errorf("the report is not JSON of the expected form: %w", err)
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the report")
	}
	if !strings.HasPrefix(r.URL, "ws://") || len(r.URL) > maxURL {
		return nil, fmt.Errorf("the report's url is not ws://… of at most %d bytes", maxURL)
	}
	if r.StartedAt.IsZero() {
		return nil, errors.New("the report has no startedAt")
	}
	if len(r.Checks) != len(catalogue) {
		return nil, fmt.Errorf("the report has %d checks, not %d: is the program that wrote it of another version?", len(r.Checks), len(catalogue))
	}
	for i, check := range r.Checks {
		want := catalogue[i].blank()
		want.Status, want.Saw, want.Millis = check.Status, check.Saw, check.Millis
		switch {
		case check != want:
			return nil, fmt.Errorf("check %d of the report is not %q of the list: is the program that wrote it of another version?", i+1, want.ID)
		case check.Status != Passed && check.Status != Failed && check.Status != Skipped:
			return nil, fmt.Errorf("check %q has the status %q: passed, failed and skipped are known", check.ID, check.Status)
		case check.Saw == "" || len(check.Saw) > maxSaw || !utf8.ValidString(check.Saw) || check.Saw != short(check.Saw, maxSaw):
			return nil, fmt.Errorf("check %q has to say in one line of at most %d bytes what it saw", check.ID, maxSaw)
		case check.Millis < 0 || check.Millis > runTime.Milliseconds()*2:
			return nil, fmt.Errorf("check %q took %d ms, which cannot be", check.ID, check.Millis)
		}
	}
	return &r, nil
}

// blank is the result of a check without the result.
func (d definition) blank() Check {
	return Check{ID: d.id, Step: d.step, Title: d.title, Wanted: d.wanted, Section: "RFC 6455, section " + d.section}
}

// columns is the width of a table.
const columns = 80

// WriteTable writes a report for a person: every check in a line, and what was
// seen and wanted where it did not pass.
func (r *Report) WriteTable(w io.Writer) error {
	var s strings.Builder
	s.WriteString(short(r.URL, columns) + "\n")
	count := map[Status]int{}
	for _, step := range steps {
		fmt.Fprintf(&s, "\n%s %s\n", step.name, step.title)
		for _, check := range r.Checks {
			if check.Step != step.name {
				continue
			}
			count[check.Status]++
			fmt.Fprintf(&s, "  %-8s%-20s%s\n", strings.Replace(string(check.Status), "failed", "FAILED", 1), check.ID, check.Title)
			if check.Status != Passed {
				wrap(&s, strings.Repeat(" ", 10), check.sentence())
			}
		}
	}
	fmt.Fprintf(&s, "\n%d passed, %d failed, %d skipped", count[Passed], count[Failed], count[Skipped])
	var open []string
	for _, step := range steps {
		if !r.Passed(step.name) {
			open = append(open, step.name)
		}
	}
	if len(open) > 0 {
		fmt.Fprintf(&s, "; not yet right: %s", strings.Join(open, ", "))
	}
	s.WriteString(".\n")
	_, err := io.WriteString(w, s.String())
	return err
}

// sentence is what there is to say about a check.
func (c Check) sentence() string {
	if c.Status == Skipped {
		return strings.ToUpper(c.Saw[:1]) + c.Saw[1:] + "."
	}
	return fmt.Sprintf("Saw %s; wanted %s: %s.", c.Saw, c.Wanted, c.Section)
}

// wrap writes words in lines behind a margin.
func wrap(s *strings.Builder, margin, text string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && utf8.RuneCountInString(margin+line)+1+utf8.RuneCountInString(word) > columns {
			s.WriteString(margin + line + "\n")
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	s.WriteString(margin + line + "\n")
}
