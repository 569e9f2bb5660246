//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// What clients that come back have missed.
const (
	backlog      = 900  // messages, for the catch-up; a room keeps 1,000
	backlogTimes = 20   // how often a lone client reads it
	backlogCrowd = 100  // clients that read it at the same time
	returning    = 5000 // clients after a restart
	missed       = 30   // messages in the meantime
)

// keptLimits are the limits of a gateway to whose rooms the load writes.
var keptLimits = append([]string{"SLUICE_LIMIT_PUBLISH=1000000", "SLUICE_LIMIT_PUBLISH_BURST=1000000"}, raised...)

// kept starts a gateway with its rooms in a folder.
func (b *bed) kept(ctx context.Context, dir string) (*server, error) {
	return b.start(ctx, sluiceKept, append([]string{"SLUICE_DATA_DIR=" + dir}, keptLimits...)...)
}

// lobby is what the clients of these measurements subscribe to.
func lobby(int) string { return "subscription { messageUpdates { content } }" }

// author writes numbered messages to the lobby.
type author struct {
	addr string

	mu   sync.Mutex
	last int // sequence number
}

func (a *author) lastOf(int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// write sends n messages, twenty in a request, and returns the cursor of the last.
func (a *author) write(ctx context.Context, n int) (cursor string, err error) {
	for n > 0 && err == nil {
		some := min(n, 20)
		cursor, err = a.post(ctx, some)
		n -= some
	}
	return cursor, err
}

func (a *author) post(ctx context.Context, n int) (cursor string, err error) {
	var mutation strings.Builder
	mutation.WriteString("mutation {")
	a.mu.Lock()
	for i := range n {
		a.last++
		fmt.Fprintf(&mutation, " m%d: sendMessage(input: {content: %q}) { cursor }", i, appendPayload(nil, a.last, 256))
	}
	a.mu.Unlock()
	mutation.WriteString(" }")
	var sent map[string]struct{ Cursor string }
	err = ask(ctx, a.addr, mutation.String(), &sent)
	return sent[fmt.Sprintf("m%d", n-1)].Cursor, err
}

// arrived waits until every client has what was written.
func (f *fleet) arrived(ctx context.Context, a *author) error {
	err := until(ctx, time.Minute, "everything to arrive", func() (bool, error) { return f.waiting(a.lastOf) == 0, f.ended() })
	if err != nil {
		return fmt.Errorf("%w: %d messages are missing", err, f.waiting(a.lastOf))
	}
	return nil
}

// catchUp lets clients read a backlog, again and again, and says how much CPU time
// of the server each event takes, in microseconds.
func (b *bed) catchUp(ctx context.Context, clients, times int) (s sample, err error) {
	dir, err := os.MkdirTemp(b.dir, "kept-")
	if err != nil {
		return s, err
	}
	on, err := b.kept(ctx, dir)
	if err != nil {
		return s, err
	}
	defer on.stop()
	a := &author{addr: on.addr}
	cursor, err := a.write(ctx, 1)
	if err != nil {
		return s, on.explain(err)
	}
	if _, err := a.write(ctx, backlog); err != nil {
		return s, on.explain(err)
	}
	read := func() error {
		f, err := newFleet(fleetConfig{Addr: on.addr, N: clients, Document: lobby, Resume: func(int) (string, int, int) { return cursor, 2, 0 }})
		if err != nil {
			return err
		}
		defer f.close()
		err = f.arrived(ctx, a)
		t := f.finish(a.lastOf)
		s.lost += t.Lost
		s.mixed += t.Doubled + t.Reordered
		return err
	}
	if err := read(); err != nil { // the code gets warm
		return s, on.explain(err)
	}
	time.Sleep(200 * time.Millisecond)
	profiled := b.startProfile(on, fmt.Sprintf("catch-up-%d", clients))
	spent, err := on.spends(func() error {
		for range times {
			if err := read(); err != nil {
				return err
			}
		}
		return nil
	})
	profiled()
	s.value = spent.Seconds() * 1e6 / float64(times*clients*backlog)
	s.detail = micros(s.value)
	return s, on.explain(err)
}

// comeBack ends a gateway with a signal that it cannot catch and says how long
// the next one takes to give all its clients what they have missed.
func (b *bed) comeBack(ctx context.Context, clients int) (s sample, err error) {
	dir, err := os.MkdirTemp(b.dir, "kept-")
	if err != nil {
		return s, err
	}
	first, err := b.kept(ctx, dir)
	if err != nil {
		return s, err
	}
	defer first.stop()
	a := &author{addr: first.addr}
	// Some have left before the end: their cursors are up to ten messages older.
	const seen = 20
	last := func(i int) int { return seen - i%10 }
	before, err := newFleet(fleetConfig{Addr: first.addr, N: clients, Document: lobby, Resume: func(i int) (string, int, int) { return "", 1, last(i) }})
	if err != nil {
		return s, first.explain(err)
	}
	defer before.close()
	err = until(ctx, 30*time.Second, "every stream to open", func() (bool, error) { return before.count(&before.opened) == clients, before.ended() })
	if err == nil {
		_, err = a.write(ctx, seen)
	}
	if err == nil {
		err = before.arrived(ctx, a)
	}
	if err != nil {
		return s, first.explain(err)
	}
	first.kill()

	second, err := b.kept(ctx, dir)
	if err != nil {
		return s, err
	}
	defer second.stop()
	a.addr = second.addr
	if _, err := a.write(ctx, missed); err != nil {
		return s, second.explain(err)
	}
	profiled := b.startProfile(second, "come-back")
	begun := time.Now()
	var t tally
	spent, err := second.spends(func() error {
		back, err := newFleet(fleetConfig{
			Addr: second.addr, N: clients, Document: lobby, Parallel: 64,
			Resume: func(i int) (string, int, int) { return before.clients[i].cursor, last(i) + 1, 0 },
		})
		if err != nil {
			return err
		}
		defer back.close()
		if _, err := a.write(ctx, 1); err != nil { // the newest comes while many still read what they missed
			return err
		}
		err = back.arrived(ctx, a)
		t = back.finish(a.lastOf)
		return err
	})
	took := time.Since(begun)
	profiled()
	return sample{
		value: took.Seconds(), lost: t.Lost, mixed: t.Doubled + t.Reordered,
		text:   fmt.Sprintf("%.1f s, %.0f µs for each client, %.1f µs for each event", took.Seconds(), spent.Seconds()*1e6/float64(clients), spent.Seconds()*1e6/float64(max(t.Deliveries, 1))),
		detail: fmt.Sprintf("%v, %v of CPU time, %d events", took.Round(time.Millisecond), spent.Round(time.Millisecond), t.Deliveries),
	}, second.explain(err)
}

// resumeRows are about clients that come back.
func resumeRows() []row {
	catchUp := func(clients, times int) func(ctx context.Context, b *bed) (sample, error) {
		return func(ctx context.Context, b *bed) (sample, error) { return b.catchUp(ctx, clients, times) }
	}
	return []row{
		{
			name: "catch-up", title: fmt.Sprintf("one client reads %s messages of a room that it has missed", thousands(backlog)), format: micros, rounds: 3,
			explain: fmt.Sprintf("The CPU time of the gateway for each message, rooms being in SQLite: read from the file, executed, encoded, written. Where %d clients read them at the same time, what one has had made is there for the others.", backlogCrowd),
			cells: []cell{
				each(colSluice, columnTitles[colSluice], catchUp(1, backlogTimes)),
				each(colOther, fmt.Sprintf("Sluice, %d clients", backlogCrowd), catchUp(backlogCrowd, 1)),
			},
			targets: []target{{"", 15, "≤ 15 µs"}},
		},
		{
			name: "come-back", title: fmt.Sprintf("%s clients come back at once after a crash of the gateway: time until all have what they missed, its CPU time", thousands(returning)), rounds: 3,
			format:  func(v float64) string { return fmt.Sprintf("%.1f s", v) },
			explain: fmt.Sprintf("The gateway is killed; the next one has the room from SQLite, and %d messages are written to it. Then each client connects with the cursor of the last message that it has seen, and one more message is written. Messages that are missing or come twice are counted.", missed),
			cells: []cell{each(colSluice, columnTitles[colSluice], func(ctx context.Context, b *bed) (sample, error) {
				return b.comeBack(ctx, returning)
			})},
			targets: []target{{"", 10, "≤ 10 s, 0 lost"}},
		},
	}
}
