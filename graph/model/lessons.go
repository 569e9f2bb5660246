package model

import (
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/lessons"
)

// in is a text in a language; nil: in the request's.
func (l Locale) in(given *Locale, t lessons.Text) string {
	if l.or(given) == LocaleJa {
		return t.JA
	}
	return t.EN
}

func (l Locale) or(given *Locale) Locale {
	if given != nil {
		return *given
	}
	return l
}

// LessonPhase is a quarter of the course.
type LessonPhase struct {
	lessons.Phase
	Course *lessons.Course
	Locale Locale
}

func (p LessonPhase) Title(locale *Locale) string { return p.Locale.in(locale, p.Phase.Title) }

// Lessons are those that are written.
func (p LessonPhase) Lessons() []Lesson {
	list := []Lesson{}
	for _, slug := range p.Slugs {
		if l := p.Course.Lesson(slug); l != nil {
			list = append(list, Lesson{l, p.Course, p.Locale})
		}
	}
	return list
}

// Areas are what it teaches.
func (p LessonPhase) Areas() []LessonArea {
	list := make([]LessonArea, len(p.Phase.Areas))
	for i, a := range p.Phase.Areas {
		list[i] = LessonArea{a, p.Locale}
	}
	return list
}

// LessonArea is a part of what a phase teaches.
type LessonArea struct {
	lessons.Area
	Locale Locale
}

func (a LessonArea) Title(locale *Locale) string { return a.Locale.in(locale, a.Area.Title) }

// LessonConnection is a page of lessons.
type LessonConnection struct {
	Nodes []Lesson
	Total int
	Next  *string
}

// PageOfLessons takes a page: of a phase, if it is not nil, behind an order.
func PageOfLessons(c *lessons.Course, locale Locale, phase *int, first int, after string) LessonConnection {
	behind, _ := strconv.Atoi(after) // what is none is before the first
	var page LessonConnection
	for _, l := range c.Lessons {
		if phase != nil && l.Phase != *phase {
			continue
		}
		page.Total++
		if l.Order <= behind {
			continue
		}
		if len(page.Nodes) == first {
			next := strconv.Itoa(page.Nodes[first-1].order())
			page.Next = &next
			continue
		}
		page.Nodes = append(page.Nodes, Lesson{l, c, locale})
	}
	return page
}

// Lesson is a lesson.
type Lesson struct {
	lesson *lessons.Lesson
	course *lessons.Course
	locale Locale
}

// NewLesson makes a Lesson.
func NewLesson(l *lessons.Lesson, c *lessons.Course, locale Locale) Lesson {
	return Lesson{l, c, locale}
}

func (l Lesson) order() int                  { return l.lesson.Order }
func (l Lesson) Slug() string                { return l.lesson.Slug }
func (l Lesson) Phase() int                  { return l.lesson.Phase }
func (l Lesson) Order() int                  { return l.lesson.Order }
func (l Lesson) Minutes() int                { return l.lesson.Minutes }
func (l Lesson) Server() string              { return l.lesson.Demo.Path }
func (l Lesson) Title(locale *Locale) string { return l.locale.in(locale, l.lesson.Title) }

// HTML is the text.
func (l Lesson) HTML(locale *Locale) string {
	if l.locale.or(locale) == LocaleJa {
		return l.lesson.Body.JA.HTML()
	}
	return l.lesson.Body.EN.HTML()
}

// Objectives are what the learner can do afterwards.
func (l Lesson) Objectives(locale *Locale) []string {
	return l.locale.list(locale, l.lesson.Objectives)
}

func (l Locale) list(given *Locale, texts []lessons.Text) []string {
	list := make([]string, len(texts))
	for i, t := range texts {
		list[i] = l.in(given, t)
	}
	return list
}

// Requires are the lessons before it that are written.
func (l Lesson) Requires() []Lesson {
	list := []Lesson{}
	for _, slug := range l.lesson.Requires {
		if r := l.course.Lesson(slug); r != nil {
			list = append(list, Lesson{r, l.course, l.locale})
		}
	}
	return list
}

