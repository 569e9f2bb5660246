package gqlws

import (
	"context"
	"sync"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/sluice-gateway/sluice/internal/live"
)

// catchUp brings a subscriber who comes back from a cursor to the present, and
// there into the group of its operation.
//
// It runs an execution of its own from the cursor, at the pace of the
// subscriber: while more than a quarter of its queue waits, nothing is executed.
// Within sight of the newest event it joins the group, whose results are held.
// Once its own results have passed the place where the group was when it joined,
// the held ones that are newer follow, and from then on the group's come straight
// to it, but for those that its own execution was ahead with: no event is missing
// and none comes twice. If too many have to be held, it leaves the group and
// tries again later.
//
// Until then it visits the group, so that results are shared: what the group or
// another visitor has executed is not executed again.
type catchUp struct {
	t  *Transport
	to receiver

	order sync.Mutex // held while results go to the subscriber from the group

	mu        sync.Mutex
	x         *execution // nil once the group has taken over
	group     *group     // that it visits; nil: it has ended, or nothing is shared
	member    *member    // its place in the group; nil: it has none yet
	holding   bool       // what the group sends is held
	held      []result   // the group's since it joined
	heldBytes int
	live      bool // the group's results go straight on
	stopped   bool

	// Where the group was before the execution began; zero: it was not open yet.
	past live.Position
	// Through where everything has gone out: by the execution's worker alone, and
	// for good once live is set.
	pos live.Position
}

var (
	_ sink   = (*catchUp)(nil)
	_ source = (*catchUp)(nil)
)

// comeBack makes the source of an operation that begins at a cursor. Its results
// are for others, too, so the context holds no viewer.
func (t *Transport) comeBack(ctx context.Context, exec graphql.GraphExecutor, opCtx *graphql.OperationContext, shared *shared, cursor string, to receiver, work *sync.WaitGroup) source {
	c := &catchUp{t: t, to: to}
	to.pace(true)
	if !t.cfg.Unshared {
		c.group = t.groups.visit(ctx, t, exec, opCtx, shared)
		c.past = c.group.at()
	}
	_, sharedCtx := t.cfg.Scope(ctx)
	x := newExecution(sharedCtx, t, exec, shared.ownerless(opCtx, cursor), c)
	c.x, x.back = x, c
	x.cursors.Store(to.wants().Cursor)
	work.Go(x.open)
	return c
}

// stay leaves the subscriber to the execution, whose source keeps nothing: so it
// has nothing to catch up with, and cannot wait for the subscriber either.
func (c *catchUp) stay() {
	c.to.pace(false)
	c.mu.Lock()
	g := c.group
	c.group = nil
	c.mu.Unlock()
	if g != nil {
		g.unvisit()
	}
}

// room reports whether the subscriber takes more; else the execution is woken
// once it does.
func (c *catchUp) room() bool { return c.to.room(c.wake) }

// wake has a worker look at the execution.
func (c *catchUp) wake() {
	c.mu.Lock()
	x := c.x
	c.mu.Unlock()
	if x != nil {
		x.wake()
	}
}

// results are those that others have executed already, or may use.
func (c *catchUp) results() *recent {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.group == nil {
		return nil
	}
	return &c.group.recent
}

// ready implements sink, as next, complete and fail do, for the execution.
func (c *catchUp) ready(cursor func() string) { c.to.ready(cursor) }

func (c *catchUp) next(results []result) {
	c.pos = reached(results, c.pos)
	c.to.next(results)
}

func (c *catchUp) complete() {
	c.part()
	c.to.complete()
}

func (c *catchUp) fail(errs gqlerror.List) {
	c.part()
	c.to.fail(errs)
}

// stop implements source.
func (c *catchUp) stop() {
	c.part()
	c.mu.Lock()
	x := c.x
	c.mu.Unlock()
	if x != nil {
		x.stop()
	}
}

// part leaves the group for good.
func (c *catchUp) part() {
	c.mu.Lock()
	c.stopped = true
	g, m := c.group, c.member
	c.group, c.member = nil, nil
	c.release()
	c.mu.Unlock()
	if m != nil {
		m.stop()
	}
	if g != nil {
		g.unvisit()
	}
}

// release lets go of what is held.
func (c *catchUp) release() { c.holding, c.held, c.heldBytes = false, nil, 0 }

// caughtUp looks whether the subscriber can do without the execution: it is
// where the group is. The execution's worker asks after each turn; all says that
// everything that was there when the stream last looked has gone out.
func (c *catchUp) caughtUp(kept live.Kept, all bool) bool {
	if !kept.Near() {
		return false
	}
	if c.pos == (live.Position{}) {
		c.pos, _ = kept.Start()
	}
	if all && c.pos.Compare(c.past) < 0 { // no event stands between
		c.pos = c.past
	}
	m := c.join()
	if m == nil {
		return false
	}
	if since, ok := m.group.since(m); !ok || c.pos.Compare(since) < 0 {
		return false
	}
	return c.handOver(m)
}

