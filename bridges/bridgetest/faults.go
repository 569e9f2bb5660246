package bridgetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
)

// enough is how many numbers each subscriber gets before and after a fault.
const enough = 200

// Fault is something that happens to a broker.
type Fault struct {
	Name string
	For  time.Duration // how long the broker is away
	// Begin takes the broker away, End brings it back on the same address.
	Begin, End func(t testing.TB)
}

// Faults sends numbered messages through faults of a broker, keeps an account
// of them for each subscriber, and checks what is promised: subscriptions stay,
// numbers neither repeat nor change places, whatever is lost is told by a gap
// on the next event, delivery goes on within 5 s of the broker being back, and
// publications fail within bridges.PublishTimeout.
func Faults(t *testing.T, open func(t testing.TB) bridges.Bridge, faults ...Fault) {
	for _, fault := range faults {
		t.Run(fault.Name, func(t *testing.T) {
			t.Parallel()
			b, publisher := open(t), open(t)
			WaitConnected(t, b)
			WaitConnected(t, publisher)
			const topic = "faults/numbers"
			sent := sendNumbers(publisher, topic)
			defer sent.stop()
			var accounts []*account
			for i := range 6 {
				accounts = append(accounts, openAccount(t, b, topic, bridges.QoS(i%3), fmt.Sprint("before ", i)))
			}
			awaitMore(t, accounts)
			fault.Begin(t)
			t.Cleanup(func() { fault.End(t) }) // should the test fail before
			over := time.NewTimer(fault.For)
			within(t, noticeWithin, "the bridge has noticed", func() bool { return b.Status().State == bridges.Connecting })
			accounts = append(accounts, openAccount(t, b, topic, bridges.AtLeastOnce, "meanwhile"))
			<-over.C
			fault.End(t)
			back := time.Now()
			first := sent.count()
			await(t, accounts, first)
			awaitMore(t, accounts)
			sent.stop()
			last := sent.newestAcknowledged()
			await(t, accounts, last)
			for _, a := range accounts {
				a.close()
				a.check(t, sent, first, back)
			}
			sent.check(t)
		})
	}
}

// noticeWithin is how long a silent connection may go unnoticed.
const noticeWithin = 20 * time.Second

// numbers is what was sent.
type numbers struct {
	stop func()

	mu      sync.Mutex
	acked   []bool // by number
	failed  int
	slowest time.Duration // of those that failed
	wrong   error         // not the error that is promised
}

// sendNumbers publishes numbers, each once, until it is stopped.
func sendNumbers(b bridges.Bridge, topic string) *numbers {
	ctx, cancel := context.WithCancel(context.Background())
	s := new(numbers)
	var work sync.WaitGroup
	s.stop = func() {
		cancel()
		work.Wait()
	}
	work.Go(func() {
		pace := time.NewTicker(2 * time.Millisecond)
		defer pace.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			s.mu.Lock()
			s.acked = append(s.acked, false)
			s.mu.Unlock()
			began := time.Now()
			_, err := b.Publish(ctx, bridges.Publication{Topic: topic, Payload: strconv.AppendInt(nil, int64(i), 10), QoS: bridges.AtLeastOnce})
			s.note(i, err, time.Since(began), ctx.Err() != nil)
			select {
			case <-pace.C:
			case <-ctx.Done():
			}
		}
	})
	return s
}

func (s *numbers) note(i int, err error, took time.Duration, stopped bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var told *live.Error
	switch {
	case err == nil:
		s.acked[i] = true
	case stopped:
	default:
		s.failed++
		s.slowest = max(s.slowest, took)
		if !errors.As(err, &told) || told.Code != bridges.CodeUpstreamUnavailable {
			s.wrong = err
		}
	}
}

// count is how many numbers were sent.
func (s *numbers) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acked)
}

func (s *numbers) newestAcknowledged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.acked) - 1; i >= 0; i-- {
		if s.acked[i] {
			return i
		}
	}
	return 0
}

func (s *numbers) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Logf("%d numbers sent, %d not acknowledged, the slowest of those after %v", len(s.acked), s.failed, s.slowest)
	if s.failed == 0 {
		t.Error("no publication failed: the broker was not away")
	}
	if s.slowest > bridges.PublishTimeout+500*time.Millisecond {
		t.Errorf("a publication took %v to fail, want at most %v", s.slowest, bridges.PublishTimeout)
	}
	if s.wrong != nil {
		t.Errorf("a publication failed with %v, want %s", s.wrong, bridges.CodeUpstreamUnavailable)
	}
}

