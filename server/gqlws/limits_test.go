package gqlws

import (
	"context"
	"errors"
	"fmt"
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

// counted is what Config.Refused was told.
type counted struct {
	mu    sync.Mutex
	codes []string
}

func (c *counted) refused(code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.codes = append(c.codes, code)
}

func (c *counted) list() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.codes)
}

// want waits until these have been told: an ending is counted once its Close
// frame is on its way.
func (c *counted) want(t *testing.T, codes ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%v to be counted", codes), func() bool { return len(c.list()) >= len(codes) })
	if got := c.list(); !slices.Equal(got, codes) {
		t.Errorf("counted as %v, want %v", got, codes)
	}
}

// onFakeTime runs f with an acknowledged client in a bubble of synctest: the
// socket is a pipe, which holds nothing, so writing takes until it is read.
func onFakeTime(t *testing.T, cfg Config, f func(t *testing.T, c *client, counts *counted)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var counts counted
		cfg.Refused, cfg.Unshared = counts.refused, unshared
		transport := New(cfg)
		pipes := pipeListener{make(chan net.Conn, 1)}
		srv := &http.Server{Handler: newTestHandler(newTestSchema(t), transport)}
		var serving sync.WaitGroup
		serving.Go(func() { _ = srv.Serve(pipes) })
		near, far := net.Pipe()
		pipes.c <- far
		dialer := websocket.Dialer{
			Subprotocols:   []string{TransportWS},
			NetDialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil },
		}
		ws, _, err := dialer.Dial("ws://x/", nil)
		if err != nil {
			t.Fatal(err)
		}
		f(t, &client{t, ws}, &counts)
		ws.Close()
		_ = transport.Shutdown(context.Background())
		close(pipes.c)
		srv.Close()
		serving.Wait()
	})
}

func (c *client) init() {
	c.t.Helper()
	c.send(`{"type":"connection_init"}`)
	c.want(`{"type":"connection_ack"}`)
}

// pongs makes the client answer pings, or not.
func (c *client) pongs(answer bool) {
	c.SetPingHandler(func(payload string) error {
		if !answer {
			return nil
		}
		return c.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(time.Second))
	})
}

func TestInitWaitToTheInstant(t *testing.T) {
	onFakeTime(t, Config{InitWait: time.Second}, func(t *testing.T, c *client, counts *counted) {
		time.Sleep(time.Second - time.Nanosecond)
		c.init()
		time.Sleep(time.Second)
		c.send(`{"type":"ping"}`)
		c.want(`{"type":"pong"}`)
		if codes := counts.list(); len(codes) > 0 {
			t.Errorf("at the bound: %v", codes)
		}
	})
	onFakeTime(t, Config{InitWait: time.Second}, func(t *testing.T, c *client, counts *counted) {
		begin := time.Now()
		c.wantClose(4408, "Connection initialisation timeout")
		if took := time.Since(begin); took != time.Second {
			t.Errorf("after %v", took)
		}
		counts.want(t, "4408")
	})
}

func TestPingsComeOnTime(t *testing.T) {
	onFakeTime(t, Config{PingEvery: 25 * time.Second}, func(t *testing.T, c *client, _ *counted) {
		c.init()
		var at []time.Duration
		begin := time.Now()
		c.SetPingHandler(func(string) error {
			at = append(at, time.Since(begin))
			if len(at) == 3 {
				return errors.New("enough")
			}
			return c.WriteControl(websocket.PongMessage, nil, time.Now().Add(time.Second))
		})
		_, _, _ = c.ReadMessage()
		if want := []time.Duration{25 * time.Second, 50 * time.Second, 75 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("pings came after %v", at)
		}
	})
}

