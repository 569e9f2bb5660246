package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/rooms"
)

// demoEvery is how often the demo speaks.
const demoEvery = 2 * time.Second

// demo gives a newcomer something to see: every two seconds a message in the
// lobby and a sensor's reading on MQTT and Redis. It runs until ctx ends. A
// broker that is away misses its readings.
func demo(ctx context.Context, logger *slog.Logger, log *eventlog.Log, room *rooms.Rooms, mqtt, redis bridges.Bridge) {
	lobby := lobbyist{log: log, room: room}
	sensors := []sensor{{"kitchen", 21.5}, {"office", 22.8}, {"cellar", 14.2}}
	ticks := time.NewTicker(demoEvery)
	defer ticks.Stop()
	for n := 0; ; n++ {
		if err := lobby.speak(ctx); err != nil && ctx.Err() == nil {
			logger.Debug("demo message", "error", err)
		}
		s := &sensors[n%len(sensors)]
		for broker, topic := range map[bridges.Bridge]string{
			mqtt:  "demo/sensors/" + s.room + "/temperature",
			redis: "demo:sensors:" + s.room,
		} {
			if broker.Status().State != bridges.Connected {
				continue
			}
			if _, err := broker.Publish(ctx, bridges.Publication{Topic: topic, Payload: s.read()}); err != nil && ctx.Err() == nil {
				logger.Debug("demo reading", "topic", topic, "error", err)
			}
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
	}
}

// lobbyist writes numbered messages to the lobby. Of all gateways that share a
// log one does, and numbers on from the last message in it.
type lobbyist struct {
	log  *eventlog.Log
	room *rooms.Rooms
	next int
	held bool // the lease, at the last try
}

func (l *lobbyist) speak(ctx context.Context) error {
	was := l.held
	held, err := l.log.Hold(ctx, "demo", 3*demoEvery)
	l.held = held && err == nil
	if !l.held {
		return err
	}
	if !was {
		if l.next, err = l.numberOn(ctx); err != nil {
			l.held = false
			return err
		}
	}
	_, err = l.room.Send(ctx, rooms.Draft{
		ID: fmt.Sprintf("msg_%d", l.next), Room: rooms.Lobby, Author: "demo", Content: fmt.Sprintf("Message %d", l.next+1),
	})
	if err == nil { // else it is sent again, and stored once
		l.next++
	}
	return err
}

// numberOn looks for the number after the newest message of the demo.
func (l *lobbyist) numberOn(ctx context.Context) (int, error) {
	for cursor := ""; ; {
		page, more, err := l.room.History(ctx, rooms.Lobby, cursor, rooms.MaxHistory)
		if err != nil {
			return 0, err
		}
		for _, m := range slices.Backward(page) {
			var n int
			if _, err := fmt.Sscanf(m.ID, "msg_%d", &n); err == nil && m.Author == "demo" {
				return n + 1, nil
			}
		}
		if !more {
			return 0, nil
		}
		cursor = page[0].Cursor()
	}
}

type sensor struct {
	room    string
	celsius float64
}

// read takes a random walk.
func (s *sensor) read() []byte {
	s.celsius += (rand.Float64() - 0.5) / 2
	return fmt.Appendf(nil, `{"room":%q,"celsius":%.1f,"at":%q}`, s.room, s.celsius, time.Now().UTC().Format(time.RFC3339))
}
