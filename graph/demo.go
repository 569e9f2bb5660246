package graph

import (
	"context"
	"regexp"
	"time"

	"github.com/sluice-gateway/sluice/internal/live"
)

var errDemoFailure = live.Errorf("DEMO_FAILURE", "This fails on purpose, so that you can see how your client takes it.")

// errorCode is what the fail field accepts as a code.
var errorCode = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
