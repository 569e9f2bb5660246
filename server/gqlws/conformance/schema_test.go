package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/sluice-gateway/sluice/internal/live"
)

// schemaText has a field for every way in which an operation can behave. What
// waits for something else is told by another operation, never by a clock, so
// that cases need not sleep.
const schemaText = `
	type Query {
		hello: String!
		echo(text: String): String
		fails: String                                  # data, and an error beside it
		slow(gate: String!): String!                   # once the gate is open, wanted or not
		subscribers(topic: String!, n: Int!): Boolean! # once n words and slow of this name run
	}
	type Mutation {
		open(gate: String!): Boolean!
		publish(topic: String!, word: String!): Boolean!
	}
	type Subscription {
		words(topic: String!): String! # as they are published
		ticks: Int!                    # one a millisecond, for ever
		count(n: Int!): Int!           # 0 to n-1, and ends
		breaks(after: Int!): Int!      # 0 to after-1, and fails
		refused: Int!                  # cannot be opened
	}`

var (
	errBroken  = errors.New("the stream broke")
	errRefused = errors.New("this stream is refused")
	errField   = errors.New("this field fails")
)

// schema is an executable schema as gqlgen would generate it, for operations
// of one field.
type schema struct {
	parsed *ast.Schema
	// fail tells a transport that a stream ended with an error. It is nil for a
	// transport that learns it from the stream.
	fail func(context.Context, *gqlerror.Error)

	mu      sync.Mutex
	gates   map[string]chan struct{}
	topics  map[string][]*live.Queue[string]
	changed chan struct{} // closed, and replaced, when topics changes
	closed  chan struct{}
}

var _ graphql.ExecutableSchema = (*schema)(nil)

func newSchema(fail func(context.Context, *gqlerror.Error)) *schema {
	return &schema{
		parsed:  gqlparser.MustLoadSchema(&ast.Source{Input: schemaText}),
		fail:    fail,
		gates:   make(map[string]chan struct{}),
		topics:  make(map[string][]*live.Queue[string]),
		changed: make(chan struct{}),
		closed:  make(chan struct{}),
	}
}

// close lets every resolver that waits go on.
func (s *schema) close() { close(s.closed) }

func (s *schema) Schema() *ast.Schema { return s.parsed }

func (s *schema) Complexity(context.Context, string, string, int, map[string]any) (int, bool) {
	return 0, false
}

func (s *schema) Exec(ctx context.Context) graphql.ResponseHandler {
	opCtx := graphql.GetOperationContext(ctx)
	roots := []string{"Query", "Mutation", "Subscription"}
	field := graphql.CollectFields(opCtx, opCtx.Operation.SelectionSet, roots)[0]
	args := arguments(field.ArgumentMap(opCtx.Variables))
	if opCtx.Operation.Operation == ast.Subscription {
		return s.stream(ctx, field, args)
	}
	return s.once(field, args)
}

// arguments are those of a field.
type arguments map[string]any

func (a arguments) text(name string) string { text, _ := a[name].(string); return text }
func (a arguments) int(name string) int     { n, _ := a[name].(int64); return int(n) }

func data(field graphql.CollectedField, value any) *graphql.Response {
	b, err := json.Marshal(map[string]any{field.Alias: value})
	if err != nil {
		panic(err)
	}
	return &graphql.Response{Data: b}
}

// once answers a query or a mutation.
func (s *schema) once(field graphql.CollectedField, args arguments) graphql.ResponseHandler {
	answered := false
	return func(ctx context.Context) *graphql.Response {
		if answered {
			return nil
		}
		answered = true
		value, err := s.resolve(ctx, field.Name, args)
		if err != nil {
			graphql.AddError(ctx, err)
		}
		return data(field, value)
	}
}

func (s *schema) resolve(ctx context.Context, name string, args arguments) (any, error) {
	switch name {
	case "echo":
		return args["text"], nil
	case "fails":
		return nil, errField
	case "slow":
		defer s.words(args.text("gate")).Close()
		select {
		case <-s.gate(args.text("gate")):
		case <-s.closed:
		}
		return "at last", nil
	case "open":
		close(s.gate(args.text("gate")))
		return true, nil
	case "publish":
		for _, q := range s.queues(args.text("topic")) {
			q.Push(live.Event[string]{Value: args.text("word")}, 1)
		}
		return true, nil
	case "subscribers":
		return s.await(ctx, args.text("topic"), args.int("n")), nil
	}
	return "world", nil
}

func (s *schema) gate(name string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gates[name] == nil {
		s.gates[name] = make(chan struct{})
	}
	return s.gates[name]
}

func (s *schema) queues(topic string) []*live.Queue[string] {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.topics[topic])
}

// await waits until a topic has n subscribers; false if it never had.
func (s *schema) await(ctx context.Context, topic string, n int) bool {
	deadline := time.After(patience / 4)
	for {
		s.mu.Lock()
		now, changed := len(s.topics[topic]), s.changed
		s.mu.Unlock()
		if now == n {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		case <-s.closed:
			return false
		case <-deadline:
			return false
		}
	}
}

// stream serves a subscription. Each field is a different kind of source.
func (s *schema) stream(ctx context.Context, field graphql.CollectedField, args arguments) graphql.ResponseHandler {
	switch field.Name {
	case "count":
		return forward(field, upTo(ctx, args.int("n")), func(context.Context) {})
	case "breaks":
		q := live.NewQueue[int](live.Limit{}, nil)
		for i := range args.int("after") {
			q.Push(live.Event[int]{Value: i}, 1)
		}
		q.End(errBroken)
		return forward(field, live.Stream(ctx, q, live.Value), s.tellBroken)
	case "ticks":
		n := -1
		next := func(live.Event[time.Time]) (int, error) { n++; return n, nil }
		return forward(field, live.Stream(ctx, live.Every(time.Millisecond), next), func(context.Context) {})
	case "words":
		return forward(field, live.Stream(ctx, s.words(args.text("topic")), live.Value), func(context.Context) {})
	}
	graphql.AddError(ctx, errRefused)
	return nil
}

func (s *schema) tellBroken(ctx context.Context) {
	if s.fail != nil && ctx.Err() == nil {
		s.fail(ctx, gqlerror.Wrap(errBroken))
	}
}

// forward makes responses of what a resolver's channel yields.
func forward[T any](field graphql.CollectedField, values <-chan T, ended func(context.Context)) graphql.ResponseHandler {
	return func(ctx context.Context) *graphql.Response {
		select {
		case value, open := <-values:
			if open {
				return data(field, value)
			}
			ended(ctx)
		case <-ctx.Done():
		}
		return nil
	}
}

// upTo is a plain channel, as a resolver that knows nothing of live has it.
func upTo(ctx context.Context, n int) <-chan int {
	out := make(chan int)
	go func() {
		defer close(out)
		for i := range n {
			select {
			case out <- i:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (s *schema) words(topic string) *live.Queue[string] {
	var q *live.Queue[string]
	q = live.NewQueue[string](live.Limit{}, func() {
		s.change(topic, func(qs []*live.Queue[string]) []*live.Queue[string] {
			return slices.DeleteFunc(qs, func(other *live.Queue[string]) bool { return other == q })
		})
	})
	s.change(topic, func(qs []*live.Queue[string]) []*live.Queue[string] { return append(qs, q) })
	return q
}

func (s *schema) change(topic string, how func([]*live.Queue[string]) []*live.Queue[string]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topics[topic] = how(slices.Clone(s.topics[topic]))
	close(s.changed)
	s.changed = make(chan struct{})
}
