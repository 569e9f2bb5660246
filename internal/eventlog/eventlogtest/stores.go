package eventlogtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
)

// What a Store does by itself.

func (s *suite) order(t *testing.T) {
	// Time stands, so that two topics have entries at one position.
	store := s.store(t, Options{Now: newClock().Now})
	all := appendMany(t, store, "a", 1, 5)
	others := appendMany(t, store, "b", 1, 3)
	for i := range all {
		for limit := 1; limit <= 6; limit++ {
			want := all[i+1:]
			want = want[:min(limit, len(want))]
			wantEntries(t, fmt.Sprintf("at most %d after entry %d", limit, i), read(t, store, "a", all[i].Pos, limit), want)
		}
	}
	wantEntries(t, "from before the first", read(t, store, "b", live.Position{Hi: others[0].Pos.Hi - 1000}, 1), others[:1])
	wantEntries(t, "another topic", read(t, store, "c", all[4].Pos, 10), nil)
}

func (s *suite) content(t *testing.T) {
	store := s.store(t, Options{})
	var all []*eventlog.Entry
	topics := []string{"a", "room:{x}", "ルーム", strings.Repeat("long", 60), "with space:ids", "a*[?]"}
	for i, data := range [][]byte{nil, {0}, []byte("text"), {0xff, 0xfe, 0}, bytes.Repeat([]byte("0123456789abcdef"), 16<<10)} {
		d := eventlog.Draft{Topic: "a", ID: fmt.Sprintf("id %d {}\x00'\"", i), Data: slices.Clone(data)}
		e, fresh, err := store.Append(t.Context(), d)
		if err != nil || !fresh {
			t.Fatalf("Append: %v, fresh: %v", err, fresh)
		}
		if e.ID != d.ID || !bytes.Equal(e.Data, data) {
			t.Errorf("appended %s, want %q: %.40q", describe(e), d.ID, data)
		}
		if off := e.Time.UnixMilli() - int64(e.Pos.Hi); off != 0 {
			t.Errorf("the time of %s is not that of its position", describe(e))
		}
		for i := range d.Data {
			d.Data[i] = 'x' // the slice stays the caller's
		}
		all = append(all, e)
		if !bytes.Equal(e.Data, data) {
			t.Errorf("the entry changes with the slice that was given to Append")
		}
	}
	wantEntries(t, "Read", read(t, store, "a", live.Position{Hi: all[0].Pos.Hi - 1}, 10), all)
	for _, topic := range topics[1:] {
		e := Append(t, store, topic, topic)
		wantEntries(t, topic, read(t, store, topic, live.Position{Hi: e.Pos.Hi - 1}, 10), []*eventlog.Entry{e})
	}
}

func (s *suite) growing(t *testing.T) {
	store := s.store(t, Options{})
	last := map[string]live.Position{}
	for i := range 100 {
		topic := fmt.Sprint(i % 3)
		e := Append(t, store, topic, "x")
		if e.Pos.Compare(last[topic]) <= 0 {
			t.Fatalf("position %v after %v", e.Pos, last[topic])
		}
		last[topic] = e.Pos
	}
}

