package sessions_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/wire"
	"github.com/sluice-gateway/sluice/labs/sessions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = netip.MustParseAddr("127.0.0.1")

// gateway serves sessions.
type gateway struct {
	*sessions.Sessions
	url string // ws://host:port
}

func open(t *testing.T, cfg sessions.Config) *gateway {
	t.Helper()
	s := sessions.New(cfg)
	web := httptest.NewServer(s)
	t.Cleanup(func() { s.Shutdown(context.Background()); web.Close() })
	return &gateway{s, "ws" + strings.TrimPrefix(web.URL, "http")}
}

func (g *gateway) start(t *testing.T) *sessions.Session {
	t.Helper()
	one, err := g.Start(sessions.Want{Client: loopback})
	if err != nil {
		t.Fatal(err)
	}
	return one
}

func (g *gateway) dial(one *sessions.Session, path string, header http.Header) (*websocket.Conn, *http.Response, error) {
	return websocket.DefaultDialer.Dial(g.url+sessions.Path+one.ID+path, header)
}

func (g *gateway) connect(t *testing.T, one *sessions.Session, path string) *websocket.Conn {
	t.Helper()
	conn, _, err := g.dial(one, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	return conn
}

func codeOf(err error) string {
	var told *live.Error
	if errors.As(err, &told) {
		return told.Code
	}
	return ""
}

// await reads events until one is as wanted.
func await(t *testing.T, sub live.Sub[wire.Event], want func(wire.Event) bool) wire.Event {
	t.Helper()
	woken := make(chan struct{}, 1)
	sub.Wake(func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	buf := make([]live.Event[wire.Event], 1)
	deadline := time.After(20 * time.Second)
	for {
		n, ok := sub.Next(buf)
		for _, e := range buf[:n] {
			if want(e.Value) {
				return e.Value
			}
		}
		if n > 0 {
			continue
		}
		if !ok {
			t.Fatalf("ended with %v", sub.Err())
		}
		select {
		case <-woken:
		case <-deadline:
			t.Fatal("the event did not come")
		}
	}
}

func text(payload string) func(wire.Event) bool {
	return func(e wire.Event) bool { return e.Message != nil && string(e.Message.Data) == payload }
}

func TestASessionSeesItsOwnTrafficAlone(t *testing.T) {
	g := open(t, sessions.Config{})
	mine, other := g.start(t), g.start(t)
	if mine.ID == other.ID || mine.Name == other.Name || strings.Contains(mine.Name, strings.ToLower(mine.ID)) {
		t.Errorf("ids %s, %s; names %s, %s", mine.ID, other.ID, mine.Name, other.Name)
	}
	sub, err := g.Watch(t.Context(), mine.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for one, word := range map[*sessions.Session]string{other: "theirs", mine: "mine"} {
		conn := g.connect(t, one, "/echo")
		if err := conn.WriteMessage(websocket.TextMessage, []byte(word)); err != nil {
			t.Fatal(err)
		}
		if _, message, err := conn.ReadMessage(); err != nil || string(message) != word {
			t.Fatalf("%q, %v", message, err)
		}
	}
	await(t, sub, func(e wire.Event) bool {
		if text("theirs")(e) {
			t.Error("another session's message was seen")
		}
		return text("mine")(e)
	})
	for _, e := range mine.Last(100) {
		if text("theirs")(e) {
			t.Error("another session's message was recorded")
		}
	}
}

func TestEventsBehindACursorComeAgain(t *testing.T) {
	g := open(t, sessions.Config{})
	one := g.start(t)
	conn := g.connect(t, one, "/echo")
	if err := conn.WriteMessage(websocket.TextMessage, []byte("a")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := conn.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	sub, err := g.Watch(t.Context(), one.ID, &live.Position{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	first := await(t, sub, func(e wire.Event) bool { return true })
	if first.Request == nil || first.Seq != 1 || first.Request.URI != sessions.Path+one.ID+"/echo" {
		t.Errorf("began with %+v", first)
	}
	await(t, sub, text("a"))
}

func TestAForgottenSessionIsGone(t *testing.T) {
	g := open(t, sessions.Config{})
	one := g.start(t)
	conn := g.connect(t, one, "/echo")
	sub, err := g.Watch(t.Context(), one.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if !g.Forget(one.ID) || g.Forget(one.ID) {
		t.Error("forgotten not once")
	}
	if _, err := g.Find(one.ID); codeOf(err) != sessions.CodeUnknown {
		t.Errorf("still found: %v", err)
	}
	var closed *websocket.CloseError
	if _, _, err := conn.ReadMessage(); !errors.As(err, &closed) || closed.Code != 1012 {
		t.Errorf("its socket ended with %v", err)
	}
	await(t, sub, func(e wire.Event) bool { return e.Close != nil && e.Close.Code == 1012 && e.Close.Complete })
	await(t, sub, func(e wire.Event) bool { return e.End != nil })
	woken := make(chan struct{}, 10)
	sub.Wake(func() { woken <- struct{}{} })
	buf := make([]live.Event[wire.Event], 1)
	for {
		n, ok := sub.Next(buf)
		if !ok {
			break
		}
		if n == 0 {
			<-woken
		}
	}
	if codeOf(sub.Err()) != sessions.CodeUnknown {
		t.Errorf("who watches is told %v", sub.Err())
	}
	if _, response, err := g.dial(one, "/echo", nil); err == nil || response.StatusCode != http.StatusNotFound {
		t.Errorf("its door answers %v, %v", response, err)
	}
}

func TestLimitsOfASession(t *testing.T) {
	t.Run("connections", func(t *testing.T) {
		g := open(t, sessions.Config{Connections: 2})
		one, other := g.start(t), g.start(t)
		first := g.connect(t, one, "/echo")
		g.connect(t, one, "/deflate")
		_, response, err := g.dial(one, "/echo", nil)
		if err == nil || response.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("one more: %v, %v", response, err)
		}
		body := make([]byte, 200)
		n, _ := response.Body.Read(body)
		if !strings.Contains(string(body[:n]), "lab-connections") {
			t.Errorf("the refusal says %s", body[:n])
		}
		g.connect(t, other, "/echo") // another session's places are its own
		if err := first.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		_, _, _ = first.ReadMessage()
		first.Close()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			conn, _, err := g.dial(one, "/echo", nil)
			if err == nil {
				conn.Close()
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("the place was not given back")
			}
		}
	})
	for name, kind := range map[string]int{"rate": websocket.TextMessage, "rate of pings": websocket.PingMessage} {
		t.Run(name, func(t *testing.T) {
			g := open(t, sessions.Config{Rate: 3})
			conn := g.connect(t, g.start(t), "/echo")
			for range 10 {
				_ = conn.WriteMessage(kind, []byte("x"))
			}
			var closed *websocket.CloseError
			for {
				if _, _, err := conn.ReadMessage(); err != nil {
					if !errors.As(err, &closed) || closed.Code != 1008 || !strings.Contains(closed.Text, "lab-rate") {
						t.Errorf("ended with %v", err)
					}
					return
				}
			}
		})
	}
	t.Run("message", func(t *testing.T) {
		g := open(t, sessions.Config{})
		conn := g.connect(t, g.start(t), "/echo")
		if err := conn.WriteMessage(websocket.BinaryMessage, make([]byte, 128<<10)); err != nil {
			t.Fatal(err)
		}
		if _, message, err := conn.ReadMessage(); err != nil || len(message) != 128<<10 {
			t.Fatalf("at the limit: %d bytes, %v", len(message), err)
		}
		_ = conn.WriteMessage(websocket.BinaryMessage, make([]byte, 128<<10+1))
		var closed *websocket.CloseError
		if _, _, err := conn.ReadMessage(); !errors.As(err, &closed) || closed.Code != 1009 {
			t.Errorf("one past it: %v", err)
		}
	})
	t.Run("sessions", func(t *testing.T) {
		g := open(t, sessions.Config{Sessions: 2, PerAddress: 1})
		remote := netip.MustParseAddr("192.0.2.1")
		for i, want := range []struct {
			from netip.Addr
			code string
		}{{remote, ""}, {remote, sessions.CodeTooMany}, {loopback, ""}, {loopback, sessions.CodeTooMany}} {
			if _, err := g.Start(sessions.Want{Client: want.from}); codeOf(err) != want.code {
				t.Errorf("%d: %v, want %q", i, err, want.code)
			}
		}
	})
}

func TestASessionEndsWhenItIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sessions.New(sessions.Config{Life: time.Minute})
		defer s.Shutdown(t.Context())
		one, err := s.Start(sessions.Want{Client: loopback})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Second)
		if _, err := s.Extend(one.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		if _, err := s.Find(one.ID); err != nil {
			t.Errorf("before its time: %v", err)
		}
		time.Sleep(3 * time.Second)
		if _, err := s.Find(one.ID); codeOf(err) != sessions.CodeUnknown {
			t.Errorf("after its time: %v", err)
		}
	})
}

func TestAnEventStreamUsesItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		s := sessions.New(sessions.Config{Life: time.Minute, Doors: map[string]http.Handler{
			"graphql": http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }),
		}})
		defer s.Shutdown(t.Context())
		one, err := s.Start(sessions.Want{Client: loopback})
		if err != nil {
			t.Fatal(err)
		}
		go s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, sessions.Path+one.ID+"/graphql", nil))
		time.Sleep(time.Hour)
		if _, err := s.Find(one.ID); err != nil {
			t.Errorf("while it is open: %v", err)
		}
		close(over)
		time.Sleep(2 * time.Minute)
		if _, err := s.Find(one.ID); codeOf(err) != sessions.CodeUnknown {
			t.Errorf("behind it: %v", err)
		}
	})
}

