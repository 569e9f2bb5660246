//go:build linux

package faults

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/testenv"
)

// newRoom is a room of which nobody else knows.
func newRoom() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

func messagesOf(room string) string {
	return fmt.Sprintf(`subscription { messageUpdates(room: %q) { text: content } }`, room)
}

// crowd are rooms full of clients of every kind: 5 rooms, in each four sockets
// of both subprotocols and an EventSource, and 40 messages a second of two
// senders. A room keeps 1,000 messages: those of 25 s.
func crowd(t *testing.T, addr string) []*stream {
	t.Helper()
	var rooms []*stream
	for range 5 {
		room := newRoom()
		s := &stream{name: "five rooms", kept: true}
		for _, protocol := range []string{modern, modern, legacy, legacy, sse} {
			s.clients = append(s.clients, subscribe(t, protocol, messagesOf(room), addr))
		}
		s.senders = []*sender{toRoom("ann", room, addr), toRoom("bob", room, addr)}
		s.history = room
		rooms = append(rooms, s)
	}
	allOpen(t, clientsOf(rooms))
	for _, s := range rooms {
		perSecond(t, 20, s.senders...)
	}
	return rooms
}

func clientsOf(all []*stream) (clients []*client) {
	for _, s := range all {
		clients = append(clients, s.clients...)
	}
	return clients
}

// judgeRooms takes the accounts of rooms; what they have on record is one more
// client that has to have everything.
func judgeRooms(t *testing.T, rooms []*stream, addr string) {
	t.Helper()
	for _, s := range rooms {
		s.settle(t)
		s.clients = append(s.clients, readBack(t, s.history, addr))
		s.judge(t)
	}
}

func TestRoomsSurviveAKilledGateway(t *testing.T) {
	needed(t)
	for name, flags := range map[string]func(*testing.T) []string{
		"SQLite": func(t *testing.T) []string {
			return []string{"--data-dir", t.TempDir(), "--mqtt-url", testenv.Mosquitto(t).URL()}
		},
		"Redis": func(t *testing.T) []string { return startBrokers(t).flags() },
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, flags(t)...)
			g.ready(t)
			rooms := crowd(t, g.Addr())
			for _, messages := range []int{40, 0, 40} { // the second time before all are back
				flow(t, clientsOf(rooms), messages)
				g.Stop(t)
				g.Start(t)
			}
			flow(t, clientsOf(rooms), 40)
			judgeRooms(t, rooms, g.Addr())
			for _, c := range clientsOf(rooms) {
				if c.protocol != history && c.sockets < 3 {
					t.Errorf("%s has made %d connections: it was not cut off", c.protocol, c.sockets)
				}
			}
		})
	}
}

func TestADrainLosesNothing(t *testing.T) {
	needed(t)
	g := start(t, "--data-dir", t.TempDir(), "--mqtt-url", testenv.Mosquitto(t).URL())
	g.ready(t)
	rooms := crowd(t, g.Addr())
	flow(t, clientsOf(rooms), 40)
	if status := g.Terminate(t, 11*time.Second); status != 0 {
		t.Errorf("the gateway ended with status %d", status)
	}
	for _, c := range clientsOf(rooms) {
		c.mu.Lock()
		if c.protocol != sse && !slices.Equal(c.ends, []int{websocket.CloseServiceRestart}) {
			t.Errorf("a socket of %s ended with %v, want 1012", c.protocol, c.ends)
		}
		c.mu.Unlock()
	}
	g.Start(t)
	flow(t, clientsOf(rooms), 40)
	judgeRooms(t, rooms, g.Addr())
}

// demoEvery is how often the demo sends, by one gateway of all.
const demoEvery = 2 * time.Second

