package lessons

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// What a ticked step and a question whose latest answer is right are worth.
const (
	stepPoints     = 2
	questionPoints = 1
)

// Progress is what one learner has done. It is a value: the methods that change
// it return another. Keys are a lesson's slug and an id in it: "what-is-websocket/S1".
type Progress struct {
	Version int                  `json:"version"` // of this form: 1
	Steps   map[string]time.Time `json:"steps"`   // when each was ticked first
	Answers map[string]Answered  `json:"answers"`
}

// Answered is what became of a question.
type Answered struct {
	Right bool      `json:"right"` // the latest answer, quick checks apart
	At    time.Time `json:"at"`    // of that
	// Wrong is when the question was last answered wrongly, quick checks apart;
	// zero: never. Checks is how many quick checks followed.
	Wrong  time.Time `json:"wrong,omitzero"`
	Checks int       `json:"checks,omitzero"`
}

const progressVersion = 1

// NewProgress is that of who has done nothing yet.
func NewProgress() Progress { return Progress{}.clone() }

// ParseProgress reads the JSON form.
func ParseProgress(b []byte) (Progress, error) {
	var p Progress
	if err := json.Unmarshal(b, &p); err != nil {
		return Progress{}, fmt.Errorf("lessons: progress: %w", err)
	}
	if p.Version != progressVersion {
		return Progress{}, fmt.Errorf("lessons: progress has version %d: known is %d", p.Version, progressVersion)
	}
	for _, a := range p.Answers {
		if a.Checks < 0 {
			return Progress{}, errors.New("lessons: progress counts fewer than no quick checks")
		}
	}
	return p, nil
}

func (p Progress) clone() Progress {
	q := Progress{progressVersion, maps.Clone(p.Steps), maps.Clone(p.Answers)}
	if q.Steps == nil {
		q.Steps = make(map[string]time.Time)
	}
	if q.Answers == nil {
		q.Answers = make(map[string]Answered)
	}
	return q
}

// Tick notes a ticked step. The first time stays.
func (p Progress) Tick(slug, step string, at time.Time) Progress {
	q := p.clone()
	if _, ok := q.Steps[slug+"/"+step]; !ok {
		q.Steps[slug+"/"+step] = at
	}
	return q
}

// Answer notes an answer, which replaces the one before. A wrong one begins the
// question's reviews anew.
func (p Progress) Answer(slug, question string, right bool, at time.Time) Progress {
	q := p.clone()
	a := q.Answers[slug+"/"+question]
	a.Right, a.At = right, at
	if !right {
		a.Wrong, a.Checks = at, 0
	}
	q.Answers[slug+"/"+question] = a
	return q
}

// reviewAfter is when a question that was answered wrongly comes back as a quick check.
var reviewAfter = [...]time.Duration{24 * time.Hour, 3 * 24 * time.Hour, 9 * 24 * time.Hour}

// QuickCheck notes that a quick check was done, whatever the answer was: it
// changes no score. At one time only one is done, however many are overdue.
func (p Progress) QuickCheck(slug, question string) Progress {
	q := p.clone()
	key := slug + "/" + question
	if a, ok := q.Answers[key]; ok && a.Checks < len(reviewAfter) {
		a.Checks++
		q.Answers[key] = a
	}
	return q
}

// due is when the next quick check is; false: none is left.
func (a Answered) due() (time.Time, bool) {
	if a.Wrong.IsZero() || a.Checks >= len(reviewAfter) {
		return time.Time{}, false
	}
	return a.Wrong.Add(reviewAfter[a.Checks]), true
}

// Due lists the questions whose quick checks are due, the longest overdue first.
func (p Progress) Due(now time.Time) []string {
	var list []string
	for key, a := range p.Answers {
		if at, left := a.due(); left && !at.After(now) {
			list = append(list, key)
		}
	}
	slices.SortFunc(list, func(a, b string) int {
		x, _ := p.Answers[a].due()
		y, _ := p.Answers[b].due()
		if c := x.Compare(y); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	return list
}

// PhaseStanding is how far a learner is in a phase.
type PhaseStanding struct {
	Phase int
	Areas []AreaStanding
	Green bool // every area has reached its threshold, and all lessons are written
}

// AreaStanding is how far a learner is in an area.
type AreaStanding struct {
	ID                string
	Earned, Available int // points, over the lessons that are written
	Percent           int // that the gate asks for
	Reached           bool
}

// Standing counts points, phase by phase. Keys of lessons or ids that the course
// has not are worth nothing; a lesson's earlier slugs count for it.
func (c *Course) Standing(p Progress) []PhaseStanding {
	earned := make(map[string]bool) // by current key, so that nothing counts twice
	note := func(key string) {
		slug, id, _ := strings.Cut(key, "/")
		if l := c.Lesson(slug); l != nil {
			earned[l.Slug+"/"+id] = true
		}
	}
	for key := range p.Steps {
		note(key)
	}
	for key, a := range p.Answers {
		if a.Right {
			note(key)
		}
	}
	list := make([]PhaseStanding, len(c.Phases))
	for i, phase := range c.Phases {
		standing := PhaseStanding{Phase: phase.Number, Green: c.Complete(phase.Number)}
		for _, a := range phase.Areas {
			area := AreaStanding{ID: a.ID, Percent: a.Percent}
			for item := range c.items(a.ID) {
				area.Available += item.points
				if earned[item.key] {
					area.Earned += item.points
				}
			}
			area.Reached = area.Available > 0 && area.Earned*100 >= a.Percent*area.Available
			standing.Green = standing.Green && area.Reached
			standing.Areas = append(standing.Areas, area)
		}
		list[i] = standing
	}
	return list
}

// item is a step or a question.
type item struct {
	key    string
	points int
}

// items yields what an area consists of.
func (c *Course) items(area string) func(yield func(item) bool) {
	return func(yield func(item) bool) {
		for _, l := range c.Lessons {
			for i := range l.Steps {
				if s := &l.Steps[i]; s.Area == area && !yield(item{l.Slug + "/" + s.ID, stepPoints}) {
					return
				}
			}
			for i := range l.Quiz {
				if q := &l.Quiz[i]; q.Area == area && !yield(item{l.Slug + "/" + q.ID, questionPoints}) {
					return
				}
			}
		}
	}
}

// points are those of an area.
func (c *Course) points(area string) int {
	n := 0
	for item := range c.items(area) {
		n += item.points
	}
	return n
}
