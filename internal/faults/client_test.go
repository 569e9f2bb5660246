//go:build linux

package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/testenv"
)

// The ways to subscribe.
const (
	modern = "graphql-transport-ws"
	legacy = "graphql-ws"
	sse    = "EventSource"
)

// event is a numbered message as a client got it.
type event struct {
	sender string
	n      int
	gap    bool // something is missing before it
	at     time.Time
}

// client is a careful one: it subscribes to one stream whose events select
// "text", and comes back by itself at any end, from the last cursor that it has,
// to its addresses in turn.
type client struct {
	name     string
	protocol string
	query    string
	addrs    []string

	work sync.WaitGroup
	stop context.CancelFunc

	mu      sync.Mutex
	cut     func() // ends the connection
	cursor  string
	open    int      // streams that were said to be open
	sockets int      // connections that were made
	ends    []int    // codes with which WebSockets ended; 1006: none came
	wrong   []string // what should never have been sent
	events  []event
}

// subscribe starts a client, which runs until the test ends.
func subscribe(t *testing.T, protocol, query string, addrs ...string) *client {
	t.Helper()
	return subscribeAs(t, "anonymous", protocol, query, addrs...)
}

func subscribeAs(t *testing.T, name, protocol, query string, addrs ...string) *client {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	c := &client{name: name, protocol: protocol, query: query, addrs: addrs, stop: stop, cut: func() {}}
	c.work.Go(func() { c.run(ctx) })
	t.Cleanup(c.leave)
	return c
}

// leave ends the client for good.
func (c *client) leave() {
	c.stop()
	c.work.Wait()
}

// run connects again and again.
func (c *client) run(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		addr := c.addrs[i%len(c.addrs)]
		connection, cut := context.WithCancel(ctx)
		c.mu.Lock()
		c.cut = cut
		c.mu.Unlock()
		if c.protocol == sse {
			c.follow(connection, addr)
		} else {
			c.listen(connection, addr)
		}
		cut()
		select {
		case <-time.After(50*time.Millisecond + rand.N(450*time.Millisecond)): // not all at once
		case <-ctx.Done():
		}
	}
}

// move ends the present connection.
func (c *client) move() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut()
}

type sluiceExtensions struct {
	Ready  bool            `json:"ready"`
	Cursor string          `json:"cursor"`
	Gap    json.RawMessage `json:"gap"`
}

// wants is what the client asks for beside its query.
func (c *client) wants() map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	wants := map[string]any{"ready": true, "cursor": true}
	if c.cursor != "" && c.protocol != sse { // an EventSource only knows its header
		wants["resume"] = c.cursor
	}
	return map[string]any{"sluice": wants}
}

// listen holds a WebSocket until it ends.
func (c *client) listen(ctx context.Context, addr string) {
	dialer := websocket.Dialer{Subprotocols: []string{c.protocol}, HandshakeTimeout: 5 * time.Second}
	ws, _, err := dialer.DialContext(ctx, "ws://"+addr+"/graphql", nil)
	if err != nil {
		return // the gateway is away, or refuses new sockets
	}
	defer ws.Close()
	defer context.AfterFunc(ctx, func() { _ = ws.Close() })()
	start := map[string]string{modern: "subscribe", legacy: "start"}[c.protocol]
	for _, message := range []any{
		map[string]any{"type": "connection_init", "payload": map[string]any{"name": c.name}},
		map[string]any{"id": "1", "type": start, "payload": map[string]any{"query": c.query, "extensions": c.wants()}},
	} {
		if ws.WriteJSON(message) != nil {
			break // reading says why
		}
	}
	for {
		var message struct {
			Type    string
			Payload json.RawMessage
		}
		if err := ws.ReadJSON(&message); err != nil {
			c.ended(ctx, err)
			return
		}
		switch message.Type {
		case "connection_ack":
			c.mu.Lock()
			c.sockets++
			c.mu.Unlock()
		case "ka":
		case "ping":
			_ = ws.WriteJSON(map[string]string{"type": "pong"})
		case "next", "data":
			c.take(message.Payload)
		default:
			c.complain("%s %s", message.Type, message.Payload)
		}
	}
}

