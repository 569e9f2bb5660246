package load

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
)

// Protocol is what is spoken over the WebSocket.
type Protocol string

// The protocols. The last two are named as their subprotocols are.
const (
	Raw         Protocol = "websocket"            // messages that the server sends back
	TransportWS Protocol = "graphql-transport-ws" // GraphQL
	LegacyWS    Protocol = "graphql-ws"           // GraphQL as subscriptions-transport-ws speaks it
)

// Loop is when a message is sent.
type Loop string

// The loops.
const (
	Open   Loop = "open"   // at its time, whatever has become of those before
	Closed Loop = "closed" // not before the answer to the one before
	Listen Loop = "listen" // never: the server sends by itself
)

// Plan says what a run does. Zero fields take the defaults in brackets.
type Plan struct {
	URL         string      `json:"url"`      // ws:// or wss://
	Protocol    Protocol    `json:"protocol"` // [Raw]
	Header      http.Header `json:"-"`        // of the opening handshake
	Connections int         `json:"connections"`
	// Loop is Listen where Operation is a subscription, and may be for Raw [Open].
	Loop Loop `json:"loop"`
	// Rate is how many messages or operations each connection sends in a second:
	// in an open loop exactly, in a closed one at most, since it skips those times
	// at which it waits. 0 sends nothing.
	Rate float64 `json:"rate"`
	// Expect is how many events each connection should get in a second when it
	// listens; 0: any number.
	Expect float64 `json:"expect"`
	Size   int     `json:"size"`   // bytes of a Raw message [128]
	Binary bool    `json:"binary"` // Raw messages are bytes, not text

	// Operation is the GraphQL document that each connection subscribes to once,
	// or, if it is a query or a mutation, runs at Rate.
	Operation string          `json:"operation,omitempty"`
	Variables json.RawMessage `json:"variables,omitempty"`

	Ramp   time.Duration `json:"-"` // from the first connection to the last
	WarmUp time.Duration `json:"-"` // from there until measuring begins
	Hold   time.Duration `json:"-"` // is measured
	// Timeout is how long an opening handshake may take, how long a closed loop
	// waits for an answer, and how long all wait for the last answers [5 s].
	Timeout time.Duration `json:"-"`
}

// MarshalJSON writes times in seconds.
func (p Plan) MarshalJSON() ([]byte, error) {
	type plain Plan
	return json.Marshal(struct {
		plain
		Ramp    float64 `json:"rampSeconds"`
		WarmUp  float64 `json:"warmUpSeconds"`
		Hold    float64 `json:"holdSeconds"`
		Timeout float64 `json:"timeoutSeconds"`
	}{plain(p), p.Ramp.Seconds(), p.WarmUp.Seconds(), p.Hold.Seconds(), p.Timeout.Seconds()})
}

// Caps bound what a Plan may ask for.
type Caps struct {
	Connections int
	Rate        float64       // messages a second of all connections
	Size        int           // bytes
	Time        time.Duration // of ramp, warm-up and hold together
}

// CommandCaps are those of the command line: what a run can hold in memory.
var CommandCaps = Caps{Connections: 100_000, Rate: 1e6, Size: 1 << 20, Time: 24 * time.Hour}

// maxMessages is what a run has bits for: 125 MB of them.
const maxMessages = 1e9

// PlanError says which part of a Plan is not accepted, and what is.
type PlanError struct {
	Field string // as the command line calls it, without dashes
	Text  string
}

func (e *PlanError) Error() string { return "load: " + e.Field + " " + e.Text }

