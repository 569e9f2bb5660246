package chaos

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// start serves on a real port until the test ends.
func start(t *testing.T, s *Server) (address string) {
	t.Helper()
	web := httptest.NewServer(s)
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		web.Close()
	})
	return web.Listener.Addr().String()
}

func startEcho(t *testing.T, f *Faults) (*Server, string) {
	t.Helper()
	s := New(Config{Seed: 1})
	configure(t, s, f)
	return s, start(t, s)
}

func startProxy(t *testing.T, f *Faults, upstream string) (*Server, string) {
	t.Helper()
	s, err := NewProxy(Config{Seed: 1}, upstream)
	if err != nil {
		t.Fatal(err)
	}
	configure(t, s, f)
	return s, start(t, s)
}

func dial(t *testing.T, address string, header http.Header, subprotocols ...string) (*websocket.Conn, *http.Response) {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: subprotocols, EnableCompression: true, HandshakeTimeout: 10 * time.Second}
	conn, response, err := dialer.Dial("ws://"+address, header)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	return conn, response
}

func say(t *testing.T, conn *websocket.Conn, words ...string) {
	t.Helper()
	for _, word := range words {
		if err := conn.WriteMessage(websocket.TextMessage, []byte(word)); err != nil {
			t.Fatal(err)
		}
	}
}

func next(t *testing.T, conn *websocket.Conn) string {
	t.Helper()
	_, message, err := conn.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	return string(message)
}

// closedWith reads to the end and returns the close code.
func closedWith(t *testing.T, conn *websocket.Conn) int {
	t.Helper()
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			var closed *websocket.CloseError
			if errors.As(err, &closed) {
				return closed.Code
			}
			if errors.Is(err, syscall.ECONNRESET) {
				return wire.Abnormal
			}
			t.Fatal(err)
		}
	}
}

func TestTheEchoStandsBehindTheFaults(t *testing.T) {
	s, address := startEcho(t, calm(func(f *Faults) { f.Corruption.Rate = 1 }))
	conn, _ := dial(t, address+"/any/path?at=all", nil)
	say(t, conn, "Hello, world")
	got := next(t, conn)
	if len(got) != len("Hello, world") || got == "Hello, world" {
		t.Errorf("came back as %q", got)
	}
	if e := told(s); len(e) != 1 || e[0].Direction != ToClient || e[0].Byte == nil || got[e[0].Byte.At] != e[0].Byte.To {
		t.Errorf("told %+v", e)
	}
	if err := conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "")); err != nil {
		t.Fatal(err)
	}
	if code := closedWith(t, conn); code != 1000 {
		t.Errorf("closed with %d", code)
	}
}

func TestACutResetsTheConnection(t *testing.T) {
	s, address := startEcho(t, calm(func(f *Faults) { f.Cut = Cut{Rate: 1, MinMs: 100, MaxMs: 100} }))
	raw, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(raw, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", address)
	in := bufio.NewReader(raw)
	response, err := http.ReadResponse(in, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", response, err)
	}
	if rest, err := io.ReadAll(in); len(rest) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%x, %v: want a reset and no Close frame", rest, err)
	}
	conn, _ := dial(t, address, nil)
	if code := closedWith(t, conn); code != wire.Abnormal {
		t.Errorf("gorilla sees %d", code)
	}
	if got := whats(s); got != "cut 1 both 0: reset after 100ms\ncut 2 both 0: reset after 100ms" {
		t.Errorf("told %s", got)
	}
}

func TestNewSettingsReachOpenSocketsAtOnce(t *testing.T) {
	s, address := startEcho(t, calm(nil))
	conn, _ := dial(t, address, nil)
	say(t, conn, "one")
	if got := next(t, conn); got != "one" {
		t.Fatal(got)
	}
	faults, err := s.Configure(map[string]any{"duplication": map[string]any{"rate": 1}})
	if err != nil || faults.Latency != Default().Calm().Latency {
		t.Fatalf("%+v, %v", faults, err)
	}
	say(t, conn, "two")
	if a, b := next(t, conn), next(t, conn); a != "two" || b != "two" {
		t.Errorf("%s, %s", a, b)
	}
}

func TestABadCloseCodeReachesTheClient(t *testing.T) {
	_, address := startEcho(t, calm(func(f *Faults) { f.CloseCode = CloseCode{Rate: 1, Code: 999} }))
	conn, _ := dial(t, address, nil)
	if err := conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := conn.ReadMessage(); err == nil || !strings.Contains(err.Error(), "999") {
		t.Errorf("gorilla reports %v", err)
	}
}

