package bridges

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/internal/live"
)

// AtMost is the message as told to a subscriber who asked for a quality of
// service: with the lower of the two. It is a copy where they differ.
func (m *Message) AtMost(qos QoS) *Message {
	if m.QoS <= qos {
		return m
	}
	lower := *m
	lower.QoS = qos
	return &lower
}

// MemoryConfig is what a Memory needs. Zero fields take the defaults in
// brackets.
type MemoryConfig struct {
	Limits TopicLimits   // [DefaultTopicLimits]
	Queue  live.Limit    // bound of each subscriber's queue [live.Limit's]
	Linger time.Duration // how long an upstream outlives its last subscriber [5 s]
}

// Memory is a Bridge and its broker in one, for tests and demos. Topics,
// filters and retained messages are MQTT's. It never goes away, and a
// publication is acknowledged once it is in the queue of every subscriber.
type Memory struct {
	limits TopicLimits
	since  time.Time
	hub    *live.Hub[string, *Message] // key: the filter

	// mu makes publications follow one another, so that all subscribers see
	// them in one order. It is held while a publication waits for a full queue.
	mu       sync.Mutex
	retained map[string]*Message // by topic
	closed   bool
}

var _ Bridge = (*Memory)(nil)

// NewMemory makes a bridge without a broker.
func NewMemory(cfg MemoryConfig) *Memory {
	if cfg.Limits == (TopicLimits{}) {
		cfg.Limits = DefaultTopicLimits
	}
	return &Memory{
		limits:   cfg.Limits,
		since:    time.Now(),
		retained: make(map[string]*Message),
		hub: live.NewHub(live.HubConfig[string, *Message]{
			Open:   func(context.Context, string) (func(), error) { return func() {}, nil },
			Size:   (*Message).Size,
			Linger: cfg.Linger,
			Limit:  cfg.Queue,
		}),
	}
}

// Mark puts a gap before the next message of every subscription, as an outage
// of a broker would.
func (b *Memory) Mark(gap live.Gap) { b.hub.Mark(gap) }

// Kind implements Bridge.
func (b *Memory) Kind() Kind { return KindMemory }

// Status implements Bridge.
func (b *Memory) Status() Status { return Status{State: Connected, Since: b.since} }

// Upstreams implements Bridge.
func (b *Memory) Upstreams() []string {
	filters := b.hub.Keys()
	slices.Sort(filters)
	return filters
}

// Subscribe implements Bridge.
func (b *Memory) Subscribe(ctx context.Context, filter string, qos QoS) (live.Sub[*Message], error) {
	if err := b.limits.CheckFilter(filter); err != nil {
		return nil, err
	}
	b.mu.Lock() // between the subscription and its retained messages nothing is published
	defer b.mu.Unlock()
	q, err := b.hub.Subscribe(ctx, filter)
	if err != nil {
		return nil, err
	}
	for topic, m := range b.retained {
		if MatchMQTT(filter, topic) {
			q.Push(live.Event[*Message]{Value: m}, m.Size())
		}
	}
	return &memorySub{q, qos}, nil
}

// Publish implements Bridge. Receipt.Receivers is the number of subscriptions.
func (b *Memory) Publish(ctx context.Context, p Publication) (Receipt, error) {
	if err := b.limits.CheckTopic(p.Topic); err != nil {
		return Receipt{}, err
	}
	if err := ctx.Err(); err != nil {
		return Receipt{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return Receipt{}, Unavailable(KindMemory, live.ErrHubClosed)
	}
	m := &Message{Topic: p.Topic, Payload: slices.Clone(p.Payload), QoS: p.QoS, ReceivedAt: time.Now()}
	if p.Retain {
		b.retain(*m)
	}
	receivers := 0
	for _, filter := range b.hub.Keys() {
		if MatchMQTT(filter, p.Topic) {
			receivers += b.hub.Publish(filter, live.Event[*Message]{Value: m})
		}
	}
	return Receipt{AcknowledgedAt: time.Now(), Receivers: receivers}, nil
}

// retain keeps a message for newcomers; an empty one deletes what was kept
// (MQTT 3.1.1, section 3.3.1.3).
func (b *Memory) retain(m Message) {
	if len(m.Payload) == 0 {
		delete(b.retained, m.Topic)
		return
	}
	m.Retained = true
	b.retained[m.Topic] = &m
}

// Close implements Bridge.
func (b *Memory) Close() error {
	b.hub.Close() // first: it releases a Publish that waits for a full queue
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// memorySub tells its subscriber the QoS that it asked for, or the lower one.
type memorySub struct {
	live.Sub[*Message]
	qos QoS
}

func (s *memorySub) Next(buf []live.Event[*Message]) (n int, open bool) {
	n, open = s.Sub.Next(buf)
	for i := range buf[:n] {
		buf[i].Value = buf[i].Value.AtMost(s.qos)
	}
	return n, open
}
