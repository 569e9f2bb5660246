package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/eventlog/redislog"
	"github.com/sluice-gateway/sluice/internal/eventlog/sqlitelog"
	"github.com/sluice-gateway/sluice/internal/learners"
	"github.com/sluice-gateway/sluice/internal/learners/redislearners"
	"github.com/sluice-gateway/sluice/internal/learners/sqlitelearners"
	"github.com/sluice-gateway/sluice/internal/presence"
	"github.com/sluice-gateway/sluice/internal/presence/redispresence"
	"github.com/sluice-gateway/sluice/lessons"
)

// shared is what gateways on the same Redis have in common: the event log and
// who is in which room. Without a Redis of the user's it is this gateway's own.
type shared struct {
	log     *eventlog.Log
	members presence.Directory
	streams *eventlog.Cursors // of Redis streams
	key     learners.Key      // signs what learners are given
	where   string            // the events are kept, for people
}

func openShared(cfg config, logger *slog.Logger, closing *stack) (*shared, error) {
	store, where, err := openStore(cfg, logger)
	if err != nil {
		return nil, err
	}
	closing.add(store.Close)
	s := &shared{log: eventlog.New(store, eventlog.Config{Secret: cfg.Secret, Logger: logger}), key: learnersKey(cfg.Secret, store), where: where}
	closing.add(func() error { s.log.Close(); return nil })
	if cfg.RedisURL == "" {
		s.members = presence.NewMemory()
		// The embedded Redis forgets its streams when it stops, so nothing may be
		// left of their cursors either.
		s.streams = eventlog.NewCursors(eventlog.NewMemory(eventlog.Retention{}, nil), cfg.Secret)
	} else {
		if s.members, err = redispresence.New(redispresence.Config{URL: cfg.RedisURL, Logger: logger}); err != nil {
			return nil, fmt.Errorf("--redis-url (REDIS_URL): %w", err)
		}
		s.streams = s.log.Cursors()
	}
	closing.add(s.members.Close)
	return s, nil
}

func openStore(cfg config, logger *slog.Logger) (_ eventlog.Store, where string, err error) {
	if cfg.RedisURL != "" {
		store, err := redislog.Open(redislog.Config{URL: cfg.RedisURL, Logger: logger})
		if err != nil {
			return nil, "", fmt.Errorf("--redis-url (REDIS_URL): %w", err)
		}
		return store, "in Redis", nil
	}
	if cfg.dataDir() == inMemory {
		return eventlog.NewMemory(eventlog.Retention{}, nil), "in memory, until it stops", nil
	}
	store, err := sqlitelog.Open(cfg.dataDir(), sqlitelog.Config{Logger: logger})
	return store, "in " + cfg.dataDir(), err
}

// learnersKey is the secret, or without one the key that a store keeps.
func learnersKey(secret string, store eventlog.Store) learners.Key {
	return func(ctx context.Context) ([]byte, error) {
		if secret != "" {
			return []byte(secret), nil
		}
		id, err := store.Identity(ctx)
		return id.Key[:], err
	}
}

// openLearners opens learners' progress, which is kept where the events are.
func openLearners(cfg config, key learners.Key, course *lessons.Course, closing *stack) (*learners.Learners, error) {
	var store learners.Store
	var err error
	switch {
	case cfg.RedisURL != "":
		if store, err = redislearners.Open(cfg.RedisURL); err != nil {
			err = fmt.Errorf("--redis-url (REDIS_URL): %w", err)
		}
	case cfg.dataDir() == inMemory:
		store = learners.NewMemory()
	default:
		store, err = sqlitelearners.Open(cfg.dataDir(), nil)
	}
	if err != nil {
		return nil, err
	}
	closing.add(store.Close)
	return learners.New(store, key, course), nil
}
