package live

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// shelf is an Archive whose events are the numbers of their positions.
type shelf struct {
	takes time.Duration // how long a read does
	retry time.Duration
	lags  time.Duration // how long what was read is on its way, at most
	size  func(int) int

	reads, heads atomic.Int64
	away         atomic.Bool

	mu      sync.Mutex
	newest  map[string]uint64
	trimmed map[string]uint64
	others  map[uint64]bool // positions that no event of the key has
	follows map[string]int
	grown   func(string)
}

func newShelf() *shelf {
	return &shelf{newest: map[string]uint64{}, trimmed: map[string]uint64{}, others: map[uint64]bool{}, follows: map[string]int{}}
}

var errAway = errors.New("away")

func (s *shelf) wait(ctx context.Context) error {
	if s.takes > 0 {
		select {
		case <-time.After(s.takes):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if s.away.Load() {
		return errAway
	}
	return nil
}

func (s *shelf) lag() {
	if s.lags > 0 {
		time.Sleep(rand.N(s.lags))
	}
}

func (s *shelf) Read(ctx context.Context, key string, after Position, limit int) ([]Event[int], error) {
	s.reads.Add(1)
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	defer s.lag()
	s.mu.Lock()
	defer s.mu.Unlock()
	if after.Lo < s.trimmed[key] {
		return nil, &Trimmed{Through: Position{Lo: s.trimmed[key]}}
	}
	var events []Event[int]
	for n := after.Lo + 1; n <= s.newest[key] && len(events) < limit; n++ {
		if !s.others[n] {
			events = append(events, Event[int]{Value: int(n), Pos: Position{Lo: n}})
		}
	}
	return events, nil
}

func (s *shelf) Head(ctx context.Context, key string) (Position, error) {
	s.heads.Add(1)
	if err := s.wait(ctx); err != nil {
		return Position{}, err
	}
	defer s.lag()
	s.mu.Lock()
	defer s.mu.Unlock()
	return Position{Lo: s.newest[key]}, nil
}

// add appends n events.
func (s *shelf) add(key string, n int) {
	s.mu.Lock()
	s.newest[key] += uint64(n)
	s.mu.Unlock()
	s.grown(key)
}

// trim lets go of the events up to a position.
func (s *shelf) trim(key string, through int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trimmed[key] = uint64(through)
}

func (s *shelf) follow(key string) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.follows[key]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.follows[key]--
	}
}

func (s *shelf) tail(t *testing.T, pageEvents int) *Tail[string, int] {
	t.Helper()
	tail := NewTail(TailConfig[string, int]{
		Archive: s, Follow: s.follow, Size: s.size, Retry: s.retry, PageEvents: pageEvents,
		Cursor: func(key string, p Position) string { return fmt.Sprint(key, p.Lo) },
	})
	s.grown = tail.Grown
	t.Cleanup(tail.Close)
	return tail
}

func (s *shelf) subscribe(t *testing.T, tail *Tail[string, int], after int) *tailReader {
	t.Helper()
	var position *Position
	if after >= 0 {
		position = &Position{Lo: uint64(after)}
	}
	sub, err := tail.Subscribe(t.Context(), "k", position)
	if err != nil {
		t.Fatal(err)
	}
	r := &tailReader{t: t, Sub: sub, news: make(chan struct{}, 1)}
	t.Cleanup(sub.Close)
	sub.Wake(func() {
		select {
		case r.news <- struct{}{}:
		default:
		}
	})
	return r
}

type tailReader struct {
	Sub[int]
	t    *testing.T
	news chan struct{}
}

// next waits for the next event; nil: the stream has ended.
func (r *tailReader) next() *Event[int] {
	r.t.Helper()
	var one [1]Event[int]
	patience := time.After(20 * time.Second)
	for {
		n, open := r.Next(one[:])
		if n > 0 {
			return &one[0]
		}
		if !open {
			return nil
		}
		select {
		case <-r.news:
		case <-patience:
			r.t.Fatal("nothing came for 20 seconds")
		}
	}
}

