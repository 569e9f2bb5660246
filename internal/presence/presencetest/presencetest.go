// Package presencetest is the behaviour that every presence.Directory shows, as
// one suite: within one gateway and across two.
package presencetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/presence"
)

// Subject is a directory under test.
type Subject struct {
	// Open makes the directories of two gateways that share what there is to
	// share; there may be one alone, which is then both. Close is the suite's.
	Open func(t testing.TB) (here, there presence.Directory)
	// Run runs a test: in a synctest bubble where that is possible.
	Run func(t *testing.T, test func(t *testing.T))
}

// Run runs the suite. Each test uses rooms of its own.
func Run(t *testing.T, subject Subject) {
	t.Helper()
	tests := []struct {
		name string
		run  func(s *suite)
	}{
		{"who enters is listed, the oldest first", (*suite).list},
		{"a member leaves with its last subscription", (*suite).leave},
		{"each change is told once, in order", (*suite).changes},
		{"a watch begins now", (*suite).now},
		{"an unwatched room is not told", (*suite).rooms},
		{"typing ends by itself unless repeated", (*suite).typing},
		{"only members may type", (*suite).required},
		{"who leaves types no more", (*suite).leavesTyping},
		{"a room lists a thousand, and the next moves up", (*suite).bound},
		{"the changes make the list", (*suite).churn},
		{"Close ends watches and memberships", (*suite).close},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			subject.Run(t, func(t *testing.T) {
				s := &suite{T: t, room: fmt.Sprintf("room-%016x", rand.Uint64())}
				s.here, s.there = subject.Open(t)
				t.Cleanup(func() { s.here.Close(); s.there.Close() })
				test.run(s)
			})
		})
	}
}

// suite is one test.
type suite struct {
	*testing.T
	room        string
	here, there presence.Directory
}

// Patience is how long Eventually waits.
const Patience = 30 * time.Second

// Eventually polls a condition until it holds, and fails the test if it does
// not within Patience.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not: %s", Patience, what)
		}
	}
}

// Enter enters a member whose name is its id.
func Enter(t testing.TB, d presence.Directory, room, id string) (leave func()) {
	t.Helper()
	leave, err := d.Enter(room, id, id)
	if err != nil {
		t.Fatalf("Enter %q: %v", id, err)
	}
	return leave
}

// IDs lists the ids of a room's members.
func IDs(t testing.TB, d presence.Directory, room string) []string {
	t.Helper()
	members, err := d.List(t.Context(), room)
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	return ids(members)
}

func ids(members []presence.Member) []string {
	ids := make([]string, len(members))
	for i, m := range members {
		ids[i] = m.ID
	}
	return ids
}

// Lists waits until a directory lists these members, in this order. Until then
// it may be unable to.
func Lists(t testing.TB, d presence.Directory, room string, want ...string) {
	t.Helper()
	var members []presence.Member
	var err error
	defer func() {
		if t.Failed() {
			t.Logf("listed %q, %v", ids(members), err)
		}
	}()
	Eventually(t, fmt.Sprintf("the room lists %q", want), func() bool {
		members, err = d.List(t.Context(), room)
		return err == nil && slices.Equal(ids(members), want)
	})
}

// Watch collects the changes of a room until the test ends.
func Watch(t testing.TB, d presence.Directory, room string) *Watcher {
	t.Helper()
	sub, err := d.Watch(t.Context(), room)
	if err != nil {
		t.Fatalf("Watch: %v", err)
	}
	t.Cleanup(sub.Close)
	return &Watcher{Sub: sub, t: t, room: room}
}

// Watcher collects changes. It takes them when it is asked.
type Watcher struct {
	live.Sub[presence.Change]
	t       testing.TB
	room    string
	changes []presence.Change
}

// Changes are all changes up to now.
func (w *Watcher) Changes() []presence.Change {
	w.t.Helper()
	var buf [64]live.Event[presence.Change]
	for {
		n, _ := w.Next(buf[:])
		for _, ev := range buf[:n] {
			if ev.Gap != nil {
				w.t.Errorf("gap %+v", *ev.Gap)
			}
			if ev.Value.Room != w.room || ev.Value.At.IsZero() {
				w.t.Errorf("change %+v in room %q", ev.Value, w.room)
			}
			w.changes = append(w.changes, ev.Value)
		}
		if n == 0 {
			return w.changes
		}
	}
}

