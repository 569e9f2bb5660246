package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/sluice-gateway/sluice/server/gqlws"
)

// start serves the example and returns its URL.
func start(t *testing.T) string {
	sockets := gqlws.New(gqlws.Config{})
	srv := httptest.NewServer(newHandler(sockets))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := sockets.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		srv.Close()
	})
	return srv.URL
}

// TestClients holds the same conversation in both subprotocols.
func TestClients(t *testing.T) {
	url := start(t)
	tests := []struct {
		token  string
		start  string   // asks for an operation
		result string   // carries an event
		opened []string // answers connection_init
	}{
		{gqlws.TransportWS, "subscribe", "next", []string{`{"type":"connection_ack"}`}},
		{gqlws.LegacyWS, "start", "data", []string{`{"type":"connection_ack"}`, `{"type":"ka"}`}},
	}
	for _, test := range tests {
		t.Run(test.token, func(t *testing.T) {
			ws := dial(t, url, test.token)
			send(t, ws, `{"type":"connection_init"}`)
			for _, message := range test.opened {
				want(t, ws, message)
			}
			send(t, ws, fmt.Sprintf(`{"id":"1","type":%q,"payload":{"query":"subscription { countdown(from: 2, stepMs: 1) }"}}`, test.start))
			for n := 2; n >= 0; n-- {
				want(t, ws, fmt.Sprintf(`{"id":"1","type":%q,"payload":{"data":{"countdown":%d}}}`, test.result, n))
			}
			want(t, ws, `{"id":"1","type":"complete"}`)
		})
	}
}

func TestQueryOverHTTP(t *testing.T) {
	resp, err := http.Post(start(t), "application/json", strings.NewReader(`{"query":"{ hello }"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if got, want := string(body), `{"data":{"hello":"Hello, world"}}`; err != nil || got != want {
		t.Errorf("got %s %v, want %s", got, err, want)
	}
}

func dial(t *testing.T, url, token string) *websocket.Conn {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{token}}
	ws, _, err := dialer.Dial("ws"+strings.TrimPrefix(url, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	_ = ws.SetReadDeadline(time.Now().Add(5 * time.Second))
	return ws
}

func send(t *testing.T, ws *websocket.Conn, message string) {
	t.Helper()
	if err := ws.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
		t.Fatalf("send %s: %v", message, err)
	}
}

func want(t *testing.T, ws *websocket.Conn, message string) {
	t.Helper()
	_, got, err := ws.ReadMessage()
	if err != nil || string(got) != message {
		t.Fatalf("got %s %v, want %s", got, err, message)
	}
}