// start waits until it is known where the stream starts.
func (r *tailReader) start() int {
	r.t.Helper()
	for {
		if p, ok := r.Sub.(Kept).Start(); ok {
			return int(p.Lo)
		}
		if n, _ := r.Next(make([]Event[int], 1)); n > 0 {
			r.t.Fatal("an event although the start is not known")
		}
		select {
		case <-r.news:
		case <-time.After(20 * time.Second):
			r.t.Fatal("the start has not become known in 20 seconds")
		}
	}
}

// want takes events from first to last, each once.
func (r *tailReader) want(first, last int) {
	r.t.Helper()
	for n := first; n <= last; n++ {
		ev := r.next()
		if ev == nil {
			r.t.Fatalf("the stream ended before %d: %v", n, r.Err())
		}
		if ev.Value != n {
			r.t.Fatalf("got %d, want %d", ev.Value, n)
		}
		if ev.Gap != nil {
			r.t.Fatalf("%d carries a gap: %+v", n, *ev.Gap)
		}
	}
}

func TestTailCatchesUpThenGoesLive(t *testing.T) {
	s := newShelf()
	tail := s.tail(t, 4)
	s.add("k", 10)
	r := s.subscribe(t, tail, 2)
	r.want(3, 10)
	s.add("k", 3)
	r.want(11, 13)
	fresh := s.subscribe(t, tail, -1)
	s.add("k", 1)
	fresh.want(14, 14)
	r.want(14, 14)
	kept := fresh.Sub.(Kept)
	if start, ok := kept.Start(); !ok || start.Lo != 13 {
		t.Errorf("Start() = %v, %v, want 13", start, ok)
	}
	if got := kept.Cursor(Position{Lo: 14}); got != "k14" {
		t.Errorf("Cursor = %q", got)
	}
}

func TestTailSharesReadsOfOnePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const subscribers, events = 5000, 1000
		s := newShelf()
		s.takes = time.Millisecond
		tail := s.tail(t, 256)
		s.add("k", events)
		readers := make([]*tailReader, subscribers)
		for i := range readers {
			readers[i] = s.subscribe(t, tail, 0)
		}
		got := make([]int, subscribers)
		for round := 0; got[subscribers-1] < events; round++ {
			synctest.Wait()
			for i, r := range readers {
				values, _, _ := drain(r.Sub)
				for _, v := range values {
					if got[i]++; v != got[i] {
						t.Fatalf("subscriber %d got %d, want %d", i, v, got[i])
					}
				}
			}
			time.Sleep(time.Millisecond)
		}
		if reads := s.reads.Load(); reads > 100 {
			t.Errorf("%d reads for %d subscribers of 4 pages each, want at most 100", reads, subscribers)
		}
	})
}

func TestTailWaitsForASourceThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		tail := s.tail(t, 4)
		s.add("k", 3)
		live := s.subscribe(t, tail, 1)
		live.want(2, 3)
		s.away.Store(true)
		back, fresh := s.subscribe(t, tail, 0), s.subscribe(t, tail, -1)
		if _, ok := fresh.Sub.(Kept).Start(); ok {
			t.Error("the start is known although the source is away")
		}
		s.add("k", 1) // is heard of, but cannot be read
		time.Sleep(time.Minute)
		s.away.Store(false)
		time.Sleep(time.Second)
		s.add("k", 1)
		back.want(1, 5)
		live.want(4, 5)
		ev := fresh.next()
		if ev.Value != 5 || ev.Gap == nil || ev.Gap.Reason != GapOutage {
			t.Errorf("the first event is %+v, want 5 with a gap for the outage", *ev)
		}
	})
}

func TestTailRepeatsAFailedReadOncePerRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		tail := s.tail(t, 4)
		r := s.subscribe(t, tail, -1)
		synctest.Wait()
		s.away.Store(true)
		for range 100 { // news keep coming
			s.add("k", 1)
			time.Sleep(10 * time.Millisecond)
		}
		before := s.reads.Load() + s.heads.Load()
		time.Sleep(10 * time.Second)
		if tries := s.reads.Load() + s.heads.Load() - before; tries > 41 {
			t.Errorf("%d tries in 10 s, want one every 250 ms", tries)
		}
		s.away.Store(false)
		r.want(1, 100)
	})
}

