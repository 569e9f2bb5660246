package presence

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
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