func TestPublicServersAreChangedWhereThatIsOpen(t *testing.T) {
	public := sessions.NewServers(sessions.Env{})
	for open, want := range map[bool]string{true: "", false: sessions.CodeRequired} {
		s := sessions.New(sessions.Config{Public: public, PublicOpen: open})
		got, err := s.Servers(nil)
		if codeOf(err) != want || open && got != public {
			t.Errorf("open %v: %v, %v", open, got, err)
		}
		s.Shutdown(t.Context())
	}
}

func TestAnyPageMayUseASession(t *testing.T) {
	g := open(t, sessions.Config{})
	one := g.start(t)
	for _, origin := range []string{"null", "https://elsewhere.example"} {
		conn, response, err := g.dial(one, "/echo", http.Header{"Origin": {origin}})
		if err != nil {
			t.Fatalf("%s: %v, %v", origin, response, err)
		}
		conn.Close()
	}
}

func TestDoorsOfOthersKnowTheSession(t *testing.T) {
	var seen *sessions.Session
	var path, origin string
	g := open(t, sessions.Config{Doors: map[string]http.Handler{"graphql": http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen, path, origin = sessions.From(r.Context()), r.URL.Path, r.Header.Get("Origin")
	})}})
	one := g.start(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http"+strings.TrimPrefix(g.url, "ws")+sessions.Path+one.ID+"/graphql/x?y=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Origin", "null")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if seen != one || path != "/x" || origin != "" {
		t.Errorf("the door saw %v, %q, origin %q", seen, path, origin)
	}
	events := one.Last(10)
	if len(events) != 2 || events[0].Request.Header.Get("Origin") != "null" || events[1].Response.Status != http.StatusOK {
		t.Errorf("recorded %+v", events)
	}
}

