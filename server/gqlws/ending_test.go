package gqlws

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// A Close that arrives while a worker writes is answered all the same.
func TestCloseIsAnsweredDuringADirectWrite(t *testing.T) {
	g := start(t, Config{})
	cl := g.connect(t)
	c := g.transport.snapshot()[0]
	eventually(t, "idle outbox", func() bool { _, ok := c.out.claim(&operation{}); return ok }) // a worker is between claim and release
	_ = cl.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(time.Second))
	time.Sleep(200 * time.Millisecond)
	if n := g.transport.Stats().Connections; n == 0 {
		t.Error("serve returned although a worker holds a claim")
	}
	r := c.out.release(nil)
	if r == starting && g.transport.Stats().Connections == 0 {
		t.Error("release starts a flush after serve has returned")
	}
	c.flushIf(r)
	_, _, err := cl.ReadMessage()
	if !websocket.IsCloseError(err, 1000) {
		t.Errorf("client got no Close echo: %v", err)
	}
}

// What ends an operation is no result: KEEP_LATEST neither drops nor replaces it.
func TestKeepLatestKeepsTheEnd(t *testing.T) {
	var work sync.WaitGroup
	// a: complete replaced into a waiting result
	o := outbox{limit: 60, work: &work, flushing: true}
	op := &operation{policy: keepLatest, head: []byte(`{"payload":`)}
	o.offer(op.frame(result{body: []byte(`{"data":{"x":1}`)}))
	o.offer(frame{op: op, head: []byte(`{"id":"1","type":"complete"}`)})
	for _, f := range o.frames {
		b := f.append(nil)
		t.Logf("a: %q", b)
		if i := strings.IndexByte(string(b), '{'); !json.Valid(b[i:]) {
			t.Errorf("a: malformed frame %s", b[i:])
		}
	}
	// b: nothing of the op waits
	o = outbox{limit: 60, work: &work, flushing: true}
	o.offer(frame{head: make([]byte, 60)})
	r := o.offer(frame{op: &operation{policy: keepLatest}, head: []byte(`{"id":"1","type":"complete"}`)})
	if r != full && len(o.frames) == 1 {
		t.Errorf("b: the complete was dropped silently (%v)", r)
	}
	// c: room again, but results were dropped before
	o = outbox{limit: 60, work: &work, flushing: true}
	op = &operation{policy: keepLatest, missed: 1}
	o.offer(frame{op: op, head: []byte(`{"id":"1","type":"complete"}`)})
	b := o.frames[0].append(nil)
	if i := strings.IndexByte(string(b), '{'); !json.Valid(b[i:]) {
		t.Errorf("c: malformed frame %s", b[i:])
	}
}

// What KEEP_LATEST dropped is told with the next result, however that is written.
func TestDirectWritesTellWhatWasDropped(t *testing.T) {
	g := start(t, Config{QueueBytes: 200})
	cl := g.connect(t)
	cl.subscribe("1", `subscription { latest(topic: "a") }`)
	g.await(t, "a", 1)
	c := g.transport.snapshot()[0]
	if c.direct == nil {
		t.Skip("this system has no direct writes")
	}
	c.mu.Lock()
	op := c.ops[0]
	c.mu.Unlock()
	eventually(t, "claim", func() bool { _, ok := c.out.claim(&operation{}); return ok })
	// somebody writes; the outbox is full of other frames
	c.out.offer(frame{head: []byte(`{"type":"pong","payload":{"x":"` + strings.Repeat("x", 160) + `"}}`)})
	g.publish("a", strings.Repeat("dropped", 10))
	eventually(t, "drop", func() bool { c.out.mu.Lock(); defer c.out.mu.Unlock(); return op.missed == 1 })
	c.flushIf(c.out.release(nil))
	t.Log(cl.read())
	eventually(t, "flushed", func() bool { c.out.mu.Lock(); defer c.out.mu.Unlock(); return !c.out.flushing })
	g.publish("a", "after")
	got := cl.read()
	if !strings.Contains(got, `"missed":1`) {
		t.Errorf("no gap told: %s", got)
	}
}

type fakeSink struct {
	mu    sync.Mutex
	log   []string
	block chan struct{}
	in    chan struct{}
}

func (f *fakeSink) say(s string)        { f.mu.Lock(); f.log = append(f.log, s); f.mu.Unlock() }
func (f *fakeSink) ready(func() string) {}
func (f *fakeSink) next([]result) {
	if f.block != nil {
		close(f.in)
		<-f.block
	}
	f.say("next")
}
func (f *fakeSink) complete()          { f.say("complete") }
func (f *fakeSink) fail(gqlerror.List) { f.say("fail") }

