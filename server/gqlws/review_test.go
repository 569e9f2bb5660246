package gqlws

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/sluice-gateway/sluice/internal/live"
)

// Who joins a group that has sent something is told that the stream is open,
// also where the source keeps nothing.
func TestReadyOfAGroupThatHasMovedWithoutACursor(t *testing.T) {
	g := start(t, Config{})
	c := g.connect(t)
	for _, field := range []string{"words", "latest"} {
		topic := "of " + field
		document := fmt.Sprintf(`subscription { %s(topic: \"%s\") }`, field, topic)
		c.send(`{"id":"1` + field + `","type":"subscribe","payload":{"query":"` + document + `"}}`)
		eventually(t, "a stream", func() bool { return len(g.queues(topic)) == 1 })
		g.publish(topic, "one")
		c.want(fmt.Sprintf(`{"id":"1%s","type":"next","payload":{"data":{"%[1]s":"one"}}}`, field))
		c.send(`{"id":"2` + field + `","type":"subscribe","payload":{"query":"` + document + `","extensions":{"sluice":{"ready":true}}}}`)
		c.want(fmt.Sprintf(`{"id":"2%s","type":"next","payload":{"data":null,"extensions":{"sluice":{"ready":true}}}}`, field))
		if field == "latest" && !unshared {
			c.want(fmt.Sprintf(`{"id":"2%s","type":"next","payload":{"data":{"%[1]s":"one"}}}`, field))
		}
	}
}

// A resolver may name a place in its stream without the engine knowing it: its
// channel is then bounded as any other is.
func TestResumeOfAPlainChannelIsBounded(t *testing.T) {
	const queue = 8 << 10
	e := startEngine(t, Config{QueueBytes: queue})
	r := e.subscribe(t, `subscription { plainFrom(n: 100000, after: "c1") }`)
	eventually(t, "an ending", func() bool { return r.isOver() || queuedBytes(r) > 2*queue })
	if n := queuedBytes(r); n > 2*queue {
		t.Errorf("%d bytes wait", n)
	}
	if _, open := take(t, r, 1<<20); open || r.Ending() == nil || r.Ending().Code != SlowConsumer.Code {
		t.Errorf("open: %t, ending %v, want %v", open, r.Ending(), SlowConsumer)
	}
}

func queuedBytes(r *Results) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes
}

// Who names a place in a stream whose source keeps nothing has an execution of
// its own, paced by nobody, and leaves the group alone.
func TestResumeOfASourceThatKeepsNothing(t *testing.T) {
	g := start(t, Config{QueueBytes: 8 << 10})
	c := g.connect(t)
	c.subscribe("1", `subscription { wordsFrom(topic: "a", after: "c1") }`)
	eventually(t, "one stream", func() bool { return len(g.queues("a")) == 1 })
	eventually(t, "no group", func() bool {
		g.transport.groups.mu.Lock()
		defer g.transport.groups.mu.Unlock()
		return len(g.transport.groups.open) == 0
	})
	g.publish("a", "one")
	c.want(`{"id":"1","type":"next","payload":{"data":{"wordsFrom":"one"}}}`)
	c.send(`{"id":"1","type":"complete"}`)
	eventually(t, "no streams", func() bool { return len(g.queues("a")) == 0 })
}

// The notice that a stream is open is no result: KEEP_LATEST neither drops nor
// replaces it, nor counts it as missed.
func TestKeepLatestKeepsTheReadyNotice(t *testing.T) {
	var work sync.WaitGroup
	op := &operation{policy: keepLatest, head: []byte(`{"payload":`), asked: Asked{Ready: true}}
	notice, word := readyResult("a cursor, which makes it the longer of the two"), result{body: []byte(`{"data":{"latest":"word"}`)}

	o := outbox{limit: 120, work: &work, flushing: true}
	o.offer(op.frame(notice))
	for range 3 {
		o.offer(op.frame(word))
	}
	batch, _, _ := o.take(make([]byte, 0, 1<<10))
	if !bytes.Contains(batch, []byte(`"ready":true`)) {
		t.Errorf("the notice was replaced: %q", batch)
	}

	op.missed = 0
	o = outbox{limit: 100, work: &work, flushing: true}
	o.offer(frame{head: make([]byte, 90)})
	if r := o.offer(op.frame(notice)); r != full || op.missed != 0 {
		t.Errorf("got %v and %d missed for a notice that finds no room, want %v and none", r, op.missed, full)
	}
}