func (s *suite) clockPutBack(t *testing.T) {
	c := newClock()
	place := s.Place(t)
	o := Options{Now: c.Now}
	store := open(t, place, o)
	store.Watch(func(string) {}, func() {})
	var all []*eventlog.Entry
	check := func(what string) {
		t.Helper()
		quiet := head(t, store, "quiet")
		c.advance(-time.Hour)
		if e := Append(t, store, "quiet", what); e.Pos.Compare(quiet) <= 0 {
			t.Errorf("%s: position %v behind the head %v of its topic", what, e.Pos, quiet)
		}
		all = append(all, Append(t, store, "a", what))
		if n := len(all); n > 1 && all[n-1].Pos.Compare(all[n-2].Pos) <= 0 {
			t.Errorf("%s: position %v after %v", what, all[n-1].Pos, all[n-2].Pos)
		}
	}
	check("first")
	check("put back")
	check("put back again")
	if s.Keeps {
		before := head(t, store, "another")
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		c.advance(-time.Hour)
		store = open(t, place, o)
		store.Watch(func(string) {}, func() {})
		if e := Append(t, store, "another", "x"); e.Pos.Compare(before) <= 0 {
			t.Errorf("reopened: position %v behind the head %v of its topic", e.Pos, before)
		}
		check("reopened")
	}
	c.advance(100 * time.Hour)
	all = append(all, Append(t, store, "a", "later"))
	if all[len(all)-1].Time.Before(c.Now().Truncate(time.Millisecond)) {
		t.Errorf("the clock is ahead again, but the entry is of %v", all[len(all)-1].Time)
	}
}

func (s *suite) once(t *testing.T) {
	store := s.store(t, Options{})
	first, fresh, err := store.Append(t.Context(), eventlog.Draft{Topic: "a", ID: "x", Data: []byte("first")})
	if err != nil || !fresh {
		t.Fatalf("the first: fresh %v, %v", fresh, err)
	}
	Append(t, store, "a", "between")
	again, fresh, err := store.Append(t.Context(), eventlog.Draft{Topic: "a", ID: "x", Data: []byte("again")})
	if err != nil || fresh || !same(again, first) {
		t.Errorf("the second: fresh %v, %v, %s, want %s", fresh, err, describe(again), describe(first))
	}
	other, fresh, err := store.Append(t.Context(), eventlog.Draft{Topic: "b", ID: "x", Data: []byte("other")})
	if err != nil || !fresh || string(other.Data) != "other" {
		t.Errorf("the same id in another topic: fresh %v, %v", fresh, err)
	}
	if n := len(read(t, store, "a", live.Position{Hi: first.Pos.Hi - 1}, 10)); n != 2 {
		t.Errorf("%d entries, want 2", n)
	}
}

func (s *suite) onceAtOnce(t *testing.T) {
	store := s.store(t, Options{})
	const senders, ids = 16, 20
	var mu sync.Mutex
	first := map[string]*eventlog.Entry{}
	stored := 0
	var work sync.WaitGroup
	for sender := range senders {
		work.Go(func() {
			for i := range ids {
				id := fmt.Sprint(i)
				e, fresh, err := store.Append(t.Context(), eventlog.Draft{Topic: "a", ID: id, Data: fmt.Append(nil, sender)})
				if err != nil {
					t.Errorf("Append: %v", err)
					return
				}
				mu.Lock()
				if fresh {
					stored++
				}
				if first[id] == nil {
					first[id] = e
				}
				if !same(first[id], e) {
					t.Errorf("id %s: one was told %s, another %s", id, describe(first[id]), describe(e))
				}
				mu.Unlock()
			}
		})
	}
	work.Wait()
	if stored != ids {
		t.Errorf("%d of %d were told that theirs is stored", stored, ids)
	}
	if entries, err := store.Before(t.Context(), "a", live.Position{}, 1000); err != nil || len(entries) != ids {
		t.Errorf("%d entries, %v, want %d", len(entries), err, ids)
	}
}

func (s *suite) onceWhileKept(t *testing.T) {
	store := s.store(t, Options{Retention: eventlog.Retention{Events: 3}})
	put := func() bool {
		t.Helper()
		_, fresh, err := store.Append(t.Context(), eventlog.Draft{Topic: "a", ID: "x"})
		if err != nil {
			t.Fatal(err)
		}
		return fresh
	}
	put()
	appendMany(t, store, "a", 1, 2)
	if put() {
		t.Error("the id is stored again although its event is kept")
	}
	appendMany(t, store, "a", 3, 3)
	if !put() {
		t.Error("the id is not stored although its event is gone")
	}

	o, pass := s.aging()
	store = s.store(t, o)
	put()
	pass(t, store, "a")
	if !put() {
		t.Error("the id is not stored although its event is too old")
	}
	if put() {
		t.Error("the id is stored a third time")
	}
}

