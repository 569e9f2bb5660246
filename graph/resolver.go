// Package graph is the GraphQL schema and its resolvers. A resolver says what,
// never how: locks, drivers and goroutines live behind the interfaces that
// Resolver is given.
//
// Errors that a client is told are *live.Error; Present writes their code.
// Every other error is logged under an id and told as INTERNAL.
package graph

import (
	"context"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/graph/model"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/rooms"
	"github.com/sluice-gateway/sluice/labs/load"
	"github.com/sluice-gateway/sluice/labs/sessions"
	"github.com/sluice-gateway/sluice/lessons"
)

//go:generate sh -c "cd .. && go run github.com/99designs/gqlgen generate"

// Resolver is what the resolvers need.
type Resolver struct {
	MQTT         Topics
	Redis        Channels
	Cursors      Cursors // of Redis streams
	Rooms        *rooms.Rooms
	Labs         *sessions.Sessions
	LoadRuns     *load.Runs
	Classroom    *lessons.Classroom
	Learners     Learners                  // nil: no progress is kept
	Practice     func() []string           // the names of the practice servers that the gateway has
	CoursePorts  map[string]string         // the servers' own URLs, as far as they were opened
	PayloadBytes int                       // of a broker message that is delivered; 0: any
	States       *bridges.States           // how the brokers are
	Stats        func() model.GatewayStats // what the gateway has to do
}

// Topics are the topics of an MQTT broker that this client may use.
type Topics interface {
	Subscribe(ctx context.Context, filter string, qos bridges.QoS) (live.Sub[*bridges.Message], error)
	Publish(ctx context.Context, p bridges.Publication) (bridges.Receipt, error)
}

// Channels are the channels of a Redis server that this client may use.
type Channels interface {
	Topics
	SubscribePattern(ctx context.Context, pattern string) (live.Sub[*bridges.Message], error)
	bridges.Streams
}

// Cursors name positions to clients. Topics keep those of different things apart.
type Cursors interface {
	Seal(topic string, p live.Position) string
	Open(ctx context.Context, topic, cursor string) (live.Position, error)
}

// StreamTopic is the topic of a Redis stream's cursors.
func StreamTopic(stream string) string { return "redis-stream/" + stream }

func (r *Resolver) mqttMessage(ev live.Event[*bridges.Message]) (model.MQTTMessage, error) {
	return model.MQTTMessage{Message: ev.Value}, r.checkSize(ev.Value)
}

func (r *Resolver) redisMessage(ev live.Event[*bridges.Message]) (model.RedisMessage, error) {
	return model.RedisMessage{Message: ev.Value}, r.checkSize(ev.Value)
}

// subscribeStream opens the stream of a Redis stream behind a cursor, if it is
// not empty.
func (r *Resolver) subscribeStream(ctx context.Context, stream, cursor string) (live.Sub[*bridges.StreamEntry], error) {
	if cursor == "" {
		return r.Redis.SubscribeStream(ctx, stream, nil)
	}
	after, err := r.Cursors.Open(ctx, StreamTopic(stream), cursor)
	if err != nil {
		return nil, err
	}
	return r.Redis.SubscribeStream(ctx, stream, &after)
}

func (r *Resolver) streamEntry(e *bridges.StreamEntry) model.RedisStreamEntry {
	return model.RedisStreamEntry{StreamEntry: e, Name: func(e *bridges.StreamEntry) string {
		return r.Cursors.Seal(StreamTopic(e.Stream), e.Pos)
	}}
}

func (r *Resolver) streamEvent(ev live.Event[*bridges.StreamEntry]) (model.RedisStreamEntry, error) {
	return r.streamEntry(ev.Value), nil
}

// checkSize refuses a message whose result would be refused for its size, before
// it is executed for every subscriber.
func (r *Resolver) checkSize(m *bridges.Message) error {
	if r.PayloadBytes > 0 && len(m.Payload) > r.PayloadBytes {
		return live.Errorf(bridges.CodePayloadTooLarge, "A message on %q has %d bytes: at most %d are delivered.", m.Topic, len(m.Payload), r.PayloadBytes)
	}
	return nil
}

func (r *Resolver) countNow(live.Event[time.Time]) (model.GatewayStats, error) { return r.Stats(), nil }

// publish decodes a payload and sends it.
func publish(ctx context.Context, to Topics, p bridges.Publication, payload string, encoding model.PayloadEncoding) (model.PublishReceipt, error) {
	decoded, err := model.DecodePayload(payload, encoding)
	if err != nil {
		return model.PublishReceipt{}, live.Errorf("PAYLOAD_INVALID", "The payload is not base64 (RFC 4648, section 4, with padding): send base64, or text with encoding UTF8.")
	}
	p.Payload = decoded
	receipt, err := to.Publish(ctx, p)
	if err != nil {
		return model.PublishReceipt{}, err
	}
	out := model.PublishReceipt{AcknowledgedAt: receipt.AcknowledgedAt}
	if receipt.Receivers >= 0 {
		out.Receivers = &receipt.Receivers
	}
	return out, nil
}

// given is an argument that may be left out; empty: it was.
func given(argument *string) string {
	if argument == nil {
		return ""
	}
	return *argument
}

// checkRange reports an argument outside its bounds.
func checkRange(name string, value, low, high int) error {
	if value < low || value > high {
		return live.Errorf("ARGUMENT_OUT_OF_RANGE", "%s is %d: %d to %d is accepted.", name, value, low, high)
	}
	return nil
}

func checkInterval(ms int) (time.Duration, error) {
	return time.Duration(ms) * time.Millisecond, checkRange("intervalMs", ms, 100, 60_000)
}
