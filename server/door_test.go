package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// door is a client of GraphQL in a lab session, or the status of the refusal.
func (g *gateway) door(t *testing.T, l lab) (s *socket, status int) {
	t.Helper()
	conn, response, err := websocket.DefaultDialer.Dial(l.url(t, "graphql"), http.Header{"Sec-WebSocket-Protocol": {"graphql-transport-ws"}})
	if response == nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err != nil {
		return nil, response.StatusCode
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	s = &socket{t, conn}
	s.send(`{"type":"connection_init"}`)
	if got := s.read(); got != `{"type":"connection_ack"}` {
		t.Fatalf("got %s", got)
	}
	return s, response.StatusCode
}

func TestTheGraphQLSocketsOfALabSessionCountAmongItsConnections(t *testing.T) {
	g := start(t, func(c *Config) { c.Limits.LabConnections = 2 })
	one := g.startLab(t)
	for i, want := range []int{101, 101, 503} {
		if _, status := g.door(t, one); status != want {
			t.Errorf("%d: %d, want %d", i+1, status, want)
		}
	}
}

func TestTheGraphQLClientsOfALabSessionEndWithIt(t *testing.T) {
	g := start(t)
	one := g.startLab(t)
	s, _ := g.door(t, one)
	events := listen(t, http.DefaultClient, http.MethodPost, "http"+strings.TrimPrefix(one.url(t, "graphql"), "ws"), `{"query":"subscription { timeUpdates(intervalMs: 60000) }"}`)
	for !strings.HasPrefix(events.next(), "next") {
	}
	g.query(t, `mutation($id: ID!) { forgetLab(id: $id) }`, map[string]any{"id": one.ID})
	var closed *websocket.CloseError
	if _, _, err := s.ReadMessage(); !errors.As(err, &closed) || closed.Code != 1012 {
		t.Errorf("the socket ended with %v", err)
	}
	for event := events.next(); event != ""; event = events.next() {
		if strings.HasPrefix(event, "complete") {
			t.Errorf("the stream says that it is complete: its client will not come back to be told why")
		}
	}
	if err := events.lines.Err(); err != nil {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestWireEventsDoNotTellOfThemselves(t *testing.T) {
	g := start(t)
	one, other := g.startLab(t), g.startLab(t)
	s, _ := g.door(t, one)
	for _, watched := range []lab{one, other} { // two that watch each other never end either
		s.subscribe("1", `subscription { wireEvents(session: "`+watched.ID+`") { number } }`)
		if got := s.read(); !strings.Contains(got, "LAB_WATCHED") {
			t.Errorf("got %s", got)
		}
	}
}

// What a session plays comes from this machine, whose clients have fewer limits.
func TestAPlayedRequestIsThatOfWhoPlaysIt(t *testing.T) {
	g := start(t, func(c *Config) {
		c.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.Limits.LabSessionsPerAddress = 1
	})
	ask := func(document string, variables map[string]any) string {
		b, _ := json.Marshal(map[string]any{"query": document, "variables": variables})
		_, body, _ := g.do(t, "POST", "/graphql", string(b), "Content-Type", asJSON, "X-Forwarded-For", "192.0.2.1")
		return body
	}
	var one lab
	decode(t, ask(`mutation { startLab { id } }`, nil), "startLab", &one)
	for _, more := range []string{"", "X-Forwarded-For: 198.51.100.7\n"} {
		got := ask(`mutation($i: SendRawRequestInput!) { sendRawRequest(input: $i) { answer { text } } }`, map[string]any{"i": map[string]any{
			"session": one.ID, "waitMs": 10_000,
			"head": "POST /graphql HTTP/1.1\nHost: x\nConnection: close\nContent-Type: application/json\nContent-Length: 40\n" + more + "\n" + `{"query":"mutation { startLab { id } }"}`,
		}})
		if !strings.Contains(got, "TOO_MANY_LABS") {
			t.Errorf("%q: %s", more, got)
		}
	}
}

// Clients that do not answer a Close frame are waited for within the drain time,
// also those of lab sessions.
func TestPracticeServersEndWithinTheDrainTime(t *testing.T) {
	g := start(t)
	stop := g.stop
	g.stop = func() error { _ = stop(); return nil } // it has been shut down before
	for _, address := range []string{"ws" + strings.TrimPrefix(g.url, "http") + "/echo", g.startLab(t).url(t, "echo")} {
		conn, response, err := websocket.DefaultDialer.Dial(address, nil)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		defer conn.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := g.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}
