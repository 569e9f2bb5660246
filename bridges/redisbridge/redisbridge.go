// Package redisbridge turns Redis channels, patterns and streams into
// subscriptions.
//
// One connection carries every subscription of channels, channels and patterns alike, and
// each name is subscribed once however many listen. Subscribe returns when
// Redis has confirmed the name. Names that are asked for together travel
// together, so that 20,000 subscribers do not cost 20,000 round trips.
//
// Order: messages of a channel reach each subscriber in publish order. A
// message that matches a channel and a pattern is delivered once to each.
//
// Buffering: one goroutine reads the connection and puts messages into the
// subscribers' bounded queues (live.Queue). While a queue is full it reads no
// further; what Redis has to say waits in the kernel and then in Redis itself,
// which cuts a connection that lags too far behind (by default 32 MB). Being
// cut is a gap.
//
// Endings: Redis Pub/Sub keeps nothing, so whatever was published without a
// connection is lost. A lost connection ends no subscription. It is replaced,
// every name is subscribed again, and the next message carries an OUTAGE gap.
// A connection that is silent although it was sent a PING is lost too. A name
// that Redis refuses ends the subscriptions of that name alone, with
// TOPIC_REFUSED. Close ends all.
//
// Streams keep their entries, so their subscribers lose nothing while Redis is
// away: live.Tail reads on from where each of them is. One more connection
// waits for streams to grow.
//
// Goroutines: two per bridge for channels, one reading and one writing; one that
// follows streams, and those of live.Tail. Close waits for all.
package redisbridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/redisclient"
)

// Config is what a Bridge needs. Zero fields take the defaults in brackets.
type Config struct {
	// URL of the server: redis://user:password@host:port/database, rediss:// for
	// TLS, unix:///path/to/socket [redis://localhost:6379]. Streams are in the
	// database; channels know none.
	URL    string
	Logger *slog.Logger        // [discards]
	Limits bridges.TopicLimits // [bridges.DefaultTopicLimits]
	// Linger is how long a name without subscribers stays subscribed [5 s].
	Linger time.Duration
	// Queue bounds what waits for each subscriber [live.Limit's defaults].
	Queue live.Limit
	// OnStatus is told of every change of Status, in order. It must neither
	// block nor call the bridge [nobody is told].
	OnStatus func(bridges.Status)
	// StreamCursor names a position of a stream to clients [the id].
	StreamCursor func(stream string, p live.Position) string
	// PingEvery is how often Redis is asked whether it is there [5 s].
	PingEvery time.Duration
	// PongWithin is how long it may take to answer [3 s].
	PongWithin time.Duration
}

