//go:build linux

package hostile

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/testenv"
)

// signal sends the gateway a signal and says when.
func (g *gateway) signal(t *testing.T, s syscall.Signal) time.Time {
	t.Helper()
	if err := syscall.Kill(g.pid, s); err != nil {
		t.Fatal(err)
	}
	return time.Now()
}

// exit waits for the end of the process and returns its status.
func (g *gateway) exit(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-g.ended:
	case <-time.After(within):
		t.Fatalf("the gateway still runs after %v", within)
	}
	exit := (*exec.ExitError)(nil)
	if errors.As(g.status, &exit) {
		return exit.ExitCode() // -1: a signal ended it
	}
	if g.status != nil {
		t.Fatal(g.status)
	}
	return 0
}

// readiness asks /readyz; "" is no answer.
func (g *gateway) readiness() string {
	response, err := fresh.Get(g.url("/readyz"))
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return fmt.Sprintf("%d %s", response.StatusCode, text)
}

// parting is what a socket heard from the signal to its end.
type parting struct {
	frames int
	code   int // of the Close frame; 0: there was none
	at     time.Time
}

// part reads a socket to its end, and answers its Close as clients do.
func (s *socket) part() (p parting) {
	for {
		_, err := s.message()
		p.at = time.Now()
		var end closed
		if errors.As(err, &end) {
			p.code = end.code
			s.send(frame(fin|opClose, "\x03\xf4"))
			_ = s.CloseWrite()
			return p
		}
		if err != nil {
			return p
		}
		p.frames++
	}
}

// partAll reads all sockets to their ends. first is called with the first Close.
func partAll(sockets []*socket, first func()) []parting {
	partings := make([]parting, len(sockets))
	var work sync.WaitGroup
	var once sync.Once
	for i, s := range sockets {
		work.Go(func() {
			partings[i] = s.part()
			once.Do(first)
		})
	}
	work.Wait()
	return partings
}

// fill publishes messages to sockets that do not read meanwhile. When it returns,
// all of them are on their way, or queued in the gateway, and perhaps one more.
func fill(t *testing.T, g *gateway, channel string, sockets []*socket, messages, size int) {
	t.Helper()
	before := operations(t, g)
	document := fmt.Sprintf(`subscription { redisMessages(channel: %q) { payload } }`, channel)
	witness := openSocket(t, g)
	for _, s := range append(slices.Clone(sockets), witness) {
		s.subscribe("1", document)
	}
	testenv.Eventually(t, 20*time.Second, "all have subscribed", func() string {
		if n := operations(t, g); n != before+len(sockets)+1 {
			return fmt.Sprintf("%d operations", n)
		}
		return ""
	})
	// All are in one group, which sends one event after the other: when the
	// witness has the next one, everybody else has been sent this one.
	for range messages + 1 {
		g.publishRedis(t, channel, []byte(repeat("x", size)))
		witness.await("next", "1")
	}
	witness.send(text(`{"id":"1","type":"complete"}`))
	witness.Close()
	testenv.Eventually(t, 10*time.Second, "the witness has gone", func() string {
		if n := operations(t, g); n != before+len(sockets) {
			return fmt.Sprintf("%d operations", n)
		}
		return ""
	})
}

func operations(t *testing.T, g *gateway) (n int) {
	t.Helper()
	a := g.query(t, `{ gatewayStats { operations } }`)
	if _, err := fmt.Sscanf(string(a.data), `{"gatewayStats":{"operations":%d}}`, &n); err != nil {
		t.Fatalf("%v: %s", err, a.text)
	}
	return n
}

// drainSockets is how many take part in the test of a drain.
func drainSockets() int {
	if n, err := strconv.Atoi(os.Getenv("DRAIN_SOCKETS")); err == nil {
		return n
	}
	return 500
}