// Check completes a Plan and holds it to the caps. Its error is a *PlanError.
func (p Plan) Check(caps Caps) (Plan, error) {
	p.Protocol, p.Loop = cmp.Or(p.Protocol, Raw), cmp.Or(p.Loop, Open)
	p.Size, p.Timeout = cmp.Or(p.Size, 128), cmp.Or(p.Timeout, 5*time.Second)
	wrong := func(field, format string, args ...any) (Plan, error) {
		return p, &PlanError{field, fmt.Sprintf(format, args...)}
	}
	if u, err := url.Parse(p.URL); err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" {
		return wrong("url", "%q is not a WebSocket's, such as ws://127.0.0.1:9998/load", p.URL)
	}
	if !slices.Contains([]Protocol{Raw, TransportWS, LegacyWS}, p.Protocol) {
		return wrong("protocol", "%q is none of %s, %s and %s", p.Protocol, Raw, TransportWS, LegacyWS)
	}
	if p.Protocol != Raw {
		kind, err := operationKind(p.Operation)
		if err != nil {
			return wrong("operation", "%s", err)
		}
		if kind == ast.Subscription {
			p.Loop = Listen
		} else if p.Loop == Listen {
			return wrong("loop", "%s needs a subscription, and the operation is a %s", Listen, kind)
		}
		if len(p.Variables) > 0 && json.Unmarshal(p.Variables, new(map[string]any)) != nil {
			return wrong("variables", "%s is not a JSON object", p.Variables)
		}
	} else if p.Operation != "" {
		return wrong("operation", "needs the protocol %s or %s", TransportWS, LegacyWS)
	}
	total := p.Ramp + p.WarmUp + p.Hold
	switch {
	case !slices.Contains([]Loop{Open, Closed, Listen}, p.Loop):
		return wrong("loop", "%q is none of %s, %s and %s", p.Loop, Open, Closed, Listen)
	case p.Connections < 1 || p.Connections > caps.Connections:
		return wrong("connections", "is %d: 1 to %d is accepted", p.Connections, caps.Connections)
	case p.Loop == Listen && p.Rate != 0:
		return wrong("rate", "is for what is sent, and nothing is: expect says how many events should come")
	case p.Loop != Listen && p.Expect != 0:
		return wrong("expect", "is for a subscription, or for loop %s", Listen)
	case p.Rate != 0 && !(p.Rate >= 0.01 && p.Rate*float64(p.Connections) <= caps.Rate):
		return wrong("rate", "is %v a second on each of %d connections: 0, or 0.01 to %v is accepted", p.Rate, p.Connections, caps.Rate/float64(p.Connections))
	case p.Expect != 0 && !(p.Expect >= 0.01 && p.Expect*float64(p.Connections) <= caps.Rate):
		return wrong("expect", "is %v a second on each of %d connections: 0.01 to %v is accepted", p.Expect, p.Connections, caps.Rate/float64(p.Connections))
	case p.Size < stampBytes || p.Size > caps.Size:
		return wrong("size", "is %d bytes: %d to %d is accepted", p.Size, stampBytes, caps.Size)
	case p.Ramp < 0 || p.WarmUp < 0 || p.Hold < 100*time.Millisecond:
		return wrong("hold", "is %v: at least 100ms is accepted, and ramp and warm-up cannot be negative", p.Hold)
	case total > caps.Time:
		return wrong("hold", "with ramp and warm-up is %v: at most %v is accepted", total, caps.Time)
	case p.Timeout < 100*time.Millisecond || p.Timeout > time.Minute:
		return wrong("timeout", "is %v: 100ms to 1m is accepted", p.Timeout)
	case p.messageRate()*total.Seconds() > maxMessages:
		return wrong("hold", "is %v, in which %v messages a second are more than can be told apart: at most %.0g", p.Hold, p.messageRate(), maxMessages)
	}
	return p, nil
}

// messageRate is how many messages a second all connections send, or expect.
func (p Plan) messageRate() float64 { return (p.Rate + p.Expect) * float64(p.Connections) }

// Listens reports whether the plan is one that sends nothing but a subscription.
func (p Plan) Listens() bool {
	kind, err := operationKind(p.Operation)
	return p.Loop == Listen || err == nil && kind == ast.Subscription
}

func operationKind(document string) (ast.Operation, error) {
	if document == "" {
		return "", fmt.Errorf("is missing: a GraphQL document such as `subscription { timeUpdates }`")
	}
	parsed, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: document}, 2000)
	if err != nil {
		return "", fmt.Errorf("is not GraphQL: %w", err)
	}
	if len(parsed.Operations) != 1 {
		return "", fmt.Errorf("has %d operations: exactly one is accepted", len(parsed.Operations))
	}
	return parsed.Operations[0].Operation, nil
}

// PerSecond is a rate that can be written as 20/s, 20, 90/m or 0.5/s.
type PerSecond float64

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *PerSecond) UnmarshalText(text []byte) error {
	number, unit, _ := strings.Cut(string(text), "/")
	seconds, ok := map[string]float64{"": 1, "s": 1, "m": 60}[unit]
	n, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(n >= 0 && n <= 1e9) {
		return fmt.Errorf("%q is not a rate, such as 20/s, 0.5/s or 30/m", text)
	}
	*r = PerSecond(n / seconds)
	return nil
}

// names lists the keys of a table for a message.
func names[T any](table map[string]T) string {
	return strings.Join(slices.Sorted(maps.Keys(table)), ", ")
}
