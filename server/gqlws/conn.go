package gqlws

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/99designs/gqlgen/graphql"
	"github.com/gorilla/websocket"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// conn is one socket. serve reads it and owns it: when serve returns, every
// goroutine of the connection has ended.
type conn struct {
	t        *Transport
	ws       *websocket.Conn // reads
	socket   net.Conn        // written to
	exec     graphql.GraphExecutor
	protocol protocol
	header   http.Header // nil: forgotten
	out      outbox
	direct   *directWriter  // nil: every write is left to the flush
	work     sync.WaitGroup // flush, operations with a goroutine
	initWait *time.Timer    // nil: it is over
	release  func()         // gives back the place that Config.Admit took
	pace     bucket         // of operations
	flood    bucket         // of messages
	pinged   time.Time      // by the keeper alone

	// ctx is the parent of every operation's. serve's goroutine replaces it
	// once, when Config.Init accepts, before there is any operation.
	ctx    context.Context
	cancel context.CancelFunc
	life   context.Context // its end is the socket's; nil: it has none

	mu    sync.Mutex
	ops   []*operation // active; most clients have few
	acked atomic.Bool
	ended bool      // no new operations
	until time.Time // our Close is to be answered by then; zero: we have not closed
}

// floodFactor is how many messages of any kind a socket may send for each
// operation that it may start.
const floodFactor = 10

// closeWait is how long a client may take to answer a Close frame.
const closeWait = time.Second

func newConn(t *Transport, ws *websocket.Conn, exec graphql.GraphExecutor, r *http.Request, token string) *conn {
	// The operations outlive the request that opened the socket.
	parent, header := context.WithoutCancel(r.Context()), r.Header
	if t.cfg.Context != nil {
		parent, header = t.cfg.Context(r), nil
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	wire := ws.NetConn().(*wire)
	wire.open = true
	c := &conn{
		t: t, ws: ws, socket: wire.Conn, exec: exec, header: header, protocol: newProtocol(token),
		ctx: ctx, cancel: cancel, pinged: time.Now(),
	}
	if parent.Done() != nil {
		c.life = parent
	}
	c.direct = newDirectWriter(c.socket)
	c.out.limit, c.out.work = t.cfg.QueueBytes, &c.work
	return c
}

// serve reads the socket until it ends and cleans up.
func (c *conn) serve() {
	defer c.t.remove(c)
	if c.life != nil {
		defer context.AfterFunc(c.life, c.leave)()
	}
	c.initWait = time.AfterFunc(c.t.cfg.InitWait, func() {
		if !c.acked.Load() {
			c.close(InitTimeout)
		}
	})
	c.ws.SetReadLimit(c.t.cfg.MessageBytes)
	c.ws.SetPingHandler(func(payload string) error {
		c.alive()
		if c.tame() {
			c.flushIf(c.out.answer(payload))
		}
		return nil
	})
	c.ws.SetPongHandler(func(string) error {
		c.alive()
		c.tame()
		return nil
	})
	c.ws.SetCloseHandler(func(code int, _ string) error {
		// "When sending a Close frame in response, the endpoint typically
		// echos the status code it received" (RFC 6455, section 5.5.1)
		c.seal(closePayload(code, ""), true) // it does not wait for what it has not read
		return nil
	})
	c.alive()
	err := c.read()

	c.initialised()
	c.endOperations()
	if !c.out.isSealed() || isTimeout(err) { // the socket broke, or the client is too slow for our Close
		c.out.abandon()
	}
	c.work.Wait()
	c.hangUp()
}

// hangUp closes TCP in a way that lets the client read our last frame: a socket
// closed with unread bytes in it is reset, and a reset throws that frame away.
func (c *conn) hangUp() {
	defer c.socket.Close()
	if half, ok := c.socket.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = c.socket.SetReadDeadline(time.Now().Add(closeWait))
		_, _ = io.CopyN(io.Discard, c.socket, c.t.cfg.MessageBytes)
	}
}

func (c *conn) read() error {
	for {
		kind, message, err := c.ws.NextReader()
		if err == nil {
			err = c.receive(kind, message)
		}
		if err != nil {
			c.unreadable(err)
			return err
		}
	}
}

// messages are buffers for what is read: nothing of a message is kept.
var messages = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// receive reads a message that has begun, and does what it leads to. An error is
// one of reading.
func (c *conn) receive(kind int, message io.Reader) error {
	buf := messages.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= batchBytes { // else it is for the garbage collector
			buf.Reset()
			messages.Put(buf)
		}
	}()
	if _, err := buf.ReadFrom(message); err != nil {
		return err
	}
	c.alive()
	switch {
	case c.isEnded(): // our Close frame is on its way; only the client's counts now
	case !c.tame(): // nothing more is handled
	case kind != websocket.TextMessage:
		c.close(NotText)
	case !utf8.Valid(buf.Bytes()):
		c.close(InvalidUTF8)
	default:
		c.apart(func() { c.handle(c.protocol.step(buf.Bytes(), c.active)) })
	}
	return nil
}

