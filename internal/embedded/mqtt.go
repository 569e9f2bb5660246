// Package embedded runs brokers inside the process, for trial and for
// learning: they listen on loopback, keep everything in memory and let
// everyone in. Each runs until Close, which waits for its goroutines.
package embedded

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
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

// MQTT is a broker for MQTT 3.1, 3.1.1 and 5. Everyone may read and publish,
// except that topics which begin with '$' are the broker's own: they can be
// read, not written.
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
	server := mqtt.New(&mqtt.Options{Logger: slog.New(warnings{cfg.Logger.Handler()})})
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

// listenerID names our one listener. Close disconnects the clients of a
// listener, so those of ServeConn are counted among its own.
const listenerID = "tcp"

// Addr is the host:port on which the broker listens.
func (m *MQTT) Addr() string { return m.addr }

// URL is where MQTT clients find the broker.
func (m *MQTT) URL() string { return "mqtt://" + m.addr }

// ServeConn serves a connection that came another way than over the listener,
// such as MQTT over WebSocket. It returns when the client has left.
func (m *MQTT) ServeConn(conn net.Conn) error {
	tracked := m.conns.track(conn)
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
		if t := c.track(conn); t != nil {
			return t, nil
		}
	}
}

// track takes a connection in; nil: it was closed, because the broker is closing.
func (c *connections) track(conn net.Conn) net.Conn {
	t := &trackedConn{Conn: conn, of: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		conn.Close()
		return nil
	}
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

type trackedConn struct {
	net.Conn
	of *connections
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

// access is the broker's rule: all is allowed but publishing to '$' topics.
// Without any rule of this kind mochi refuses everyone.
type access struct {
	mqtt.HookBase
	conns *connections
}

func (*access) ID() string { return "access" }

func (*access) Provides(b byte) bool {
	return bytes.IndexByte([]byte{mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablished}, b) >= 0
}

func (*access) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnSessionEstablished is no rule: it is how mochi says that it knows a client.
func (a *access) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	a.conns.established(cl.Net.Conn)
}

func (*access) OnACLCheck(_ *mqtt.Client, topic string, write bool) bool {
	return !write || !strings.HasPrefix(topic, "$")
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
