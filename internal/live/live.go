// Package live is the seam between everything that streams and the engine that
// turns events into GraphQL responses.
//
// A source (a bridge, a room, the clock) offers a [Sub]. A resolver hands the
// Sub to [Stream] and returns the channel that it gets:
//
//	return live.Stream(ctx, sub, toModel), nil
//
// Events reach a subscriber in the order in which its source produced them.
// Nothing here blocks a source: a Sub is bounded, and what did not fit is told
// by the [Gap] of the next event. [Queue] is the bounded Sub that most sources
// use, [Hub] fans one upstream per key out to many queues, [Every] ticks.
//
// How things end: the producer calls Queue.End (nil: complete, else why), the
// consumer calls Close. Either may come first; both may come twice.
package live

import (
	"cmp"
	"fmt"
	"time"
)

// Event is one value of a stream.
type Event[T any] struct {
	Value T
	Pos   Position // where it stands in its source; zero: the source keeps no positions
	Gap   *Gap     // what is missing before it; nil: nothing
	// Done, if not nil, is called once by whoever took the event: when it is on
	// its way to every client that wants it, or has been given up. It must not
	// block.
	Done func()
}

// Position orders the events of a source that keeps them. Its two halves
// compare like a Redis stream id: milliseconds first, then a sequence number.
type Position struct{ Hi, Lo uint64 }

// Compare returns -1, 0 or +1, as p stands before, at or after q.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Hi, q.Hi), cmp.Compare(p.Lo, q.Lo))
}

// Gap tells that events are missing before the event that carries it.
type Gap struct {
	Reason   GapReason
	Missed   uint64    // how many events are missing; 0: not known
	LastGood time.Time // when the stream was last known to be whole; zero: not known
}

// GapReason says why events are missing.
type GapReason string

const (
	// GapOutage says that the gateway had no connection to the broker for a while.
	GapOutage GapReason = "OUTAGE"
	// GapOverflow says that a bounded queue inside the gateway was full.
	GapOverflow GapReason = "OVERFLOW"
)

// Merge joins a gap, or none, with a later one of the same stream.
func (g *Gap) Merge(later Gap) *Gap {
	if g == nil {
		return &later
	}
	joined := *g
	if joined.Missed == 0 || later.Missed == 0 {
		joined.Missed = 0 // one part unknown makes the sum unknown
	} else {
		joined.Missed += later.Missed
	}
	return &joined
}

// Sub is one subscriber's end of a stream. One goroutine at a time may call
// Next; Close may be called from anywhere.
type Sub[T any] interface {
	// Next moves waiting events into buf and says how many. It never blocks.
	// open is false once the stream has ended and every event was taken;
	// then Err says why it ended.
	Next(buf []Event[T]) (n int, open bool)
	// Wake sets the function that is called whenever Next has something new
	// to say after it had nothing. It is called at once if that is already so.
	// It must not block and must not call back into the Sub.
	Wake(func())
	// Err says why the stream ended; nil while it runs and when it completed.
	Err() error
	// Close gives up interest. Events that wait are dropped.
	Close()
}

// Kept is what a Sub tells besides when its source keeps its events, so that a
// subscriber can come back to where it was.
type Kept interface {
	// Start is the position behind which the stream holds every event. ok is
	// false while it is not known, because the source is away; Wake's function
	// is called once it is.
	Start() (p Position, ok bool)
	// Near reports whether the end of what the source holds was in sight when
	// the stream last looked: within PageEvents. All that was there then waits, or
	// has been taken.
	Near() bool
	// Cursor names a position to clients.
	Cursor(Position) string
}

// Error is a refusal or an ending that the client is told. Any other error is
// an internal one: it is logged and told to nobody.
type Error struct {
	Code    string // documented, upper snake case, such as TOPIC_INVALID
	Message string // what was wrong, what is accepted, what to do
	Cause   error  // for the log; may be nil
	// Cursor is from where a client that was refused its cursor can go on;
	// empty: nowhere.
	Cursor string
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s (%s): %v", e.Message, e.Code, e.Cause)
	}
	return fmt.Sprintf("%s (%s)", e.Message, e.Code)
}

func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes an Error with a formatted message.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
