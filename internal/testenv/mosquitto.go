package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Broker is a real MQTT broker.
type Broker struct{ *Process }

// Mosquitto starts a private mosquitto that lets everyone in. It keeps
// nothing: retained messages are gone after Stop.
func Mosquitto(tb testing.TB) *Broker {
	tb.Helper()
	port := FreePort(tb)
	config := filepath.Join(tb.TempDir(), "mosquitto.conf")
	text := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence false\n", port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return &Broker{StartProcess(tb, loopback(port), "mosquitto", "-c", config)}
}

// URL is where MQTT clients find the broker.
func (b *Broker) URL() string { return "mqtt://" + b.Addr() }