func (c *client) ended(ctx context.Context, err error) {
	code := websocket.CloseAbnormalClosure
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		code = closed.Code
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() == nil { // else it went by itself
		c.ends = append(c.ends, code)
	}
}

// follow holds an event stream until it ends.
func (c *client) follow(ctx context.Context, addr string) {
	extensions, _ := json.Marshal(c.wants())
	target := "http://" + addr + "/graphql?" + url.Values{"query": {c.query}, "extensions": {string(extensions)}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		c.complain("%v", err)
		return
	}
	request.Header.Set("Accept", "text/event-stream")
	c.mu.Lock()
	if c.cursor != "" {
		request.Header.Set("Last-Event-ID", c.cursor)
	}
	c.mu.Unlock()
	response, err := streams.Do(request)
	if err != nil {
		return
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		c.complain("an EventSource gives up on %s", response.Status)
		return
	}
	c.mu.Lock()
	c.sockets++
	c.mu.Unlock()
	var kind, id, data string
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "event":
			kind = value
		case "id":
			id = value
		case "data":
			data = value
		case "":
			if kind == "next" {
				c.take([]byte(data))
				c.mu.Lock()
				c.cursor = id
				c.mu.Unlock()
			} else if kind != "" {
				c.complain("%s %s", kind, data)
			}
			kind, id, data = "", "", ""
		}
	}
}

var streams = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// take notes a result.
func (c *client) take(result []byte) {
	var r struct {
		Data       map[string]struct{ Text string }
		Errors     json.RawMessage
		Extensions struct{ Sluice sluiceExtensions }
	}
	if err := json.Unmarshal(result, &r); err != nil || r.Errors != nil {
		c.complain("%s", result)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ours := r.Extensions.Sluice
	if ours.Cursor != "" {
		c.cursor = ours.Cursor
	}
	if ours.Ready {
		c.open++
		return
	}
	for _, value := range r.Data {
		e := event{gap: ours.Gap != nil, at: time.Now()}
		if _, err := fmt.Sscanf(value.Text, "%s %d", &e.sender, &e.n); err != nil {
			c.wrong = append(c.wrong, value.Text)
		}
		c.events = append(c.events, e)
	}
}

func (c *client) complain(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.wrong) < 5 {
		c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
	}
}

// seen copies what the client has got.
func (c *client) seen() []event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

func (c *client) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.events)
}

// has reports whether a message has come.
func (c *client) has(sender string, n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range slices.Backward(c.events) {
		if e.sender == sender && e.n == n {
			return true
		}
	}
	return false
}

// since is how long after a moment the first message came; negative: none has.
func (c *client) since(moment time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		if e.at.After(moment) {
			return e.at.Sub(moment)
		}
	}
	return -1
}

// allOpen waits until every client's stream is open.
func allOpen(t *testing.T, clients []*client) {
	t.Helper()
	for _, c := range clients {
		testenv.Eventually(t, 20*time.Second, "the stream of "+c.query+" is open", func() string {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.open == 0 {
				return fmt.Sprintf("not yet; %d sockets, ends %v, %q", c.sockets, c.ends, c.wrong)
			}
			return ""
		})
	}
}

// flow waits until every client has got so many messages from now on.
func flow(t *testing.T, clients []*client, messages int) {
	t.Helper()
	want := make([]int, len(clients))
	for i, c := range clients {
		want[i] = c.count() + messages
	}
	for i, c := range clients {
		testenv.Eventually(t, 30*time.Second, "messages flow in "+c.query, func() string {
			if n := c.count(); n < want[i] {
				return fmt.Sprintf("%s has %d, is to have %d", c.protocol, n, want[i])
			}
			return ""
		})
	}
}

// stayed checks that no connection of the clients has ended.
func stayed(t *testing.T, clients []*client) {
	t.Helper()
	for _, c := range clients {
		c.mu.Lock()
		if c.sockets != 1 || len(c.ends) != 0 {
			t.Errorf("%s of %s: %d connections, ends %v: the subscription was to stay", c.protocol, c.query, c.sockets, c.ends)
		}
		c.mu.Unlock()
	}
}
