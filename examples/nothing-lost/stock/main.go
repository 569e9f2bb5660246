// Command stock serves the gateway's rooms with gqlgen's own WebSocket
// transport: the right side of the page that compares the two. The schema, the
// resolvers and the event log in Redis are the gateway's.
package main

import (
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/99designs/gqlgen/graphql/handler/transport"

	"github.com/sluice-gateway/sluice/graph"
	"github.com/sluice-gateway/sluice/graph/generated"
	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/eventlog/redislog"
	"github.com/sluice-gateway/sluice/internal/presence"
	"github.com/sluice-gateway/sluice/internal/rooms"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8090", "where to listen")
	redisURL := flag.String("redis-url", "redis://127.0.0.1:6379", "the Redis server with the rooms")
	flag.Parse()
	if err := serve(*addr, *redisURL); err != nil {
		fmt.Fprintln(os.Stderr, "stock:", err)
		os.Exit(1)
	}
}

func serve(addr, redisURL string) error {
	store, err := redislog.Open(redislog.Config{URL: redisURL})
	if err != nil {
		return err
	}
	schema := generated.NewExecutableSchema(generated.Config{Resolvers: &graph.Resolver{
		Rooms: rooms.New(eventlog.New(store, eventlog.Config{}), presence.NewMemory()),
	}})
	h := handler.New(schema)
	h.AddTransport(transport.Websocket{KeepAlivePingInterval: 10 * time.Second})
	h.SetErrorPresenter(graph.Present(slog.Default(), func(string) {}))
	anyPage := func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Origin") // the transport would serve pages of its own address only
		h.ServeHTTP(w, r)
	}
	srv := &http.Server{Addr: addr, Handler: http.HandlerFunc(anyPage), ReadHeaderTimeout: 10 * time.Second}
	return srv.ListenAndServe()
}
