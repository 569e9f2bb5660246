package wire_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// echo is what a server of gorilla's usually looks like.
func echo(upgrader websocket.Upgrader) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			kind, message, err := conn.ReadMessage()
			if err != nil {
				return
			}
			if err := conn.WriteMessage(kind, message); err != nil {
				return
			}
		}
	})
}

// tapped starts h behind a tap.
func tapped(t *testing.T, bounds wire.Bounds, h http.Handler) (*httptest.Server, *wire.Transcript) {
	t.Helper()
	transcript := wire.NewTranscript(bounds)
	server := httptest.NewServer(transcript.Tap(h))
	t.Cleanup(server.Close)
	return server, transcript
}

type client struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

// open makes the opening handshake by hand.
func open(t *testing.T, server *httptest.Server, headers string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "GET /path?q HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n", headers)
	c := &client{t, conn, bufio.NewReader(conn)}
	response, err := http.ReadResponse(c.in, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("answered %v, %v", response, err)
	}
	return c
}

// drip sends bytes one by one.
func (c *client) drip(frames ...wire.Frame) {
	c.t.Helper()
	for _, f := range frames {
		for _, b := range f.Append(nil) {
			if _, err := c.Write([]byte{b}); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// skip reads n bytes.
func (c *client) skip(n int) {
	c.t.Helper()
	if _, err := io.ReadFull(c.in, make([]byte, n)); err != nil {
		c.t.Fatal(err)
	}
}

// rest reads to the end of the connection and closes it.
func (c *client) rest() []wire.Frame {
	b, _ := io.ReadAll(c.in) // a reset is an end, too
	c.Close()
	frames, _ := wire.Frames(b)
	return frames
}

// story waits until every connection has ended and tells what happened.
func story(t *testing.T, transcript *wire.Transcript) string {
	t.Helper()
	woken := make(chan struct{}, 1)
	stop := transcript.Follow(func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	defer stop()
	for deadline := time.After(10 * time.Second); ; {
		events := all(transcript)
		if n := len(events); n > 0 && events[n-1].End != nil {
			var lines []string
			for i, e := range events {
				if i > 0 && (e.Seq != events[i-1].Seq+1 || e.At.Before(events[i-1].At)) {
					t.Errorf("event %d at %v stands behind event %d at %v", e.Seq, e.At, events[i-1].Seq, events[i-1].At)
				}
				lines = append(lines, tell(e))
			}
			return strings.Join(lines, "\n") + "\n"
		}
		select {
		case <-woken:
		case <-deadline:
			t.Fatalf("the connection did not end: %d events", len(events))
		}
	}
}

func all(transcript *wire.Transcript) (events []wire.Event) {
	buf := make([]wire.Event, 7)
	for seq := uint64(0); ; seq = events[len(events)-1].Seq {
		n, _ := transcript.After(seq, buf)
		if n == 0 {
			return events
		}
		events = append(events, buf[:n]...)
	}
}

func tell(e wire.Event) string {
	var problems []wire.Problem
	line := ""
	switch {
	case e.Request != nil:
		line = fmt.Sprintf("request %s %s %s", e.Request.Method, e.Request.URI, e.Request.Host)
	case e.Response != nil:
		line = fmt.Sprintf("response %d", e.Response.Status)
	case e.Frame != nil:
		line = fmt.Sprintf("%v: %v %q", e.Frame.Direction, e.Frame.Opcode, e.Frame.Payload)
		if e.Frame.Partial() {
			line += fmt.Sprintf(" of %d", e.Frame.Length)
		}
		problems = e.Frame.Problems
	case e.Message != nil:
		line = fmt.Sprintf("%v: message %q in %d", e.Message.Direction, e.Message.Data, e.Message.Fragments)
		problems = e.Message.Problems
	case e.Close != nil:
		line = fmt.Sprintf("closed by %s with %d %q, complete %v", e.Close.By, e.Close.Code, e.Close.Reason, e.Close.Complete)
	case e.End != nil:
		line = fmt.Sprintf("end by %s, %s", e.End.By, e.End.How)
	}
	for _, p := range problems {
		line += " !" + string(p.Rule)
	}
	return line
}

var mask = [4]byte{1, 2, 3, 4}

func text(s string) wire.Frame { return wire.NewFrame(true, wire.Text, []byte(s)).Mask(mask) }

func TestATapTellsTheStoryOfAConnection(t *testing.T) {
	const opening = "request GET /path?q here\nresponse 101\n"
	unmasked := wire.NewFrame(true, wire.Text, []byte("abc"))
	promise := text("abc")
	promise.Form, promise.Length = wire.Length64, 1<<62
	for name, c := range map[string]struct {
		do   func(*client)
		want string
	}{
		"a clean one": {
			func(c *client) {
				c.drip(text("a"))
				c.skip(3) // else TCP may carry both at once
				c.drip(wire.NewClose(1000, "bye").Mask(mask))
				c.rest()
			},
			`client to server: text "a"
client to server: message "a" in 1
server to client: text "a"
server to client: message "a" in 1
client to server: close "\x03\xe8bye"
server to client: close "\x03\xe8"
closed by client with 1000 "bye", complete true
end by server, fin
`,
		},
		"a fragmented message with a ping inside": {
			func(c *client) {
				c.drip(wire.NewFrame(false, wire.Text, []byte("a")).Mask(mask), wire.NewFrame(true, wire.Ping, []byte("p")).Mask(mask))
				c.skip(3)
				c.drip(wire.NewFrame(true, wire.Continuation, []byte("b")).Mask(mask))
				c.skip(4)
				c.drip(wire.NewClose(0, "").Mask(mask))
				c.rest()
			},
			`client to server: text "a"
client to server: ping "p"
server to client: pong "p"
client to server: continuation "b"
client to server: message "ab" in 2
server to client: text "ab"
server to client: message "ab" in 1
client to server: close ""
server to client: close ""
closed by client with 1005 "", complete true
end by server, fin
`,
		},
		"a frame that the library refuses at its header": {
			func(c *client) {
				c.drip(wire.Frame{Header: unmasked.Header}) // no byte more, or the server resets
				c.rest()
			},
			`client to server: text "" of 3 !mask
server to client: close "\x03\xeabad MASK"
closed by server with 1002 "bad MASK", complete false
end by server, fin
`,
		},
		"one that comes as a whole": {
			func(c *client) {
				_, _ = c.Write(unmasked.Append(nil))
				c.rest()
			},
			`client to server: text "abc" !mask
client to server: message "abc" in 1
server to client: close "\x03\xeabad MASK"
closed by server with 1002 "bad MASK", complete false
end by server, fin
`,
		},
		"a client that leaves within a frame": {
			func(c *client) {
				c.drip(promise)
				c.Close()
			},
			`client to server: text "abc" of 4611686018427387904
closed by nobody with 1006 "", complete false
end by client, fin
`,
		},
		"a reset": {
			func(c *client) {
				c.drip(text("a"))
				c.skip(3)
				_ = c.Conn.(*net.TCPConn).SetLinger(0)
				c.Close()
			},
			`client to server: text "a"
client to server: message "a" in 1
server to client: text "a"
server to client: message "a" in 1
closed by nobody with 1006 "", complete false
end by client, rst
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, transcript := tapped(t, wire.Bounds{}, echo(websocket.Upgrader{}))
			c.do(open(t, server, ""))
			if got := story(t, transcript); got != opening+c.want {
				t.Errorf("got\n%s\nwant\n%s", got, opening+c.want)
			}
			if counts := transcript.Counts(); counts.Conns != 1 || counts.Open != 0 {
				t.Errorf("got %+v", counts)
			}
		})
	}
}

func TestATapSeesDeadlines(t *testing.T) {
	server, transcript := tapped(t, wire.Bounds{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		_, _, _ = conn.ReadMessage()
	}))
	open(t, server, "").rest()
	if got := story(t, transcript); !strings.HasSuffix(got, "end by server, timeout\n") {
		t.Error(got)
	}
}

func TestATapSeesTheServersReset(t *testing.T) {
	server, transcript := tapped(t, wire.Bounds{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		if err := conn.UnderlyingConn().(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
			t.Error(err)
		}
		conn.Close()
	}))
	open(t, server, "").rest()
	if got := story(t, transcript); !strings.HasSuffix(got, "end by server, rst\n") {
		t.Error(got)
	}
}

func TestATapRecordsPlainAnswers(t *testing.T) {
	server, transcript := tapped(t, wire.Bounds{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/teapot" {
			w.Header().Set("X-Pot", "short and stout")
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	for _, path := range []string{"/teapot", "/nothing"} {
		response, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	events := all(transcript)
	if len(events) != 4 || events[1].Response.Status != http.StatusTeapot || events[1].Response.Header.Get("X-Pot") == "" ||
		events[2].Conn != 2 || events[3].Response.Status != http.StatusOK {
		t.Errorf("got %+v", events)
	}
}

func TestATapUnderstandsWhatTheHandshakeAgreedOn(t *testing.T) {
	server, transcript := tapped(t, wire.Bounds{}, echo(websocket.Upgrader{EnableCompression: true, Subprotocols: []string{wire.GraphQLTransportWS}}))
	dialer := websocket.Dialer{EnableCompression: true, Subprotocols: []string{wire.GraphQLTransportWS}}
	conn, _, err := dialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"ping"}`)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := conn.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	story(t, transcript)
	seen := 0
	for _, e := range all(transcript) {
		if e.Message != nil {
			seen++
			if m := e.Message; !m.Compressed || string(m.Data) != `{"type":"ping"}` || m.GraphQL == nil || m.GraphQL.Type != "ping" || !m.GraphQL.Known {
				t.Errorf("got %+v", m)
			}
		}
	}
	if seen != 2 {
		t.Errorf("%d messages were seen", seen)
	}
}

// The payloads of the oldest frames go first, their facts stay, and a new
// message is always there as a whole.
func TestATranscriptIsBounded(t *testing.T) {
	bounds := wire.Bounds{Events: 300, Bytes: 20_000, Payload: 1000}
	server, transcript := tapped(t, bounds, echo(websocket.Upgrader{}))
	c := open(t, server, "")
	echoed := make([]byte, 4+1500)
	for range 50 {
		_, _ = c.Write(text(strings.Repeat("a", 1500)).Append(nil))
		if _, err := io.ReadFull(c.in, echoed); err != nil {
			t.Fatal(err)
		}
	}
	kept, frames := 0, 0
	for _, e := range all(transcript) {
		switch {
		case e.Frame != nil:
			frames++
			kept += len(e.Frame.Payload)
			if e.Frame.Length != 1500 || e.Frame.Received != 1500 || len(e.Frame.Payload) > 1000 {
				t.Errorf("got %+v", e.Frame.Header)
			}
		case e.Message != nil:
			kept += len(e.Message.Data)
			if e.Message.Size != 1500 {
				t.Errorf("got a message of %d bytes", e.Message.Size)
			}
		case e.Request != nil && e.Request.Header == nil:
			t.Error("the handshake left although payloads could")
		}
	}
	if frames != 100 || kept > bounds.Bytes || kept < bounds.Bytes-3000 {
		t.Errorf("%d bytes of %d frames are kept", kept, frames)
	}
	for range 50 {
		_, _ = c.Write(text("a").Append(nil))
		if _, err := io.ReadFull(c.in, echoed[:3]); err != nil {
			t.Fatal(err)
		}
	}
	events, counts := all(transcript), transcript.Counts()
	if len(events) != 300 || events[0].Seq != counts.Events-299 || counts.Frames != [2]uint64{100, 100} || counts.Messages != [2]uint64{100, 100} {
		t.Errorf("%d events from %d, %+v", len(events), events[0].Seq, counts)
	}
	if want := uint64(50*1504 + 50*3); counts.Bytes[wire.ToClient] != want {
		t.Errorf("%d bytes were counted, want %d", counts.Bytes[wire.ToClient], want)
	}
	c.Close()
	story(t, transcript)
}

func TestManyHandshakesAreBounded(t *testing.T) {
	server, transcript := tapped(t, wire.Bounds{Bytes: 10_000}, http.NotFoundHandler())
	for range 30 {
		request, err := http.NewRequest(http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Long", strings.Repeat("a", 1000))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	kept := 0
	events := all(transcript)
	for _, e := range events {
		if e.Request != nil {
			kept += len(e.Request.Header.Get("X-Long"))
		}
	}
	if len(events) != 60 || kept > 10_000 || kept < 5000 {
		t.Errorf("%d events keep %d bytes", len(events), kept)
	}
}

// Many readers follow while connections are recorded, and each sees every event
// once and in order.
func TestReadersFollowATranscript(t *testing.T) {
	server, transcript := tapped(t, wire.Bounds{}, echo(websocket.Upgrader{}))
	var readers, clients sync.WaitGroup
	seen := make([]uint64, 4)
	for i := range seen {
		woken := make(chan struct{}, 1)
		stop := transcript.Follow(func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		})
		readers.Go(func() {
			defer stop()
			buf := make([]wire.Event, 3)
			for {
				n, open := transcript.After(seen[i], buf)
				for _, e := range buf[:n] {
					if e.Seq != seen[i]+1 {
						t.Errorf("reader %d: %d behind %d", i, e.Seq, seen[i])
					}
					seen[i] = e.Seq
				}
				if !open {
					return
				}
				if n == 0 {
					<-woken
				}
			}
		})
	}
	for range 4 {
		clients.Go(func() {
			c := open(t, server, "")
			for range 20 {
				_, _ = c.Write(text("a").Append(nil))
				if _, err := io.ReadFull(c.in, make([]byte, 3)); err != nil {
					t.Error(err)
					return
				}
			}
			c.drip(wire.NewClose(1000, "").Mask(mask))
			c.rest()
		})
	}
	clients.Wait()
	ended(t, transcript)
	transcript.Close()
	readers.Wait()
	want := transcript.Counts().Events
	for i, n := range seen {
		if n != want || want != 4*(2+80+4) {
			t.Errorf("reader %d saw %d of %d events", i, n, want)
		}
	}
}

func TestAClosedTranscriptRecordsNothing(t *testing.T) {
	server, transcript := tapped(t, wire.Bounds{}, echo(websocket.Upgrader{}))
	transcript.Close()
	transcript.Close()
	c := open(t, server, "")
	_, _ = c.Write(text("a").Append(nil))
	echoed := make([]byte, 3)
	if _, err := io.ReadFull(c.in, echoed); err != nil || !bytes.Equal(echoed, []byte("\x81\x01a")) {
		t.Errorf("got %q, %v", echoed, err)
	}
	if n, open := transcript.After(0, make([]wire.Event, 1)); n != 0 || open {
		t.Errorf("got %d events, open %v", n, open)
	}
	c.Close()
	ended(t, transcript)
}

func ended(t *testing.T, transcript *wire.Transcript) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); transcript.Counts().Open > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a connection is open")
		}
	}
}