// Told are all changes up to now, as "KIND id".
func (w *Watcher) Told() []string {
	w.t.Helper()
	var told []string
	for _, c := range w.Changes() {
		told = append(told, string(c.Kind)+" "+c.Member.ID)
	}
	return told
}

// Tells waits until exactly these changes were told.
func (w *Watcher) Tells(want ...string) {
	w.t.Helper()
	var told []string
	defer func() {
		if w.t.Failed() {
			w.t.Logf("told were %q", told)
		}
	}()
	Eventually(w.t, fmt.Sprintf("told are %q", want), func() bool {
		told = w.Told()
		return len(told) >= len(want)
	})
	if !slices.Equal(told, want) {
		w.t.Fatalf("want %q", want)
	}
}

// Code is the code of a live.Error.
func Code(err error) string {
	var refusal *live.Error
	if errors.As(err, &refusal) {
		return refusal.Code
	}
	return fmt.Sprint(err)
}

func (s *suite) list() {
	leave := make([]func(), 3)
	for i, id := range []string{"c", "a", "b"} {
		leave[i] = Enter(s, s.here, s.room, id)
		time.Sleep(2 * time.Millisecond) // Since counts milliseconds
	}
	if got := IDs(s, s.here, s.room); !slices.Equal(got, []string{"c", "a", "b"}) { // at once
		s.Fatalf("listed %q", got)
	}
	Lists(s, s.there, s.room, "c", "a", "b")
	ours, _ := s.here.List(s.Context(), s.room)
	theirs, _ := s.there.List(s.Context(), s.room)
	if !slices.Equal(ours, theirs) {
		s.Errorf("here %v, there %v", ours, theirs)
	}
	if m := ours[0]; m.Name != "c" || time.Since(m.Since) > Patience || m.Typing {
		s.Errorf("member %+v", m)
	}
	leave[1]()
	if got := IDs(s, s.here, s.room); !slices.Equal(got, []string{"c", "b"}) {
		s.Fatalf("listed %q", got)
	}
	Lists(s, s.there, s.room, "c", "b")
	leave[0]()
	leave[2]()
	Lists(s, s.there, s.room)
}

func (s *suite) leave() {
	w := Watch(s, s.there, s.room)
	first := Enter(s, s.here, s.room, "a")
	second := Enter(s, s.here, s.room, "a")
	w.Tells("JOINED a")
	first()
	first() // twice is once
	if got := IDs(s, s.here, s.room); !slices.Equal(got, []string{"a"}) {
		s.Fatalf("listed %q", got)
	}
	second()
	w.Tells("JOINED a", "LEFT a")
	Lists(s, s.there, s.room)
	third := Enter(s, s.here, s.room, "a")
	first() // is of another presence
	w.Tells("JOINED a", "LEFT a", "JOINED a")
	third()
	w.Tells("JOINED a", "LEFT a", "JOINED a", "LEFT a")
}

func (s *suite) changes() {
	watchers := []*Watcher{Watch(s, s.here, s.room), Watch(s, s.there, s.room)}
	tell := func(want ...string) {
		s.Helper()
		for _, w := range watchers {
			w.Tells(want...)
		}
	}
	leave := Enter(s, s.here, s.room, "a")
	tell("JOINED a")
	s.setTyping("a", true)
	tell("JOINED a", "TYPING a")
	s.setTyping("a", true) // nothing new
	s.setTyping("a", false)
	tell("JOINED a", "TYPING a", "STOPPED_TYPING a")
	s.setTyping("a", false)
	other := Enter(s, s.there, s.room, "b")
	tell("JOINED a", "TYPING a", "STOPPED_TYPING a", "JOINED b")
	leave()
	tell("JOINED a", "TYPING a", "STOPPED_TYPING a", "JOINED b", "LEFT a")
	other()
	tell("JOINED a", "TYPING a", "STOPPED_TYPING a", "JOINED b", "LEFT a", "LEFT b")
	for _, w := range watchers {
		for i, typing := range []bool{false, true, false, false, false, false} {
			if c := w.Changes()[i]; c.Member.Typing != typing || c.Member.Name != c.Member.ID || c.Member.Since.IsZero() {
				s.Errorf("change %d: %+v", i, c)
			}
		}
	}
}

