//go:build linux

package peers

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// Brokers are where the messages come from, host:port.
type Brokers struct{ Redis, MQTT string }

var servers = map[string]func(context.Context, Brokers) (http.Handler, error){
	"stock":         func(_ context.Context, b Brokers) (http.Handler, error) { return newStock(b, nil) },
	"stock-gorilla": func(_ context.Context, b Brokers) (http.Handler, error) { return newStock(b, gorilla{}) },
	"chat":          newChat,
	"floor":         func(ctx context.Context, b Brokers) (http.Handler, error) { return newFloor(ctx, b, 1) },
	"floor-batched": func(ctx context.Context, b Brokers) (http.Handler, error) { return newFloor(ctx, b, maxBatch) },
}

// Serve runs a peer until ctx ends. It listens on a free port of loopback and
// writes its address into a file.
func Serve(ctx context.Context, name, addrFile string, brokers Brokers) error {
	make := servers[name]
	if make == nil {
		return fmt.Errorf("there is no peer %q", name)
	}
	handler, err := make(ctx, brokers)
	if err != nil {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := os.WriteFile(addrFile+".tmp", []byte(ln.Addr().String()), 0o600); err != nil {
		return err
	}
	if err := os.Rename(addrFile+".tmp", addrFile); err != nil {
		return err
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	if err := srv.Serve(ln); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}
