package lessons

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/wire"
)

// flaky is a store that refuses the first appends.
type flaky struct {
	eventlog.Store
	mu   sync.Mutex
	left int
}

func (f *flaky) Append(ctx context.Context, d eventlog.Draft) (*eventlog.Entry, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left > 0 {
		f.left--
		return nil, false, errors.New("away")
	}
	return f.Store.Append(ctx, d)
}

// roll is learners in memory.
type roll struct {
	mu sync.Mutex
	of map[string]Progress
}

func (r *roll) Change(_ context.Context, learner string, f func(Progress) Progress) (before, after Progress, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = r.of[learner]
	r.of[learner] = f(before)
	return before, r.of[learner], nil
}

// class is a classroom with one session at the model lesson.
type class struct {
	*Classroom
	t          *testing.T
	transcript *wire.Transcript
	url        string
	learners   *roll
	announced  chan Happening
	expires    time.Time
}

func startClass(t *testing.T, store eventlog.Store) *class {
	t.Helper()
	log := eventlog.New(store, eventlog.Config{})
	c := &class{
		t: t, transcript: wire.NewTranscript(wire.Bounds{}), learners: &roll{of: make(map[string]Progress)},
		announced: make(chan Happening, 100), expires: time.Now().Add(time.Hour),
	}
	course := embedded(t)
	c.Classroom = NewClassroom(ClassroomConfig{Course: course, Log: log, Learners: c.learners, Announce: func(_ context.Context, lesson string, data []byte) {
		var h Happening
		if err := json.Unmarshal(data, &h); err != nil || h.Lesson != lesson {
			t.Errorf("announced %s of %s: %v", data, lesson, err)
		}
		c.announced <- h
	}})
	server := httptest.NewServer(c.transcript.Tap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			if _, _, err := conn.ReadMessage(); err != nil {
				return
			}
		}
	})))
	c.url = "ws" + strings.TrimPrefix(server.URL, "http")
	c.Enrol(Enrolment{
		ID: "secret", Name: "public", Lesson: course.Lesson(model), Learner: "ada", Nonce: "kumo", Transcript: c.transcript,
		Expires: func() time.Time { return c.expires },
	})
	t.Cleanup(func() { server.Close(); c.transcript.Close(); c.Close(); log.Close() })
	return c
}

// follow reads a feed from its beginning, or behind a cursor.
func (c *class) follow(f Feed) *reader {
	c.t.Helper()
	sub, err := c.Subscribe(c.t.Context(), f, "")
	if err != nil {
		c.t.Fatal(err)
	}
	r := &reader{class: c, feed: f, sub: sub, woken: make(chan struct{}, 1)}
	sub.Wake(func() {
		select {
		case r.woken <- struct{}{}:
		default:
		}
	})
	c.t.Cleanup(sub.Close)
	return r
}

type reader struct {
	class *class
	feed  Feed
	sub   live.Sub[*eventlog.Entry]
	woken chan struct{}
}

func (r *reader) next() Happening {
	r.class.t.Helper()
	buf := make([]live.Event[*eventlog.Entry], 1)
	deadline := time.After(10 * time.Second)
	for {
		n, open := r.sub.Next(buf)
		if n == 1 {
			h, cursor, err := r.class.Read(r.feed, buf[0].Value)
			if err != nil || cursor == "" {
				r.class.t.Fatalf("cursor %q, %v", cursor, err)
			}
			return h
		}
		if !open {
			r.class.t.Fatal(r.sub.Err())
		}
		select {
		case <-r.woken:
		case <-deadline:
			r.class.t.Fatal("nothing happens")
		}
	}
}

