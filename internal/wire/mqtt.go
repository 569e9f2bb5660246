package wire

import (
	"encoding/binary"
	"fmt"
	"unsafe"
)

// MQTTType is the type of a control packet (MQTT 3.1.1 and 5, section 2.1.2).
type MQTTType uint8

// The types.
const (
	CONNECT MQTTType = iota + 1
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH // MQTT 5
)

var mqttNames = [...]string{"reserved 0", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"}

func (t MQTTType) String() string { return mqttNames[t&0xf] }

// MQTTPacket is one control packet, as far as people and graders look at it.
type MQTTPacket struct {
	Type   MQTTType
	Flags  byte // the lower four bits of the first byte
	Length int  // of what follows the fixed header

	PacketID uint16 // 0: none

	Topic         string // of a PUBLISH
	QoS           byte
	DUP, Retain   bool
	PayloadLength int

	Connect *MQTTConnect // of a CONNECT
	Filters []MQTTFilter // of a SUBSCRIBE or UNSUBSCRIBE
	Codes   []byte       // return or reason codes, of all that answer

	SessionPresent bool // of a CONNACK

	// Problem says why the packet could not be read to its end; empty: it could.
	Problem string
}

// bytes is what the packet takes in memory.
func (p *MQTTPacket) bytes() int {
	n := int(unsafe.Sizeof(*p)) + len(p.Topic) + len(p.Codes)
	for _, f := range p.Filters {
		n += int(unsafe.Sizeof(f)) + len(f.Filter)
	}
	if c := p.Connect; c != nil {
		n += len(c.Protocol) + len(c.ClientID)
		if c.Will != nil {
			n += len(c.Will.Topic)
		}
	}
	return n
}

// MQTTConnect is what a CONNECT says.
type MQTTConnect struct {
	Protocol  string // "MQTT"
	Level     byte   // 4: MQTT 3.1.1, 5: MQTT 5
	ClientID  string
	KeepAlive uint16 // seconds
	Clean     bool
	User      bool  // credentials came with it, which are not kept
	Will      *Will // nil: none
}

// Will is what the broker publishes when the connection ends without DISCONNECT.
type Will struct {
	Topic         string
	QoS           byte
	Retain        bool
	PayloadLength int
}

// MQTTFilter is one topic filter and, in a SUBSCRIBE, the highest QoS wanted.
type MQTTFilter struct {
	Filter string
	QoS    byte
}

// MQTTDecoder makes packets of the binary messages of one direction. Packets
// and messages do not have to align (MQTT 3.1.1, section 6).
type MQTTDecoder struct {
	// Limit is how many bytes of a packet are held. Of a longer one what
	// stands in them is told, and the lengths.
	Limit int
	// Level is the protocol's, 4 unless a CONNECT or the caller said otherwise.
	Level byte

	head   []byte // of the fixed header
	body   []byte
	length int  // of the packet under way
	rest   int  // what has still to come of it
	inBody bool // the fixed header is complete
	broken bool // a length that is none: no packet can be found any more
}

// mqttMany is how many packets of one message are told, and how many filters of
// one packet: packets of two bytes would make a message grow a hundredfold.
const mqttMany = 100

// Write takes one message and returns the packets that end in it, at most the
// first hundred.
func (d *MQTTDecoder) Write(message []byte) []MQTTPacket {
	var packets []MQTTPacket
	tell := func(p MQTTPacket) {
		if len(packets) < mqttMany {
			packets = append(packets, p)
		}
	}
	for !d.broken && (len(message) > 0 || d.inBody && d.rest == 0) {
		if !d.inBody {
			d.head = append(d.head, message[0])
			message = message[1:]
			n := len(d.head) - 1
			if n == 0 || n < 4 && d.head[n]&0x80 != 0 {
				continue
			}
			if d.head[n]&0x80 != 0 {
				d.broken = true
				tell(MQTTPacket{Type: MQTTType(d.head[0] >> 4), Flags: d.head[0] & 0xf, Problem: "the remaining length has more than four bytes"})
				break
			}
			length, _ := binary.Uvarint(d.head[1:]) // the same encoding
			d.length, d.rest, d.inBody = int(length), int(length), true
			continue
		}
		piece := message[:min(d.rest, len(message))]
		message = message[len(piece):]
		d.rest -= len(piece)
		d.body = append(d.body, piece[:min(len(piece), d.Limit-len(d.body))]...)
		if d.rest == 0 {
			tell(d.packet())
			d.head, d.body, d.inBody = d.head[:0], nil, false
		}
	}
	return packets
}

func (d *MQTTDecoder) packet() MQTTPacket {
	p := MQTTPacket{Type: MQTTType(d.head[0] >> 4), Flags: d.head[0] & 0xf, Length: d.length}
	r := mqttReader{b: d.body}
	v5 := d.Level >= 5
	switch p.Type {
	case CONNECT:
		p.Connect = r.connect()
		d.Level = p.Connect.Level
	case CONNACK:
		p.SessionPresent = r.byte()&1 != 0
		p.Codes = []byte{r.byte()}
	case PUBLISH:
		p.DUP, p.QoS, p.Retain = p.Flags&8 != 0, p.Flags>>1&3, p.Flags&1 != 0
		p.Topic = r.string()
		if p.QoS > 0 {
			p.PacketID = r.uint16()
		}
		if v5 {
			r.properties()
		}
		p.PayloadLength = d.length - r.at
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		p.PacketID = r.uint16()
		if v5 && r.more() {
			p.Codes = []byte{r.byte()}
		}
	case SUBSCRIBE, UNSUBSCRIBE:
		p.PacketID = r.uint16()
		if v5 {
			r.properties()
		}
		for r.more() {
			f := MQTTFilter{Filter: r.string()}
			if p.Type == SUBSCRIBE {
				f.QoS = r.byte() & 3
			}
			if len(p.Filters) == mqttMany {
				p.Problem = fmt.Sprintf("only the first %d filters are told", mqttMany)
				break
			}
			p.Filters = append(p.Filters, f)
		}
	case SUBACK, UNSUBACK:
		p.PacketID = r.uint16()
		if v5 {
			r.properties()
		}
		p.Codes = r.rest()
	case DISCONNECT, AUTH:
		if v5 && r.more() {
			p.Codes = []byte{r.byte()}
		}
	}
	if r.short {
		p.Problem = fmt.Sprintf("a %v packet that ends too early", p.Type)
		if d.length > len(d.body) {
			p.Problem = fmt.Sprintf("only the first %d bytes of the packet were kept", len(d.body))
		}
	}
	return p
}

// mqttReader reads the fields of a packet. Behind its end everything is zero.
type mqttReader struct {
	b     []byte
	at    int
	short bool
}

func (r *mqttReader) more() bool { return !r.short && r.at < len(r.b) }

func (r *mqttReader) take(n int) []byte {
	if n > len(r.b)-r.at {
		r.short, r.at = true, len(r.b)
		return make([]byte, min(n, 2)) // no field of fixed size has more
	}
	r.at += n
	return r.b[r.at-n : r.at]
}

func (r *mqttReader) byte() byte     { return r.take(1)[0] }
func (r *mqttReader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *mqttReader) rest() []byte   { return append([]byte(nil), r.take(len(r.b)-r.at)...) }

func (r *mqttReader) field() []byte {
	b := r.take(int(r.uint16()))
	if r.short {
		return nil
	}
	return b
}

func (r *mqttReader) string() string { return string(r.field()) }

func (r *mqttReader) properties() {
	length, n := binary.Uvarint(r.b[r.at:])
	if n <= 0 || length > uint64(len(r.b)-r.at-n) {
		r.short, r.at = true, len(r.b)
		return
	}
	r.at += n + int(length)
}

func (r *mqttReader) connect() *MQTTConnect {
	c := &MQTTConnect{Protocol: r.string(), Level: r.byte()}
	flags := r.byte()
	c.Clean, c.User = flags&0x02 != 0, flags&0x80 != 0
	c.KeepAlive = r.uint16()
	if c.Level >= 5 {
		r.properties()
	}
	c.ClientID = r.string()
	if flags&0x04 != 0 {
		if c.Level >= 5 {
			r.properties()
		}
		c.Will = &Will{Topic: r.string(), QoS: flags >> 3 & 3, Retain: flags&0x20 != 0, PayloadLength: len(r.field())}
	}
	return c
}
