// Package bridges says what a broker message is, which topics are well formed
// and who may use them. Each broker has a package of its own below this one;
// bridgetest holds the behaviour that all of them share.
//
// A bridge keeps one upstream subscription per topic filter however many
// subscribers it has. Messages of one topic reach each subscriber in the order
// in which the broker sent them. A broker that goes away ends no subscription:
// the next message carries a gap.
package bridges

import (
	"context"
	"time"

	"github.com/sluice-gateway/sluice/internal/live"
)

// QoS is MQTT's quality of service (MQTT 3.1.1, section 4.3). Other brokers
// deliver at most once.
type QoS byte

// The three qualities of service.
const (
	AtMostOnce  QoS = 0
	AtLeastOnce QoS = 1
	ExactlyOnce QoS = 2
)

// Message is what a broker delivered. It is shared by all who receive it and
// never changed.
type Message struct {
	Topic      string // MQTT topic or Redis channel
	Pattern    string // the Redis pattern that matched; else empty
	Payload    []byte
	QoS        QoS  // as delivered to the gateway
	Retained   bool // MQTT: stored by the broker before the subscription
	ReceivedAt time.Time
}

// Size is what a message counts against the bounds of a queue, in bytes.
func (m *Message) Size() int { return len(m.Topic) + len(m.Payload) + 64 }

// Publication is a message to be sent.
type Publication struct {
	Topic   string
	Payload []byte
	QoS     QoS
	Retain  bool
}

// Receipt is a broker's confirmation of a publication.
type Receipt struct {
	AcknowledgedAt time.Time
	Receivers      int // how many got it; -1: the broker does not say
}

// Kind names a make of broker.
type Kind string

// The makes of broker that there are.
const (
	KindMemory Kind = "MEMORY"
	KindMQTT   Kind = "MQTT"
	KindRedis  Kind = "REDIS"
)

// State says how a bridge stands with its broker.
type State string

// The states of a bridge.
const (
	Connecting State = "CONNECTING" // no connection; trying again
	Connected  State = "CONNECTED"
)

// Status is the state of a bridge and when it began.
type Status struct {
	State State
	Since time.Time
}

// Bridge is one broker.
type Bridge interface {
	Kind() Kind
	Status() Status
	// Subscribe opens a stream of the messages of a topic (for MQTT: of a
	// filter) once the broker has confirmed it. While the broker is away it
	// returns at once and the first message carries a gap. An ill-formed topic
	// is TOPIC_INVALID, a broker's refusal TOPIC_REFUSED.
	Subscribe(ctx context.Context, topic string, qos QoS) (live.Sub[*Message], error)
	// Publish returns once the broker has acknowledged the message; after
	// PublishTimeout, or at once when the broker is away, the error is
	// UPSTREAM_UNAVAILABLE.
	Publish(ctx context.Context, p Publication) (Receipt, error)
	// Upstreams lists the topics that the broker sends to this gateway.
	Upstreams() []string
	// Close ends every subscription and waits for the bridge's goroutines.
	Close() error
}

// PublishTimeout is how long a publication may wait for its acknowledgement.
const PublishTimeout = 3 * time.Second

// Codes of the errors that bridges tell.
const (
	CodeTopicInvalid        = "TOPIC_INVALID"
	CodeTopicRefused        = "TOPIC_REFUSED"
	CodeTopicForbidden      = "TOPIC_FORBIDDEN"
	CodePayloadTooLarge     = "PAYLOAD_TOO_LARGE"
	CodeUpstreamUnavailable = "UPSTREAM_UNAVAILABLE"
)

// Unavailable is the error of a publication that a broker did not acknowledge.
func Unavailable(kind Kind, cause error) error {
	return &live.Error{
		Code:    CodeUpstreamUnavailable,
		Message: string(kind) + " broker did not acknowledge the message; it may or may not have been delivered. Try again when the broker is back.",
		Cause:   cause,
	}
}
