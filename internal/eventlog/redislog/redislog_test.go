package redislog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/eventlog/eventlogtest"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// places gives each store a database of its own in one server.
func places(server *testenv.Server) func(tb testing.TB) eventlogtest.Place {
	used := 0
	return func(testing.TB) eventlogtest.Place {
		used++
		url := fmt.Sprintf("%s/%d", server.URL(), used)
		return func(tb testing.TB, o eventlogtest.Options) eventlog.Store {
			tb.Helper()
			return openAt(tb, Config{URL: url, Retention: o.Retention})
		}
	}
}

func openAt(tb testing.TB, cfg Config) *Store {
	tb.Helper()
	s, err := Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func openLog(t *testing.T, cfg Config) (*eventlog.Log, *Store) {
	t.Helper()
	cfg.Logger = testenv.Logger(t)
	s := openAt(t, cfg)
	log := eventlog.New(s, eventlog.Config{})
	t.Cleanup(func() {
		log.Close()
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return log, s
}

func TestStore(t *testing.T) {
	server := testenv.Redis(t, "--databases", "1000")
	eventlogtest.Run(t, eventlogtest.Subject{Place: places(server), Keeps: true, Shared: true, Rounds: 10})
}

func BenchmarkStore(b *testing.B) {
	eventlogtest.Bench(b, places(testenv.Redis(b, "--databases", "1000", "--appendonly", "yes", "--appendfsync", "always")))
}

// What a topic needs goes when its newest event is too old.
func TestTopicsExpire(t *testing.T) {
	server := testenv.Redis(t)
	log, s := openLog(t, Config{URL: server.URL(), Retention: eventlog.Retention{Age: 200 * time.Millisecond}})
	for i := range 20 {
		if _, _, err := log.Append(t.Context(), eventlog.Draft{Topic: fmt.Sprint(i % 5), ID: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Head(t.Context(), fmt.Sprint("empty", i)); err != nil {
			t.Fatal(err)
		}
	}
	eventlogtest.Eventually(t, "only the identity is left", func() bool {
		keys, err := s.client.Keys(t.Context(), "*").Result()
		return err == nil && len(keys) == 1 && keys[0] == identityKey
	})
}

// wantAway checks that every call fails with the code, and soon.
func wantAway(t *testing.T, s *Store, within time.Duration) {
	t.Helper()
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"Append":   func() error { _, _, err := s.Append(ctx, eventlog.Draft{Topic: "a"}); return err },
		"Read":     func() error { _, err := s.Read(ctx, "a", live.Position{}, 1); return err },
		"Before":   func() error { _, err := s.Before(ctx, "a", live.Position{}, 1); return err },
		"Head":     func() error { _, err := s.Head(ctx, "a"); return err },
		"Identity": func() error { _, err := s.Identity(ctx); return err },
		"Hold":     func() error { _, err := s.Hold(ctx, "a", time.Second); return err },
	} {
		began := time.Now()
		err := call()
		var refusal *live.Error
		if !errors.As(err, &refusal) || refusal.Code != eventlog.CodeUnavailable {
			t.Errorf("%s while the server is away: %v, want %s", name, err, eventlog.CodeUnavailable)
		}
		if took := time.Since(began); took > within {
			t.Errorf("%s took %v to fail, want at most %v", name, took, within)
		}
	}
}

func TestStartsBeforeItsServer(t *testing.T) {
	server := testenv.Redis(t)
	server.Stop(t)
	log, s := openLog(t, Config{URL: server.URL()})
	wantAway(t, s, 3*time.Second)
	sub, err := log.Subscribe(t.Context(), "a", "") // is accepted
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	server.Start(t)
	eventlogtest.Eventually(t, "the subscription has begun", func() bool {
		sub.Next(make([]live.Event[*eventlog.Entry], 1))
		_, ok := sub.(live.Kept).Start()
		return ok
	})
	e := eventlogtest.Append(t, log, "a", "1")
	r := &reader{t: t, Sub: sub}
	if ev := r.next(); ev.Pos != e.Pos || ev.Gap == nil || ev.Gap.Reason != live.GapOutage {
		t.Errorf("the first event is %+v, want one with a gap for the outage", ev)
	}
}

// A server that hears but does not answer.
func TestServerThatHangs(t *testing.T) {
	server := testenv.Redis(t)
	log, s := openLog(t, Config{URL: server.URL(), PingEvery: 100 * time.Millisecond})
	eventlogtest.Append(t, log, "a", "1")
	server.Pause(t)
	t.Cleanup(func() { server.Resume(t) })
	began := time.Now()
	var refusal *live.Error
	if _, _, err := log.Append(t.Context(), eventlog.Draft{Topic: "a"}); !errors.As(err, &refusal) || refusal.Code != eventlog.CodeUnavailable {
		t.Errorf("Append: %v, want %s", err, eventlog.CodeUnavailable)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("Append took %v to fail, want at most 3 s", took)
	}
	eventlogtest.Eventually(t, "the server is known to be away", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.away != nil
	})
	wantAway(t, s, time.Second) // and not after the time that a command may take
	server.Resume(t)
	eventlogtest.Eventually(t, "the log is back", func() bool {
		_, _, err := log.Append(t.Context(), eventlog.Draft{Topic: "a"})
		return err == nil
	})
}

// reader reads a subscription.
type reader struct {
	live.Sub[*eventlog.Entry]
	t *testing.T
}

func (r *reader) next() (ev live.Event[*eventlog.Entry]) {
	r.t.Helper()
	buf := make([]live.Event[*eventlog.Entry], 1)
	eventlogtest.Eventually(r.t, "an event", func() bool {
		n, open := r.Next(buf)
		if !open {
			r.t.Fatalf("the subscription ended: %v", r.Err())
		}
		return n == 1
	})
	return buf[0]
}

// resumeWithin is the promise: delivery goes on within this time of the server's
// accepting connections.
const resumeWithin = 5 * time.Second

func TestServerIsKilledUnderLoad(t *testing.T) {
	server := testenv.Redis(t, "--appendonly", "yes", "--appendfsync", "always")
	cfg := Config{URL: server.URL(), Retention: eventlog.Retention{Events: 1_000_000}}
	log, s := openLog(t, cfg)
	first := eventlogtest.Append(t, log, "a", "")
	identity, err := s.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	var mu sync.Mutex
	acknowledged := map[string]live.Position{}
	ctx, stop := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	for sender := range 8 {
		senders.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprint(sender, "-", n)
				for { // with the same id until it is acknowledged
					e, _, err := log.Append(context.Background(), eventlog.Draft{Topic: "a", ID: id, Data: []byte(id)})
					if err == nil {
						mu.Lock()
						acknowledged[id] = e.Pos
						mu.Unlock()
						break
					}
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	sub, err := log.Subscribe(t.Context(), "a", log.Cursor("a", first.Pos))
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	got := map[string]live.Position{}
	var last live.Position
	buf := make([]live.Event[*eventlog.Entry], 64)
	take := func() int {
		t.Helper()
		n, open := sub.Next(buf)
		if !open {
			t.Fatalf("the subscription ended: %v", sub.Err())
		}
		for _, ev := range buf[:n] {
			if _, twice := got[ev.Value.ID]; twice {
				t.Errorf("%s came twice", ev.Value.ID)
			}
			if ev.Pos.Compare(last) <= 0 || ev.Gap != nil {
				t.Errorf("%v after %v, gap %v", ev.Pos, last, ev.Gap)
			}
			got[ev.Value.ID], last = ev.Pos, ev.Pos
		}
		return n
	}
	for range 3 {
		before := len(got)
		eventlogtest.Eventually(t, "events come", func() bool { take(); return len(got) > before+200 })
		server.Stop(t) // kill -9
		for take() > 0 {
		}
		server.Start(t)
		began, before := time.Now(), len(got)
		eventlogtest.Eventually(t, "delivery has resumed", func() bool { take(); return len(got) > before })
		if took := time.Since(began); took > resumeWithin {
			t.Errorf("resumed after %v, want at most %v", took, resumeWithin)
		} else {
			t.Logf("resumed after %v", took)
		}
	}
	stop()
	senders.Wait()
	eventlogtest.Eventually(t, "all that was acknowledged has come", func() bool { take(); return len(got) >= len(acknowledged) })
	for id, p := range acknowledged {
		if got[id] != p {
			t.Errorf("%s was acknowledged at %v and delivered at %v", id, p, got[id])
		}
	}
	if again, err := s.Identity(t.Context()); err != nil || again != identity {
		t.Errorf("the identity has changed: %v", err)
	}
	t.Logf("%d events", len(got))
}

func TestServerComesBackEmpty(t *testing.T) {
	server := testenv.Redis(t)
	emptied := map[string]func(){
		"restarted": func() { server.Stop(t); server.Start(t) },
		"flushed": func() {
			client := redis.NewClient(&redis.Options{Addr: server.Addr()})
			defer client.Close()
			if err := client.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, empty := range emptied {
		t.Run(name, func(t *testing.T) {
			log, s := openLog(t, Config{URL: server.URL(), PingEvery: 50 * time.Millisecond})
			old := eventlogtest.Append(t, log, "a", "old")
			cursor := log.Cursor("a", old.Pos)
			before, err := s.Identity(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			resumed, err := log.Subscribe(t.Context(), "a", cursor)
			if err != nil {
				t.Fatal(err)
			}
			defer resumed.Close()
			fresh, err := log.Subscribe(t.Context(), "a", "")
			if err != nil {
				t.Fatal(err)
			}
			defer fresh.Close()

			empty()
			eventlogtest.Eventually(t, "there is a new identity", func() bool {
				id, err := s.Identity(t.Context())
				return err == nil && id != before
			})
			var refusal *live.Error
			if _, err := log.Subscribe(t.Context(), "a", cursor); !errors.As(err, &refusal) || refusal.Code != eventlog.CodeCursorInvalid {
				t.Errorf("an old cursor: %v, want %s", err, eventlog.CodeCursorInvalid)
			}
			e := eventlogtest.Append(t, log, "a", "new")
			for what, sub := range map[string]live.Sub[*eventlog.Entry]{"resumed": resumed, "fresh": fresh} {
				if ev := (&reader{t: t, Sub: sub}).next(); ev.Pos != e.Pos || ev.Gap != nil {
					t.Errorf("the %s subscription got %q, gap %v", what, ev.Value.Data, ev.Gap)
				}
			}
			if sub, err := log.Subscribe(t.Context(), "a", log.Cursor("a", e.Pos)); err != nil {
				t.Errorf("a new cursor: %v", err)
			} else {
				sub.Close()
			}
		})
	}
}
