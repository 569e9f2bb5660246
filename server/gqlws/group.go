package gqlws

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// groups are the executions that many subscribers share.
//
// Subscribers of a field marked @shared join the group of their operation: the
// same document, operation name and variables. The group has one execution; its
// results, encoded once, go to every member. Validation, limits and access are
// each subscriber's own business and come before joining.
//
// A group is opening, live or ended. Who joins while it opens waits with the
// others, and gets the failure if there is one; who meets an ended group begins
// a new one. The group ends with its stream, or when its last member leaves.
type groups struct {
	mu   sync.Mutex
	open map[groupKey]*group
	work sync.WaitGroup // groups that are opening, or have a goroutine
}

// groupKey is what makes two operations the same.
type groupKey struct {
	exec      graphql.GraphExecutor
	operation string // see shared.key
}

// group is one shared execution and its members. It is their source, and the
// sink of the execution.
type group struct {
	set        *groups
	key        groupKey
	replayLast bool
	execution  *execution

	order sync.Mutex // held while results go out, where a newcomer gets the last

	mu sync.Mutex // held for a moment; never while a member is called
	// members grows in place and is copied when one leaves, so next can work on
	// the slice that it saw.
	members []sink
	last    [][]byte // the newest result, where replayLast asks for it
	ended   bool
}

var _ sink = (*group)(nil)

// membership is a member's place in its group.
type membership struct {
	group  *group
	member sink
}

func (m membership) stop() { m.group.leave(m.member) }

// subscribe finds or makes what an operation's results come from.
func (t *Transport) subscribe(ctx context.Context, exec graphql.GraphExecutor, opCtx *graphql.OperationContext, to sink, work *sync.WaitGroup) source {
	if s := sharedOf(opCtx); s != nil && !t.cfg.Unshared {
		return t.groups.join(t, exec, opCtx, s, to)
	}
	x := newExecution(ctx, t, exec, opCtx, to)
	work.Go(x.open)
	return x
}

// join makes to a member of its operation's group.
func (s *groups) join(t *Transport, exec graphql.GraphExecutor, opCtx *graphql.OperationContext, shared *shared, to sink) membership {
	key := groupKey{exec, shared.key(opCtx)}
	for {
		g, made := s.find(key, func() *group {
			g := &group{set: s, key: key, replayLast: shared.replayLast, members: []sink{to}}
			g.execution = newExecution(context.Background(), t, exec, ownerless(opCtx, shared.variables(opCtx)), g)
			return g
		})
		if made || g.add(to) {
			return membership{g, to}
		}
	}
}

// ownerless copies an operation without the headers and extensions of the client
// who happened to come first. The group belongs to nobody, and its context holds no request.
func ownerless(opCtx *graphql.OperationContext, variables map[string]any) *graphql.OperationContext {
	return &graphql.OperationContext{
		RawQuery: opCtx.RawQuery, Variables: variables, OperationName: opCtx.OperationName,
		Doc: opCtx.Doc, Operation: opCtx.Operation,
		DisableIntrospection: opCtx.DisableIntrospection, RecoverFunc: opCtx.RecoverFunc,
		ResolverMiddleware: opCtx.ResolverMiddleware, RootResolverMiddleware: opCtx.RootResolverMiddleware,
		Stats: opCtx.Stats,
	}
}

// find returns the group of a key, or makes and opens it.
func (s *groups) find(key groupKey, create func() *group) (_ *group, made bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.open[key]; g != nil {
		return g, false
	}
	g := create()
	if s.open == nil {
		s.open = make(map[groupKey]*group)
	}
	s.open[key] = g
	s.work.Go(g.execution.open)
	return g, true
}

func (s *groups) remove(g *group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[g.key] == g {
		delete(s.open, g.key)
	}
}

// add reports whether the group could still take a member.
func (g *group) add(to sink) bool {
	if g.replayLast { // the last result comes before any later one
		g.order.Lock()
		defer g.order.Unlock()
	}
	g.mu.Lock()
	if g.ended {
		g.mu.Unlock()
		return false
	}
	g.members = append(g.members, to)
	last := g.last
	g.mu.Unlock()
	if last != nil {
		to.next(last)
	}
	return true
}

