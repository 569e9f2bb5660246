package wire

import (
	"fmt"
	"strings"
)

// Summary says in a line what a packet is about.
func (p MQTTPacket) Summary() string {
	var parts []string
	say := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if p.PacketID != 0 {
		say("packet %d", p.PacketID)
	}
	switch p.Type {
	case CONNECT:
		if c := p.Connect; c != nil {
			say("%s level %d, client %q, keep alive %d s", c.Protocol, c.Level, c.ClientID, c.KeepAlive)
			if c.Clean {
				say("clean")
			}
			if c.Will != nil {
				say("will on %q, QoS %d", c.Will.Topic, c.Will.QoS)
			}
		}
	case CONNACK:
		if p.SessionPresent {
			say("session present")
		}
	case PUBLISH:
		say("topic %q, QoS %d, %d bytes", p.Topic, p.QoS, p.PayloadLength)
		if p.DUP {
			say("DUP")
		}
		if p.Retain {
			say("RETAIN")
		}
	case SUBSCRIBE:
		for _, f := range p.Filters {
			say("%q QoS %d", f.Filter, f.QoS)
		}
	case UNSUBSCRIBE:
		for _, f := range p.Filters {
			say("%q", f.Filter)
		}
	}
	for _, code := range p.Codes {
		say("code %d", code)
	}
	if p.Problem != "" {
		say("%s", p.Problem)
	}
	return strings.Join(parts, ", ")
}
