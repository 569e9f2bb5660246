//go:build linux

package peers

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"sync"
	"syscall"

	"github.com/gorilla/websocket"
	"github.com/redis/go-redis/v9"
)

// member is one subscriber of a peer without GraphQL.
type member struct {
	ws *websocket.Conn
	fd int
	id string
	// alias is the name under which it selected the payload.
	alias string
}

// source reads one connection to Redis and says who wants which channel.
type source struct {
	pubsub *redis.PubSub
	mu     sync.Mutex
	topics map[string][]*member // copied on write
	news   chan *redis.Message
}

func newSource(ctx context.Context, addr string) (*source, error) {
	client := redis.NewClient(&redis.Options{Addr: addr})
	if err := client.Ping(ctx).Err(); err != nil {
		return nil, fmt.Errorf("the Redis server at %s: %w", addr, err)
	}
	s := &source{pubsub: client.Subscribe(ctx), topics: make(map[string][]*member), news: make(chan *redis.Message, 1<<16)}
	// The first subscription also connects.
	if err := s.pubsub.Subscribe(ctx, "demo:nothing"); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.news)
		for {
			reply, err := s.pubsub.Receive(ctx)
			if err != nil {
				return
			}
			if m, ok := reply.(*redis.Message); ok {
				s.news <- m
			}
		}
	}()
	return s, nil
}

func (s *source) add(ctx context.Context, channel string, m *member) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	members := s.topics[channel]
	s.topics[channel] = append(members[:len(members):len(members)], m)
	if len(members) > 0 {
		return nil
	}
	return s.pubsub.Subscribe(ctx, channel)
}

func (s *source) remove(channel string, gone *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []*member
	for _, m := range s.topics[channel] {
		if m != gone {
			left = append(left, m)
		}
	}
	s.topics[channel] = left
}

func (s *source) members(channel string) []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topics[channel]
}

// request is what these peers understand of a message.
type request struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Payload struct {
		Query string `json:"query"`
	} `json:"payload"`
}

var document = regexp.MustCompile(`channel: "([^"]*)"\) \{ (?:(\w+): )?payload`)

// converse serves a socket: join is called for its one subscription.
func (s *source) converse(w http.ResponseWriter, r *http.Request, join func(*member) (leave func())) {
	upgrader := websocket.Upgrader{Subprotocols: []string{"graphql-transport-ws"}}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer ws.Close()
	for {
		var message request
		if err := ws.ReadJSON(&message); err != nil {
			return
		}
		switch message.Type {
		case "connection_init":
			if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"connection_ack"}`)); err != nil {
				return
			}
		case "subscribe":
			found := document.FindStringSubmatch(message.Payload.Query)
			if found == nil {
				return
			}
			m := &member{ws: ws, fd: descriptor(ws), id: message.ID, alias: "payload"}
			if found[2] != "" {
				m.alias = found[2]
			}
			leave := join(m)
			defer leave()
			if err := s.add(r.Context(), found[1], m); err != nil {
				return
			}
			defer s.remove(found[1], m)
		}
	}
}

// descriptor is the number of the socket, which stays open as long as its
// reading goroutine runs.
func descriptor(ws *websocket.Conn) (number int) {
	if raw, err := ws.NetConn().(*net.TCPConn).SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { number = int(fd) })
	}
	return number
}

// maxBatch is how many messages the batching floor writes together.
const maxBatch = 4096

// newFloor writes ready frames with write(2), from one goroutine: the frame is
// made once per message, as it fits all who have the same id and selection.
func newFloor(ctx context.Context, b Brokers, batch int) (http.Handler, error) {
	s, err := newSource(ctx, b.Redis)
	if err != nil {
		return nil, err
	}
	go func() {
		waiting := make(map[string][]*redis.Message)
		var order []string
		for first := range s.news {
			n := 0
			for m, more := first, true; more; {
				if waiting[m.Channel] == nil {
					order = append(order, m.Channel)
				}
				waiting[m.Channel] = append(waiting[m.Channel], m)
				if n++; n >= batch {
					break
				}
				select {
				case m, more = <-s.news:
				default:
					more = false
				}
			}
			for _, channel := range order {
				s.write(s.members(channel), waiting[channel])
				delete(waiting, channel)
			}
			order = order[:0]
		}
	}()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.converse(w, r, func(*member) func() { return func() {} })
	}), nil
}

// writeBytes is about how much one write of the batching floor carries.
const writeBytes = 64 << 10

func (s *source) write(members []*member, messages []*redis.Message) {
	if len(members) == 0 {
		return
	}
	for len(messages) > 0 {
		frames := make(map[string][]byte) // by alias
		n := 0
		for size := 0; n < len(messages) && (n == 0 || size < writeBytes); n++ {
			size += len(messages[n].Payload)
		}
		for _, m := range members {
			b := frames[m.alias]
			if b == nil {
				for _, message := range messages[:n] {
					b = appendTextFrame(b, next(m, message.Payload))
				}
				frames[m.alias] = b
			}
			// A client that does not read holds up all others: that is what a
			// server must do something about, and the floor does not.
			n, err := syscall.Write(m.fd, b)
			if n = max(n, 0); n < len(b) && (err == nil || errors.Is(err, syscall.EAGAIN)) {
				_, _ = m.ws.NetConn().Write(b[n:])
			}
		}
		messages = messages[n:]
	}
}

type result struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Payload struct {
		Data struct {
			RedisMessages map[string]string `json:"redisMessages"`
		} `json:"data"`
	} `json:"payload"`
}

// next is the message that brings one payload.
func next(m *member, payload string) []byte {
	message := result{ID: m.id, Type: "next"}
	message.Payload.Data.RedisMessages = map[string]string{m.alias: payload}
	b, err := json.Marshal(message)
	if err != nil {
		panic(fmt.Errorf("strings always marshal: %w", err))
	}
	return b
}

func appendTextFrame(b, text []byte) []byte {
	switch n := len(text); {
	case n <= 125:
		b = append(b, 0x81, byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x81, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x81, 127), uint64(n))
	}
	return append(b, text...)
}
