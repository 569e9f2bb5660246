// Package presence knows who is in a room, and who is typing there, across all
// gateways that share a Directory.
//
// A Local is the directory of one gateway; on its own (NewMemory) it is all
// that there is to know. In redispresence, gateways share a Redis: each has a
// Local for the members of its own, which it tells of those of the others.
// presencetest is the suite that both pass.
//
// Order: members are listed by when they entered, then by id. A subscriber of
// Watch gets changes in the order in which its gateway saw them. Presence is a
// state and not a log: changes are the differences between one look at the room
// and the next, so that whoever came and went between two looks is not told,
// nothing is told twice, and what was missed is made up for by the next look.
// Applied in order to what List answered at the beginning of a Watch or later,
// by id, they give what List answers at their end.
//
// Bounds: a room lists its MaxMembers oldest members. Whoever comes later is in
// the room as well and moves up, as JOINED, when there is a place. A gateway
// holds what its callers have entered and not left; it is theirs to bound. What
// waits for a subscriber is bounded as live.Queue says. Entering, leaving and
// typing never wait, neither for a subscriber nor for a network.
//
// Endings: a member is gone with its last leave; 10 s after its gateway died at
// the latest; and with Close, which ends every Watch with SHUTTING_DOWN. Typing
// ends after TypingFor. A Watch outlives outages.
//
// Goroutines: one per Local, for all rooms, which tells the changes and ends
// typing; Close waits for it.
package presence

import (
	"cmp"
	"context"
	"time"

	"github.com/sluice-gateway/sluice/internal/live"
)

const (
	// MaxMembers is how many members of a room are listed: the oldest.
	MaxMembers = 1000
	// TypingFor is how long a member types unless it is said again.
	TypingFor = 5 * time.Second
)

const (
	// CodeRequired refuses what only a member of the room may do.
	CodeRequired = "PRESENCE_REQUIRED"
	// CodeUnavailable is the code of the error while it cannot be known who is
	// in a room.
	CodeUnavailable = "UPSTREAM_UNAVAILABLE"
)

// Member is one client's presence in a room.
type Member struct {
	ID     string // of the connection: random, not secret
	Name   string
	Since  time.Time // by the clock of its gateway, in whole milliseconds
	Typing bool
}

// Compare orders members: by Since, then by ID. It is 0 for one and the same
// presence, which may be typing or not.
func (m Member) Compare(other Member) int {
	return cmp.Or(m.Since.Compare(other.Since), cmp.Compare(m.ID, other.ID))
}

// ChangeKind says what happened to a member.
type ChangeKind string

const (
	// Joined says that the member is listed from now on. It may be typing already.
	Joined ChangeKind = "JOINED"
	// Left says that the member is no longer listed, and so does not type either.
	Left ChangeKind = "LEFT"
	// Typing says that the member began to type.
	Typing ChangeKind = "TYPING"
	// StoppedTyping says that the member stopped, or said nothing for TypingFor.
	StoppedTyping ChangeKind = "STOPPED_TYPING"
)

// Change is one difference between two looks at a room.
type Change struct {
	Room   string
	Kind   ChangeKind
	Member Member    // as it is after the change
	At     time.Time // when this gateway saw it
}

// size is what a change counts against the bounds of a queue, in bytes.
func (c Change) size() int { return len(c.Room) + len(c.Member.ID) + len(c.Member.Name) + 128 }

// Directory says who is in a room. Implementations are safe for concurrent use.
// It takes names of rooms and members as they are: checking them is its
// caller's.
type Directory interface {
	// Enter makes a member present until leave is called, which may be called
	// again. It never waits: on other gateways the member appears a moment
	// later, or when what they share is back. A member who is in the room
	// already, such as one socket with several subscriptions, stays who it is,
	// and leaves with the last. The only error is SHUTTING_DOWN, after Close.
	Enter(room, id, name string) (leave func(), err error)
	// SetTyping says that a member types, for TypingFor from now, or that it
	// stopped. It never waits. Who has not entered the room on this gateway is
	// refused with PRESENCE_REQUIRED.
	SetTyping(room, id string, typing bool) error
	// List answers who is in a room, in the order of Member.Compare, at most
	// MaxMembers. Those who entered here are always among them, as far as the
	// bound allows. It is UPSTREAM_UNAVAILABLE, within three seconds, while it
	// is not known who is there: half a list would look like a whole one.
	List(ctx context.Context, room string) ([]Member, error)
	// Watch opens the stream of a room's changes from now on. It outlives
	// outages: meanwhile only changes of this gateway are told, and afterwards
	// the difference to what was told before. A client that wants the list as
	// well asks for it once it watches.
	Watch(ctx context.Context, room string) (live.Sub[Change], error)
	// Close ends every Watch and takes this gateway's members out of all rooms.
	Close() error
}