func (c Config) withDefaults() Config {
	if c.URL == "" {
		c.URL = "redis://localhost:6379"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Limits == (bridges.TopicLimits{}) {
		c.Limits = bridges.DefaultTopicLimits
	}
	if c.StreamCursor == nil {
		c.StreamCursor = func(_ string, p live.Position) string { return streamID(p) }
	}
	if c.PingEvery == 0 {
		c.PingEvery = 5 * time.Second
	}
	if c.PongWithin == 0 {
		c.PongWithin = 3 * time.Second
	}
	return c
}

// confirmWithin bounds the wait for a subscription's confirmation. A server
// that answers nothing at all is given up sooner; this is for one that answers
// while a full queue keeps us from hearing it.
const confirmWithin = 10 * time.Second

var errUnconfirmed = &live.Error{
	Code:    bridges.CodeUpstreamUnavailable,
	Message: "Redis did not confirm the subscription within " + confirmWithin.String() + ". Try again in a moment.",
}

// key is what Redis can be asked for. A channel and a pattern of the same name
// are two things.
type key struct {
	name    string
	pattern bool
}

// Bridge is a Redis server. Make one with New.
type Bridge struct {
	cfg    Config
	opts   *redis.Options
	hub    *live.Hub[key, *bridges.Message]
	tail   *live.Tail[string, *bridges.StreamEntry] // key: the stream
	cancel context.CancelFunc
	work   sync.WaitGroup
	tried  chan struct{} // closed when the first connection was made or failed

	follower *follower

	mu      sync.Mutex
	closed  bool
	status  bridges.Status
	session *session         // nil: no connection
	away    bool             // no connection, and not about to make the first
	whole   time.Time        // when all that was held was last known to arrive
	held    map[key]*request // what Redis is to send, by its newest request
}

var (
	_ bridges.Bridge  = (*Bridge)(nil)
	_ bridges.Streams = (*Bridge)(nil)
)

// New starts a bridge to a Redis server and reports a URL that is not one. It
// does not wait for the server: that may come later, and go and come back.
func New(cfg Config) (*Bridge, error) {
	cfg = cfg.withDefaults()
	opts, err := redisclient.Options(cfg.URL, bridges.PublishTimeout, publishers)
	if err != nil {
		return nil, fmt.Errorf("redisbridge: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &Bridge{
		cfg:    cfg,
		opts:   opts,
		cancel: cancel,
		tried:  make(chan struct{}),
		status: bridges.Status{State: bridges.Connecting, Since: time.Now()},
		held:   make(map[key]*request),
	}
	b.hub = live.NewHub(live.HubConfig[key, *bridges.Message]{
		Open:   b.open,
		Size:   (*bridges.Message).Size,
		Linger: cfg.Linger,
		Limit:  cfg.Queue,
	})
	b.follower = newFollower(b)
	b.tail = live.NewTail(live.TailConfig[string, *bridges.StreamEntry]{
		Archive: &archive{bridge: b},
		Cursor:  cfg.StreamCursor,
		Follow:  b.follower.follow,
		Size:    (*bridges.StreamEntry).Size,
		Logger:  cfg.Logger,
	})
	b.follower.grown = b.tail.Grown
	b.work.Go(func() { b.run(ctx) })
	b.work.Go(func() { b.follower.run(ctx) })
	return b, nil
}

// Kind implements bridges.Bridge.
func (b *Bridge) Kind() bridges.Kind { return bridges.KindRedis }

// Status implements bridges.Bridge. The state is Connected once everything
// that is subscribed arrives again, not as soon as there is a connection. Only
// names that were asked for together with one that Redis has come to refuse
// take a few round trips longer.
func (b *Bridge) Status() bridges.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}

// setState records a change of state. The caller holds the lock.
func (b *Bridge) setState(state bridges.State) {
	b.status = bridges.Status{State: state, Since: time.Now()}
	if b.cfg.OnStatus != nil {
		b.cfg.OnStatus(b.status)
	}
}

// Upstreams implements bridges.Bridge; patterns, and streams that are followed,
// are among the names.
func (b *Bridge) Upstreams() []string {
	streams := b.follower.names()
	b.mu.Lock()
	defer b.mu.Unlock()
	names := append(make([]string, 0, len(b.held)+len(streams)), streams...)
	for k, r := range b.held {
		if !r.refused() {
			names = append(names, k.name)
		}
	}
	slices.Sort(names)
	return names
}

// Subscribe opens a stream of the messages of one channel, as described by
// bridges.Bridge. Redis delivers at most once, whatever the QoS.
func (b *Bridge) Subscribe(ctx context.Context, channel string, _ bridges.QoS) (live.Sub[*bridges.Message], error) {
	return b.subscribe(ctx, key{name: channel})
}

// SubscribePattern opens a stream of the messages of all channels that match a
// pattern, in the syntax of bridges.MatchRedis. Everything else is as with
// Subscribe.
func (b *Bridge) SubscribePattern(ctx context.Context, pattern string) (live.Sub[*bridges.Message], error) {
	return b.subscribe(ctx, key{name: pattern, pattern: true})
}

func (b *Bridge) subscribe(ctx context.Context, k key) (live.Sub[*bridges.Message], error) {
	if err := b.cfg.Limits.CheckChannel(k.name); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, confirmWithin, errUnconfirmed)
	defer cancel()
	q, err := b.hub.Subscribe(ctx, k)
	if err != nil {
		return nil, causeOf(ctx, err)
	}
	if err := b.confirmed(ctx, k); err != nil {
		q.Close()
		return nil, causeOf(ctx, err)
	}
	return q, nil
}

