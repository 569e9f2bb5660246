package embedded

import (
	"bytes"
	"strings"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sluice-gateway/sluice/bridges"
)

// access is the broker's rules. Without any of this kind mochi refuses everyone.
type access struct {
	mqtt.HookBase
	conns *connections
}

func (*access) ID() string { return "access" }

func (*access) Provides(b byte) bool {
	return bytes.IndexByte([]byte{
		mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablished, mqtt.OnPacketRead,
		mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnPublish, mqtt.OnACLCheck,
	}, b) >= 0
}

// OnConnect comes before mochi looks for a session of that id.
func (*access) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	if t, ok := cl.Net.Conn.(*trackedConn); ok {
		t.oddKeepAlive = pk.Connect.Keepalive%2 == 1
		cl.ID = t.guest.Prefix + cl.ID
	}
	return nil
}

// OnConnectAuthenticate refuses a will on a topic that may not be published to:
// mochi asks about a will neither now nor when it is sent.
func (*access) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	return !pk.Connect.WillFlag || mayPublish(cl, pk.Connect.WillTopic)
}

// OnSessionEstablished is no rule: it is how mochi says that it knows a client.
func (a *access) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	a.conns.established(cl.Net.Conn)
}

// OnPacketRead renames the topics that mochi drops before it asks anybody, and
// without an acknowledgement, so that they are refused as others are.
func (*access) OnPacketRead(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Type == packets.Publish && len(pk.TopicName) >= len(mqtt.SysPrefix) && strings.EqualFold(pk.TopicName[:len(mqtt.SysPrefix)], mqtt.SysPrefix) {
		pk.TopicName = "$"
	}
	return pk, nil
}

// OnSubscribe judges the filters of a SUBSCRIBE, for OnACLCheck.
func (*access) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	t, ok := cl.Net.Conn.(*trackedConn)
	if !ok {
		return pk
	}
	asked := make(map[string]bool, len(pk.Filters))
	for _, s := range pk.Filters {
		asked[s.Filter] = t.guest.mayRead(s.Filter)
	}
	t.ask(asked)
	return pk
}

// OnSubscribed comes before retained messages are sent.
func (*access) OnSubscribed(cl *mqtt.Client, _ packets.Packet, _ []byte) {
	if t, ok := cl.Net.Conn.(*trackedConn); ok {
		t.ask(nil)
	}
}

// OnPublish lets a refused publication of a client older than MQTT 5 be
// acknowledged, and go nowhere.
func (*access) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if cl.Properties.ProtocolVersion < 5 && !mayPublish(cl, pk.TopicName) {
		return pk, packets.CodeSuccessIgnore
	}
	return pk, nil
}

// OnACLCheck is asked about the topic of a publication, about each filter of a
// SUBSCRIBE, and, in the same words, about each topic that is to be delivered.
func (*access) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	if write {
		return cl.Properties.ProtocolVersion < 5 || mayPublish(cl, topic)
	}
	if t, ok := cl.Net.Conn.(*trackedConn); ok {
		if verdict, asked := t.verdict(topic); asked {
			return verdict
		}
	}
	return mayReceive(cl, topic)
}

func mayPublish(cl *mqtt.Client, topic string) bool {
	if t, ok := cl.Net.Conn.(*trackedConn); ok && !t.guest.mayPublish(topic) {
		return false
	}
	return topic != "" && !strings.HasPrefix(topic, "$") && !strings.ContainsAny(topic, "+#")
}

// mayReceive asks for a filter of the client's that matches, where mochi finds
// more than do: topics of lab sessions, for any wildcard, and those that begin
// with '$', for a shared subscription or a retained message.
func mayReceive(cl *mqtt.Client, topic string) bool {
	if _, lab := bridges.LabTopic(topic); !lab && !strings.HasPrefix(topic, "$") {
		return true
	}
	for filter := range cl.State.Subscriptions.GetAll() {
		if mqtt.IsSharedFilter(filter) { // $share/<group>/<filter>
			_, filter, _ = strings.Cut(filter, "/")
			_, filter, _ = strings.Cut(filter, "/")
		}
		if bridges.MatchMQTT(filter, topic) {
			return true
		}
	}
	return false
}

func (t *trackedConn) ask(filters map[string]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = filters
}

func (t *trackedConn) verdict(filter string) (allowed, asked bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	allowed, asked = t.asked[filter]
	return allowed, asked
}
