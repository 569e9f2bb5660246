package labs

import (
	"fmt"
	"net"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// referee stands between a connection and the library that reads it. It stops
// the game at the first byte that breaks a rule: the library sees only what is
// right, then a foul, or the client's Close frame as a websocket.CloseError, as
// the error of Read. The library alone would let pass a length that is not in
// its shortest form, a Close body of one byte, text that is none, and, where
// compression was agreed on, RSV1 on any frame; and it would refuse code 1014,
// which is registered.
type referee struct {
	net.Conn
	checker wire.Checker
	limit   uint64 // of a message's bytes, as they are on the wire

	decoder wire.Decoder
	size    uint64 // of the message under way, as its headers say
	ready   []byte // what the library may have, within passed
	passed  []byte
	held    []byte // a header that is not complete
	closing []byte // the payload of a Close frame
	err     error  // what comes behind ready
	buf     [4096]byte
}

// Foul is the end of a connection by the client's fault.
type Foul struct{ wire.Problem } //nolint:errname // the field's word

func (f *Foul) Error() string { return f.String() }

// Read implements net.Conn.
func (r *referee) Read(b []byte) (int, error) {
	for len(r.ready) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		n, err := r.Conn.Read(r.buf[:])
		r.err = err
		r.judge(r.buf[:n])
	}
	n := copy(b, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// judge lets pass what is right of a chunk.
func (r *referee) judge(chunk []byte) {
	good := 0
	for part := range r.decoder.Parts(chunk) {
		problems := r.checker.Check(part)
		if len(problems) == 0 {
			problems = r.measure(part)
		}
		if len(problems) > 0 {
			r.err = &Foul{problems[0]}
			break
		}
		if part.Header.Opcode == wire.Close {
			r.closing = append(r.closing, part.Data...)
			if part.Last {
				code, reason := wire.ClosePayload(r.closing)
				r.err = &websocket.CloseError{Code: code, Text: reason}
				break
			}
		}
		good = part.At
	}
	if good > 0 {
		r.passed = append(append(r.passed[:0], r.held...), chunk[:good]...)
		r.ready, r.held = r.passed, r.held[:0]
	}
	if r.err == nil {
		r.held = append(r.held, chunk[good:]...)
	}
}

// measure holds messages to the limit as soon as a header goes over it.
func (r *referee) measure(p wire.Part) []wire.Problem {
	if !p.First || p.Header.Opcode.Control() {
		return nil
	}
	if p.Header.Opcode != wire.Continuation {
		r.size = 0
	}
	if p.Header.Length > r.limit-r.size {
		return []wire.Problem{tooLarge(r.limit)}
	}
	r.size += p.Header.Length
	return nil
}

func tooLarge(limit uint64) wire.Problem {
	return wire.Problem{
		Rule: wire.RuleTooLarge, Section: "RFC 6455, section 10.4", Code: 1009,
		Text: fmt.Sprintf("the message is too large: at most %d bytes", limit),
	}
}
