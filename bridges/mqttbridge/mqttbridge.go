// Package mqttbridge brings the topics of an MQTT 3.1.1 broker.
//
// # Order
//
// Everything goes over one connection. One handler puts what arrives into the
// inbox, one dispatcher takes it out, finds the filters that match and pushes
// to their subscribers. So each subscriber gets messages in the order in which
// the broker sent them.
//
// # Buffering
//
// The handler never blocks, or keep-alive would stall with it. The inbox is
// bounded in bytes (Config.QueueBytes). When it is full the oldest messages of
// QoS 0 go, and the subscribers who would have received them are told by a
// gap. Messages of QoS 1 and 2 never go: they stay unacknowledged, and the
// broker sends only so many of those (20 in Mosquitto, 1,024 in mochi).
//
// # Acknowledgements
//
// A message of QoS 1 or 2 is acknowledged once every subscriber is done with it
// (live.Event.Done): it is on its way to the clients, or was given up because
// the subscription was closed, its queue was full, or its reader took nothing
// for Limit.Stall. Acknowledgements go out in the order in which the messages
// came, so the slowest subscriber sets the pace of them, but a stuck one does
// not.
//
// # One copy, highest QoS
//
// A filter has one upstream however many subscribe to it. Filters may overlap,
// as "a/#" and "a/+" do; what brokers then send was measured:
//
//   - mochi 2.7.9 sends one copy of a message, with the highest QoS of the
//     filters that match. MQTT 3.1.1 asks for that (section 3.3.5).
//   - Mosquitto 2.0.11 sends one copy too, but with the QoS of whichever
//     filter it finds first: "a/b" at 0 and "a/#" at 1 yield 0 for "a/b".
//
// So the bridge hands one arrival to the subscribers of every filter that
// matches it, and holds overlapping filters at one QoS: the highest asked for
// while they are open. Each subscriber is told the lower of the message's QoS
// and its own.
//
// The standard lets a broker send a copy per filter. Mosquitto does so when its
// deprecated allow_duplicate_messages is on; copies carry nothing by which to
// tell them from a message that was published twice. Subscribers of overlapping
// filters then get each copy.
//
// # Retained messages
//
// They are never cached, because an update of a retained message looks like
// any other while subscribed. Instead each newcomer has its filter subscribed
// again (newcomers of 50 ms together), upon which brokers send the retained
// messages again, marked as such; these go to newcomers alone. A newcomer gets
// each topic's retained message at most once, and not after a live message of
// that topic: it would be older. A newcomer is one until no retained message
// has come for 5 s. After an outage those who were there before get none.
//
// # Outages
//
// A lost connection ends no subscription. Sessions are clean: an outage is a
// gap for every QoS, told by the next message. Each connection is a paho
// client of its own and the bridge does the reconnecting. A paho client that
// reconnects by itself keeps the packet ids of publications that were never
// acknowledged, sends those again long after the publisher was told of the
// failure, and sleeps where it cannot be stopped.
//
// # Endings
//
// A subscription ends with TOPIC_REFUSED when the broker refuses its filter,
// also after an outage; with live.ErrHubClosed when the bridge is closed; and
// with its own Close. Some brokers refuse a filter by closing the connection:
// one that loses the connection three times, twice of them while alone, is
// taken as refused, or no other filter would ever be served.
package mqttbridge

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
)

// Config is what a Bridge needs. Zero fields take the defaults in brackets.
type Config struct {
	URL        string              // mqtt://[user:password@]host[:port], or tcp, mqtts, ssl, ws, wss
	ClientID   string              // ["sluice-" and 16 random digits]
	TLS        *tls.Config         // for mqtts, ssl and wss [the system's roots]
	Limits     bridges.TopicLimits // [bridges.DefaultTopicLimits]
	QueueBytes int                 // bound of the inbox [4 MiB]
	Queue      live.Limit          // bound of each subscriber's queue [live.Limit's]
	Linger     time.Duration       // how long an upstream outlives its last subscriber [5 s]
	Logger     *slog.Logger        // [discards]

	// OnStatus is told of every change of Status, in order. It must neither
	// block nor call the bridge [nobody is told].
	OnStatus func(bridges.Status)
}

