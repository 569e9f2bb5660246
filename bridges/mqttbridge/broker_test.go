package mqttbridge_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/bridges/bridgetest"
	"github.com/sluice-gateway/sluice/bridges/mqttbridge"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/testenv"
)

// What the suite has no words for: refusals, transports, brokers that hang.

// doorman is a rule for a mochi broker: it asks for a password, refuses filters
// that begin with "refused/" (all, once strict), and throws out a client that
// subscribes to "poison".
type doorman struct {
	mochi.HookBase
	strict atomic.Bool
}

func (*doorman) ID() string { return "doorman" }

func (*doorman) Provides(b byte) bool {
	return bytes.IndexByte([]byte{mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnSubscribe}, b) >= 0
}

func (*doorman) OnConnectAuthenticate(_ *mochi.Client, pk packets.Packet) bool {
	return string(pk.Connect.Username) == "me" && string(pk.Connect.Password) == "secret"
}

func (d *doorman) OnACLCheck(_ *mochi.Client, topic string, write bool) bool {
	return write || !d.strict.Load() && !strings.HasPrefix(topic, "refused/")
}

func (*doorman) OnSubscribe(c *mochi.Client, pk packets.Packet) packets.Packet {
	for _, sub := range pk.Filters {
		if sub.Filter == "poison" {
			c.Stop(errors.New("out"))
		}
	}
	return pk
}

