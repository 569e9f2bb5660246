package presence

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/internal/live"
)

func TestDifferences(t *testing.T) {
	at := func(ms int64, id string) Member { return Member{ID: id, Since: time.UnixMilli(ms)} }
	typing := func(m Member) Member { m.Typing = true; return m }
	tests := []struct {
		name          string
		before, after []Member
		want          []string
	}{
		{"nothing", []Member{at(1, "a")}, []Member{at(1, "a")}, nil},
		{"all come", nil, []Member{at(1, "a"), typing(at(2, "b"))}, []string{"JOINED a", "JOINED b"}},
		{"all go", []Member{at(1, "a"), typing(at(2, "b"))}, nil, []string{"LEFT a", "LEFT b"}},
		{"typing", []Member{at(1, "a"), typing(at(1, "b"))}, []Member{typing(at(1, "a")), at(1, "b")}, []string{"TYPING a", "STOPPED_TYPING b"}},
		{"one left and entered again", []Member{at(1, "a")}, []Member{at(2, "a")}, []string{"LEFT a", "JOINED a"}},
		{"the same, and the clock was put back", []Member{at(2, "a")}, []Member{at(1, "a")}, []string{"LEFT a", "JOINED a"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, c := range differences(test.before, test.after) {
				got = append(got, fmt.Sprintf("%s %s", c.Kind, c.Member.ID))
				if c.Kind == Left && c.Member.Typing {
					t.Errorf("%s left and types", c.Member.ID)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// Whoever asks for rooms that nobody is in fills no memory.
func TestLocalForgetsRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewMemory()
		defer l.Close()
		leave, err := l.Enter("a", "1", "one")
		if err != nil {
			t.Fatal(err)
		}
		for _, room := range []string{"a", "b"} {
			if _, err := l.List(t.Context(), room); err != nil {
				t.Fatal(err)
			}
		}
		leave()
		time.Sleep(time.Minute)
		synctest.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.rooms) > 0 || len(l.untold) > 0 || l.typing.Len() > 0 {
			t.Errorf("%d rooms, %d untold, %d typing", len(l.rooms), len(l.untold), l.typing.Len())
		}
	})
}

// Leaving must not wait for a subscriber who takes nothing.
func TestLocalNeverWaitsForAWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewMemory()
		defer l.Close()
		sub, err := l.Watch(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		begin := time.Now()
		for i := range 2000 {
			leave, err := l.Enter("a", fmt.Sprint(i), "one")
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // so that each change is told
			leave()
		}
		if took := time.Since(begin); took > 0 {
			t.Errorf("waited %v", took)
		}
	})
}

// One change in a room of n members that is watched, until it is told.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{10, MaxMembers} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			l := NewMemory()
			defer l.Close()
			for i := range n {
				if _, err := l.Enter("a", fmt.Sprint(i), "one"); err != nil {
					b.Fatal(err)
				}
			}
			sub, err := l.Watch(b.Context(), "a")
			if err != nil {
				b.Fatal(err)
			}
			defer sub.Close()
			woken := make(chan struct{}, 1)
			sub.Wake(func() { woken <- struct{}{} })
			var buf [4]live.Event[Change]
			for typing := true; b.Loop(); typing = !typing {
				if err := l.SetTyping("a", "1", typing); err != nil {
					b.Fatal(err)
				}
				<-woken
				for told := 1; told > 0; {
					told, _ = sub.Next(buf[:])
				}
			}
		})
	}
}