// A fragment around the field of a subscription changes nothing.
func TestFragmentAroundTheFieldChangesNothing(t *testing.T) {
	for name, document := range map[string]string{
		"inline":        `subscription { ... { log(topic: \"a\") } }`,
		"on a type":     `subscription { ... on Subscription { log(topic: \"a\") } }`,
		"named":         `subscription { ...F } fragment F on Subscription { log(topic: \"a\") }`,
		"in each other": `subscription { ...F } fragment F on Subscription { ... { log(topic: \"a\") } }`,
		"the argument":  `subscription { ...F } fragment F on Subscription { log(topic: \"a\", after: \"c2\") }`,
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, Config{})
			g.log.append("a", "one", "two", "three")
			for i := range 2 {
				c := g.connect(t)
				c.send(`{"id":"1","type":"subscribe","payload":{"query":"` + document + `","extensions":{"sluice":{"resume":"c2"}}}}`)
				c.want(`{"id":"1","type":"next","payload":{"data":{"log":"three"}}}`)
				if !unshared {
					eventually(t, fmt.Sprintf("one stream for %d", i+1), func() bool { return g.log.streams.Load() == 1 })
				}
			}
		})
	}
}

func TestOverflowPolicyInAFragment(t *testing.T) {
	e := startEngine(t, Config{})
	for document, want := range map[string]overflowPolicy{
		`subscription { latest(topic: "a") }`:                                            keepLatest,
		`subscription { ...F } fragment F on Subscription { latest(topic: "a") }`:        keepLatest,
		`subscription { ... @include(if: true) { latest(topic: "a") } }`:                 closeSocket,
		`subscription { ...F } fragment F on Subscription { words(topic: "a") }`:         closeSocket,
		`subscription { latest(topic: "a") ... on Subscription { latest(topic: "a") } }`: closeSocket,
	} {
		ctx := graphql.StartOperationTrace(t.Context())
		opCtx, errs := e.exec.CreateOperationContext(ctx, &graphql.RawParams{Query: document})
		if errs != nil {
			t.Fatal(document, errs)
		}
		if got := overflowOf(opCtx); got != want {
			t.Errorf("%s: policy %d, want %d", document, got, want)
		}
	}
}

// The group and those who come back to it are ahead of each other at random:
// each sees every event once, in order, behind one notice.
func TestNothingIsLostOrDoubledWhoeverIsAhead(t *testing.T) {
	const total = 1500
	for _, queue := range []int{1 << 20, 4 << 10} {
		g := start(t, Config{QueueBytes: queue, OperationsPerSecond: 1e6, OperationsBurst: 1e6})
		g.log.lag = 300 * time.Microsecond
		var work sync.WaitGroup
		work.Go(func() {
			for n := range total {
				g.log.append("a", fmt.Sprint(n+1))
				time.Sleep(rand.N(200 * time.Microsecond)) // the pace of a source, nothing waits for it
			}
		})
		for range 8 {
			work.Go(func() {
				cursor, last := "", -1
				for last < total {
					c := g.connect(t)
					c.send(fmt.Sprintf(`{"id":"1","type":"subscribe","payload":{"query":"subscription { log(topic: \"a\") }","extensions":{"sluice":{"resume":%q,"cursor":true,"ready":true}}}}`, cursor))
					r := c.readLog()
					if !r.Payload.Extensions.Sluice.Ready || r.Payload.Data != nil || cursor != "" && r.Payload.Extensions.Sluice.Cursor != cursor {
						t.Errorf("behind %q came %+v, want the notice", cursor, r)
						return
					}
					cursor = r.Payload.Extensions.Sluice.Cursor
					_, _ = fmt.Sscanf(cursor, "c%d", &last)
					for range rand.IntN(200) {
						if last == total {
							break
						}
						r := c.readLog()
						if r.Payload.Data == nil || r.Payload.Data.Log != fmt.Sprint(last+1) || r.Payload.Extensions.Sluice.Cursor != fmt.Sprintf("c%d", last+1) {
							t.Errorf("after %d came %+v", last, r)
							return
						}
						cursor = r.Payload.Extensions.Sluice.Cursor
						last++
					}
					c.Close()
				}
			})
		}
		work.Wait()
		eventually(t, "nobody", func() bool {
			g.transport.groups.mu.Lock()
			defer g.transport.groups.mu.Unlock()
			return g.log.streams.Load() == 0 && len(g.transport.groups.open) == 0
		})
	}
}

