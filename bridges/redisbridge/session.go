package redisbridge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
)

const (
	// maxBatch is how many names one SUBSCRIBE carries.
	maxBatch = 512

	// The wait between two attempts to connect grows from minBackoff to
	// maxBackoff.
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
)

// request asks Redis to send a name, or to send it no more.
type request struct {
	key  key
	drop bool
	done chan struct{} // closed when Redis has answered, or will not
	err  error         // Redis refuses; readable once done is closed
}

// answer is called with the bridge's lock held; only the first answer counts.
func (r *request) answer(err error) {
	if !r.answered() {
		r.err = err
		close(r.done)
	}
}

func (r *request) answered() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

func (r *request) refused() bool { return r.answered() && r.err != nil }

func (r *request) wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// command is what one command on the connection asks for: the names of a
// SUBSCRIBE or another of its kind. Without requests it is a PING.
type command struct {
	requests []*request
	answered int  // requests that Redis has answered
	caughtUp bool // a PING behind everything that had to be subscribed again
}

// session is one connection to Redis, from log-in to loss. Redis answers the
// commands of a connection in order, so the oldest in flight is the one that
// an answer belongs to.
//
// The bridge's lock guards waiting, halves and inflight. The reading goroutine
// (Bridge.receive) and the writing one (Bridge.write) own the rest.
type session struct {
	conn      *watchedConn
	client    *redis.Client // has this one connection
	pubsub    *redis.PubSub
	publisher *redis.Client
	stop      func() bool   // forgets the context that would close conn
	news      chan struct{} // there is something to write

	waiting  []*request   // not yet written
	halves   [][]*request // batches to be tried in two parts, see refused
	inflight []command    // written, not yet answered; the oldest first
}

// ask queues a request. The caller holds the bridge's lock.
func (s *session) ask(r *request) {
	s.waiting = append(s.waiting, r)
	s.wake()
}

func (s *session) wake() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *session) close() {
	s.stop()
	_ = s.conn.Close() // first: a write that is stuck holds the PubSub's lock
	_ = s.pubsub.Close()
	_ = s.client.Close()
	_ = s.publisher.Close()
}