// causeOf prefers the reason why a wait was cut short to the fact.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	return err
}

// open is the hub's: it asks Redis for a name and waits for the answer. It
// does not wait while Redis is away.
func (b *Bridge) open(ctx context.Context, k key) (stop func(), err error) {
	b.mu.Lock()
	r := b.hold(k)
	b.mu.Unlock()
	if err := r.wait(ctx); err != nil {
		b.mu.Lock()
		delete(b.held, k)
		b.mu.Unlock()
		return nil, err
	}
	return func() { b.release(k) }, nil
}

// release asks Redis to send a name no more and waits for the answer: messages
// that come before it must not reach a later subscriber, who would take them
// for the beginning of an unbroken stream.
func (b *Bridge) release(k key) {
	b.mu.Lock()
	delete(b.held, k)
	if b.closed || b.session == nil {
		b.mu.Unlock()
		return
	}
	r := &request{key: k, drop: true, done: make(chan struct{})}
	b.session.ask(r)
	b.mu.Unlock()
	<-r.done // at the latest when the connection is lost
}

// hold makes Redis send a name from now on. The caller holds the lock.
func (b *Bridge) hold(k key) *request {
	r := &request{key: k, done: make(chan struct{})}
	b.held[k] = r
	switch {
	case b.session != nil:
		b.session.ask(r)
	case b.away || b.closed:
		r.answer(nil)
	}
	return r
}

// confirmed waits until an upstream that others had opened is sent by Redis.
// The connection may be new, or Redis may have refused the name before.
func (b *Bridge) confirmed(ctx context.Context, k key) error {
	b.mu.Lock()
	r := b.held[k]
	if r != nil && r.refused() {
		r = b.hold(k)
	}
	b.mu.Unlock()
	if r == nil { // closing: the queue says so
		return nil
	}
	return r.wait(ctx)
}

// Publish implements bridges.Bridge. QoS and Retain mean nothing to Redis and
// are ignored. Receivers counts this gateway once for the channel and once for
// each pattern, however many listen here. A message is sent once: a publication that failed half-way is
// not repeated, since that could deliver it twice.
func (b *Bridge) Publish(ctx context.Context, p bridges.Publication) (bridges.Receipt, error) {
	if err := b.cfg.Limits.CheckChannel(p.Topic); err != nil {
		return bridges.Receipt{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, bridges.PublishTimeout)
	defer cancel()
	client, err := b.publisher(ctx)
	if err != nil {
		return bridges.Receipt{}, err
	}
	receivers, err := client.Publish(ctx, p.Topic, p.Payload).Result()
	if err != nil {
		if redis.HasErrorPrefix(err, "NOPERM") {
			return bridges.Receipt{}, refusal("to publish to "+name(key{name: p.Topic}), err)
		}
		return bridges.Receipt{}, bridges.Unavailable(bridges.KindRedis, err)
	}
	return bridges.Receipt{AcknowledgedAt: time.Now(), Receivers: int(receivers)}, nil
}

var errNoConnection = errors.New("redisbridge: no connection")

// waitTried waits until the first connection was made or failed.
func (b *Bridge) waitTried(ctx context.Context) error {
	select {
	case <-b.tried:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// publisher is the client that publishes and reads streams, or an error while
// Redis is away.
func (b *Bridge) publisher(ctx context.Context) (*redis.Client, error) {
	if err := b.waitTried(ctx); err != nil { // right after New
		return nil, bridges.Unavailable(bridges.KindRedis, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, live.ErrHubClosed
	}
	if b.session == nil {
		return nil, bridges.Unavailable(bridges.KindRedis, errNoConnection)
	}
	return b.session.publisher, nil
}

// Close implements bridges.Bridge.
func (b *Bridge) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cancel()
	b.hub.Close() // releases a receive loop that waits for a full queue
	b.work.Wait()
	b.tail.Close() // last: the end of the connections has ended its reads
	return nil
}