func TestDrainClosesEverySocketBehindItsFrames(t *testing.T) {
	g := launch(t, "queue=16MiB", "write-deadline=1m")
	n := drainSockets()
	const slow, much, little = 10, 60, 5 // messages; 6 MB for each slow one, of which the system takes some
	var sockets []*socket
	for i := range n {
		l := dialBuffer(t, g, map[bool]int{true: 4096}[i < slow])
		s := upgradeOn(l, g, modern, "")
		s.init()
		sockets = append(sockets, s)
	}
	fill(t, g, "demo:much", sockets[:slow], much, 100_000)
	fill(t, g, "demo:little", sockets[slow:], little, 10)
	if was := g.readiness(); !strings.HasPrefix(was, "200") {
		t.Fatalf("before the signal: %s", was)
	}

	query := make(chan string, 1)
	go func() { // a plain request that is under way when the signal comes
		response, err := fresh.Get(g.url("/graphql?query=%7Bslow(ms:1500)%7D"))
		if err != nil {
			query <- err.Error()
			return
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		query <- response.Status + " " + string(text)
	}()
	testenv.Eventually(t, 5*time.Second, "the request has come in", func() string {
		if !strings.Contains(string(g.debugPage(t, "/debug/pprof/goroutine?debug=2")), "graph.(*queryResolver).Slow") {
			return "it is not under way"
		}
		return ""
	})

	begin := g.signal(t, syscall.SIGTERM)
	var ready string
	var refused *http.Response
	partings := partAll(sockets, func() {
		ready = g.readiness()
		l := dial(t, g)
		l.send("GET /graphql HTTP/1.1\r\nHost: " + g.addr + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: " + modern + "\r\n\r\n")
		if refused = l.response(); refused != nil {
			text, _ := io.ReadAll(refused.Body)
			refused.Status += " " + string(text)
		}
	})
	status := g.exit(t, 15*time.Second)
	took := time.Since(begin)

	if !strings.HasPrefix(ready, "503") || !strings.Contains(ready, "draining") {
		t.Errorf("when the first socket was closed, /readyz said %q", ready)
	}
	if refused == nil || refused.StatusCode != 503 || refused.Header.Get("Retry-After") == "" || !strings.Contains(refused.Status, "(SHUTTING_DOWN)") {
		t.Errorf("a new socket was answered %v", refused)
	}
	if answer := <-query; !strings.HasPrefix(answer, "200 OK") || !strings.Contains(answer, `"data"`) {
		t.Errorf("the request that was under way was answered %s", answer)
	}
	if status != 0 || took > 10*time.Second {
		t.Errorf("status %d after %v", status, took)
	}
	var after []time.Duration
	for i, p := range partings {
		want := little
		if i < slow {
			want = much
		}
		if p.code != 1012 || p.frames < want || p.frames > want+1 {
			t.Errorf("socket %d got %d frames, want all %d, and ended with %d", i, p.frames, want, p.code)
		}
		after = append(after, p.at.Sub(begin))
	}
	slices.Sort(after)
	t.Logf("%d sockets: the first was closed after %v, a tenth after %v, half after %v, nine tenths after %v, the last after %v; at most %d within 100 ms; exit after %v",
		n, round(after[0]), round(after[n/10]), round(after[n/2]), round(after[9*n/10]), round(after[n-1]), densest(after, 100*time.Millisecond), round(took))
	for _, want := range []string{`"msg":"draining"`, fmt.Sprintf(`"sockets":%d`, n), `"msg":"drained"`, fmt.Sprintf(`"closed":%d`, n), `"dropped":0`} {
		if !strings.Contains(g.log.text(), want) {
			t.Errorf("the log does not say %s", want)
		}
	}
	if most := densest(after, time.Second); n > 2000 && !withRace && most > 2*max(1000, n/5) {
		t.Errorf("%d sockets were closed within a second", most)
	}
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// densest is how many of the sorted times fall at most into one window.
func densest(sorted []time.Duration, window time.Duration) (most int) {
	from := 0
	for to, at := range sorted {
		for at-sorted[from] > window {
			from++
		}
		most = max(most, to-from+1)
	}
	return most
}

func TestSocketThatNeverReadsIsDroppedAtTheLimitOfTheDrain(t *testing.T) {
	const limit = 3 * time.Second
	g := launch(t, "drain="+limit.String(), "queue=16MiB", "write-deadline=1m")
	var sockets []*socket
	for range 20 {
		sockets = append(sockets, openSocket(t, g))
	}
	stuck := upgradeOn(dialBuffer(t, g, 4096), g, modern, "")
	stuck.init()
	fill(t, g, "demo:much", []*socket{stuck}, 80, 100_000)

	begin := g.signal(t, syscall.SIGTERM)
	for i, p := range partAll(sockets, func() {}) {
		if after := p.at.Sub(begin); p.code != 1012 || after > time.Second {
			t.Errorf("socket %d ended with %d after %v", i, p.code, after)
		}
	}
	if status := g.exit(t, 10*time.Second); status != 0 {
		t.Errorf("the gateway ended with status %d", status)
	}
	spare := time.Second
	if withRace {
		spare *= 2 // the race detector waits for a second before the process ends
	}
	took := time.Since(begin)
	t.Logf("with a limit of %v it took %v", limit, round(took))
	if took < limit || took > limit+spare {
		t.Errorf("it took %v, the limit is %v", took, limit)
	}
	if p := stuck.part(); p.code != 0 {
		t.Errorf("the socket that was dropped ended with %d", p.code)
	}
	if !strings.Contains(g.log.text(), `"dropped":1,`) {
		t.Error("the log does not say that one was dropped")
	}
}

// EventSource comes back when a stream was cut: over a new connection, which may
// lead to another gateway, because the old one is closed.
func TestDrainCutsEventStreamsAndTheirConnections(t *testing.T) {
	g := launch(t)
	const n = 600
	var streams []*line
	for range n {
		l := dial(t, g)
		l.send("GET /graphql?query=subscription%7BtimeUpdates%7D HTTP/1.1\r\nHost: " + g.addr + "\r\nAccept: text/event-stream\r\n\r\n")
		response := l.response()
		if response == nil || response.StatusCode != 200 {
			t.Fatalf("answered %v", response)
		}
		streams = append(streams, l)
	}
	begin := g.signal(t, syscall.SIGTERM)
	after := make([]time.Duration, n)
	var work sync.WaitGroup
	for i, l := range streams {
		work.Go(func() {
			text, ended := l.rest(10 * time.Second)
			after[i] = time.Since(begin)
			if !ended || !strings.HasSuffix(text, ": The gateway is restarting\n\n\r\n0\r\n\r\n") || strings.Contains(text, "event: complete") {
				t.Errorf("a stream ended (%t) with %q", ended, text)
			}
		})
	}
	work.Wait()
	if status := g.exit(t, 10*time.Second); status != 0 {
		t.Errorf("the gateway ended with status %d", status)
	}
	slices.Sort(after)
	if after[n-1]-after[n/10] < 200*time.Millisecond {
		t.Errorf("a tenth of the connections was closed after %v, the last after %v", after[n/10], after[n-1])
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	for first, second := range map[syscall.Signal]syscall.Signal{syscall.SIGTERM: syscall.SIGINT, syscall.SIGINT: syscall.SIGTERM} {
		t.Run(first.String(), func(t *testing.T) {
			g := launch(t, "drain=1m", "queue=16MiB", "write-deadline=2m")
			stuck := upgradeOn(dialBuffer(t, g, 4096), g, modern, "")
			stuck.init()
			fill(t, g, "demo:much", []*socket{stuck}, 80, 100_000)
			g.signal(t, first)
			testenv.Eventually(t, 5*time.Second, "the gateway drains", func() string {
				if !strings.Contains(g.log.text(), `"msg":"draining"`) {
					return "the log does not say so"
				}
				return ""
			})
			begin := g.signal(t, second)
			if status := g.exit(t, 10*time.Second); status != 128+int(second) {
				t.Errorf("it ended with status %d", status)
			}
			if took := time.Since(begin); took > time.Second {
				t.Errorf("it took %v", took)
			}
			if line := fmt.Sprintf("sluice: %v again: ended at once", second); !strings.Contains(g.log.text(), line) {
				t.Errorf("it did not say %q", line)
			}
		})
	}
}