// run keeps a connection to Redis until ctx ends.
func (b *Bridge) run(ctx context.Context) {
	backoff, told := minBackoff, false
	for ctx.Err() == nil {
		s, err := b.dial(ctx)
		switch {
		case err == nil:
			if b.serve(ctx, s) {
				backoff = minBackoff
			}
			told = false
		default:
			b.leave()
			b.markTried()
			if !told && ctx.Err() == nil { // once per outage
				told = true
				b.cfg.Logger.Warn("Redis is away; trying again", "addr", b.opts.Addr, "err", err)
			}
		}
		select {
		case <-time.After(backoff/2 + rand.N(backoff/2)):
		case <-ctx.Done():
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// leave notes that Redis is away and lets go of everyone who waits for it;
// their first message will carry a gap.
func (b *Bridge) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = true
	b.answerHeld()
}

// answerHeld is called with the lock held.
func (b *Bridge) answerHeld() {
	for _, r := range b.held {
		r.answer(nil)
	}
}

func (b *Bridge) markTried() {
	select {
	case <-b.tried:
	default:
		close(b.tried) // by the one goroutine that connects
	}
}

// serve runs a connection until it is lost and reports whether everything that
// was to be subscribed had been.
func (b *Bridge) serve(ctx context.Context, s *session) (whole bool) {
	b.begin(s)
	b.markTried()
	over := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() { b.write(ctx, s, over) })

	err := b.receive(ctx, s)

	whole = b.end(s)
	close(over)
	s.close() // also ends a write that is stuck
	writer.Wait()
	if ctx.Err() == nil {
		b.cfg.Logger.Warn("lost the connection to Redis; connecting again", "addr", b.opts.Addr, "err", err)
	}
	return whole
}

// begin makes a new connection the one that is used, asks it for everything
// that is held, and marks the gap before its first message. Whoever subscribes
// from now on waits for this connection's answer; whoever was told earlier
// that Redis is away is in the hub already, and so gets the mark.
func (b *Bridge) begin(s *session) {
	b.mu.Lock()
	b.session = s
	for k, r := range b.held {
		if r.answered() {
			r = &request{key: k, done: make(chan struct{})}
			b.held[k] = r
		}
		s.ask(r)
	}
	outage, gap := b.away, live.Gap{Reason: live.GapOutage, LastGood: b.whole}
	b.away = false
	b.mu.Unlock()
	if outage {
		b.hub.Mark(gap)
	}
}

// end takes a lost connection out of use. Until then its requests were in
// held, or were to drop a name, which a lost connection does as well.
func (b *Bridge) end(s *session) (whole bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.session, b.away = nil, true
	b.answerHeld()
	unanswered := append([][]*request{s.waiting}, s.halves...)
	for _, c := range s.inflight {
		unanswered = append(unanswered, c.requests)
	}
	for _, requests := range unanswered {
		for _, r := range requests {
			r.answer(nil)
		}
	}
	if b.status.State != bridges.Connected {
		return false
	}
	b.whole = s.conn.lastHeard()
	b.setState(bridges.Connecting)
	return true
}

// write sends requests and PINGs until over is closed or the connection fails.
func (b *Bridge) write(ctx context.Context, s *session, over <-chan struct{}) {
	ping := time.NewTicker(b.cfg.PingEvery)
	defer ping.Stop()
	err := b.send(ctx, s, b.take(s, true))
	if err == nil {
		err = b.ping(ctx, s, command{caughtUp: true})
	}
	for err == nil {
		select {
		case <-s.news:
			err = b.send(ctx, s, b.take(s, false))
		case <-ping.C:
			err = b.ping(ctx, s, command{})
		case <-over:
			return
		}
	}
	_ = s.conn.Close() // the reader says that the connection is lost
}

// take moves what waits to be written into flight. Like Nagle's algorithm it
// sends at once when nothing is in flight, and otherwise collects until a
// batch is full or an answer comes: many who subscribe at the same time then
// need few commands, and one alone waits for nobody.
func (b *Bridge) take(s *session, all bool) (commands []command) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.session != s { // lost meanwhile
		return nil
	}
	for _, requests := range s.halves {
		if c := (command{requests: b.wanted(requests)}); len(c.requests) > 0 {
			commands = append(commands, c)
		}
	}
	s.halves = nil
	if all || len(s.inflight) == 0 || len(s.waiting) >= maxBatch {
		for len(s.waiting) > 0 {
			n := alike(s.waiting)
			commands = append(commands, command{requests: s.waiting[:n:n]})
			s.waiting = s.waiting[n:]
		}
		s.waiting = nil
	}
	s.inflight = append(s.inflight, commands...)
	return commands
}

// alike counts the requests at the front that fit into one command.
func alike(requests []*request) int {
	first := requests[0]
	for n, r := range requests {
		if n == maxBatch || r.drop != first.drop || r.key.pattern != first.key.pattern {
			return n
		}
	}
	return len(requests)
}

// wanted leaves out names that were given up since they were asked for. Their
// UNSUBSCRIBE may be on its way already and must stay the last word.
func (b *Bridge) wanted(requests []*request) []*request {
	var kept []*request
	for _, r := range requests {
		if b.held[r.key] == r {
			kept = append(kept, r)
		} else {
			r.answer(nil)
		}
	}
	return kept
}

