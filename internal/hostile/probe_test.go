//go:build linux

package hostile

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/testenv"
)

// probe is a well-behaved client. It holds a clock and a topic of each broker
// on one socket from before the attack until after it.
type probe struct {
	g      *gateway
	socket *socket
	heard  chan string // payloads from the brokers
	read   sync.WaitGroup

	mu      sync.Mutex
	tick    time.Time     // of the last event of the clock
	silence time.Duration // the longest between two of them

	stop     chan struct{}
	watching sync.WaitGroup
	slowest  time.Duration // query, while watching
	failures []string
	serial   atomic.Int32
}

// servedWithin is what everybody else is promised during an attack. The race
// detector makes the gateway five to ten times as slow.
func servedWithin() time.Duration {
	if withRace {
		return 3 * time.Second
	}
	return time.Second
}

func startProbe(t *testing.T, g *gateway) *probe {
	t.Helper()
	p := &probe{g: g, heard: make(chan string, 16), stop: make(chan struct{}), socket: openSocket(t, g)}
	p.socket.subscribe("clock", `subscription { timeUpdates(intervalMs: 100) }`)
	p.socket.subscribe("redis", `subscription { redisMessages(channel: "demo:probe") { payload } }`)
	p.socket.subscribe("mqtt", `subscription { mqttMessages(topic: "demo/probe", qos: AT_LEAST_ONCE) { payload } }`)
	_ = p.socket.SetDeadline(time.Time{})
	p.read.Go(p.listen)
	testenv.Eventually(t, 10*time.Second, "the well-behaved client has its three subscriptions", func() string {
		if f := g.figures(t); f.operations != 3 || f.upstreams != 2 || f.channels != 1 {
			return fmt.Sprintf("%+v", f)
		}
		return ""
	})
	return p
}

// listen reads until the socket ends.
func (p *probe) listen() {
	for {
		m, err := p.socket.message()
		if err != nil {
			return
		}
		if m.ID == "clock" {
			p.ticked(time.Now())
			continue
		}
		select {
		case p.heard <- string(m.Payload):
		default: // served takes what it waits for
		}
	}
}

func (p *probe) ticked(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.tick.IsZero() {
		p.silence = max(p.silence, now.Sub(p.tick))
	}
	p.tick = now
}

// watch sends a query four times a second until stopWatching.
func (p *probe) watch() {
	p.mu.Lock()
	p.silence = 0
	p.mu.Unlock()
	p.watching.Go(func() {
		pace := time.NewTicker(250 * time.Millisecond)
		defer pace.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-pace.C:
			}
			begin := time.Now()
			response, err := fresh.Get(p.g.url("/graphql?query=%7Bhello%7D"))
			if err != nil {
				p.failures = append(p.failures, err.Error())
				continue
			}
			response.Body.Close()
			if response.StatusCode != 200 {
				p.failures = append(p.failures, response.Status)
			}
			p.slowest = max(p.slowest, time.Since(begin))
		}
	})
}

// stopWatching reports whoever was not served in time since watch.
func (p *probe) stopWatching(t *testing.T) {
	t.Helper()
	close(p.stop)
	p.watching.Wait()
	p.ticked(time.Now())
	if p.silence > servedWithin() {
		t.Errorf("the clock of another client was silent for %v", p.silence)
	}
	if p.slowest > servedWithin() {
		t.Errorf("a query of another client took %v", p.slowest)
	}
	if len(p.failures) > 0 {
		t.Errorf("%d queries of another client failed, the first with: %s", len(p.failures), p.failures[0])
	}
	t.Logf("others: the longest silence of a clock of 100 ms %v, the slowest query %v",
		p.silence.Round(time.Millisecond), p.slowest.Round(time.Millisecond))
}

// served checks every way of being served: messages of both brokers on the old
// socket, a query, a new socket.
func (p *probe) served(t *testing.T) {
	t.Helper()
	begin := time.Now()
	within := func(what string) {
		t.Helper()
		if took := time.Since(begin); took > servedWithin() {
			t.Errorf("%s took %v", what, took)
		}
		begin = time.Now()
	}
	word := fmt.Sprintf("ping %d", p.serial.Add(1))
	p.g.publishRedis(t, "demo:probe", []byte("redis "+word))
	p.g.publishMQTT(t, "demo/probe", []byte("mqtt "+word))
	want := map[string]bool{
		`{"data":{"redisMessages":{"payload":"redis ` + word + `"}}}`: true,
		`{"data":{"mqttMessages":{"payload":"mqtt ` + word + `"}}}`:   true,
	}
	late := time.NewTimer(10 * servedWithin())
	defer late.Stop()
	for len(want) > 0 {
		select {
		case payload := <-p.heard:
			delete(want, payload)
		case <-late.C:
			t.Fatalf("another client waits for messages of a broker: %v", want)
		}
	}
	within("messages of both brokers")

	if a := p.g.query(t, `{ hello }`); a.status != 200 || len(a.codes) > 0 {
		t.Errorf("a query was answered %d, %s", a.status, a.text)
	}
	within("a query")

	s := openSocket(t, p.g)
	s.subscribe("1", `subscription { countdown(from: 0) }`)
	if m, err := s.message(); err != nil || m.Type != "next" {
		t.Errorf("a new socket got %v, %v", m, err)
	}
	s.Close()
	within("a new socket and its first event")
}

// close ends the probe's socket.
func (p *probe) close() {
	p.socket.Close()
	p.read.Wait()
}
