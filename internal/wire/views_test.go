package wire

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGraphQLMessages(t *testing.T) {
	for _, c := range []struct {
		subprotocol string
		direction   Direction
		text        string
		want        *GraphQL
	}{
		{GraphQLTransportWS, ToServer, `{"type":"subscribe","id":"1","payload":{"query":"q"}}`, &GraphQL{"subscribe", "1", []byte(`{"query":"q"}`), true}},
		{GraphQLTransportWS, ToClient, `{"type":"subscribe","id":"1"}`, &GraphQL{"subscribe", "1", nil, false}},
		{GraphQLTransportWS, ToServer, `{"type":"start","id":"1"}`, &GraphQL{"start", "1", nil, false}},
		{GraphQLWS, ToServer, `{"type":"start","id":"1"}`, &GraphQL{"start", "1", nil, true}},
		{GraphQLWS, ToClient, `{"type":"ka"}`, &GraphQL{Type: "ka", Known: true}},
		{GraphQLWS, ToClient, `{"id":"1"}`, nil},
		{GraphQLWS, ToClient, `{"type":1}`, nil},
		{GraphQLWS, ToClient, `not JSON`, nil},
		{"chat", ToClient, `{"type":"ka"}`, nil},
	} {
		if diff := cmp.Diff(c.want, ParseGraphQL(c.subprotocol, c.direction, []byte(c.text))); diff != "" {
			t.Errorf("%s %v %s: %s", c.subprotocol, c.direction, c.text, diff)
		}
	}
}

func TestMQTTPackets(t *testing.T) {
	for name, c := range map[string]struct {
		level byte
		bytes string
		want  []MQTTPacket
	}{
		"CONNECT": {4, "10 10 0004 4d515454 04 02 003c 0004 61626364", []MQTTPacket{{Type: CONNECT, Length: 16, Connect: &MQTTConnect{Protocol: "MQTT", Level: 4, ClientID: "abcd", KeepAlive: 60, Clean: true}}}},
		"CONNECT with all": {4, "10 19 0004 4d515454 04 ec 0005 0001 61 0001 77 0003 000000 0001 75 0000", []MQTTPacket{{Type: CONNECT, Length: 25, Connect: &MQTTConnect{
			Protocol: "MQTT", Level: 4, ClientID: "a", KeepAlive: 5, User: true, Will: &Will{Topic: "w", QoS: 1, Retain: true, PayloadLength: 3},
		}}}},
		"CONNECT of 5": {4, "10 13 0004 4d515454 05 02 000a 05 11 00000001 0001 61", []MQTTPacket{{Type: CONNECT, Length: 19, Connect: &MQTTConnect{Protocol: "MQTT", Level: 5, ClientID: "a", KeepAlive: 10, Clean: true}}}},
		"CONNACK":      {4, "20 02 01 00", []MQTTPacket{{Type: CONNACK, Length: 2, SessionPresent: true, Codes: []byte{0}}}},
		"PUBLISH":      {4, "3d 08 0003 612f62 0007 ff", []MQTTPacket{{Type: PUBLISH, Flags: 13, Length: 8, Topic: "a/b", QoS: 2, DUP: true, Retain: true, PacketID: 7, PayloadLength: 1}}},
		"PUBLISH 0":    {4, "30 05 0003 612f62", []MQTTPacket{{Type: PUBLISH, Length: 5, Topic: "a/b"}}},
		"PUBLISH of 5": {5, "30 09 0003 612f62 02 0101 ff", []MQTTPacket{{Type: PUBLISH, Length: 9, Topic: "a/b", PayloadLength: 1}}},
		"the answers":  {4, "40 02 0007 50 02 0008 62 02 0008 70 02 0008", []MQTTPacket{{Type: PUBACK, Length: 2, PacketID: 7}, {Type: PUBREC, Length: 2, PacketID: 8}, {Type: PUBREL, Flags: 2, Length: 2, PacketID: 8}, {Type: PUBCOMP, Length: 2, PacketID: 8}}},
		"SUBSCRIBE":    {4, "82 0a 0001 0001 23 01 0001 2b 00", []MQTTPacket{{Type: SUBSCRIBE, Flags: 2, Length: 10, PacketID: 1, Filters: []MQTTFilter{{"#", 1}, {"+", 0}}}}},
		"UNSUBSCRIBE":  {4, "a2 05 0001 0001 23", []MQTTPacket{{Type: UNSUBSCRIBE, Flags: 2, Length: 5, PacketID: 1, Filters: []MQTTFilter{{Filter: "#"}}}}},
		"SUBACK":       {4, "90 04 0001 01 80", []MQTTPacket{{Type: SUBACK, Length: 4, PacketID: 1, Codes: []byte{1, 0x80}}}},
		"pings, end":   {4, "c0 00 d0 00 e0 00", []MQTTPacket{{Type: PINGREQ}, {Type: PINGRESP}, {Type: DISCONNECT}}},
		"too early":    {4, "32 02 0009", []MQTTPacket{{Type: PUBLISH, Flags: 2, Length: 2, QoS: 1, Problem: "a PUBLISH packet that ends too early"}}},
		"a bad length": {4, "30 80 80 80 80 01", []MQTTPacket{{Type: PUBLISH, Problem: "the remaining length has more than four bytes"}}},
	} {
		b := unhex(t, c.bytes)
		for _, n := range []int{1, 3, len(b)} {
			d := MQTTDecoder{Limit: 1000, Level: c.level}
			var got []MQTTPacket
			for rest := b; len(rest) > 0; rest = rest[min(n, len(rest)):] {
				got = append(got, d.Write(rest[:min(n, len(rest))])...)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s in messages of %d: %s", name, n, diff)
			}
		}
	}
}

func TestMQTTIsBounded(t *testing.T) {
	d := MQTTDecoder{Limit: 10, Level: 4}
	got := d.Write(unhex(t, "30 c8 01 0003 612f62"+strings.Repeat("ff", 195)+"c0 00"))
	want := []MQTTPacket{{Type: PUBLISH, Length: 200, Topic: "a/b", PayloadLength: 195}, {Type: PINGREQ}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, message := range []string{strings.Repeat("c000", 5000), strings.Repeat("c000", mqttMany) + "c0ffffffff"} {
		if got := d.Write(unhex(t, message)); len(got) != mqttMany {
			t.Errorf("%d packets of one message", len(got))
		}
	}
	d = MQTTDecoder{Limit: 100_000, Level: 4}
	if got := d.Write(unhex(t, "82 ba 17 0001"+strings.Repeat("000000", 1000))); len(got) != 1 || len(got[0].Filters) != mqttMany || got[0].Problem == "" {
		t.Errorf("got %d filters", len(got[0].Filters))
	}
}

func FuzzMQTT(f *testing.F) {
	f.Add([]byte("\x10\x10\x00\x04MQTT\x05\xfe\x00<\x00\x00\x04abcd"), 3)
	f.Add([]byte("\x82\x0a\x00\x01\x00\x01#\x01\x00\x01+\x00"), 1)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 1 {
			return
		}
		whole, cut := MQTTDecoder{Limit: 100, Level: 4}, MQTTDecoder{Limit: 100, Level: 4}
		want := whole.Write(b)
		var got []MQTTPacket
		for rest := b; len(rest) > 0; rest = rest[min(n, len(rest)):] {
			got = append(got, cut.Write(rest[:min(n, len(rest))])...)
		}
		if diff := cmp.Diff(want, got[:min(len(got), mqttMany)]); diff != "" {
			t.Fatal(diff)
		}
	})
}
