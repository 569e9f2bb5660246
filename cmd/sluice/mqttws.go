package main

import (
	"context"
	"net"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/embedded"
	"github.com/sluice-gateway/sluice/labs/mqttws"
)

// mqttOverWebSocket is server.Config.MQTT: it leads to the embedded broker, or by a
// relay to the one at MQTT_BROKER_URL. nil: clients may not come that way.
//
// Everybody may do there what the rules open; in a lab session clients read what
// they open, and publish to the session's own topics alone.
func (b *brokerSet) mqttOverWebSocket(cfg config) func(lab string, refused func(code string)) func(context.Context, net.Conn) error {
	if !cfg.mqttWS {
		return nil
	}
	return func(lab string, refused func(string)) func(context.Context, net.Conn) error {
		rules, prefix := bridges.MQTTAccess{Topics: cfg.limits.topics(), Rules: cfg.mqttRules}, "ws-"
		if lab != "" {
			rules.Rules, rules.Lab, prefix = cfg.mqttRules.ReadOnly(), lab, "ws-"+lab+"-"
		}
		if b.embedded == nil {
			relay, err := mqttws.NewRelay(mqttws.RelayConfig{URL: cfg.MQTTURL, Rules: rules, Prefix: prefix, Refused: refused})
			if err != nil {
				panic(err) // config.check has tried it
			}
			return relay.Connect
		}
		return func(_ context.Context, conn net.Conn) error {
			return b.embedded.ServeConn(conn, embedded.Guest{Rules: rules, Prefix: prefix, Refused: refused})
		}
	}
}

// checkMQTTWS finds out whether there is MQTT over WebSocket: with the embedded
// broker, and by a relay on loopback or where --mqtt-relay wants it.
func (c *config) checkMQTTWS() error {
	if c.mqttWS = c.MQTTURL == ""; c.mqttWS {
		return nil
	}
	_, err := mqttws.NewRelay(mqttws.RelayConfig{URL: c.MQTTURL})
	if err != nil && c.MQTTRelay {
		return wrong("--mqtt-relay", err)
	}
	c.mqttWS = err == nil && (c.loopback || c.MQTTRelay)
	return nil
}
