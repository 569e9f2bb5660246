package lessons

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
)

// Kind is what kind of thing happened in a lesson.
type Kind string

// The kinds.
const (
	StepTicked       Kind = "step-ticked"
	NearMiss         Kind = "near-miss"
	QuestionAnswered Kind = "question-answered"
	LessonCompleted  Kind = "lesson-completed"
	GateReached      Kind = "gate-reached"
	LabExpiring      Kind = "lab-expiring"
)

// Happening is one thing that happened in a lesson. What is said of a session in
// public has its first block alone: no id, no payload.
type Happening struct {
	Kind     Kind      `json:"kind"`
	Lesson   string    `json:"lesson"` // slug
	Step     string    `json:"step,omitzero"`
	Question string    `json:"question,omitzero"`
	Right    bool      `json:"right,omitzero"` // of an answer
	Phase    int       `json:"phase,omitzero"` // whose gate was reached
	At       time.Time `json:"at"`

	Because  Text      `json:"because,omitzero"`  // a step was ticked
	Saw      Text      `json:"saw,omitzero"`      // of a near miss
	Wanted   Text      `json:"wanted,omitzero"`   // of a near miss
	Sentence Text      `json:"sentence,omitzero"` // of a near miss
	Places   []Place   `json:"places,omitzero"`   // where to look
	Expires  time.Time `json:"expires,omitzero"`  // of a lab
}

// inPublic is what everybody may know.
func (h Happening) inPublic() Happening {
	return Happening{Kind: h.Kind, Lesson: h.Lesson, Step: h.Step, Question: h.Question, Right: h.Right, Phase: h.Phase, At: h.At}
}

// public reports whether everybody is told at all.
func (h Happening) public() bool { return h.Kind != NearMiss && h.Kind != LabExpiring }

// Feed names a stream of happenings: those of one session by its public name, of
// one lesson, or, if both are empty, of all.
type Feed struct{ Session, Lesson string }

func (f Feed) topic() string {
	switch {
	case f.Session != "":
		return "lesson-session/" + f.Session
	case f.Lesson != "":
		return "lesson/" + f.Lesson
	}
	return "lessons"
}

// Subscribe opens a feed: what happens behind a cursor, or, when it is empty,
// what happens from now on. Reader reads its events.
func (c *Classroom) Subscribe(ctx context.Context, f Feed, cursor string) (live.Sub[*eventlog.Entry], error) {
	return c.log.Subscribe(ctx, f.topic(), cursor)
}

// Read returns what an event of a feed says, and the event's cursor.
func (c *Classroom) Read(f Feed, e *eventlog.Entry) (Happening, string, error) {
	var h Happening
	if err := json.Unmarshal(e.Data, &h); err != nil {
		return Happening{}, "", fmt.Errorf("lessons: event %s: %w", e.ID, err)
	}
	return h, c.log.Cursor(f.topic(), e.Pos), nil
}
