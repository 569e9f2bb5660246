package graph

import (
	"cmp"
	"context"
	"math"
	"time"

	"github.com/sluice-gateway/sluice/graph/model"
	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/labs/sessions"
	"github.com/sluice-gateway/sluice/lessons"
)

// Learners know whose progress a token stands for.
type Learners interface {
	lessons.Learners
	Create() (token string, err error)
	ID(token string) (string, error)
	Progress(ctx context.Context, token string) (lessons.Progress, error)
	Export(ctx context.Context, token string) (document string, err error)
	Import(ctx context.Context, token, document string) (lessons.Progress, error)
}

// learner is the id behind a token; none: nobody's.
func (r *Resolver) learner(token *string) (string, error) {
	if token == nil || r.Learners == nil {
		return "", nil
	}
	return r.Learners.ID(*token)
}

// lessonOf finds a lesson, or says that there is none.
func (r *Resolver) lessonOf(slug string) (*lessons.Lesson, error) {
	if l := r.Classroom.Course().Lesson(slug); l != nil {
		return l, nil
	}
	return nil, live.Errorf("LESSON_UNKNOWN", "There is no lesson %.40q: the query lessons lists them.", slug)
}

// startLab starts a session and has it graded, if it is for a lesson.
func (r *Resolver) startLab(ctx context.Context, slug, token *string) (model.LabSession, error) {
	want := sessions.Want{Client: ClientOf(ctx).Address}
	learner, err := r.learner(token)
	if err != nil {
		return model.LabSession{}, err
	}
	var lesson *lessons.Lesson
	if slug != nil {
		if lesson, err = r.lessonOf(*slug); err != nil {
			return model.LabSession{}, err
		}
		want.Lesson, want.Connections, want.Rate = lesson.Slug, lesson.Limits.Connections, lesson.Limits.MessagesPerSecond
	}
	one, err := r.Labs.Start(want)
	if err == nil && lesson != nil {
		r.Classroom.Enrol(lessons.Enrolment{
			ID: one.ID, Name: one.Name, Lesson: lesson, Learner: learner, Nonce: one.Nonce, Facts: one.Facts(), Counters: one.Counters,
			Transcript: one.Transcript, Expires: one.Expires,
		})
	}
	return r.labSession(ctx, one, err)
}

// lesson is a lesson as this client is told of it.
func (r *Resolver) lesson(ctx context.Context, l *lessons.Lesson) model.Lesson {
	return model.NewLesson(l, r.Classroom.Course(), ClientOf(ctx).Locale)
}

// submit takes an answer to a step or a question.
func (r *Resolver) submit(ctx context.Context, in model.SubmitAnswerInput) (model.AnswerResult, error) {
	locale := ClientOf(ctx).Locale
	switch {
	case (in.Step == nil) == (in.Question == nil):
		return model.AnswerResult{}, live.Errorf("ARGUMENT_OUT_OF_RANGE", "Give step and value, or question and what its kind takes: one of the two.")
	case in.QuickCheck && (in.Session != nil || in.Step != nil || in.Learner == nil):
		return model.AnswerResult{}, live.Errorf("ARGUMENT_OUT_OF_RANGE", "A quick check is of a question, and takes lesson and learner, and no session.")
	case in.Step != nil:
		verdict, err := r.Classroom.Answer(given(in.Session), *in.Step, in.Name, in.Value.Decoded())
		return model.Judged(verdict, locale), err
	}
	reply := lessons.Reply{Choices: in.Choices, Hex: given(in.Hex), Number: math.NaN()} // no number is never right
	if in.Number != nil {
		reply.Number = *in.Number
	}
	if in.Session != nil {
		mark, err := r.Classroom.Reply(ctx, *in.Session, *in.Question, reply)
		return model.Marked(mark, in.Choices, locale), err
	}
	l, err := r.lessonOf(given(in.Lesson))
	if err != nil {
		return model.AnswerResult{}, err
	}
	q := l.Question(*in.Question)
	if q == nil {
		return model.AnswerResult{}, live.Errorf("QUESTION_UNKNOWN", "The lesson %s has no question %.20q.", l.Slug, *in.Question)
	}
	mark := q.Check(reply)
	learner, err := r.learner(in.Learner)
	if err == nil && learner != "" {
		now := time.Now()
		_, _, err = r.Learners.Change(ctx, learner, func(p lessons.Progress) lessons.Progress {
			if in.QuickCheck {
				return quickCheck(p, l.Slug, q.ID, now)
			}
			return p.Answer(l.Slug, q.ID, mark.Right, now)
		})
	}
	return model.Marked(mark, in.Choices, locale), err
}

// feedOf names the feed of a session, of a lesson, or of all.
func (r *Resolver) feedOf(session, slug *string) (lessons.Feed, error) {
	if session != nil {
		if slug != nil {
			return lessons.Feed{}, live.Errorf("ARGUMENT_OUT_OF_RANGE", "Give session or lesson: a session is of one lesson alone.")
		}
		return lessons.Feed{Session: sessions.PublicName(*session)}, nil
	}
	if slug == nil {
		return lessons.Feed{}, nil
	}
	l, err := r.lessonOf(*slug)
	if err != nil {
		return lessons.Feed{}, err
	}
	return lessons.Feed{Lesson: l.Slug}, nil
}

// lessonEvent makes what a subscriber of a feed is told.
func (r *Resolver) lessonEvent(f lessons.Feed) func(live.Event[*eventlog.Entry]) (model.LessonEvent, error) {
	return func(ev live.Event[*eventlog.Entry]) (model.LessonEvent, error) {
		h, cursor, err := r.Classroom.Read(f, ev.Value)
		if err != nil {
			return nil, err
		}
		e, known := model.NewLessonEvent(h, cursor, r.Classroom.Course())
		if !known {
			return nil, live.Errorf("LESSON_UNKNOWN", "This event is of something that the course has no more: %.40s.", cmp.Or(h.Step, h.Question, h.Lesson))
		}
		return e, nil
	}
}