// Steps are the exercise.
func (l Lesson) Steps() []LessonStep {
	list := make([]LessonStep, len(l.lesson.Steps))
	for i := range l.lesson.Steps {
		list[i] = LessonStep{&l.lesson.Steps[i], l.locale}
	}
	return list
}

// Questions are the quiz.
func (l Lesson) Questions() []LessonQuestion {
	list := make([]LessonQuestion, len(l.lesson.Quiz))
	for i := range l.lesson.Quiz {
		list[i] = LessonQuestion{&l.lesson.Quiz[i], l.locale}
	}
	return list
}

// Sources are where its facts are from.
func (l Lesson) Sources() []lessons.Source { return l.lesson.Sources }

// LessonStep is one step of an exercise.
type LessonStep struct {
	step   *lessons.Step
	locale Locale
}

func (s LessonStep) ID() string                    { return s.step.ID }
func (s LessonStep) Area() string                  { return s.step.Area }
func (s LessonStep) Browser() bool                 { return s.step.Browser }
func (s LessonStep) Title(locale *Locale) string   { return s.locale.in(locale, s.step.Title) }
func (s LessonStep) Hints(locale *Locale) []string { return s.locale.list(locale, s.step.Hints) }

// LessonQuestion is one question.
type LessonQuestion struct {
	question *lessons.Question
	locale   Locale
}

func (q LessonQuestion) ID() string                   { return q.question.ID }
func (q LessonQuestion) Area() string                 { return q.question.Area }
func (q LessonQuestion) Prompt(locale *Locale) string { return q.locale.in(locale, q.question.Prompt) }

func (q LessonQuestion) Unit(locale *Locale) string { return q.locale.in(locale, q.question.Unit()) }

// Kind is how it is answered.
func (q LessonQuestion) Kind() QuestionKind {
	return map[string]QuestionKind{
		lessons.Single: QuestionKindSingle, lessons.Multi: QuestionKindMulti, lessons.Number: QuestionKindNumber,
		lessons.Order: QuestionKindOrder, lessons.Hex: QuestionKindHex,
	}[q.question.Kind]
}

// Choices are what to choose from.
func (q LessonQuestion) Choices() []LessonChoice {
	list := make([]LessonChoice, len(q.question.Choices))
	for i, c := range q.question.Choices {
		list[i] = LessonChoice{ID: c.ID, text: lessons.Text{EN: c.EN, JA: c.JA}, locale: q.locale}
	}
	return list
}

// LessonChoice is one of those to choose from.
type LessonChoice struct {
	ID     string
	text   lessons.Text
	locale Locale
}

func (c LessonChoice) Text(locale *Locale) string { return c.locale.in(locale, c.text) }

// AnswerResult is what is said to an answer.
type AnswerResult struct {
	Right   bool
	Reasons []ChoiceReason
	Place   *int
	why     lessons.Text
	locale  Locale
}

func (a AnswerResult) Why(locale *Locale) string { return a.locale.in(locale, a.why) }

// ChoiceReason is why a choice is wrong.
type ChoiceReason struct {
	Choice string
	why    lessons.Text
	locale Locale
}

func (r ChoiceReason) Why(locale *Locale) string { return r.locale.in(locale, r.why) }

// Marked is what is said to the answer of a question.
func Marked(m lessons.Mark, given []string, locale Locale) AnswerResult {
	a := AnswerResult{Right: m.Right, why: m.Why, locale: locale, Reasons: []ChoiceReason{}}
	for _, id := range given {
		if why, wrong := m.Of[id]; wrong {
			a.Reasons = append(a.Reasons, ChoiceReason{id, why, locale})
		}
	}
	if m.Place > 0 {
		a.Place = &m.Place
	}
	return a
}

// Judged is what is said to the answer of a step.
func Judged(v lessons.Verdict, locale Locale) AnswerResult {
	return AnswerResult{Right: v.State == lessons.Ticked, why: sentenceOf(v), locale: locale, Reasons: []ChoiceReason{}}
}

