package redisbridge

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	handshakeTimeout = 3 * time.Second // for each answer while a connection is made
	publishers       = 16              // connections for publishing and reading streams, made when needed
)

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