func TestShutdownTellsTheClients(t *testing.T) {
	upstream, address := startEcho(t, calm(nil))
	proxy, proxyAddress := startProxy(t, calm(nil), "ws://"+address)
	for _, at := range []struct {
		name    string
		server  *Server
		address string
	}{{"proxy", proxy, proxyAddress}, {"echo", upstream, address}} {
		t.Run(at.name, func(t *testing.T) {
			conn, _ := dial(t, at.address, nil)
			say(t, conn, "x")
			next(t, conn)
			done := make(chan error)
			go func() {
				ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
				defer stop()
				done <- at.server.Shutdown(ctx)
			}()
			if code := closedWith(t, conn); code != websocket.CloseServiceRestart {
				t.Errorf("closed with %d", code)
			}
			conn.Close()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if _, response, err := websocket.DefaultDialer.Dial("ws://"+at.address, nil); err == nil || response == nil || response.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("a new connection afterwards: %v, %v", response, err)
			}
			if _, open := at.server.Events().After(at.server.Events().Last(), nil); open {
				t.Error("the events go on")
			}
		})
	}
}

// behind is a server that says what it was asked.
func behind(t *testing.T) (address string, asked chan *http.Request) {
	asked = make(chan *http.Request, 10)
	upgrader := websocket.Upgrader{Subprotocols: []string{"graphql-transport-ws"}, EnableCompression: true, CheckOrigin: func(*http.Request) bool { return true }}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		if !websocket.IsWebSocketUpgrade(r) {
			w.Header().Set("X-Own", "kept")
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.Copy(w, r.Body)
			return
		}
		conn, err := upgrader.Upgrade(w, r, http.Header{"X-Own": {"kept"}})
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			kind, message, err := conn.ReadMessage()
			if err != nil || conn.WriteMessage(kind, message) != nil {
				return
			}
		}
	}))
	t.Cleanup(web.Close)
	return web.Listener.Addr().String(), asked
}

func TestTheProxyPassesTheHandshake(t *testing.T) {
	address, asked := behind(t)
	_, proxy := startProxy(t, calm(nil), "ws://"+address+"/graphql")
	conn, response := dial(t, proxy+"/a%2Fb/c?x=1;y=%zz", http.Header{"Origin": {"https://app.example"}, "Authorization": {"Bearer t"}, "X-Forwarded-For": {"10.0.0.9"}}, "mqtt", "graphql-transport-ws")
	r := <-asked
	if r.RequestURI != "/a%2Fb/c?x=1;y=%zz" || r.Host != address {
		t.Errorf("asked for %s of %s", r.RequestURI, r.Host)
	}
	for name, want := range map[string]string{"Origin": "https://app.example", "Authorization": "Bearer t", "X-Forwarded-For": "10.0.0.9", "Sec-Websocket-Protocol": "mqtt, graphql-transport-ws", "Sec-Websocket-Extensions": ""} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if conn.Subprotocol() != "graphql-transport-ws" || response.Header.Get("X-Own") != "kept" || response.Header.Get("Sec-Websocket-Extensions") != "" {
		t.Errorf("answered %v", response.Header)
	}
	say(t, conn, "through")
	if got := next(t, conn); got != "through" {
		t.Errorf("came back as %q", got)
	}
	dial(t, proxy, nil)
	if r := <-asked; r.RequestURI != "/graphql" {
		t.Errorf("without a path it asked for %s", r.RequestURI)
	}
}