func (g *group) leave(member sink) {
	g.mu.Lock()
	i := slices.Index(g.members, member)
	if i < 0 {
		g.mu.Unlock()
		return
	}
	g.members = slices.Delete(slices.Clone(g.members), i, i+1)
	empty := len(g.members) == 0 && !g.ended
	g.ended = g.ended || empty
	g.mu.Unlock()
	if empty {
		g.set.remove(g)
		g.execution.stop()
	}
}

// next implements sink: it visits each member once with all results.
func (g *group) next(bodies [][]byte) {
	if g.replayLast {
		g.order.Lock()
		defer g.order.Unlock()
	}
	g.mu.Lock()
	members := g.members
	if g.replayLast {
		g.last = [][]byte{bodies[len(bodies)-1]}
	}
	g.mu.Unlock()
	for _, m := range members {
		m.next(bodies)
	}
}

func (g *group) complete() {
	if g.replayLast { // a newcomer gets the last result before the end
		g.order.Lock()
		defer g.order.Unlock()
	}
	for _, m := range g.end() {
		m.complete()
	}
}

func (g *group) fail(errs gqlerror.List) {
	if g.replayLast {
		g.order.Lock()
		defer g.order.Unlock()
	}
	for _, m := range g.end() {
		m.fail(errs)
	}
}

// end makes room for a new group before anybody hears of the end of this one.
func (g *group) end() []sink {
	g.set.remove(g)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	return g.members
}

// shared is what @shared says of an operation's field.
type shared struct {
	replayLast bool
	// resume is the variable that says where a subscriber wants to begin; empty:
	// none does. It is the subscriber's own business and no part of the
	// operation's identity: the group runs without it.
	resume string
}

// sharedOf returns what the operation's one root field promises, or nil when it
// is not shared: not a subscription, not marked, or with a choice of its own in
// @skip or @include, which variables decide.
func sharedOf(opCtx *graphql.OperationContext) *shared {
	field := rootField(opCtx.Operation)
	if field == nil {
		return nil
	}
	directive := field.Definition.Directives.ForName("shared")
	if directive == nil {
		return nil
	}
	s := &shared{replayLast: flag(directive, "replayLast")}
	if name := directive.Arguments.ForName("resume"); name != nil {
		if place := field.Arguments.ForName(name.Value.Raw); place != nil {
			switch place.Value.Kind {
			case ast.Variable:
				s.resume = place.Value.Raw
			case ast.NullValue:
			default: // written into the document: an operation of its own
				return nil
			}
		}
	}
	return s
}

// rootField is the field of a subscription that has just one selection, which
// is a field.
func rootField(op *ast.OperationDefinition) *ast.Field {
	if op.Operation != ast.Subscription || len(op.SelectionSet) != 1 {
		return nil
	}
	field, _ := op.SelectionSet[0].(*ast.Field)
	if field == nil || field.Definition == nil {
		return nil
	}
	return field
}

func flag(directive *ast.Directive, name string) bool {
	argument := directive.Arguments.ForName(name)
	return argument != nil && argument.Value.Raw == "true"
}

// variables are those of the group.
func (s *shared) variables(opCtx *graphql.OperationContext) map[string]any {
	if s.resume == "" {
		return opCtx.Variables
	}
	variables := maps.Clone(opCtx.Variables)
	delete(variables, s.resume)
	return variables
}

// key is the identity of an operation: its document, its name and its coerced
// variables. encoding/json writes the members of a map in order.
func (s *shared) key(opCtx *graphql.OperationContext) string {
	var b bytes.Buffer
	b.WriteString(opCtx.OperationName)
	b.WriteByte(0)
	if variables := s.variables(opCtx); len(variables) > 0 {
		_ = json.NewEncoder(&b).Encode(variables) // they came from JSON
	}
	b.WriteByte(0)
	b.WriteString(opCtx.RawQuery)
	return b.String()
}

// overflowPolicy is what becomes of a result that a socket has no room for.
type overflowPolicy int

const (
	closeSocket overflowPolicy = iota // the client connects again
	keepLatest                        // it replaces the operation's newest that waits
)

// overflowOf returns what @overflow says of the operation's root field.
func overflowOf(opCtx *graphql.OperationContext) overflowPolicy {
	if field := rootField(opCtx.Operation); field != nil {
		if directive := field.Definition.Directives.ForName("overflow"); directive != nil {
			if policy := directive.Arguments.ForName("policy"); policy != nil && policy.Value.Raw == "KEEP_LATEST" {
				return keepLatest
			}
		}
	}
	return closeSocket
}