func TestPongWithinToTheInstant(t *testing.T) {
	cfg := Config{PingEvery: 25 * time.Second, PongWithin: 10 * time.Second}
	const silence = 35 * time.Second
	for _, test := range []struct {
		name string
		pong time.Duration // after the last message; 0: never
		gone time.Duration
	}{
		{"without a pong", 0, silence},
		{"with one at the last instant", silence - time.Nanosecond, 2*silence - time.Nanosecond},
		{"with one too late", silence + time.Nanosecond, silence},
	} {
		t.Run(test.name, func(t *testing.T) {
			onFakeTime(t, cfg, func(t *testing.T, c *client, counts *counted) {
				c.init()
				c.pongs(false)
				begin := time.Now()
				var pong sync.WaitGroup
				if test.pong > 0 {
					pong.Go(func() {
						time.Sleep(test.pong)
						_ = c.WriteControl(websocket.PongMessage, nil, time.Now().Add(time.Second))
					})
				}
				_, _, err := c.ReadMessage()
				if took := time.Since(begin); took != test.gone || websocket.IsCloseError(err, 1000) {
					t.Errorf("gone after %v with %v", took, err)
				}
				pong.Wait()
				counts.want(t, "PONG_TIMEOUT")
			})
		})
	}
}

// A client that goes by itself, however rudely, was not refused anything.
func TestClientsThatLeaveAreNotCounted(t *testing.T) {
	onFakeTime(t, Config{}, func(t *testing.T, c *client, counts *counted) {
		c.init()
		c.NetConn().Close()
		synctest.Wait()
		if codes := counts.list(); len(codes) > 0 {
			t.Errorf("counted as %v", codes)
		}
	})
}

func TestWriteDeadlineToTheInstant(t *testing.T) {
	cfg := Config{WriteDeadline: 10 * time.Second}
	onFakeTime(t, cfg, func(t *testing.T, c *client, counts *counted) {
		c.init()
		c.subscribe("1", `{ hello }`)
		time.Sleep(10*time.Second - time.Nanosecond)
		c.want(`{"id":"1","type":"next","payload":{"data":{"hello":"world"}}}`)
		c.want(`{"id":"1","type":"complete"}`)
		if codes := counts.list(); len(codes) > 0 {
			t.Errorf("at the bound: %v", codes)
		}
	})
	onFakeTime(t, cfg, func(t *testing.T, c *client, counts *counted) {
		c.init()
		c.subscribe("1", `{ hello }`)
		synctest.Wait()
		time.Sleep(10 * time.Second) // reads nothing
		synctest.Wait()
		if _, text, err := c.ReadMessage(); err == nil {
			t.Errorf("past the bound: %s", text)
		}
		counts.want(t, "WRITE_TIMEOUT")
	})
}

func TestFloodLimitToTheMessage(t *testing.T) {
	cfg := Config{OperationsPerSecond: 1, OperationsBurst: 2}
	onFakeTime(t, cfg, func(t *testing.T, c *client, counts *counted) {
		c.init() // the first
		for range 18 {
			c.send(`{"type":"pong"}`)
		}
		c.send(`{"type":"ping"}`) // the twentieth: ten times the burst
		c.want(`{"type":"pong"}`)
		time.Sleep(100 * time.Millisecond) // ten a second
		c.send(`{"type":"ping"}`)
		c.want(`{"type":"pong"}`)
		c.send(`{"type":"ping"}`)
		c.wantClose(1013, "Too many messages: slow down (at most 10 a second)")
		counts.want(t, "1013")
	})
}

func TestOperationsComeBackWithTime(t *testing.T) {
	cfg := Config{OperationsPerSecond: 10, OperationsBurst: 1}
	onFakeTime(t, cfg, func(t *testing.T, c *client, counts *counted) {
		c.init()
		for i, wait := range []time.Duration{0, 100 * time.Millisecond, 99 * time.Millisecond} {
			time.Sleep(wait)
			c.subscribe(fmt.Sprint(i), `{ hello }`)
			if got := c.read(); strings.Contains(got, "RATE_LIMITED") != (i == 2) {
				t.Errorf("operation %d, %v after the one before: %s", i, wait, got)
			}
			if i < 2 {
				c.want(fmt.Sprintf(`{"id":"%d","type":"complete"}`, i))
			}
		}
		counts.want(t, "RATE_LIMITED")
	})
}