func (c *class) dial() *websocket.Conn {
	c.t.Helper()
	conn, _, err := websocket.DefaultDialer.Dial(c.url+"/echo", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	return conn
}

func (c *class) send(conn *websocket.Conn, text string) {
	c.t.Helper()
	if err := conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func TestATickIsToldWithWhatDidItAndInPublicWithout(t *testing.T) {
	c := startClass(t, eventlog.NewMemory(eventlog.Retention{}, nil))
	mine, again, lesson, all := c.follow(Feed{Session: "public"}), c.follow(Feed{Session: "public"}), c.follow(Feed{Lesson: model}), c.follow(Feed{})
	c.dial()
	for _, r := range []*reader{mine, again} {
		if h := r.next(); h.Kind != StepTicked || h.Step != "S1" || h.Because.JA == "" || len(h.Places) != 1 || h.Places[0].Seq != 2 {
			t.Errorf("told %+v", h)
		}
	}
	for _, r := range []*reader{lesson, all} {
		if h := r.next(); h.Kind != StepTicked || h.Step != "S1" || h.Because.EN != "" || h.Places != nil {
			t.Errorf("told in public %+v", h)
		}
	}
	if h := <-c.announced; h.Step != "S1" || h.Because.EN != "" {
		t.Errorf("announced %+v", h)
	}
	if _, ok := c.learners.of["ada"].Steps[model+"/S1"]; !ok {
		t.Error("the learner's progress does not have it")
	}
}

func TestNearMissesAreToldToTheSessionAlone(t *testing.T) {
	c := startClass(t, eventlog.NewMemory(eventlog.Retention{}, nil))
	mine := c.follow(Feed{Session: "public"})
	conn := c.dial()
	mine.next()
	<-c.announced
	c.send(conn, "wrong")
	if h := mine.next(); h.Kind != NearMiss || h.Step != "S2" || h.Sentence.EN == "" || h.Sentence.JA == "" || len(h.Places) != 1 {
		t.Errorf("told %+v", h)
	}
	c.send(conn, "kumo")
	for h := mine.next(); h.Kind != StepTicked; h = mine.next() {
		if h.Kind != NearMiss {
			t.Errorf("told %+v", h)
		}
	}
	if h := <-c.announced; h.Kind != StepTicked || h.Step != "S2" {
		t.Errorf("announced %+v", h)
	}
}

func TestATickWaitsForTheLog(t *testing.T) {
	c := startClass(t, &flaky{Store: eventlog.NewMemory(eventlog.Retention{}, nil), left: 3})
	mine := c.follow(Feed{Session: "public"})
	c.dial()
	if h := mine.next(); h.Kind != StepTicked || h.Step != "S1" {
		t.Errorf("told %+v", h)
	}
}

func TestAllStepsAndAnswersCompleteALesson(t *testing.T) {
	c := startClass(t, eventlog.NewMemory(eventlog.Retention{}, nil))
	mine := c.follow(Feed{Session: "public"})
	conn := c.dial()
	c.send(conn, "kumo")
	for range 2 {
		if h := mine.next(); h.Kind != StepTicked {
			t.Fatalf("told %+v", h)
		}
	}
	l := c.Course().Lesson(model)
	for i := range l.Quiz {
		q := &l.Quiz[i]
		for _, r := range []Reply{{}, q.Right()} {
			mark, err := c.Reply(t.Context(), "secret", q.ID, r)
			if err != nil {
				t.Fatal(err)
			}
			if h := mine.next(); h.Kind != QuestionAnswered || h.Question != q.ID || h.Right != mark.Right {
				t.Errorf("told %+v of %+v", h, mark)
			}
		}
		if !c.learners.of["ada"].Answers[model+"/"+q.ID].Right {
			t.Errorf("%s is not noted", q.ID)
		}
	}
	ticker := time.NewTicker(1100 * time.Millisecond) // S3 asks for a second between two messages
	defer ticker.Stop()
	<-ticker.C
	c.send(conn, "still here")
	kinds := []Kind{}
	for len(kinds) == 0 || kinds[len(kinds)-1] != LessonCompleted {
		if h := mine.next(); h.Kind != NearMiss {
			kinds = append(kinds, h.Kind)
		}
	}
	if len(kinds) != 2 || kinds[0] != StepTicked {
		t.Errorf("told %v", kinds)
	}
}

func TestWhatCannotBeAnsweredIsRefused(t *testing.T) {
	c := startClass(t, eventlog.NewMemory(eventlog.Retention{}, nil))
	_, err1 := c.Answer("nobody's", "S1", "value", 1)
	_, err2 := c.Answer("secret", "S9", "value", 1)
	_, err3 := c.Reply(t.Context(), "secret", "Q99", Reply{})
	for i, want := range []string{CodeNoLesson, "STEP_UNKNOWN", "QUESTION_UNKNOWN"} {
		var told *live.Error
		if err := []error{err1, err2, err3}[i]; !errors.As(err, &told) || told.Code != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if v, err := c.Answer("secret", "S1", "value", 1); err != nil || v.Step != "S1" || v.State != Open {
		t.Errorf("an answer that nobody asked for: %+v, %v", v, err)
	}
}

func TestAnEndingSessionIsAnnounced(t *testing.T) {
	c := startClass(t, eventlog.NewMemory(eventlog.Retention{}, nil))
	mine := c.follow(Feed{Session: "public"})
	s, err := c.seat("secret")
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	c.expires = time.Now().Add(time.Minute)
	s.mu.Unlock()
	s.rouse()
	if h := mine.next(); h.Kind != LabExpiring || !h.Expires.Equal(c.expires) {
		t.Errorf("told %+v", h)
	}
}

func TestASeatIsGivenBackWhenItsTranscriptEnds(t *testing.T) {
	c := startClass(t, eventlog.NewMemory(eventlog.Retention{}, nil))
	c.transcript.Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := c.Verdicts("secret"); err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it is still there")
		}
	}
}
