package sqlitelearners

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/internal/learners"
	"github.com/sluice-gateway/sluice/internal/learners/learnerstest"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/lessons"
)

func TestMain(m *testing.M) {
	learnerstest.Child(func(place string) (learners.Store, error) { return Open(place, nil) })
	goleak.VerifyTestMain(m)
}

func openAt(tb testing.TB, dir string, now func() time.Time) *Store {
	tb.Helper()
	s, err := Open(dir, now)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	learnerstest.Run(t, learnerstest.Subject{Keeps: true, New: func(tb testing.TB) learnerstest.Place {
		dir := filepath.Join(tb.TempDir(), "made", "when needed")
		return func(tb testing.TB) learners.Store { return openAt(tb, dir, nil) }
	}})
}

func TestTwoProcessesOnOneFile(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir, nil)
	defer s.Close()
	learnerstest.TwoProcesses(t, s, dir)
}

func TestWhoDidNothingForKeepIsForgottenAtTheStart(t *testing.T) {
	dir := t.TempDir()
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := begin
	clock := func() time.Time { return at }
	swap := func(s *Store, id string, old, next []byte) {
		t.Helper()
		if ok, err := s.Swap(t.Context(), id, old, next); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	s := openAt(t, dir, clock)
	swap(s, "once", nil, []byte("1"))
	swap(s, "again", nil, []byte("1"))
	at = begin.Add(time.Hour)
	swap(s, "again", []byte("1"), []byte("2"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		want  []string
	}{
		{learners.Keep, []string{"once", "again"}},
		{learners.Keep + time.Second, []string{"again"}},
		{learners.Keep + time.Hour, []string{"again"}},
		{learners.Keep + time.Hour + time.Second, nil},
	} {
		at = begin.Add(step.after)
		s := openAt(t, dir, clock)
		var got []string
		for _, id := range []string{"once", "again"} {
			held, err := s.Load(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if held != nil {
				got = append(got, id)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if strings.Join(got, " ") != strings.Join(step.want, " ") {
			t.Errorf("after %v there are %q, want %q", step.after, got, step.want)
		}
	}
}

func TestFilesThatAreNotLearners(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, file string)
		want string
	}{
		"no SQLite file": {func(t *testing.T, file string) {
			if err := os.WriteFile(file, []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not a database"},
		"another program's": {func(t *testing.T, file string) { execute(t, file, "CREATE TABLE theirs (a)") }, "another program"},
		"a newer version's": {func(t *testing.T, file string) {
			if err := openAt(t, filepath.Dir(file), nil).Close(); err != nil {
				t.Fatal(err)
			}
			execute(t, file, "PRAGMA user_version = 2")
		}, "newer version"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.make(t, filepath.Join(dir, fileName))
			s, err := Open(dir, nil)
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "--data-dir") {
				t.Errorf("got %v, want a sentence with %q and --data-dir", err, c.want)
			}
		})
	}
}

func execute(t *testing.T, file, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(query); err != nil {
		t.Fatal(err)
	}
}

// A file that another program does not let go of is told with a code, in time.
func TestALockedFileIsUnavailable(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir, nil)
	defer s.Close()
	l := learnerstest.New(t, s, "secret")
	_, id := learnerstest.Learner(t, l)
	tick := func() error {
		_, _, err := l.Change(t.Context(), id, func(p lessons.Progress) lessons.Progress { return p.Tick("first", "S1", time.Now()) })
		return err
	}
	other, err := sql.Open("sqlite", filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.SetMaxOpenConns(1)
	if _, err := other.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err = tick()
	var refusal *live.Error
	if !errors.As(err, &refusal) || refusal.Code != learners.CodeUnavailable || refusal.Cause == nil {
		t.Errorf("a tick while the file is locked: %v, want %s with its cause", err, learners.CodeUnavailable)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %v to say so", took)
	}
	if _, err := other.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := tick(); err != nil {
		t.Errorf("a tick when it is free again: %v", err)
	}
}
