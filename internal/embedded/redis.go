package embedded

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// RedisConfig is what an embedded Redis-compatible server needs. Zero fields
// take the defaults in brackets.
type RedisConfig struct {
	// Addr is where to listen; a free port is taken if this one is not free,
	// so ask Redis.Addr for the real one [127.0.0.1:0].
	Addr string
}

// Redis is a server that understands most of Redis: strings, lists, hashes,
// streams, Pub/Sub, transactions, scripts. Its data ends with it.
type Redis struct {
	server *miniredis.Miniredis
	addr   string
	// transactions hears what is published between MULTI and EXEC, which is
	// the one way of publishing that is left to miniredis.
	transactions *miniredis.Subscriber
	work         sync.WaitGroup
	once         sync.Once
	closed       chan struct{}
}

// StartRedis starts a server.
func StartRedis(cfg RedisConfig) (*Redis, error) {
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	server := miniredis.NewMiniRedis()
	if err := startAddr(server, cfg.Addr); err != nil {
		return nil, fmt.Errorf("embedded: redis: %w", err)
	}
	pubsub := newPubsub()
	server.Server().SetPreHook(pubsub.hook)
	r := &Redis{server: server, addr: server.Addr(), transactions: server.NewSubscriber(), closed: make(chan struct{})}
	r.transactions.Psubscribe("*")
	r.work.Go(r.age)
	r.work.Go(func() {
		for m := range r.transactions.Pmessages() {
			pubsub.deliver(m.Channel, m.Message)
		}
	})
	return r, nil
}

// startAddr takes a free port of the same host when the wanted one is taken.
// miniredis makes its own listener, so listen cannot do it.
func startAddr(server *miniredis.Miniredis, addr string) error {
	err := server.StartAddr(addr)
	if err == nil {
		return nil
	}
	host, _, splitErr := net.SplitHostPort(addr)
	if splitErr != nil {
		return fmt.Errorf("address %q is not host:port: %w", addr, splitErr)
	}
	if server.StartAddr(net.JoinHostPort(host, "0")) == nil {
		return nil
	}
	return err
}

// age makes keys expire: miniredis leaves the passing of time to its user.
func (r *Redis) age() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-tick.C:
			now := time.Now()
			r.server.FastForward(now.Sub(last))
			last = now
		case <-r.closed:
			return
		}
	}
}

// Addr is the host:port on which the server listens.
func (r *Redis) Addr() string { return r.addr }

// URL is where Redis clients find the server.
func (r *Redis) URL() string { return "redis://" + r.addr }

// Close disconnects every client and waits until they are gone.
func (r *Redis) Close() error {
	r.once.Do(func() {
		close(r.closed)
		r.server.Close()
		r.transactions.Close()
	})
	r.work.Wait()
	return nil
}
