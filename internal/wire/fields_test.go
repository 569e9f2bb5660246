package wire

import (
	"fmt"
	"strings"
	"testing"
)

// The fields are those of the frame's own bytes, bit for bit.
func TestFieldsCoverAFrame(t *testing.T) {
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	frames := map[string]Frame{
		"empty":             NewFrame(true, Text, nil),
		"the RFC's Hello":   NewFrame(true, Text, []byte("Hello")).Mask(key),
		"16 bits":           NewFrame(false, Binary, make([]byte, 126)),
		"64 bits, masked":   NewFrame(true, Continuation, make([]byte, 65536)).Mask(key),
		"reserved":          {Header: Header{RSV1: true, RSV3: true, Opcode: 0xB, Form: Length7}},
		"longer than meant": {Header: Header{FIN: true, Opcode: Text, Form: Length64, Length: 1}, Payload: []byte("x")},
	}
	for name, f := range frames {
		t.Run(name, func(t *testing.T) {
			bytes := f.Append(nil)
			at := 0
			for _, field := range f.Fields() {
				if field.Offset != at || field.Bits < 1 {
					t.Errorf("%s is at bit %d, want %d", field.Name, field.Offset, at)
				}
				at += field.Bits
				if field.Name == "payload" || field.Name == "masking key" {
					from := field.Offset / 8
					if shown := fmt.Sprintf("%x", bytes[from:from+min(field.Bits/8, fieldBytes)]); field.Value != shown {
						t.Errorf("%s is %s, on the wire %s", field.Name, field.Value, shown)
					}
				}
			}
			if at != 8*len(bytes) {
				t.Errorf("the fields have %d bits, the frame %d", at, 8*len(bytes))
			}
		})
	}
	var hello []string
	for _, field := range frames["the RFC's Hello"].Fields() {
		hello = append(hello, field.Name+" "+field.Value)
	}
	if got, want := strings.Join(hello, ", "), "FIN 1, RSV1 0, RSV2 0, RSV3 0, opcode 0x1, MASK 1, payload length 5, masking key 37fa213d, payload 7f9f4d5158"; got != want {
		t.Errorf("got %s\nwant %s (RFC 6455, section 5.7)", got, want)
	}
}

func TestFieldsOfALengthThatIsOnlyPromised(t *testing.T) {
	f := Frame{Header: Header{FIN: true, Opcode: Binary, Form: Length64, Length: 1 << 63}}
	for _, field := range f.Fields() {
		if field.Bits < 0 || field.Offset < 0 {
			t.Errorf("%+v", field)
		}
	}
}
