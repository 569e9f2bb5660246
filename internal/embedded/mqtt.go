// Package embedded runs brokers inside the process, for trial and for
// learning: they listen on loopback, keep everything in memory and let
// everyone in. Each runs until Close, which waits for its goroutines.
package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sluice-gateway/sluice/bridges"
)

// MQTTConfig is what an embedded MQTT broker needs. Zero fields take the
// defaults in brackets.
type MQTTConfig struct {
	// Addr is where to listen; a free port is taken if this one is not free,
	// so ask MQTT.Addr for the real one [127.0.0.1:0].
	Addr string
	// Logger hears of warnings and errors alone [discards].
	Logger *slog.Logger
}

// MQTT is a broker for MQTT 3.1, 3.1.1 and 5. Who comes over the listener may read
// and publish everything, except that topics which begin with '$' are the broker's
// own: they can be read, not written. A guest of ServeConn may do what its rules
// say. For everyone, topics of a lab session match only filters that name it (see
// bridges.MatchMQTT).
//
// A publication that is not allowed is acknowledged and goes nowhere: before MQTT
// 5 a broker cannot refuse one but by closing the connection (MQTT 3.1.1, section
// 3.3.5), and Mosquitto does not either. MQTT 5 has a reason code for it.
type MQTT struct {
	server *mqtt.Server
	addr   string
	conns  *connections
	close  func() error // the first call counts
}

// StartMQTT starts a broker.
func StartMQTT(cfg MQTTConfig) (*MQTT, error) {
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ln, err := listen(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("embedded: mqtt: %w", err)
	}
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MaximumPacketSize = maxPacket
	capabilities.MaximumSessionExpiryInterval = uint32(sessionLife / time.Second)
	capabilities.TopicAliasMaximum = 0 // a publication names its topic, and the rules see it
	server := mqtt.New(&mqtt.Options{Logger: slog.New(warnings{cfg.Logger.Handler()}), Capabilities: capabilities})
	conns := &connections{Listener: ln, open: make(map[*trackedConn]bool)}
	conns.settled = sync.NewCond(&conns.mu)
	if err := server.AddHook(&access{conns: conns}, nil); err != nil {
		ln.Close()
		return nil, fmt.Errorf("embedded: mqtt: %w", err)
	}
	if err := server.AddListener(listeners.NewNet(listenerID, conns)); err != nil {
		ln.Close()
		return nil, fmt.Errorf("embedded: mqtt: %w", err)
	}
	if err := server.Serve(); err != nil {
		server.Close()
		return nil, fmt.Errorf("embedded: mqtt: %w", err)
	}
	return &MQTT{
		server: server,
		addr:   ln.Addr().String(),
		conns:  conns,
		close:  sync.OnceValue(server.Close), // mochi's panics when called again
	}, nil
}

const (
	maxPacket   = 1 << 20          // a length is believed up to here, and room made for it
	connectWait = 10 * time.Second // for CONNECT; then the client's keep alive counts
	sessionLife = time.Hour        // of a session whose client is away
)

// listenerID names our one listener. Close disconnects the clients of a
// listener, so those of ServeConn are counted among its own.
const listenerID = "tcp"

// Addr is the host:port on which the broker listens.
func (m *MQTT) Addr() string { return m.addr }

// URL is where MQTT clients find the broker.
func (m *MQTT) URL() string { return "mqtt://" + m.addr }

// Guest is a client that comes another way than over the listener, such as MQTT
// over WebSocket. Zero fields take the defaults in brackets.
type Guest struct {
	// Rules say what it may read and publish [what everyone may].
	Rules Rules
	// Prefix is put before its client id, so that guests of one prefix can take
	// over each other's sessions and nobody else's [none].
	Prefix string
	// Refused counts refusals [nobody].
	Refused func(code string)
}

func (g Guest) mayRead(filter string) bool {
	return g.Rules == nil || g.count(g.Rules.CheckRead(filter))
}

func (g Guest) mayPublish(topic string) bool {
	return g.Rules == nil || g.count(g.Rules.CheckPublish(topic))
}

// count counts a refusal; true: it is none.
func (g Guest) count(refusal error) bool {
	if refusal != nil && g.Refused != nil {
		g.Refused(bridges.CodeTopicForbidden)
	}
	return refusal == nil
}

