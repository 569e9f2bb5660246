package wire

import (
	"encoding/hex"
	"fmt"
)

// Field is one field of a frame, as RFC 6455, section 5.2 draws it.
type Field struct {
	Name    string
	Offset  int    // of its first bit, from the frame's first
	Bits    int    // how many there are
	Value   string // flags and numbers in decimal, opcodes and bytes in hexadecimal
	Meaning string // a few words; empty: the value says it
}

// Fields takes a frame apart, in the order in which its bits are sent. The
// payload is as it is on the wire: masked, if the frame is. Of a long one the
// value has the first bytes alone.
func (f Frame) Fields() []Field {
	list := make([]Field, 0, 10)
	at := 0
	add := func(name string, bits int, value, meaning string) {
		list = append(list, Field{name, at, bits, value, meaning})
		at += bits
	}
	flag := func(name string, set bool, yes, no string) {
		if set {
			add(name, 1, "1", yes)
			return
		}
		add(name, 1, "0", no)
	}
	flag("FIN", f.FIN, "the last frame of its message", "more frames of this message follow")
	flag("RSV1", f.RSV1, "of an extension: the message is compressed, if permessage-deflate was agreed on", "")
	flag("RSV2", f.RSV2, "of an extension", "")
	flag("RSV3", f.RSV3, "of an extension", "")
	add("opcode", 4, fmt.Sprintf("0x%X", uint8(f.Opcode&0xf)), f.Opcode.String())
	flag("MASK", f.Masked, "the payload is masked, as all of a client's are", "not masked, as none of a server's is")
	switch f.Form {
	case Length16:
		add("payload length", 7, "126", "the length is in the next 16 bits")
		add("extended payload length", 16, fmt.Sprint(f.Length), "bytes")
	case Length64:
		add("payload length", 7, "127", "the length is in the next 64 bits")
		add("extended payload length", 64, fmt.Sprint(f.Length), "bytes")
	default:
		add("payload length", 7, fmt.Sprint(f.Length), "bytes")
	}
	if f.Masked {
		add("masking key", 32, hex.EncodeToString(f.Key[:]), "")
	}
	shown := append([]byte(nil), f.Payload[:min(len(f.Payload), fieldBytes)]...)
	meaning := ""
	if f.Masked {
		mask(f.Key, 0, shown)
		meaning = "masked: each byte XOR a byte of the key"
	}
	if f.Length > 0 {
		add("payload", 8*int(min(f.Length, maxFieldBits)), hex.EncodeToString(shown), meaning)
	}
	return list
}

// fieldBytes is how much of a payload a field's value shows, and maxFieldBits
// keeps its length, which a header may only promise, a number of bits.
const (
	fieldBytes   = 64
	maxFieldBits = 1 << 27
)