// Those who come back one after the other share what they missed, too: what one
// has executed waits a while for the next.
func TestWhoComesBackNextSharesWhatWasExecuted(t *testing.T) {
	if unshared {
		t.Skip("this run shares nothing")
	}
	const missed = 50
	g := start(t, Config{})
	for n := range missed {
		g.log.append("a", fmt.Sprint(n+1))
	}
	for range 3 {
		c := g.connect(t)
		c.resume("a", "c0")
		for n := range missed {
			if r := c.readLog(); r.Payload.Data.Log != fmt.Sprint(n+1) {
				t.Fatalf("got %+v, want %d", r, n+1)
			}
		}
		eventually(t, "one stream", func() bool { return g.log.streams.Load() == 1 })
	}
	if n := g.executed.Load(); n != missed {
		t.Errorf("%d executions for %d events", n, missed)
	}
}

// What recent results cost beside their bytes counts, too: small events must not
// make a group large.
func TestRecentResultsAreBoundedInMemory(t *testing.T) {
	const limit = 1 << 20
	r := recent{limit: limit}
	var kept struct{ live.Kept }
	before := heap()
	for n := range uint64(100_000) {
		r.put(result{body: []byte(`{"data":{"x":1}`), more: &more{pos: live.Position{Lo: n}, kept: kept, sealed: strings.Repeat("c", 55)}})
	}
	if grown := heap() - before; grown > 2*limit {
		t.Errorf("%d bytes for a bound of %d", grown, limit)
	}
	runtime.KeepAlive(&r)
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// What was executed before a panic reaches the client before the error does, and
// only then are its events acknowledged.
func TestResultsBeforeAPanicAreDelivered(t *testing.T) {
	e := startEngine(t, Config{Workers: 1})
	r := e.subscribe(t, `subscription { private(topic: "a") }`)
	other := e.subscribe(t, `subscription { private(topic: "b") }`)
	eventually(t, "two streams", func() bool { return len(e.queues("a")) == 1 && len(e.queues("b")) == 1 })
	busy, goOn := make(chan struct{}), make(chan struct{})
	e.queues("b")[0].Push(live.Event[string]{Done: func() { close(busy); <-goOn }}, 1)
	<-busy // the only worker
	var done atomic.Int32
	for _, word := range []string{"one", "two", "panic"} {
		e.queues("a")[0].Push(live.Event[string]{Value: word, Done: func() { done.Add(1) }}, 1)
	}
	close(goOn)
	got, open := take(t, r, 100)
	if len(got) != 3 || got[0] != `{"data":{"private":"one"}}` || got[1] != `{"data":{"private":"two"}}` || !strings.HasPrefix(got[2], `{"errors":`) || open {
		t.Errorf("got %s, open: %t", got, open)
	}
	eventually(t, "three acknowledgements", func() bool { return done.Load() == 3 })
	take(t, other, 1)
}