func TestMessageOverTheLimitIsNamedAndCounted(t *testing.T) {
	var counts counted
	g := start(t, Config{MessageBytes: 100, Refused: counts.refused})
	c := g.connect(t)
	c.send(`{"type":"ping"}` + strings.Repeat(" ", 85)) // at the bound
	c.want(`{"type":"pong"}`)
	c.send(`{"type":"ping"}` + strings.Repeat(" ", 86))
	c.wantClose(1009, "Message too large (at most 100 bytes)")
	counts.want(t, "1009")
}

func TestBrokenFrameIsExplainedAndCounted(t *testing.T) {
	var counts counted
	g := start(t, Config{Refused: counts.refused})
	c := g.connect(t)
	_, _ = c.NetConn().Write([]byte{0xf3, 0x80, 0, 0, 0, 0})
	c.wantClose(1002, "Protocol error: RSV1 set, RSV2 set, RSV3 set, bad opcode 3")
	counts.want(t, "1002")
}

// A Close for a frame that is broken goes behind a frame that is half written.
func TestCloseDoesNotCutIntoAFrame(t *testing.T) {
	for _, broken := range []string{"\xf1\x80\x00\x00\x00\x00", "\x81\xff\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00"} {
		g := start(t, Config{})
		cl := g.connect(t)
		c := g.transport.snapshot()[0]
		eventually(t, "idle outbox", func() bool { _, ok := c.out.claim(&operation{}); return ok }) // a worker's direct write …
		whole := frame{head: []byte(`{"type":"ping"}`)}.append(nil)
		if _, err := c.socket.Write(whole[:5]); err != nil { // … of which the system takes five bytes
			t.Fatal(err)
		}
		_, _ = cl.NetConn().Write([]byte(broken))
		eventually(t, "the verdict", c.out.isSealed)
		c.flushIf(c.out.release(whole[5:]))
		cl.want(`{"type":"ping"}`)
		if _, _, err := cl.ReadMessage(); !websocket.IsCloseError(err, 1002, 1009) {
			t.Errorf("ended with %v", err)
		}
	}
}

func TestSlowConsumerIsToldTheLimit(t *testing.T) {
	onFakeTime(t, Config{QueueBytes: 1000, WriteDeadline: time.Minute}, func(t *testing.T, c *client, counts *counted) {
		c.init()
		for range 20 { // answers that are not read
			c.send(`{"type":"ping","payload":{"x":"` + strings.Repeat("x", 100) + `"}}`)
		}
		c.wantClose(4413, "Slow consumer: events came faster than they were read (at most 1000 bytes may wait)")
		counts.want(t, "4413")
	})
}

func TestQueueBytesToTheByte(t *testing.T) {
	var work sync.WaitGroup
	o := outbox{limit: 100, work: &work, flushing: true}
	for _, test := range []struct {
		bytes int
		full  bool
	}{{60, false}, {41, true}, {40, false}, {1, true}} {
		if got := o.offer(frame{head: make([]byte, test.bytes)}); (got == full) != test.full {
			t.Errorf("%d bytes on top of %d: %v", test.bytes, o.bytes, got)
		}
	}
}

func TestPayloadBytesToTheByte(t *testing.T) {
	const data = `{"words":"0123456789"}`
	g := start(t, Config{PayloadBytes: len(data)})
	c := g.connect(t)
	c.words("1", "a")
	g.await(t, "a", 1)
	g.publish("a", "0123456789")
	c.wantWord("1", "0123456789")
	g.publish("a", "0123456789x")
	if got, want := c.read(), fmt.Sprintf("has %d bytes, more than the %d", len(data)+1, len(data)); !strings.Contains(got, want) {
		t.Errorf("got %s", got)
	}
}

func TestReasonsWithLimitsFitIntoACloseFrame(t *testing.T) {
	huge := Config{MessageBytes: 1 << 40, QueueBytes: 1 << 40, OperationsPerSecond: 1 << 40}
	for _, e := range Endings {
		if told := huge.Explain(e); !strings.HasPrefix(told.Reason, e.Reason) || len(told.Reason) > maxReason {
			t.Errorf("%d: %q", e.Code, told.Reason)
		}
	}
}
