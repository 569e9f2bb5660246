package embedded_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/bridges"
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

// receive returns the next message of a subscriber as text.
func receive(t *testing.T, sub *redis.PubSub) string {
	t.Helper()
	got, err := sub.ReceiveTimeout(t.Context(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(got)
}

func TestRedisEachPatternGetsItsCopy(t *testing.T) {
	_, client := startRedis(t, "")
	sub := client.Subscribe(t.Context(), "a:b")
	defer sub.Close()
	if err := sub.PSubscribe(t.Context(), "a:*", "*:b", `a:[z-a]`, "c"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"subscribe: a:b", "psubscribe: a:*", "psubscribe: *:b", "psubscribe: a:[z-a]", "psubscribe: c"} {
		if got := receive(t, sub); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	want := []string{"*redis.Message a:* a:b", "*redis.Message *:b a:b", "*redis.Message a:[z-a] a:b", "*redis.Message  a:b"}
	publish := map[string]func() (int64, error){
		"PUBLISH": func() (int64, error) { return client.Publish(t.Context(), "a:b", "x").Result() },
		"a script": func() (int64, error) {
			return client.Eval(t.Context(), "return redis.call('PUBLISH', 'a:b', 'x')", nil).Int64()
		},
		"a transaction": func() (int64, error) { // does not know how many
			_, err := client.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
				return p.Publish(t.Context(), "a:b", "x").Err()
			})
			return int64(len(want)), err
		},
	}
	for name, publish := range publish {
		if n, err := publish(); n != int64(len(want)) || err != nil {
			t.Errorf("%s: %d receivers (%v), want %d", name, n, err, len(want))
		}
		var got []string
		for range want {
			m, err := sub.ReceiveMessage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%T %s %s", m, m.Pattern, m.Channel))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := client.PubSubChannels(t.Context(), "a:[a-c]").Val(); !slices.Equal(got, []string{"a:b"}) {
		t.Errorf("PUBSUB CHANNELS: %q", got)
	}
	if got := client.PubSubNumPat(t.Context()).Val(); got != 4 {
		t.Errorf("PUBSUB NUMPAT: %d, want 4", got)
	}
	if got := client.PubSubNumSub(t.Context(), "a:b", "none").Val(); got["a:b"] != 1 || got["none"] != 0 {
		t.Errorf("PUBSUB NUMSUB: %v", got)
	}
	if err := sub.Ping(t.Context(), "there?"); err != nil {
		t.Fatal(err)
	}
	if got, want := receive(t, sub), "Pong<there?>"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := sub.PUnsubscribe(t.Context(), "a:*", "*:b", "a:[z-a]"); err != nil {
		t.Fatal(err)
	}
	if err := sub.Unsubscribe(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"punsubscribe: a:*", "punsubscribe: *:b", "punsubscribe: a:[z-a]", "unsubscribe: a:b"} {
		if got := receive(t, sub); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if n := client.Publish(t.Context(), "a:b", "x").Val(); n != 0 {
		t.Errorf("%d receivers after all have left", n)
	}
}

func TestGlobsAreThoseOfRedis(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	text := func(alphabet string, n int) string {
		var b strings.Builder
		for range n {
			b.WriteByte(alphabet[chance.IntN(len(alphabet))])
		}
		return b.String()
	}
	for range 200_000 {
		pattern := text(`abc**??[[]]^-\`+"\xc3", chance.IntN(9))
		channel := text(`abc*?[]^-\`+"\xc3", chance.IntN(5))
		if got, want := embedded.MatchGlob(pattern, channel), bridges.MatchRedis(pattern, channel); got != want {
			t.Fatalf("MatchGlob(%q, %q) = %v, want %v", pattern, channel, got, want)
		}
	}
}

// miniredis would end the process: here an error will do.
func TestRedisSurvivesPatterns(t *testing.T) {
	_, client := startRedis(t, "")
	if err := client.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got := client.Keys(t.Context(), "k[a-f]?").Val(); !slices.Equal(got, []string{"key"}) {
		t.Errorf("KEYS k[a-f]?: %q", got)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	patterns := []string{"[z-a]", `\\E(`, "[^]", "[[:no:]]", `[\pX]`, `\[x[-z-a]`, "\xff", "[\xff]"}
	const alphabet = `az:*?[[]]^-\E(`
	for range 300 {
		var b strings.Builder
		for range 1 + chance.IntN(8) {
			b.WriteByte(alphabet[chance.IntN(len(alphabet))])
		}
		patterns = append(patterns, b.String())
	}
	for _, pattern := range patterns {
		client.Keys(t.Context(), pattern)
		client.Scan(t.Context(), 0, pattern, 10)
		client.PubSubChannels(t.Context(), pattern)
		sub := client.PSubscribe(t.Context(), pattern)
		client.Publish(t.Context(), "key", "value")
		sub.Close()
	}
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the server is gone: %v", err)
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
