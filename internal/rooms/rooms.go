// Package rooms holds rooms of messages that people and programs write to.
//
// A message is delivered to every subscriber of its room in one order, the
// order in which Send took it. Nothing is kept: who subscribes later does not
// see it. A subscriber's queue is bounded as live.Queue says.
package rooms

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/internal/live"
)

// Lobby is the one public room: everybody knows its name.
const Lobby = "lobby"

// Bounds of a message, in characters.
const (
	MaxAuthor  = 40
	MaxContent = 500
)

// Message is one message of a room.
type Message struct {
	ID        string
	Room      string
	Author    string
	Content   string
	Timestamp time.Time
}

// Draft is a message that is to be sent.
type Draft struct {
	ID      string // empty: the room gives one
	Room    string
	Author  string
	Content string
}

// Rooms are all rooms of a gateway. Make them with New.
type Rooms struct {
	hub *live.Hub[string, *Message]
	now func() time.Time

	mu sync.Mutex // orders Send: one order for all subscribers
}

// New makes the rooms.
func New() *Rooms {
	return &Rooms{
		hub: live.NewHub(live.HubConfig[string, *Message]{
			Open: func(context.Context, string) (func(), error) { return func() {}, nil },
			Size: func(m *Message) int { return len(m.Author) + len(m.Content) + 128 },
		}),
		now: time.Now,
	}
}

// Create returns the id of a room that nobody else knows: 128 random bits.
// A room exists by its name alone, so there is nothing to clean up.
func Create() string { return randomID() }

// Subscribe opens the stream of a room's messages.
func (r *Rooms) Subscribe(ctx context.Context, room string) (live.Sub[*Message], error) {
	if err := checkRoom(room); err != nil {
		return nil, err
	}
	return r.hub.Subscribe(ctx, room)
}

// Send checks a draft and delivers it to the room's subscribers.
func (r *Rooms) Send(d Draft) (*Message, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	m := &Message{ID: d.ID, Room: d.Room, Author: d.Author, Content: d.Content}
	if m.ID == "" {
		m.ID = "msg_" + randomID()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m.Timestamp = r.now()
	r.hub.Publish(m.Room, live.Event[*Message]{Value: m})
	return m, nil
}

// Close ends every subscription.
func (r *Rooms) Close() { r.hub.Close() }

func (d Draft) check() error {
	if err := checkRoom(d.Room); err != nil {
		return err
	}
	if err := checkText("author", d.Author, MaxAuthor); err != nil {
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
