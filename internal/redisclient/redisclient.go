// Package redisclient prepares clients of a Redis server that try nothing twice,
// neither a connection nor a command, and write nothing to standard error: who
// asks is told of every failure, and decides.
package redisclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/sluice-gateway/sluice/bridges"
)

// dialTimeout bounds how long a connection may take to be made, TLS included.
const dialTimeout = 2 * time.Second

// errURL never quotes the URL, nor the parser's error, which does: there may be
// a password in it.
var errURL = errors.New("the URL is not one of a Redis server; accepted are " +
	"redis://[user:password@]host[:port][/database], rediss://… (TLS) and unix:///path/to/socket")

// Options reads the URL of a Redis server and reports one that is none. Each
// command of the client, and the wait for one of its connections, of which there
// are at most connections, takes at most timeout; a context that ends earlier
// ends it.
//
// It speaks RESP2, which every server does, and tells the server neither a name
// nor a version, so that an account needs no more rights than for the commands
// that it is used for.
func Options(url string, timeout time.Duration, connections int) (*redis.Options, error) {
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
	redis.SetLogger(&logging.VoidLogger{}) // all that it would say, it also returns
	opts.Protocol = 2
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	opts.ClientName = ""
	opts.DialerRetries = 1
	opts.MaxRetries = -1
	opts.DialTimeout = dialTimeout
	opts.ReadTimeout = timeout
	opts.WriteTimeout = timeout
	opts.PoolTimeout = timeout
	opts.PoolSize = connections
	opts.PipelinePoolSize = -1 // pipelines take the same connections
	opts.MinIdleConns = 0
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
