// Package redislog keeps an event log in Redis, which several gateways can share.
//
// Order: the server gives positions, by its own clock and one script at a time.
// What a topic has, what it no longer has, and a page of its events are looked
// at in one script, so no trimming comes between them.
//
// Buffering: none here. A call waits for a connection of the pool and for its
// answer, for at most 2.5 s.
//
// Endings: how durable an acknowledged event is, is a matter of the server's
// configuration (appendonly, appendfsync). While the server is away every call
// fails; nothing needs to be done when it is back, nor does it have to be there
// at the start. One that comes back empty is another log: it gets a new
// identity, and what comes is delivered as before.
//
// Goroutines: one, which hears what other gateways append; Close waits for it.
package redislog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/redisclient"
)

const (
	prefix      = "sluice:log:"
	identityKey = prefix + "identity"
	holdPrefix  = prefix + "hold:"
	channel     = "sluice:log" // on which the names of topics with new events are published

	// rememberEmpty is for how long a topic without events knows its head: by
	// as much the server's clock may be put back without harm.
	rememberEmpty = time.Hour

	callWithin = 2500 * time.Millisecond
	poolSize   = 64
	idleConns  = 8 // what is kept of it after a rush
)

// Config is what a Store needs. Zero fields take the defaults in brackets.
type Config struct {
	// URL of the server: redis://user:password@host:port/database, rediss://
	// for TLS, unix:///path/to/socket.
	URL       string
	Retention eventlog.Retention
	Logger    *slog.Logger // [discards]
	// PingEvery is how often a quiet connection is tried, and the identity
	// looked at [5 s].
	PingEvery time.Duration
}

func (c Config) withDefaults() Config {
	c.Retention = c.Retention.WithDefaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.PingEvery == 0 {
		c.PingEvery = 5 * time.Second
	}
	return c
}

// Store is an event log in Redis. Make it with Open.
type Store struct {
	cfg    Config
	client *redis.Client
	holder string // who we are to Hold
	grown  func(topic string)
	all    func()

	ctx    context.Context // ends the watcher
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	identity *eventlog.Identity // nil: not known
	away     error              // why there is no connection; nil: there is, or nobody has tried yet
}

var _ eventlog.Store = (*Store)(nil)

// Open opens the event log of a Redis server, and reports a URL that is not one.
// It does not wait for the server.
func Open(cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	opts, err := redisclient.Options(cfg.URL, callWithin, poolSize)
	if err != nil {
		return nil, fmt.Errorf("redislog: %w", err)
	}
	opts.MaxIdleConns = idleConns
	s := &Store{cfg: cfg, client: redis.NewClient(opts), holder: rand.Text()}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// call asks the server. It fails at once while the server is known to be away.
func (s *Store) call(ctx context.Context, ask func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	away := s.away
	s.mu.Unlock()
	if away != nil {
		return eventlog.Unavailable(away)
	}
	limited, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	switch err := ask(limited); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return eventlog.Unavailable(err)
	}
}

func streamKey(topic string) string { return prefix + "{" + topic + "}" }
func idsKey(topic string) string    { return streamKey(topic) + ":ids" }
func atKey(topic string) string     { return streamKey(topic) + ":at" }