// setTyping says here that a member types, or stopped.
func (s *suite) setTyping(id string, typing bool) {
	s.Helper()
	if err := s.here.SetTyping(s.room, id, typing); err != nil {
		s.Fatalf("SetTyping: %v", err)
	}
}

func (s *suite) now() {
	early := Watch(s, s.here, s.room)
	for i := range 50 {
		defer Enter(s, s.here, s.room, fmt.Sprintf("m%02d", i))()
	}
	late := Watch(s, s.here, s.room)
	defer Enter(s, s.here, s.room, "late")()
	late.Tells("JOINED late")
	Eventually(s, "the early watcher knows all", func() bool { return len(early.Told()) >= 51 })
	if n := len(early.Told()); n != 51 {
		s.Errorf("%d changes for 51 who entered", n)
	}
}

func (s *suite) rooms() {
	w := Watch(s, s.there, s.room)
	defer Enter(s, s.here, s.room+"2", "x")()
	defer Enter(s, s.here, s.room, "a")()
	w.Tells("JOINED a")
	Lists(s, s.there, s.room+"2", "x")
	Lists(s, s.there, s.room, "a")
}

func (s *suite) typing() {
	w := Watch(s, s.there, s.room)
	defer Enter(s, s.here, s.room, "a")()
	defer Enter(s, s.here, s.room, "b")()
	Eventually(s, "both are there", func() bool { return len(w.Changes()) == 2 })
	begin := time.Now()
	s.setTyping("a", true)
	Eventually(s, "a types", func() bool { return len(w.Changes()) == 3 })
	s.setTyping("b", true)
	Eventually(s, "b types", func() bool { return len(w.Changes()) == 4 })
	time.Sleep(presence.TypingFor / 2)
	again := time.Now()
	s.setTyping("a", true)
	for i, want := range []struct {
		told string
		from time.Time
	}{{"STOPPED_TYPING b", begin}, {"STOPPED_TYPING a", again}} {
		Eventually(s, want.told, func() bool { return len(w.Changes()) > 4+i })
		took := time.Since(want.from)
		if told := w.Told()[4+i]; told != want.told || took < presence.TypingFor || took > presence.TypingFor+2*time.Second {
			s.Errorf("%q after %v; want %q", told, took, want.told)
		}
	}
}

func (s *suite) required() {
	check := func(d presence.Directory, id string) {
		s.Helper()
		if code := Code(d.SetTyping(s.room, id, true)); code != presence.CodeRequired {
			s.Errorf("got %s, want %s", code, presence.CodeRequired)
		}
	}
	check(s.here, "a") // there is no such room
	leave := Enter(s, s.here, s.room, "a")
	check(s.here, "b")
	s.setTyping("a", true)
	leave()
	check(s.here, "a")
}

func (s *suite) leavesTyping() {
	w := Watch(s, s.there, s.room)
	leave := Enter(s, s.here, s.room, "a")
	w.Tells("JOINED a")
	s.setTyping("a", true)
	w.Tells("JOINED a", "TYPING a")
	leave()
	w.Tells("JOINED a", "TYPING a", "LEFT a")
	defer Enter(s, s.here, s.room, "a")()
	w.Tells("JOINED a", "TYPING a", "LEFT a", "JOINED a")
	if w.Changes()[3].Member.Typing {
		s.Error("who enters again still types")
	}
}