func (c Config) withDefaults() Config {
	if c.ClientID == "" {
		random := make([]byte, 8)
		_, _ = rand.Read(random) // never fails (crypto/rand)
		c.ClientID = "sluice-" + hex.EncodeToString(random)
	}
	if c.Limits == (bridges.TopicLimits{}) {
		c.Limits = bridges.DefaultTopicLimits
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = 4 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Bridge is a connection to an MQTT broker. It has two goroutines of its own:
// run keeps the connection and sends every SUBSCRIBE and UNSUBSCRIBE, so that
// the broker sees them in order; dispatch delivers. Each connection has one
// more, which acknowledges.
type Bridge struct {
	cfg    Config
	broker *url.URL
	log    *slog.Logger
	hub    *live.Hub[string, *bridges.Message] // key: the filter
	inbox  *inbox

	ctx     context.Context // ends run and dispatch
	cancel  context.CancelFunc
	work    sync.WaitGroup
	kick    chan struct{} // run has something to send
	settled chan struct{} // closed when the first attempt to connect has ended

	// mu guards what follows. The hub is never called with mu held: the hub
	// calls open and remove under its own lock.
	mu       sync.Mutex
	conn     *connection // nil: the broker is away
	status   bridges.Status
	lastGood time.Time // when the previous connection was last heard of
	filters  filters
	due      []*filter // want a SUBSCRIBE
	leaving  []leaving // want an UNSUBSCRIBE
	joined   uint64    // subscriptions so far
	arrived  uint64    // messages so far
}

var _ bridges.Bridge = (*Bridge)(nil)

// New makes a bridge and begins to connect. It does not wait for the broker,
// which may start later: see Status.
func New(cfg Config) (*Bridge, error) {
	broker, err := parseURL(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("mqttbridge: %w", err)
	}
	cfg = cfg.withDefaults()
	b := &Bridge{
		cfg:     cfg,
		broker:  broker,
		log:     cfg.Logger.With("broker", broker.Redacted()),
		inbox:   newInbox(cfg.QueueBytes),
		kick:    make(chan struct{}, 1),
		settled: make(chan struct{}),
		status:  bridges.Status{State: bridges.Connecting, Since: time.Now()},
		filters: newFilters(),
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.hub = live.NewHub(live.HubConfig[string, *bridges.Message]{
		Open:   b.open,
		Size:   (*bridges.Message).Size,
		Linger: cfg.Linger,
		Limit:  cfg.Queue,
	})
	b.work.Go(b.run)
	b.work.Go(b.dispatch)
	return b, nil
}

// Kind implements bridges.Bridge.
func (b *Bridge) Kind() bridges.Kind { return bridges.KindMQTT }

// Status implements bridges.Bridge.
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

// Upstreams implements bridges.Bridge.
func (b *Bridge) Upstreams() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for f := range b.filters.all() {
		if f.granted {
			names = append(names, f.name)
		}
	}
	slices.Sort(names)
	return names
}

// Subscribe implements bridges.Bridge. During the first attempt to connect it
// waits for the outcome, so that a broker that is there causes no gap.
func (b *Bridge) Subscribe(ctx context.Context, filter string, qos bridges.QoS) (live.Sub[*bridges.Message], error) {
	if err := b.cfg.Limits.CheckFilter(filter); err != nil {
		return nil, err
	}
	if err := checkQoS(qos); err != nil {
		return nil, err
	}
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	q, err := b.hub.Subscribe(ctx, filter)
	if err != nil {
		return nil, err
	}
	s := &subscription{bridge: b, filter: filter, qos: qos, queue: q}
	answer, err := b.join(s)
	if err == nil {
		err = answer.wait(ctx)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Publish implements bridges.Bridge.
func (b *Bridge) Publish(ctx context.Context, p bridges.Publication) (bridges.Receipt, error) {
	if err := b.cfg.Limits.CheckTopic(p.Topic); err != nil {
		return bridges.Receipt{}, err
	}
	if err := checkQoS(p.QoS); err != nil {
		return bridges.Receipt{}, err
	}
	within, cancel := context.WithTimeout(ctx, bridges.PublishTimeout)
	defer cancel()
	err := b.settle(within)
	if err == nil {
		err = b.publish(within, p)
	}
	switch {
	case err == nil:
		return bridges.Receipt{AcknowledgedAt: time.Now(), Receivers: -1}, nil
	case ctx.Err() != nil: // the caller gave up, not the broker
		return bridges.Receipt{}, ctx.Err()
	default:
		return bridges.Receipt{}, bridges.Unavailable(bridges.KindMQTT, err)
	}
}

var errNotConnected = errors.New("not connected")

func (b *Bridge) publish(ctx context.Context, p bridges.Publication) error {
	b.mu.Lock()
	c := b.conn
	b.mu.Unlock()
	if c == nil {
		return errNotConnected
	}
	return c.wait(ctx, c.client.Publish(p.Topic, byte(p.QoS), p.Retain, p.Payload))
}

// settle waits for the outcome of the first attempt to connect.
func (b *Bridge) settle(ctx context.Context) error {
	select {
	case <-b.settled:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-b.ctx.Done():
		return live.ErrHubClosed
	}
}

// Close implements bridges.Bridge. Every goroutine of the bridge and of paho
// has ended when it returns.
func (b *Bridge) Close() error {
	b.cancel()
	b.hub.Close() // also releases a dispatcher that waits for a full queue
	b.work.Wait()
	return nil
}

func checkQoS(qos bridges.QoS) error {
	if qos > bridges.ExactlyOnce {
		return fmt.Errorf("mqttbridge: QoS %d: 0, 1 and 2 are accepted", qos)
	}
	return nil
}

// subscription is one subscriber. The messages of its filter come through
// queue, which knows nothing of its QoS.
type subscription struct {
	bridge *Bridge
	filter string
	qos    bridges.QoS
	queue  *live.Queue[*bridges.Message]

	// guarded by Bridge.mu
	id      uint64    // order of joining
	since   time.Time // when it joined
	arrived uint64    // messages that had arrived by then
	lost    uint64    // messages that the inbox had no room for, not yet told
	asked   bool      // a SUBSCRIBE for its sake was sent
	until   time.Time // when it stops waiting for retained messages; zero: not yet known
}

// Next implements live.Sub.
func (s *subscription) Next(buf []live.Event[*bridges.Message]) (n int, open bool) {
	n, open = s.queue.Next(buf)
	for i := range buf[:n] {
		buf[i].Value = buf[i].Value.AtMost(s.qos)
	}
	return n, open
}

// Wake implements live.Sub.
func (s *subscription) Wake(f func()) { s.queue.Wake(f) }

// Err implements live.Sub.
func (s *subscription) Err() error { return s.queue.Err() }

// Close implements live.Sub.
func (s *subscription) Close() {
	s.bridge.leave(s)
	s.queue.Close() // last: the upstream may go now
}
