package redisbridge_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/bridges/bridgetest"
	"github.com/sluice-gateway/sluice/bridges/redisbridge"
	"github.com/sluice-gateway/sluice/internal/embedded"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// linger keeps the suite short.
const linger = 30 * time.Millisecond

var illFormed = []string{
	"", "a\r\nPUBLISH b c", "a\nb", "a\x00b", "a\u0085b", "\xff",
	strings.Repeat("a", 256), strings.Repeat("a:", 32) + "a",
}

func TestBridgeToRedis(t *testing.T) {
	server := testenv.Redis(t)
	bridgetest.Run(t, bridgetest.Subject{
		Open:      func(t testing.TB) bridges.Bridge { return open(t, redisbridge.Config{URL: server.URL()}) },
		Linger:    linger,
		Publish:   publisher(t, server.Addr()),
		IllFormed: illFormed,
		Receivers: true,
		Stop:      func(t testing.TB) { server.Stop(t) },
		Start:     func(t testing.TB) { server.Start(t) },
	})
}

func TestRedisFaults(t *testing.T) {
	testenv.Faults(t)
	killed, paused := testenv.Redis(t), testenv.Redis(t)
	bridgetest.Faults(t, func(t testing.TB) bridges.Bridge { return open(t, redisbridge.Config{URL: killed.URL()}) }, bridgetest.Fault{
		Name: "killed and started again", For: 3 * time.Second,
		Begin: func(t testing.TB) { killed.Stop(t) }, End: func(t testing.TB) { killed.Start(t) },
	})
	bridgetest.Faults(t, func(t testing.TB) bridges.Bridge { return open(t, redisbridge.Config{URL: paused.URL()}) }, bridgetest.Fault{
		Name: "stopped for 20 s", For: 20 * time.Second,
		Begin: func(t testing.TB) { paused.Pause(t) }, End: func(t testing.TB) { paused.Resume(t) },
	})
}

func TestBridgeToEmbeddedRedis(t *testing.T) {
	server := startEmbedded(t, "")
	addr := server.Addr()
	t.Cleanup(func() { server.Close() })
	bridgetest.Run(t, bridgetest.Subject{
		Open:      func(t testing.TB) bridges.Bridge { return open(t, redisbridge.Config{URL: "redis://" + addr}) },
		Linger:    linger,
		Publish:   publisher(t, addr),
		IllFormed: illFormed,
		Receivers: true,
		Stop:      func(t testing.TB) { server.Close() },
		Start: func(t testing.TB) {
			server.Close()
			server = startEmbedded(t, addr)
		},
	})
}

