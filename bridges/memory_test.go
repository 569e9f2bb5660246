package bridges_test

import (
	"context"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/bridges/bridgetest"
)

func TestMemory(t *testing.T) {
	const linger = 20 * time.Millisecond
	var present *bridges.Memory // the broker is the bridge that was opened last
	bridgetest.Run(t, bridgetest.Subject{
		Open: func(testing.TB) bridges.Bridge {
			present = bridges.NewMemory(bridges.MemoryConfig{Linger: linger})
			return present
		},
		Linger: linger,
		Publish: func(t testing.TB, p bridges.Publication) {
			// Not the test's context: it has ended when the test cleans up.
			if _, err := present.Publish(context.Background(), p); err != nil {
				t.Fatal(err)
			}
		},
		IllFormed: bridgetest.IllFormedMQTT,
		Wildcards: true,
		Retained:  true,
		QoS:       true,
		Receivers: true,
	})
}