// account is what one subscriber got.
type account struct {
	name  string
	sub   live.Sub[*bridges.Message]
	close func()

	mu       sync.Mutex
	received []receipt
	ended    error
	over     bool
}

type receipt struct {
	number int
	gap    *live.Gap
	at     time.Time
}

func openAccount(t *testing.T, b bridges.Bridge, topic string, qos bridges.QoS, name string) *account {
	t.Helper()
	sub, err := b.Subscribe(t.Context(), topic, qos)
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	a := &account{name: fmt.Sprintf("%s, QoS %d", name, qos), sub: sub}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	a.close = func() {
		cancel()
		work.Wait()
		sub.Close()
	}
	t.Cleanup(a.close)
	news := make(chan struct{}, 1)
	sub.Wake(func() {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	work.Go(func() {
		for a.take() {
			select {
			case <-news:
			case <-ctx.Done():
				return
			}
		}
	})
	return a
}

// take takes what waits and reports whether the subscription is open.
func (a *account) take() (open bool) {
	var buf [16]live.Event[*bridges.Message]
	for {
		n, open := a.sub.Next(buf[:])
		a.mu.Lock()
		for _, ev := range buf[:n] {
			number, _ := strconv.Atoi(string(ev.Value.Payload))
			a.received = append(a.received, receipt{number, ev.Gap, time.Now()})
			done(ev)
		}
		if !open {
			a.over, a.ended = true, a.sub.Err()
		}
		a.mu.Unlock()
		if n == 0 {
			return open
		}
	}
}

// await waits until every subscriber has a number or a later one.
func await(t *testing.T, accounts []*account, number int) {
	t.Helper()
	for _, a := range accounts {
		within(t, noticeWithin, fmt.Sprintf("%s has number %d", a.name, number), func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.over || len(a.received) > 0 && a.received[len(a.received)-1].number >= number
		})
	}
}

// awaitMore waits until every subscriber has got enough.
func awaitMore(t *testing.T, accounts []*account) {
	t.Helper()
	for _, a := range accounts {
		had := a.count()
		within(t, noticeWithin, fmt.Sprintf("%s has %d more", a.name, enough), func() bool { return a.count() >= had+enough })
	}
}

func (a *account) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.received)
}

// check logs the account and compares it with what is promised. The broker was
// back at a time, and numbers from first on were sent after that.
func (a *account) check(t *testing.T, sent *numbers, first int, back time.Time) {
	t.Helper()
	sent.mu.Lock()
	defer sent.mu.Unlock()
	var lost, untold, doubled, reordered, gaps int
	seen := make(map[int]bool)
	var resumed time.Duration
	newest := a.received[0].number - 1
	for i, r := range a.received {
		switch {
		case seen[r.number]:
			doubled++
		case r.number < newest:
			reordered++
		}
		for n := newest + 1; n < r.number; n++ {
			if sent.acked[n] {
				lost++
				if r.gap == nil {
					untold++
				}
			}
		}
		if r.gap != nil {
			gaps++
			if r.gap.Reason != live.GapOutage {
				t.Errorf("%s: gap %+v, want %s", a.name, *r.gap, live.GapOutage)
			}
		}
		if i > 0 && resumed == 0 && r.at.After(back) && r.number >= first {
			resumed = r.at.Sub(back)
		}
		seen[r.number] = true
		newest = max(newest, r.number)
	}
	t.Logf("%-18s %5d received, %d doubled, %d reordered, %d lost, %d of them untold, %d gaps, new numbers %v after the broker was back",
		a.name+":", len(a.received), doubled, reordered, lost, untold, gaps, resumed.Round(time.Millisecond))
	if a.over {
		t.Errorf("%s: the subscription ended: %v", a.name, a.ended)
	}
	if doubled+reordered+untold > 0 || gaps != 1 {
		t.Errorf("%s: %d doubled, %d reordered, %d lost and untold, %d gaps; want none, none, none and one", a.name, doubled, reordered, untold, gaps)
	}
	if resumed == 0 || resumed > resumeWithin {
		t.Errorf("%s: new numbers came %v after the broker was back, want at most %v", a.name, resumed, resumeWithin)
	}
}
