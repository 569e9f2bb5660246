package presence

import (
	"container/list"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/internal/live"
)

// LocalConfig connects a Local with a directory that gateways share. Both
// functions are nil in a gateway that stands alone.
type LocalConfig struct {
	// Changed is told of a room whose own members changed. It must neither
	// block nor call the Local.
	Changed func(room string)
	// Follow is called before a room is listed or watched, and stop a few
	// seconds after the last interest in it. In between, SetOthers is to be
	// called whenever the room's other members changed. Follow returns when
	// they are known, or when it would take too long.
	Follow func(ctx context.Context, room string) (stop func(), err error)
}

// Local is the directory of one gateway: of the members who entered here, and
// of the others that it is told of.
type Local struct {
	cfg  LocalConfig
	hub  *live.Hub[string, Change]
	news chan struct{} // wakes run
	done chan struct{}
	once sync.Once
	work sync.WaitGroup

	telling sync.Mutex // held while changes are told, for their order; taken before mu

	mu     sync.Mutex
	closed bool
	rooms  map[string]*room
	untold map[string]struct{} // watched rooms that may have changed
	typing list.List           // of *entry, in the order in which it ends
}

// room is kept while it has own members or is open.
type room struct {
	own     map[string]*entry
	order   []*entry // own, in the order of Member.Compare
	others  []Member // in the same order
	open    bool     // Follow was called
	watched bool     // told is kept
	told    []Member // what the subscribers know
}

// entry is a member who entered here.
type entry struct {
	Member
	room   string
	held   int           // calls of Enter that were not left
	until  time.Time     // when typing ends
	typing *list.Element // nil: does not type
}

var _ Directory = (*Local)(nil)

// NewMemory makes the directory of a gateway that stands alone.
func NewMemory() *Local { return NewLocal(LocalConfig{}) }

// NewLocal makes a Local.
func NewLocal(cfg LocalConfig) *Local {
	if cfg.Changed == nil {
		cfg.Changed = func(string) {}
	}
	if cfg.Follow == nil {
		cfg.Follow = func(context.Context, string) (func(), error) { return func() {}, nil }
	}
	l := &Local{
		cfg:    cfg,
		news:   make(chan struct{}, 1),
		done:   make(chan struct{}),
		rooms:  make(map[string]*room),
		untold: make(map[string]struct{}),
	}
	l.hub = live.NewHub(live.HubConfig[string, Change]{Open: l.open, Size: Change.size})
	l.work.Go(l.run)
	return l
}

// Enter implements Directory.
func (l *Local) Enter(roomName, id, name string) (leave func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, live.ErrHubClosed
	}
	r := l.room(roomName)
	e := r.own[id]
	if e == nil {
		since := time.UnixMilli(time.Now().UnixMilli()).UTC()
		e = &entry{Member: Member{ID: id, Name: name, Since: since}, room: roomName}
		r.own[id] = e
		i, _ := r.find(e)
		r.order = slices.Insert(r.order, i, e)
		l.changed(roomName)
	}
	e.held++
	return sync.OnceFunc(func() { l.leave(e) }), nil
}

func (l *Local) leave(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.held--
	if e.held > 0 {
		return
	}
	if e.typing != nil {
		l.typing.Remove(e.typing)
	}
	r := l.rooms[e.room]
	delete(r.own, e.ID)
	if i, found := r.find(e); found {
		r.order = slices.Delete(r.order, i, i+1)
	}
	l.changed(e.room)
	l.forget(e.room)
}

// SetTyping implements Directory.
func (l *Local) SetTyping(roomName, id string, typing bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var e *entry
	if r := l.rooms[roomName]; r != nil {
		e = r.own[id]
	}
	switch {
	case e == nil:
		return live.Errorf(CodeRequired, "Only who is in room %.40q can type there: enter it first.", roomName)
	case !typing:
		l.stopTyping(e)
		return nil
	}
	e.until = time.Now().Add(TypingFor)
	if e.typing != nil {
		l.typing.MoveToBack(e.typing)
		return nil
	}
	e.typing = l.typing.PushBack(e)
	e.Typing = true
	l.changed(roomName)
	return nil
}

// stopTyping is called with the lock held.
func (l *Local) stopTyping(e *entry) {
	if e.typing != nil {
		l.typing.Remove(e.typing)
		e.typing, e.Typing = nil, false
		l.changed(e.room)
	}
}

// List implements Directory.
func (l *Local) List(ctx context.Context, room string) ([]Member, error) {
	q, err := l.hub.Subscribe(ctx, room)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.rooms[room]; r != nil {
		return r.view(), nil
	}
	return nil, nil // closed meanwhile
}

// Watch implements Directory.
func (l *Local) Watch(ctx context.Context, room string) (live.Sub[Change], error) {
	q, err := l.hub.Subscribe(ctx, room)
	if err != nil {
		return nil, err
	}
	// What happened before now is for those who watched before.
	l.telling.Lock()
	defer l.telling.Unlock()
	l.tell(room)
	var before [64]live.Event[Change]
	for n := 1; n > 0; {
		n, _ = q.Next(before[:])
	}
	return q, nil
}

// Own lists the members who entered a room here, in the order of
// Member.Compare: the first MaxMembers, since no others can be listed anywhere.
func (l *Local) Own(room string) []Member {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.rooms[room]; r != nil {
		return r.first()
	}
	return nil
}

// Rooms lists the rooms that have own members.
func (l *Local) Rooms() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for name, r := range l.rooms {
		if len(r.own) > 0 {
			names = append(names, name)
		}
	}
	return names
}

