package lessons

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/wire"
)

// store is one that may be away.
type store struct {
	*eventlog.Memory
	away  atomic.Bool
	tries atomic.Int64
}

func (s *store) Append(ctx context.Context, d eventlog.Draft) (*eventlog.Entry, bool, error) {
	s.tries.Add(1)
	if s.away.Load() {
		return nil, false, eventlog.Unavailable(nil)
	}
	return s.Memory.Append(ctx, d)
}

// learners are one whose progress may be away.
type learners struct {
	away atomic.Bool
	mu   sync.Mutex
	p    Progress
}

func (l *learners) Change(_ context.Context, _ string, f func(Progress) Progress) (before, after Progress, err error) {
	if l.away.Load() {
		return before, after, live.Errorf("PROGRESS_UNAVAILABLE", "It is away.")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before = l.p
	l.p = f(before)
	return before, l.p, nil
}

// room is a classroom with one session, whose nonce is "kumo-42". Its log is away.
type room struct {
	*Classroom
	*testing.T
	store      *store
	learners   learners
	transcript *wire.Transcript
	client     *websocket.Conn
}

func openRoom(t *testing.T, expires func() time.Time) *room {
	t.Helper()
	r := &room{T: t, store: &store{Memory: eventlog.NewMemory(eventlog.Retention{}, nil)}, transcript: wire.NewTranscript(wire.Bounds{})}
	r.store.away.Store(true)
	log := eventlog.New(r.store, eventlog.Config{})
	r.Classroom = NewClassroom(ClassroomConfig{Course: embedded(t), Log: log, Learners: &r.learners})
	server := httptest.NewServer(r.transcript.Tap(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		conn, err := (&websocket.Upgrader{}).Upgrade(w, req, nil)
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
	r.Enrol(Enrolment{ID: "secret", Name: "public", Lesson: r.Course().Lesson(model), Learner: "somebody", Nonce: "kumo-42", Transcript: r.transcript, Expires: expires})
	var err error
	if r.client, _, err = websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.store.away.Store(false)
		r.Classroom.Close()
		r.client.Close()
		server.Close()
		log.Close()
	})
	return r
}

func (r *room) say(text string) {
	r.Helper()
	if err := r.client.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		r.Fatal(err)
	}
}

// until polls.
func (r *room) until(what string, is func() bool) {
	r.Helper()
	for deadline := time.Now().Add(5 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatal("not so: ", what)
		}
	}
}

func (r *room) ticked(step string) func() bool {
	return func() bool {
		list, _ := r.Verdicts("secret")
		return slices.ContainsFunc(list, func(v Verdict) bool { return v.Step == step && v.State == Ticked })
	}
}

// told lists the kinds of what was told of the session.
func (r *room) told() (list []string) {
	r.Helper()
	entries, err := r.store.Read(r.Context(), Feed{Session: "public"}.topic(), live.Position{}, 1000)
	if err != nil {
		r.Fatal(err)
	}
	for _, e := range entries {
		h, _, err := r.Read(Feed{Session: "public"}, e)
		if err != nil {
			r.Fatal(err)
		}
		list = append(list, strings.TrimSpace(string(h.Kind)+" "+h.Step+h.Question))
	}
	return list
}

func TestGradingGoesOnWhileTheLogIsAway(t *testing.T) {
	r := openRoom(t, nil)
	r.until("S1 is ticked", r.ticked("S1"))
	r.until("it is told in vain", func() bool { return r.store.tries.Load() > 0 })
	r.say("kumo-42")
	r.until("S2 is ticked", r.ticked("S2"))
	r.store.away.Store(false)
	r.until("both are told", func() bool {
		return strings.HasPrefix(strings.Join(r.told(), ", "), "step-ticked S1, step-ticked S2")
	})
}

func TestATickReachesTheProgressThatWasAway(t *testing.T) {
	r := openRoom(t, nil)
	r.learners.away.Store(true)
	r.store.away.Store(false)
	r.until("S1 is told", func() bool { return len(r.told()) > 0 })
	r.learners.away.Store(false)
	r.until("S1 is noted", func() bool {
		r.learners.mu.Lock()
		defer r.learners.mu.Unlock()
		_, noted := r.learners.p.Steps[model+"/S1"]
		return noted
	})
	r.say("kumo-42")
	r.until("S2 is told", func() bool { return len(r.told()) > 1 })
	if got := r.told(); strings.Join(got[:2], ", ") != "step-ticked S1, step-ticked S2" {
		t.Errorf("told %s", got)
	}
}

func TestOfManyAnswersThatWaitTheNewestIsTold(t *testing.T) {
	r := openRoom(t, nil)
	r.until("S1 is ticked", r.ticked("S1"))
	question := r.Course().Lesson(model).Quiz[0].ID
	for range 100 {
		if _, err := r.Reply(t.Context(), "secret", question, Reply{}); err != nil {
			t.Fatal(err)
		}
	}
	r.store.away.Store(false)
	want := "step-ticked S1, question-answered " + question
	r.until("the answer is told", func() bool { return len(r.told()) > 1 })
	r.Classroom.Close()
	if got := strings.Join(r.told(), ", "); got != want {
		t.Errorf("told %s, want %s", got, want)
	}
}

func TestCloseTellsWhatIsLeft(t *testing.T) {
	r := openRoom(t, nil)
	r.until("S1 is ticked", r.ticked("S1"))
	r.until("it is told in vain", func() bool { return r.store.tries.Load() > 0 })
	r.store.away.Store(false)
	r.Classroom.Close()
	for _, f := range []Feed{{Session: "public"}, {Lesson: model}, {}} {
		if entries, err := r.store.Read(t.Context(), f.topic(), live.Position{}, 10); err != nil || len(entries) != 1 {
			t.Errorf("%+v: %d events, %v", f, len(entries), err)
		}
	}
}

func TestASessionOfAShortLifeIsNotAboutToEndWhileItIsUsed(t *testing.T) {
	r := openRoom(t, func() time.Time { return time.Now().Add(time.Minute) })
	r.store.away.Store(false)
	r.until("S1 is told", func() bool { return len(r.told()) > 0 })
	r.say("kumo-42")
	r.until("S2 is told", func() bool { return strings.Contains(strings.Join(r.told(), ", "), "S2") })
	if got := strings.Join(r.told(), ", "); strings.Contains(got, string(LabExpiring)) {
		t.Errorf("told %s", got)
	}
}
