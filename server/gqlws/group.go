package gqlws

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/sluice-gateway/sluice/internal/live"
)

// groups are the executions that many subscribers share.
//
// Subscribers of a field marked @shared join the group of their operation: the
// same document, operation name and variables, and of the same Config.Scope. The
// group has one execution; its results, encoded once, go to every member.
// Validation and limits are each subscriber's own business and come before
// joining. What a resolver refuses, it refuses to a scope.
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
	scope     string // of Config.Scope
	document  string
	name      string // of the operation in it
	variables string // coerced, as JSON
}

// group is one shared execution and its members. It is their source, and the
// sink of the execution.
//
// Besides members it has visitors: subscribers who come back from a cursor and
// are not yet where the group is. They keep it open and use its results.
type group struct {
	set        *groups
	key        groupKey
	replayLast bool
	execution  *execution
	recent     recent

	order sync.Mutex // held while results go out, and while a newcomer gets what comes before them

	mu       sync.Mutex // held for a moment; never while a member is called
	members  []*member
	walked   bool // next is on its way along members: copy before a change
	visitors int
	forget   *time.Timer   // lets go of recent, some time after the last visitor
	last     []result      // the newest, where replayLast asks for it
	begun    func() string // names where the stream begins; nil: it is not open yet
	moved    bool          // results went out …
	pos      live.Position // … the newest of them had this position
	ended    bool
}

var _ sink = (*group)(nil)

// member is a place in a group.
type member struct {
	group *group
	to    sink
	index int // under group.mu; -1: it has left
	// What went out before it joined went up to since: the group's start, where
	// nothing had.
	since live.Position
	moved bool
}

func (m *member) stop() { m.group.leave(m) }

// subscribe finds or makes what an operation's results come from.
func (t *Transport) subscribe(ctx context.Context, exec graphql.GraphExecutor, opCtx *graphql.OperationContext, to receiver, work *sync.WaitGroup) (source, *gqlerror.Error) {
	s := sharedOf(opCtx)
	cursor, err := s.cursor(opCtx, to.wants())
	switch {
	case err != nil:
		return nil, err
	case cursor != "":
		return t.comeBack(ctx, exec, opCtx, s, cursor, to, work), nil
	case s != nil && !t.cfg.Unshared:
		return t.groups.join(ctx, t, exec, opCtx, s, to), nil
	}
	x := newExecution(ctx, t, exec, opCtx, to)
	x.cursors.Store(to.wants().Cursor)
	work.Go(x.open)
	return x, nil
}

// join makes to a member of its operation's group.
func (s *groups) join(ctx context.Context, t *Transport, exec graphql.GraphExecutor, opCtx *graphql.OperationContext, shared *shared, to receiver) *member {
	for {
		var first *member
		g, made := s.find(ctx, t, exec, opCtx, shared, func(g *group) { first = g.append(to, to.wants()) })
		if made {
			return first
		}
		if m := g.add(to, to.wants()); m != nil {
			return m
		}
	}
}

// visit returns the operation's group, kept open until unvisit.
func (s *groups) visit(ctx context.Context, t *Transport, exec graphql.GraphExecutor, opCtx *graphql.OperationContext, shared *shared) *group {
	for {
		g, made := s.find(ctx, t, exec, opCtx, shared, func(g *group) { g.visitors = 1 })
		if made || g.visit() {
			return g
		}
	}
}