func (s *suite) before(t *testing.T) {
	store := s.store(t, Options{})
	if entries, err := store.Before(t.Context(), "a", live.Position{}, 3); err != nil || len(entries) != 0 {
		t.Errorf("an empty topic: %d entries, %v", len(entries), err)
	}
	empty := head(t, store, "a")
	if empty == (live.Position{}) {
		t.Error("the head of an empty topic is the zero position, which stands for the end")
	}
	all := appendMany(t, store, "a", 1, 5)
	before := func(p live.Position, limit int, want []*eventlog.Entry) {
		t.Helper()
		entries, err := store.Before(t.Context(), "a", p, limit)
		if err != nil {
			t.Fatal(err)
		}
		wantEntries(t, fmt.Sprintf("%d before %v", limit, p), entries, want)
	}
	before(live.Position{}, 2, all[3:])
	before(live.Position{}, 10, all)
	before(all[3].Pos, 2, all[1:3])
	before(all[1].Pos, 2, all[:1])
	before(all[0].Pos, 2, nil)
	before(empty, 2, nil)
	h := head(t, store, "a")
	if h.Compare(all[4].Pos) < 0 {
		t.Errorf("the head %v is before the newest entry %v", h, all[4].Pos)
	}
	wantEntries(t, "after the head", read(t, store, "a", h, 10), nil)
	wantEntries(t, "after the head of the empty topic", read(t, store, "a", empty, 10), all)
	next := Append(t, store, "a", "6")
	wantEntries(t, "after the head, later", read(t, store, "a", h, 10), []*eventlog.Entry{next})
}

