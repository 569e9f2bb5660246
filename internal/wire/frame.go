package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Direction says which way bytes go.
type Direction uint8

// The two directions. In the first, frames are masked.
const (
	ToServer Direction = iota
	ToClient
)

func (d Direction) String() string {
	if d == ToServer {
		return "client to server"
	}
	return "server to client"
}

// Opcode is what a frame is (RFC 6455, section 5.2).
type Opcode uint8

// The opcodes of RFC 6455. The others are reserved.
const (
	Continuation Opcode = 0x0
	Text         Opcode = 0x1
	Binary       Opcode = 0x2
	Close        Opcode = 0x8
	Ping         Opcode = 0x9
	Pong         Opcode = 0xA
)

// Control reports whether frames of this opcode are control frames, known or reserved.
func (o Opcode) Control() bool { return o&0x8 != 0 }

func (o Opcode) String() string {
	switch o {
	case Continuation:
		return "continuation"
	case Text:
		return "text"
	case Binary:
		return "binary"
	case Close:
		return "close"
	case Ping:
		return "ping"
	case Pong:
		return "pong"
	}
	return fmt.Sprintf("reserved opcode 0x%X", uint8(o))
}

// LengthForm is how a header writes the payload's length, in bits.
type LengthForm uint8

// The three forms. A sender has to use the first that the length fits into.
const (
	Length7  LengthForm = 7
	Length16 LengthForm = 16
	Length64 LengthForm = 64
)

// shortest is the form that a sender has to use.
func shortest(length uint64) LengthForm {
	switch {
	case length <= 125:
		return Length7
	case length <= math.MaxUint16:
		return Length16
	}
	return Length64
}

// Header is everything of a frame but its payload.
type Header struct {
	FIN, RSV1, RSV2, RSV3 bool
	Opcode                Opcode
	Masked                bool
	Key                   [4]byte // what the payload is masked with
	Form                  LengthForm
	Length                uint64 // of the payload, as the header says
}

// maxHeaderBytes is the size of the largest header.
const maxHeaderBytes = 2 + 8 + 4

// Size is the number of bytes of the header itself, 2 to 14.
func (h *Header) Size() int {
	n := 2
	switch h.Form {
	case Length16:
		n += 2
	case Length64:
		n += 8
	}
	if h.Masked {
		n += len(h.Key)
	}
	return n
}

// Frame is one frame.
type Frame struct {
	Header
	// Payload is unmasked. It is shorter than Length when the frame did not
	// arrive as a whole, and when whoever recorded it does not keep more.
	Payload []byte
}

// NewFrame makes an unmasked frame whose header is right.
func NewFrame(fin bool, opcode Opcode, payload []byte) Frame {
	n := uint64(len(payload))
	return Frame{Header{FIN: fin, Opcode: opcode, Form: shortest(n), Length: n}, payload}
}

// Mask returns the frame as a client sends it.
func (f Frame) Mask(key [4]byte) Frame {
	f.Masked, f.Key = true, key
	return f
}

// Append appends the frame's bytes, with whatever its fields say: a length that
// is not the payload's, a form that is too long, a reserved opcode. What does
// not fit into a field is cut: four bits of the opcode, as much of the length
// as the form has room for. Form 0 is the shortest one.
func (f Frame) Append(b []byte) []byte {
	first := bit(f.FIN, 0x80) | bit(f.RSV1, 0x40) | bit(f.RSV2, 0x20) | bit(f.RSV3, 0x10) | byte(f.Opcode&0xf)
	second := bit(f.Masked, 0x80)
	form := f.Form
	if form == 0 {
		form = shortest(f.Length)
	}
	switch form {
	case Length16:
		b = binary.BigEndian.AppendUint16(append(b, first, second|126), uint16(f.Length))
	case Length64:
		b = binary.BigEndian.AppendUint64(append(b, first, second|127), f.Length)
	default:
		b = append(b, first, second|byte(f.Length&0x7f))
	}
	if !f.Masked {
		return append(b, f.Payload...)
	}
	b = append(b, f.Key[:]...)
	start := len(b)
	b = append(b, f.Payload...)
	mask(f.Key, 0, b[start:])
	return b
}

func bit(set bool, b byte) byte {
	if set {
		return b
	}
	return 0
}

// mask masks or unmasks b, whose first byte is the payload's byte number at.
func mask(key [4]byte, at uint64, b []byte) {
	for i := range b {
		b[i] ^= key[(at+uint64(i))&3]
	}
}

// NoStatus is what a Close frame without a code means to its receiver, and
// Abnormal the end of a connection without a Close frame. Neither is ever sent
// (RFC 6455, section 7.4.1).
const (
	NoStatus = 1005
	Abnormal = 1006
)

// ClosePayload reads the payload of a Close frame. The code is NoStatus when
// there is none.
func ClosePayload(payload []byte) (code int, reason string) {
	if len(payload) < 2 {
		return NoStatus, ""
	}
	return int(binary.BigEndian.Uint16(payload)), string(payload[2:])
}

// NewClose makes an unmasked Close frame; code 0 or NoStatus: an empty one.
// A reason of more than 123 bytes makes a wrong one.
func NewClose(code int, reason string) Frame {
	if code == 0 || code == NoStatus {
		return NewFrame(true, Close, nil)
	}
	return NewFrame(true, Close, append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
}
