package presence_test

import (
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/internal/presence"
	"github.com/sluice-gateway/sluice/internal/presence/presencetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	presencetest.Run(t, presencetest.Subject{
		Open: func(testing.TB) (here, there presence.Directory) {
			memory := presence.NewMemory()
			return memory, memory
		},
		Run: synctest.Test,
	})
}