// find returns the group of an operation. If there is none it makes and opens
// one; begin puts somebody in it before.
func (s *groups) find(ctx context.Context, t *Transport, exec graphql.GraphExecutor, opCtx *graphql.OperationContext, shared *shared, begin func(*group)) (_ *group, made bool) {
	scope, sharedCtx := t.cfg.Scope(ctx)
	key := shared.key(exec, scope, opCtx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.open[key]; g != nil {
		return g, false
	}
	g := &group{set: s, key: key, replayLast: shared.replayLast}
	g.recent.limit = t.cfg.QueueBytes
	g.execution = newExecution(sharedCtx, t, exec, shared.ownerless(opCtx, ""), g)
	begin(g)
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

// add makes to a member; nil means that the group has ended.
func (g *group) add(to sink, wants Asked) *member {
	if g.replayLast || wants.Ready { // they come before any later result
		g.order.Lock()
		defer g.order.Unlock()
	}
	g.mu.Lock()
	if g.ended {
		g.mu.Unlock()
		return nil
	}
	m := g.append(to, wants)
	last, begun := g.last, g.begun
	if begun != nil && g.moved && g.execution.kept != nil {
		begun = func() string { return g.execution.kept.Cursor(m.since) }
	}
	g.mu.Unlock()
	if begun != nil {
		to.ready(begun)
	}
	if last != nil {
		to.next(last)
	}
	return m
}

func (g *group) append(to sink, wants Asked) *member {
	m := &member{group: g, to: to, index: len(g.members), since: g.pos, moved: g.moved}
	g.change()
	g.members = append(g.members, m)
	if wants.Cursor {
		g.execution.cursors.Store(true)
	}
	return m
}

// change makes members the caller's to change.
func (g *group) change() {
	if g.walked {
		g.members, g.walked = slices.Clone(g.members), false
	}
}

// leave ends a membership.
func (g *group) leave(m *member) {
	g.mu.Lock()
	if m.index >= 0 {
		g.change()
		end := len(g.members) - 1
		g.members[m.index] = g.members[end]
		g.members[m.index].index = m.index
		g.members[end] = nil
		g.members = g.members[:end]
		m.index = -1
	}
	g.unlockAndClose()
}

// replace puts another sink into a member's place.
func (g *group) replace(m *member, to sink) *member {
	g.mu.Lock()
	defer g.mu.Unlock()
	other := &member{group: g, to: to, index: m.index, since: m.since, moved: m.moved}
	if m.index >= 0 {
		g.change()
		g.members[m.index] = other
		m.index = -1
	}
	return other
}

// visit keeps the group open without being a member; false means that it has
// ended. It ends with unvisit.
func (g *group) visit() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ended {
		g.visitors++
		g.remember()
	}
	return !g.ended
}

func (g *group) unvisit() {
	g.mu.Lock()
	if g.visitors--; g.visitors == 0 && !g.ended {
		g.forget = time.AfterFunc(recentFor, g.forgetRecent)
	}
	g.unlockAndClose()
}

// recentFor is how long recent results wait for another visitor: those who were
// cut off together come back over a few seconds.
const recentFor = 5 * time.Second

func (g *group) forgetRecent() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.visitors == 0 {
		g.forget = nil
		g.recent.clear()
	}
}

// remember keeps forgetRecent from being called. The caller holds mu.
func (g *group) remember() {
	if g.forget != nil {
		g.forget.Stop()
		g.forget = nil
	}
}

// unlockAndClose ends the group when nobody is left.
func (g *group) unlockAndClose() {
	empty := len(g.members) == 0 && g.visitors == 0 && !g.ended
	if empty {
		g.ended = true
		g.remember()
	}
	g.mu.Unlock()
	if empty {
		g.set.remove(g)
		g.execution.stop()
	}
}

// since is the position up to which results went out before a member joined;
// ok is false while it is not known, because the stream is not open yet.
func (g *group) since(m *member) (_ live.Position, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case m.moved:
		return m.since, g.execution.kept != nil
	case g.begun == nil || g.execution.kept == nil:
		return live.Position{}, false
	}
	return g.execution.kept.Start()
}

// at is the position up to which results went out, or at which the stream
// begins; zero: it is not open yet, or its source keeps nothing.
func (g *group) at() live.Position {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.moved || g.begun == nil || g.execution.kept == nil {
		return g.pos
	}
	start, _ := g.execution.kept.Start()
	return start
}

// ready implements sink.
func (g *group) ready(cursor func() string) {
	g.order.Lock()
	defer g.order.Unlock()
	g.mu.Lock()
	g.begun = cursor
	members := slices.Clone(g.members)
	g.mu.Unlock()
	for _, m := range members {
		m.to.ready(cursor)
	}
}

// next implements sink: it visits each member once with all results.
func (g *group) next(results []result) {
	g.order.Lock()
	defer g.order.Unlock()
	g.mu.Lock()
	members := g.members
	g.walked = true
	g.moved = true
	g.pos = reached(results, g.pos)
	if g.replayLast {
		g.last = []result{results[len(results)-1]}
	}
	keep := g.visitors > 0 || g.forget != nil
	g.mu.Unlock()
	if keep {
		for _, r := range results {
			g.recent.put(r)
		}
	}
	for _, m := range members {
		m.to.next(results)
	}
	g.mu.Lock()
	g.walked = false
	g.mu.Unlock()
}

func (g *group) complete() {
	for _, m := range g.end() {
		m.to.complete()
	}
}

func (g *group) fail(errs gqlerror.List) {
	for _, m := range g.end() {
		m.to.fail(errs)
	}
}

// end makes room for a new group before anybody hears of the end of this one. A
// newcomer has got the last result by then.
func (g *group) end() []*member {
	g.order.Lock()
	defer g.order.Unlock()
	g.set.remove(g)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	g.remember()
	members := g.members
	for _, m := range members {
		m.index = -1
	}
	g.members = nil
	return members
}

// shared is what @shared says of an operation's field.
type shared struct {
	field      *ast.Field
	replayLast bool
	// resume is the argument that says where a subscriber wants to begin; empty:
	// none does. It is the subscriber's own business and no part of the
	// operation's identity: the group runs without it.
	resume string
	// variable holds it; empty: none does, or one that has other uses, too.
	variable string
}

