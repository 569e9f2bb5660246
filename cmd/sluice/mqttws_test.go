package main

import (
	"io"
	"slices"
	"strings"
	"testing"
)

func TestWhereThereIsMQTTOverWebSocket(t *testing.T) {
	away := []string{"--addr", "0.0.0.0:8080", "--origin", "https://app.example", "--anonymous"}
	for _, test := range []struct {
		args []string
		want bool
	}{
		{nil, true},
		{[]string{"--mqtt-url", "mqtt://m"}, true},
		{[]string{"--mqtt-url", "ws://m"}, false}, // no relay reaches it
		{away, true},
		{slices.Concat(away, []string{"--mqtt-url", "mqtt://m"}), false},
		{slices.Concat(away, []string{"--mqtt-url", "mqtts://m", "--mqtt-relay"}), true},
	} {
		cfg := parsed(t, test.args...)
		if cfg.mqttWS != test.want || (new(brokerSet).mqttOverWebSocket(cfg) != nil) != test.want {
			t.Errorf("%q: %v, want %v", test.args, cfg.mqttWS, test.want)
		}
	}
	_, err := parse([]string{"--mqtt-url", "wss://u:secret@m", "--mqtt-relay"}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "--mqtt-relay: a relay reaches brokers at mqtt, tcp, mqtts and ssl") || strings.Contains(err.Error(), "secret") {
		t.Errorf("a relay that cannot be: %v", err)
	}
}
