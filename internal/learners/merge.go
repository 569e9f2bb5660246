package learners

import (
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/lessons"
)

// merge joins what was done in two places. Of a step the first tick stays; of a
// question the later answer counts, and the later wrong one sets its quick checks.
func merge(a, b lessons.Progress) lessons.Progress {
	p := lessons.NewProgress()
	for _, from := range []lessons.Progress{a, b} {
		for key, at := range from.Steps {
			addStep(p, key, at)
		}
		for key, answered := range from.Answers {
			addAnswer(p, key, answered)
		}
	}
	return p
}

// current gives every key the slug that its lesson has now.
func (l *Learners) current(p lessons.Progress) lessons.Progress {
	q := lessons.NewProgress()
	for key, at := range p.Steps {
		addStep(q, l.key(key), at)
	}
	for key, a := range p.Answers {
		addAnswer(q, l.key(key), a)
	}
	return q
}

// known is what the course has of a progress.
func (l *Learners) known(p lessons.Progress) lessons.Progress {
	q := l.current(p)
	for key := range q.Steps {
		if !l.steps[key] {
			delete(q.Steps, key)
		}
	}
	for key := range q.Answers {
		if !l.questions[key] {
			delete(q.Answers, key)
		}
	}
	return q
}

func (l *Learners) key(key string) string {
	slug, id, _ := strings.Cut(key, "/")
	if lesson := l.course.Lesson(slug); lesson != nil {
		return lesson.Slug + "/" + id
	}
	return key
}

func addStep(p lessons.Progress, key string, at time.Time) {
	if first, ok := p.Steps[key]; !ok || at.Before(first) {
		p.Steps[key] = at
	}
}

func addAnswer(p lessons.Progress, key string, b lessons.Answered) {
	a, ok := p.Answers[key]
	if !ok {
		p.Answers[key] = b
		return
	}
	if b.At.After(a.At) {
		a.Right, a.At = b.Right, b.At
	}
	switch c := b.Wrong.Compare(a.Wrong); {
	case c > 0:
		a.Wrong, a.Checks = b.Wrong, b.Checks
	case c == 0:
		a.Checks = max(a.Checks, b.Checks)
	}
	p.Answers[key] = a
}
