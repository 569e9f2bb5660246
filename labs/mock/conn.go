package mock

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/wire"
	"github.com/sluice-gateway/sluice/labs"
)

// conn is one connection. Its handler's goroutine reads, one writes what is in
// the outbox, and each rule that waits or repeats has one of its own. All end
// before serve returns.
type conn struct {
	server    *Server
	play      *play
	behaviour *behaviour
	name      string // of the path, in the script
	socket    *labs.Socket
	judge     *judge
	out       outbox

	mu      sync.Mutex // guards what follows
	rand    *rand.Rand
	vars    map[string]any
	facts   connFacts
	over    bool // it is being closed: rules have nothing more to say
	running map[*run]struct{}
	held    int // bytes of the messages that they answer
	workers sync.WaitGroup
}

// run is a rule that is being followed.
type run struct {
	ctx    context.Context
	cancel context.CancelFunc
	scope  scope // without the variables
}

// serve plays the script until the connection ends.
func (c *conn) serve(socket *labs.Socket) error {
	c.open(socket)
	writing := make(chan error, 1)
	go func() { writing <- c.write() }()
	for _, r := range c.behaviour.Rules {
		if r.On.Connect {
			c.follow(r, nil)
		}
	}
	err := c.read()
	c.stop(nil)
	c.workers.Wait()
	c.out.end()
	if failed := <-writing; failed != nil {
		err = failed
	}
	return err
}

// open takes a number and draws what is drawn for each connection.
func (c *conn) open(socket *labs.Socket) {
	c.socket = socket
	path := socket.Request().URL.Path
	c.judge = c.play.bench.admit(c.name, path, c.behaviour.Expect)
	opened := c.play.opened.Add(1)
	c.facts = connFacts{number: c.judge.number, path: path, subprotocol: socket.Subprotocol()}
	c.rand = rand.New(rand.NewPCG(c.play.seed, uint64(opened)))
	c.running = make(map[*run]struct{})
	script := c.play.script
	c.vars = make(map[string]any, len(script.root.Vars)+len(script.Draw))
	for name, v := range script.root.Vars {
		c.vars[name] = v.value
	}
	for _, name := range sortedKeys(script.Draw) {
		if d := script.Draw[name]; d.Per != "script" {
			c.vars[name] = d.from(c.rand)
		}
	}
	for name, v := range c.play.vars {
		c.vars[name] = v
	}
	c.out.init(c.server)
	c.tell(0, "opened")
}

func (c *conn) tell(line position, format string, args ...any) {
	c.server.cfg.Event(Event{At: time.Now(), Connection: c.judge.number, Path: c.socket.Request().URL.Path, Line: int(line), Text: fmt.Sprintf(format, args...)})
}

// read hears what the client says until it ends.
func (c *conn) read() error {
	for {
		kind, data, err := c.socket.Read()
		if err != nil {
			c.hears(closeMessage(err))
			c.judge.ends()
			c.tell(0, "ended: %v", closeMessage(err))
			return err
		}
		c.mu.Lock()
		c.facts.received++
		number := c.facts.received
		c.mu.Unlock()
		c.hears(&message{kind: wire.Opcode(kind), data: append([]byte(nil), data...), number: number})
	}
}

// closeMessage is the end of a connection as a message.
func closeMessage(err error) *message {
	if closed, ok := errorAs[*websocket.CloseError](err); ok && closed.Code != wire.Abnormal {
		return &message{kind: wire.Close, code: closed.Code, data: []byte(closed.Text)}
	}
	end := &message{kind: wire.Close, code: wire.Abnormal}
	if foul, ok := errorAs[*labs.Foul](err); ok {
		end.data = []byte(foul.Error())
	}
	return end
}

func (c *conn) pinged(payload []byte) { c.hears(&message{kind: wire.Ping, data: payload}) }
func (c *conn) ponged(payload []byte) { c.hears(&message{kind: wire.Pong, data: payload}) }

