package lessons

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/wire"
)

// Learners keep what each learner has done.
type Learners interface {
	// Change applies f to a learner's progress and returns it before and after.
	Change(ctx context.Context, learner string, f func(Progress) Progress) (before, after Progress, err error)
}

// ClassroomConfig is what a Classroom needs. Zero fields take the defaults in brackets.
type ClassroomConfig struct {
	Course *Course
	Log    *eventlog.Log
	// Learners keep progress [nobody does].
	Learners Learners
	// Announce tells brokers of what happens in public, as JSON. It may take its
	// time; when 64 announcements wait, the oldest is dropped [nobody is told].
	Announce func(ctx context.Context, lesson string, happening []byte)
	Logger   *slog.Logger // [discards]
}

// Classroom grades lab sessions while their learners work, and tells what
// happens in them through the event log.
//
// Each session that takes a lesson has one goroutine, which ends when the
// session's transcript is closed; one more announces in public. Close tells what
// is left to tell, ends all and waits. A tick is appended to the log before
// anything else is; while the log or the learners' progress is away it waits, and
// nothing behind it is told, but grading goes on. Near misses are told at most
// four times a second, the nearest of each step.
type Classroom struct {
	cfg    ClassroomConfig
	course *Course
	log    *eventlog.Log
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup // seats
	public chan Happening
	told   chan struct{} // closed when nothing more is announced

	closing chan struct{} // closed by Close

	mu     sync.Mutex
	seats  map[string]*seat // by session id
	closed bool
}

// announcements is how many wait for brokers.
const announcements = 64

// NewClassroom makes a Classroom and starts its goroutine.
func NewClassroom(cfg ClassroomConfig) *Classroom {
	if cfg.Announce == nil {
		cfg.Announce = func(context.Context, string, []byte) {}
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	c := &Classroom{cfg: cfg, course: cfg.Course, log: cfg.Log, seats: make(map[string]*seat), public: make(chan Happening, announcements), told: make(chan struct{}), closing: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(c.told)
		c.announce()
	}()
	return c
}

// Course is what is taught.
func (c *Classroom) Course() *Course { return c.course }

// Enrolment is a lab session that takes a lesson.
type Enrolment struct {
	ID, Name   string // secret, public
	Lesson     *Lesson
	Learner    string // id of who has the session; empty: nobody's
	Nonce      string
	Facts      map[string]any        // what the servers of the session know from the beginning
	Counters   func() map[string]any // and what they know when an answer comes [nothing]
	Transcript *wire.Transcript
	Expires    func() time.Time // when the session will end [never]
}

// seat is an enrolment under way.
type seat struct {
	Enrolment
	room *Classroom

	mu     sync.Mutex
	grader *Grader
	right  map[string]bool    // questions whose latest answer is right
	done   bool               // LessonCompleted was told
	out    []waiting          // to be told, in order; the first may be on its way
	misses map[string]Verdict // to be told, by step
	wake   chan struct{}      // holds one
	warned time.Time          // the expiry that was told
	notice time.Duration      // how long before it that is
}

// waiting is a happening with its id in the log.
type waiting struct {
	id string
	Happening
}

// Enrol begins to grade a session.
func (c *Classroom) Enrol(e Enrolment) {
	if e.Counters == nil {
		e.Counters = func() map[string]any { return nil }
	}
	s := &seat{
		Enrolment: e, room: c, grader: NewGrader(e.Lesson, Config{Nonce: e.Nonce, Facts: e.Facts}),
		right: make(map[string]bool), misses: make(map[string]Verdict), wake: make(chan struct{}, 1),
	}
	if e.Expires != nil { // a short life is not about to end all the time
		s.notice = min(warnBefore, time.Until(e.Expires())/6)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.seats[e.ID] = s
	c.work.Go(s.run)
}

// Close tells what is left to tell, if the log is there, ends all and waits.
func (c *Classroom) Close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		<-c.told
		return
	}
	c.closed = true
	close(c.closing)
	c.mu.Unlock()
	defer c.cancel()
	defer time.AfterFunc(lastWords, c.cancel).Stop()
	c.work.Wait()
	close(c.public)
	<-c.told
}

// CodeNoLesson is told who wants a session graded that takes no lesson.
const CodeNoLesson = "LESSON_REQUIRED"

func (c *Classroom) seat(session string) (*seat, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.seats[session]; s != nil {
		return s, nil
	}
	return nil, live.Errorf(CodeNoLesson, "This lab session has ended, or takes no lesson: call startLab with the slug of one.")
}

// Verdicts says how far a session is, step by step.
func (c *Classroom) Verdicts(session string) ([]Verdict, error) {
	s, err := c.seat(session)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grader.Verdicts(), nil
}

