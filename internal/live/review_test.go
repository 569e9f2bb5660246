package live

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stuckPage is an Archive whose first read behind a position takes for ever, as
// one of many readers' may when others' do not.
type stuckPage struct {
	*shelf
	at    Position
	stuck atomic.Bool
}

func (a *stuckPage) Read(ctx context.Context, key string, after Position, limit int) ([]Event[int], error) {
	if after == a.at && a.stuck.CompareAndSwap(false, true) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return a.shelf.Read(ctx, key, after, limit)
}

// What is offered behind a page that is on its way is bounded in bytes, too.
func TestWhatIsHeldBehindAPageIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 64 << 10
		a := &stuckPage{shelf: newShelf(), at: Position{Lo: 5}}
		a.newest["k"] = 3
		tail := NewTail(TailConfig[string, int]{Archive: a, Size: func(int) int { return size }, Cursor: func(string, Position) string { return "" }})
		defer tail.Close()
		first, err := tail.Subscribe(t.Context(), "k", &Position{})
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		synctest.Wait()
		a.mu.Lock()
		a.newest["k"] = 5
		a.mu.Unlock()
		tail.Grown("k")
		synctest.Wait()
		sub, err := tail.Subscribe(t.Context(), "k", &Position{})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		synctest.Wait()
		if !a.stuck.Load() {
			t.Fatal("no page is on its way")
		}
		for range 300 {
			a.mu.Lock()
			a.newest["k"]++
			a.mu.Unlock()
			tail.Grown("k")
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		tail.mu.Lock()
		held := len(sub.(*tailSub[string, int]).held) * size
		tail.mu.Unlock()
		if held > 2*pageBytes {
			t.Errorf("%d bytes are held", held)
		}
	})
}
