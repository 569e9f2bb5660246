package sessions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/internal/live"
)

// Play is what a session plays to its own servers, byte by byte, for a learner
// whose tool cannot: the servers see a client that came over TCP.
type Play struct {
	// Head is the request as the learner writes it. Its lines are made to end
	// with CR LF, and an empty one is put behind them. Its path may begin with
	// the session's.
	Head string
	// Steps are sent one after the other once the head was answered with 101.
	Steps []Step
	// Wait is how long the client stays behind the last step. It ends sooner when
	// the server closes, unless the client is deaf.
	Wait time.Duration
	// As makes the context of what is played, so that servers know for whom it
	// is [without values].
	As func(context.Context) context.Context
	// Deaf: nothing is read behind the answer to the head, as of a client that hangs.
	Deaf bool
}

// Step is bytes, and a pause behind them.
type Step struct {
	Bytes []byte
	Pause time.Duration
}

// Played is what came back.
type Played struct {
	Status int    // of the answer; 0: there was none
	Answer []byte // its head and what is behind it, at most MaxAnswer bytes
	Closed bool   // the server closed the connection
}

// Bounds of a Play.
const (
	MaxSteps     = 64
	MaxPlayBytes = 256 << 10
	MaxWait      = 20 * time.Second // all pauses and the wait together
	MaxAnswer    = 64 << 10
)

// Run plays, over a TCP connection on this machine that reaches the servers of
// this session and nothing else, whatever the head says. It returns when Wait
// has passed behind the last step, the server has closed, or ctx or the session
// ends. A server that does not take what is sent is no error. As many plays may
// be under way as connections may be open.
func (one *Session) Run(ctx context.Context, p Play) (Played, error) {
	if err := p.check(); err != nil {
		return Played{}, err
	}
	if n := one.plays.Add(1); int(n) > one.connections {
		one.plays.Add(-1)
		return Played{}, live.Errorf("TOO_MANY_CONNECTIONS", "This lab session plays %d times already, which is the most it may at once (limit lab-connections): wait until one has ended.", one.connections)
	}
	defer one.plays.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, MaxWait+time.Second)
	defer cancel()
	defer context.AfterFunc(one.ctx, cancel)()
	conn, stop, err := one.dial(ctx, p.As)
	if err != nil {
		return Played{}, err
	}
	defer stop()
	defer context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Now()) })()
	answer := &answers{head: make(chan struct{})}
	reading, deaf := make(chan struct{}), p.Deaf && len(p.Steps) > 0
	go func() {
		defer close(reading)
		answer.read(conn, deaf)
	}()
	defer func() { conn.Close(); <-reading }()

	_, err = conn.Write(head(p.Head))
	if err == nil && len(p.Steps) > 0 && answer.opened(ctx) {
		play(ctx, conn, p.Steps)
	}
	over := reading
	if deaf {
		over = nil // it ended with the head
	}
	wait(ctx, p.Wait, over)
	return answer.played(), nil
}

// play sends steps until the server wants no more.
func play(ctx context.Context, conn net.Conn, steps []Step) {
	for _, step := range steps {
		if _, err := conn.Write(step.Bytes); err != nil {
			return
		}
		wait(ctx, step.Pause, nil)
	}
}

func wait(ctx context.Context, d time.Duration, over <-chan struct{}) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-over:
	case <-ctx.Done():
	}
}

// dial connects to a server that has nothing but this session's servers.
func (one *Session) dial(ctx context.Context, as func(context.Context) context.Context) (_ net.Conn, stop func(), _ error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("sessions: %w", err)
	}
	srv := one.of.cfg.HTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, strings.TrimSuffix(Path, "/")+"/"+one.ID)
		one.serve(w, r, "/"+strings.TrimPrefix(path, "/"))
	}))
	if as != nil {
		srv.BaseContext = func(net.Listener) context.Context { return as(context.Background()) }
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(ln) })
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	if err != nil {
		_ = srv.Close()
		serving.Wait()
		return nil, nil, fmt.Errorf("sessions: %w", err)
	}
	return conn, func() { _ = srv.Close(); serving.Wait() }, nil
}

// head makes a request of what a learner wrote: lines end with CR LF, and an
// empty one ends it.
func head(text string) []byte {
	text = strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	return []byte(strings.ReplaceAll(text, "\n", "\r\n") + "\r\n\r\n")
}

// answers is what came back so far.
type answers struct {
	mu     sync.Mutex
	bytes  []byte
	closed bool
	head   chan struct{} // closed once the head is complete, or there is none
}

// read collects what comes until the connection ends, or, if it is to go deaf,
// until the head has come.
func (a *answers) read(conn net.Conn, deaf bool) {
	finish := sync.OnceFunc(func() { close(a.head) })
	defer finish()
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		a.mu.Lock()
		a.bytes = append(a.bytes, buf[:min(n, MaxAnswer-len(a.bytes))]...)
		complete := bytes.Contains(a.bytes, []byte("\r\n\r\n"))
		a.closed = err != nil && !errors.Is(err, net.ErrClosed)
		a.mu.Unlock()
		if complete {
			finish()
		}
		if err != nil || complete && deaf {
			return
		}
	}
}

// opened waits for the answer and reports whether it is 101.
func (a *answers) opened(ctx context.Context) bool {
	select {
	case <-a.head:
		return a.played().Status == http.StatusSwitchingProtocols
	case <-ctx.Done():
		return false
	}
}

func (a *answers) played() Played {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := Played{Answer: bytes.Clone(a.bytes), Closed: a.closed}
	var minor int
	_, _ = fmt.Fscanf(io.LimitReader(bytes.NewReader(p.Answer), 64), "HTTP/1.%d %d", &minor, &p.Status)
	return p
}

// Handshake is the head of a right opening handshake, for a path of the session.
func Handshake(path string, subprotocols []string, deflate bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "GET /%s HTTP/1.1\nHost: localhost\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\n", strings.TrimPrefix(oneLine(path), "/"))
	if len(subprotocols) > 0 {
		fmt.Fprintf(&b, "Sec-WebSocket-Protocol: %s\n", oneLine(strings.Join(subprotocols, ", ")))
	}
	if deflate {
		b.WriteString("Sec-WebSocket-Extensions: permessage-deflate\n")
	}
	return b.String()
}

// oneLine keeps what belongs into one line from becoming two.
func oneLine(s string) string { return strings.NewReplacer("\r", "", "\n", "").Replace(s) }

// check reports a play that is out of bounds.
func (p *Play) check() error {
	total, wait := len(p.Head), p.Wait
	for _, step := range p.Steps {
		total += len(step.Bytes)
		wait += step.Pause
	}
	switch {
	case len(p.Steps) > MaxSteps:
		return live.Errorf("ARGUMENT_OUT_OF_RANGE", "There are %d frames: at most %d are played at a time.", len(p.Steps), MaxSteps)
	case total > MaxPlayBytes:
		return live.Errorf("ARGUMENT_OUT_OF_RANGE", "There are %d bytes: at most %d are played at a time.", total, MaxPlayBytes)
	case wait > MaxWait:
		return live.Errorf("ARGUMENT_OUT_OF_RANGE", "The pauses and the wait last %v: at most %v is accepted for all together.", wait, MaxWait)
	}
	return nil
}
