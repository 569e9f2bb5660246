package embedded_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/internal/embedded"
)

func startRedis(t *testing.T, addr string) (*embedded.Redis, *redis.Client) {
	t.Helper()
	server, err := embedded.StartRedis(embedded.RedisConfig{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return server, client
}

func TestRedisTakesAFreePortWhenItsOwnIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	server, client := startRedis(t, taken.Addr().String())
	if server.Addr() == taken.Addr().String() {
		t.Fatalf("Addr() = %s, which is taken", server.Addr())
	}
	if got, want := server.URL(), "redis://"+server.Addr(); got != want {
		t.Errorf("URL() = %s, want %s", got, want)
	}
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("PING on %s: %v", server.Addr(), err)
	}
}

func TestRedisRefusesAnAddressThatIsNone(t *testing.T) {
	for _, addr := range []string{"nowhere", "192.0.2.1:6379"} { // 192.0.2.0/24 is nobody's
		if server, err := embedded.StartRedis(embedded.RedisConfig{Addr: addr}); err == nil {
			server.Close()
			t.Errorf("StartRedis on %q: no error", addr)
		}
	}
}

func TestRedisKeysExpire(t *testing.T) {
	_, client := startRedis(t, "")
	if err := client.Set(t.Context(), "key", "value", time.Second).Err(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if client.Exists(ctx, "key").Val() == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("a key that lives for a second is still there after 10")
		}
	}
}

func TestRedisCloseDisconnects(t *testing.T) {
	server, client := startRedis(t, "")
	sub := client.Subscribe(t.Context(), "channel")
	defer sub.Close()
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Close()
	server.Close() // once is enough, twice is fine
	if _, err := sub.ReceiveTimeout(t.Context(), 5*time.Second); err == nil {
		t.Error("a subscriber's connection outlives Close")
	}
}