// A newcomer of a group hears the last result before the end, or not at all.
func TestNothingIsReplayedAfterTheEnd(t *testing.T) {
	set := &groups{}
	first := &fakeSink{}
	g := &group{set: set, replayLast: true}
	g.add(first, Asked{})
	g.next([]result{{body: []byte("x")}})
	late := &fakeSink{block: make(chan struct{}), in: make(chan struct{})}
	done := make(chan struct{})
	go func() { g.add(late, Asked{}); close(done) }()
	<-late.in
	ended := make(chan struct{})
	go func() { g.complete(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(100 * time.Millisecond):
	}
	close(late.block)
	<-done
	<-ended
	if late.log[0] != "next" {
		t.Errorf("newcomer heard %v", late.log)
	}
}

// A repeated connection_init races with no operation.
func TestLegacySecondInitRacesWithNothing(t *testing.T) {
	g := start(t, Config{})
	cl := g.dial(t, LegacyWS)
	cl.send(`{"type":"connection_init"}`)
	for i := range 20 {
		cl.send(fmt.Sprintf(`{"type":"start","id":"%d","payload":{"query":"subscription { private(topic: \"a\") }"}}`, i))
		cl.send(`{"type":"connection_init"}`)
	}
	g.await(t, "a", 20)
}

// Shutdown sends the frames that wait before its Close.
func TestShutdownSendsWhatWaits(t *testing.T) {
	g := start(t, Config{QueueBytes: 64 << 20})
	cl := g.connect(t)
	cl.words("1", "a")
	g.await(t, "a", 1)
	const n = 400
	for i := range n {
		g.publish("a", fmt.Sprintf("%d-%s", i, strings.Repeat("x", 50_000)))
	}
	c := g.transport.snapshot()[0]
	eventually(t, "all queued", func() bool {
		c.out.mu.Lock()
		defer c.out.mu.Unlock()
		return c.t.frames.Load()+uint64(len(c.out.frames)) >= n+1 // and the ack
	})
	time.Sleep(300 * time.Millisecond)
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
		defer cancel()
		done <- g.transport.Shutdown(ctx)
	}()
	time.Sleep(50 * time.Millisecond)
	got := 0
	for {
		_, _, err := cl.ReadMessage()
		if err != nil {
			t.Logf("end: %v", err)
			break
		}
		got++
	}
	if got != n {
		t.Errorf("got %d of %d frames that waited", got, n)
	}
	t.Log(<-done)
}

// A client that does not answer our Close is waited for no longer than closeWait.
func TestUnansweredCloseIsNotWaitedForLong(t *testing.T) {
	long := 0
	for range 4 {
		g := start(t, Config{})
		cl := g.connect(t)
		for i := range 50 {
			cl.subscribe(fmt.Sprint(i), `subscription { private(topic: "a") }`)
		}
		g.await(t, "a", 50)
		c := g.transport.snapshot()[0]
		begin := time.Now()
		c.close(Normal) // the client does not answer
		for g.transport.Stats().Connections > 0 && time.Since(begin) < 3*time.Second {
			time.Sleep(10 * time.Millisecond)
		}
		if time.Since(begin) >= 3*time.Second {
			long++
		}
		cl.Close()
		if long > 0 {
			t.Fatalf("a client that does not answer keeps the socket longer than closeWait")
		}
	}
}

// Connections that open while Shutdown waits do not end the process.
func TestConnectionsThatOpenDuringShutdown(t *testing.T) {
	tr := New(Config{})
	defer func() { _ = tr.Shutdown(context.Background()) }()
	var stop atomic.Bool
	time.AfterFunc(5*time.Second, func() { stop.Store(true) })
	var caught atomic.Value
	guard := func(f func()) {
		defer func() {
			if p := recover(); p != nil {
				caught.Store(fmt.Sprint(p))
			}
		}()
		f()
	}
	for i := 0; !stop.Load() && caught.Load() == nil; i++ {
		t2 := &Transport{conns: map[*conn]struct{}{}}
		a, b := &conn{t: t2, release: func() {}}, &conn{t: t2, release: func() {}}
		t2.reserve()
		t2.add(a)
		t2.mu.Lock()
		t2.draining = true
		t2.mu.Unlock()
		var wg sync.WaitGroup
		waiting := make(chan struct{})
		wg.Go(func() { close(waiting); guard(t2.gone.Wait) })
		<-waiting
		wg.Go(func() { guard(func() { t2.remove(a) }) })
		wg.Go(func() {
			guard(func() {
				if t2.reserve() {
					t2.add(b)
					t2.remove(b)
				}
			})
		})
		wg.Wait()
	}
	if p := caught.Load(); p != nil {
		t.Errorf("panic: %v", p)
	}
}

// R11
type pipeListener struct{ c chan net.Conn }

func (l pipeListener) Accept() (net.Conn, error) {
	c, ok := <-l.c
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l pipeListener) Close() error   { return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// A client that does not read the answer to its handshake is dropped.
func TestHandshakeHasADeadline(t *testing.T) {
	s := newTestSchema(t)
	var released atomic.Bool
	tr := New(Config{WriteDeadline: 300 * time.Millisecond, Admit: func(*http.Request) (func(), string) { return func() { released.Store(true) }, "" }})
	h := newTestHandler(s, tr)
	l := pipeListener{make(chan net.Conn, 1)}
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(l) }()
	client, server := net.Pipe()
	l.c <- server
	fmt.Fprint(client, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n")
	time.Sleep(2 * time.Second)
	if !released.Load() {
		t.Error("the place is still taken: the handshake's write has no deadline")
	}
	client.Close()
	_ = tr.Shutdown(context.Background())
	close(l.c)
	srv.Close()
	time.Sleep(50 * time.Millisecond)
}