func (b *Bridge) send(ctx context.Context, s *session, commands []command) error {
	for _, c := range commands {
		names := make([]string, len(c.requests))
		for i, r := range c.requests {
			names[i] = r.key.name
		}
		var err error
		switch first := c.requests[0]; {
		case first.drop && first.key.pattern:
			err = s.pubsub.PUnsubscribe(ctx, names...)
		case first.drop:
			err = s.pubsub.Unsubscribe(ctx, names...)
		case first.key.pattern:
			err = s.pubsub.PSubscribe(ctx, names...)
		default:
			err = s.pubsub.Subscribe(ctx, names...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *Bridge) ping(ctx context.Context, s *session, c command) error {
	b.mu.Lock()
	s.inflight = append(s.inflight, c)
	b.mu.Unlock()
	return s.pubsub.Ping(ctx)
}

// receive reads the connection until it is lost.
func (b *Bridge) receive(ctx context.Context, s *session) error {
	for {
		reply, err := s.pubsub.Receive(ctx)
		if err != nil && !isReply(err) {
			return err
		}
		switch reply := reply.(type) {
		case *redis.Message:
			b.deliver(reply)
			continue
		case *redis.Subscription:
			err = b.confirm(s, reply.Channel)
		case *redis.Pong:
			err = b.pong(s)
		default:
			err = b.refused(s, err)
		}
		if err != nil {
			return err
		}
	}
}

func (b *Bridge) deliver(m *redis.Message) {
	k := key{name: m.Channel}
	if m.Pattern != "" {
		k = key{name: m.Pattern, pattern: true}
	}
	b.hub.Publish(k, live.Event[*bridges.Message]{Value: &bridges.Message{
		Topic:      m.Channel,
		Pattern:    m.Pattern,
		Payload:    []byte(m.Payload),
		ReceivedAt: time.Now(),
	}})
}

// errOutOfStep ends a connection whose answers are not those that were due. A
// new connection starts afresh.
var errOutOfStep = errors.New("redisbridge: Redis answered something that was not asked")

// confirm notes Redis's answer to one name of the oldest command.
func (b *Bridge) confirm(s *session, channel string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(s.inflight) == 0 || len(s.inflight[0].requests) == 0 {
		return errOutOfStep
	}
	c := &s.inflight[0]
	r := c.requests[c.answered]
	if r.key.name != channel {
		return errOutOfStep
	}
	r.answer(nil)
	c.answered++
	if c.answered == len(c.requests) {
		s.settle()
	}
	return nil
}

// pong notes the answer to a PING.
func (b *Bridge) pong(s *session) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(s.inflight) == 0 || len(s.inflight[0].requests) > 0 {
		return errOutOfStep
	}
	if s.inflight[0].caughtUp {
		b.setState(bridges.Connected)
		b.cfg.Logger.Info("connected to Redis", "addr", b.opts.Addr, "subscriptions", len(b.held))
	}
	s.settle()
	return nil
}

// refused notes an error as the answer to the oldest command. Redis refuses a
// SUBSCRIBE as a whole when one of its names is forbidden, without saying
// which: the two halves are then tried on their own.
func (b *Bridge) refused(s *session, reply error) error {
	b.mu.Lock()
	if len(s.inflight) == 0 {
		b.mu.Unlock()
		return fmt.Errorf("%w: %w", errOutOfStep, reply)
	}
	c := s.inflight[0]
	if len(c.requests) == 0 { // even so, Redis is there
		b.mu.Unlock()
		return b.pong(s)
	}
	requests := c.requests[c.answered:]
	var ended []*request
	switch half := len(requests) / 2; {
	case requests[0].drop:
		for _, r := range requests {
			r.answer(nil)
		}
	case half > 0:
		s.halves = append(s.halves, requests[:half], requests[half:])
	default:
		requests[0].answer(refusal("to subscribe to "+name(requests[0].key), reply))
		ended = requests
	}
	s.settle()
	s.wake()
	b.mu.Unlock()
	for _, r := range ended {
		b.cfg.Logger.Warn("Redis refuses a subscription", "name", r.key.name, "pattern", r.key.pattern, "err", reply)
		b.hub.End(r.key, r.err) // those who had subscribed before a reconnection
	}
	return nil
}

// settle takes the oldest command out of flight. The caller holds the lock.
func (s *session) settle() {
	s.inflight[0] = command{}
	s.inflight = s.inflight[1:]
	if len(s.inflight) == 0 {
		s.inflight = nil
		s.wake()
	}
}

// isReply tells an error that Redis sent from one of the connection.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

func name(k key) string {
	if k.pattern {
		return fmt.Sprintf("pattern %q", k.name)
	}
	return fmt.Sprintf("channel %q", k.name)
}

func refusal(what string, reply error) error {
	return &live.Error{
		Code:    bridges.CodeTopicRefused,
		Message: fmt.Sprintf("Redis does not allow this gateway %s.", what),
		Cause:   reply,
	}
}
