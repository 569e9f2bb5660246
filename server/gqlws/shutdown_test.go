package gqlws

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

func TestDepartures(t *testing.T) {
	const unlimited = time.Duration(math.MaxInt64)
	tests := []struct {
		name   string
		i, n   int
		limit  time.Duration
		jitter float64
		want   time.Duration
	}{
		{"a hundred at once", 99, 100, 10 * time.Second, 0.9, 0},
		{"nobody", 0, 0, 10 * time.Second, 0, 0},
		{"the first hundred of many", 99, 20_000, 10 * time.Second, 0.9, 0},
		{"the first of the others", 100, 20_000, 10 * time.Second, 0, 0},
		{"a thousand a second", 600, 5000, 10 * time.Second, 0, 500 * time.Millisecond},
		{"the last of 5,000", 4999, 5000, 10 * time.Second, 0, 4899 * time.Millisecond},
		{"jitter is within one slot", 600, 5000, 10 * time.Second, 0.5, 500*time.Millisecond + 500*time.Microsecond},
		{"faster where half of the limit asks for it", 10_050, 20_000, 10 * time.Second, 0, 2500 * time.Millisecond},
		{"after half of the limit all are told", 20_000, 20_000, 10 * time.Second, 0, 5 * time.Second},
		{"a short limit", 20_000, 20_000, time.Second, 0, 500 * time.Millisecond},
		{"no time at all", 150, 200, 0, 0.5, 0},
		{"no limit", 20_000, 20_000, unlimited, 0, 19_900 * time.Millisecond},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := departure(test.i, test.n, test.limit, test.jitter); got != test.want {
				t.Errorf("client %d of %d leaves after %v, want %v", test.i, test.n, got, test.want)
			}
		})
	}
}

// However the jitter falls, the pace is the same in any tenth of a second.
func TestDeparturesAreSteady(t *testing.T) {
	const n, limit, tenth = 20_000, 10 * time.Second, 100 * time.Millisecond
	for _, jitter := range []float64{0, 0.5, 0.999} {
		leaving := make(map[time.Duration]int)
		last := time.Duration(0)
		for i := leaveAtOnce; i < n; i++ {
			at := departure(i, n, limit, jitter)
			if at < last || at >= limit/2 {
				t.Fatalf("jitter %v: client %d leaves after %v, the one before it after %v", jitter, i, at, last)
			}
			last = at
			leaving[at/tenth]++
		}
		for slot, count := range leaving {
			if count < 397 || count > 400 { // 19,900 in 50 slots
				t.Errorf("jitter %v: %d leave in the tenth that begins after %v", jitter, count, slot*tenth)
			}
		}
	}
}

// piped is a gateway whose sockets are pipes in memory, for tests in a bubble of
// synctest: there time passes only while everybody waits.
type piped struct {
	*testSchema
	transport *Transport
	listener  pipeListener
	srv       *http.Server
	work      sync.WaitGroup
}

func startPiped(t testing.TB, cfg Config) *piped {
	cfg.Unshared = unshared
	g := &piped{testSchema: newTestSchema(t), transport: New(cfg), listener: pipeListener{make(chan net.Conn)}}
	g.srv = &http.Server{Handler: newTestHandler(g.testSchema, g.transport)}
	g.work.Go(func() { _ = g.srv.Serve(g.listener) })
	return g
}

// end lets the bubble end.
func (g *piped) end() {
	close(g.listener.c)
	g.work.Wait()
	g.srv.Close()
}

func (g *piped) dial() (*websocket.Conn, *http.Response, error) {
	d := websocket.Dialer{
		Subprotocols: []string{TransportWS},
		NetDial: func(string, string) (net.Conn, error) {
			client, server := net.Pipe()
			g.listener.c <- server
			return client, nil
		},
	}
	return d.Dial("ws://gateway/", nil)
}

// connect opens a socket that watches a topic.
func (g *piped) connect(t *testing.T, topic string) *client {
	t.Helper()
	ws, _, err := g.dial()
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t, ws}
	c.send(`{"type":"connection_init"}`)
	c.want(`{"type":"connection_ack"}`)
	c.words("1", topic)
	return c
}

// departed is how a socket ended.
type departed struct {
	after time.Duration // since the drain began
	code  int           // of the Close frame; 0: there was none
	heard int           // messages
}

// listen reads each socket to its end.
func listen(begin time.Time, clients []*client) (ends []departed, wait func()) {
	ends = make([]departed, len(clients))
	var work sync.WaitGroup
	for i, c := range clients {
		work.Go(func() {
			for {
				_, _, err := c.ReadMessage()
				if err == nil {
					ends[i].heard++
					continue
				}
				var closed *websocket.CloseError
				if errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure {
					ends[i].code = closed.Code
				}
				ends[i].after = time.Since(begin)
				c.Close()
				return
			}
		})
	}
	return ends, work.Wait
}

func TestDrainPacesSocketsAndServesThoseThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		refused := make(map[string]int)
		g := startPiped(t, Config{Refused: func(code string) { mu.Lock(); refused[code]++; mu.Unlock() }})
		const n = 600
		var clients []*client
		for range n {
			clients = append(clients, g.connect(t, "a"))
		}
		synctest.Wait()

		begin := time.Now()
		ends, wait := listen(begin, clients)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- g.transport.Shutdown(ctx) }()

		time.Sleep(250 * time.Millisecond) // a hundred and 250 of the others are gone
		synctest.Wait()
		g.publish("a", "while it drains")
		_, response, err := g.dial()
		if err == nil || response == nil {
			t.Fatalf("a new socket was answered %v, %v", response, err)
		}
		body, _ := io.ReadAll(response.Body)
		if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "(SHUTTING_DOWN)") {
			t.Errorf("a new socket was answered %s, %q", response.Status, body)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		wait()
		if took := time.Since(begin); took > 501*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		atOnce, heard := 0, 0
		var others []time.Duration
		for _, end := range ends {
			if end.code != ServiceRestart.Code {
				t.Fatalf("a socket ended with %d", end.code)
			}
			if heard += end.heard; end.heard > 0 && end.after < 249*time.Millisecond {
				t.Errorf("a socket that ended after %v heard of later", end.after)
			}
			if end.after == 0 {
				atOnce++
			} else {
				others = append(others, end.after)
			}
		}
		if atOnce < leaveAtOnce || atOnce > leaveAtOnce+1 {
			t.Errorf("%d sockets were closed at once", atOnce)
		}
		if heard < 249 || heard > 251 {
			t.Errorf("%d sockets were served when 250 were left", heard)
		}
		slices.Sort(others)
		slots := 0
		for i, at := range others {
			if slot := time.Duration(i) * time.Millisecond; at < slot-time.Millisecond || at > slot+2*time.Millisecond {
				t.Fatalf("socket %d of the others was closed after %v", i, at)
			}
			if at%time.Millisecond == 0 {
				slots++
			}
		}
		if slots > len(others)/10 {
			t.Errorf("%d of %d sockets were closed on the beat: there is no jitter", slots, len(others))
		}
		if refused["SHUTTING_DOWN"] != 1 {
			t.Errorf("counted: %v", refused)
		}
		g.end()
	})
}

// A socket that still has frames to read may take all of the time that there is,
// and not more.
func TestShutdownDropsWhoIsLeftAtTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 7 * time.Second
		g := startPiped(t, Config{WriteDeadline: time.Minute})
		quick, late, stuck := g.connect(t, "quick"), g.connect(t, "late"), g.connect(t, "stuck")
		synctest.Wait()
		g.publish("late", "x")
		g.publish("stuck", "x")
		synctest.Wait() // both writes wait for the client

		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- g.transport.Shutdown(ctx) }()
		first, wait := listen(begin, []*client{quick})
		wait()
		time.Sleep(limit - time.Millisecond)
		second, wait := listen(begin, []*client{late})
		wait()
		if want := (departed{0, ServiceRestart.Code, 0}); first[0] != want {
			t.Errorf("a client that reads: %+v, want %+v", first[0], want)
		}
		if want := (departed{limit - time.Millisecond, ServiceRestart.Code, 1}); second[0] != want {
			t.Errorf("a client that reads in the last moment: %+v, want %+v", second[0], want)
		}
		if n := g.transport.Stats().Connections; n != 1 {
			t.Errorf("%d sockets are there before the limit, want the one that does not read", n)
		}
		if err := <-done; !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "dropped 1 of 3 clients") {
			t.Errorf("Shutdown says: %v", err)
		}
		if took := time.Since(begin); took != limit {
			t.Errorf("it took %v", took)
		}
		third, wait := listen(begin, []*client{stuck})
		wait()
		if want := (departed{limit, 0, 0}); third[0] != want {
			t.Errorf("a client that does not read: %+v, want %+v", third[0], want)
		}
		g.end()
	})
}

// Sockets that go by themselves leave their slots to others.
func TestDrainEndsWithTheLastClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := startPiped(t, Config{})
		var clients []*client
		for range 1000 {
			clients = append(clients, g.connect(t, "a"))
		}
		synctest.Wait()
		begin := time.Now()
		done := make(chan error, 1)
		go func() { done <- g.transport.Shutdown(t.Context()) }()
		_, wait := listen(begin, clients)
		time.Sleep(100 * time.Millisecond)
		for _, c := range clients {
			c.Close()
		}
		wait()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > 110*time.Millisecond {
			t.Errorf("all had gone after 100 ms, it took %v", took)
		}
		g.end()
	})
}

func TestDrainPacesStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := startEngine(t, Config{})
		const n = 300
		ended := make([]time.Duration, n)
		var takers sync.WaitGroup
		var streams []*Results
		for range n {
			streams = append(streams, e.subscribe(t, `subscription { private(topic: "a") }`))
		}
		synctest.Wait()
		begin := time.Now()
		for i, r := range streams {
			takers.Go(func() {
				for open := true; open; _, open = r.Take() {
					<-r.News()
				}
				ended[i] = time.Since(begin)
				if *r.Ending() != ServiceRestart {
					t.Errorf("a stream ended with %v", r.Ending())
				}
				r.Close()
			})
		}
		if err := e.transport.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took < 199*time.Millisecond || took > 201*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		takers.Wait()
		slices.Sort(ended)
		if ended[leaveAtOnce-1] != 0 || ended[leaveAtOnce+2] == 0 || ended[n-1] < 199*time.Millisecond {
			t.Errorf("streams ended after %v", ended)
		}
	})
}

func TestShutdownWaitsForTakersUntilTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := startEngine(t, Config{})
		e.subscribe(t, `subscription { private(topic: "a") }`) // is not closed
		closed := e.subscribe(t, `subscription { private(topic: "a") }`)
		synctest.Wait()
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		time.AfterFunc(time.Second/2, closed.Close)
		if err := e.transport.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "dropped 1 of 2 clients") {
			t.Errorf("Shutdown says: %v", err)
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
