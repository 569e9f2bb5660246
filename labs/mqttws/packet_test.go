package mqttws

import (
	"bufio"
	"bytes"
	"reflect"
	"testing"

	"github.com/sluice-gateway/sluice/internal/wire"
)

func TestCONNECTIsWrittenAsItWasRead(t *testing.T) {
	for _, c := range []connect{
		{level: 4, clean: true, clientID: "c"},
		{level: 4, keepAlive: 65535, clientID: "c", user: "u"},
		{level: 4, clientID: "c", user: "u", password: []byte{}},
		{level: 4, clientID: "", clean: true, user: "u", password: []byte("\x00p")},
		{level: 4, clientID: "c", will: &will{topic: "t", payload: []byte("p"), qos: 2, retain: true}, user: "u", password: []byte("p")},
		{level: 4, clientID: "c", will: &will{topic: "t", payload: []byte{}, qos: 1}},
	} {
		p, err := readPacket(bufio.NewReader(bytes.NewReader(c.packet().encode())), 1000)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.connect(); err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("got %+v, %v; want %+v", got, err, c)
		}
	}
}

// FuzzPackets: whatever comes is refused, or read within its bounds, and what is
// passed on says the same as what was read.
func FuzzPackets(f *testing.F) {
	f.Add([]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c"))
	f.Add([]byte("\x82\x08\x00\x01\x00\x03a/b\x01"))
	f.Add([]byte("\x34\x07\x00\x03a/b\x00\x01"))
	f.Add([]byte("\x30\x80\x80\x80\x01"))
	f.Add([]byte("\x62\x02\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 64
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			p, err := readPacket(r, limit)
			if err != nil {
				return
			}
			if len(p.body) > limit {
				t.Fatalf("%d bytes are held", len(p.body))
			}
			_, _ = p.identifier()
			_, _ = p.publication()
			switch p.kind {
			case wire.CONNECT:
				if c, err := p.connect(); err == nil && c.level == 4 && (c.user != "" || p.body[7]&flagUser == 0) {
					if !bytes.Equal(c.packet().body[8:], p.body[8:]) {
						t.Fatalf("%x was written as %x", p.body, c.packet().body)
					}
				}
			case wire.SUBSCRIBE:
				if s, err := p.subscription(); err == nil && !bytes.Equal(s.packet().encode(), p.encode()) {
					t.Fatalf("%x was written as %x", p.encode(), s.packet().encode())
				}
			}
		}
	})
}
