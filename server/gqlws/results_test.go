package gqlws

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/executor"

	"github.com/sluice-gateway/sluice/internal/live"
)

// engine runs subscriptions without a socket.
type engine struct {
	*testSchema
	transport *Transport
	exec      graphql.GraphExecutor
}

func startEngine(t *testing.T, cfg Config) *engine {
	t.Helper()
	s := newTestSchema(t)
	e := &engine{s, New(cfg), executor.New(s)}
	t.Cleanup(func() { _ = e.transport.Shutdown(context.Background()) })
	return e
}

func (e *engine) subscribe(t *testing.T, document string) *Results {
	t.Helper()
	ctx := graphql.StartOperationTrace(t.Context())
	opCtx, errs := e.exec.CreateOperationContext(ctx, &graphql.RawParams{Query: document})
	if errs != nil {
		t.Fatal(errs)
	}
	r := e.transport.Subscribe(graphql.WithOperationContext(ctx, opCtx), e.exec, opCtx, Asked{})
	t.Cleanup(r.Close)
	return r
}

// await waits until there are n streams of "a", one for each subscription of
// private.
func (e *engine) await(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d streams", n), func() bool { return len(e.queues("a")) == n })
}

// take waits for at least n results, or for the end.
func take(t *testing.T, r *Results, n int) (results []string, open bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		batch, open := r.Take()
		for _, result := range batch {
			results = append(results, string(result.JSON))
		}
		if !open || len(results) >= n {
			return results, open
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-r.News():
		case <-deadline:
			t.Fatalf("waited 10 s for %d results, got %q", n, results)
		}
	}
}

func TestResultsOfASubscription(t *testing.T) {
	e := startEngine(t, Config{PayloadBytes: 20})
	tests := []struct {
		name, document string
		want           []string
	}{
		{"a stream", `subscription { w: count(n: 2) }`, []string{`{"data":{"w":"0"}}`, `{"data":{"w":"1"}}`}},
		{"a channel of the resolver's own", `subscription { w: plain(n: 2) }`, []string{`{"data":{"w":"0"}}`, `{"data":{"w":"1"}}`}},
		{"nothing", `subscription { plain(n: 0) }`, nil},
		{"a refusal", `subscription { refused }`, []string{`{"errors":[{"message":"The test refuses. (REFUSED)"}]}`}},
		{"too large", `subscription { muchTooLargeAName: count(n: 1) }`, []string{`{"data":null,"errors":[{"message":"The result has 25 bytes, more than the 20 that are accepted: select fewer fields. (PAYLOAD_TOO_LARGE)","extensions":{"code":"PAYLOAD_TOO_LARGE"}}]}`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := e.subscribe(t, test.document)
			got, open := take(t, r, 100)
			if fmt.Sprint(got) != fmt.Sprint(test.want) || open || r.Ending() != nil {
				t.Errorf("got %s, open: %t, ending: %v\nwant %s", got, open, r.Ending(), test.want)
			}
		})
	}
}

func TestResultsTellGapAndReason(t *testing.T) {
	e := startEngine(t, Config{})
	r := e.subscribe(t, `subscription { private(topic: "a") }`)
	e.await(t, 1)
	q := e.queues("a")[0]
	q.Push(live.Event[string]{Value: "x", Gap: &live.Gap{Reason: live.GapOutage}}, 1)
	q.End(errRefused)
	got, open := take(t, r, 100)
	want := []string{`{"data":{"private":"x"},"extensions":{"sluice":{"gap":{"reason":"OUTAGE"}}}}`, `{"errors":[{"message":"The test refuses. (REFUSED)"}]}`}
	if fmt.Sprint(got) != fmt.Sprint(want) || open {
		t.Errorf("got %s, open: %t\nwant %s", got, open, want)
	}
}

func TestPanicEndsResultsWithAnError(t *testing.T) {
	e := startEngine(t, Config{})
	r := e.subscribe(t, `subscription { private(topic: "a") }`)
	e.await(t, 1)
	e.publish("a", "panic")
	got, open := take(t, r, 100)
	if len(got) != 1 || !strings.HasPrefix(got[0], `{"errors":[`) || open {
		t.Errorf("got %s, open: %t", got, open)
	}
}

// A batch that was taken counts until the next one is: its taker holds it.
func TestSlowTakerIsEndedAndHurtsNobody(t *testing.T) {
	refused := make(chan string, 10)
	e := startEngine(t, Config{QueueBytes: 200, Refused: func(code string) { refused <- code }})
	slow := e.subscribe(t, `subscription { private(topic: "a") }`)
	quick := e.subscribe(t, `subscription { private(topic: "a") }`)
	e.await(t, 2)
	e.publish("a", strings.Repeat("x", 100))
	take(t, slow, 1)
	take(t, quick, 1)
	for range 3 {
		e.publish("a", strings.Repeat("y", 50))
		take(t, quick, 1)
	}
	if code := <-refused; code != "4413" {
		t.Errorf("refused with %s", code)
	}
	if batch, open := slow.Take(); len(batch) > 0 || open || *slow.Ending() != SlowConsumer {
		t.Errorf("got %q, open: %t, ending: %v", batch, open, slow.Ending())
	}
	e.await(t, 1) // the slow one's stream was closed
	e.publish("a", "still here")
	if got, open := take(t, quick, 1); len(got) == 0 || !open {
		t.Errorf("got %s, open: %t", got, open)
	}
}

func TestShutdownEndsResultsBehindThoseThatWait(t *testing.T) {
	e := startEngine(t, Config{})
	r := e.subscribe(t, `subscription { private(topic: "a") }`)
	e.await(t, 1)
	e.publish("a", "last")
	<-r.News() // "last" waits
	done := make(chan error, 1)
	go func() { done <- e.transport.Shutdown(t.Context()) }()
	got, open := take(t, r, 100)
	if len(got) != 1 || open || *r.Ending() != ServiceRestart {
		t.Errorf("got %s, open: %t, ending: %v", got, open, r.Ending())
	}
	r.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	e.await(t, 0)
	late := e.subscribe(t, `subscription { private(topic: "a") }`)
	if got, open := take(t, late, 100); len(got) > 0 || open || *late.Ending() != ServiceRestart {
		t.Errorf("after the shutdown: got %s, open: %t, ending: %v", got, open, late.Ending())
	}
}

func TestCloseOfResultsEndsTheirStream(t *testing.T) {
	e := startEngine(t, Config{})
	e.hold = make(chan struct{})
	opening := e.subscribe(t, `subscription { held }`)
	r := e.subscribe(t, `subscription { private(topic: "a") }`)
	e.await(t, 1)
	if n := e.transport.Stats().Operations; n != 2 {
		t.Errorf("%d operations are counted", n)
	}
	opening.Close()
	r.Close()
	e.await(t, 0)
	if n := e.transport.Stats().Operations; n != 0 {
		t.Errorf("%d operations are left", n)
	}
}
