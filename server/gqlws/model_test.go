package gqlws

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/live"
)

// TestRandomLives lets clients join, leave, complete, break off and stop reading
// at random while topics are busy, and holds what each subscription received to
// a simple model: numbers in a row, none lost, none twice, none after the end.
func TestRandomLives(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	g := start(t, Config{QueueBytes: 64 << 10, OperationsPerSecond: 1 << 20, OperationsBurst: 1 << 20})

	over := make(chan struct{})
	var publishers, clients sync.WaitGroup
	for _, topic := range modelTopics {
		publishers.Go(func() { publishNumbers(g, topic, over) })
	}
	for i := range 12 {
		clients.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for range 6 {
				liveOnce(t, g, r)
			}
		})
	}
	clients.Wait()
	close(over)
	publishers.Wait()
	for _, topic := range modelTopics {
		g.await(t, topic, 0)
	}
	eventually(t, "all groups to end", func() bool {
		g.transport.groups.mu.Lock()
		defer g.transport.groups.mu.Unlock()
		return len(g.transport.groups.open) == 0
	})
}

var modelTopics = []string{"a", "b", "c"}

// publishNumbers publishes 0, 1, 2 … and now and then ends all streams of the
// topic, half of them with an error.
func publishNumbers(g *gateway, topic string, over <-chan struct{}) {
	pace := time.NewTicker(200 * time.Microsecond)
	defer pace.Stop()
	for n := 0; ; n++ {
		select {
		case <-pace.C:
		case <-over:
			return
		}
		g.publish(topic, fmt.Sprint(n))
		if n%500 == 499 {
			for i, q := range g.queues(topic) {
				if i%2 == 0 {
					q.End(errRefused)
				} else {
					q.End(nil)
				}
			}
		}
	}
}

// modelSub is what a client knows of one of its subscriptions.
type modelSub struct {
	last  int // the last number; -1: none yet
	ended bool
}

// liveOnce is one connection's life.
func liveOnce(t *testing.T, g *gateway, r *rand.Rand) {
	c := g.connect(t)
	subs := make(map[string]*modelSub)
	next := 0
	for range 200 {
		switch p := r.IntN(100); {
		case p < 10 && len(subs) < 8:
			id := fmt.Sprint(next)
			next++
			subs[id] = &modelSub{last: -1}
			c.words(id, modelTopics[r.IntN(len(modelTopics))])
		case p < 15:
			for id := range subs { // any one
				leave(t, c, subs, id)
				break
			}
		case p == 15:
			c.NetConn().Close() // breaks off
			return
		case p == 16:
			time.Sleep(5 * time.Millisecond) // reads nothing for a while; may be closed for it
		default:
			if len(subs) > 0 && !c.readOne(t, subs) {
				return
			}
		}
	}
	c.Close()
}

// leave completes a subscription and reads until the gateway has answered a
// ping that came after it: from then on nothing may come for that id.
func leave(t *testing.T, c *client, subs map[string]*modelSub, id string) {
	c.send(fmt.Sprintf(`{"id":%q,"type":"complete"}`, id))
	c.send(fmt.Sprintf(`{"type":"ping","payload":{"left":%q}}`, id))
	for {
		_, b, err := c.ReadMessage()
		if err != nil {
			return
		}
		if strings.Contains(string(b), `"pong"`) {
			delete(subs, id)
			return
		}
		check(t, subs, b)
	}
}

// readOne reads a message and reports whether the socket goes on.
func (c *client) readOne(t *testing.T, subs map[string]*modelSub) bool {
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, b, err := c.ReadMessage()
	if err != nil {
		if !websocket.IsCloseError(err, SlowConsumer.Code) {
			t.Errorf("the socket ended with %v", err)
		}
		return false
	}
	check(t, subs, b)
	return true
}

// check holds one message to the model.
func check(t *testing.T, subs map[string]*modelSub, b []byte) {
	var m struct {
		ID, Type string
		Payload  json.RawMessage
	}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Errorf("%v: %s", err, b)
		return
	}
	s := subs[m.ID]
	if s == nil || s.ended {
		t.Errorf("a message for %q, which is over: %s", m.ID, b)
		return
	}
	if m.Type != "next" {
		s.ended = true
		delete(subs, m.ID)
		return
	}
	var payload struct {
		Data       struct{ Words string }
		Extensions struct{ Sluice struct{ Gap *live.Gap } }
	}
	var n int
	if err := json.Unmarshal(m.Payload, &payload); err != nil {
		t.Errorf("%v: %s", err, b)
	}
	if _, err := fmt.Sscan(payload.Data.Words, &n); err != nil {
		t.Errorf("%v: %s", err, b)
	}
	if s.last >= 0 && n != s.last+1 && payload.Extensions.Sluice.Gap == nil {
		t.Errorf("%s: %d after %d", m.ID, n, s.last)
	}
	s.last = n
}
