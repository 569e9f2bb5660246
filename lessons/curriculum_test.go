package lessons

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestCurriculum: every step of the course, written or planned, can be said as a
// matcher. The table also tells what the host has to supply for it.
func TestCurriculum(t *testing.T) {
	const file = "testdata/curriculum.json"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	type step struct {
		Match   matchNode `json:"match"`
		Missing string    `json:"missing,omitzero"` // what cannot be said yet
		Host    string    `json:"host,omitzero"`    // what the host has to tell
	}
	var table []struct {
		Slug  string          `json:"slug"`
		Facts []Fact          `json:"facts,omitzero"`
		Steps map[string]step `json:"steps"`
	}
	steps := 0
	check := func() error {
		for _, l := range table {
			ids := slices.Sorted(maps.Keys(l.Steps))
			for _, id := range ids {
				s := l.Steps[id]
				steps++
				if s.Missing != "" {
					t.Logf("%s %s: %s", l.Slug, id, s.Missing)
				}
				if _, err := compile(&s.Match, l.Facts, ids, id); err != nil {
					t.Errorf("%s %s: %v", l.Slug, id, located(file, text, err))
				}
			}
		}
		return nil
	}
	if err := decode(file, text, &table, check); err != nil {
		t.Fatal(err)
	}
	if steps != 156 {
		t.Errorf("the table has %d steps, the curriculum 156", steps)
	}
	course := embedded(t)
	var slugs []string
	for _, l := range table {
		slugs = append(slugs, l.Slug)
	}
	if !slices.Equal(slugs, course.slugs()) {
		t.Errorf("the table has the lessons\n%s\nthe course\n%s", strings.Join(slugs, " "), strings.Join(course.slugs(), " "))
	}
}