func TestTailBoundsASlowSubscriberAndTakesItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		tail := s.tail(t, 8)
		slow, quick := s.subscribe(t, tail, -1), s.subscribe(t, tail, -1)
		synctest.Wait()
		for n := 1; n <= 1000; n++ {
			s.add("k", 1)
			quick.want(n, n)
		}
		if waits := slow.Sub.(*tailSub[string, int]).count(); waits > 16 {
			t.Errorf("%d events wait for a slow subscriber, want at most two pages of 8", waits)
		}
		slow.want(1, 1000)
		synctest.Wait()
		reads := s.reads.Load()
		s.add("k", 1)
		slow.want(1001, 1001)
		quick.want(1001, 1001)
		if n := s.reads.Load() - reads; n != 1 {
			t.Errorf("%d reads for one event and two subscribers, want 1: both follow", n)
		}
	})
}

func TestTailBoundsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		s.size = func(int) int { return 300 << 10 }
		tail := s.tail(t, 256)
		s.add("k", 100)
		r := s.subscribe(t, tail, 0)
		synctest.Wait()
		if bytes := r.Sub.(*tailSub[string, int]).bytes; bytes > pageBytes+300<<10 {
			t.Errorf("%d bytes wait, want about %d", bytes, pageBytes)
		}
		r.want(1, 100)
		s.add("k", 100)
		r.want(101, 200)
	})
}

// A reader that is always a little behind must not make its queue longer.
func TestTailQueueOfAReaderThatIsNeverDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		tail := s.tail(t, 8)
		r := s.subscribe(t, tail, -1)
		synctest.Wait()
		s.add("k", 3)
		for n := 1; n <= 1000; n++ {
			s.add("k", 1)
			synctest.Wait()
			r.want(n, n)
		}
		if size := cap(r.Sub.(*tailSub[string, int]).waiting); size > 32 {
			t.Errorf("the queue has room for %d events, want at most 32", size)
		}
	})
}

func TestTailTellsWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		tail := s.tail(t, 4)
		s.add("k", 10)
		s.trim("k", 5)

		tooOld := func(r *tailReader, first string) {
			t.Helper()
			if ev := r.next(); ev != nil {
				t.Fatalf("got %+v", *ev)
			}
			var refusal *Error
			if !errors.As(r.Err(), &refusal) || refusal.Code != CodeCursorTooOld || refusal.Cursor != first {
				t.Fatalf("ended with %v, want %s and the cursor %s", r.Err(), CodeCursorTooOld, first)
			}
		}
		tooOld(s.subscribe(t, tail, 4), "k5")
		resumed, fresh := s.subscribe(t, tail, 5), s.subscribe(t, tail, -1)
		resumed.want(6, 10)
		synctest.Wait()

		s.add("k", 50) // neither reads
		synctest.Wait()
		s.trim("k", 40)
		for _, r := range []*tailReader{resumed, fresh} {
			for range 4 { // what had been brought before they fell behind
				if ev := r.next(); ev == nil || ev.Value > 20 {
					t.Fatalf("got %+v", ev)
				}
			}
		}
		var last *Event[int]
		for last = fresh.next(); last.Gap == nil; last = fresh.next() {
			if last.Value > 40 {
				t.Fatalf("%d without a gap before it", last.Value)
			}
		}
		if last.Value != 41 || last.Gap.Reason != GapOverflow {
			t.Errorf("the gap is before %+v, want 41", *last)
		}
		fresh.want(42, 60)
		for ev := resumed.next(); ev != nil; ev = resumed.next() {
			if ev.Value > 40 {
				t.Fatalf("%d although what is before it is gone", ev.Value)
			}
		}
		tooOld(resumed, "k40")
	})
}

// A key that is quiet for longer than its source keeps events has no news for
// those who follow it, and so nothing that they could miss.
func TestTailFollowersOfAQuietKeyMissNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		tail := s.tail(t, 4)
		s.add("k", 3)
		r := s.subscribe(t, tail, 0)
		r.want(1, 3)
		for range 100 {
			time.Sleep(59 * time.Minute)
			s.mu.Lock()
			s.newest["k"]++
			newest := s.newest["k"]
			s.others[newest] = true
			s.mu.Unlock()
			time.Sleep(time.Hour + time.Minute)
			s.trim("k", int(newest))
		}
		s.add("k", 1)
		r.want(104, 104)
	})
}

