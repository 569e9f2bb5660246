package redislearners

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/internal/learners"
	"github.com/sluice-gateway/sluice/internal/learners/learnerstest"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/testenv"
	"github.com/sluice-gateway/sluice/lessons"
)

func TestMain(m *testing.M) {
	learnerstest.Child(func(place string) (learners.Store, error) { return Open(place) })
	goleak.VerifyTestMain(m)
}

func openAt(tb testing.TB, url string) *Store {
	tb.Helper()
	s, err := Open(url)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	server := testenv.Redis(t, "--databases", "100")
	used := 0
	learnerstest.Run(t, learnerstest.Subject{Keeps: true, New: func(testing.TB) learnerstest.Place {
		used++
		url := fmt.Sprintf("%s/%d", server.URL(), used)
		return func(tb testing.TB) learners.Store { return openAt(tb, url) }
	}})
}

func TestTwoProcessesOnOneRedis(t *testing.T) {
	server := testenv.Redis(t)
	s := openAt(t, server.URL())
	defer s.Close()
	learnerstest.TwoProcesses(t, s, server.URL())
}

func TestURLsAreNotQuoted(t *testing.T) {
	for _, url := range []string{"", "http://user:secret@host", "redis://user:secret@host:port", "secret"} {
		s, err := Open(url)
		if err == nil {
			s.Close()
			t.Errorf("%q is accepted", url)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error quotes the URL: %v", err)
		}
	}
}

func TestKeysAreNamedAndExpire(t *testing.T) {
	server := testenv.Redis(t)
	s := openAt(t, server.URL())
	defer s.Close()
	if ok, err := s.Swap(t.Context(), "one", nil, []byte("1")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	const key = "sluice:learner:one"
	if keys, err := s.client.Keys(t.Context(), "*").Result(); err != nil || len(keys) != 1 || keys[0] != key {
		t.Fatalf("the keys are %q, %v, want %s", keys, err, key)
	}
	left := func() time.Duration {
		t.Helper()
		d, err := s.client.PTTL(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := left(); d > learners.Keep || d < learners.Keep-time.Minute {
		t.Errorf("it expires in %v, want %v", d, learners.Keep)
	}
	if err := s.client.Expire(t.Context(), key, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if d := left(); d > time.Hour {
		t.Errorf("after a look it expires in %v, want as before", d)
	}
	if ok, err := s.Swap(t.Context(), "one", []byte("1"), []byte("2")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if d := left(); d < learners.Keep-time.Minute {
		t.Errorf("after a change it expires in %v, want %v", d, learners.Keep)
	}
}

func TestAServerThatIsAwayIsUnavailable(t *testing.T) {
	server := testenv.Redis(t)
	s := openAt(t, server.URL())
	defer s.Close()
	l := learnerstest.New(t, s, "secret")
	token, id := learnerstest.Learner(t, l)
	server.Stop(t)
	for name, call := range map[string]func() error{
		"Progress": func() error { _, err := l.Progress(t.Context(), token); return err },
		"Export":   func() error { _, err := l.Export(t.Context(), token); return err },
		"Change": func() error {
			_, _, err := l.Change(t.Context(), id, func(p lessons.Progress) lessons.Progress { return p.Tick("first", "S1", time.Now()) })
			return err
		},
	} {
		began := time.Now()
		err := call()
		var refusal *live.Error
		if !errors.As(err, &refusal) || refusal.Code != learners.CodeUnavailable || refusal.Cause == nil {
			t.Errorf("%s while the server is away: %v, want %s with its cause", name, err, learners.CodeUnavailable)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("%s took %v to say so", name, took)
		}
	}
	server.Start(t)
	if _, err := l.Progress(t.Context(), token); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}
