package mqttws

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// violation is what a client did against MQTT, in words for its Close frame.
type violation string //nolint:errname // the standard's word

func (v violation) Error() string { return string(v) }

func violates(section, format string, args ...any) error {
	return violation(fmt.Sprintf(format, args...) + " (MQTT 3.1.1, section " + section + ")")
}

// packet is a control packet (MQTT 3.1.1, section 2).
type packet struct {
	kind  wire.MQTTType
	flags byte
	body  []byte // behind the fixed header
	cut   bool   // the body was longer than its limit: this is its beginning
}

// readPacket reads the next packet and holds up to limit bytes of its body, with
// no more room than has arrived.
func readPacket(r *bufio.Reader, limit int) (packet, error) {
	first, err := r.ReadByte()
	if err != nil {
		return packet{}, err
	}
	length := 0
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return packet{}, err
		}
		length |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			break
		}
		if shift == 21 {
			return packet{}, violates("2.2.3", "the remaining length has more than four bytes")
		}
	}
	p := packet{kind: wire.MQTTType(first >> 4), flags: first & 0xf}
	held := min(length, limit)
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r, int64(held)); err != nil {
		return packet{}, err
	}
	p.body, p.cut = body.Bytes(), held < length
	_, err = r.Discard(length - held)
	return p, err
}

// encode returns the packet's bytes.
func (p packet) encode() []byte {
	b := binary.AppendUvarint([]byte{byte(p.kind)<<4 | p.flags}, uint64(len(p.body))) // the same encoding
	return append(b, p.body...)
}

// answer is a packet that holds an identifier alone.
func answer(kind wire.MQTTType, id uint16) packet {
	p := packet{kind: kind, body: binary.BigEndian.AppendUint16(nil, id)}
	if kind == wire.PUBREL {
		p.flags = 2
	}
	return p
}

// fields reads the fields of a body. Behind its end they are empty, and short.
type fields struct {
	rest  []byte
	short bool
}

func (f *fields) take(n int) []byte {
	if n > len(f.rest) {
		f.rest, f.short = nil, true
		return make([]byte, min(n, 2)) // no field of fixed size has more
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) byte() byte     { return f.take(1)[0] }
func (f *fields) uint16() uint16 { return binary.BigEndian.Uint16(f.take(2)) }

// data is a field with its length before it.
func (f *fields) data() []byte {
	b := f.take(int(f.uint16()))
	if f.short {
		return nil
	}
	return b
}

func (f *fields) text() string { return string(f.data()) }

// ended reports whether all fields were there, and nothing else.
func (f *fields) ended() bool { return !f.short && len(f.rest) == 0 }

func appendData[T string | []byte](b []byte, data T) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}

// identifier is the packet identifier of an answer.
func (p packet) identifier() (uint16, error) {
	f := fields{rest: p.body}
	id := f.uint16()
	if f.short || id == 0 {
		return 0, violates("2.3.1", "a %v packet without an identifier", p.kind)
	}
	return id, nil
}

// publication is the head of a PUBLISH (section 3.3).
type publication struct {
	topic string
	qos   byte
	id    uint16 // 0: none, with QoS 0
}

func (p packet) publication() (publication, error) {
	f := fields{rest: p.body}
	m := publication{topic: f.text(), qos: p.flags >> 1 & 3}
	if m.qos > 0 {
		m.id = f.uint16()
	}
	switch {
	case f.short:
		return m, violates("3.3.2", "a PUBLISH packet that ends too early")
	case m.qos == 3:
		return m, violates("3.3.1.2", "a PUBLISH packet of QoS 3")
	case m.qos > 0 && m.id == 0:
		return m, violates("2.3.1", "a PUBLISH packet of QoS %d without an identifier", m.qos)
	}
	return m, nil
}

// subscription is a SUBSCRIBE (section 3.8).
type subscription struct {
	id      uint16
	filters []wire.MQTTFilter
}

func (p packet) subscription() (subscription, error) {
	f := fields{rest: p.body}
	s := subscription{id: f.uint16()}
	for !f.short && len(f.rest) > 0 {
		s.filters = append(s.filters, wire.MQTTFilter{Filter: f.text(), QoS: f.byte()})
		if qos := s.filters[len(s.filters)-1].QoS; qos > 2 {
			return s, violates("3.8.3", "a SUBSCRIBE packet that asks for QoS %d", qos)
		}
	}
	if f.short || len(s.filters) == 0 || s.id == 0 || p.flags != 2 {
		return s, violates("3.8", "a SUBSCRIBE packet that is ill formed")
	}
	return s, nil
}

func (s subscription) packet() packet {
	b := binary.BigEndian.AppendUint16(nil, s.id)
	for _, f := range s.filters {
		b = append(appendData(b, f.Filter), f.QoS)
	}
	return packet{kind: wire.SUBSCRIBE, flags: 2, body: b}
}

// connect is a CONNECT (section 3.1).
type connect struct {
	level     byte
	clean     bool
	keepAlive uint16 // seconds
	clientID  string
	will      *will // nil: none
	user      string
	password  []byte // nil: none, as without a user
}

type will struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
}

// Flags of a CONNECT (section 3.1.2.3).
const (
	flagClean, flagWill, flagWillRetain, flagPassword, flagUser = 0x02, 0x04, 0x20, 0x40, 0x80
)

// connect reads a CONNECT. Of a level other than 4 it reads no more than that.
func (p packet) connect() (connect, error) {
	if p.kind != wire.CONNECT {
		return connect{}, violates("3.1", "the first packet is %v and not CONNECT", p.kind)
	}
	f := fields{rest: p.body}
	name := f.text()
	c := connect{level: f.byte()}
	if f.short || name != "MQTT" && name != "MQIsdp" {
		return c, violates("3.1.2.1", "the CONNECT packet does not name the protocol MQTT")
	}
	if c.level != 4 {
		return c, nil
	}
	flags := f.byte()
	c.clean, c.keepAlive, c.clientID = flags&flagClean != 0, f.uint16(), f.text()
	if flags&flagWill != 0 {
		c.will = &will{topic: f.text(), payload: f.data(), qos: flags >> 3 & 3, retain: flags&flagWillRetain != 0}
	}
	if flags&flagUser != 0 {
		c.user = f.text()
	}
	if flags&flagPassword != 0 {
		c.password = f.data()
	}
	noWill := flags&flagWill == 0 && flags&(flagWillRetain|0x18) != 0
	noUser := flags&flagUser == 0 && flags&flagPassword != 0
	if !f.ended() || p.flags != 0 || flags&1 != 0 || flags&0x18 == 0x18 || noWill || noUser {
		return c, violates("3.1", "a CONNECT packet that is ill formed")
	}
	return c, nil
}

func (c connect) packet() packet {
	var flags byte
	payload := appendData(nil, c.clientID)
	if c.clean {
		flags |= flagClean
	}
	if w := c.will; w != nil {
		flags |= flagWill | w.qos<<3
		if w.retain {
			flags |= flagWillRetain
		}
		payload = appendData(appendData(payload, w.topic), w.payload)
	}
	if c.user != "" {
		flags |= flagUser
		payload = appendData(payload, c.user)
		if c.password != nil {
			flags |= flagPassword
			payload = appendData(payload, c.password)
		}
	}
	b := append(appendData(nil, "MQTT"), c.level, flags)
	b = binary.BigEndian.AppendUint16(b, c.keepAlive)
	return packet{kind: wire.CONNECT, body: append(b, payload...)}
}
