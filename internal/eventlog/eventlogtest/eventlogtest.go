// Package eventlogtest is the behaviour that every store of events shows, as one
// suite: in memory, in a file and in a server alike.
package eventlogtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
)

// Options are what the suite asks of a store that it opens.
type Options struct {
	Retention eventlog.Retention
	Now       func() time.Time // the clock; nil: the store's own
}

// Place is where a store keeps its events. It opens the store; the suite closes
// it.
type Place func(tb testing.TB, o Options) eventlog.Store

// Subject is a kind of store under test.
type Subject struct {
	// Place makes room for a store: an empty one each time.
	Place func(tb testing.TB) Place
	// Clock: Options.Now is used.
	Clock bool
	// Keeps: what one store has kept, the next one at the same place has.
	Keeps bool
	// Shared: several stores may be open at one place.
	Shared bool
	// Rounds is how many random histories are played.
	Rounds int
}

// Run runs the suite.
func Run(t *testing.T, subject Subject) {
	t.Helper()
	s := &suite{subject}
	tests := []struct {
		name string
		run  func(*testing.T)
		when bool
	}{
		{"reads are in order and exclusive", s.order, true},
		{"entries are what was appended", s.content, true},
		{"positions only grow", s.growing, true},
		{"positions only grow with the clock put back", s.clockPutBack, s.Clock},
		{"an id is stored once", s.once, true},
		{"an id is stored once by many at once", s.onceAtOnce, true},
		{"an id is stored again once it is gone", s.onceWhileKept, true},
		{"Before and Head", s.before, true},
		{"trimmed by count", s.trimmedByCount, true},
		{"trimmed by age", s.trimmedByAge, true},
		{"a position in an empty topic", s.emptyTopic, true},
		{"identities", s.identity, true},
		{"what was kept is kept", s.reopened, s.Keeps},
		{"a lease has one holder", s.hold, s.Shared},
		{"a lease of a store that is not shared", s.holdAlone, !s.Shared},
		{"news of other processes", s.newsOfOthers, s.Shared},
		{"many append at once", s.manyAppend, true},
		{"appends end with their context", s.appendContext, true},
		{"cursors", s.cursors, true},
		{"history", s.history, true},
		{"catch up, then live, while events pour in", s.catchUp, true},
		{"many subscribers", s.manySubscribers, true},
		{"a slow subscriber", s.slow, true},
		{"a quiet topic's subscribers miss nothing", s.quiet, true},
		{"Close ends all", s.close, true},
		{"random histories", s.histories, true},
	}
	for _, test := range tests {
		if test.when {
			t.Run(test.name, test.run)
		}
	}
}

type suite struct{ Subject }

// patience is how long the suite waits for what must happen. It only runs out
// when something is broken.
const patience = 20 * time.Second

