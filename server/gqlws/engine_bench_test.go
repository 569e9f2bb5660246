//go:build unix

package gqlws

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/executor"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/sluice-gateway/sluice/internal/live"
)

// The steps of an event's way, each by itself. bench/ measures the whole.

// once skips the second of the two runs that TestMain makes.
func once(b *testing.B) {
	if unshared {
		b.Skip("measured in the first run")
	}
	b.ReportAllocs()
}

// nowhere is a receiver that counts.
type nowhere struct{ results int }

func (*nowhere) ready(func() string)     {}
func (n *nowhere) next(results []result) { n.results += len(results) }
func (*nowhere) complete()               {}
func (*nowhere) fail(gqlerror.List)      {}
func (*nowhere) wants() Asked            { return Asked{} }
func (*nowhere) room(func()) bool        { return true }
func (*nowhere) giveBack()               {}
func (*nowhere) pace(bool)               {}

// One turn of an execution: events that wait are pulled, executed by gqlgen and
// encoded. The figure is for all of them.
func BenchmarkExecution(b *testing.B) {
	for _, events := range []int{1, 64} {
		b.Run(fmt.Sprintf("events=%d", events), func(b *testing.B) {
			once(b)
			s := newTestSchema(b)
			t := New(Config{})
			defer func() { _ = t.Shutdown(context.Background()) }()
			exec := executor.New(s)
			ctx := graphql.StartOperationTrace(b.Context())
			opCtx, errs := exec.CreateOperationContext(ctx, &graphql.RawParams{Query: `subscription { words(topic: "a") }`})
			if errs != nil {
				b.Fatal(errs)
			}
			var sink nowhere
			x := newExecution(graphql.WithOperationContext(ctx, opCtx), t, exec, opCtx, &sink)
			x.Store(waiting) // the workers keep away
			x.open()
			defer x.stop()
			word, want := strings.Repeat("x", 256), 0
			queue := s.queues("a")[0]
			for b.Loop() {
				for range events {
					queue.Push(live.Event[string]{Value: word}, len(word))
				}
				var t turn
				for want += events; sink.results < want; {
					x.run(&t)
				}
			}
		})
	}
}

func BenchmarkEncodeResult(b *testing.B) {
	for _, size := range []int{256, 4096} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			once(b)
			response := &graphql.Response{Data: fmt.Appendf(nil, `{"words":%q}`, strings.Repeat("x", size))}
			for b.Loop() {
				encodeResult(response, 1<<20)
			}
		})
	}
}

// Frames through an outbox, as they go when a client does not keep up. The figure
// is for all of them.
func BenchmarkOutbox(b *testing.B) {
	for _, frames := range []int{1, 64} {
		b.Run(fmt.Sprintf("frames=%d", frames), func(b *testing.B) {
			once(b)
			var work sync.WaitGroup
			o := outbox{limit: 1 << 20, work: &work}
			f := (&operation{head: []byte(`{"id":"1","type":"next","payload":`)}).frame(result{body: make([]byte, 256)})
			buf := make([]byte, 0, batchBytes)
			for b.Loop() {
				for range frames {
					if o.offer(f) == starting {
						work.Done()
					}
				}
				for batch := buf; len(batch) > 0; {
					batch, _, _ = o.take(buf)
				}
			}
		})
	}
}

// nullSocket writes to /dev/null: a real system call without a network.
type nullSocket struct{ *os.File }

func (s nullSocket) Control(f func(uintptr)) error    { f(s.Fd()); return nil }
func (s nullSocket) Read(func(uintptr) bool) error    { return os.ErrInvalid }
func (s nullSocket) Write(f func(uintptr) bool) error { f(s.Fd()); return nil }

// Results from a group to its members, whose sockets take them at once. The
// figure is for one round to all members.
func BenchmarkGroup(b *testing.B) {
	for _, events := range []int{1, 64} {
		b.Run(fmt.Sprintf("members=1000/events=%d", events), func(b *testing.B) {
			once(b)
			null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
			if err != nil {
				b.Fatal(err)
			}
			defer null.Close()
			t := New(Config{})
			defer func() { _ = t.Shutdown(context.Background()) }()
			g := &group{set: &t.groups}
			for range 1000 {
				c := &conn{t: t, protocol: newProtocol(TransportWS), direct: &directWriter{nullSocket{null}}}
				c.out.limit, c.out.work = t.cfg.QueueBytes, &c.work
				g.add(&operation{conn: c, id: "1", head: c.protocol.resultHead("1")}, Asked{})
			}
			results := make([]result, events)
			for i := range results {
				results[i].body = make([]byte, 256)
			}
			for b.Loop() {
				g.next(results)
			}
		})
	}
}

// Members that leave a group one after another, as when a proxy in front goes
// away. The figure is for all of them.
func BenchmarkGroupLeave(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			once(b)
			members := make([]*member, n)
			for b.Loop() {
				g := &group{set: new(groups), execution: new(execution)}
				g.execution.cancel = func() {}
				for i := range members {
					members[i] = g.add(new(nowhere), Asked{})
				}
				for _, m := range members {
					m.stop()
				}
			}
		})
	}
}

// Validating and joining: what a subscribe message costs after it was parsed.
func BenchmarkSubscribe(b *testing.B) {
	once(b)
	s := newTestSchema(b)
	t := New(Config{})
	defer func() { _ = t.Shutdown(context.Background()) }()
	exec := executor.New(s)
	var keeper, sink nowhere
	var work sync.WaitGroup
	subscribe := func(to *nowhere) source {
		ctx := graphql.StartOperationTrace(b.Context())
		opCtx, errs := exec.CreateOperationContext(ctx, &graphql.RawParams{Query: `subscription { words(topic: "a") }`})
		if errs != nil {
			b.Fatal(errs)
		}
		source, err := t.subscribe(graphql.WithOperationContext(ctx, opCtx), exec, opCtx, to, &work)
		if err != nil {
			b.Fatal(err)
		}
		return source
	}
	defer subscribe(&keeper).stop()
	for b.Loop() {
		subscribe(&sink).stop()
	}
	work.Wait()
}
