package wire

import (
	"crypto/sha256"
	"hash"
)

// Message is a data message: all its fragments together, inflated.
type Message struct {
	Opcode     Opcode // Text or Binary
	Size       uint64 // in bytes, inflated
	WireSize   uint64 // of the payloads that carried it
	Fragments  int
	Compressed bool
	Data       []byte            // the first bytes, as many as are kept
	SHA256     [sha256.Size]byte // of all Size bytes
	Problems   []Problem         // why it is no message; then it may be the beginning of one only

	GraphQL *GraphQL     // what it says in the connection's subprotocol; nil: nothing
	MQTT    []MQTTPacket // those that end in it
}

// Assembler makes messages of the frames of one direction.
type Assembler struct {
	Checker
	// Limit is how many bytes of a message are kept, and how many a compressed
	// one may have, both on the wire and inflated.
	Limit int

	deflate  *inflater // nil: permessage-deflate was not agreed on
	message  *Message  // under way
	wire     []byte    // of a compressed one: what has arrived
	sum      hash.Hash
	skipping bool // the rest of a message that was given up
}

// NewAssembler makes an Assembler. deflate is what the handshake agreed on; nil: no compression.
func NewAssembler(d Direction, deflate *Deflate, limit int) *Assembler {
	a := &Assembler{Checker: Checker{Direction: d, Compressed: deflate != nil}, Limit: limit, sum: sha256.New()}
	if deflate != nil {
		a.deflate = newInflater(d, *deflate)
	}
	return a
}

// Add takes the next part of a frame and returns what is wrong with it, and the
// message that is complete with it; nil: none. A message is given up, and
// returned with its problem, at the first byte that spoils it. One that another
// message interrupts is never returned.
func (a *Assembler) Add(p Part) ([]Problem, *Message) {
	problems := a.Check(p)
	h := p.Header
	if h.Opcode.Control() || a.ignored {
		return problems, nil
	}
	if p.First {
		if h.Opcode != Continuation {
			a.message, a.skipping = &Message{Opcode: h.Opcode, Compressed: a.deflated}, false
			a.wire = nil
			a.sum.Reset()
		}
		if !a.skipping {
			a.message.Fragments++
		}
	}
	if a.skipping {
		return problems, nil
	}
	m := a.message
	m.WireSize += uint64(len(p.Data))
	if m.Compressed {
		if m.WireSize > uint64(a.Limit+deflateSlack) {
			a.deflate.lost = true
			return problems, a.finish(tooLarge(a.Limit))
		}
		a.wire = append(a.wire, p.Data...)
	} else {
		a.take(p.Data)
	}
	for _, problem := range problems {
		if problem.Rule == RuleUTF8 {
			return problems, a.finish(problem)
		}
	}
	if !p.Last || !h.FIN {
		return problems, nil
	}
	if m.Compressed {
		return problems, a.finish(a.inflate()...)
	}
	return problems, a.finish()
}

func (a *Assembler) take(b []byte) {
	m := a.message
	m.Size += uint64(len(b))
	a.sum.Write(b)
	m.Data = append(m.Data, b[:min(len(b), a.Limit-len(m.Data))]...)
}

// inflate takes what the present message was before it was compressed.
func (a *Assembler) inflate() []Problem {
	var text UTF8
	whole, problem := a.deflate.inflate(a.wire, a.Limit)
	a.take(whole)
	if problem != nil {
		return []Problem{*problem}
	}
	if good := text.Write(whole); a.message.Opcode == Text && (good < len(whole) || !text.Complete()) {
		return []Problem{notUTF8(whole[good:])}
	}
	return nil
}

func (a *Assembler) finish(problems ...Problem) *Message {
	m := a.message
	m.Problems = problems
	a.sum.Sum(m.SHA256[:0])
	a.message, a.wire, a.skipping = nil, nil, true
	return m
}

func tooLarge(limit int) Problem {
	return broken(RuleTooLarge, "RFC 6455, section 10.4", 1009, "the message has more than %d bytes", limit)
}
