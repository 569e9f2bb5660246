package redisbridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/sluice-gateway/sluice/bridges"
)

const (
	dialTimeout      = 2 * time.Second
	handshakeTimeout = 3 * time.Second // for each answer while a connection is made
	writeTimeout     = 3 * time.Second
	publishers       = 16 // connections for publishing and reading streams, made when needed
)

// errURL never quotes the URL, nor the parser's error, which does: there may
// be a password in it.
var errURL = errors.New("redisbridge: the URL is not one of a Redis server; accepted are " +
	"redis://[user:password@]host[:port], rediss://… (TLS) and unix:///path/to/socket")

func parseURL(url string) (*redis.Options, error) {
	opts, err := redis.ParseURL(url)
	if err != nil {
		return nil, errURL
	}
	if opts.Network == "unix" && !strings.HasPrefix(opts.Addr, "/") {
		return nil, fmt.Errorf("%w: the path of a socket begins with /", errURL)
	}
	if opts.Network == "tcp" {
		if err := bridges.CheckAddress(opts.Addr); err != nil {
			return nil, fmt.Errorf("%w: %w", errURL, err)
		}
	}
	// RESP2 does all that Pub/Sub needs, on every server. No names, no
	// library versions, no notifications: an account that may only subscribe
	// and publish must do.
	opts.Protocol = 2
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	opts.DB = 0 // Pub/Sub knows no databases
	opts.ClientName = ""
	opts.PipelinePoolSize = -1
	opts.MinIdleConns = 0
	opts.DialTimeout = dialTimeout
	opts.DialerRetries = 1
	opts.MaxRetries = -1
	opts.WriteTimeout = writeTimeout
	opts.ReadTimeout = bridges.PublishTimeout
	opts.PoolTimeout = bridges.PublishTimeout
	opts.PoolSize = publishers
	opts.ContextTimeoutEnabled = true
	opts.Dialer = dialer(opts.TLSConfig)
	return opts, nil
}

// dialer stops when its context ends; that of go-redis does not, with TLS.
func dialer(config *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: dialTimeout}
	if config == nil {
		return plain.DialContext
	}
	return (&tls.Dialer{NetDialer: plain, Config: config}).DialContext
}

// silenceDriver keeps go-redis from writing to standard error. All that it
// would say there, it also returns.
func silenceDriver() { redis.SetLogger(&logging.VoidLogger{}) }

// dial makes the connection that carries the subscriptions, up to the answer
// to the log-in.
//
// go-redis reconnects and subscribes again by itself, within any call and
// without telling; the messages lost in between would be lost silently. So
// each connection has a client of its own, whose dialer works once.
func (b *Bridge) dial(ctx context.Context) (*session, error) {
	raw, err := b.opts.Dialer(ctx, b.opts.Network, b.opts.Addr)
	if err != nil {
		return nil, err
	}
	conn := &watchedConn{Conn: raw}
	conn.patience.Store(int64(handshakeTimeout))
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })

	opts := *b.opts
	opts.Dialer = once(conn)
	client := redis.NewClient(&opts)
	s := &session{
		conn:      conn,
		client:    client,
		pubsub:    client.Subscribe(ctx),
		publisher: redis.NewClient(b.opts),
		stop:      stop,
		news:      make(chan struct{}, 1),
		inflight:  []command{{}}, // the PING below
	}
	if err := s.pubsub.Ping(ctx); err != nil { // connects and logs in
		s.close()
		return nil, err
	}
	conn.patience.Store(int64(b.cfg.PingEvery + b.cfg.PongWithin))
	return s, nil
}

var errConnectionOver = errors.New("redisbridge: the connection is over")

// once is a dialer that gives a connection away, the first time.
func once(conn net.Conn) func(context.Context, string, string) (net.Conn, error) {
	var given atomic.Bool
	return func(context.Context, string, string) (net.Conn, error) {
		if given.Swap(true) {
			return nil, errConnectionOver
		}
		return conn, nil
	}
}

// watchedConn is a connection that fails when nothing at all was received for
// a while. Deadlines of single replies, which is what go-redis sets, would cut
// a large message that takes its time, and lose step with the stream.
type watchedConn struct {
	net.Conn
	patience atomic.Int64 // nanoseconds
	heard    atomic.Int64 // Unix nanoseconds of the newest bytes
}

func (c *watchedConn) Read(p []byte) (int, error) {
	err := c.Conn.SetReadDeadline(time.Now().Add(time.Duration(c.patience.Load())))
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

// SetReadDeadline leaves the deadline to Read.
func (c *watchedConn) SetReadDeadline(time.Time) error { return nil }

// SetDeadline sets the deadline of writing, as for SetReadDeadline.
func (c *watchedConn) SetDeadline(t time.Time) error { return c.SetWriteDeadline(t) }

func (c *watchedConn) lastHeard() time.Time { return time.Unix(0, c.heard.Load()) }
