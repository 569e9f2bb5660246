package live

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// refusing is an archive that refuses, or fails, for as long as err is set.
type refusing struct {
	mu    sync.Mutex
	err   error
	reads int
}

func (a *refusing) set(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

func (a *refusing) Read(context.Context, string, Position, int) ([]Event[int], error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reads++
	return nil, a.err
}

func (a *refusing) Head(context.Context, string) (Position, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Position{Hi: 1}, a.err
}

func TestTailEndsWhomTheSourceRefuses(t *testing.T) {
	refusal := Errorf("TOPIC_REFUSED", "No.")
	synctest.Test(t, func(t *testing.T) {
		a := &refusing{err: refusal}
		tail := NewTail(TailConfig[string, int]{Archive: a})
		defer tail.Close()
		if _, err := tail.Subscribe(t.Context(), "a", nil); !errors.Is(err, refusal) {
			t.Errorf("Subscribe: %v, want %v", err, refusal)
		}
		resumed, err := tail.Subscribe(t.Context(), "a", &Position{})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, open := resumed.Next(make([]Event[int], 1)); open || !errors.Is(resumed.Err(), refusal) {
			t.Errorf("open %t, %v; want the end with %v", open, resumed.Err(), refusal)
		}

		a.set(nil)
		follower, err := tail.Subscribe(t.Context(), "a", nil)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.set(refusal)
		tail.Grown("a")
		synctest.Wait()
		if _, open := follower.Next(make([]Event[int], 1)); open || !errors.Is(follower.Err(), refusal) {
			t.Errorf("a follower: open %t, %v; want the end with %v", open, follower.Err(), refusal)
		}
	})
}

func TestTailRepeatsWhatASourceThatIsAwayFails(t *testing.T) {
	for _, failure := range []error{errors.New("broken"), Errorf("UPSTREAM_UNAVAILABLE", "Away.")} {
		synctest.Test(t, func(t *testing.T) {
			a := &refusing{err: failure}
			tail := NewTail(TailConfig[string, int]{Archive: a})
			defer tail.Close()
			sub, err := tail.Subscribe(t.Context(), "a", &Position{})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if _, open := sub.Next(make([]Event[int], 1)); !open {
				t.Errorf("ended: %v", sub.Err())
			}
			if a.reads < 4 {
				t.Errorf("%d reads within a second", a.reads)
			}
		})
	}
}
