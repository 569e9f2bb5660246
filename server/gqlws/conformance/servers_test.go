package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/99designs/gqlgen/graphql/handler/transport"

	"github.com/sluice-gateway/sluice/server/gqlws"
)

// Both transports get the same settings, through the options that each has.
const (
	messageBytes = 64 << 10 // largest message of a client
	initWait     = 10 * time.Second
	keepAlive    = time.Minute

	// At a path of its own: a short wait for connection_init.
	impatient         = "/impatient"
	impatientInitWait = 500 * time.Millisecond

	// At another: frequent keep-alives.
	lively          = "/lively"
	livelyKeepAlive = 30 * time.Millisecond
)

// patience is how long what must come may take. Most answers take less than a
// millisecond; a server that does not answer at all costs this much per case.
const patience = 3 * time.Second

// door decides about connection_init the same way for both transports.
func door(token string) (ack map[string]any, _ error) {
	switch token {
	case "refuse":
		return nil, errors.New("no entry")
	case "refuse at length":
		return nil, errors.New(strings.Repeat("no entry 🚫 ", 30))
	case "welcome":
		return map[string]any{"welcome": true}, nil
	}
	return nil, nil
}

// serveOurs starts our transport and returns its URL.
func serveOurs(t *testing.T) string {
	s := newSchema(nil)
	cfg := gqlws.Config{
		InitWait: initWait, PingEvery: keepAlive, MessageBytes: messageBytes,
		OperationsPerSecond: 10_000, OperationsBurst: 10_000, // the other has no such limit
		Init: func(ctx context.Context, payload json.RawMessage) (context.Context, map[string]any, error) {
			var said struct{ Token string }
			if payload != nil {
				_ = json.Unmarshal(payload, &said) // a payload without a token is as good as none
			}
			ack, err := door(said.Token)
			return ctx, ack, err
		},
	}
	short, brisk := cfg, cfg
	short.InitWait = impatientInitWait
	brisk.PingEvery = livelyKeepAlive
	normal, hasty, busy := gqlws.New(cfg), gqlws.New(short), gqlws.New(brisk)
	doors := map[string]graphql.Transport{"/": normal, impatient: hasty, lively: busy}
	return serve(t, s, doors, func(ctx context.Context) error {
		return errors.Join(normal.Shutdown(ctx), hasty.Shutdown(ctx), busy.Shutdown(ctx))
	})
}

// serveStock starts the transport that gqlgen brings, on the WebSocket library
// that it uses by default, and returns its URL.
func serveStock(t *testing.T) string {
	s := newSchema(transport.AddSubscriptionError)
	limit := int64(messageBytes)
	normal := transport.Websocket{
		InitTimeout: initWait, KeepAlivePingInterval: keepAlive, PayloadReadLimit: &limit,
		InitFunc: func(ctx context.Context, payload transport.InitPayload) (context.Context, *transport.InitPayload, error) {
			ack, err := door(payload.GetString("token"))
			if err != nil {
				ctx = transport.WithWebsocketCloseCode(transport.AppendCloseReason(ctx, err.Error()), 4403)
			}
			if ack == nil {
				return ctx, nil, err
			}
			return ctx, (*transport.InitPayload)(&ack), err
		},
	}
	hasty, busy := normal, normal
	hasty.InitTimeout = impatientInitWait
	busy.KeepAlivePingInterval = livelyKeepAlive
	doors := map[string]graphql.Transport{"/": normal, impatient: hasty, lively: busy}
	return serve(t, s, doors, func(context.Context) error { return nil })
}

// serve starts a server with a transport at each path and returns its URL.
func serve(t *testing.T, s *schema, doors map[string]graphql.Transport, stop func(context.Context) error) string {
	mux := http.NewServeMux()
	for path, transport := range doors {
		h := handler.New(s)
		h.AddTransport(transport)
		mux.Handle(path, h)
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		s.close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := stop(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		srv.Close()
	})
	return "ws" + strings.TrimPrefix(srv.URL, "http")
}