func (s *suite) trimmedByCount(t *testing.T) {
	store := s.store(t, Options{Retention: eventlog.Retention{Events: 10}})
	start := head(t, store, "a")
	all := appendMany(t, store, "a", 1, 10)
	wantEntries(t, "from the start", read(t, store, "a", start, 20), all)
	all = append(all, appendMany(t, store, "a", 11, 25)...)
	entries, err := store.Before(t.Context(), "a", live.Position{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	wantEntries(t, "what is kept", entries, all[15:])
	for _, after := range []live.Position{start, all[0].Pos, all[13].Pos} {
		through := wantTrimmed(t, store, after)
		wantEntries(t, "from the first that is left", read(t, store, "a", through, 20), all[15:])
	}
	wantEntries(t, "after the last that is gone", read(t, store, "a", all[14].Pos, 20), all[15:])
	appendMany(t, store, "b", 1, 25)
	wantEntries(t, "another topic's are its own", read(t, store, "a", all[14].Pos, 20), all[15:])
}

func (s *suite) trimmedByAge(t *testing.T) {
	o, pass := s.aging()
	store := s.store(t, o)
	start := head(t, store, "a")
	old := appendMany(t, store, "a", 1, 3)
	wantEntries(t, "while young", read(t, store, "a", start, 10), old)
	pass(t, store, "a")
	for _, after := range []live.Position{start, old[0].Pos, old[1].Pos} {
		if through := wantTrimmed(t, store, after); through.Compare(old[2].Pos) < 0 {
			t.Errorf("trimmed through %v, before the newest %v that is gone", through, old[2].Pos)
		}
	}
	wantEntries(t, "after the head of the emptied topic", read(t, store, "a", head(t, store, "a"), 10), nil)

	// Entries that come later must not hide the hole.
	fresh := appendMany(t, store, "a", 4, 5)
	for _, after := range []live.Position{start, old[0].Pos, old[1].Pos} {
		through := wantTrimmed(t, store, after)
		wantEntries(t, "after what is gone", read(t, store, "a", through, 10), fresh)
	}
	wantEntries(t, "from a young position", read(t, store, "a", fresh[0].Pos, 10), fresh[1:])
	pass(t, store, "a")
	wantTrimmed(t, store, old[0].Pos)
	wantTrimmed(t, store, fresh[0].Pos)
}

func (s *suite) emptyTopic(t *testing.T) {
	o, pass := s.aging()
	store := s.store(t, o)
	empty := head(t, store, "a")
	wantEntries(t, "at once", read(t, store, "a", empty, 10), nil)
	if again := head(t, store, "a"); again.Compare(empty) < 0 {
		t.Errorf("the head went back from %v to %v", empty, again)
	}
	e := Append(t, store, "a", "1")
	wantEntries(t, "the first entry", read(t, store, "a", empty, 10), []*eventlog.Entry{e})
	pass(t, store, "a")
	wantTrimmed(t, store, empty)
	Append(t, store, "a", "2")
	wantTrimmed(t, store, empty)
}

func (s *suite) identity(t *testing.T) {
	identify := func(store eventlog.Store) eventlog.Identity {
		t.Helper()
		id, err := store.Identity(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	place := s.Place(t)
	a := open(t, place, Options{})
	a.Watch(func(string) {}, func() {})
	first := identify(a)
	if first.ID == ([8]byte{}) || first.Key == ([32]byte{}) {
		t.Error("the identity is zero")
	}
	if again := identify(a); again != first {
		t.Error("the identity changes")
	}
	b := s.store(t, Options{})
	if other := identify(b); other.ID == first.ID || other.Key == first.Key {
		t.Error("two stores share an identity")
	}
	if s.Keeps {
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		a = open(t, place, Options{})
		a.Watch(func(string) {}, func() {})
		if again := identify(a); again != first {
			t.Error("the identity is another one after opening again")
		}
	}
}

func (s *suite) reopened(t *testing.T) {
	place := s.Place(t)
	o := Options{Retention: eventlog.Retention{Events: 10}}
	store := open(t, place, o)
	store.Watch(func(string) {}, func() {})
	all := appendMany(t, store, "a", 1, 15)
	x, _, err := store.Append(t.Context(), eventlog.Draft{Topic: "a", ID: "x", Data: []byte("once")})
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, x)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}

	store = open(t, place, o)
	store.Watch(func(string) {}, func() {})
	wantTrimmed(t, store, all[0].Pos)
	wantEntries(t, "what is kept", read(t, store, "a", all[5].Pos, 20), all[6:])
	again, fresh, err := store.Append(t.Context(), eventlog.Draft{Topic: "a", ID: "x", Data: []byte("twice")})
	if err != nil || fresh || !same(again, x) {
		t.Errorf("an id from before: fresh %v, %v", fresh, err)
	}
	if e := Append(t, store, "a", "new"); e.Pos.Compare(x.Pos) <= 0 {
		t.Errorf("position %v after %v", e.Pos, x.Pos)
	}
}

func (s *suite) hold(t *testing.T) {
	place := s.Place(t)
	const ttl = 500 * time.Millisecond
	stores := make([]eventlog.Store, 5)
	for i := range stores {
		stores[i] = open(t, place, Options{})
		stores[i].Watch(func(string) {}, func() {})
	}
	// try says which of them hold a name.
	try := func(name string) (holders []int) {
		t.Helper()
		held := make([]bool, len(stores))
		var work sync.WaitGroup
		for i, store := range stores {
			work.Go(func() {
				var err error
				if held[i], err = store.Hold(t.Context(), name, ttl); err != nil {
					t.Errorf("Hold: %v", err)
				}
			})
		}
		work.Wait()
		for i := range held {
			if held[i] {
				holders = append(holders, i)
			}
		}
		return holders
	}
	first := try("job")
	if len(first) != 1 {
		t.Fatalf("%v hold the lease, want one", first)
	}
	if again := try("job"); !slices.Equal(again, first) {
		t.Errorf("%v hold the lease while it is %v's", again, first)
	}
	if others := try("another job"); len(others) != 1 {
		t.Errorf("%v hold another lease, want one", others)
	}
	// The holder goes on renewing: it is still its own after more than ttl.
	holder, next := stores[first[0]], stores[(first[0]+1)%len(stores)]
	for began := time.Now(); time.Since(began) < 2*ttl; {
		if held, err := holder.Hold(t.Context(), "job", ttl); err != nil || !held {
			t.Fatalf("the holder cannot renew: %v, %v", held, err)
		}
		if held, err := next.Hold(t.Context(), "job", ttl); err != nil || held {
			t.Fatalf("taken over from a holder that renews: %v, %v", held, err)
		}
	}
	// It stops, and another takes over.
	Eventually(t, "the lease is taken over", func() bool {
		held, err := next.Hold(t.Context(), "job", ttl)
		if err != nil {
			t.Fatalf("Hold: %v", err)
		}
		return held
	})
	if held, err := holder.Hold(t.Context(), "job", ttl); err != nil || held {
		t.Errorf("the old holder has it back: %v, %v", held, err)
	}
}

func (s *suite) holdAlone(t *testing.T) {
	store := s.store(t, Options{})
	for range 2 {
		if held, err := store.Hold(t.Context(), "job", time.Minute); err != nil || !held {
			t.Errorf("Hold: %v, %v, want true: nobody else can have it", held, err)
		}
	}
}

func (s *suite) newsOfOthers(t *testing.T) {
	place := s.Place(t)
	a, _ := logAt(t, place, Options{})
	b, _ := logAt(t, place, Options{})
	r := subscribe(t, a, "a", "")
	for n := 1; n <= 20; n++ {
		Append(t, b, "a", fmt.Sprint(n))
		r.want(n, n)
	}
	cursor := r.last
	r.Close()
	appendMany(t, a, "a", 21, 30)
	subscribe(t, b, "a", cursor).want(21, 30) // a cursor is good on every gateway
}

func (s *suite) manyAppend(t *testing.T) {
	store := s.store(t, Options{Retention: eventlog.Retention{Events: 10_000}})
	const senders, each, topics = 32, 40, 4
	starts := make([]live.Position, topics)
	for i := range starts {
		starts[i] = head(t, store, fmt.Sprint(i))
	}
	appended := make([][]*eventlog.Entry, senders)
	var work sync.WaitGroup
	for sender := range senders {
		work.Go(func() {
			for n := range each {
				e, _, err := store.Append(t.Context(), eventlog.Draft{
					Topic: fmt.Sprint(sender % topics), ID: fmt.Sprint(sender, "/", n), Data: fmt.Append(nil, n),
				})
				if err != nil {
					t.Errorf("Append: %v", err)
					return
				}
				appended[sender] = append(appended[sender], e)
			}
		})
	}
	work.Wait()
	for topic := range topics {
		var want []*eventlog.Entry
		for sender := topic; sender < senders; sender += topics {
			if !slices.IsSortedFunc(appended[sender], byPosition) {
				t.Errorf("one sender's entries are not in the order in which it appended them")
			}
			want = append(want, appended[sender]...)
		}
		slices.SortFunc(want, byPosition)
		var got []*eventlog.Entry
		for after := starts[topic]; ; after = got[len(got)-1].Pos {
			page := read(t, store, fmt.Sprint(topic), after, 37)
			got = append(got, page...)
			if len(page) < 37 {
				break
			}
		}
		wantEntries(t, fmt.Sprintf("topic %d", topic), got, want)
	}
}

func byPosition(a, b *eventlog.Entry) int { return a.Pos.Compare(b.Pos) }

func (s *suite) appendContext(t *testing.T) {
	store := s.store(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// It may have been stored, but it must not hang, nor fail with a code.
	if _, _, err := store.Append(ctx, eventlog.Draft{Topic: "a"}); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Append under a cancelled context: %v", err)
	}
}