// unreadable ends a socket that cannot be read on, if the client is to blame.
func (c *conn) unreadable(err error) {
	switch verdict := c.ws.NetConn().(*wire).verdict; {
	case errors.Is(err, websocket.ErrReadLimit):
		c.close(TooLarge)
	case len(verdict) > 2: // a code, and gorilla's words
		c.close(*ProtocolError.because(ProtocolError.Reason + ": " + string(verdict[2:])))
	case isTimeout(err):
		c.givenUp("PONG_TIMEOUT")
	}
}

// givenUp counts a socket that is dropped, unless what closed it has been
// counted.
func (c *conn) givenUp(code string) {
	if !c.out.isSealed() {
		c.t.cfg.Refused(code)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// apart runs f on a stack that is given back when f returns. What a message
// leads to needs four times the stack of waiting for one, and a goroutine that
// has grown its stack keeps it while it waits.
func (c *conn) apart(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer c.rescue()
		f()
	}()
	<-done
}

// tame counts a message or a control frame, and closes the socket of a client
// that floods.
func (c *conn) tame() bool {
	if c.flood.take(c.t.age(), floodFactor*c.t.cfg.OperationsPerSecond, floodFactor*c.t.cfg.OperationsBurst) {
		return true
	}
	c.close(Flooding)
	return false
}

// alive moves the deadline by which something must be heard of the client.
func (c *conn) alive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until.IsZero() {
		_ = c.ws.SetReadDeadline(time.Now().Add(c.t.cfg.PingEvery + c.t.cfg.PongWithin))
	}
}

// answerWithin bounds the wait for the client's Close. An earlier bound stays.
func (c *conn) answerWithin(wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if until := time.Now().Add(wait); c.until.IsZero() || until.Before(c.until) {
		c.until = until
		_ = c.ws.SetReadDeadline(until)
	}
}

// handle does what a step says.
func (c *conn) handle(s step) {
	if s.init && !c.initialise(s.payload) {
		return
	}
	if s.stop != "" && !c.stop(s.stop) {
		s.send = nil // it has ended by itself meanwhile, and said so
	}
	if s.start != nil {
		c.start(s.id, s.start)
	}
	if s.send != nil {
		c.send(s.send)
	}
	if s.end != nil {
		c.close(*s.end)
	}
}

// rescue ends the socket after a panic in what a message led to: in Config.Init,
// in the validator, in an extension. Others go on.
func (c *conn) rescue() {
	if p := recover(); p != nil {
		c.t.cfg.Logger.Error("panic while handling a message", "panic", p, "stack", string(debug.Stack()))
		c.close(Internal)
	}
}

func (c *conn) initialise(payload json.RawMessage) bool {
	ctx, ack, err := c.t.cfg.Init(c.ctx, bytes.Clone(payload)) // it may keep that
	if err != nil {
		if refusal := c.protocol.refuse(err.Error()); refusal != nil {
			c.send(refusal)
		}
		c.close(*Forbidden.because(err.Error()))
		return false
	}
	c.ctx = ctx
	c.acked.Store(true)
	c.initialised()
	for _, m := range c.protocol.acknowledge(ack) {
		c.send(m)
	}
	return true
}

// initialised ends the wait for connection_init.
func (c *conn) initialised() {
	if c.initWait != nil {
		c.initWait.Stop()
		c.initWait = nil
	}
}

func (c *conn) active(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find(id) >= 0
}

// find returns the place of an operation in ops, or -1. The caller holds mu.
func (c *conn) find(id string) int {
	return slices.IndexFunc(c.ops, func(op *operation) bool { return op.id == id })
}

// take removes an operation from ops; false means that it was stopped, or
// replaced. The caller holds mu.
func (c *conn) take(op *operation) bool {
	i := slices.Index(c.ops, op)
	if i >= 0 {
		c.ops = slices.Delete(c.ops, i, i+1)
	}
	return i >= 0
}

func (c *conn) isEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// start takes an operation on.
func (c *conn) start(id string, params *graphql.RawParams) {
	switch {
	case !c.pace.take(c.t.age(), c.t.cfg.OperationsPerSecond, c.t.cfg.OperationsBurst):
		c.refuse(id, "RATE_LIMITED", "This connection starts more than %d operations a second: wait a moment.", c.t.cfg.OperationsPerSecond)
		return
	case c.operations() >= c.t.cfg.Operations:
		c.refuse(id, "TOO_MANY_SUBSCRIPTIONS", "This connection has %d active operations, which is the most it may have: complete one, or open another connection.", c.t.cfg.Operations)
		return
	}
	asked, err := ParseAsked(params.Extensions)
	if err != nil {
		c.refuse(id, "BAD_REQUEST", "%s.", err)
		return
	}
	op := &operation{conn: c, id: id, head: c.protocol.resultHead(id), asked: asked}
	c.mu.Lock()
	ended := c.ended
	if !ended {
		c.ops = append(c.ops, op)
	}
	c.mu.Unlock()
	if !ended {
		c.open(c.ctx, op, params)
	}
}

