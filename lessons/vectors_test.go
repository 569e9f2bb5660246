package lessons

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vectors is one file of testdata/vectors.
type vectors struct {
	Lesson string         `json:"lesson,omitzero"`
	Facts  []Fact         `json:"facts,omitzero"`
	Steps  []vectorStep   `json:"steps,omitzero"`
	Nonce  string         `json:"nonce,omitzero"`
	Knows  map[string]any `json:"knows,omitzero"`
	Cases  []script       `json:"cases"`
}

type vectorStep struct {
	ID      string     `json:"id"`
	Match   matchNode  `json:"match"`
	Because Text       `json:"because,omitzero"`
	Misses  []SaidMiss `json:"misses,omitzero"`
}

// lesson is what the vectors of a file are about.
// Without a lesson, only the steps that a case wants something of take part.
func (f *vectors) lesson(t testing.TB, course *Course, c *script) *Lesson {
	t.Helper()
	if f.Lesson != "" {
		l := course.Lesson(f.Lesson)
		if l == nil {
			t.Fatalf("there is no lesson %q", f.Lesson)
		}
		return l
	}
	l := &Lesson{Facts: f.Facts}
	var ids []string
	for _, s := range f.Steps {
		ids = append(ids, s.ID)
	}
	for i := range f.Steps {
		s := f.Steps[i]
		if _, ok := c.Want[s.ID]; !ok {
			continue
		}
		matcher, err := compile(&s.Match, f.Facts, ids, s.ID)
		if err != nil {
			t.Fatalf("step %s: %v", s.ID, err)
		}
		for i := range s.Misses {
			if err := s.Misses[i].compile(f.Facts); err != nil {
				t.Fatal(err)
			}
		}
		l.Steps = append(l.Steps, Step{ID: s.ID, Because: s.Because, Misses: s.Misses, matcher: matcher})
	}
	return l
}

func readVectors(t testing.TB, file string) *vectors {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var f vectors
	if err := decode(file, text, &f, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	return &f
}

func vectorFiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/vectors/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no vectors", err)
	}
	return files
}

func embedded(t testing.TB) *Course {
	t.Helper()
	course, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	return course
}

// TestVectors plays every vector and compares the verdicts.
func TestVectors(t *testing.T) {
	course := embedded(t)
	for _, file := range vectorFiles(t) {
		f := readVectors(t, file)
		for _, c := range f.Cases {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".json")+"/"+c.Name, func(t *testing.T) {
				l := f.lesson(t, course, &c)
				events := play(t, c.Events)
				verdicts := Grade(l, Config{Nonce: f.Nonce, Facts: f.Knows}, events)
				for _, v := range verdicts {
					w, ok := c.Want[v.Step]
					if ok && !w.meets(v) {
						t.Errorf("%s: got\n\t%q: %s", c.About, v.Step, told(v))
					}
				}
				for step := range c.Want {
					if !slices.ContainsFunc(verdicts, func(v Verdict) bool { return v.Step == step }) {
						t.Errorf("there is no step %s", step)
					}
				}
				if pieces := inPieces(l, f, events); !cmp.Equal(verdicts, pieces) {
					t.Errorf("in pieces the verdicts differ:\n%s", cmp.Diff(verdicts, pieces))
				}
			})
		}
	}
}

// inPieces grades the same events with moments between them, and takes the
// verdicts from the changes alone.
func inPieces(l *Lesson, f *vectors, events []Event) []Verdict {
	g := NewGrader(l, Config{Nonce: f.Nonce, Facts: f.Knows})
	verdicts := g.Verdicts()
	feed := func(e Event) {
		for _, changed := range g.Feed(e) {
			for i := range verdicts {
				if verdicts[i].Step == changed.Step {
					verdicts[i] = changed
				}
			}
		}
	}
	for _, e := range events {
		for next := g.Next(); !next.IsZero() && next.Before(e.At); next = g.Next() {
			var moment Event
			moment.At = next
			feed(moment)
		}
		feed(e)
	}
	return verdicts
}

// TestLessonVectors: each step of each lesson is ticked by its reference, and
// each of its near misses leaves it open and says why.
func TestLessonVectors(t *testing.T) {
	for _, l := range embedded(t).Lessons {
		file := filepath.Join("testdata", "vectors", l.Slug+".json")
		f := readVectors(t, file)
		if f.Lesson != l.Slug {
			t.Errorf("%s is about %q", file, f.Lesson)
		}
		find := func(name string) *script {
			i := slices.IndexFunc(f.Cases, func(c script) bool { return c.Name == name })
			if i < 0 {
				t.Errorf("%s has no vector %q", file, name)
				return &script{}
			}
			return &f.Cases[i]
		}
		for _, s := range l.Steps {
			if w, ok := find(s.Reference).Want[s.ID]; !ok || w.State != Ticked {
				t.Errorf("%s: %q does not tick %s", file, s.Reference, s.ID)
			}
			for _, name := range s.NearMisses {
				if w := find(name).Want[s.ID]; w.Miss == nil {
					t.Errorf("%s: %q says nothing to %s", file, name, s.ID)
				}
			}
		}
	}
}
