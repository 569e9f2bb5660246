package wire

// Checker says what RFC 6455 has against the frames of one direction: against
// each by itself, and against where it stands. It holds no payloads but that of
// a Close frame. It goes on after a problem, as if the frame had been right.
type Checker struct {
	Direction  Direction
	Compressed bool // permessage-deflate was agreed on (RFC 7692)

	open     bool // a message has begun and has not ended
	deflated bool // and is compressed
	text     UTF8 // of the message, if it is text and not compressed
	checking bool // whether it is
	ignored  bool // the present frame continues no message
	closing  []byte
	closed   bool // a Close frame has come
}

// Check judges the next part: what is wrong with a header when it is complete,
// what is wrong with text at its first bad byte, what is wrong with a Close
// body when it is complete. Text in a compressed message is not looked at.
func (c *Checker) Check(p Part) []Problem {
	var list []Problem
	h := p.Header
	if p.First {
		list = h.Problems(c.Direction, c.Compressed)
		list = append(list, c.begin(h)...)
	}
	switch {
	case h.Opcode == Close:
		c.closing = append(c.closing, p.Data[:min(len(p.Data), 125-len(c.closing))]...)
		if p.Last {
			list = append(list, closeProblems(c.closing)...)
			c.closing = nil
		}
	case !h.Opcode.Control() && c.checking && !c.ignored:
		good := c.text.Write(p.Data)
		if good < len(p.Data) || p.Last && h.FIN && !c.text.Complete() {
			c.checking = false // once is enough
			list = append(list, notUTF8(p.Data[good:]))
		}
	}
	if p.Last && h.FIN && !h.Opcode.Control() {
		c.open = false
	}
	return list
}

// begin takes a frame's header into account.
func (c *Checker) begin(h *Header) []Problem {
	var list []Problem
	if c.closed {
		list = append(list, broken(RuleAfterClose, "RFC 6455, section 5.5.1", 1002, "a %v frame behind the Close frame", h.Opcode))
	}
	switch {
	case h.Opcode == Close:
		c.closed = true
	case h.Opcode.Control():
	case h.Opcode == Continuation:
		if c.ignored = !c.open; c.ignored {
			list = append(list, broken(RuleContinuation, "RFC 6455, section 5.4", 1002, "a continuation frame, but there is no message to continue"))
		}
	default:
		if c.open {
			list = append(list, broken(RuleUnfinished, "RFC 6455, section 5.4", 1002, "a %v frame inside a message that is not finished: its fragments are continuation frames", h.Opcode))
		}
		c.open, c.ignored = true, false
		c.deflated = c.Compressed && h.RSV1
		c.text, c.checking = UTF8{}, h.Opcode == Text && !c.deflated
	}
	return list
}

// notUTF8 is the problem of text that is good up to bad.
func notUTF8(bad []byte) Problem {
	const section = "RFC 6455, section 8.1"
	if len(bad) == 0 {
		return broken(RuleUTF8, section, 1007, "a text message ends within a character")
	}
	return broken(RuleUTF8, section, 1007, "a text message is not UTF-8: byte 0x%02X cannot stand where it stands", bad[0])
}