// open validates an operation and finds what its results come from, which opens
// on a goroutine of its own: it may wait for a broker.
func (c *conn) open(ctx context.Context, op *operation, params *graphql.RawParams) {
	params.Headers = c.header
	params.ReadTime = graphql.TraceTiming{Start: graphql.Now(), End: graphql.Now()}
	ctx = graphql.StartOperationTrace(ctx)
	opCtx, errs := c.exec.CreateOperationContext(ctx, params)
	ctx = graphql.WithOperationContext(ctx, opCtx)
	if errs != nil {
		c.finish(op, c.protocol.failure(op.id, c.exec.DispatchError(ctx, errs).Errors))
		return
	}
	if op.silenced.Load() || c.isEnded() { // over before it began
		return
	}
	op.policy = overflowOf(opCtx)
	leave, errs := c.t.enter(ctx, c.exec, opCtx)
	if errs != nil {
		c.finish(op, c.protocol.ending(op.id, errs)...)
		return
	}
	c.mu.Lock()
	over := !slices.Contains(c.ops, op)
	if !over {
		op.leave = leave
	}
	c.mu.Unlock()
	if over { // ended before it could leave
		if leave != nil {
			leave()
		}
		return
	}
	source, refusal := c.t.subscribe(ctx, c.exec, opCtx, op, &c.work)
	if refusal != nil {
		c.t.cfg.Refused(refusal.Extensions["code"].(string))
		c.finish(op, c.protocol.failure(op.id, gqlerror.List{refusal}))
		return
	}
	c.mu.Lock()
	op.source = source
	over = !slices.Contains(c.ops, op)
	c.mu.Unlock()
	if over { // ended before there was a source to stop
		source.stop()
	}
}

// operations says how many are active.
func (c *conn) operations() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ops)
}

// refuse ends an operation before it begins.
func (c *conn) refuse(id, code, format string, args ...any) {
	c.t.cfg.Refused(code)
	c.send(c.protocol.failure(id, gqlerror.List{{
		Message:    fmt.Sprintf(format, args...) + " (" + code + ")",
		Extensions: map[string]any{"code": code},
	}}))
}

// stop ends an operation that the client no longer wants: nothing more is sent
// for it, not even what is queued. It reports whether there was one.
func (c *conn) stop(id string) bool {
	c.mu.Lock()
	i := c.find(id)
	if i < 0 {
		c.mu.Unlock()
		return false
	}
	op := c.ops[i]
	c.take(op)
	op.silenced.Store(true)
	source, leave := op.source, op.leave
	c.mu.Unlock()
	if source != nil { // else open stops it
		source.stop()
	}
	if leave != nil {
		leave()
	}
	return true
}

// finish ends an operation by the server's own last messages. The id is free the
// moment they are queued, so a client that reuses it gets its frames after.
func (c *conn) finish(op *operation, last ...[]byte) {
	c.mu.Lock()
	if !c.take(op) {
		c.mu.Unlock()
		return
	}
	results := make([]offered, 0, 2)
	for _, m := range last {
		results = append(results, c.out.offer(frame{op: op, head: m}))
	}
	leave := op.leave
	c.mu.Unlock()
	if leave != nil {
		leave()
	}
	for _, result := range results {
		c.after(result)
	}
}

func (c *conn) endOperations() {
	c.mu.Lock()
	c.ended = true
	var ends []func()
	for _, op := range c.ops {
		if op.source != nil { // else open stops it
			ends = append(ends, op.source.stop)
		}
		if op.leave != nil {
			ends = append(ends, op.leave)
		}
	}
	c.ops = nil
	c.mu.Unlock()
	for _, end := range ends {
		end()
	}
	c.cancel()
}

// keepAlive is called by the keeper.
func (c *conn) keepAlive(now time.Time) {
	if now.Sub(c.pinged) < c.t.cfg.PingEvery {
		return
	}
	c.pinged = now
	if m := c.protocol.keepAlive(); m != nil && c.acked.Load() {
		c.send(m)
	}
	if _, ok := c.claim(nil); ok {
		c.writeNow(pingFrame, 0)
		return
	}
	c.flushIf(c.out.probe())
}

