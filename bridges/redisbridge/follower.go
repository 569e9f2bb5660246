package redisbridge

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/internal/live"
)

const (
	// blockFor is how long one XREAD waits for entries.
	blockFor = time.Second
	// gather is how long streams that are new to the follower are gathered
	// before an XREAD that waits without them is cut short.
	gather = 5 * time.Millisecond
)

// follower learns which streams have grown, however many they are, by one
// connection on which an XREAD waits for all of them. It takes no entries from
// it: live.Tail reads them once it was told.
//
// A connection that waits takes no other command. When streams have joined, the
// follower hangs up and waits for all of them on a new connection: that takes
// no right to CLIENT UNBLOCK, and works with any server. Streams that have left
// are left out of the next XREAD. A stream that is deleted and made anew with
// smaller ids than it had grows unnoticed until its readers come anew.
type follower struct {
	bridge *Bridge
	grown  func(stream string) // live.Tail.Grown
	news   chan struct{}       // there is a stream

	mu      sync.Mutex
	streams map[string]*followed
	changed bool        // a stream has joined since XREAD was sent
	soon    *time.Timer // cuts the XREAD short; nil: no stream has joined yet
	conn    net.Conn    // on which XREAD waits; nil: none
	cut     bool        // conn was closed because of changed
}

// followed is a stream that has readers near its head.
type followed struct {
	asked   bool          // head is known, or it is refused
	refused bool          // its readers are told by live.Tail
	head    live.Position // grown was called for all up to here
	read    live.Position // of the newest entry that was read
}

func newFollower(b *Bridge) *follower {
	return &follower{bridge: b, news: make(chan struct{}, 1), streams: make(map[string]*followed)}
}

// follow implements live.TailConfig.Follow.
func (f *follower) follow(stream string) (stop func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.streams[stream] = new(followed)
	if !f.changed {
		f.changed = true
		if f.soon == nil {
			f.soon = time.AfterFunc(gather, f.cutShort)
		} else {
			f.soon.Reset(gather)
		}
	}
	select {
	case f.news <- struct{}{}:
	default:
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.streams, stream)
	}
}

// cutShort ends an XREAD that leaves out a stream. Without a connection there is
// none, and the next one leaves out nothing.
func (f *follower) cutShort() {
	f.mu.Lock()
	if f.conn == nil || !f.changed {
		f.mu.Unlock()
		return
	}
	conn := f.conn
	f.conn, f.cut = nil, true
	f.mu.Unlock()
	_ = conn.Close() // with TLS this may wait
}

// saw notes up to where a stream was read.
func (f *follower) saw(stream string, through live.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.streams[stream]; s != nil && through.Compare(s.read) > 0 {
		s.read = through
	}
}

// names lists the streams that are followed.
func (f *follower) names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := make([]string, 0, len(f.streams))
	for name := range f.streams {
		names = append(names, name)
	}
	return names
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) {
	defer f.close()
	backoff := minBackoff
	for ctx.Err() == nil {
		if len(f.names()) == 0 {
			f.idle(ctx)
			continue
		}
		err := f.serve(ctx, &backoff)
		if f.wasCut() || err == nil || ctx.Err() != nil {
			continue
		}
		f.bridge.cfg.Logger.Debug("following streams", "addr", f.bridge.opts.Addr, "err", err)
		f.forget()
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// idle waits for a stream to join.
func (f *follower) idle(ctx context.Context) {
	select {
	case <-f.news:
	case <-ctx.Done():
	}
}

func (f *follower) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.soon != nil {
		f.soon.Stop()
	}
}

// forget has the follower look at every stream afresh: the server may be
// another.
func (f *follower) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.streams {
		s.asked = false
	}
}

// wasCut reports whether the connection was ended for the sake of a stream that
// has joined.
func (f *follower) wasCut() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	cut := f.cut
	f.cut, f.conn = false, nil
	return cut
}

// serve follows on one connection until that is lost, or no stream is left.
func (f *follower) serve(ctx context.Context, backoff *time.Duration) error {
	conn, err := f.bridge.opts.Dialer(ctx, f.bridge.opts.Network, f.bridge.opts.Addr)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	opts := *f.bridge.opts
	opts.ReadTimeout = blockFor + f.bridge.cfg.PongWithin
	opts.Dialer = once(conn)
	client := redis.NewClient(&opts)
	defer client.Close()
	defer conn.Close()
	f.mu.Lock()
	f.conn = conn
	f.mu.Unlock()
	for ctx.Err() == nil {
		unknown, known := f.next()
		if len(unknown) > 0 {
			if err := f.ask(ctx, client, unknown); err != nil {
				return err
			}
			continue
		}
		if len(known) == 0 {
			if len(f.names()) == 0 {
				return nil
			}
			f.idle(ctx) // all are refused; their readers are about to leave
			continue
		}
		if err := f.wait(ctx, client, known); err != nil {
			return err
		}
		*backoff = minBackoff
	}
	return ctx.Err()
}

// next lists the streams whose head is not known, and what to wait for when
// there are none.
func (f *follower) next() (unknown []string, known map[string]live.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed = false
	known = make(map[string]live.Position, len(f.streams))
	for name, s := range f.streams {
		switch {
		case !s.asked:
			unknown = append(unknown, name)
		case !s.refused:
			known[name] = s.head
		}
	}
	return unknown, known
}

// ask looks for the heads of streams.
func (f *follower) ask(ctx context.Context, client *redis.Client, streams []string) error {
	pipe := client.Pipeline()
	type answer struct{ about, oldest *redis.Cmd }
	answers := make([]answer, len(streams))
	for i, stream := range streams {
		answers[i].about, answers[i].oldest = askInfo(ctx, pipe, stream)
	}
	_, _ = pipe.Exec(ctx) // the commands have their errors
	for i, stream := range streams {
		info, err := infoOf(stream, answers[i].about, answers[i].oldest)
		var told *live.Error
		if err != nil && !errors.As(err, &told) {
			return err
		}
		f.mu.Lock()
		if s := f.streams[stream]; s != nil {
			s.asked, s.refused, s.head = true, told != nil, info.last
		}
		f.mu.Unlock()
		f.grown(stream)
	}
	return nil
}

// wait waits until some of the streams have grown, for blockFor at most.
func (f *follower) wait(ctx context.Context, client *redis.Client, heads map[string]live.Position) error {
	args := make([]any, 0, 6+2*len(heads))
	args = append(args, "XREAD", "COUNT", 1, "BLOCK", blockFor.Milliseconds(), "STREAMS")
	ids := make([]any, 0, len(heads))
	for name, head := range heads {
		args = append(args, name)
		ids = append(ids, streamID(head))
	}
	reply, err := client.Do(ctx, append(args, ids...)...).Slice()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, item := range reply {
		parts, _ := item.([]any)
		if len(parts) != 2 {
			return errReply
		}
		stream, _ := parts[0].(string)
		events, err := parseEntries(stream, parts[1])
		if err != nil {
			return err
		}
		if len(events) == 0 {
			return errReply
		}
		f.advance(stream, events[len(events)-1].Pos)
		f.grown(stream)
	}
	return nil
}

// advance moves a head, also past what has been read in the meantime. All of
// that is told by the call of grown that follows.
func (f *follower) advance(stream string, head live.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.streams[stream]; s != nil {
		s.head = head
		if s.read.Compare(head) > 0 {
			s.head = s.read
		}
	}
}