// Append implements eventlog.Store.
func (s *Store) Append(ctx context.Context, d eventlog.Draft) (e *eventlog.Entry, fresh bool, err error) {
	err = s.call(ctx, func(ctx context.Context) error {
		answer, err := appendScript.Run(ctx, s.client, []string{streamKey(d.Topic), idsKey(d.Topic), atKey(d.Topic)},
			d.ID, d.Data, s.cfg.Retention.Events, s.age(), d.Topic, channel).Slice()
		if err != nil {
			return err
		}
		fresh = len(answer) == 2
		data := d.Data
		if !fresh {
			data = []byte(textOf(answer, 2))
		}
		position, err := parsePosition(textOf(answer, 1))
		e = &eventlog.Entry{ID: d.ID, Time: eventlog.TimeOf(position), Data: slices.Clone(data), Pos: position}
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return e, fresh, nil // the script tells everybody, us too
}

func (s *Store) age() int64 { return s.cfg.Retention.Age.Milliseconds() }

// Read implements eventlog.Store.
func (s *Store) Read(ctx context.Context, topic string, after live.Position, limit int) (entries []*eventlog.Entry, err error) {
	first := live.Position{Hi: after.Hi, Lo: after.Lo + 1}
	if first.Lo == 0 {
		first.Hi++
	}
	err = s.call(ctx, func(ctx context.Context) error {
		answer, err := readScript.Run(ctx, s.client, []string{streamKey(topic), atKey(topic)}, position(first), limit, s.age()).Slice()
		if err != nil {
			return err
		}
		if len(answer) != 3 {
			return errAnswer
		}
		oldest, err := strconv.ParseUint(textOf(answer, 0), 10, 64)
		if err != nil {
			return err
		}
		trimmed, err := parsePosition(textOf(answer, 1))
		if err != nil {
			return err
		}
		if entries, err = parseEntries(answer[2]); err != nil {
			return err
		}
		if after.Compare(trimmed) < 0 {
			return &live.Trimmed{Through: trimmed}
		}
		if len(entries) > 0 && entries[0].Pos.Hi < oldest {
			return &live.Trimmed{Through: live.Position{Hi: oldest - 1, Lo: 1<<63 - 1}}
		}
		return nil
	})
	var trimmed *live.Trimmed
	if errors.As(err, &trimmed) {
		return nil, trimmed
	}
	return entries, err
}

// Before implements eventlog.Store.
func (s *Store) Before(ctx context.Context, topic string, before live.Position, limit int) (entries []*eventlog.Entry, err error) {
	last := "+"
	switch {
	case before.Lo > 0:
		last = position(live.Position{Hi: before.Hi, Lo: before.Lo - 1})
	case before.Hi > 0:
		last = strconv.FormatUint(before.Hi-1, 10) // all of that millisecond
	}
	err = s.call(ctx, func(ctx context.Context) error {
		answer, err := beforeScript.Run(ctx, s.client, []string{streamKey(topic)}, last, limit, s.age()).Result()
		if err != nil {
			return err
		}
		entries, err = parseEntries(answer)
		return err
	})
	slices.Reverse(entries)
	return entries, err
}

// Head implements eventlog.Store: it is a position that no entry will have.
func (s *Store) Head(ctx context.Context, topic string) (p live.Position, err error) {
	remember := min(rememberEmpty, s.cfg.Retention.Age).Milliseconds()
	err = s.call(ctx, func(ctx context.Context) error {
		answer, err := headScript.Run(ctx, s.client, []string{atKey(topic)}, s.age(), remember).Text()
		if err != nil {
			return err
		}
		p, err = parsePosition(answer)
		return err
	})
	return p, err
}

// Hold implements eventlog.Store.
func (s *Store) Hold(ctx context.Context, name string, ttl time.Duration) (held bool, err error) {
	err = s.call(ctx, func(ctx context.Context) (err error) {
		held, err = holdScript.Run(ctx, s.client, []string{holdPrefix + name}, s.holder, ttl.Milliseconds()).Bool()
		return err
	})
	return held, err
}

// Identity implements eventlog.Store.
func (s *Store) Identity(ctx context.Context) (eventlog.Identity, error) {
	s.mu.Lock()
	known, away := s.identity, s.away
	s.mu.Unlock()
	if known != nil && away == nil {
		return *known, nil
	}
	var id eventlog.Identity
	err := s.call(ctx, func(ctx context.Context) (err error) {
		id, _, err = s.identify(ctx)
		return err
	})
	return id, err
}

// identify asks the server for its identity, giving it one if need be.
func (s *Store) identify(ctx context.Context) (id eventlog.Identity, changed bool, err error) {
	raw := make([]byte, len(id.ID)+len(id.Key))
	_, _ = rand.Read(raw) // never fails: see crypto/rand
	if err := s.client.SetNX(ctx, identityKey, raw, 0).Err(); err != nil {
		return id, false, err
	}
	if raw, err = s.client.Get(ctx, identityKey).Bytes(); err != nil {
		return id, false, err
	}
	if len(raw) != len(id.ID)+len(id.Key) {
		return id, false, fmt.Errorf("redislog: the key %s is not what it should be", identityKey)
	}
	copy(id.Key[:], raw[copy(id.ID[:], raw):])
	s.mu.Lock()
	defer s.mu.Unlock()
	changed = s.identity != nil && *s.identity != id
	s.identity = &id
	return id, changed, nil
}

// Retention implements eventlog.Store.
func (s *Store) Retention() eventlog.Retention { return s.cfg.Retention }

// Close implements eventlog.Store.
func (s *Store) Close() error {
	s.cancel()
	s.work.Wait()
	if err := s.client.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return err
	}
	return nil
}

var errAnswer = errors.New("redislog: the server's answer is not understood")

func textOf(answer []any, i int) string {
	if i >= len(answer) {
		return ""
	}
	s, _ := answer[i].(string)
	return s
}

func position(p live.Position) string {
	return strconv.FormatUint(p.Hi, 10) + "-" + strconv.FormatUint(p.Lo, 10)
}

func parsePosition(s string) (p live.Position, err error) {
	hi, lo, _ := strings.Cut(s, "-")
	if p.Hi, err = strconv.ParseUint(hi, 10, 64); err != nil {
		return p, errAnswer
	}
	if p.Lo, err = strconv.ParseUint(lo, 10, 64); err != nil {
		return p, errAnswer
	}
	return p, nil
}

// parseEntries reads the answer of XRANGE.
func parseEntries(answer any) ([]*eventlog.Entry, error) {
	list, ok := answer.([]any)
	if !ok {
		return nil, errAnswer
	}
	entries := make([]*eventlog.Entry, 0, len(list))
	for _, item := range list {
		pair, _ := item.([]any)
		if len(pair) != 2 {
			return nil, errAnswer
		}
		p, err := parsePosition(textOf(pair, 0))
		if err != nil {
			return nil, err
		}
		fields, _ := pair[1].([]any)
		entries = append(entries, &eventlog.Entry{ID: textOf(fields, 3), Time: eventlog.TimeOf(p), Data: []byte(textOf(fields, 1)), Pos: p})
	}
	return entries, nil
}
