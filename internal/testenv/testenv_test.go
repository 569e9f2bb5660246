package testenv_test

import (
	"net"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/testenv"
)

func TestMosquittoStopsAndStartsOnOneAddress(t *testing.T) {
	broker := testenv.Mosquitto(t)
	if !listens(broker.Addr()) {
		t.Fatalf("nothing listens on %s", broker.Addr())
	}
	broker.Stop(t)
	broker.Stop(t) // twice is once
	if listens(broker.Addr()) {
		t.Fatalf("something listens on %s after Stop", broker.Addr())
	}
	broker.Start(t)
	broker.Start(t)
	if !listens(broker.Addr()) {
		t.Fatalf("nothing listens on %s after Start", broker.Addr())
	}
}

func listens(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// The race detector and the runtime are the judges: t.Log after the end of a
// test panics.
func TestLoggerOutlivesItsTest(t *testing.T) {
	var say func(string, ...any)
	t.Run("inner", func(t *testing.T) {
		say = testenv.Logger(t).Info
		say("during")
	})
	say("after")
}
