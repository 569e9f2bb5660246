// Package redispresence is the presence of gateways that share a Redis.
//
// What is in Redis: a hash per room, sluice:presence:<room>, of
// <instance>/<member> to the member as JSON; a sorted set of the instances by
// when they expire, by the server's clock, sluice:presence-instances; and for
// each instance the set of the rooms that it has members in. An instance is a
// gateway from connecting to Redis until it loses it. It renews itself every
// 2 s and expires after 5 s. Whoever finds one that has expired takes its
// members out, so they are gone 10 s after a kill -9 at the latest. A gateway
// that reconnects is a new instance: it writes all its members and takes its
// former instance out. This one rule mends a lost connection, a Redis that lost
// everything, and a gateway that was taken for dead. All keys expire by
// themselves, within 20 minutes after the last gateway.
//
// Whoever changed a room tells so on the channel sluice:presence, as
// <instance>/<room>. Gateways that watch or list the room then read its hash and
// tell their subscribers the difference (presence.Local). Reading rests for four
// times as long as it took, at most 200 ms, so that a busy room is read less
// often and not all the time. At each beat rooms are read without need, up to
// 500, which makes up for a message that was missed.
//
// While Redis is away, members enter, type and leave as ever and their own
// gateway tells so; they are written once it is back. List then answers
// UPSTREAM_UNAVAILABLE. A Watch keeps those who were at other gateways, and for
// 5 s after Redis is back also those of a gateway that has nobody in the room
// any more, because it may be about to write them: a restart of Redis does not
// look as if everybody had left.
//
// Bounds: a gateway writes the first presence.MaxMembers of its own members of
// a room, so that a hash has that many per gateway at most. A change is written
// once; changes of a room that come while Redis is being written to are written
// together.
//
// Goroutines: one that writes and reads, one that listens for messages, and
// that of the Local. Close waits for them, at most 5 s if Redis does not
// answer.
//
// Redis must be version 5 or newer, not a cluster, and allow EVAL.
package redispresence

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/presence"
	"github.com/sluice-gateway/sluice/internal/redisclient"
)

const (
	commandTimeout = 2 * time.Second
	listWithin     = 3 * time.Second

	// The wait between two attempts to connect grows from minBackoff to
	// maxBackoff.
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
)

// Config is what a Directory needs. Zero fields take the defaults in brackets.
type Config struct {
	// URL of the server: redis://user:password@host:port/db, rediss:// for
	// TLS, unix:///path/to/socket [redis://localhost:6379].
	URL    string
	Logger *slog.Logger // [discards]
	// Keep is how long the keys of rooms outlive the last gateway. What is
	// older than half of it is written again, so at least 10 s [10 min].
	Keep time.Duration
}

// Directory is the presence of one of several gateways. Make it with New.
type Directory struct {
	local  *presence.Local
	client *redis.Client
	log    *slog.Logger
	keep   time.Duration
	cancel context.CancelFunc
	work   sync.WaitGroup
	once   sync.Once
	closed error // what Close returns

	unwritten *pending // rooms whose own members changed
	unread    *pending // followed rooms whose other members may have changed

	mu       sync.Mutex
	away     bool // the last attempt to connect failed, or the connection was lost
	followed map[string]*followed
}

// followed is a room that is watched or listed here.
type followed struct {
	tried   chan struct{} // closed when it was read, or Redis is known to be away
	current bool          // it was read on the present connection
	// others are the members at each other gateway, as they were read last.
	// They are the run goroutine's.
	others map[string]elsewhere
}

// elsewhere are the members of a room at another gateway.
type elsewhere struct {
	members []presence.Member
	reader  string // our instance that read them
}

var _ presence.Directory = (*Directory)(nil)

// New makes a directory and reports a URL that is not one of a Redis server. It
// does not wait for the server: that may come later, and go and come back.
func New(cfg Config) (*Directory, error) {
	if cfg.URL == "" {
		cfg.URL = "redis://localhost:6379"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Keep == 0 {
		cfg.Keep = 10 * time.Minute
	}
	// One connection for commands; the subscription has one of its own. An error
	// ends the instance.
	opts, err := redisclient.Options(cfg.URL, commandTimeout, 1)
	if err != nil {
		return nil, fmt.Errorf("redispresence: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &Directory{
		client:    redis.NewClient(opts),
		log:       cfg.Logger,
		keep:      cfg.Keep,
		cancel:    cancel,
		unwritten: newPending(),
		unread:    newPending(),
		followed:  make(map[string]*followed),
	}
	d.local = presence.NewLocal(presence.LocalConfig{Changed: d.unwritten.add, Follow: d.follow})
	d.work.Go(func() { d.run(ctx) })
	return d, nil
}

// Enter implements presence.Directory.
func (d *Directory) Enter(room, id, name string) (leave func(), err error) {
	return d.local.Enter(room, id, name)
}

// SetTyping implements presence.Directory.
func (d *Directory) SetTyping(room, id string, typing bool) error {
	return d.local.SetTyping(room, id, typing)
}

// Watch implements presence.Directory.
func (d *Directory) Watch(ctx context.Context, room string) (live.Sub[presence.Change], error) {
	return d.local.Watch(ctx, room)
}

// List implements presence.Directory. A room that is watched, or was listed a
// few seconds ago, costs no question to Redis.
func (d *Directory) List(ctx context.Context, room string) ([]presence.Member, error) {
	limited, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	members, err := d.local.List(limited, room)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limited.Err() != nil:
		return nil, unavailable(limited.Err())
	case err != nil:
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.followed[room]; f == nil || !f.current {
		return nil, unavailable(nil)
	}
	return members, nil
}

func unavailable(cause error) error {
	return &live.Error{
		Code:    presence.CodeUnavailable,
		Message: "It is not known who is in the room, because Redis cannot be reached. Try again in a moment.",
		Cause:   cause,
	}
}

// Close implements presence.Directory. Other gateways learn at once who left.
func (d *Directory) Close() error {
	d.once.Do(func() {
		d.cancel()
		_ = d.local.Close() // never fails
		d.work.Wait()
		d.closed = d.client.Close()
	})
	return d.closed
}

// follow is the Local's: it waits until a room was read or cannot be.
func (d *Directory) follow(ctx context.Context, room string) (stop func(), err error) {
	f := &followed{tried: make(chan struct{})}
	d.mu.Lock()
	d.followed[room] = f
	if d.away {
		close(f.tried)
	}
	d.mu.Unlock()
	d.unread.add(room)
	stop = func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.followed, room)
	}
	select {
	case <-f.tried:
		return stop, nil
	case <-ctx.Done():
		stop()
		return nil, ctx.Err()
	}
}

// wasTried is called with the lock held.
func (f *followed) wasTried() {
	select {
	case <-f.tried:
	default:
		close(f.tried)
	}
}

// pending is a set of rooms that wait for something.
type pending struct {
	wake chan struct{} // there are some

	mu    sync.Mutex
	rooms map[string]struct{}
}

func newPending() *pending {
	return &pending{wake: make(chan struct{}, 1), rooms: make(map[string]struct{})}
}

func (p *pending) add(room string) { p.addAll([]string{room}) }

func (p *pending) addAll(rooms []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, room := range rooms {
		p.rooms[room] = struct{}{}
	}
	p.signal()
}

// take takes up to n rooms out and says whether there are more.
func (p *pending) take(n int) (rooms []string, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for room := range p.rooms {
		if len(rooms) == n {
			p.signal()
			return rooms, true
		}
		rooms = append(rooms, room)
		delete(p.rooms, room)
	}
	return rooms, false
}

func (p *pending) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}