func TestShutdownEndsEverySession(t *testing.T) {
	g := open(t, sessions.Config{})
	conn := g.connect(t, g.start(t), "/echo")
	go g.Shutdown(t.Context())
	var closed *websocket.CloseError
	if _, _, err := conn.ReadMessage(); !errors.As(err, &closed) || closed.Code != 1012 {
		t.Errorf("its socket ended with %v", err)
	}
	g.Shutdown(t.Context())
	if _, err := g.Start(sessions.Want{Client: loopback}); codeOf(err) != "SHUTTING_DOWN" {
		t.Errorf("a session after the end: %v", err)
	}
}

// answered is a step that sends nothing: a play with steps waits for the answer
// to its head, however long that takes.
var answered = []sessions.Step{{}}

func TestPlay(t *testing.T) {
	masked := func(f wire.Frame) []byte { return f.Mask([4]byte{1, 2, 3, 4}).Append(nil) }
	tests := map[string]struct {
		play   sessions.Play
		status int
		closed bool
		want   string // within what comes back behind the head
	}{
		"an echo": {sessions.Play{
			Head:  sessions.Handshake("/echo", nil, false),
			Steps: []sessions.Step{{Bytes: masked(wire.NewFrame(true, wire.Text, []byte("hi")))}, {Bytes: masked(wire.NewClose(1000, ""))}},
			Wait:  10 * time.Second,
		}, 101, true, "\x81\x02hi"},
		"an unmasked frame": {sessions.Play{
			Head:  sessions.Handshake("/echo", nil, false),
			Steps: []sessions.Step{{Bytes: wire.NewFrame(true, wire.Text, []byte("hi")).Append(nil)}, {Bytes: masked(wire.NewClose(1002, ""))}},
			Wait:  10 * time.Second,
		}, 101, true, "\x03\xea"},
		"another version": {sessions.Play{
			Head: strings.Replace(sessions.Handshake("/echo", nil, false), "Version: 13", "Version: 8", 1), Steps: answered, Wait: 100 * time.Millisecond,
		}, 426, false, "13 is"},
		"no request": {sessions.Play{Head: "hello", Wait: 10 * time.Second}, 400, true, "Bad Request"},
		"a subprotocol": {sessions.Play{
			Head: sessions.Handshake("echo?subprotocol=a,b", []string{"b", "a"}, false), Steps: answered, Wait: 10 * time.Millisecond,
		}, 101, false, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g := open(t, sessions.Config{})
			played, err := g.start(t).Run(t.Context(), test.play)
			if err != nil {
				t.Fatal(err)
			}
			if played.Status != test.status || played.Closed != test.closed || !strings.Contains(string(played.Answer), test.want) {
				t.Errorf("%d, closed %v: %q", played.Status, played.Closed, played.Answer)
			}
		})
	}
}

