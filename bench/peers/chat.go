//go:build linux

package peers

import (
	"context"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// newChat is the broadcast server of gorilla's chat example, with GraphQL's
// messages: a hub, and for each client a channel and a goroutine that makes the
// JSON and writes it.
func newChat(ctx context.Context, b Brokers) (http.Handler, error) {
	s, err := newSource(ctx, b.Redis)
	if err != nil {
		return nil, err
	}
	var (
		mu    sync.Mutex
		boxes = make(map[*member]chan string)
	)
	go func() {
		for message := range s.news {
			for _, m := range s.members(message.Channel) {
				mu.Lock()
				box := boxes[m]
				mu.Unlock()
				if box == nil {
					continue
				}
				select {
				case box <- message.Payload:
				default: // too slow, as in the example: it is dropped
					m.ws.NetConn().Close()
				}
			}
		}
	}()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.converse(w, r, func(m *member) func() {
			box := make(chan string, 4096)
			mu.Lock()
			boxes[m] = box
			mu.Unlock()
			done := make(chan struct{})
			go func() {
				for {
					select {
					case payload := <-box:
						if m.ws.WriteMessage(websocket.TextMessage, next(m, payload)) != nil {
							m.ws.NetConn().Close()
							return
						}
					case <-done:
						return
					}
				}
			}()
			return func() {
				mu.Lock()
				delete(boxes, m)
				mu.Unlock()
				close(done)
			}
		})
	}), nil
}
