// Package redislearners keeps learners' progress in Redis, which several gateways
// can share: under sluice:learner:<id>, as JSON. A key expires when it has not
// been changed for learners.Keep.
//
// A call waits for a connection of the pool and for its answer, for at most
// 2.5 s. While the server is away every call fails; nothing needs to be done when
// it is back, nor does it have to be there at the start. How durable a change is,
// is a matter of the server's configuration (appendonly, appendfsync). There are
// no goroutines of its own.
package redislearners

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/internal/learners"
	"github.com/sluice-gateway/sluice/internal/redisclient"
)

const (
	prefix = "sluice:learner:"

	callWithin = 2500 * time.Millisecond
	poolSize   = 16
	idleConns  = 2 // what is kept of it after a rush
)

// Store keeps progress in Redis. Make it with Open.
type Store struct{ client *redis.Client }

var _ learners.Store = (*Store)(nil)

// Open makes a store in the Redis server of a URL, and reports one that is none.
// It does not wait for the server.
func Open(url string) (*Store, error) {
	opts, err := redisclient.Options(url, callWithin, poolSize)
	if err != nil {
		return nil, fmt.Errorf("redislearners: %w", err)
	}
	opts.MaxIdleConns = idleConns
	return &Store{redis.NewClient(opts)}, nil
}

// Load implements learners.Store.
func (s *Store) Load(ctx context.Context, id string) ([]byte, error) {
	held, err := s.client.Get(ctx, prefix+id).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return held, err
}

// GET answers false where there is nothing.
var swap = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= (ARGV[1] ~= '' and ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`)

// Swap implements learners.Store.
func (s *Store) Swap(ctx context.Context, id string, old, new []byte) (bool, error) {
	return swap.Run(ctx, s.client, []string{prefix + id}, old, new, learners.Keep.Milliseconds()).Bool()
}

// Close implements learners.Store.
func (s *Store) Close() error { return s.client.Close() }
