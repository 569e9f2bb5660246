package eventlog

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/internal/live"
)

// Memory is a Store that ends with the process. Make it with NewMemory.
type Memory struct {
	retention Retention
	now       func() time.Time
	identity  Identity
	grown     func(string)

	mu        sync.Mutex
	topics    map[string]*memoryTopic
	last      live.Position // of the newest entry of all topics
	forgotten live.Position // of the newest entry of the topics that have become empty
	swept     time.Time     // when all topics were last trimmed
}

type memoryTopic struct {
	entries []*Entry // oldest first
	ids     map[string]*Entry
	trimmed live.Position // of the newest entry that is gone
}

var _ Store = (*Memory)(nil)

// NewMemory makes an empty store. now is the clock [time.Now].
func NewMemory(retention Retention, now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	m := &Memory{
		retention: retention.WithDefaults(), now: now, grown: func(string) {},
		topics: make(map[string]*memoryTopic), last: NextPosition(live.Position{}, now()),
	}
	_, _ = rand.Read(m.identity.ID[:]) // never fails: see crypto/rand
	_, _ = rand.Read(m.identity.Key[:])
	return m
}

// Append implements Store.
func (m *Memory) Append(_ context.Context, d Draft) (*Entry, bool, error) {
	m.mu.Lock()
	m.sweep()
	m.trim(d.Topic)
	t := m.topics[d.Topic]
	if t == nil {
		t = &memoryTopic{ids: make(map[string]*Entry), trimmed: m.forgotten}
		m.topics[d.Topic] = t
	}
	if e := t.ids[d.ID]; d.ID != "" && e != nil {
		m.mu.Unlock()
		return e, false, nil
	}
	m.last = NextPosition(m.last, m.now())
	e := &Entry{ID: d.ID, Time: TimeOf(m.last), Data: slices.Clone(d.Data), Pos: m.last}
	t.entries = append(t.entries, e)
	if d.ID != "" {
		t.ids[d.ID] = e
	}
	m.trim(d.Topic)
	m.mu.Unlock()
	m.grown(d.Topic)
	return e, true, nil
}

// NextPosition is the position of an entry that is appended now, after the
// newest one: also when the clock has been put back.
func NextPosition(newest live.Position, now time.Time) live.Position {
	if ms := uint64(now.UnixMilli()); ms > newest.Hi {
		return live.Position{Hi: ms}
	}
	return live.Position{Hi: newest.Hi, Lo: newest.Lo + 1}
}

// TimeOf is the time of an entry.
func TimeOf(p live.Position) time.Time { return time.UnixMilli(int64(p.Hi)) }

// sweep trims, once a minute, also the topics that nobody uses any longer.
func (m *Memory) sweep() {
	now := m.now()
	if now.Sub(m.swept) < time.Minute {
		return
	}
	m.swept = now
	for topic := range m.topics {
		m.trim(topic)
	}
}

// trim drops what is not to be kept any longer, and the topic with its last
// entry.
func (m *Memory) trim(topic string) {
	t := m.topics[topic]
	if t == nil {
		return
	}
	oldest := m.now().Add(-m.retention.Age)
	n := max(len(t.entries)-m.retention.Events, 0)
	for n < len(t.entries) && t.entries[n].Time.Before(oldest) {
		n++
	}
	for _, e := range t.entries[:n] {
		delete(t.ids, e.ID)
		t.trimmed = e.Pos
	}
	t.entries = slices.Delete(t.entries, 0, n)
	if len(t.entries) == 0 {
		delete(m.topics, topic)
		m.forgotten = later(m.forgotten, t.trimmed)
	}
}

// Read implements Store.
func (m *Memory) Read(_ context.Context, topic string, after live.Position, limit int) ([]*Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trim(topic)
	t := m.topics[topic]
	if t == nil {
		t = &memoryTopic{trimmed: m.forgotten}
	}
	if after.Compare(t.trimmed) < 0 {
		return nil, &live.Trimmed{Through: t.trimmed}
	}
	i := t.after(after)
	return slices.Clone(t.entries[i:min(i+limit, len(t.entries))]), nil
}

// after is the index of the first entry after a position.
func (t *memoryTopic) after(p live.Position) int {
	i, found := slices.BinarySearchFunc(t.entries, p, func(e *Entry, p live.Position) int { return e.Pos.Compare(p) })
	if found {
		i++
	}
	return i
}

// Before implements Store.
func (m *Memory) Before(_ context.Context, topic string, before live.Position, limit int) ([]*Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trim(topic)
	t := m.topics[topic]
	if t == nil {
		return nil, nil
	}
	end := len(t.entries)
	if before != (live.Position{}) {
		end, _ = slices.BinarySearchFunc(t.entries, before, func(e *Entry, p live.Position) int { return e.Pos.Compare(p) })
	}
	return slices.Clone(t.entries[max(end-limit, 0):end]), nil
}

// Head implements Store.
func (m *Memory) Head(context.Context, string) (live.Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last, nil
}

// Identity implements Store.
func (m *Memory) Identity(context.Context) (Identity, error) { return m.identity, nil }

// Hold implements Store: nobody else shares the store.
func (m *Memory) Hold(context.Context, string, time.Duration) (bool, error) { return true, nil }

// Retention implements Store.
func (m *Memory) Retention() Retention { return m.retention }

// Watch implements Store.
func (m *Memory) Watch(grown func(topic string), _ func()) { m.grown = grown }

// Close implements Store: there is nothing to close, and calls go on to work.
func (m *Memory) Close() error { return nil }

func later(p, q live.Position) live.Position {
	if p.Compare(q) < 0 {
		return q
	}
	return p
}
