package main

import (
	"log/slog"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/presence"
)

// shared is what gateways on the same Redis have in common: the event log and
// who is in which room. Without a Redis of the user's it is this gateway's own.
type shared struct {
	log     *eventlog.Log
	members presence.Directory
}

func openShared(cfg config, logger *slog.Logger, closing *stack) (*shared, error) {
	store := eventlog.NewMemory(eventlog.Retention{}, nil)
	s := &shared{members: presence.NewMemory()}
	closing.add(store.Close)
	s.log = eventlog.New(store, eventlog.Config{Logger: logger})
	closing.add(func() error { s.log.Close(); return nil })
	closing.add(s.members.Close)
	return s, nil
}