// Presence is by name here: each client has its own.
func TestGatewaysOnOneRedisAreOne(t *testing.T) {
	b := startBrokers(t)
	one, two := start(t, b.flags()...), start(t, b.flags()...)
	one.ready(t)
	two.ready(t)
	room := newRoom()
	s := &stream{name: "room", kept: true, history: room}
	var names []string
	for i := range 12 {
		addrs := []string{one.Addr(), two.Addr()}
		if i%2 == 1 {
			slices.Reverse(addrs)
		}
		names = append(names, fmt.Sprint("client", i))
		s.clients = append(s.clients, subscribeAs(t, names[i], []string{modern, legacy}[i/2%2], messagesOf(room), addrs...))
	}
	slices.Sort(names)
	demo := &stream{name: "demo in the lobby", kept: true, history: "lobby"}
	for _, addrs := range [][]string{{one.Addr(), two.Addr()}, {two.Addr(), one.Addr()}} {
		demo.clients = append(demo.clients, subscribe(t, modern, messagesOf("lobby"), addrs...))
	}
	allOpen(t, slices.Concat(s.clients, demo.clients))
	s.senders = []*sender{toRoom("ann", room, one.Addr(), two.Addr()), toRoom("bob", room, two.Addr(), one.Addr())}
	perSecond(t, 20, s.senders...)
	flow(t, s.clients, 40)
	for _, g := range []*gateway{one, two} {
		wantPresent(t, 5*time.Second, g, room, names)
	}

	for i, c := range s.clients { // every third goes to the other gateway, with the cursor of this one
		if i%3 == 0 {
			c.move()
		}
	}
	flow(t, s.clients, 40)
	for _, g := range []*gateway{one, two} {
		wantPresent(t, 10*time.Second, g, room, names)
	}

	flow(t, demo.clients, 2)
	one.Stop(t)
	wantPresent(t, 10*time.Second, two, room, names)
	flow(t, s.clients, 40)
	// The lease of the demo's publisher ends 6 s after its last message.
	killed := time.Now()
	flow(t, demo.clients, 4)
	if took := time.Since(killed); took > 20*time.Second {
		t.Errorf("the demo went on after %v", took)
	}
	judgeRooms(t, []*stream{s}, two.Addr())
	first := demo.clients[0].seen()[0]
	kept := readBack(t, "lobby", two.Addr())
	kept.events = slices.DeleteFunc(kept.events, func(e event) bool { return e.n < first.n }) // said before the clients came
	demo.clients = append(demo.clients, kept)
	demo.senders = []*sender{numbered("Message", kept.events)}
	demo.settle(t)
	if n, most := len(kept.events), int(time.Since(first.at)/demoEvery)+2; n > most {
		t.Errorf("the demo has sent %d messages, one publisher sends at most %d", n, most)
	}
	for _, c := range demo.clients[:2] { // it goes on meanwhile
		c.leave()
		c.events = slices.DeleteFunc(c.events, func(e event) bool { return e.n > demo.senders[0].last })
	}
	demo.judge(t)
}

// numbered makes up a sender of every number between the first and the last of
// events, so that these have to be consecutive.
func numbered(name string, events []event) *sender {
	s := &sender{name: name, ended: make(chan struct{}), acked: make(map[int]bool)}
	s.last = events[len(events)-1].n
	for n := events[0].n; n <= s.last; n++ {
		s.acked[n] = true
	}
	return s
}

// wantPresent waits until exactly these names are in a room, each once.
func wantPresent(t *testing.T, within time.Duration, g *gateway, room string, want []string) {
	t.Helper()
	testenv.Eventually(t, within, "all are present once, at "+g.Addr(), func() string {
		var answer struct{ Presence []struct{ Name string } }
		if err := ask(context.Background(), fresh, g.Addr(), `query($room: ID!) { presence(room: $room) { name } }`, map[string]any{"room": room}, &answer); err != nil {
			return err.Error()
		}
		var names []string
		for _, member := range answer.Presence {
			names = append(names, member.Name)
		}
		slices.Sort(names)
		if !slices.Equal(names, want) {
			return fmt.Sprint(names)
		}
		return ""
	})
}
