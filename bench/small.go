//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/gorilla/websocket"
)

// firstEvent measures one start of the gateway as somebody starts it who tries
// it out.
func firstEvent(ctx context.Context, b *bed) (sample, error) {
	begun := time.Now()
	s, err := b.start(ctx, sluiceAlone)
	if err != nil {
		return sample{}, err
	}
	defer s.stop()
	dialer := websocket.Dialer{Subprotocols: []string{"graphql-transport-ws"}}
	c, resp, err := dialer.DialContext(ctx, "ws://"+s.addr+"/graphql", nil)
	if err != nil {
		return sample{}, err
	}
	defer c.Close()
	resp.Body.Close()
	for _, message := range []string{`{"type":"connection_init"}`, `{"id":"1","type":"subscribe","payload":{"query":"subscription { timeUpdates }"}}`} {
		if err := c.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
			return sample{}, err
		}
	}
	for range 2 { // the acknowledgement, the event
		if _, _, err := c.ReadMessage(); err != nil {
			return sample{}, err
		}
	}
	v := time.Since(begun).Seconds() * 1e3
	return sample{value: v, detail: millis(v)}, nil
}

// atRest is the memory of a gateway without clients.
func atRest(ctx context.Context, b *bed) (sample, error) {
	s, err := b.start(ctx, sluiceAlone)
	if err != nil {
		return sample{}, err
	}
	defer s.stop()
	resident, err := s.settled(3 * time.Second)
	return sample{value: float64(resident), detail: fmt.Sprint(resident)}, err
}