func startEmbedded(t testing.TB, addr string) *embedded.Redis {
	t.Helper()
	server, err := embedded.StartRedis(embedded.RedisConfig{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	if addr != "" && server.Addr() != addr {
		t.Fatalf("started on %s, wanted %s", server.Addr(), addr)
	}
	return server
}

// open makes a bridge that the test closes at the latest.
func open(t testing.TB, cfg redisbridge.Config) *redisbridge.Bridge {
	t.Helper()
	cfg.Logger = testenv.Logger(t)
	if cfg.Linger == 0 {
		cfg.Linger = linger
	}
	b, err := redisbridge.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func connected(t testing.TB, cfg redisbridge.Config) *redisbridge.Bridge {
	t.Helper()
	b := open(t, cfg)
	bridgetest.WaitConnected(t, b)
	return b
}

// connect makes a client that is not the bridge.
func connect(t testing.TB, addr string) *redis.Client {
	client := redis.NewClient(&redis.Options{
		Addr: addr, Protocol: 2, DisableIdentity: true, DialTimeout: 10 * time.Second,
	})
	t.Cleanup(func() { client.Close() })
	return client
}

func publisher(t testing.TB, addr string) func(testing.TB, bridges.Publication) {
	client := connect(t, addr)
	return func(t testing.TB, p bridges.Publication) {
		t.Helper()
		if err := client.Publish(t.Context(), p.Topic, p.Payload).Err(); err != nil {
			t.Fatalf("PUBLISH %s: %v", p.Topic, err)
		}
	}
}

func subscribePattern(t testing.TB, b *redisbridge.Bridge, pattern string) *bridgetest.Reader {
	t.Helper()
	sub, err := b.SubscribePattern(t.Context(), pattern)
	if err != nil {
		t.Fatalf("SubscribePattern(%q): %v", pattern, err)
	}
	return bridgetest.Read(t, sub)
}

func send(t testing.TB, b bridges.Bridge, channel, payload string) bridges.Receipt {
	t.Helper()
	receipt, err := b.Publish(t.Context(), bridges.Publication{Topic: channel, Payload: []byte(payload)})
	if err != nil {
		t.Fatalf("Publish to %q: %v", channel, err)
	}
	return receipt
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	var told *live.Error
	if !errors.As(err, &told) || told.Code != code {
		t.Errorf("error %v, want %s", err, code)
	}
}

func TestChannelAndPatternEachGetACopy(t *testing.T) {
	t.Run("redis-server", func(t *testing.T) {
		testCopies(t, connected(t, redisbridge.Config{URL: testenv.Redis(t).URL()}))
	})
	t.Run("embedded", func(t *testing.T) {
		server := startEmbedded(t, "")
		t.Cleanup(func() { server.Close() })
		testCopies(t, connected(t, redisbridge.Config{URL: server.URL()}))
	})
}

func testCopies(t *testing.T, b *redisbridge.Bridge) {
	channel := bridgetest.Subscribe(t, b, "news:de", bridges.AtMostOnce)
	wide := subscribePattern(t, b, "*")
	narrow := subscribePattern(t, b, "news:[a-e]?")
	name := subscribePattern(t, b, "news:de") // a pattern that is no different
	other := bridgetest.Subscribe(t, b, "news:[a-e]?", bridges.AtMostOnce)

	if got := send(t, b, "news:de", "one").Receivers; got != 4 {
		t.Errorf("%d receivers, want 4", got)
	}
	send(t, b, "news:[a-e]?", "two")
	want := []string{"*", "news:[a-e]?", "news:[a-e]?", "news:de", "news:de"}
	if got := b.Upstreams(); !slices.Equal(got, want) {
		t.Errorf("Upstreams() = %q, want %q", got, want)
	}
	for pattern, r := range map[string]*bridgetest.Reader{"": channel, "*": wide, "news:[a-e]?": narrow, "news:de": name} {
		ev := r.Want("one")
		if ev.Value.Topic != "news:de" || ev.Value.Pattern != pattern {
			t.Errorf("topic %q, pattern %q, want news:de, %q", ev.Value.Topic, ev.Value.Pattern, pattern)
		}
	}
	wide.Want("two")
	other.Want("two")

	send(t, b, "news:de", "last") // no second copy of "one" before it
	for _, r := range []*bridgetest.Reader{channel, wide, narrow, name} {
		r.Want("last")
	}
}

// certificate writes a certificate for 127.0.0.1 that nobody has signed.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	public, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(kind string, data []byte) string {
		path := filepath.Join(t.TempDir(), "it.pem")
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("CERTIFICATE", public), write("PRIVATE KEY", secret)
}

func TestEveryKindOfConnection(t *testing.T) {
	cert, key := certificate(t)
	tls := testenv.FreePort(t)
	socket := filepath.Join(t.TempDir(), "redis.sock")
	server := testenv.Redis(t, "--requirepass", "secret", "--unixsocket", socket,
		"--tls-port", strconv.Itoa(tls), "--tls-cert-file", cert, "--tls-key-file", key,
		"--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	for _, url := range []string{
		"redis://:secret@" + server.Addr(),
		"redis://default:secret@" + server.Addr() + "/15",
		fmt.Sprintf("rediss://:secret@127.0.0.1:%d?skip_verify=true", tls),
		"unix://:secret@" + socket,
	} {
		b := connected(t, redisbridge.Config{URL: url})
		r := bridgetest.Subscribe(t, b, "a", bridges.AtMostOnce)
		send(t, b, "a", "hello")
		r.Want("hello")
		b.Close()
	}
}

func TestPatternIllFormed(t *testing.T) {
	b := connected(t, redisbridge.Config{URL: testenv.Redis(t).URL()})
	for _, pattern := range illFormed {
		_, err := b.SubscribePattern(t.Context(), pattern)
		wantCode(t, err, bridges.CodeTopicInvalid)
	}
}

func TestPublishingBeforeTheFirstConnection(t *testing.T) {
	b := open(t, redisbridge.Config{URL: testenv.Redis(t).URL()})
	r := bridgetest.Subscribe(t, b, "a", bridges.AtMostOnce) // nothing waits for Connected
	if got := send(t, b, "a", "first").Receivers; got != 1 {
		t.Errorf("%d receivers, want 1", got)
	}
	if ev := r.Want("first"); ev.Gap != nil {
		t.Errorf("gap %+v before the first message, want none", *ev.Gap)
	}
}

// The connection of the subscriptions is cut while that of the publisher, and
// the server, are well.
func TestBeingCutIsAGap(t *testing.T) {
	server := testenv.Redis(t)
	b := connected(t, redisbridge.Config{URL: server.URL()})
	r := bridgetest.Subscribe(t, b, "a", bridges.AtMostOnce)
	quiet := bridgetest.Subscribe(t, b, "b", bridges.AtMostOnce)
	pattern := subscribePattern(t, b, "a*")
	send(t, b, "a", "before")
	r.Want("before")
	pattern.Want("before")
	connectedAt := b.Status().Since

	if n, err := connect(t, server.Addr()).ClientKillByFilter(t.Context(), "TYPE", "pubsub").Result(); n != 1 || err != nil {
		t.Fatalf("%d connections killed (%v), want the one that carries all", n, err)
	}
	bridgetest.Eventually(t, "the bridge is connected again", func() bool {
		now := b.Status()
		return now.State == bridges.Connected && now.Since.After(connectedAt)
	})
	send(t, b, "a", "after")
	send(t, b, "b", "after")
	for _, r := range []*bridgetest.Reader{r, quiet, pattern} {
		ev := r.Want("after")
		if ev.Gap == nil || ev.Gap.Reason != live.GapOutage {
			t.Fatalf("gap %+v after being cut, want %s", ev.Gap, live.GapOutage)
		}
		if good := ev.Gap.LastGood; good.Before(connectedAt) || good.After(time.Now()) {
			t.Errorf("last good %v, want a time since %v", good, connectedAt)
		}
	}
	send(t, b, "a", "later")
	if ev := r.Want("later"); ev.Gap != nil {
		t.Errorf("a second gap: %+v", *ev.Gap)
	}
}

// waitForState waits longer than bridgetest does: a silent connection is given
// up only after a while.
func waitForState(t *testing.T, b bridges.Bridge, state bridges.State, within time.Duration) {
	t.Helper()
	deadline := time.After(within)
	for poll := time.NewTicker(5 * time.Millisecond); b.Status().State != state; {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("not %s after %v", state, within)
		}
	}
}

func TestServerThatHangs(t *testing.T) {
	server := testenv.Redis(t)
	b := connected(t, redisbridge.Config{URL: server.URL(), PingEvery: 500 * time.Millisecond})
	r := bridgetest.Subscribe(t, b, "a", bridges.AtMostOnce)
	send(t, b, "a", "before")
	r.Want("before")

	server.Pause(t)
	began := time.Now()
	_, err := b.Publish(t.Context(), bridges.Publication{Topic: "a"})
	took := time.Since(began)
	wantCode(t, err, bridges.CodeUpstreamUnavailable)
	if limit := bridges.PublishTimeout + time.Second; took > limit {
		t.Errorf("Publish failed after %v, want at most %v", took, limit)
	}
	waitForState(t, b, bridges.Connecting, 5*time.Second) // one PING and 3 s
	noticed := time.Since(began)
	t.Logf("the publication failed after %v, the connection was given up after %v", took, noticed)

	began = time.Now()
	during := bridgetest.Subscribe(t, b, "b", bridges.AtMostOnce)
	if took := time.Since(began); took > time.Second {
		t.Errorf("Subscribe took %v while Redis is away, want no wait", took)
	}
	_, err = b.Publish(t.Context(), bridges.Publication{Topic: "a"})
	wantCode(t, err, bridges.CodeUpstreamUnavailable)
	if took := time.Since(began); took > time.Second {
		t.Errorf("Publish took %v while Redis is away, want no wait", took)
	}

	server.Resume(t)
	began = time.Now()
	waitForState(t, b, bridges.Connected, 5*time.Second)
	t.Logf("connected %v after the server went on", time.Since(began))
	send(t, b, "a", "after")
	send(t, b, "b", "after")
	for name, r := range map[string]*bridgetest.Reader{"old": r, "made while away": during} {
		ev := r.Next()
		if len(ev.Value.Payload) == 0 { // the publication that failed: it may have been delivered
			ev = r.Next()
		}
		if ev.Gap == nil || ev.Gap.Reason != live.GapOutage {
			t.Errorf("the %s subscription's gap is %+v, want %s", name, ev.Gap, live.GapOutage)
		}
	}
}

// limited makes a server whose user "gateway" may use channels that begin with
// "open:" alone.
func limited(t *testing.T) (*testenv.Server, redisbridge.Config) {
	t.Helper()
	server := testenv.Redis(t)
	err := connect(t, server.Addr()).Do(t.Context(), "ACL", "SETUSER", "gateway", "on", ">secret",
		"resetchannels", "&open:*", "-@all", "+subscribe", "+unsubscribe", "+psubscribe", "+punsubscribe", "+publish", "+ping").Err()
	if err != nil {
		t.Fatal(err)
	}
	return server, redisbridge.Config{URL: "redis://gateway:secret@" + server.Addr()}
}

func TestRefusalsHarmNobodyElse(t *testing.T) {
	_, cfg := limited(t)
	b := connected(t, cfg)
	before := bridgetest.Subscribe(t, b, "open:before", bridges.AtMostOnce)

	const n = 200
	var work sync.WaitGroup
	readers := make([]*bridgetest.Reader, n)
	for i := range n { // all at once, so that the forbidden travel among the others
		work.Go(func() {
			channel := fmt.Sprintf("open:%d", i)
			if i%40 == 7 {
				channel = fmt.Sprintf("secret:%d", i)
			}
			sub, err := b.Subscribe(t.Context(), channel, bridges.AtMostOnce)
			if i%40 == 7 {
				wantCode(t, err, bridges.CodeTopicRefused)
				return
			}
			if err != nil {
				t.Errorf("Subscribe(%q): %v", channel, err)
				return
			}
			readers[i] = bridgetest.Read(t, sub)
		})
	}
	work.Wait()
	_, err := b.SubscribePattern(t.Context(), "*")
	wantCode(t, err, bridges.CodeTopicRefused)
	open := subscribePattern(t, b, "open:*") // Redis wants the very pattern

	_, err = b.Publish(t.Context(), bridges.Publication{Topic: "secret:7"})
	wantCode(t, err, bridges.CodeTopicRefused)
	for i, r := range readers {
		if r != nil {
			send(t, b, fmt.Sprintf("open:%d", i), "one")
			if ev := r.Want("one"); ev.Gap != nil {
				t.Fatalf("channel %d has a gap: %+v", i, *ev.Gap)
			}
		}
	}
	send(t, b, "open:before", "one")
	if ev := before.Want("one"); ev.Gap != nil {
		t.Errorf("a refusal cost the others a gap: %+v", *ev.Gap)
	}
	open.Want("one")
	if got := b.Upstreams(); slices.Contains(got, "secret:7") {
		t.Errorf("Upstreams() = %q", got)
	}
}

// Redis disconnects a user who loses a right, and refuses the name when the
// bridge asks for it again.
func TestRefusalAfterAReconnection(t *testing.T) {
	server, cfg := limited(t)
	b := connected(t, cfg)
	kept := bridgetest.Subscribe(t, b, "open:1", bridges.AtMostOnce)
	lost := bridgetest.Subscribe(t, b, "open:2", bridges.AtMostOnce)

	admin := connect(t, server.Addr())
	setChannels := func(rules ...any) {
		t.Helper()
		args := append([]any{"ACL", "SETUSER", "gateway", "resetchannels"}, rules...)
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	setChannels("&open:1")
	wantCode(t, lost.Ended(), bridges.CodeTopicRefused)
	_, err := b.Subscribe(t.Context(), "open:2", bridges.AtMostOnce) // the old upstream lingers
	wantCode(t, err, bridges.CodeTopicRefused)
	bridgetest.WaitConnected(t, b)
	send(t, b, "open:1", "one")
	if ev := kept.Want("one"); ev.Gap == nil {
		t.Error("no gap after a reconnection")
	}

	setChannels("&open:*") // a right that comes back is noticed at once
	again := bridgetest.Subscribe(t, b, "open:2", bridges.AtMostOnce)
	send(t, b, "open:2", "two")
	again.Want("two")
}

func TestWrongPassword(t *testing.T) {
	server, _ := limited(t)
	b := open(t, redisbridge.Config{URL: "redis://gateway:wrong@" + server.Addr()})
	bridgetest.Subscribe(t, b, "open:1", bridges.AtMostOnce) // waits for better times
	_, err := b.Publish(t.Context(), bridges.Publication{Topic: "open:1"})
	wantCode(t, err, bridges.CodeUpstreamUnavailable)
	if got := b.Status().State; got != bridges.Connecting {
		t.Errorf("state %s, want %s", got, bridges.Connecting)
	}
}

func TestManyAtOnceTravelTogether(t *testing.T) {
	server := testenv.Redis(t)
	b := connected(t, redisbridge.Config{URL: server.URL()})
	const n = 2000
	subs := make([]live.Sub[*bridges.Message], n)
	began := time.Now()
	var work sync.WaitGroup
	for i := range n {
		work.Go(func() {
			var err error
			if subs[i], err = b.Subscribe(t.Context(), fmt.Sprint("many:", i), bridges.AtMostOnce); err != nil {
				t.Errorf("Subscribe: %v", err)
			}
		})
	}
	work.Wait()
	if t.Failed() {
		t.FailNow()
	}
	took := time.Since(began)
	admin := connect(t, server.Addr())
	calls := commandCalls(t, admin, "subscribe")
	t.Logf("%d channels in %d commands and %v", n, calls, took)
	if calls > n/10 {
		t.Errorf("%d SUBSCRIBE commands for %d channels, want at most %d", calls, n, n/10)
	}
	for i, sub := range subs {
		if i%400 == 0 {
			r := bridgetest.Read(t, sub)
			send(t, b, fmt.Sprint("many:", i), "hello")
			r.Want("hello")
		}
		sub.Close()
	}
	bridgetest.Eventually(t, "all are unsubscribed", func() bool {
		return len(admin.PubSubChannels(t.Context(), "*").Val()) == 0
	})
	if calls := commandCalls(t, admin, "unsubscribe"); calls > n/10 {
		t.Errorf("%d UNSUBSCRIBE commands for %d channels, want at most %d", calls, n, n/10)
	}
}

// commandCalls asks Redis how often it ran a command.
func commandCalls(t *testing.T, client *redis.Client, command string) int {
	t.Helper()
	info, err := client.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "cmdstat_"+command+":calls=")
	text, _, _ := strings.Cut(rest, ",")
	calls, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%v in %s", err, info)
	}
	return calls
}

