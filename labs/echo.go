package labs

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// EchoConfig is what an Echo needs.
type EchoConfig struct {
	DoorConfig
	MaxMessageBytes int64 // what ?limit= may ask for [MessageBytes]
	Deflate         bool  // compression is accepted where the query does not say otherwise
}

// Echo sends every message back, text as text and bytes as bytes, in one piece.
// It is strict: a client that breaks a rule of RFC 6455 is told which, by a
// Close frame with 1002, 1007 or 1009. It holds one message per connection.
//
// The query of the URL sets up the connection. What it does not know it ignores.
//
//	limit        bytes of a message, from 1 to MaxMessageBytes
//	ping         time between two pings, 200ms to 60s; the answer is due within it
//	subprotocol  what to choose from, in the client's order: repeated, or with commas
//	deflate      whether permessage-deflate is accepted: 1 or 0. Without context
//	             takeover, since that is all that the library does
type Echo struct {
	cfg  EchoConfig
	door *Door
}

// NewEcho makes an Echo.
func NewEcho(cfg EchoConfig) *Echo {
	door := NewDoor(cfg.DoorConfig)
	cfg.DoorConfig = door.cfg // with its defaults
	cfg.MaxMessageBytes = max(cfg.MaxMessageBytes, cfg.MessageBytes)
	return &Echo{cfg: cfg, door: door}
}

// Shutdown ends its sockets as Door.Shutdown does.
func (e *Echo) Shutdown(ctx context.Context) error { return e.door.Shutdown(ctx) }

// The bounds of ?ping= and ?subprotocol=.
const (
	minPing, maxPing = 200 * time.Millisecond, time.Minute
	maxSubprotocols  = 10
)

func (e *Echo) options(query url.Values) (Options, *refusal) {
	o := Options{MessageBytes: e.cfg.MessageBytes, Deflate: e.cfg.Deflate}
	invalid := func(name, accepted string) (Options, *refusal) {
		return o, &refusal{http.StatusBadRequest, "ARGUMENT_OUT_OF_RANGE", fmt.Sprintf("%s=%s is not accepted: %s.", name, query.Get(name), accepted)}
	}
	var err error
	if s := query.Get("limit"); s != "" {
		if o.MessageBytes, err = strconv.ParseInt(s, 10, 64); err != nil || o.MessageBytes < 1 || o.MessageBytes > e.cfg.MaxMessageBytes {
			return invalid("limit", fmt.Sprintf("it is a number of bytes, from 1 to %d", e.cfg.MaxMessageBytes))
		}
	}
	if s := query.Get("ping"); s != "" {
		if o.PingEvery, err = time.ParseDuration(s); err != nil || o.PingEvery < minPing || o.PingEvery > maxPing {
			return invalid("ping", fmt.Sprintf("it is a time such as 5s, from %v to %v", minPing, maxPing))
		}
		o.PongWithin = min(e.cfg.PongWithin, o.PingEvery)
	}
	for _, s := range query["subprotocol"] {
		for name := range strings.SplitSeq(s, ",") {
			if !wire.IsToken(name) || len(o.Subprotocols) == maxSubprotocols {
				return invalid("subprotocol", fmt.Sprintf("it is a list of tokens (RFC 6455, section 4.1), at most %d of them", maxSubprotocols))
			}
			o.Subprotocols = append(o.Subprotocols, name)
		}
	}
	if s := query.Get("deflate"); s != "" {
		if o.Deflate, err = strconv.ParseBool(s); err != nil {
			return invalid("deflate", "it is 1 or 0")
		}
	}
	return o, nil
}

// ServeHTTP implements http.Handler.
func (e *Echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f := handshake(r); f != nil {
		e.door.refuse(w, f)
		return
	}
	o, f := e.options(r.URL.Query())
	if f != nil {
		e.door.refuse(w, f)
		return
	}
	e.door.Serve(w, r, o, PlayEcho)
}

// PlayEcho sends every message back until the client leaves. It is for Door.Serve.
func PlayEcho(s *Socket) error {
	for {
		kind, message, err := s.Read()
		if err != nil {
			return err
		}
		if err := s.Write(kind, message); err != nil {
			return err
		}
	}
}