// Rules say what a client may do. An error is a refusal.
type Rules interface {
	CheckRead(filter string) error
	CheckPublish(topic string) error
}

// ServeConn serves a guest. It returns when the guest has left.
func (m *MQTT) ServeConn(conn net.Conn, guest Guest) error {
	tracked := m.conns.track(conn, guest)
	if tracked == nil {
		return net.ErrClosed
	}
	return m.server.EstablishConnection(listenerID, tracked)
}

// Close disconnects every client and waits until they are gone.
func (m *MQTT) Close() error {
	m.conns.settle()
	return m.close()
}

// connections is a listener that knows what it has accepted. mochi knows a
// connection only once it has said CONNECT: one that says nothing would hold up
// Close until its time to do so has passed, and one that says it while mochi
// closes would be forgotten.
type connections struct {
	net.Listener

	mu      sync.Mutex
	settled *sync.Cond            // a connection is established or gone
	open    map[*trackedConn]bool // true: established
	closed  bool
}

// Accept returns no connection any more once the broker is closing.
func (c *connections) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if t := c.track(conn, Guest{}); t != nil {
			return t, nil
		}
	}
}

// track takes a connection in; nil: it was closed, because the broker is closing.
func (c *connections) track(conn net.Conn, guest Guest) net.Conn {
	t := &trackedConn{Conn: conn, of: c, guest: guest}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		conn.Close()
		return nil
	}
	_ = conn.SetReadDeadline(time.Now().Add(connectWait))
	c.open[t] = false
	return t
}

// established says that mochi knows the connection.
func (c *connections) established(conn net.Conn) {
	t, ok := conn.(*trackedConn)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, open := c.open[t]; open {
		c.open[t] = true
		c.settled.Broadcast()
	}
}

// settle takes no more connections and waits until mochi knows each that is
// open; those that have not said CONNECT are closed.
func (c *connections) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for t, known := range c.open {
		if !known {
			t.Conn.Close()
		}
	}
	for slices.Contains(slices.Collect(maps.Values(c.open)), false) {
		c.settled.Wait()
	}
}

// trackedConn is a connection and what its client may do.
type trackedConn struct {
	net.Conn
	of    *connections
	guest Guest

	oddKeepAlive bool // in seconds; set before it counts

	mu    sync.Mutex
	asked map[string]bool // filters of the SUBSCRIBE under way, and whether they may be read
}

// SetDeadline implements net.Conn. mochi takes one and a half times the keep
// alive in whole seconds (MQTT 3.1.1, section 3.1.2.10).
func (t *trackedConn) SetDeadline(at time.Time) error {
	if t.oddKeepAlive && !at.IsZero() {
		at = at.Add(time.Second / 2)
	}
	return t.Conn.SetDeadline(at)
}

// Write implements net.Conn. mochi says DISCONNECT to clients older than MQTT 5,
// too, for whom only they may say that.
func (t *trackedConn) Write(b []byte) (int, error) {
	if len(b) == 2 && b[0] == packets.Disconnect<<4 && b[1] == 0 {
		return len(b), nil
	}
	return t.Conn.Write(b)
}

func (t *trackedConn) Close() error {
	t.of.mu.Lock()
	delete(t.of.open, t)
	t.of.settled.Broadcast()
	t.of.mu.Unlock()
	return t.Conn.Close()
}

// listen takes a free port of the same host when the wanted one is taken.
func listen(addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err == nil {
		return ln, nil
	}
	host, _, splitErr := net.SplitHostPort(addr)
	if splitErr != nil {
		return nil, fmt.Errorf("address %q is not host:port: %w", addr, splitErr)
	}
	if ln, anyErr := net.Listen("tcp", net.JoinHostPort(host, "0")); anyErr == nil {
		return ln, nil
	}
	return nil, err
}

// warnings passes on what is worth a line: mochi says much at lower levels.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

// Handle leaves out packets, which hold payloads, and the empty line that mochi
// writes whenever a client hangs up.
func (w warnings) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "" {
		return nil
	}
	bare := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "pk" && a.Key != "packet" {
			bare.AddAttrs(a)
		}
		return true
	})
	return w.Handler.Handle(ctx, bare)
}

func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}

func (w warnings) WithGroup(name string) slog.Handler {
	return warnings{w.Handler.WithGroup(name)}
}
