package main

import (
	"log/slog"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/eventlog/sqlitelog"
	"github.com/sluice-gateway/sluice/internal/presence"
)

// shared is what gateways on the same Redis have in common: the event log and
// who is in which room. Without a Redis of the user's it is this gateway's own.
type shared struct {
	log     *eventlog.Log
	members presence.Directory
	where   string // the events are kept, for people
}

func openShared(cfg config, logger *slog.Logger, closing *stack) (*shared, error) {
	s := &shared{}
	store, err := s.open(cfg, logger)
	if err != nil {
		return nil, err
	}
	closing.add(store.Close)
	s.log = eventlog.New(store, eventlog.Config{Secret: cfg.Secret, Logger: logger})
	closing.add(func() error { s.log.Close(); return nil })
	closing.add(s.members.Close)
	return s, nil
}

func (s *shared) open(cfg config, logger *slog.Logger) (eventlog.Store, error) {
	s.members = presence.NewMemory()
	if cfg.dataDir() == inMemory {
		s.where = "in memory, until it stops"
		return eventlog.NewMemory(eventlog.Retention{}, nil), nil
	}
	s.where = "in " + cfg.dataDir()
	return sqlitelog.Open(cfg.dataDir(), sqlitelog.Config{Logger: logger})
}
