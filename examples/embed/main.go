// Command embed is a gqlgen server of its own that serves its subscriptions
// with gqlws. The resolvers do not know that.
package main

import (
	"context"
	"log"
	"net/http"
	"time"

	"example.com/embed/graph"
	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/99designs/gqlgen/graphql/handler/transport"
	"github.com/sluice-gateway/sluice/server/gqlws"
)

//go:generate go run github.com/99designs/gqlgen generate

func main() {
	log.Print("GraphQL on http://127.0.0.1:8090, POST and WebSocket")
	log.Fatal(http.ListenAndServe("127.0.0.1:8090", newHandler(gqlws.New(gqlws.Config{}))))
}

func newHandler(sockets *gqlws.Transport) http.Handler {
	srv := handler.New(graph.NewExecutableSchema(graph.Config{Resolvers: resolvers{}}))
	srv.AddTransport(sockets)
	srv.AddTransport(transport.POST{})
	return srv
}

type resolvers struct{}

func (r resolvers) Query() graph.QueryResolver               { return r }
func (r resolvers) Subscription() graph.SubscriptionResolver { return r }

func (resolvers) Hello(_ context.Context, name string) (string, error) { return "Hello, " + name, nil }

// Countdown returns a plain channel, as gqlgen wants it: who sends, closes it,
// and stops when the context ends.
func (resolvers) Countdown(ctx context.Context, from, stepMs int) (<-chan int, error) {
	out := make(chan int)
	go func() {
		defer close(out)
		for n := from; n >= 0; n-- {
			select {
			case out <- n:
			case <-ctx.Done():
				return
			}
			select {
			case <-time.After(time.Duration(stepMs) * time.Millisecond):
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}