// open opens a store at a place and closes it when the test ends.
func open(tb testing.TB, place Place, o Options) eventlog.Store {
	tb.Helper()
	store := place(tb, o)
	tb.Cleanup(func() {
		if err := store.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return store
}

// store opens a store at a place of its own, without a Log.
func (s *suite) store(t *testing.T, o Options) eventlog.Store {
	t.Helper()
	store := open(t, s.Place(t), o)
	store.Watch(func(string) {}, func() {})
	return store
}

// log opens a store at a place of its own, and a Log on it.
func (s *suite) log(t *testing.T, o Options) (*eventlog.Log, eventlog.Store) {
	t.Helper()
	return logAt(t, s.Place(t), o)
}

func logAt(tb testing.TB, place Place, o Options) (*eventlog.Log, eventlog.Store) {
	tb.Helper()
	store := open(tb, place, o)
	log := eventlog.New(store, eventlog.Config{})
	tb.Cleanup(log.Close)
	return log, store
}

// clock is a clock that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.UnixMilli(1_700_000_000_000)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// aging returns options under which entries get old, and what waits until all
// that a topic has is too old.
func (s *suite) aging() (o Options, pass func(t *testing.T, store eventlog.Store, topic string)) {
	age, c := 500*time.Millisecond, newClock()
	o = Options{Retention: eventlog.Retention{Age: age}}
	if s.Clock {
		o.Now = c.Now
	}
	return o, func(t *testing.T, store eventlog.Store, topic string) {
		t.Helper()
		c.advance(age + time.Millisecond)
		Eventually(t, "the entries of "+topic+" are too old", func() bool {
			entries, err := store.Before(t.Context(), topic, live.Position{}, 1)
			return err == nil && len(entries) == 0
		})
	}
}

// Eventually waits until ok says so.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-poll.C:
		case <-deadline:
			tb.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// appender is a Store or a Log.
type appender interface {
	Append(ctx context.Context, d eventlog.Draft) (e *eventlog.Entry, fresh bool, err error)
}

// Append appends an event without an id.
func Append(tb testing.TB, a appender, topic, data string) *eventlog.Entry {
	tb.Helper()
	e, fresh, err := a.Append(tb.Context(), eventlog.Draft{Topic: topic, Data: []byte(data)})
	if err != nil {
		tb.Fatalf("Append to %q: %v", topic, err)
	}
	if !fresh {
		tb.Fatalf("Append to %q without an id returned an old entry", topic)
	}
	return e
}

// appendMany appends events with the numbers from first to last.
func appendMany(tb testing.TB, a appender, topic string, first, last int) []*eventlog.Entry {
	tb.Helper()
	var entries []*eventlog.Entry
	for n := first; n <= last; n++ {
		entries = append(entries, Append(tb, a, topic, fmt.Sprint(n)))
	}
	return entries
}

func read(t *testing.T, store eventlog.Store, topic string, after live.Position, limit int) []*eventlog.Entry {
	t.Helper()
	entries, err := store.Read(t.Context(), topic, after, limit)
	if err != nil {
		t.Fatalf("Read of %q after %v: %v", topic, after, err)
	}
	return entries
}

func head(t *testing.T, store eventlog.Store, topic string) live.Position {
	t.Helper()
	p, err := store.Head(t.Context(), topic)
	if err != nil {
		t.Fatalf("Head of %q: %v", topic, err)
	}
	return p
}

// wantTrimmed reads topic "a" after a position behind which entries are missing,
// and returns the position of the newest of them, or one behind it.
func wantTrimmed(t *testing.T, store eventlog.Store, after live.Position) live.Position {
	t.Helper()
	entries, err := store.Read(t.Context(), "a", after, 10)
	var trimmed *live.Trimmed
	if !errors.As(err, &trimmed) {
		t.Fatalf("Read after %v: %d entries and %v, want a *live.Trimmed", after, len(entries), err)
	}
	if trimmed.Through.Compare(after) <= 0 {
		t.Fatalf("Read after %v: trimmed through %v", after, trimmed.Through)
	}
	return trimmed.Through
}

func wantEntries(t *testing.T, what string, got, want []*eventlog.Entry) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d entries, want %d", what, len(got), len(want))
	}
	for i := range got {
		if !same(got[i], want[i]) {
			t.Fatalf("%s: entry %d is %s, want %s", what, i, describe(got[i]), describe(want[i]))
		}
	}
}

func same(a, b *eventlog.Entry) bool {
	return a.ID == b.ID && a.Pos == b.Pos && a.Time.Equal(b.Time) && string(a.Data) == string(b.Data)
}

func describe(e *eventlog.Entry) string {
	return fmt.Sprintf("%q at %v of %v: %.40q", e.ID, e.Pos, e.Time, e.Data)
}

func wantCode(t *testing.T, what string, err error, code string) *live.Error {
	t.Helper()
	var refusal *live.Error
	if !errors.As(err, &refusal) || refusal.Code != code {
		t.Fatalf("%s: %v, want %s", what, err, code)
	}
	return refusal
}