// SetOthers says who is in a room at other gateways, in the order of
// Member.Compare. The Local keeps the slice, and drops it when the room is not
// followed any more.
func (l *Local) SetOthers(room string, others []Member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.rooms[room]; r != nil && r.open {
		r.others = others
		l.look(room)
	}
}

// Close implements Directory.
func (l *Local) Close() error {
	l.once.Do(func() {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		l.hub.Close() // releases a Push that waits for a full queue
		close(l.done)
		l.work.Wait()
	})
	return nil
}

// open is the hub's: it begins to follow a room.
func (l *Local) open(ctx context.Context, name string) (stop func(), err error) {
	l.mu.Lock()
	l.room(name).open = true
	l.mu.Unlock()
	unfollow, err := l.cfg.Follow(ctx, name)
	stop = func() {
		if unfollow != nil {
			unfollow()
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		r := l.rooms[name]
		r.open, r.watched, r.others, r.told = false, false, nil, nil
		l.forget(name)
	}
	if err != nil {
		stop()
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rooms[name]
	r.watched, r.told = true, r.view()
	return stop, nil
}

// room is called with the lock held.
func (l *Local) room(name string) *room {
	r := l.rooms[name]
	if r == nil {
		r = &room{own: make(map[string]*entry)}
		l.rooms[name] = r
	}
	return r
}

// forget drops a room that nothing is known about. The caller holds the lock.
func (l *Local) forget(name string) {
	if r := l.rooms[name]; len(r.own) == 0 && !r.open {
		delete(l.rooms, name)
	}
}

// changed notes that own members of a room changed. The caller holds the lock.
func (l *Local) changed(name string) {
	l.cfg.Changed(name)
	l.look(name)
}

// look makes run look at a room. The caller holds the lock.
func (l *Local) look(name string) {
	if l.rooms[name].watched {
		l.untold[name] = struct{}{}
	}
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// run tells changes and ends typing until Close.
func (l *Local) run() {
	var typingEnds <-chan time.Time
	for {
		select {
		case <-l.news:
		case <-typingEnds:
		case <-l.done:
			return
		}
		typingEnds = l.endTyping()
		l.tellAll()
	}
}

// endTyping stops those who did not say again that they type, and returns what
// to wait for until the next may be due; nil: nobody types.
func (l *Local) endTyping() <-chan time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	for first := l.typing.Front(); first != nil; first = l.typing.Front() {
		e := first.Value.(*entry)
		if left := time.Until(e.until); left > 0 {
			return time.After(left)
		}
		l.stopTyping(e)
	}
	return nil
}

func (l *Local) tellAll() {
	l.telling.Lock()
	defer l.telling.Unlock()
	l.mu.Lock()
	var names []string
	for name := range l.untold {
		names = append(names, name)
	}
	l.mu.Unlock()
	for _, name := range names {
		l.tell(name)
	}
}

// tell tells the subscribers of a room how it differs from what they know. The
// caller holds telling.
func (l *Local) tell(name string) {
	l.mu.Lock()
	delete(l.untold, name)
	r := l.rooms[name]
	if r == nil || !r.watched {
		l.mu.Unlock()
		return
	}
	before, after := r.told, r.view()
	r.told = after
	l.mu.Unlock()
	now := time.Now()
	for _, c := range differences(before, after) {
		c.Room, c.At = name, now
		l.hub.Publish(name, live.Event[Change]{Value: c})
	}
}

// differences says what makes one view of a room into another: who left comes
// first, so that someone who left and entered again is there in the end.
func differences(before, after []Member) []Change {
	var left, rest []Change
	for len(before) > 0 || len(after) > 0 {
		if len(before) > 0 && len(after) > 0 && before[0] == after[0] { // nearly always
			before, after = before[1:], after[1:]
			continue
		}
		switch c := compareFirst(before, after); {
		case c < 0:
			left = append(left, Change{Kind: Left, Member: before[0]})
			left[len(left)-1].Member.Typing = false
			before = before[1:]
		case c > 0:
			rest = append(rest, Change{Kind: Joined, Member: after[0]})
			after = after[1:]
		default:
			switch {
			case !before[0].Typing && after[0].Typing:
				rest = append(rest, Change{Kind: Typing, Member: after[0]})
			case before[0].Typing && !after[0].Typing:
				rest = append(rest, Change{Kind: StoppedTyping, Member: after[0]})
			}
			before, after = before[1:], after[1:]
		}
	}
	return append(left, rest...)
}

// compareFirst compares the first members of two lists of which one may be
// empty.
func compareFirst(a, b []Member) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return a[0].Compare(b[0])
}

// first lists the first MaxMembers of the own members.
func (r *room) first() []Member {
	own := make([]Member, min(len(r.order), MaxMembers))
	for i := range own {
		own[i] = r.order[i].Member
	}
	return own
}

// view lists the first MaxMembers of own and others together.
func (r *room) view() []Member {
	own, others := r.first(), r.others
	if len(others) == 0 {
		return own
	}
	view := make([]Member, 0, min(len(own)+len(others), MaxMembers))
	for len(view) < MaxMembers && (len(own) > 0 || len(others) > 0) {
		c := compareFirst(own, others)
		if c <= 0 {
			view, own = append(view, own[0]), own[1:]
		} else {
			view = append(view, others[0])
		}
		if c >= 0 { // an own member whom others still remember is one, not two
			others = others[1:]
		}
	}
	return view
}

// find says where an own member is in the order, or would be.
func (r *room) find(e *entry) (int, bool) {
	return slices.BinarySearchFunc(r.order, e, func(a, b *entry) int { return a.Compare(b.Member) })
}
