package gqlws

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// The pace of a drain.
const (
	leaveAtOnce    = 100  // so many clients are told to leave right away,
	leavePerSecond = 1000 // and so many others in a second, or more: see departure
)

// departure says how long after the start of a drain the i-th of n clients is
// told to leave: the first ones at once, the others at a steady pace, so that
// they do not all come back in the same second. Where that pace would take more
// than half of limit, all that there is for the drain, it is faster: the other
// half is for what clients still have to read. jitter, at least 0 and below 1,
// is the place within the client's own slot: drawn anew for each, it keeps the
// clients of two gateways that stop together from coming back in step.
func departure(i, n int, limit time.Duration, jitter float64) time.Duration {
	others := n - leaveAtOnce
	if i < leaveAtOnce || others <= 0 {
		return 0
	}
	spread := min(time.Duration(others)*time.Second/leavePerSecond, limit/2)
	return time.Duration(float64(spread) * (float64(i-leaveAtOnce) + jitter) / float64(others))
}

// leaver is a client of either kind: one of a socket, or a taker of Results.
type leaver interface {
	leave()       // ends it with ServiceRestart, behind what waits for it
	isOver() bool // it needs not be told any more
}

var (
	_ leaver = (*conn)(nil)
	_ leaver = (*Results)(nil)
)

func (c *conn) leave()       { c.close(ServiceRestart) }
func (c *conn) isOver() bool { return c.out.isSealed() }

func (r *Results) leave() { r.interrupt(ServiceRestart) }

func (r *Results) isOver() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended
}

// Draining reports whether Drain or Shutdown has been called: new sockets and
// Results are refused.
func (t *Transport) Draining() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.draining
}

// Drain refuses new sockets and Results from now on and ends those that are open
// with ServiceRestart, each behind what waits for it: up to a hundred at once,
// more at a pace that takes half of the time until ctx's deadline at most. Who
// has not been told yet is served as before. It returns when all have been told,
// or ctx ends, and does not wait for them to go: Shutdown does. A second call
// returns at once.
func (t *Transport) Drain(ctx context.Context) {
	leavers, streams, first := t.startDrain()
	if !first {
		return
	}
	begin, limit, n := time.Now(), time.Duration(math.MaxInt64), len(leavers)
	if deadline, ok := ctx.Deadline(); ok {
		limit = max(0, deadline.Sub(begin))
	}
	t.cfg.Logger.Info("draining", "sockets", n-streams, "streams", streams, "over", departure(n, n, limit, 0).String())
	rand.Shuffle(n, func(i, j int) { leavers[i], leavers[j] = leavers[j], leavers[i] })
	told := 0
	for _, l := range leavers {
		if l.isOver() { // it has gone by itself, and its slot to the next
			continue
		}
		if !waitUntil(ctx, begin.Add(departure(told, n, limit, rand.Float64()))) {
			return
		}
		l.leave()
		told++
	}
}

// startDrain refuses new clients and lists those that there are, and says how
// many of them have no socket. first is false when that has been done before.
func (t *Transport) startDrain() (leavers []leaver, streams int, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.draining {
		return nil, 0, false
	}
	t.draining = true
	for c := range t.conns {
		leavers = append(leavers, c)
	}
	for _, r := range t.results.refuse() {
		leavers = append(leavers, r)
		streams++
	}
	t.drained = drained{began: time.Now(), clients: len(leavers)}
	return leavers, streams, true
}

// drained is when a drain began, and of how many clients it is.
type drained struct {
	began   time.Time
	clients int
}

// waitUntil reports whether a time has come before ctx ended.
func waitUntil(ctx context.Context, at time.Time) bool {
	wait := time.Until(at)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

// Shutdown drains the transport, unless that has been done, and waits until
// every socket and all Results are closed. When ctx ends it drops the sockets
// that are still there, waits no longer for the takers of Results, and returns
// an error. It returns when every goroutine of the transport has ended.
func (t *Transport) Shutdown(ctx context.Context) error {
	t.Drain(ctx)
	t.mu.Lock()
	if t.stopping {
		t.mu.Unlock()
		return errors.New("gqlws: shut down twice")
	}
	t.stopping = true
	t.mu.Unlock()

	gone := make(chan struct{})
	go func() {
		t.gone.Wait()
		t.results.work.Wait()
		t.groups.work.Wait() // without members, they end
		close(gone)
	}()
	for _, left := range []<-chan struct{}{gone, t.results.empty} {
		select {
		case <-left:
		case <-ctx.Done():
		}
	}
	dropped := t.dropAll()
	<-gone
	close(t.stopped)
	t.runs.stop()
	t.work.Wait()
	t.mu.Lock()
	all := t.drained
	t.mu.Unlock()
	t.cfg.Logger.Info("drained", "closed", all.clients-dropped, "dropped", dropped,
		"took", time.Since(all.began).Round(time.Millisecond).String())
	if dropped > 0 {
		return fmt.Errorf("gqlws: dropped %d of %d clients: %w", dropped, all.clients, ctx.Err())
	}
	return nil
}

// dropAll drops who has not gone and says how many that are.
func (t *Transport) dropAll() int {
	for _, r := range t.results.refuse() { // also those that Drain did not come to
		r.leave()
	}
	left := t.snapshot()
	for _, c := range left {
		c.drop()
	}
	return len(left) + t.results.len()
}