// The delicate part: subscribers come, go and dawdle while events pour in, and
// what was read has become old when it arrives.
func TestTailJoiningWhileEventsPourIn(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for round := range 60 {
		synctest.Test(t, func(t *testing.T) { joinWhileEventsPourIn(t, seed, uint64(round)) })
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}

func joinWhileEventsPourIn(t *testing.T, seed, round uint64) {
	random := rand.New(rand.NewPCG(seed, round<<8))
	s := newShelf()
	s.retry, s.lags = 2*time.Millisecond, 5*time.Millisecond
	tail := s.tail(t, 1+random.IntN(20))
	const events = 300
	first := 1 + random.IntN(30)
	s.add("k", first)
	var work sync.WaitGroup
	for i := range uint64(16) {
		random := rand.New(rand.NewPCG(seed, round<<8+i+1))
		work.Go(func() {
			last := random.IntN(first + 1)
			if i%3 == 0 {
				last = -1
			}
			for last < events { // comes, takes some, goes, comes back
				r := s.subscribe(t, tail, last)
				mayGap := last < 0 // the source may be away
				if mayGap {
					last = r.start()
				}
				for n := random.IntN(80); n > 0 && last < events; n-- {
					ev := r.next()
					if ev == nil || ev.Value != last+1 || ev.Gap != nil && !mayGap {
						t.Errorf("got %+v after %d", ev, last)
						return
					}
					mayGap = false
					last++
					if random.IntN(50) == 0 {
						time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond) // dawdles
					}
				}
				r.Close()
			}
		})
	}
	for n := first; n < events; n++ {
		s.add("k", 1)
		if random.IntN(3) == 0 {
			time.Sleep(time.Duration(random.IntN(6000)) * time.Microsecond)
		}
		if random.IntN(100) == 0 {
			s.away.Store(true)
		}
		if random.IntN(10) == 0 {
			s.away.Store(false)
		}
	}
	s.away.Store(false)
	work.Wait()
	tail.Close()
	for key, n := range s.follows {
		if n != 0 {
			t.Errorf("%q is followed %d times although everybody has left", key, n)
		}
	}
}

func TestTailFollowsAKeyWhileItHasReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		tail := s.tail(t, 4)
		followed := func(want int) {
			t.Helper()
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.follows["k"] != want {
				t.Errorf("followed %d times, want %d", s.follows["k"], want)
			}
		}
		a, b := s.subscribe(t, tail, -1), s.subscribe(t, tail, -1)
		followed(1)
		a.Close()
		a.Close()
		followed(1)
		s.add("k", 100) // b falls behind
		followed(0)
		b.want(1, 100)
		followed(1)
		b.Close()
		followed(0)
		s.subscribe(t, tail, 0)
		tail.Close()
		followed(0)
	})
}

func TestTailCloseAtAnyMoment(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for round := range 100 {
		random := rand.New(rand.NewPCG(seed, uint64(round)))
		s := newShelf()
		s.takes = time.Duration(random.IntN(50)) * time.Microsecond
		tail := s.tail(t, 2)
		var work sync.WaitGroup
		for i := range 8 {
			work.Go(func() {
				for {
					sub, err := tail.Subscribe(context.Background(), "k", nil)
					if err != nil {
						if !errors.Is(err, ErrHubClosed) {
							t.Errorf("Subscribe: %v", err)
						}
						return
					}
					ended := make(chan struct{}, 1)
					sub.Wake(func() {
						select {
						case ended <- struct{}{}:
						default:
						}
					})
					if i%2 == 0 {
						sub.Close()
						continue
					}
					for open := true; open; {
						var n int
						if n, open = sub.Next(make([]Event[int], 4)); n == 0 && open {
							<-ended
						}
					}
					if !errors.Is(sub.Err(), ErrHubClosed) {
						t.Errorf("ended with %v", sub.Err())
					}
					sub.Close()
				}
			})
		}
		for range random.IntN(200) {
			s.add("k", 1)
			if random.IntN(10) == 0 {
				tail.GrownAll()
			}
			s.away.Store(random.IntN(4) == 0)
		}
		tail.Close()
		work.Wait()
		tail.Close()
	}
}
