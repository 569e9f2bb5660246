package wire

import (
	"encoding/binary"
	"iter"
	"math"
)

// Part is a piece of a frame: its header, with as much of its payload as has
// arrived, or more of the payload.
type Part struct {
	Header *Header // of the frame; it is the same one in each of its parts
	First  bool    // the header has just become complete
	Last   bool    // the payload is complete with this part
	Data   []byte  // unmasked; valid until the next part is asked for
	// At is where in the chunk the part's own bytes end: behind the header, or
	// behind Data.
	At int
}

// Decoder makes frames of the bytes of one direction. It accepts everything: two
// bytes are enough to say what a frame is and how long. It holds at most one
// header between two chunks.
type Decoder struct {
	head    [maxHeaderBytes]byte
	got     int     // bytes of head
	header  *Header // of the frame whose payload arrives; nil: between two frames
	done    uint64  // bytes of that payload
	scratch []byte
}

// Parts goes through one chunk, which is not changed. Whatever is left of a
// frame is kept for the next chunk. Stop the loop only to give up the stream.
func (d *Decoder) Parts(chunk []byte) iter.Seq[Part] {
	return func(yield func(Part) bool) {
		for at := 0; ; {
			part := Part{}
			if d.header == nil {
				n, complete := d.readHeader(chunk[at:])
				at += n
				if !complete {
					return
				}
				part.First = true
			} else if at == len(chunk) {
				return
			}
			part.Header = d.header
			if !part.First {
				n := int(min(d.header.Length-d.done, uint64(len(chunk)-at)))
				part.Data = d.unmask(chunk[at : at+n])
				at += n
				d.done += uint64(n)
			}
			part.At = at
			if part.Last = d.done == d.header.Length; part.Last {
				d.header, d.got, d.done = nil, 0, 0
			}
			if !yield(part) {
				return
			}
		}
	}
}

// Between reports whether the bytes so far end with a frame's end.
func (d *Decoder) Between() bool { return d.header == nil && d.got == 0 }

// readHeader takes what it needs of b and says how much that was.
func (d *Decoder) readHeader(b []byte) (n int, complete bool) {
	for {
		need := headerSize(d.head[:d.got])
		if d.got == need {
			d.header = parseHeader(d.head[:need])
			return n, true
		}
		if len(b) == n {
			return n, false
		}
		took := copy(d.head[d.got:need], b[n:])
		n += took
		d.got += took
	}
}

// headerSize is how many bytes a header has, as far as its first bytes tell.
func headerSize(head []byte) int {
	if len(head) < 2 {
		return 2
	}
	n := 2
	switch head[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if head[1]&0x80 != 0 {
		n += 4
	}
	return n
}

func parseHeader(b []byte) *Header {
	h := &Header{
		FIN: b[0]&0x80 != 0, RSV1: b[0]&0x40 != 0, RSV2: b[0]&0x20 != 0, RSV3: b[0]&0x10 != 0,
		Opcode: Opcode(b[0] & 0xf), Masked: b[1]&0x80 != 0, Form: Length7, Length: uint64(b[1] & 0x7f),
	}
	b = b[2:]
	switch h.Length {
	case 126:
		h.Form, h.Length, b = Length16, uint64(binary.BigEndian.Uint16(b)), b[2:]
	case 127:
		h.Form, h.Length, b = Length64, binary.BigEndian.Uint64(b), b[8:]
	}
	copy(h.Key[:], b)
	return h
}

func (d *Decoder) unmask(b []byte) []byte {
	if !d.header.Masked {
		return b
	}
	d.scratch = append(d.scratch[:0], b...)
	mask(d.header.Key, d.done, d.scratch)
	return d.scratch
}

// Frames decodes all of b. partial is the frame that b ends within, with what
// there is of its payload; nil: none whose header is complete.
func Frames(b []byte) (frames []Frame, partial *Frame) {
	var d Decoder
	var under *keptFrame
	for part := range d.Parts(b) {
		if part.First {
			under = &keptFrame{max: math.MaxInt}
		}
		if under.add(part); part.Last {
			frames, under = append(frames, under.Frame), nil
		}
	}
	if under == nil {
		return frames, nil
	}
	return frames, &under.Frame
}

// keptFrame collects the parts of a frame, and at most max bytes of its payload.
type keptFrame struct {
	Frame
	max      int
	received uint64
}

func (k *keptFrame) add(p Part) {
	k.Header = *p.Header
	k.received += uint64(len(p.Data))
	k.Payload = append(k.Payload, p.Data[:min(len(p.Data), k.max-len(k.Payload))]...)
}
