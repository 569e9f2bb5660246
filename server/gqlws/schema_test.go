package gqlws

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/sluice-gateway/sluice/internal/live"
)

// testSchema is a schema as gqlgen would generate it, written by hand so that
// this package's tests need no generator.
type testSchema struct {
	schema *ast.Schema

	mu    sync.Mutex
	feeds map[string][]*live.Queue[string] // by topic
	hold  chan struct{}                    // not nil: "held" waits for it while it opens

	log      *testLog     // behind the field "log"
	executed atomic.Int64 // events of "log"
}

var errRefused = &live.Error{Code: "REFUSED", Message: "The test refuses."}

func newTestSchema(tb testing.TB) *testSchema {
	log := newTestLog()
	tb.Cleanup(log.tail.Close)
	return &testSchema{
		log:   log,
		feeds: make(map[string][]*live.Queue[string]),
		schema: gqlparser.MustLoadSchema(&ast.Source{Input: `
			directive @shared(replayLast: Boolean! = false, resume: String) on FIELD_DEFINITION
			directive @overflow(policy: Overflow! = CLOSE) on FIELD_DEFINITION
			enum Overflow { CLOSE KEEP_LATEST }
			type Query { hello: String panic: String slow: String }
			type Subscription {
				words(topic: String!): String @shared   # by live.Stream
				latest(topic: String!): String @shared(replayLast: true) @overflow(policy: KEEP_LATEST)
				private(topic: String!): String
				log(topic: String!, after: String): String @shared(resume: "after")
				plain(n: Int!): String          # by a channel of its own
				plainFrom(n: Int!, after: String): String @shared(resume: "after")
				wordsFrom(topic: String!, after: String): String @shared(resume: "after") # by a Sub that is not live.Kept
				refused: String
				held: String
				count(n: Int!): String
			}`}),
	}
}

func (s *testSchema) Schema() *ast.Schema { return s.schema }

func (s *testSchema) Complexity(context.Context, string, string, int, map[string]any) (int, bool) {
	return 0, false
}

func (s *testSchema) Exec(ctx context.Context) graphql.ResponseHandler {
	opCtx := graphql.GetOperationContext(ctx)
	fields := graphql.CollectFields(opCtx, opCtx.Operation.SelectionSet, []string{"Query", "Subscription"})
	field := fields[0]
	args := field.ArgumentMap(opCtx.Variables)
	if opCtx.Operation.Operation != ast.Subscription {
		return graphql.OneShot(s.query(ctx, field))
	}
	words, err := s.subscribe(ctx, field.Name, args)
	if err != nil {
		graphql.AddError(ctx, err)
		return nil
	}
	var buf strings.Builder
	return func(ctx context.Context) *graphql.Response {
		buf.Reset()
		select {
		case word, ok := <-words:
			if !ok {
				return nil
			}
			if word == "panic" {
				panic("a conversion panics")
			}
			if field.Name == "log" {
				s.executed.Add(1)
			}
			fmt.Fprintf(&buf, `{%q:%q}`, field.Alias, word)
			return &graphql.Response{Data: []byte(buf.String())}
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *testSchema) query(ctx context.Context, field graphql.CollectedField) *graphql.Response {
	switch field.Name {
	case "panic":
		panic("a resolver panics")
	case "slow":
		<-ctx.Done()
		return nil
	}
	return &graphql.Response{Data: fmt.Appendf(nil, `{%q:"world"}`, field.Alias)}
}

func (s *testSchema) subscribe(ctx context.Context, name string, args map[string]any) (<-chan string, error) {
	switch name {
	case "plain", "plainFrom":
		return plain(ctx, args["n"].(int64)), nil
	case "refused":
		return nil, errRefused
	case "log":
		after, _ := args["after"].(string)
		return s.log.open(ctx, args["topic"].(string), after)
	case "count":
		n := int(args["n"].(int64))
		q := live.NewQueue[string](live.Limit{Events: n + 1}, nil)
		for i := range n {
			q.Push(live.Event[string]{Value: fmt.Sprint(i)}, 1)
		}
		q.End(nil)
		return live.Stream(ctx, q, live.Value), nil
	case "held":
		select {
		case <-s.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return s.open(ctx, "held"), nil
	}
	return s.open(ctx, args["topic"].(string)), nil
}

func (s *testSchema) open(ctx context.Context, topic string) <-chan string {
	var q *live.Queue[string]
	q = live.NewQueue[string](live.Limit{Events: 1 << 16, Bytes: 1 << 30}, func() { s.remove(topic, q) })
	s.mu.Lock()
	s.feeds[topic] = append(s.feeds[topic], q)
	s.mu.Unlock()
	return live.Stream(ctx, q, live.Value)
}

func (s *testSchema) remove(topic string, q *live.Queue[string]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range s.feeds[topic] {
		if other == q {
			s.feeds[topic] = append(s.feeds[topic][:i], s.feeds[topic][i+1:]...)
		}
	}
}

func (s *testSchema) queues(topic string) []*live.Queue[string] {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*live.Queue[string](nil), s.feeds[topic]...)
}

// publish sends to every subscription of a topic.
func (s *testSchema) publish(topic, word string) {
	for _, q := range s.queues(topic) {
		q.Push(live.Event[string]{Value: word}, len(word))
	}
}

// eventually polls a condition that nothing signals.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

func plain(ctx context.Context, n int64) <-chan string {
	out := make(chan string)
	go func() {
		defer close(out)
		for i := range n {
			select {
			case out <- fmt.Sprint(i):
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func newTestHandler(s *testSchema, transport *Transport) *handler.Server {
	h := handler.New(s)
	h.AddTransport(transport)
	h.SetErrorPresenter(func(ctx context.Context, err error) *gqlerror.Error {
		told := graphql.DefaultErrorPresenter(ctx, err)
		var known *live.Error
		if errors.As(err, &known) {
			told.Message = known.Message
			told.Extensions = map[string]any{"code": known.Code}
		}
		return told
	})
	return h
}