func TestTheProxyPassesPlainRequests(t *testing.T) {
	address, _ := behind(t)
	_, proxy := startProxy(t, calm(nil), "ws://"+address)
	response, err := http.Post("http://"+proxy+"/graphql", "application/json", strings.NewReader(`{"query":"{hello}"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusTeapot || string(body) != `{"query":"{hello}"}` || response.Header.Get("X-Own") != "kept" {
		t.Errorf("%s, %s", response.Status, body)
	}
}

func TestAnUpstreamThatIsAwayIsSaid(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	_, proxy := startProxy(t, calm(nil), "ws://"+ln.Addr().String())
	_, response, err := websocket.DefaultDialer.Dial("ws://"+proxy, nil)
	if err == nil || response == nil || response.StatusCode != http.StatusBadGateway {
		t.Fatalf("%v, %v", response, err)
	}
}

func TestACutOfTheProxyEndsTheUpstreamToo(t *testing.T) {
	s, echo := startEcho(t, calm(nil))
	_, proxy := startProxy(t, calm(func(f *Faults) { f.Cut = Cut{Rate: 1, MinMs: 50, MaxMs: 50} }), "ws://"+echo)
	conn, _ := dial(t, proxy, nil)
	if code := closedWith(t, conn); code != wire.Abnormal {
		t.Errorf("closed with %d", code)
	}
	allGone(t, s)
}

// allGone waits until a server has no connection.
func allGone(t *testing.T, s *Server) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); s.State().Open > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a connection is still open")
		}
	}
}

func TestEventsAreBoundedAndFollowed(t *testing.T) {
	e := newEvents()
	woken := 0
	stop := e.Follow(func() { woken++ })
	for i := range maxEvents + 5 {
		e.add(Event{Fault: "cut", Message: uint64(i)})
	}
	buf := make([]Event, 3)
	if n, open := e.After(0, buf); n != 3 || !open || buf[0].Seq != 6 {
		t.Errorf("%d events from %d, open %v", n, buf[0].Seq, open)
	}
	if n, open := e.After(maxEvents+4, buf); n != 1 || !open || buf[0].Seq != maxEvents+5 {
		t.Errorf("%d events from %d, open %v", n, buf[0].Seq, open)
	}
	if woken != maxEvents+5 || e.Counts()["cut"] != maxEvents+5 {
		t.Errorf("woken %d times, %d counted", woken, e.Counts()["cut"])
	}
	e.close()
	stop()
	e.add(Event{})
	if n, open := e.After(maxEvents+5, buf); n != 0 || open || woken != maxEvents+6 {
		t.Errorf("%d events, open %v, woken %d times", n, open, woken)
	}
}

func TestDefaultsAreThoseOfTheCourse(t *testing.T) {
	f := Default()
	if f.Cut != (Cut{0.05, 5_000, 35_000}) || f.Corruption.Rate != 0.02 || f.Latency != (Latency{0.1, 100, 2_000}) || f.Partition.DurationMs != 5_000 {
		t.Errorf("%+v", f)
	}
	if err := f.Validate(); err != nil {
		t.Error(err)
	}
}

func TestSettingsThatAreRefused(t *testing.T) {
	s := newServer(Config{})
	for patch, want := range map[string]string{
		`{"cut":{"rate":1.5}}`:                       "cut.rate 1.5 is not accepted: a share from 0 to 1",
		`{"cut":{"maxMs":4000}}`:                     "cut.maxMs 4000 is not accepted: milliseconds from 5000 to 600000",
		`{"latency":{"maxMs":10001}}`:                "latency.maxMs 10001 is not accepted: milliseconds from 100 to 10000",
		`{"latency":{"minMs":-1}}`:                   "latency.minMs -1 is not accepted: milliseconds from 0 to 10000",
		`{"partition":{"durationMs":0}}`:             "partition.durationMs 0 is not accepted: milliseconds from 1 to 60000",
		`{"throttling":{"bytesPerSecond":-1}}`:       "throttling.bytesPerSecond -1 is not accepted: bytes a second from 1 to 1000000000, or 0 for no limit",
		`{"closeCode":{"code":65536}}`:               "closeCode.code 65536 is not accepted: a number from 0 to 65535",
		`{"reordering":{"withinMs":0}}`:              "reordering.withinMs 0 is not accepted: milliseconds from 1 to 10000",
		`{"halfOpen":{"rate":-0.1}}`:                 "halfOpen.rate -0.1 is not accepted: a share from 0 to 1",
		`{"corruption":{"rate":"often"}}`:            "corruption.rate of the kind string is not accepted: a number",
		`{"corruption":{"breakUtf8":1}}`:             "corruption.breakUtf8 of the kind number is not accepted: true or false",
		`{"latency":7}`:                              "latency of the kind number is not accepted: an object",
		`{"direction":"up"}`:                         `direction "up" is not accepted: toClient, toServer or both`,
		`{"jitter":{}}`:                              "jitter is not a setting: there are direction, cut, corruption",
		`[]`:                                         "faults [] is not accepted: an object",
		`{"latency":{"rate":0.5},"cut":{"rate":-1}}`: "cut.rate -1 is not accepted",
	} {
		_, err := s.Configure([]byte(patch))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", patch, err, want)
		}
		var invalid *InvalidError
		if !errors.As(err, &invalid) {
			t.Errorf("%s: a %T", patch, err)
		}
	}
	if s.Faults() != Default() {
		t.Errorf("refused settings had an effect: %+v", s.Faults())
	}
	if _, err := s.StartPartition(2 * time.Minute); err == nil {
		t.Error("a partition of two minutes was accepted")
	}
	if err := s.Restart(MaxSeed + 1); err == nil {
		t.Error("a seed that GraphQL cannot say was accepted")
	}
	for _, upstream := range []string{"", "http://x", "ws://", "ws:/x", "::"} {
		if _, err := NewProxy(Config{}, upstream); err == nil {
			t.Errorf("upstream %q was accepted", upstream)
		}
	}
}

func TestAPatchChangesWhatItNamesAndNothingElse(t *testing.T) {
	want := Default()
	want.Latency.MaxMs, want.Cut.Rate, want.Direction = 300, 0, Both
	got, err := Default().Merge(map[string]any{"direction": "both", "latency": map[string]any{"maxMs": 300}, "cut": map[string]any{"rate": 0, "minMs": nil}})
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestEachFaultOnRealSockets(t *testing.T) {
	// hello says one thing and says how long the answer took.
	hello := func(t *testing.T, conn *websocket.Conn, word string) time.Duration {
		t.Helper()
		begun := time.Now()
		say(t, conn, word)
		if got := next(t, conn); got != word {
			t.Fatalf("said %q, heard %q", word, got)
		}
		return time.Since(begun)
	}
	silent := func(t *testing.T, conn *websocket.Conn, d time.Duration) {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(d))
		if _, message, err := conn.ReadMessage(); err == nil || !os.IsTimeout(err) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("heard %q, %v: want silence", message, err)
		}
	}
	tests := map[string]struct {
		faults func(*Faults)
		play   func(t *testing.T, s *Server, address string, conn *websocket.Conn)
	}{
		"latency": {
			func(f *Faults) { f.Latency = Latency{Rate: 1, MinMs: 200, MaxMs: 200} },
			func(t *testing.T, _ *Server, _ string, conn *websocket.Conn) {
				if took := hello(t, conn, "x"); took < 200*time.Millisecond {
					t.Errorf("took %v", took)
				}
			},
		},
		"partition": {
			func(*Faults) {},
			func(t *testing.T, s *Server, address string, conn *websocket.Conn) {
				if _, err := s.StartPartition(time.Second); err != nil {
					t.Fatal(err)
				}
				say(t, conn, "lost")
				silent(t, conn, 200*time.Millisecond)
				again, _ := dial(t, address, nil) // its handshake waits for the end
				hello(t, again, "after")
				if got := s.Events().Counts()[NamePartition]; got != 2 {
					t.Errorf("told %s", whats(s))
				}
			},
		},
		"throttling": {
			func(f *Faults) { f.Throttling.BytesPerSecond = 1000 },
			func(t *testing.T, _ *Server, _ string, conn *websocket.Conn) {
				if took := hello(t, conn, strings.Repeat("x", 298)); took < 290*time.Millisecond || took > 3*time.Second {
					t.Errorf("302 bytes at 1,000 a second took %v", took)
				}
			},
		},
		"reordering": {
			func(f *Faults) { f.Reordering = Reordering{Rate: 1, WithinMs: 5000} },
			func(t *testing.T, _ *Server, _ string, conn *websocket.Conn) {
				say(t, conn, "1", "2")
				if a, b := next(t, conn), next(t, conn); a != "2" || b != "1" {
					t.Errorf("heard %s, %s", a, b)
				}
			},
		},
		"half-open": {
			func(f *Faults) { f.HalfOpen = HalfOpen{Rate: 1, MinMs: 500, MaxMs: 500} },
			func(t *testing.T, s *Server, _ string, conn *websocket.Conn) {
				hello(t, conn, "x")
				for deadline := time.Now().Add(5 * time.Second); s.Events().Last() == 0; time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatal("nothing happened")
					}
				}
				say(t, conn, "anybody there?")
				silent(t, conn, 200*time.Millisecond)
				say(t, conn, "hello?")
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, address := startEcho(t, calm(test.faults))
			conn, _ := dial(t, address, nil)
			test.play(t, s, address, conn)
			conn.Close()
		})
	}
}

func TestATapBelowSeesWhatTheFaultsDid(t *testing.T) {
	s := New(Config{Seed: 1})
	configure(t, s, calm(func(f *Faults) { f.Duplication.Rate, f.Cut = 1, Cut{Rate: 1, MinMs: 500, MaxMs: 500} }))
	transcript := wire.NewTranscript(wire.Bounds{})
	web := httptest.NewServer(transcript.Tap(s))
	defer web.Close()
	conn, _ := dial(t, web.Listener.Addr().String(), nil)
	say(t, conn, "x")
	if code := closedWith(t, conn); code != wire.Abnormal {
		t.Errorf("closed with %d", code)
	}
	allGone(t, s)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	events := make([]wire.Event, 20)
	n, _ := transcript.After(0, events)
	last := events[n-1]
	if frames := transcript.Counts().Frames; frames != [2]uint64{1, 2} || last.End == nil || last.End.By != wire.Server || last.End.How != wire.RST {
		t.Errorf("frames %v, the last event %+v", frames, last)
	}
}