// hears judges what came and follows the first rule that fits.
func (c *conn) hears(m *message) {
	s := &scope{message: m}
	met := position(0)
	c.within(s, func() { met = c.judge.hears(m, s) })
	if met > 0 {
		c.tell(met, "an expectation was met by %s", where(m))
	}
	if m.kind == wire.Close || c.socket.Context().Err() != nil {
		return
	}
	var found *rule
	fail := false
	c.within(s, func() {
		if c.over {
			return
		}
		for _, r := range c.behaviour.Rules {
			if !r.On.Connect && r.On.Received.fits(m, s) && r.If.holds(s) {
				found = r
				break
			}
		}
		rate := c.server.knobs.Load().ErrorRate
		fail = found != nil && m.number > 0 && rate > 0 && c.rand.Float64() < rate
	})
	switch {
	case fail:
		c.tell(found.At, "an error instead of an answer to %s", where(m))
		c.sendText(errorText("The mock fails on purpose"))
	case found != nil:
		c.tell(found.At, "the rule fits %s", where(m))
		c.follow(found, m)
	case m.number > 0:
		c.tell(0, "nothing was done about %s", where(m))
	}
}

// within completes a scope and holds it still while it is used.
func (c *conn) within(s *scope, use func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.vars, s.conn = c.vars, c.facts
	use()
}

// follow does what a rule says: at once up to the first action that takes time,
// and from there on a goroutine of its own.
func (c *conn) follow(r *rule, m *message) {
	do := &run{scope: scope{message: m}}
	if m == nil { // a rule for connect, whose condition nobody has looked at
		holds := false
		c.within(&do.scope, func() { holds = r.If.holds(&do.scope) })
		if !holds {
			return
		}
	}
	do.ctx, do.cancel = context.WithCancel(c.socket.Context())
	at := 0
	for at < len(r.Do) && r.Do[at].Wait == nil && r.Do[at].Repeat == nil {
		c.act(do, r.Do[at])
		at++
	}
	if at == len(r.Do) {
		do.cancel()
		return
	}
	c.mu.Lock()
	size := len(m.payload())
	crowded := len(c.running) == maxRunning || c.held > 0 && c.held+size > maxHeld
	if !crowded && !c.over {
		c.running[do] = struct{}{}
		c.held += size
		c.workers.Add(1)
	}
	skip := crowded || c.over
	c.mu.Unlock()
	if skip {
		do.cancel()
		if crowded {
			c.close(websocket.CloseTryAgainLater, fmt.Sprintf("Too many rules are waiting or repeating: at most %d, for messages of %d bytes", maxRunning, maxHeld))
		}
		return
	}
	go func() {
		defer c.workers.Done()
		defer c.finish(do)
		c.perform(do, r.Do[at:])
	}()
}

func (c *conn) finish(do *run) {
	do.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, do)
	c.held -= len(do.scope.message.payload())
}

// stop ends every rule that is waiting or repeating, but for one.
func (c *conn) stop(but *run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for do := range c.running {
		if do != but {
			do.cancel()
		}
	}
}

// perform does one action after the other, and stops when the run is cancelled.
func (c *conn) perform(do *run, list []*action) {
	for _, a := range list {
		if do.ctx.Err() != nil {
			return
		}
		switch {
		case a.Wait != nil:
			pause(do.ctx, c.drawn(a.Wait))
		case a.Repeat != nil:
			for round := 1; (a.Repeat.Times == 0 || round <= a.Repeat.Times) && do.ctx.Err() == nil; round++ {
				if round > 1 {
					if pause(do.ctx, time.Duration(*a.Repeat.Every)); do.ctx.Err() != nil {
						return
					}
				}
				do.scope.round = round
				c.perform(do, a.Repeat.Do)
			}
			do.scope.round = 0
		default:
			c.act(do, a)
		}
	}
}

