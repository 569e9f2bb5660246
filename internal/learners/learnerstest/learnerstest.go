// Package learnerstest is the behaviour that all stores of learners' progress
// share, as a test suite.
package learnerstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-gateway/sluice/internal/learners"
	"github.com/sluice-gateway/sluice/lessons"
)

// Place opens a store at one and the same place, each time it is called.
type Place func(tb testing.TB) learners.Store

// Subject is what the suite is run on.
type Subject struct {
	// New makes a place with nothing in it.
	New func(tb testing.TB) Place
	// Keeps says that a place holds what stores held that are closed, and that
	// several stores may be open there.
	Keeps bool
}

// Run runs the suite.
func Run(t *testing.T, s Subject) {
	open := func(t *testing.T, place Place) learners.Store {
		t.Helper()
		store := place(t)
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		return store
	}
	t.Run("what is held is swapped for what comes, if it is what was thought", func(t *testing.T) {
		testSwap(t, open(t, s.New(t)))
	})
	t.Run("an ended context ends a call", func(t *testing.T) {
		store := open(t, s.New(t))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := store.Load(ctx, "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("Load: %v, want %v", err, context.Canceled)
		}
		if _, err := store.Swap(ctx, "a", nil, []byte("new")); !errors.Is(err, context.Canceled) {
			t.Errorf("Swap: %v, want %v", err, context.Canceled)
		}
	})
	t.Run("changes at once are all made", func(t *testing.T) {
		store := open(t, s.New(t))
		testTogether(t, New(t, store, "secret"), New(t, store, "secret"))
	})
	t.Run("who does nothing leaves nothing", func(t *testing.T) {
		store := open(t, s.New(t))
		l := New(t, store, "secret")
		token, id := Learner(t, l)
		if _, err := l.Progress(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		document, err := l.Export(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Import(t.Context(), token, document); err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.Change(t.Context(), id, nothing); err != nil {
			t.Fatal(err)
		}
		if held, err := store.Load(t.Context(), id); held != nil || err != nil {
			t.Errorf("the store holds %q, %v", held, err)
		}
	})
	if !s.Keeps {
		return
	}
	t.Run("stores at one place are one", func(t *testing.T) {
		place := s.New(t)
		testTogether(t, New(t, open(t, place), "secret"), New(t, open(t, place), "secret"))
	})
	t.Run("what was held is held after the store is opened again", func(t *testing.T) {
		place := s.New(t)
		first := place(t)
		mustSwap(t, first, "a", "", "kept")
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		if held, err := open(t, place).Load(t.Context(), "a"); string(held) != "kept" || err != nil {
			t.Errorf("the store holds %q, %v", held, err)
		}
	})
}

func testSwap(t *testing.T, s learners.Store) {
	holds := func(id, want string) {
		t.Helper()
		held, err := s.Load(t.Context(), id)
		if err != nil || string(held) != want || (held == nil) != (want == "") {
			t.Fatalf("%s has %.40q, %v, want %.40q", id, held, err, want)
		}
	}
	refused := func(old string) {
		t.Helper()
		if swapped, err := s.Swap(t.Context(), "a", given(old), []byte("wrong")); swapped || err != nil {
			t.Fatalf("swapping %q: %t, %v, want that it is not done", old, swapped, err)
		}
	}
	holds("a", "")
	refused("anything")
	holds("a", "")
	mustSwap(t, s, "a", "", "one")
	holds("a", "one")
	holds("b", "")
	refused("")
	refused("two")
	refused("on")
	holds("a", "one")
	large := string(bytes.Repeat([]byte{0, 'x', 0xff, '\''}, learners.MaxBytes/4))
	mustSwap(t, s, "a", "one", large)
	holds("a", large)
	mustSwap(t, s, "b", "", "one")
	mustSwap(t, s, "a", large, "two")
	holds("a", "two")
	holds("b", "one")
}

func given(text string) []byte {
	if text == "" {
		return nil
	}
	return []byte(text)
}

func mustSwap(t *testing.T, s learners.Store, id, old, next string) {
	t.Helper()
	if swapped, err := s.Swap(t.Context(), id, given(old), []byte(next)); !swapped || err != nil {
		t.Fatalf("swapping %.40q of %s for %.40q: %t, %v", old, id, next, swapped, err)
	}
}

const (
	senders = 4  // of each gateway
	changes = 10 // of each sender
)

// testTogether has gateways change one learner at once.
func testTogether(t *testing.T, gateways ...*learners.Learners) {
	_, id := Learner(t, gateways[0])
	var work sync.WaitGroup
	for i, l := range gateways {
		work.Go(func() {
			if err := hammer(t.Context(), l, id, fmt.Sprint("gateway", i)); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	wantTicks(t, gateways[0], id, len(gateways)*senders*changes)
}

// hammer ticks steps of its own, several at once.
func hammer(ctx context.Context, l *learners.Learners, id, slug string) error {
	errs := make([]error, senders)
	var work sync.WaitGroup
	for sender := range senders {
		work.Go(func() {
			for n := range changes {
				step := fmt.Sprintf("S%d-%d", sender, n)
				before, after, err := l.Change(ctx, id, func(p lessons.Progress) lessons.Progress {
					return p.Tick(slug, step, time.Unix(int64(n), 0).UTC())
				})
				if err == nil && len(after.Steps) != len(before.Steps)+1 {
					err = fmt.Errorf("from %d to %d steps by one tick", len(before.Steps), len(after.Steps))
				}
				errs[sender] = errors.Join(errs[sender], err)
			}
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

func wantTicks(t *testing.T, l *learners.Learners, id string, want int) {
	t.Helper()
	p, _, err := l.Change(t.Context(), id, nothing)
	if err != nil || len(p.Steps) != want {
		t.Errorf("%d ticks, %v, want %d", len(p.Steps), err, want)
	}
}

func nothing(p lessons.Progress) lessons.Progress { return p }

// childVariable names the place, and childLearner the learner, to a child process.
const (
	childVariable = "SLUICE_LEARNERS_TEST_PLACE"
	childLearner  = "SLUICE_LEARNERS_TEST_ID"
)

// Child is called first of all in TestMain: in a process that TwoProcesses has
// started it does what is to be done there, and ends it.
func Child(open func(place string) (learners.Store, error)) {
	place := os.Getenv(childVariable)
	if place == "" {
		return
	}
	err := func() error {
		store, err := open(place)
		if err != nil {
			return err
		}
		course, err := lessons.Load(files())
		if err != nil {
			return err
		}
		l := learners.New(store, secret("secret"), course)
		return errors.Join(hammer(context.Background(), l, os.Getenv(childLearner), "child"), store.Close())
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// TwoProcesses has another process, with the store of Child, and this one change
// the same learner at once.
func TwoProcesses(t *testing.T, store learners.Store, place string) {
	t.Helper()
	l := New(t, store, "secret")
	_, id := Learner(t, l)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+place, childLearner+"="+id)
	var said bytes.Buffer
	child.Stdout, child.Stderr = &said, &said
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(15 * time.Second); ; { // until the child has begun
		p, _, err := l.Change(t.Context(), id, nothing)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Steps) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the other process has changed nothing within 15 s")
		}
	}
	if err := hammer(t.Context(), l, id, "parent"); err != nil {
		t.Error(err)
	}
	if err := child.Wait(); err != nil {
		t.Errorf("the other process: %v: %s", err, &said)
	}
	wantTicks(t, l, id, 2*senders*changes)
}

// New makes Learners of the course of this package, under a secret.
func New(tb testing.TB, store learners.Store, key string) *learners.Learners {
	tb.Helper()
	return learners.New(store, secret(key), Course(tb))
}

func secret(key string) learners.Key {
	return func(context.Context) ([]byte, error) { return []byte(key), nil }
}

// Learner makes a new learner.
func Learner(tb testing.TB, l *learners.Learners) (token, id string) {
	tb.Helper()
	token, err := l.Create()
	if err == nil {
		id, err = l.ID(token)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return token, id
}

// Course is one of two phases. In the first, alpha (80 %) has the lesson "first"
// with S1 to S4 and Q1 and Q2, ten points; beta (50 %) has "second", formerly
// "former", with S1, Q1 and Q2, four points. The second has a lesson that is not
// written.
func Course(tb testing.TB) *lessons.Course {
	tb.Helper()
	course, err := lessons.Load(files())
	if err != nil {
		tb.Fatal(err)
	}
	return course
}

func files() fstest.MapFS {
	both := func(text string) string { return fmt.Sprintf(`{"en": "%s", "ja": "%s"}`, text, text) }
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	lesson := func(slug, aliases string, order int, area string, steps int) *fstest.MapFile {
		var s, q []string
		for i := range steps {
			s = append(s, fmt.Sprintf(`{"id": "S%d", "area": "%s", "title": %s, "match": {"on": "open"}, "hints": [%s],
				"browser": true, "sharedHost": true, "reference": "right", "nearMisses": ["wrong"]}`, i+1, area, both("Open"), both("Open it.")))
		}
		for i := range 2 {
			q = append(q, fmt.Sprintf(`{"id": "Q%d", "area": "%s", "kind": "single", "prompt": %s, "answer": "y", "why": %s,
				"choices": [{"id": "y", "en": "yes", "ja": "yes"}, {"id": "n", "en": "no", "ja": "no", "why": %s}]}`, i+1, area, both("Is it?"), both("It is."), both("It is.")))
		}
		return file(fmt.Sprintf(`{"slug": "%s", "aliases": [%s], "phase": 1, "order": %d, "title": %s, "minutes": 10, "objectives": [%s],
			"requires": [], "demo": {"server": "basic", "port": 8080, "path": "/echo"}, "facts": [], "steps": [%s], "quiz": [%s],
			"sources": [{"title": "Source", "url": "https://example.org/"}]}`, slug, aliases, order, both("Lesson"), both("Know it"), strings.Join(s, ", "), strings.Join(q, ", ")))
	}
	return fstest.MapFS{
		"course.json": file(fmt.Sprintf(`{"phases": [
			{"number": 1, "title": %[1]s, "lessons": ["first", "second"], "areas": [
				{"id": "alpha", "title": {"en": "Alpha", "ja": "アルファ"}, "percent": 80},
				{"id": "beta", "title": {"en": "Beta", "ja": "ベータ"}, "percent": 50}]},
			{"number": 2, "title": %[1]s, "lessons": ["planned"], "areas": [{"id": "gamma", "title": {"en": "Gamma", "ja": "ガンマ"}, "percent": 50}]}]}`, both("Phase"))),
		"first/lesson.json": lesson("first", "", 1, "alpha", 4), "first/en.md": file("Text.\n"), "first/ja.md": file("Text.\n"),
		"second/lesson.json": lesson("second", `"former"`, 2, "beta", 1), "second/en.md": file("Text.\n"), "second/ja.md": file("Text.\n"),
	}
}