func (s *suite) bound() {
	w := Watch(s, s.there, s.room)
	leave := make([]func(), presence.MaxMembers)
	for i := range leave {
		leave[i] = Enter(s, s.here, s.room, fmt.Sprint(i))
	}
	Eventually(s, "a thousand are listed there", func() bool {
		return len(IDs(s, s.there, s.room)) == presence.MaxMembers && len(w.Changes()) == presence.MaxMembers
	})
	time.Sleep(2 * time.Millisecond) // Since counts milliseconds
	late := Enter(s, s.there, s.room, "late")
	time.Sleep(2 * time.Millisecond)
	defer Enter(s, s.here, s.room, "later")()
	for _, d := range []presence.Directory{s.here, s.there} {
		if ids := IDs(s, d, s.room); len(ids) != presence.MaxMembers || slices.Contains(ids, "late") {
			s.Fatalf("%d listed, late among them: %t", len(ids), slices.Contains(ids, "late"))
		}
	}
	leave[500]()
	Eventually(s, "the next moves up", func() bool { return len(w.Changes()) >= presence.MaxMembers+2 })
	if told := w.Told()[presence.MaxMembers:]; !slices.Contains(told, "LEFT 500") || !slices.Contains(told, "JOINED late") || len(told) != 2 {
		s.Errorf("told %q", told)
	}
	late()
	Eventually(s, "the one after it, too", func() bool { return len(w.Changes()) >= presence.MaxMembers+4 })
	if told := w.Told()[presence.MaxMembers+2:]; !slices.Contains(told, "LEFT late") || !slices.Contains(told, "JOINED later") || len(told) != 2 {
		s.Errorf("told %q", told)
	}
	for _, leave := range leave {
		leave()
	}
	Lists(s, s.there, s.room, "later")
	Lists(s, s.here, s.room, "later")
}

func (s *suite) churn() {
	watchers := map[*Watcher]presence.Directory{Watch(s, s.here, s.room): s.here, Watch(s, s.there, s.room): s.there}
	var clients sync.WaitGroup
	for i := range 20 {
		clients.Go(func() {
			d := s.here
			if i%2 == 1 {
				d = s.there
			}
			id := fmt.Sprint(i)
			for range 20 {
				leave, err := d.Enter(s.room, id, id)
				if err != nil {
					s.Errorf("Enter: %v", err)
					return
				}
				if err := d.SetTyping(s.room, id, rand.IntN(2) == 0); err != nil {
					s.Errorf("SetTyping: %v", err)
				}
				time.Sleep(rand.N(3 * time.Millisecond))
				leave()
			}
			if i < 5 {
				if _, err := d.Enter(s.room, id, id); err != nil {
					s.Errorf("Enter: %v", err)
				}
			}
		})
	}
	clients.Wait()
	for w, d := range watchers {
		Eventually(s, "five are listed, and told", func() bool {
			told, listed := w.fold(), IDs(s, d, s.room)
			slices.Sort(listed)
			return slices.Equal(told, listed) && len(listed) == 5
		})
	}
}

// fold applies all changes to an empty room, strictly, and lists who is there.
func (w *Watcher) fold() []string {
	w.t.Helper()
	there := make(map[string]bool) // to whether the member types
	for _, c := range w.Changes() {
		typing, is := there[c.Member.ID]
		switch c.Kind {
		case presence.Joined:
			there[c.Member.ID] = c.Member.Typing
			is = !is
		case presence.Left:
			delete(there, c.Member.ID)
		case presence.Typing:
			there[c.Member.ID] = true
			is = is && !typing
		case presence.StoppedTyping:
			there[c.Member.ID] = false
			is = is && typing
		}
		if !is {
			w.t.Fatalf("%s %s does not fit what was told before", c.Kind, c.Member.ID)
		}
	}
	return slices.Sorted(maps.Keys(there))
}

func (s *suite) close() {
	w := Watch(s, s.here, s.room)
	leave := Enter(s, s.here, s.room, "a")
	w.Tells("JOINED a")
	for range 2 { // twice is once
		if err := s.here.Close(); err != nil {
			s.Fatalf("Close: %v", err)
		}
	}
	if _, open := w.Next(make([]live.Event[presence.Change], 1)); open || Code(w.Err()) != "SHUTTING_DOWN" {
		s.Errorf("open %t, %v", open, w.Err())
	}
	leave()
	_, enter := s.here.Enter(s.room, "b", "b")
	_, watch := s.here.Watch(s.Context(), s.room)
	_, list := s.here.List(s.Context(), s.room)
	for what, err := range map[string]error{"Enter": enter, "Watch": watch, "List": list} {
		if Code(err) != "SHUTTING_DOWN" {
			s.Errorf("%s after Close: %v", what, err)
		}
	}
	if s.there == s.here {
		return
	}
	begin := time.Now()
	Lists(s, s.there, s.room)
	if took := time.Since(begin); took > time.Second {
		s.Errorf("who was at a closed gateway left after %v", took)
	}
}
