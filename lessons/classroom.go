package lessons

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
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
// session's transcript is closed; one more announces in public. Close ends all
// and waits. A tick is appended to the log before anything else is; while the log
// is away it waits, and nothing behind it is told. Near misses are told at most
// four times a second, the nearest of each step.
type Classroom struct {
	cfg    ClassroomConfig
	course *Course
	log    *eventlog.Log
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	public chan Happening

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
	c := &Classroom{cfg: cfg, course: cfg.Course, log: cfg.Log, seats: make(map[string]*seat), public: make(chan Happening, announcements)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.work.Go(c.announce)
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
	out    []Happening        // to be told, in order
	misses map[string]Verdict // to be told, by step
	wake   chan struct{}      // holds one
	warned time.Time          // the expiry that was told
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.seats[e.ID] = s
	c.work.Go(s.run)
}

// Close ends all and waits.
func (c *Classroom) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.work.Wait()
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
	s.catchUp()
	s.feed(Event{Event: wire.Event{At: time.Now()}, Answer: &Answer{Step: step, Name: name, Value: value}, Facts: s.Counters()})
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

// tell queues a happening: at most a tick for each step, a question for each
// mutation, and three more. The lock is held.
func (s *seat) tell(h Happening) {
	s.out = append(s.out, h)
	s.rouse()
}

func (s *seat) rouse() {
	select {
	case s.wake <- struct{}{}:
	default: // it will see this, too
	}
}

// missesEvery is how often near misses are told, warnBefore how long before its
// end a session is warned, and again how soon the log is tried again.
const (
	missesEvery = 250 * time.Millisecond
	warnBefore  = 5 * time.Minute
	again       = 250 * time.Millisecond
)

// run follows the session until its transcript is closed.
func (s *seat) run() {
	c := s.room
	defer func() {
		c.mu.Lock()
		delete(c.seats, s.ID)
		c.mu.Unlock()
	}()
	stop := s.Transcript.Follow(s.rouse)
	defer stop()
	var missed time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		before := time.Now() // all that happened before will have been fed
		open := s.catchUp()
		s.mu.Lock()
		s.take(s.grader.Feed(Event{Event: wire.Event{At: before}}))
		s.warn()
		out := s.out
		s.out = nil
		now := time.Now()
		if len(s.misses) > 0 && now.Sub(missed) >= missesEvery {
			missed = now
			out = append(out, s.tellMisses(now)...)
		}
		timer.Reset(s.sleep(now, missed))
		s.mu.Unlock()
		for _, h := range out {
			if !s.append(h) {
				return
			}
		}
		if !open {
			return
		}
		select {
		case <-c.ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
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

// tellMisses takes the near misses that wait; the lock is held.
func (s *seat) tellMisses(now time.Time) (out []Happening) {
	for i := range s.Lesson.Steps { // in the lesson's order
		v, waits := s.misses[s.Lesson.Steps[i].ID]
		if !waits || v.Miss == nil {
			continue
		}
		out = append(out, Happening{
			Kind: NearMiss, Lesson: s.Lesson.Slug, Step: v.Step, At: now,
			Saw: v.Miss.Saw, Wanted: v.Miss.Wanted, Sentence: v.Miss.Sentence, Places: []Place{v.Miss.Place},
		})
	}
	clear(s.misses)
	return out
}

// sleep is how long nothing is to be done unless something happens.
func (s *seat) sleep(now, missed time.Time) time.Duration {
	d := 30 * time.Second
	if len(s.misses) > 0 {
		d = min(d, missesEvery-now.Sub(missed))
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
	if now := time.Now(); at.Sub(now) < warnBefore && at.Sub(s.warned).Abs() > time.Second {
		s.warned = at
		s.tell(Happening{Kind: LabExpiring, Lesson: s.Lesson.Slug, At: now, Expires: at})
	}
}

// append tells of a happening, in the session's feed and in public. It waits for
// the log; false: the classroom is closing.
func (s *seat) append(h Happening) bool {
	c := s.room
	id := rand.Text()
	if h.Kind == StepTicked || h.Kind == LessonCompleted {
		id = string(h.Kind) + "-" + h.Step // told once, whatever happens
	}
	if !c.append(Feed{Session: s.Name}, id, h) {
		return false
	}
	if h.Kind == StepTicked {
		err := s.note(c.ctx, func(p Progress) Progress { return p.Tick(h.Lesson, h.Step, h.At) })
		if err != nil {
			c.cfg.Logger.Warn("a tick was not noted in the learner's progress", "lesson", h.Lesson, "step", h.Step, "session", s.Name, "error", err)
		}
	}
	if !h.public() {
		return true
	}
	for {
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
}

func (c *Classroom) append(f Feed, id string, h Happening) bool {
	data, err := json.Marshal(h)
	if err != nil {
		c.cfg.Logger.Error("a lesson event cannot be written", "error", err)
		return true
	}
	for {
		if _, _, err = c.log.Append(c.ctx, eventlog.Draft{Topic: f.topic(), ID: id, Data: data}); err == nil {
			return true
		}
		select {
		case <-c.ctx.Done():
			return false
		case <-time.After(again):
		}
	}
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
	for {
		select {
		case <-c.ctx.Done():
			return
		case h := <-c.public:
			id := rand.Text()
			if !c.append(Feed{}, id, h) || !c.append(Feed{Lesson: h.Lesson}, id, h) {
				return
			}
			if data, err := json.Marshal(h); err == nil {
				c.cfg.Announce(c.ctx, h.Lesson, data)
			}
		}
	}
}
