//go:build linux

package faults

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/redis/go-redis/v9"
)

// refusedWithin is how long the gateway may take to say that it cannot store or
// publish: three seconds are promised, the rest is the way there and back on a
// busy machine.
const refusedWithin = 3*time.Second + 500*time.Millisecond

// sender sends "<name> <n>", n from 0, one after the other.
type sender struct {
	name string
	// send sends one message; it returns once that is acknowledged.
	send func(ctx context.Context, n int) error
	// again has a message sent until it is acknowledged: it has an id.
	again bool

	work  sync.WaitGroup
	ended chan struct{}

	mu       sync.Mutex
	acked    map[int]bool
	last     int            // the newest that was acknowledged
	open     map[int]bool   // were refused, or not answered; may have arrived
	refusals map[string]int // by code
	slowest  time.Duration  // refusal by code
}

// perSecond starts senders, which go on until halt, or the end of the test.
func perSecond(t *testing.T, rate int, senders ...*sender) {
	t.Helper()
	for _, s := range senders {
		s.ended = make(chan struct{})
		s.acked, s.open, s.refusals, s.last = make(map[int]bool), make(map[int]bool), make(map[string]int), -1
		s.work.Go(func() { s.run(time.Second / time.Duration(rate)) })
	}
	t.Cleanup(func() {
		for _, s := range senders {
			s.halt()
		}
	})
}

// halt ends a sender after its present message.
func (s *sender) halt() {
	select {
	case <-s.ended:
	default:
		close(s.ended)
	}
	s.work.Wait()
}

func (s *sender) run(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-s.ended:
			return
		}
		// Who sends again gives up only when the test must have failed already.
		ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
		for !s.try(ctx, n) && s.again && ctx.Err() == nil {
			<-tick.C
		}
		cancel()
	}
}

// try sends once.
func (s *sender) try(ctx context.Context, n int) (acked bool) {
	began := time.Now()
	err := s.send(ctx, n)
	took := time.Since(began)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.open[n] = true
		code := codeOf(err)
		s.refusals[code]++
		if code != noAnswer {
			s.slowest = max(s.slowest, took)
		}
		return false
	}
	delete(s.open, n)
	s.acked[n], s.last = true, n
	return true
}

// refused is how often a code came back, and how long the slowest took.
func (s *sender) refused(code string) (n int, slowest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refusals[code], s.slowest
}

// acknowledged lists the numbers that were.
func (s *sender) acknowledged() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.acked))
}

// mutation sends through gateways: to the first address, and after each error to
// the next one.
func mutation(addrs []string, document string, variables func(n int) map[string]any) func(context.Context, int) error {
	client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	at := 0
	return func(ctx context.Context, n int) error {
		err := ask(ctx, client, addrs[at%len(addrs)], document, variables(n), nil)
		if err != nil {
			at++
			client.CloseIdleConnections()
		}
		return err
	}
}

// toRoom sends messages with ids to a room.
func toRoom(name, room string, addrs ...string) *sender {
	return &sender{name: name, again: true, send: mutation(addrs,
		`mutation($in: SendMessageInput!) { sendMessage(input: $in) { id } }`,
		func(n int) map[string]any {
			text := fmt.Sprint(name, " ", n)
			return map[string]any{"in": map[string]any{"id": fmt.Sprint(name, ".", n), "room": room, "author": name, "content": text}}
		})}
}

// toStream appends to a Redis stream.
func toStream(name, stream string, addrs ...string) *sender {
	return &sender{name: name, send: mutation(addrs,
		`mutation($in: AppendRedisStreamInput!) { appendRedisStream(input: $in) { id } }`,
		func(n int) map[string]any {
			fields := []map[string]any{{"name": "n", "value": fmt.Sprint(name, " ", n)}}
			return map[string]any{"in": map[string]any{"stream": stream, "fields": fields}}
		})}
}

// toChannel publishes to a Redis channel.
func toChannel(name, channel string, addrs ...string) *sender {
	return &sender{name: name, send: mutation(addrs,
		`mutation($in: PublishRedisInput!) { publishRedis(input: $in) { receivers } }`,
		func(n int) map[string]any {
			return map[string]any{"in": map[string]any{"channel": channel, "payload": fmt.Sprint(name, " ", n)}}
		})}
}

// toTopic publishes to an MQTT topic.
func toTopic(name, topic, qos string, addrs ...string) *sender {
	return &sender{name: name, send: mutation(addrs,
		`mutation($in: PublishMQTTInput!) { publishMQTT(input: $in) { acknowledgedAt } }`,
		func(n int) map[string]any {
			return map[string]any{"in": map[string]any{"topic": topic, "payload": fmt.Sprint(name, " ", n), "qos": qos}}
		})}
}

// straightToChannel publishes to Redis, past the gateway.
func straightToChannel(t *testing.T, name, channel, addr string) *sender {
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Second, ReadTimeout: time.Second, PoolSize: 1})
	t.Cleanup(func() { client.Close() })
	return &sender{name: name, send: func(ctx context.Context, n int) error {
		return client.Publish(ctx, channel, fmt.Sprint(name, " ", n)).Err()
	}}
}

// straightToTopic publishes to Mosquitto, past the gateway. After an error it
// begins with a new client, which repeats nothing.
func straightToTopic(t *testing.T, name, topic string, qos byte, url string) *sender {
	var client mqtt.Client
	drop := func() {
		if client != nil {
			client.Disconnect(0)
			client = nil
		}
	}
	s := &sender{name: name}
	s.send = func(_ context.Context, n int) error {
		if client == nil {
			options := mqtt.NewClientOptions().AddBroker("tcp://" + url).SetAutoReconnect(false).SetConnectTimeout(time.Second)
			client = mqtt.NewClient(options)
			if token := client.Connect(); !token.WaitTimeout(2*time.Second) || token.Error() != nil {
				drop()
				return fmt.Errorf("connect: %w", context.DeadlineExceeded)
			}
		}
		token := client.Publish(topic, qos, false, fmt.Sprint(name, " ", n))
		if !token.WaitTimeout(time.Second) || token.Error() != nil || !client.IsConnectionOpen() {
			drop()
			return fmt.Errorf("publish: %w", context.DeadlineExceeded)
		}
		return nil
	}
	t.Cleanup(func() { s.halt(); drop() })
	return s
}

// halt ends senders. Those of messages with ids must have got all of them
// acknowledged.
func halt(t *testing.T, senders []*sender) {
	t.Helper()
	for _, s := range senders {
		s.halt()
		s.mu.Lock()
		if s.again && len(s.open) > 0 {
			t.Errorf("%s could not send %v; errors %v", s.name, slices.Sorted(maps.Keys(s.open)), s.refusals)
		}
		s.mu.Unlock()
	}
}
