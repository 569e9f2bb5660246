package mqttbridge

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
)

const (
	// together is how long newcomers of a filter that is subscribed already
	// are gathered before it is subscribed again for the retained messages.
	together = 50 * time.Millisecond
	// retainedWait is how long after the broker's answer, or after the latest
	// retained message, more retained messages may come. Brokers answer first
	// and send them right after, but no more at once than their window of
	// unacknowledged messages holds.
	retainedWait = 5 * time.Second
	// maxLosses is how often the connection may be lost over a filter.
	maxLosses = 3
)

// filter is one upstream.
type filter struct {
	name string
	wild bool
	subs []*subscription // copied on write, for the dispatcher

	asked   bridges.QoS // the highest that a subscriber asked for
	want    bridges.QoS // asked, or more for the sake of an overlapping filter
	sent    bool        // on this connection
	granted bool        // on this connection
	losses  int         // connections lost, one after the other, before the broker answered for it

	next *answer   // of the SUBSCRIBE that is due; nil: none is
	when time.Time // it is due

	newcomers []*subscription   // those that wait for retained messages
	latest    map[string]uint64 // for them: when each topic was last seen, in messages
}

// answer is the broker's answer to a SUBSCRIBE. A nil answer is there already.
type answer struct {
	done chan struct{}
	err  error // readable once done is closed
}

func (a *answer) release(err error) {
	if a != nil {
		a.err = err
		close(a.done)
	}
}

func (a *answer) wait(ctx context.Context) error {
	if a == nil {
		return nil
	}
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// asking is a filter in a SUBSCRIBE that is being sent.
type asking struct {
	filter *filter
	qos    bridges.QoS
	answer *answer
}

// leaving is a filter that wants an UNSUBSCRIBE.
type leaving struct {
	name string
	done chan struct{} // closed when it was sent and answered, or needs not be
}

// open implements live.HubConfig.Open. The first subscriber sends for it.
func (b *Bridge) open(_ context.Context, name string) (func(), error) {
	f := &filter{name: name, wild: strings.ContainsAny(name, "+#")}
	b.mu.Lock()
	b.filters.add(f)
	b.mu.Unlock()
	return func() { b.remove(f) }, nil
}

// remove forgets a filter and waits until the broker has, so that a new
// SUBSCRIBE cannot overtake.
func (b *Bridge) remove(f *filter) {
	b.mu.Lock()
	b.filters.remove(f)
	b.due = slices.DeleteFunc(b.due, func(other *filter) bool { return other == f })
	f.next.release(nil)
	f.next = nil
	if b.conn == nil || !f.sent || b.ctx.Err() != nil {
		b.mu.Unlock()
		return
	}
	l := leaving{f.name, make(chan struct{})}
	b.leaving = append(b.leaving, l)
	b.wakeRun()
	b.mu.Unlock()
	select {
	case <-l.done:
	case <-b.ctx.Done():
	}
}

// join makes s a subscriber and newcomer of its filter. The answer is what it
// has to wait for.
func (b *Bridge) join(s *subscription) (*answer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.filters.get(s.filter)
	if f == nil { // the hub was closed in between
		return nil, live.ErrHubClosed
	}
	if f.losses >= maxLosses {
		return nil, errRefused(f.name)
	}
	b.joined++
	s.id, s.since, s.arrived = b.joined, time.Now(), b.arrived
	f.subs = append(f.subs[:len(f.subs):len(f.subs)], s)
	f.newcomers = append(f.newcomers, s)
	raised := b.ask(f, s.qos)
	switch {
	case b.conn == nil:
		return nil, nil // the next connection subscribes to every filter
	case !f.sent || raised:
		return b.schedule(f, 0), nil
	case f.granted:
		b.schedule(f, together)
		return nil, nil
	default: // in a SUBSCRIBE that awaits its answer: the next one tells as well
		return b.schedule(f, 0), nil
	}
}

func (b *Bridge) leave(s *subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.filters.get(s.filter)
	if f == nil {
		return
	}
	f.subs = without(f.subs, s)
	f.newcomers = without(f.newcomers, s)
	f.forget()
}

// ask raises the QoS of a filter and of those that overlap it, and reports
// whether the filter itself was raised.
func (b *Bridge) ask(f *filter, qos bridges.QoS) (raised bool) {
	first := len(f.subs) == 1
	if !first && qos <= f.asked {
		return false
	}
	f.asked = max(f.asked, qos)
	want := f.asked
	for g := range b.filters.overlapping(f) {
		want = max(want, g.asked)
		if g.want < f.asked {
			g.want = f.asked
			if g.sent {
				b.schedule(g, 0)
			}
		}
	}
	raised = want > f.want
	f.want = max(f.want, want)
	return raised
}

// schedule has the filter subscribed after a delay, unless it is sooner.
func (b *Bridge) schedule(f *filter, delay time.Duration) *answer {
	when := time.Now().Add(delay)
	switch {
	case f.next == nil:
		f.next = &answer{done: make(chan struct{})}
		f.when = when
		b.due = append(b.due, f)
	case when.Before(f.when):
		f.when = when
	}
	b.wakeRun()
	return f.next
}

func (b *Bridge) wakeRun() {
	select {
	case b.kick <- struct{}{}:
	default: // it will look anyway
	}
}

// takeDue takes the filters to subscribe to now, or says how long to wait for
// the first; 0: there is none. A filter over which a connection was lost comes
// last and alone: it may have been to blame.
func (b *Bridge) takeDue(now time.Time) (due []asking, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var suspect *filter
	b.due = slices.DeleteFunc(b.due, func(f *filter) bool {
		left := f.when.Sub(now)
		switch {
		case left > 0:
			if wait == 0 || left < wait {
				wait = left
			}
			return false
		case f.losses > 0:
			suspect = f
			return false
		case len(due) == batch:
			return false
		}
		due = append(due, f.takeNext())
		return true
	})
	if len(due) == 0 && suspect != nil {
		b.due = slices.DeleteFunc(b.due, func(f *filter) bool { return f == suspect })
		due = append(due, suspect.takeNext())
	}
	return due, wait
}

func (f *filter) takeNext() asking {
	a := asking{filter: f, qos: f.want, answer: f.next}
	f.next, f.sent = nil, true
	for _, s := range f.newcomers {
		s.asked = true
	}
	return a
}

func (b *Bridge) takeLeaving() []leaving {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.leaving), batch)
	gone := b.leaving[:n:n]
	b.leaving = b.leaving[n:]
	return gone
}

