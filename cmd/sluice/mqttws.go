package main

import (
	"context"
	"net"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/embedded"
	"github.com/sluice-gateway/sluice/labs/mqttws"
)

// mqttOverWebSocket is server.Config.MQTT: it leads to the embedded broker, or is
// a relay to the one at MQTT_BROKER_URL. nil: clients may not come that way.
//
// Everybody may do there what the rules open; in a lab session clients read what
// they open, and publish to the session's own topics alone.
func (b *brokerSet) mqttOverWebSocket(cfg config) (func(lab string, refused func(code string)) func(context.Context, net.Conn) error, error) {
	access := func(lab string) (_ bridges.MQTTAccess, prefix string) {
		a := bridges.MQTTAccess{Topics: cfg.limits.topics(), Rules: cfg.mqttRules, Lab: lab}
		if lab == "" {
			return a, "ws-"
		}
		a.Rules = a.Rules.ReadOnly()
		return a, "ws-" + lab + "-"
	}
	if b.embedded != nil {
		return func(lab string, refused func(string)) func(context.Context, net.Conn) error {
			rules, prefix := access(lab)
			return func(_ context.Context, conn net.Conn) error {
				return b.embedded.ServeConn(conn, embedded.Guest{Rules: rules, Prefix: prefix, Refused: refused})
			}
		}, nil
	}
	if !cfg.loopback && !cfg.MQTTRelay {
		return nil, nil
	}
	if _, err := mqttws.NewRelay(mqttws.RelayConfig{URL: cfg.MQTTURL}); err != nil {
		return nil, err
	}
	return func(lab string, refused func(string)) func(context.Context, net.Conn) error {
		rules, prefix := access(lab)
		relay, err := mqttws.NewRelay(mqttws.RelayConfig{URL: cfg.MQTTURL, Rules: rules, Prefix: prefix, Refused: refused})
		if err != nil {
			panic(err) // the same URL was right before
		}
		return relay.Connect
	}, nil
}
