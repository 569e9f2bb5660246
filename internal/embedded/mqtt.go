// Package embedded runs brokers inside the process, for trial and for
// learning: they listen on loopback, keep everything in memory and let
// everyone in. Each runs until Close, which waits for its goroutines.
package embedded

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"

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
	if err := server.AddHook(new(access), nil); err != nil {
		ln.Close()
		return nil, fmt.Errorf("embedded: mqtt: %w", err)
	}
	if err := server.AddListener(listeners.NewNet("tcp", ln)); err != nil {
		ln.Close()
		return nil, fmt.Errorf("embedded: mqtt: %w", err)
	}
	if err := server.Serve(); err != nil {
		server.Close()
		return nil, fmt.Errorf("embedded: mqtt: %w", err)
	}
	return &MQTT{server: server, addr: ln.Addr().String()}, nil
}

// Addr is the host:port on which the broker listens.
func (m *MQTT) Addr() string { return m.addr }

// URL is where MQTT clients find the broker.
func (m *MQTT) URL() string { return "mqtt://" + m.addr }

// ServeConn serves a connection that came another way than over the listener,
// such as MQTT over WebSocket. It returns when the client has left.
func (m *MQTT) ServeConn(conn net.Conn) error {
	// Close disconnects the clients of a listener, so the connection is
	// counted among those of ours.
	return m.server.EstablishConnection("tcp", conn)
}

// Close disconnects every client and waits until they are gone.
func (m *MQTT) Close() error { return m.server.Close() }

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
type access struct{ mqtt.HookBase }

func (*access) ID() string { return "access" }

func (*access) Provides(b byte) bool {
	return bytes.IndexByte([]byte{mqtt.OnConnectAuthenticate, mqtt.OnACLCheck}, b) >= 0
}

func (*access) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

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