// Answer submits a value to a step and returns what is said to it.
func (c *Classroom) Answer(session, step, name string, value any) (Verdict, error) {
	s, err := c.seat(session)
	if err != nil {
		return Verdict{}, err
	}
	if s.Lesson.Step(step) == nil {
		return Verdict{}, live.Errorf("STEP_UNKNOWN", "The lesson %s has no step %.20q: it has %s.", s.Lesson.Slug, step, strings.Join(s.grader.stepIDs(), ", "))
	}
	now := time.Now() // all that happened before will have been fed
	s.catchUp()
	s.feed(Event{Event: wire.Event{At: now}, Answer: &Answer{Step: step, Name: name, Value: value}, Facts: s.Counters()})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.grader.Verdicts() {
		if v.Step == step {
			return v, nil
		}
	}
	return Verdict{}, nil
}

// Tell feeds what only the host knows, such as results of the probe, to the
// grader of a session.
func (c *Classroom) Tell(session string, events ...Event) error {
	s, err := c.seat(session)
	if err != nil {
		return err
	}
	s.catchUp()
	for _, e := range events {
		s.feed(e)
	}
	return nil
}

// Reply answers a question of the session's lesson.
func (c *Classroom) Reply(ctx context.Context, session, question string, r Reply) (Mark, error) {
	s, err := c.seat(session)
	if err != nil {
		return Mark{}, err
	}
	q := s.Lesson.Question(question)
	if q == nil {
		return Mark{}, live.Errorf("QUESTION_UNKNOWN", "The lesson %s has no question %.20q.", s.Lesson.Slug, question)
	}
	mark, now := q.Check(r), time.Now()
	s.mu.Lock()
	s.right[question] = mark.Right
	s.tell(Happening{Kind: QuestionAnswered, Lesson: s.Lesson.Slug, Question: question, Right: mark.Right, At: now})
	s.complete(now)
	s.mu.Unlock()
	return mark, s.note(ctx, func(p Progress) Progress { return p.Answer(s.Lesson.Slug, question, mark.Right, now) })
}

// feed gives the grader an event and notes what has changed.
func (s *seat) feed(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take(s.grader.Feed(e))
}

// take notes verdicts that have changed; the lock is held.
func (s *seat) take(changed []Verdict) {
	for _, v := range changed {
		if v.State != Ticked {
			s.misses[v.Step] = v
			s.rouse()
			continue
		}
		delete(s.misses, v.Step)
		s.tell(Happening{Kind: StepTicked, Lesson: s.Lesson.Slug, Step: v.Step, At: v.Tick.At, Because: v.Tick.Because, Places: v.Tick.Events})
		s.complete(v.Tick.At)
	}
}

// complete tells, once, that all is done; the lock is held.
func (s *seat) complete(at time.Time) {
	if s.done {
		return
	}
	for _, v := range s.grader.Verdicts() {
		if v.State != Ticked {
			return
		}
	}
	for i := range s.Lesson.Quiz {
		if !s.right[s.Lesson.Quiz[i].ID] {
			return
		}
	}
	s.done = true
	s.tell(Happening{Kind: LessonCompleted, Lesson: s.Lesson.Slug, At: at})
}

// tell queues a happening: at most a tick and a near miss for each step, the
// newest answer to each question, and what happens once. The lock is held.
func (s *seat) tell(h Happening) {
	id := rand.Text()
	if h.Kind == StepTicked || h.Kind == LessonCompleted {
		id = string(h.Kind) + "-" + h.Step // told once, whatever happens
	}
	if h.Kind == QuestionAnswered && len(s.out) > 0 {
		rest := slices.DeleteFunc(s.out[1:], func(w waiting) bool { return w.Kind == h.Kind && w.Question == h.Question })
		s.out = s.out[:1+len(rest)]
	}
	s.out = append(s.out, waiting{id, h})
	s.rouse()
}

func (s *seat) rouse() {
	select {
	case s.wake <- struct{}{}:
	default: // it will see this, too
	}
}

// missesEvery is how often near misses are told, warnBefore how long before its
// end a session is warned, again how soon the log is tried again, and lastWords
// how long Close waits for it.
const (
	missesEvery = 250 * time.Millisecond
	warnBefore  = 5 * time.Minute
	again       = 250 * time.Millisecond
	lastWords   = 3 * time.Second
)

