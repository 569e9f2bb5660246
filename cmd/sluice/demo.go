package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/rooms"
)

// demo gives a newcomer something to see: every two seconds a message in the
// lobby and a sensor's reading on MQTT and Redis. It runs until ctx ends. A
// broker that is away misses its readings.
func demo(ctx context.Context, logger *slog.Logger, room *rooms.Rooms, mqtt, redis bridges.Bridge) {
	sensors := []sensor{{"kitchen", 21.5}, {"office", 22.8}, {"cellar", 14.2}}
	ticks := time.NewTicker(2 * time.Second)
	defer ticks.Stop()
	for n := 0; ; n++ {
		draft := rooms.Draft{ID: fmt.Sprintf("msg_%d", n), Room: rooms.Lobby, Author: "demo", Content: fmt.Sprintf("Message %d", n+1)}
		if _, err := room.Send(draft); err != nil {
			logger.Warn("demo message", "error", err)
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

type sensor struct {
	room    string
	celsius float64
}

// read takes a random walk.
func (s *sensor) read() []byte {
	s.celsius += (rand.Float64() - 0.5) / 2
	return fmt.Appendf(nil, `{"room":%q,"celsius":%.1f,"at":%q}`, s.room, s.celsius, time.Now().UTC().Format(time.RFC3339))
}
