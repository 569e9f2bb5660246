package eventlog_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/eventlog/eventlogtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	eventlogtest.Run(t, eventlogtest.Subject{
		Place: func(testing.TB) eventlogtest.Place {
			return func(_ testing.TB, o eventlogtest.Options) eventlog.Store {
				return eventlog.NewMemory(o.Retention, o.Now)
			}
		},
		Clock:  true,
		Rounds: 200,
	})
}