// run follows the session until its transcript is closed and all has been told.
func (s *seat) run() {
	c := s.room
	defer func() {
		c.mu.Lock()
		delete(c.seats, s.ID)
		c.mu.Unlock()
	}()
	stop := s.Transcript.Follow(s.rouse)
	defer stop()
	var missed, retry time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	closing := c.closing
	for {
		before := time.Now() // all that happened before will have been fed
		open := s.catchUp()
		s.mu.Lock()
		s.take(s.grader.Feed(Event{Event: wire.Event{At: before}}))
		s.warn()
		now := time.Now()
		if len(s.misses) > 0 && len(s.out) == 0 && now.Sub(missed) >= missesEvery {
			missed = now
			s.tellMisses(now)
		}
		s.mu.Unlock()
		if !now.Before(retry) {
			if s.tellAll() {
				if !open || closing == nil {
					return
				}
			} else {
				retry = time.Now().Add(again)
			}
		}
		timer.Reset(s.sleep(missed, retry))
		select {
		case <-c.ctx.Done():
			return
		case <-closing:
			closing = nil // once more, for what has come meanwhile
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// tellAll tells what waits, in order; false: the log is away.
func (s *seat) tellAll() bool {
	for {
		s.mu.Lock()
		if len(s.out) == 0 {
			s.mu.Unlock()
			return true
		}
		first := s.out[0]
		s.mu.Unlock()
		if !s.append(first) {
			return false
		}
		s.mu.Lock()
		s.out = s.out[1:]
		s.mu.Unlock()
	}
}

// catchUp feeds what the transcript has and the grader has not. open is false
// once there will be no more.
func (s *seat) catchUp() (open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var events [64]wire.Event
	for {
		n, open := s.Transcript.After(s.grader.seq, events[:])
		for _, e := range events[:n] {
			s.take(s.grader.Feed(Event{Event: e}))
		}
		if n < len(events) {
			return open
		}
	}
}

// tellMisses tells the near misses that wait; the lock is held.
func (s *seat) tellMisses(now time.Time) {
	for i := range s.Lesson.Steps { // in the lesson's order
		v, waits := s.misses[s.Lesson.Steps[i].ID]
		if !waits || v.Miss == nil {
			continue
		}
		s.tell(Happening{
			Kind: NearMiss, Lesson: s.Lesson.Slug, Step: v.Step, At: now,
			Saw: v.Miss.Saw, Wanted: v.Miss.Wanted, Sentence: v.Miss.Sentence, Places: []Place{v.Miss.Place},
		})
	}
	clear(s.misses)
}

// sleep is how long nothing is to be done unless something happens.
func (s *seat) sleep(missed, retry time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, d := time.Now(), 30*time.Second
	switch {
	case retry.After(now):
		d = retry.Sub(now)
	case len(s.misses) > 0:
		d = missesEvery - now.Sub(missed)
	}
	if next := s.grader.Next(); !next.IsZero() {
		d = min(d, next.Sub(now)+time.Millisecond)
	}
	return max(d, time.Millisecond)
}

// warn tells that the session is about to end, once for each such time; the lock
// is held.
func (s *seat) warn() {
	if s.Expires == nil {
		return
	}
	at := s.Expires()
	if now := time.Now(); at.Sub(now) < s.notice && at.Sub(s.warned).Abs() > time.Second {
		s.warned = at
		s.tell(Happening{Kind: LabExpiring, Lesson: s.Lesson.Slug, At: now, Expires: at})
	}
}

// append tells of a happening, in the session's feed, in the learner's progress and
// in public; false: the log is away, or the progress.
func (s *seat) append(w waiting) bool {
	c, h := s.room, w.Happening
	if err := c.write(Feed{Session: s.Name}, w.id, h); err != nil {
		return false
	}
	if h.Kind == StepTicked {
		err := s.note(c.ctx, func(p Progress) Progress { return p.Tick(h.Lesson, h.Step, h.At) })
		if away := (*live.Error)(nil); errors.As(err, &away) && strings.HasSuffix(away.Code, "_UNAVAILABLE") {
			return false // nothing is told twice when it is tried again
		}
		if err != nil {
			c.cfg.Logger.Warn("a tick was not noted in the learner's progress", "lesson", h.Lesson, "step", h.Step, "session", s.Name, "error", err)
		}
	}
	for h.public() {
		select {
		case c.public <- h.inPublic():
			return true
		default:
		}
		select {
		case <-c.public: // the oldest
		default:
		}
	}
	return true
}

// write appends a happening to a feed, once, however often it is tried.
func (c *Classroom) write(f Feed, id string, h Happening) error {
	data, err := json.Marshal(h)
	if err != nil {
		c.cfg.Logger.Error("a lesson event cannot be written", "error", err)
		return nil
	}
	_, _, err = c.log.Append(c.ctx, eventlog.Draft{Topic: f.topic(), ID: id, Data: data})
	return err
}

// note changes the progress of who has the session, and tells of gates.
func (s *seat) note(ctx context.Context, change func(Progress) Progress) error {
	if s.Learner == "" || s.room.cfg.Learners == nil {
		return nil
	}
	before, after, err := s.room.cfg.Learners.Change(ctx, s.Learner, change)
	if err != nil {
		return err
	}
	was := s.room.course.Standing(before)
	for i, phase := range s.room.course.Standing(after) {
		if phase.Green && !was[i].Green {
			s.mu.Lock()
			s.tell(Happening{Kind: GateReached, Lesson: s.Lesson.Slug, Phase: phase.Phase, At: time.Now()})
			s.mu.Unlock()
		}
	}
	return nil
}

// announce tells everybody what happens.
func (c *Classroom) announce() {
	for h := range c.public {
		id := rand.Text()
		for _, f := range []Feed{{}, {Lesson: h.Lesson}} {
			for c.write(f, id, h) != nil {
				select {
				case <-c.ctx.Done():
					return
				case <-time.After(again):
				}
			}
		}
		if data, err := json.Marshal(h); err == nil {
			c.cfg.Announce(c.ctx, h.Lesson, data)
		}
	}
}
