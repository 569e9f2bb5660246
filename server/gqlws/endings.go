package gqlws

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Ending is why a socket ends: what its Close frame says, and whether a client
// should come back.
type Ending struct {
	Code   int
	Reason string
	// Retry: the same client may succeed by trying again. The npm package
	// graphql-ws decides by the code alone, so the codes are chosen to fit.
	Retry bool
}

// Every way in which this transport ends a socket. 4400 to 4429 are the codes
// of graphql-transport-ws, the others RFC 6455's, section 7.4.1 and the IANA
// registry, but for SlowConsumer, which is our own.
var (
	Normal         = Ending{1000, "Normal closure", false}
	ProtocolError  = Ending{1002, "Protocol error", false}
	NotText        = Ending{1003, "Messages must be text", false}
	InvalidUTF8    = Ending{1007, "Text must be valid UTF-8", false}
	TooLarge       = Ending{1009, "Message too large", false}
	ServiceRestart = Ending{1012, "The gateway is restarting", true}
	Flooding       = Ending{1013, "Too many messages: slow down", true}
	InvalidMessage = Ending{4400, "Invalid message", false}
	Unauthorized   = Ending{4401, "Unauthorized", false}
	Forbidden      = Ending{4403, "Forbidden", true}
	InitTimeout    = Ending{4408, "Connection initialisation timeout", true}
	DuplicateID    = Ending{4409, "Subscriber already exists", false}
	SlowConsumer   = Ending{4413, "Slow consumer: events came faster than they were read", true}
	SecondInit     = Ending{4429, "Too many initialisation requests", false}
	Internal       = Ending{4500, "Internal server error", false}
)

// Endings lists them all, for documentation and tests.
var Endings = []Ending{
	Normal, ProtocolError, NotText, InvalidUTF8, TooLarge, ServiceRestart, Flooding, InvalidMessage, Unauthorized, Forbidden,
	InitTimeout, DuplicateID, SlowConsumer, SecondInit, Internal,
}

// Explain returns the ending with the limit that led to it, if one did, at the
// end of its reason.
func (c Config) Explain(e Ending) Ending {
	switch e.Code {
	case TooLarge.Code:
		e.Reason += fmt.Sprintf(" (at most %d bytes)", c.MessageBytes)
	case Flooding.Code:
		e.Reason += fmt.Sprintf(" (at most %d a second)", floodFactor*c.OperationsPerSecond)
	case SlowConsumer.Code:
		e.Reason += fmt.Sprintf(" (at most %d bytes may wait)", c.QueueBytes)
	}
	return e
}

// maxReason is what a Close frame has room for: 125 bytes less the code
// (RFC 6455, section 5.5).
const maxReason = 123

// because returns the ending with another reason, cut at a rune to what a Close
// frame can hold.
func (e Ending) because(reason string) *Ending {
	e.Reason = cut(strings.ToValidUTF8(reason, "\uFFFD"), maxReason)
	return &e
}

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
