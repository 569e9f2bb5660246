package graph

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/graph/model"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/lessons"
)

// learners are those of this gateway, if it keeps any.
func (r *Resolver) learners() (Learners, error) {
	if r.Learners == nil {
		return nil, live.Errorf("PROGRESS_UNAVAILABLE", "This gateway keeps no progress.")
	}
	return r.Learners, nil
}

// progress is a learner's as this client is told of it.
func (r *Resolver) progress(ctx context.Context, p lessons.Progress) model.Progress {
	course := r.Classroom.Course()
	out := model.Progress{Phases: []model.PhaseProgress{}, Steps: []model.StepProgress{}, Answers: []model.QuestionProgress{}, QuickChecks: []model.QuickCheck{}}
	for _, s := range course.Standing(p) {
		out.Phases = append(out.Phases, model.PhaseProgress{
			Number: s.Phase, Areas: s.Areas, Green: s.Green, Advise: advice(course, s), Locale: ClientOf(ctx).Locale,
		})
	}
	for _, l := range course.Lessons {
		for i := range l.Steps {
			if at, ticked := p.Steps[l.Slug+"/"+l.Steps[i].ID]; ticked {
				out.Steps = append(out.Steps, model.StepProgress{Lesson: l.Slug, Step: l.Steps[i].ID, At: at})
			}
		}
		for i := range l.Quiz {
			if a, answered := p.Answers[l.Slug+"/"+l.Quiz[i].ID]; answered {
				out.Answers = append(out.Answers, model.QuestionProgress{Lesson: l.Slug, Question: l.Quiz[i].ID, Right: a.Right, At: a.At})
			}
		}
	}
	for _, key := range p.Due(time.Now()) {
		slug, question, _ := strings.Cut(key, "/")
		out.QuickChecks = append(out.QuickChecks, model.QuickCheck{Lesson: slug, Question: question})
	}
	return out
}

// quickCheck notes that a quick check was done, if it was due.
func quickCheck(p lessons.Progress, slug, question string, now time.Time) lessons.Progress {
	if !slices.Contains(p.Due(now), slug+"/"+question) {
		return p
	}
	return p.QuickCheck(slug, question)
}

// advice says what to do about a phase's gate.
func advice(course *lessons.Course, s lessons.PhaseStanding) lessons.Text {
	if s.Green {
		if s.Phase == len(course.Phases) {
			return lessons.Text{EN: "The gate is green: that is the whole course.", JA: "ゲートは緑です。これでコースは修了です。"}
		}
		return lessons.Text{
			EN: fmt.Sprintf("The gate is green: go on to phase %d.", s.Phase+1),
			JA: fmt.Sprintf("ゲートは緑です。フェーズ%dへ進みましょう。", s.Phase+1),
		}
	}
	var en, ja []string
	for i, a := range s.Areas {
		missing := (a.Percent*a.Available+99)/100 - a.Earned
		if missing <= 0 {
			continue
		}
		title, noun := course.Phases[s.Phase-1].Areas[i].Title, "more points"
		if missing == 1 {
			noun = "more point"
		}
		en = append(en, fmt.Sprintf("%d %s in %s", missing, noun, title.EN))
		ja = append(ja, fmt.Sprintf("「%s」があと%d点", title.JA, missing))
	}
	if len(en) > 0 {
		return lessons.Text{
			EN: "The gate asks for " + strings.Join(en, ", ") + "; you may go on all the same.",
			JA: "緑のゲートまで、" + strings.Join(ja, "、") + "です。このまま先へ進んでもかまいません。",
		}
	}
	return lessons.Text{
		EN: "Lessons of this phase are still being written: the gate turns green when they are there and done; you may go on all the same.",
		JA: "このフェーズには準備中のレッスンがあります。公開されたあとに終えると、ゲートが緑になります。このまま先へ進んでもかまいません。",
	}
}