// deliver brings results of an operation on their way: by a write of the
// calling worker where nothing waits and the socket takes it at once, else
// through the outbox.
func (c *conn) deliver(op *operation, results []result) {
	missed, claimed := c.claim(op)
	if !claimed {
		for _, r := range results {
			c.after(c.out.offer(op.frame(r)))
		}
		return
	}
	if op.silenced.Load() { // asked here, so that nothing overtakes the answer to a later message
		c.flushIf(c.out.release(nil))
		return
	}
	buf := batches.Get().(*[]byte)
	defer batches.Put(buf)
	batch := (*buf)[:0]
	for _, r := range results {
		if missed > 0 {
			r, missed = r.missing(missed), 0
		}
		batch = op.append(batch, r)
	}
	if cap(batch) <= 4*batchBytes { // it grew for a burst: others may use it, unless it is huge
		*buf = batch
	}
	c.writeNow(batch, len(results))
}

// send brings a message of the connection on its way, as deliver does results.
func (c *conn) send(message []byte) {
	f := frame{head: message}
	if _, ok := c.claim(nil); ok {
		c.writeNow(f.append(make([]byte, 0, maxFrameHeader+len(message))), 1)
		return
	}
	c.after(c.out.offer(f))
}

// claim takes the socket for a write of the caller, if nothing waits and it can
// be written to without waiting. It ends with writeNow, or a release.
func (c *conn) claim(op *operation) (missed uint64, ok bool) {
	if c.direct == nil {
		return 0, false
	}
	return c.out.claim(op)
}

// writeNow writes what the socket takes at once of a batch of text frames. The
// rest it leaves to a flush.
func (c *conn) writeNow(batch []byte, frames int) {
	n, err := c.direct.write(batch)
	if err != nil {
		c.drop()
	}
	c.t.frames.Add(uint64(frames))
	c.t.bytes.Add(uint64(n))
	c.flushIf(c.out.release(batch[n:]))
}

// after does what became of a frame asks for. A client that has too much waiting
// is closed.
func (c *conn) after(result offered) {
	if result == full {
		c.close(SlowConsumer)
		return
	}
	c.flushIf(result)
}

// close ends the socket with a Close frame behind the frames that wait, but for
// a slow consumer, whose frames are dropped. The client's answer, or closeWait,
// ends serve.
func (c *conn) close(e Ending) {
	e = c.t.cfg.Explain(e)
	slow := e.Code == SlowConsumer.Code
	if !c.seal(closePayload(e.Code, e.Reason), slow) {
		return
	}
	if e.Code != Normal.Code && e.Code != ServiceRestart.Code {
		c.t.cfg.Refused(strconv.Itoa(e.Code))
	}
	if slow {
		c.t.cfg.Logger.Info("slow consumer closed", "remote", c.ws.RemoteAddr().String(), "queue", c.t.cfg.QueueBytes)
	}
	c.endOperations()
	c.answerWithin(c.t.cfg.WriteDeadline + closeWait)
}

// drop ends the socket without a Close frame.
func (c *conn) drop() { _ = c.socket.Close() }

func (c *conn) seal(payload []byte, discard bool) bool {
	result := c.out.seal(payload, discard)
	c.flushIf(result)
	return result != late
}

func closePayload(code int, reason string) []byte {
	if code == websocket.CloseNoStatusReceived {
		return nil
	}
	return websocket.FormatCloseMessage(code, reason)
}

func (c *conn) flushIf(result offered) {
	if result == starting {
		go c.flush()
	}
}

// batchBytes is about how much one write carries.
const batchBytes = 64 << 10

// batches are buffers for flush: several frames, one write.
var batches = sync.Pool{New: func() any {
	b := make([]byte, 0, batchBytes)
	return &b
}}

// flush writes until nothing waits. Only one runs at a time.
func (c *conn) flush() {
	defer c.work.Done()
	buf := batches.Get().(*[]byte)
	defer batches.Put(buf)
	for {
		batch, frames, last := c.out.take(*buf)
		c.out.tellRoom()
		if len(batch) == 0 {
			return
		}
		c.t.frames.Add(uint64(frames))
		c.t.bytes.Add(uint64(len(batch)))
		if err := c.write(batch); err != nil {
			if isTimeout(err) {
				c.givenUp("WRITE_TIMEOUT")
			}
			c.drop() // the reader notices, and ends everything
			return
		}
		if last {
			c.answerWithin(closeWait)
			return
		}
	}
}

func (c *conn) write(batch []byte) error {
	if err := c.socket.SetWriteDeadline(time.Now().Add(c.t.cfg.WriteDeadline)); err != nil {
		return err
	}
	_, err := c.socket.Write(batch)
	_ = c.socket.SetWriteDeadline(time.Time{}) // once it has passed, directWriter could not write any more
	return err
}
