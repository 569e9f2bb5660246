package bridges

import (
	"context"

	"github.com/sluice-gateway/sluice/internal/live"
)

// Guard is what stands before every bridge: bounds on what clients name and send.
type Guard struct {
	Topics       TopicLimits
	PublishBytes int // of one payload, or of the names and values of one stream entry
}

func (g Guard) checkPayload(size int) error {
	if size > g.PublishBytes {
		return live.Errorf(CodePayloadTooLarge, "The payload has %d bytes: at most %d are accepted.", size, g.PublishBytes)
	}
	return nil
}

// GuardedMQTT is an MQTT broker as anonymous clients may use it, and those in a
// lab session (see WithLab).
type GuardedMQTT struct {
	Guard
	Bridge Bridge
	Rules  *MQTTRules
}

func (g GuardedMQTT) access(ctx context.Context) MQTTAccess {
	return MQTTAccess{Topics: g.Topics, Rules: g.Rules, Lab: LabOf(ctx)}
}

// Subscribe opens the stream of a filter that may be read.
func (g GuardedMQTT) Subscribe(ctx context.Context, filter string, qos QoS) (live.Sub[*Message], error) {
	if err := g.access(ctx).CheckRead(filter); err != nil {
		return nil, err
	}
	return g.Bridge.Subscribe(ctx, filter, qos)
}

// Publish sends to a topic that may be published to.
func (g GuardedMQTT) Publish(ctx context.Context, p Publication) (Receipt, error) {
	if err := g.access(ctx).CheckPublish(p.Topic); err != nil {
		return Receipt{}, err
	}
	if err := g.checkPayload(len(p.Payload)); err != nil {
		return Receipt{}, err
	}
	return g.Bridge.Publish(ctx, p)
}

// GuardedRedis is a Redis server as anonymous clients may use it, and those in a
// lab session (see WithLab).
type GuardedRedis struct {
	Guard
	Bridge interface {
		Bridge
		Streams
		SubscribePattern(ctx context.Context, pattern string) (live.Sub[*Message], error)
	}
	Rules *RedisRules
}

func (g GuardedRedis) rules(ctx context.Context) *RedisRules { return g.Rules.inLab(LabOf(ctx)) }

// Subscribe opens the stream of a channel that may be read.
func (g GuardedRedis) Subscribe(ctx context.Context, channel string, qos QoS) (live.Sub[*Message], error) {
	if err := g.Topics.CheckChannel(channel); err != nil {
		return nil, err
	}
	if err := g.rules(ctx).CheckRead(channel); err != nil {
		return nil, err
	}
	return g.Bridge.Subscribe(ctx, channel, qos)
}

// SubscribePattern opens the stream of a pattern that may be read.
func (g GuardedRedis) SubscribePattern(ctx context.Context, pattern string) (live.Sub[*Message], error) {
	if err := g.Topics.CheckChannel(pattern); err != nil {
		return nil, err
	}
	if err := g.rules(ctx).CheckReadPattern(pattern); err != nil {
		return nil, err
	}
	return g.Bridge.SubscribePattern(ctx, pattern)
}

// Publish sends to a channel that may be published to.
func (g GuardedRedis) Publish(ctx context.Context, p Publication) (Receipt, error) {
	if err := g.Topics.CheckChannel(p.Topic); err != nil {
		return Receipt{}, err
	}
	if err := g.rules(ctx).CheckPublish(p.Topic); err != nil {
		return Receipt{}, err
	}
	if err := g.checkPayload(len(p.Payload)); err != nil {
		return Receipt{}, err
	}
	return g.Bridge.Publish(ctx, p)
}

// SubscribeStream opens the stream of a Redis stream that may be read.
func (g GuardedRedis) SubscribeStream(ctx context.Context, stream string, after *live.Position) (live.Sub[*StreamEntry], error) {
	if err := g.Topics.CheckStream(stream); err != nil {
		return nil, err
	}
	if err := g.rules(ctx).CheckReadStream(stream); err != nil {
		return nil, err
	}
	return g.Bridge.SubscribeStream(ctx, stream, after)
}

// AppendStream appends to a Redis stream that may be published to.
func (g GuardedRedis) AppendStream(ctx context.Context, stream string, fields []StreamField) (*StreamEntry, error) {
	if err := g.Topics.CheckStream(stream); err != nil {
		return nil, err
	}
	if err := g.rules(ctx).CheckAppendStream(stream); err != nil {
		return nil, err
	}
	if err := CheckFields(fields); err != nil {
		return nil, err
	}
	if err := g.checkPayload(fieldBytes(fields)); err != nil {
		return nil, err
	}
	return g.Bridge.AppendStream(ctx, stream, fields)
}
