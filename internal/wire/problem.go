package wire

import "fmt"

// Rule names a rule of the protocol that was broken. It is for programs.
type Rule string

// The rules.
const (
	RuleMask         Rule = "mask"          // clients mask, servers do not
	RuleReservedBit  Rule = "reserved-bit"  // RSV1 to RSV3 need an extension
	RuleOpcode       Rule = "opcode"        // a reserved opcode
	RuleLengthForm   Rule = "length-form"   // not the shortest form, or the top bit of 64 is set
	RuleControlFIN   Rule = "control-fin"   // control frames are not fragmented
	RuleControlSize  Rule = "control-size"  // nor longer than 125 bytes
	RuleContinuation Rule = "continuation"  // one without a message to continue
	RuleUnfinished   Rule = "unfinished"    // another message begins inside a message
	RuleUTF8         Rule = "utf-8"         // a text message is none
	RuleCloseSize    Rule = "close-size"    // a Close body of one byte
	RuleCloseCode    Rule = "close-code"    // one that is never sent, or not registered
	RuleCloseReason  Rule = "close-reason"  // one that is not UTF-8
	RuleAfterClose   Rule = "after-close"   // a frame behind the Close frame
	RuleDeflate      Rule = "deflate"       // what is marked as compressed is not
	RuleTooLarge     Rule = "message-large" // longer than the receiver takes
)

// Problem is one thing that is wrong with a frame or a message.
type Problem struct {
	Rule    Rule
	Section string // where the rule is: "RFC 6455, section 5.1"; empty: it is the server's own
	Text    string // a sentence without its full stop: what was seen
	Code    int    // what a strict receiver closes with
}

func (p Problem) String() string {
	if p.Section == "" {
		return p.Text
	}
	return fmt.Sprintf("%s (%s)", p.Text, p.Section)
}

func broken(rule Rule, section string, code int, format string, args ...any) Problem {
	return Problem{rule, section, fmt.Sprintf(format, args...), code}
}

// Problems says what is wrong with a header by itself. compressed: the
// permessage-deflate extension was agreed on, which gives RSV1 a meaning.
func (h *Header) Problems(d Direction, compressed bool) []Problem {
	var list []Problem
	add := func(rule Rule, section, format string, args ...any) {
		list = append(list, broken(rule, "RFC 6455, section "+section, 1002, format, args...))
	}
	switch {
	case h.RSV1 && !compressed:
		add(RuleReservedBit, "5.2", "RSV1 is set, but no extension that uses it was agreed on")
	case h.RSV1 && (h.Opcode.Control() || h.Opcode == Continuation):
		list = append(list, broken(RuleReservedBit, "RFC 7692, section 6.1", 1002, "RSV1 is set on a %v frame: it marks the first frame of a message", h.Opcode))
	}
	if h.RSV2 {
		add(RuleReservedBit, "5.2", "RSV2 is set, but no extension that uses it was agreed on")
	}
	if h.RSV3 {
		add(RuleReservedBit, "5.2", "RSV3 is set, but no extension that uses it was agreed on")
	}
	if h.Opcode > Binary && h.Opcode < Close || h.Opcode > Pong {
		add(RuleOpcode, "5.2", "opcode 0x%X is reserved", uint8(h.Opcode))
	}
	if h.Opcode.Control() {
		if !h.FIN {
			add(RuleControlFIN, "5.5", "a %v frame without FIN: control frames are not fragmented", h.Opcode)
		}
		if h.Length > 125 {
			add(RuleControlSize, "5.5", "a %v frame of %d bytes: control frames carry at most 125", h.Opcode, h.Length)
		}
	}
	if h.Masked != (d == ToServer) {
		if h.Masked {
			add(RuleMask, "5.1", "a server's frame is masked")
		} else {
			add(RuleMask, "5.1", "a client's frame is not masked")
		}
	}
	switch {
	case h.Form == Length64 && h.Length>>63 != 0:
		add(RuleLengthForm, "5.2", "the top bit of a 64-bit length is set")
	case h.Form != shortest(h.Length):
		add(RuleLengthForm, "5.2", "length %d is written in %d bits: the shortest form has %d", h.Length, h.Form, shortest(h.Length))
	}
	return list
}

// closeProblems says what is wrong with the payload of a Close frame.
func closeProblems(payload []byte) []Problem {
	if len(payload) == 0 {
		return nil
	}
	if len(payload) == 1 {
		return []Problem{broken(RuleCloseSize, "RFC 6455, section 5.5.1", 1002, "a Close body of one byte: it is empty or begins with a code of two")}
	}
	var list []Problem
	code, reason := ClosePayload(payload)
	switch {
	case code == 1004 || code == NoStatus || code == Abnormal || code == 1015:
		list = append(list, broken(RuleCloseCode, "RFC 6455, section 7.4.1", 1002, "close code %d is reserved and never sent", code))
	case code < 1000 || code > 1014 && code < 3000 || code > 4999:
		list = append(list, broken(RuleCloseCode, "RFC 6455, section 7.4.2", 1002, "close code %d is not defined: 1000 to 1014 and 3000 to 4999 are", code))
	}
	var text UTF8
	if text.Write([]byte(reason)) < len(reason) || !text.Complete() {
		list = append(list, broken(RuleCloseReason, "RFC 6455, section 5.5.1", 1007, "the reason of a Close frame is not UTF-8"))
	}
	return list
}
