//go:build linux

package peers

import (
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/99designs/gqlgen/graphql/handler/lru"
	"github.com/99designs/gqlgen/graphql/handler/transport"
	"github.com/gorilla/websocket"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/bridges/mqttbridge"
	"github.com/sluice-gateway/sluice/bridges/redisbridge"
	"github.com/sluice-gateway/sluice/graph"
	"github.com/sluice-gateway/sluice/graph/generated"
	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/presence"
	"github.com/sluice-gateway/sluice/internal/rooms"
)

// newStock serves the gateway's schema with gqlgen's own transports. The
// resolvers are the same; without the gateway's engine live.Stream runs a
// goroutine for each subscription.
func newStock(b Brokers, sockets transport.WebsocketImplementation) (http.Handler, error) {
	mqtt, err := mqttbridge.New(mqttbridge.Config{URL: "mqtt://" + b.MQTT})
	if err != nil {
		return nil, err
	}
	redis, err := redisbridge.New(redisbridge.Config{URL: "redis://" + b.Redis})
	if err != nil {
		return nil, err
	}
	mqttRules, err := bridges.NewMQTTRules([]string{"demo/#"}, nil)
	if err != nil {
		return nil, err
	}
	redisRules, err := bridges.NewRedisRules([]string{"demo:*"}, nil)
	if err != nil {
		return nil, err
	}
	guard := bridges.Guard{Topics: bridges.DefaultTopicLimits, PublishBytes: 64 << 10}
	schema := generated.NewExecutableSchema(generated.Config{Resolvers: &graph.Resolver{
		MQTT:   bridges.GuardedMQTT{Guard: guard, Bridge: mqtt, Rules: mqttRules},
		Redis:  bridges.GuardedRedis{Guard: guard, Bridge: redis, Rules: redisRules},
		Rooms:  rooms.New(eventlog.New(eventlog.NewMemory(eventlog.Retention{}, nil), eventlog.Config{}), presence.NewMemory()),
		States: new(bridges.States),
	}})
	h := handler.New(schema)
	h.AddTransport(transport.SSE{})
	h.AddTransport(transport.Websocket{Implementation: sockets, KeepAlivePingInterval: 10 * time.Second})
	h.AddTransport(transport.POST{})
	h.SetQueryCache(lru.New[*ast.QueryDocument](1000))
	h.SetErrorPresenter(graph.Present(slog.New(slog.DiscardHandler), func(string) {}))
	return h, nil
}

// gorilla brings gorilla/websocket to gqlgen's transport.
type gorilla struct{}

// Accept implements transport.WebsocketImplementation.
func (gorilla) Accept(w http.ResponseWriter, r *http.Request, options transport.WebsocketAcceptOptions) (transport.WebsocketConn, error) {
	upgrader := websocket.Upgrader{Subprotocols: options.Subprotocols}
	ws, err := upgrader.Upgrade(w, r, options.ResponseHeader)
	if err != nil {
		return nil, err
	}
	return gorillaConn{ws}, nil
}

type gorillaConn struct{ *websocket.Conn }

// NextReader implements transport.WebsocketConn.
func (c gorillaConn) NextReader() (int, io.Reader, error) {
	kind, reader, err := c.Conn.NextReader()
	if websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseNoStatusReceived) {
		err = transport.ErrWebsocketClosed
	}
	return kind, reader, err
}

// WriteClose implements transport.WebsocketConn.
func (c gorillaConn) WriteClose(code int, message string) error {
	return c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, message), time.Now().Add(time.Second))
}
