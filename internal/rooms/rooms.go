// Package rooms holds rooms of messages that people and programs write to.
//
// A message is an event of the room's topic in an event log: every reader gets
// the messages of a room in one order, also after a restart of the gateway, and
// who was away goes on behind the last one it saw. Send returns once the message
// is durable. The log says how long messages are kept and what a reader is told
// who comes too late.
//
// Who is in a room is the business of a presence.Directory.
package rooms

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/presence"
)

// Lobby is the one public room: everybody knows its name.
const Lobby = "lobby"

// Bounds of a message, in characters.
const (
	MaxAuthor  = 40
	MaxContent = 500
)

// MaxHistory is how many messages one look into the past returns.
const MaxHistory = 100

// Message is one message of a room.
type Message struct {
	ID        string
	Room      string
	Author    string
	Content   string
	Timestamp time.Time

	log *eventlog.Log
	pos live.Position
}

// Cursor names the message's place in its room to clients.
func (m Message) Cursor() string { return m.log.Cursor(topic(m.Room), m.pos) }

// Draft is a message that is to be sent.
type Draft struct {
	// ID, if not empty, names the message: sent twice, it is stored once. Empty:
	// the room gives one.
	ID      string
	Room    string
	Author  string
	Content string
}

// What the log keeps of a message besides its id and its time:
//
//	format (1 byte) | length of the author (varint) | author | content
//
// To read this costs next to nothing, where JSON was a fifth of catching up.
const format = 1

func encode(author, content string) []byte {
	b := make([]byte, 0, 1+binary.MaxVarintLen32+len(author)+len(content))
	b = append(b, format)
	b = binary.AppendUvarint(b, uint64(len(author)))
	b = append(b, author...)
	return append(b, content...)
}

var errFormat = errors.New("written in a format that this version does not know")

func decode(data []byte) (author, content string, err error) {
	if len(data) == 0 || data[0] != format {
		return "", "", errFormat
	}
	size, n := binary.Uvarint(data[1:])
	text := data[1+max(n, 0):]
	if n <= 0 || size > uint64(len(text)) {
		return "", "", errFormat
	}
	return string(text[:size]), string(text[size:]), nil
}

// Rooms are all rooms of a log. Make them with New.
type Rooms struct {
	log     *eventlog.Log
	members presence.Directory
}

// New makes the rooms of a log.
func New(log *eventlog.Log, members presence.Directory) *Rooms { return &Rooms{log, members} }

// Create returns the id of a room that nobody else knows: 128 random bits.
// A room exists by its name alone, so there is nothing to clean up.
func Create() string { return randomID() }

func topic(room string) string { return "room/" + room }

// Send checks a draft and appends it to its room. A draft with an id that the
// room has already is not stored again: the message of the first time is
// returned.
func (r *Rooms) Send(ctx context.Context, d Draft) (Message, error) {
	if err := d.check(); err != nil {
		return Message{}, err
	}
	if d.ID == "" {
		d.ID = "msg_" + randomID()
	}
	e, _, err := r.log.Append(ctx, eventlog.Draft{Topic: topic(d.Room), ID: d.ID, Data: encode(d.Author, d.Content)})
	if err != nil {
		return Message{}, err
	}
	return r.message(d.Room, e)
}

// Subscribe opens the stream of a room's messages: those behind a cursor, or,
// when it is empty, those to come. Reader makes messages of its events.
func (r *Rooms) Subscribe(ctx context.Context, room, cursor string) (live.Sub[*eventlog.Entry], error) {
	if err := checkRoom(room); err != nil {
		return nil, err
	}
	return r.log.Subscribe(ctx, topic(room), cursor)
}

// Reader makes messages of the events of a room.
func (r *Rooms) Reader(room string) func(live.Event[*eventlog.Entry]) (Message, error) {
	return func(ev live.Event[*eventlog.Entry]) (Message, error) { return r.message(room, ev.Value) }
}

func (r *Rooms) message(room string, e *eventlog.Entry) (Message, error) {
	author, content, err := decode(e.Data)
	if err != nil {
		return Message{}, fmt.Errorf("rooms: message %s of %s: %w", e.ID, room, err)
	}
	return Message{ID: e.ID, Room: room, Author: author, Content: content, Timestamp: e.Time, log: r.log, pos: e.Pos}, nil
}

// History returns the newest messages before a cursor, or of all when it is
// empty, oldest first. more says whether there are older ones.
func (r *Rooms) History(ctx context.Context, room, before string, last int) (messages []Message, more bool, err error) {
	if err := checkRoom(room); err != nil {
		return nil, false, err
	}
	if last < 1 || last > MaxHistory {
		return nil, false, live.Errorf("ARGUMENT_OUT_OF_RANGE", "last is %d: 1 to %d is accepted.", last, MaxHistory)
	}
	entries, more, err := r.log.History(ctx, topic(room), before, last)
	if err != nil {
		return nil, false, err
	}
	messages = make([]Message, len(entries))
	for i, e := range entries {
		if messages[i], err = r.message(room, e); err != nil {
			return nil, false, err
		}
	}
	return messages, more, nil
}

// Enter makes a client present in a room until it leaves.
func (r *Rooms) Enter(room, id, name string) (leave func(), err error) {
	if err := checkRoom(room); err != nil {
		return nil, err
	}
	return r.members.Enter(room, id, name)
}

// SetTyping says whether a client that is present types.
func (r *Rooms) SetTyping(room, id string, typing bool) error {
	if err := checkRoom(room); err != nil {
		return err
	}
	return r.members.SetTyping(room, id, typing)
}

// Members lists who is in a room.
func (r *Rooms) Members(ctx context.Context, room string) ([]presence.Member, error) {
	if err := checkRoom(room); err != nil {
		return nil, err
	}
	return r.members.List(ctx, room)
}

// Watch opens the stream of who comes to a room, leaves it and types there.
func (r *Rooms) Watch(ctx context.Context, room string) (live.Sub[presence.Change], error) {
	if err := checkRoom(room); err != nil {
		return nil, err
	}
	return r.members.Watch(ctx, room)
}

// messageID is what a client may call a message.
var messageID = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)

func (d Draft) check() error {
	if err := checkRoom(d.Room); err != nil {
		return err
	}
	if d.ID != "" && !messageID.MatchString(d.ID) {
		return live.Errorf("MESSAGE_INVALID", "The id %.80q is not valid: 1 to 64 letters, digits and signs of \"_.:-\" are accepted.", d.ID)
	}
	if err := CheckName("author", d.Author); err != nil {
		return err
	}
	return checkText("content", d.Content, MaxContent)
}

func checkRoom(room string) error {
	if room == Lobby {
		return nil
	}
	if b, err := hex.DecodeString(room); err == nil && len(b) == 16 {
		return nil
	}
	return live.Errorf("ROOM_INVALID", "Room %.40q is not valid: use %q, or an id that createRoom returned.", room, Lobby)
}

// CheckName reports a name of a person that is empty or too long; what says
// whose it is.
func CheckName(what, name string) error { return checkText(what, name, MaxAuthor) }

func checkText(field, text string, limit int) error {
	if n := utf8.RuneCountInString(text); n > limit {
		return live.Errorf("MESSAGE_INVALID", "The %s has %d characters: at most %d are accepted.", field, n, limit)
	}
	if strings.TrimSpace(text) == "" {
		return live.Errorf("MESSAGE_INVALID", "The %s is empty: 1 to %d characters are accepted.", field, limit)
	}
	return nil
}

func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: see crypto/rand
	return hex.EncodeToString(b[:])
}