// guarded starts a mochi broker with a doorman. The returned function cuts all
// its connections.
func guarded(t *testing.T, ln net.Listener, d *doorman) (cut func()) {
	t.Helper()
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(d, nil); err != nil {
		t.Fatal(err)
	}
	if err := server.AddListener(listeners.NewNet("tcp", ln)); err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return func() {
		for _, c := range server.Clients.GetByListener("tcp") {
			c.Stop(errors.New("cut"))
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func wantRefused(t *testing.T, err error) {
	t.Helper()
	var told *live.Error
	if !errors.As(err, &told) || told.Code != bridges.CodeTopicRefused {
		t.Errorf("error %v, want %s", err, bridges.CodeTopicRefused)
	}
}

func TestRefusedFilter(t *testing.T) {
	t.Parallel()
	ln, d := listen(t), new(doorman)
	cut := guarded(t, ln, d)
	b := open(t, "mqtt://me:secret@"+ln.Addr().String())
	bridgetest.WaitConnected(t, b)
	granted := bridgetest.Subscribe(t, b, "granted", bridges.AtMostOnce)

	for range 2 { // the second finds the upstream of the first, which lingers
		_, err := b.Subscribe(t.Context(), "refused/a", bridges.AtMostOnce)
		wantRefused(t, err)
	}
	if up := b.Upstreams(); len(up) != 1 || up[0] != "granted" {
		t.Errorf("Upstreams() = %q, want the granted one alone", up)
	}

	d.strict.Store(true)
	cut() // what was granted is refused after the outage
	wantRefused(t, granted.Ended())
	d.strict.Store(false)
	again := bridgetest.Subscribe(t, b, "granted", bridges.AtMostOnce)
	if _, err := b.Publish(t.Context(), bridges.Publication{Topic: "granted", Payload: []byte("hello")}); err != nil {
		t.Fatal(err)
	}
	again.Want("hello")
}

// TestPoisonedFilter: a broker that answers one filter by closing the
// connection does not keep the others from being served for ever.
func TestPoisonedFilter(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	guarded(t, ln, new(doorman))
	b := open(t, "mqtt://me:secret@"+ln.Addr().String())
	bridgetest.WaitConnected(t, b)
	good := bridgetest.Subscribe(t, b, "good", bridges.AtMostOnce)
	sub, err := b.Subscribe(t.Context(), "poison", bridges.AtMostOnce)
	if err != nil {
		t.Fatal(err) // the connection is lost, which is no refusal yet
	}
	wantRefused(t, bridgetest.Read(t, sub).Ended())
	_, err = b.Subscribe(t.Context(), "poison", bridges.AtMostOnce)
	wantRefused(t, err)

	// The connection that was lost last may not yet have been given up.
	bridgetest.Eventually(t, "the other filter is served", func() bool {
		_, _ = b.Publish(t.Context(), bridges.Publication{Topic: "good", Payload: []byte("hello")})
		_, served := good.TryNext(50 * time.Millisecond)
		return served
	})
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	guarded(t, ln, new(doorman))
	var log lockedBuffer
	b, err := mqttbridge.New(mqttbridge.Config{
		URL:    "mqtt://me:mistake@" + ln.Addr().String(),
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	_, err = b.Publish(t.Context(), bridges.Publication{Topic: "a"})
	var told *live.Error
	if !errors.As(err, &told) || told.Code != bridges.CodeUpstreamUnavailable {
		t.Errorf("Publish: %v, want %s", err, bridges.CodeUpstreamUnavailable)
	}
	bridgetest.Eventually(t, "the log says why", func() bool {
		return strings.Contains(log.String(), "not Authorized")
	})
	if strings.Contains(log.String(), "mistake") {
		t.Errorf("the log holds the password:\n%s", log.String())
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	https := httptest.NewUnstartedServer(nil) // has a certificate for 127.0.0.1
	https.StartTLS()
	defer https.Close()
	ln := tls.NewListener(listen(t), &tls.Config{Certificates: https.TLS.Certificates})
	guarded(t, ln, new(doorman))
	b, err := mqttbridge.New(mqttbridge.Config{
		URL:    "mqtts://me:secret@" + ln.Addr().String(),
		TLS:    &tls.Config{RootCAs: rootsOf(https)},
		Logger: testenv.Logger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	echoes(t, b)
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	port := testenv.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	config := filepath.Join(t.TempDir(), "mosquitto.conf")
	// Without a listener of another kind, Mosquitto 2.0.11 does not start.
	text := fmt.Sprintf("listener %d 127.0.0.1\nlistener %d 127.0.0.1\nprotocol websockets\nallow_anonymous true\n", testenv.FreePort(t), port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.StartProcess(t, addr, "mosquitto", "-c", config)
	echoes(t, open(t, "ws://"+addr+"/mqtt"))
}

// rootsOf trusts the server's certificate.
func rootsOf(https *httptest.Server) *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(https.Certificate())
	return roots
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// echoes checks that a publication comes back.
func echoes(t *testing.T, b bridges.Bridge) {
	t.Helper()
	bridgetest.WaitConnected(t, b)
	r := bridgetest.Subscribe(t, b, "echo", bridges.AtLeastOnce)
	if _, err := b.Publish(t.Context(), bridges.Publication{Topic: "echo", Payload: []byte("hello"), QoS: bridges.AtLeastOnce}); err != nil {
		t.Fatal(err)
	}
	r.Want("hello")
}

// TestBrokerThatNeverAnswers: the port is open, and that is all.
func TestBrokerThatNeverAnswers(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	defer ln.Close()
	b := open(t, "mqtt://"+ln.Addr().String())
	began := time.Now()
	_, err := b.Publish(t.Context(), bridges.Publication{Topic: "a"})
	var told *live.Error
	if !errors.As(err, &told) || told.Code != bridges.CodeUpstreamUnavailable {
		t.Errorf("Publish: %v, want %s", err, bridges.CodeUpstreamUnavailable)
	}
	if took := time.Since(began); took > bridges.PublishTimeout+time.Second {
		t.Errorf("Publish took %v", took)
	}
	began = time.Now()
	b.Close()
	if took := time.Since(began); took > time.Second {
		t.Errorf("Close took %v while it connects", took)
	}
}

// TestBrokerThatHangs: connections stay open, nobody answers.
func TestBrokerThatHangs(t *testing.T) {
	t.Parallel()
	broker := testenv.Mosquitto(t)
	b := open(t, broker.URL())
	bridgetest.WaitConnected(t, b)
	r := bridgetest.Subscribe(t, b, "a", bridges.AtLeastOnce)
	broker.Pause(t)
	began := time.Now()
	_, err := b.Publish(t.Context(), bridges.Publication{Topic: "a", Payload: []byte("late"), QoS: bridges.AtLeastOnce})
	var told *live.Error
	if !errors.As(err, &told) || told.Code != bridges.CodeUpstreamUnavailable {
		t.Errorf("Publish: %v, want %s", err, bridges.CodeUpstreamUnavailable)
	}
	if took := time.Since(began); took < bridges.PublishTimeout || took > bridges.PublishTimeout+time.Second {
		t.Errorf("Publish took %v, want about %v", took, bridges.PublishTimeout)
	}
	broker.Resume(t)
	r.Want("late") // it "may or may not have been delivered"
}

// TestManyFilters: more than fit into one SUBSCRIBE, and all are back after an
// outage.
func TestManyFilters(t *testing.T) {
	t.Parallel()
	broker := testenv.Mosquitto(t)
	b := open(t, broker.URL())
	bridgetest.WaitConnected(t, b)
	const n = 600
	readers := make([]*bridgetest.Reader, n)
	for i := range n {
		readers[i] = bridgetest.Subscribe(t, b, fmt.Sprint("many/", i), bridges.AtMostOnce)
	}
	broker.Stop(t)
	bridgetest.Eventually(t, "the bridge has noticed", func() bool { return b.Status().State == bridges.Connecting })
	broker.Start(t)
	bridgetest.Eventually(t, "every upstream is back", func() bool { return len(b.Upstreams()) == n })
	p := &publisher{url: broker.URL()}
	t.Cleanup(p.close)
	for _, i := range []int{0, 255, 256, n - 1} {
		p.publish(t, bridges.Publication{Topic: fmt.Sprint("many/", i), Payload: []byte("hello"), QoS: 1})
		readers[i].Want("hello")
	}
	for _, r := range readers {
		r.Close()
	}
	bridgetest.Eventually(t, "no upstream is left", func() bool { return len(b.Upstreams()) == 0 })
}

// A subscriber who reads nothing loses messages and is told; the others do not.
func TestFullQueueIsAGapForItsOwner(t *testing.T) {
	broker := startEmbedded(t, "")
	t.Cleanup(func() { broker.Close() })
	b, err := mqttbridge.New(mqttbridge.Config{
		URL:    broker.URL(),
		Logger: testenv.Logger(t),
		Queue:  live.Limit{Events: 2, Stall: time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	bridgetest.WaitConnected(t, b)
	slow := bridgetest.Subscribe(t, b, "a", bridges.AtLeastOnce)
	quick := bridgetest.Subscribe(t, b, "a", bridges.AtLeastOnce)
	for i := range 5 {
		if _, err := b.Publish(t.Context(), bridges.Publication{Topic: "a", Payload: fmt.Append(nil, i), QoS: 1}); err != nil {
			t.Fatal(err)
		}
		if ev := quick.Want(fmt.Sprint(i)); ev.Gap != nil {
			t.Errorf("message %d: gap %+v for a subscriber that reads", i, *ev.Gap)
		}
	}
	slow.Want("0")
	slow.Want("1")
	if _, err := b.Publish(t.Context(), bridges.Publication{Topic: "a", Payload: []byte("5"), QoS: 1}); err != nil {
		t.Fatal(err)
	}
	ev := slow.Want("5")
	if ev.Gap == nil || ev.Gap.Reason != live.GapOverflow || ev.Gap.Missed != 3 {
		t.Errorf("gap %+v, want 3 missed by overflow", ev.Gap)
	}
}