// join takes a place in the group; nil means that there is none.
func (c *catchUp) join() *member {
	c.mu.Lock()
	g, m := c.group, c.member
	c.holding = g != nil // before the group can send anything
	c.mu.Unlock()
	if g == nil || m != nil {
		return m
	}
	m = g.add(holder{c}, Asked{Cursor: c.to.wants().Cursor})
	c.mu.Lock()
	if c.holding && m != nil {
		c.member = m
		c.mu.Unlock()
		return m
	}
	c.release() // the group has ended, or sent too much already, or the subscriber has gone
	c.mu.Unlock()
	if m != nil {
		m.stop()
	}
	return nil
}

// handOver sends what was held and leaves the rest to the group.
func (c *catchUp) handOver(m *member) bool {
	c.order.Lock()
	defer c.order.Unlock()
	c.mu.Lock()
	held := c.held
	c.live = c.member == m // else too much was held meanwhile
	ok := c.live
	if ok {
		c.release()
	}
	c.mu.Unlock()
	if !ok {
		return false
	}
	c.pass(held)
	c.to.pace(false)
	if m.group.at().Compare(c.pos) >= 0 { // nothing up to there is still to go out
		c.makeWay(m)
	}
	c.mu.Lock()
	g := c.group
	c.group, c.x = nil, nil
	c.mu.Unlock()
	if g != nil {
		g.unvisit()
	}
	return true
}

// pass sends on what has not gone out. The caller holds order.
func (c *catchUp) pass(results []result) {
	for len(results) > 0 && results[0].more != nil && results[0].position().Compare(c.pos) <= 0 {
		results = results[1:]
	}
	if len(results) > 0 {
		c.to.next(results)
	}
}

// makeWay gives the place in the group to the subscriber itself.
func (c *catchUp) makeWay(m *member) {
	direct := m.group.replace(m, c.to)
	c.mu.Lock()
	stopped := c.stopped
	if !stopped {
		c.member = direct
	}
	c.mu.Unlock()
	if stopped {
		direct.stop()
	}
}

// hold takes results of the group; it reports whether they have to go on.
func (c *catchUp) hold(results []result) (pass bool) {
	c.mu.Lock()
	if !c.holding {
		defer c.mu.Unlock()
		return c.live
	}
	for _, r := range results {
		c.held = append(c.held, r)
		c.heldBytes += len(r.body)
	}
	if len(c.held) <= live.PageEvents && c.heldBytes <= c.t.cfg.QueueBytes/4 {
		c.mu.Unlock()
		return false
	}
	m := c.member // nil: join finds out
	c.member = nil
	c.release()
	c.mu.Unlock()
	if m != nil {
		m.stop()
	}
	return false
}

// holder is the place of a catchUp in its group.
type holder struct{ *catchUp }

var _ sink = holder{}

// ready wakes the execution: it may be where the group begins.
func (h holder) ready(func() string) { h.wake() }

func (h holder) next(results []result) {
	h.order.Lock()
	defer h.order.Unlock()
	if !h.hold(results) {
		return
	}
	h.pass(results)
	if reached(results, live.Position{}).Compare(h.pos) >= 0 {
		h.mu.Lock()
		m := h.member
		h.mu.Unlock()
		if m != nil {
			h.makeWay(m)
		}
	}
}

func (h holder) complete() {
	if h.orphan() {
		h.to.complete()
	}
}

func (h holder) fail(errs gqlerror.List) {
	if h.orphan() {
		h.to.fail(errs)
	}
}

// orphan notes that the group has ended; it reports whether the subscriber has
// to hear of it. Else its own execution goes on.
func (h holder) orphan() bool {
	h.order.Lock()
	defer h.order.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.live {
		h.group, h.member = nil, nil
		h.release()
	}
	return h.live
}

// recent are results of the newest events that visitors of a group may need,
// by position. It is bounded in bytes; the first to come are the first to go.
type recent struct {
	limit int

	mu    sync.Mutex
	byPos map[live.Position]result
	order []live.Position
	bytes int
}

// get returns the result of an event, if it is there.
func (r *recent) get(p live.Position) (result, bool) {
	if r == nil {
		return result{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	kept, ok := r.byPos[p]
	return kept, ok
}

// put keeps the result of an event of a source that keeps its events, and that
// says nothing else.
func (r *recent) put(kept result) {
	if r == nil || kept.more == nil || kept.more.kept == nil || kept.more.gap != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p := kept.more.pos
	if _, known := r.byPos[p]; known {
		return
	}
	if r.byPos == nil {
		r.byPos = make(map[live.Position]result)
	}
	r.byPos[p] = kept
	r.order = append(r.order, p)
	r.bytes += len(kept.body) + recentOverhead
	for r.bytes > r.limit && len(r.order) > 1 {
		r.bytes -= len(r.byPos[r.order[0]].body) + recentOverhead
		delete(r.byPos, r.order[0])
		r.order = r.order[1:]
	}
}

// recentOverhead is about what a result takes besides its body.
const recentOverhead = 320

func (r *recent) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byPos, r.order, r.bytes = nil, nil, 0
}