// drawn is how long to wait.
func (c *conn) drawn(w *wait) time.Duration {
	from := time.Duration(*w.From)
	if w.To == nil {
		return from
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return from + time.Duration(c.rand.Int64N(int64(time.Duration(*w.To)-from)+1))
}

// pause waits; the context's end cuts it short.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// act does an action that takes no time.
func (c *conn) act(do *run, a *action) {
	s := &do.scope
	var text string
	var data []byte
	reason := func(t *template) { c.within(s, func() { text = t.text(s) }) }
	switch {
	case a.Send != nil:
		c.send(s, a.Send)
	case a.Echo:
		if m := s.message; m.kind == wire.Text {
			c.sendText(m.data)
		} else { // the payload of a ping need not be text
			c.enqueue(1, m.data, func() error { return c.socket.Write(websocket.BinaryMessage, m.data) })
		}
	case a.Error != nil:
		reason(a.Error)
		c.sendText(errorText(text))
	case a.Ping != nil:
		reason(a.Ping)
		data = control(text)
		c.enqueue(0, data, func() error { return c.socket.Ping(data) })
	case a.Pong != nil:
		reason(a.Pong)
		data = wire.NewFrame(true, wire.Pong, control(text)).Append(nil)
		c.enqueue(0, data, func() error { return c.socket.WriteRaw(data) })
	case a.Close != nil:
		reason(a.Close.Reason)
		c.close(a.Close.Code, text)
	case a.Cut:
		c.end(c.socket.Cut)
	case a.Raw != nil:
		c.within(s, func() { data = a.Raw.bytes(s, c.rand) })
		c.enqueue(0, data, func() error { return c.socket.WriteRaw(data) })
	case a.Set != nil:
		c.set(s, a.Set)
	case a.Stop:
		c.stop(do)
	}
}

// set gives variables their values, all from what was before. Lists and objects
// become JSON, so that a variable cannot grow by holding itself.
func (c *conn) set(s *scope, values map[string]value) {
	c.within(s, func() {
		changed := make(map[string]any, len(values))
		for name, v := range values {
			now := v.now(s)
			switch now.(type) {
			case string, []any, map[string]any:
				text := render(now)
				now = text[:min(len(text), maxVariable)]
			}
			changed[name] = now
		}
		for name, v := range changed {
			c.vars[name] = v
		}
	})
}

func errorText(message string) []byte {
	return append(appendJSON([]byte(`{"type":"error","message":`), message), '}')
}

// control cuts the payload of a control frame (RFC 6455, section 5.5).
func control(text string) []byte { return []byte(text[:min(len(text), 125)]) }

// send sends a message.
func (c *conn) send(s *scope, p *payload) {
	kind := websocket.TextMessage
	var data []byte
	c.within(s, func() {
		switch {
		case p.JSON != nil:
			data = p.JSON.text(s)
		case p.Binary != nil:
			kind, data = websocket.BinaryMessage, p.Binary.bytes(s, c.rand)
		default:
			data = []byte(p.Text.text(s))
		}
	})
	if p.Fragments < 2 {
		c.enqueue(1, data, func() error { return c.socket.Write(kind, data) })
		return
	}
	parts := make([][]byte, p.Fragments)
	for i := range parts {
		parts[i] = data[i*len(data)/len(parts) : (i+1)*len(data)/len(parts)]
	}
	c.enqueue(1, data, func() error { return c.socket.WriteFragments(kind, parts...) })
}

func (c *conn) sendText(data []byte) {
	c.enqueue(1, data, func() error { return c.socket.Write(websocket.TextMessage, data) })
}

// enqueue has something written when its turn comes. messages counts it.
func (c *conn) enqueue(messages int, data []byte, write func() error) {
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		return
	}
	c.facts.sent += messages
	c.mu.Unlock()
	if c.out.put(len(data), write) {
		return
	}
	if c.server.knobs.Load().Overflow == Drop {
		c.play.dropped.Add(1)
		c.tell(0, "dropped %d bytes: the client reads too slowly", len(data))
		return
	}
	c.tell(0, "cut: the client reads too slowly")
	c.finishWith(func() { _ = c.socket.Cut() }) // at once: nothing before it gets through
}

func (c *conn) close(code int, reason string) {
	c.end(func() error { return c.socket.Close(code, reason) })
}

// end writes the last thing of the connection when its turn comes.
func (c *conn) end(write func() error) { c.finishWith(func() { c.out.last(write) }) }

// finishWith ends all rules and then the connection, once.
func (c *conn) finishWith(last func()) {
	c.mu.Lock()
	over := c.over
	c.over = true
	c.mu.Unlock()
	if !over {
		c.stop(nil)
		last()
	}
}

// write writes what is in the outbox until it ends. When a write fails, it cuts
// the connection, so that the reader hears of it.
func (c *conn) write() error {
	for {
		write := c.out.next(c.socket.Context())
		if write == nil {
			return nil
		}
		if err := write(); err != nil {
			_ = c.socket.Cut()
			return err
		}
	}
}