// StepState is how far a step is.
type StepState struct {
	Step     string
	Ticked   bool
	sentence lessons.Text
	locale   Locale
}

// NewStepState makes a StepState.
func NewStepState(v lessons.Verdict, locale Locale) StepState {
	return StepState{v.Step, v.State == lessons.Ticked, sentenceOf(v), locale}
}

func (s StepState) Sentence(locale *Locale) string { return s.locale.in(locale, s.sentence) }

func sentenceOf(v lessons.Verdict) lessons.Text {
	switch {
	case v.Tick != nil:
		return v.Tick.Because
	case v.Miss != nil:
		return v.Miss.Sentence
	}
	return lessons.Text{}
}

// LessonEvent is something that happened in a lesson.
type LessonEvent interface{ IsLessonEvent() }

// NewLessonEvent makes one of the types below, or says that the course has no
// such lesson, step or question any more.
func NewLessonEvent(h lessons.Happening, cursor string, c *lessons.Course) (LessonEvent, bool) {
	l := c.Lesson(h.Lesson)
	if l == nil {
		return nil, false
	}
	e := lessonEvent{happening: h, cursor: cursor, lesson: Lesson{l, c, LocaleEn}}
	step, question := l.Step(h.Step), l.Question(h.Question)
	switch {
	case h.Kind == lessons.StepTicked && step != nil:
		return StepTicked{e, LessonStep{step, LocaleEn}}, true
	case h.Kind == lessons.NearMiss && step != nil:
		return NearMiss{e, LessonStep{step, LocaleEn}}, true
	case h.Kind == lessons.QuestionAnswered && question != nil:
		return QuestionAnswered{e, LessonQuestion{question, LocaleEn}}, true
	case h.Kind == lessons.LessonCompleted:
		return LessonCompleted{e}, true
	case h.Kind == lessons.GateReached:
		return GateReached{e}, true
	case h.Kind == lessons.LabExpiring:
		return LabExpiring{e}, true
	}
	return nil, false
}

// lessonEvent is what all have.
type lessonEvent struct {
	happening lessons.Happening
	cursor    string
	lesson    Lesson
}

// IsLessonEvent implements LessonEvent.
func (lessonEvent) IsLessonEvent() {}

func (e lessonEvent) Cursor() string { return e.cursor }
func (e lessonEvent) At() time.Time  { return e.happening.At }
func (e lessonEvent) Lesson() Lesson { return e.lesson }

// Places are where to look on the wire.
func (e lessonEvent) Places() []WirePlace {
	list := make([]WirePlace, len(e.happening.Places))
	for i, p := range e.happening.Places {
		list[i] = WirePlace{Number: int(p.Seq), Connection: int(p.Conn)}
		if p.Frame > 0 {
			list[i].Frame = &p.Frame
		}
	}
	return list
}

// StepTicked says that a step was done.
type StepTicked struct {
	lessonEvent
	Step LessonStep
}

func (e StepTicked) Because(locale *Locale) string { return LocaleEn.in(locale, e.happening.Because) }

// NearMiss says that something nearly did a step.
type NearMiss struct {
	lessonEvent
	Step LessonStep
}

func (e NearMiss) Saw(locale *Locale) string      { return LocaleEn.in(locale, e.happening.Saw) }
func (e NearMiss) Wanted(locale *Locale) string   { return LocaleEn.in(locale, e.happening.Wanted) }
func (e NearMiss) Sentence(locale *Locale) string { return LocaleEn.in(locale, e.happening.Sentence) }

// QuestionAnswered says that a question was answered.
type QuestionAnswered struct {
	lessonEvent
	Question LessonQuestion
}

func (e QuestionAnswered) Right() bool { return e.happening.Right }

// LessonCompleted says that a lesson is done.
type LessonCompleted struct{ lessonEvent }

// GateReached says that a gate is green.
type GateReached struct{ lessonEvent }

func (e GateReached) Phase() int { return e.happening.Phase }

// LabExpiring says that a lab session will end.
type LabExpiring struct{ lessonEvent }

func (e LabExpiring) ExpiresAt() time.Time { return e.happening.Expires }