func TestPlayReachesItsOwnSessionAlone(t *testing.T) {
	g := open(t, sessions.Config{})
	mine, other := g.start(t), g.start(t)
	for path, want := range map[string]int{sessions.Path + mine.ID + "/echo": 101, "/echo": 101, sessions.Path + other.ID + "/echo": 404, "/graphql": 404} {
		played, err := mine.Run(t.Context(), sessions.Play{Head: sessions.Handshake(path, nil, false), Steps: answered})
		if err != nil || played.Status != want {
			t.Errorf("%s: %d, %v, want %d", path, played.Status, err, want)
		}
	}
	if n := other.Transcript.Counts().Events; n != 0 {
		t.Errorf("the other session saw %d events", n)
	}
}

func TestASessionNamesItsServersToWhoMissesThem(t *testing.T) {
	g := open(t, sessions.Config{})
	played, err := g.start(t).Run(t.Context(), sessions.Play{Head: "GET /ehco HTTP/1.1\nHost: x\nConnection: close", Wait: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(played.Answer); played.Status != http.StatusNotFound || !strings.Contains(got, `"/ehco"`) || !strings.Contains(got, "echo, ") || !strings.Contains(got, "PATH_UNKNOWN") {
		t.Errorf("answered %s", got)
	}
}

func TestPlayIsBounded(t *testing.T) {
	g := open(t, sessions.Config{})
	one := g.start(t)
	for name, play := range map[string]sessions.Play{
		"steps": {Steps: make([]sessions.Step, sessions.MaxSteps+1)},
		"bytes": {Steps: []sessions.Step{{Bytes: make([]byte, sessions.MaxPlayBytes+1)}}},
		"time":  {Steps: []sessions.Step{{Pause: sessions.MaxWait}}, Wait: time.Second},
	} {
		if _, err := one.Run(context.Background(), play); codeOf(err) != "ARGUMENT_OUT_OF_RANGE" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASessionPlaysAsManyTimesAtOnceAsItHasConnections(t *testing.T) {
	g := open(t, sessions.Config{Connections: 2})
	one := g.start(t)
	play := sessions.Play{Head: sessions.Handshake("/echo", nil, false), Wait: 10 * time.Second}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for range 2 {
		go func() { _, err := one.Run(ctx, play); ended <- err }()
	}
	for one.Transcript.Counts().Open < 2 {
		time.Sleep(time.Millisecond)
	}
	if _, err := one.Run(ctx, play); codeOf(err) != "TOO_MANY_CONNECTIONS" {
		t.Errorf("one more: %v", err)
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if _, err := one.Run(t.Context(), sessions.Play{Head: sessions.Handshake("/echo", nil, false)}); err != nil {
		t.Errorf("once they have ended: %v", err)
	}
}

func TestADeafClientStays(t *testing.T) {
	g := open(t, sessions.Config{})
	begin := time.Now()
	played, err := g.start(t).Run(t.Context(), sessions.Play{
		Head: sessions.Handshake("/echo", nil, false), Steps: []sessions.Step{{Bytes: nil}}, Deaf: true, Wait: 300 * time.Millisecond,
	})
	if err != nil || played.Status != 101 {
		t.Fatalf("%+v, %v", played, err)
	}
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("it left after %v", took)
	}
}

func TestForgettingASessionEndsWhatItPlays(t *testing.T) {
	g := open(t, sessions.Config{})
	one := g.start(t)
	ended := make(chan error, 1)
	go func() {
		_, err := one.Run(t.Context(), sessions.Play{Head: "GET /nothing HTTP/1.1\nHost: x", Wait: sessions.MaxWait})
		ended <- err
	}()
	for one.Transcript.Counts().Conns == 0 {
		time.Sleep(time.Millisecond)
	}
	g.Forget(one.ID)
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
}

func TestShutdownDropsWhoDoesNotLeave(t *testing.T) {
	g := open(t, sessions.Config{})
	g.connect(t, g.start(t), "/echo") // it reads nothing, so it does not answer the Close frame
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	g.Shutdown(ctx)
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}