// startWaiting sets how long those for whom the filter was subscribed wait.
func (f *filter) startWaiting(until time.Time) {
	for _, s := range f.newcomers {
		if s.asked && s.until.IsZero() {
			s.until = until
		}
	}
}

// saw notes a live message: newcomers have no use for an older one.
func (f *filter) saw(m *bridges.Message, arrived uint64) {
	if len(f.newcomers) == 0 {
		return
	}
	if !f.wild { // the only topic there is
		f.newcomers = nil
		return
	}
	if f.latest == nil {
		f.latest = make(map[string]uint64)
	}
	f.latest[m.Topic] = arrived
}

// takeRetained appends the newcomers that want this retained message.
func (f *filter) takeRetained(to []*subscription, m *bridges.Message, arrived uint64) []*subscription {
	f.newcomers = slices.DeleteFunc(f.newcomers, func(s *subscription) bool {
		return !s.until.IsZero() && m.ReceivedAt.After(s.until)
	})
	for _, s := range f.newcomers {
		if f.latest[m.Topic] <= s.arrived {
			to = append(to, s)
			s.until = later(s.until, m.ReceivedAt.Add(retainedWait))
		}
	}
	f.saw(m, arrived)
	f.forget()
	return to
}

// forget lets go of what only newcomers needed.
func (f *filter) forget() {
	if len(f.newcomers) == 0 {
		f.latest = nil
	}
}

// filters is an index by topic: exact ones by name, the others one by one.
type filters struct {
	exact map[string]*filter
	wild  map[string]*filter
}

func newFilters() filters {
	return filters{exact: make(map[string]*filter), wild: make(map[string]*filter)}
}

func (x filters) of(f *filter) map[string]*filter {
	if f.wild {
		return x.wild
	}
	return x.exact
}

func (x filters) add(f *filter)    { x.of(f)[f.name] = f }
func (x filters) remove(f *filter) { delete(x.of(f), f.name) }

func (x filters) get(name string) *filter {
	if f := x.exact[name]; f != nil {
		return f
	}
	return x.wild[name]
}

func (x filters) all() iter.Seq[*filter] {
	return func(yield func(*filter) bool) {
		for _, set := range []map[string]*filter{x.exact, x.wild} {
			for _, f := range set {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// matching yields the filters that a topic matches.
func (x filters) matching(topic string) iter.Seq[*filter] {
	return func(yield func(*filter) bool) {
		if f := x.exact[topic]; f != nil && !yield(f) {
			return
		}
		for _, f := range x.wild {
			if bridges.MatchMQTT(f.name, topic) && !yield(f) {
				return
			}
		}
	}
}

// overlapping yields the other filters that some topic matches together with f.
func (x filters) overlapping(f *filter) iter.Seq[*filter] {
	return func(yield func(*filter) bool) {
		if f.wild { // exact filters never overlap each other
			for _, g := range x.exact {
				if bridges.MatchMQTT(f.name, g.name) && !yield(g) {
					return
				}
			}
		}
		for _, g := range x.wild {
			if g != f && overlap(f.name, g.name) && !yield(g) {
				return
			}
		}
	}
}

// overlap reports whether some topic matches both filters.
func overlap(a, b string) bool {
	if wildFirst(a) && strings.HasPrefix(b, "$") || wildFirst(b) && strings.HasPrefix(a, "$") {
		return false // section 4.7.2
	}
	for {
		l, arest, amore := strings.Cut(a, "/")
		m, brest, bmore := strings.Cut(b, "/")
		switch {
		case l == "#" || m == "#":
			return true
		case l != m && l != "+" && m != "+":
			return false
		case !amore && !bmore:
			return true
		case !amore:
			return brest == "#" // "a/#" also matches "a" (section 4.7.1.2)
		case !bmore:
			return arest == "#"
		}
		a, b = arest, brest
	}
}

func wildFirst(filter string) bool { return filter[0] == '+' || filter[0] == '#' }

// without copies a list, leaving out s.
func without(list []*subscription, s *subscription) []*subscription {
	i := slices.Index(list, s)
	if i < 0 {
		return list
	}
	return slices.Concat(list[:i], list[i+1:])
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