func TestManyAreSubscribedAgain(t *testing.T) {
	server := testenv.Redis(t)
	b := connected(t, redisbridge.Config{URL: server.URL()})
	const n = 2000
	var work sync.WaitGroup
	for i := range n {
		work.Go(func() {
			sub, err := b.Subscribe(t.Context(), fmt.Sprint("many:", i), bridges.AtMostOnce)
			if err != nil {
				t.Errorf("Subscribe: %v", err)
				return
			}
			t.Cleanup(sub.Close)
		})
	}
	work.Wait()
	server.Stop(t)
	server.Start(t)
	began := time.Now()
	admin := connect(t, server.Addr())
	bridgetest.Eventually(t, "all are subscribed again", func() bool {
		return len(admin.PubSubChannels(t.Context(), "*").Val()) == n
	})
	t.Logf("%d channels in %d commands, within %v", n, commandCalls(t, admin, "subscribe"), time.Since(began))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v, want at most 5 s", took)
	}
	if calls := commandCalls(t, admin, "subscribe"); calls > 10 {
		t.Errorf("%d SUBSCRIBE commands for %d channels, want at most 10", calls, n)
	}
}

// A subscriber who takes nothing stops the reading for a while and is then
// told; the others lose nothing.
func TestAFullQueueLosesOnlyItsOwn(t *testing.T) {
	b := connected(t, redisbridge.Config{
		URL:   testenv.Redis(t).URL(),
		Queue: live.Limit{Events: 8, Stall: 20 * time.Millisecond},
	})
	stuck, err := b.Subscribe(t.Context(), "a", bridges.AtMostOnce)
	if err != nil {
		t.Fatal(err)
	}
	other := bridgetest.Subscribe(t, b, "b", bridges.AtMostOnce)
	const n = 20
	for i := range n {
		send(t, b, "a", fmt.Sprint(i))
		send(t, b, "b", fmt.Sprint(i))
		other.Want(fmt.Sprint(i))
	}
	r := bridgetest.Read(t, stuck)
	for i := range 8 {
		r.Want(fmt.Sprint(i))
	}
	send(t, b, "a", "after")
	ev := r.Want("after")
	if ev.Gap == nil || ev.Gap.Reason != live.GapOverflow || ev.Gap.Missed != n-8 {
		t.Errorf("gap %+v, want %d missed by %s", ev.Gap, n-8, live.GapOverflow)
	}
}

func TestSubscribeGivesUpWithItsContext(t *testing.T) {
	server := testenv.Redis(t)
	b := connected(t, redisbridge.Config{URL: server.URL()})
	server.Pause(t)
	why := errors.New("the caller has left")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	if _, err := b.Subscribe(ctx, "a", bridges.AtMostOnce); !errors.Is(err, why) {
		t.Errorf("Subscribe: %v, want %v", err, why)
	}
	server.Resume(t)
	bridgetest.Eventually(t, "the channel is given up", func() bool { return len(b.Upstreams()) == 0 })
}

func TestCloseWhileASubscriberIsStuck(t *testing.T) {
	b := connected(t, redisbridge.Config{
		URL:   testenv.Redis(t).URL(),
		Queue: live.Limit{Events: 1, Stall: time.Hour},
	})
	sub, err := b.Subscribe(t.Context(), "a", bridges.AtMostOnce)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		send(t, b, "a", "x")
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		b.Close()
		b.Close()
	}()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("Close hangs")
	}
	if err := bridgetest.Read(t, sub).Ended(); !errors.Is(err, live.ErrHubClosed) {
		t.Errorf("the subscription ended with %v", err)
	}
}