// sharedOf returns what the operation's one root field promises, or nil when it
// is not shared: not a subscription, or not marked.
func sharedOf(opCtx *graphql.OperationContext) *shared {
	field := rootField(opCtx.Operation)
	if field == nil {
		return nil
	}
	directive := field.Definition.Directives.ForName("shared")
	if directive == nil {
		return nil
	}
	s := &shared{field: field, replayLast: flag(directive, "replayLast")}
	if name := directive.Arguments.ForName("resume"); name != nil {
		s.resume = name.Value.Raw
		place := field.Arguments.ForName(s.resume)
		if place != nil && place.Value.Kind == ast.Variable && strings.Count(opCtx.RawQuery, "$"+place.Value.Raw) == 2 {
			s.variable = place.Value.Raw // declared once, used once
		}
	}
	return s
}

// CodeResumeUnsupported refuses to resume a stream that cannot be.
const CodeResumeUnsupported = "RESUME_UNSUPPORTED"

// cursor is where a subscriber wants to go on: as its request asks, else as the
// field's argument does; empty: nowhere.
func (s *shared) cursor(opCtx *graphql.OperationContext, wants Asked) (string, *gqlerror.Error) {
	if s == nil || s.resume == "" {
		if wants.Resume != "" && opCtx.Operation.Operation == ast.Subscription {
			return "", &gqlerror.Error{
				Message:    "This operation cannot be resumed: its events are not kept. Subscribe without extensions.sluice.resume. (" + CodeResumeUnsupported + ")",
				Extensions: map[string]any{"code": CodeResumeUnsupported},
			}
		}
		return "", nil
	}
	if wants.Resume != "" {
		return wants.Resume, nil
	}
	switch cursor := s.field.ArgumentMap(opCtx.Variables)[s.resume].(type) {
	case nil:
		return "", nil
	case string:
		return cursor, nil
	default: // a scalar may be written in many ways: it is for the resolver to refuse
		return fmt.Sprint(cursor), nil
	}
}

// ownerless copies an operation without the headers and extensions of the client
// who happened to come first: its context holds no request. It begins at a
// cursor, or where the stream is now.
func (s *shared) ownerless(opCtx *graphql.OperationContext, cursor string) *graphql.OperationContext {
	return &graphql.OperationContext{
		RawQuery: opCtx.RawQuery, Variables: s.variables(opCtx), OperationName: opCtx.OperationName,
		Doc: opCtx.Doc, Operation: s.resumedAt(opCtx.Operation, cursor),
		DisableIntrospection: opCtx.DisableIntrospection, RecoverFunc: opCtx.RecoverFunc,
		ResolverMiddleware: opCtx.ResolverMiddleware, RootResolverMiddleware: opCtx.RootResolverMiddleware,
		Stats: opCtx.Stats,
	}
}

// resumedAt copies an operation, with the cursor in its field's argument.
func (s *shared) resumedAt(op *ast.OperationDefinition, cursor string) *ast.OperationDefinition {
	if s.resume == "" {
		return op
	}
	field, resumed := *s.field, *op
	field.Arguments = slices.DeleteFunc(slices.Clone(field.Arguments), func(a *ast.Argument) bool { return a.Name == s.resume })
	if cursor != "" {
		field.Arguments = append(field.Arguments, &ast.Argument{
			Name: s.resume, Position: field.Position,
			Value: &ast.Value{Kind: ast.StringValue, Raw: cursor, Position: field.Position},
		})
	}
	resumed.SelectionSet = ast.SelectionSet{&field}
	return &resumed
}

// rootField is the field of a subscription that has just one selection, which
// is a field, or a fragment with that.
func rootField(op *ast.OperationDefinition) *ast.Field {
	if op.Operation != ast.Subscription {
		return nil
	}
	selections, conditional := op.SelectionSet, false
	for len(selections) == 1 && !conditional {
		switch s := selections[0].(type) {
		case *ast.Field:
			if s.Definition == nil {
				return nil
			}
			return s
		case *ast.InlineFragment:
			selections, conditional = s.SelectionSet, len(s.Directives) > 0
		case *ast.FragmentSpread:
			selections, conditional = s.Definition.SelectionSet, len(s.Directives) > 0
		}
	}
	return nil
}

func flag(directive *ast.Directive, name string) bool {
	argument := directive.Arguments.ForName(name)
	return argument != nil && argument.Value.Raw == "true"
}

// variables are those of the operation, but for the cursor.
func (s *shared) variables(opCtx *graphql.OperationContext) map[string]any {
	if s.variable == "" {
		return opCtx.Variables
	}
	variables := maps.Clone(opCtx.Variables)
	delete(variables, s.variable)
	return variables
}

// key is the identity of an operation. encoding/json writes the members of a map
// in order.
func (s *shared) key(exec graphql.GraphExecutor, scope string, opCtx *graphql.OperationContext) groupKey {
	key := groupKey{exec: exec, scope: scope, document: opCtx.RawQuery, name: opCtx.OperationName}
	if variables := s.variables(opCtx); len(variables) > 0 {
		key.variables = string(marshal(variables)) // they came from JSON
	}
	return key
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
