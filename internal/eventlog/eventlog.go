// Package eventlog keeps events, so that who was away can come back to where it
// was: rooms and lesson events are on it.
//
// A log has topics. The events of a topic are in one order, the same for every
// reader, on every gateway that shares the log, and after every restart. An
// Append returns when its event is durable, as far as the store is. Events are
// kept as Retention says; a reader who would miss some is told, never left to
// guess.
//
// A Store holds the events: in memory (this package), in an SQLite file
// (sqlitelog) or in Redis (redislog); eventlogtest is the suite that all of them
// pass. Log is what the rest of the program uses: it catches subscribers up and
// then goes live (live.Tail), and signs cursors.
//
// Close the Log before the Store; each waits for its goroutines.
package eventlog

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sluice-gateway/sluice/internal/live"
)

// Entry is one event of a topic. It is shared by all who read it and never
// changed.
type Entry struct {
	ID   string    // given by who appended it, unique within its topic; may be empty
	Time time.Time // of Pos: to the millisecond, and never before an older entry's
	Data []byte
	Pos  live.Position
}

// Size is what an entry counts against the bounds of a queue, in bytes.
func (e *Entry) Size() int { return len(e.ID) + len(e.Data) + 96 }

// Draft is an event that is to be appended.
type Draft struct {
	Topic string
	// ID, if not empty, makes the append idempotent: a topic stores an id once
	// for as long as it keeps the event, and returns the event of the first
	// time.
	ID   string
	Data []byte
}

// Retention says how long a topic keeps its events. Whichever bound is reached
// first counts. Zero fields take the defaults in brackets.
type Retention struct {
	Events int           // the newest so many [1,000]
	Age    time.Duration // none older [24 h]
}

// WithDefaults fills the fields that are zero.
func (r Retention) WithDefaults() Retention {
	if r.Events == 0 {
		r.Events = 1000
	}
	if r.Age == 0 {
		r.Age = 24 * time.Hour
	}
	return r
}

// Identity is what a store is given once and keeps as long as it keeps its
// events: two stores never share one, and one that has lost everything gets a
// new one.
type Identity struct {
	ID  [8]byte
	Key [32]byte // signs cursors, unless the configuration has a secret
}

// Store keeps the events of a log. Implementations are safe for concurrent use.
//
// A position is the time of an event in milliseconds and a sequence number
// within it; within a topic positions only grow, also when the clock is put
// back: then events have the time of the newest one before. A store that is away
// answers every call with CodeUnavailable within three seconds and comes back by
// itself.
type Store interface {
	// Append stores an event and returns it once it is durable. fresh is false
	// when the topic had the id already.
	Append(ctx context.Context, d Draft) (e *Entry, fresh bool, err error)
	// Read returns the oldest entries after a position, at most limit of them,
	// and fewer only when there are no more. The error is a *live.Trimmed when
	// entries after the position are no longer kept, by count or by age. Of a
	// topic that has become empty a store may forget what it had: then it takes
	// every position older than Retention.Age for one behind which entries are
	// missing, but never a younger one.
	Read(ctx context.Context, topic string, after live.Position, limit int) ([]*Entry, error)
	// Before returns the newest entries before a position, at most limit of
	// them, oldest first. The zero position stands for the end.
	Before(ctx context.Context, topic string, before live.Position, limit int) ([]*Entry, error)
	// Head is a position at or after every entry that a topic has or had, and
	// before every one to come. It is as young as possible, also when the topic
	// has been quiet for long, and never zero.
	Head(ctx context.Context, topic string) (live.Position, error)
	// Identity returns who the store is.
	Identity(ctx context.Context) (Identity, error)
	// Hold takes or renews a lease on a name for this process: of all processes
	// that share the store, one holds it, until it lets ttl pass.
	Hold(ctx context.Context, name string, ttl time.Duration) (held bool, err error)
	// Retention is how long the store keeps events.
	Retention() Retention
	// Watch sets what is told of news: grown when a topic may have new entries,
	// whoever appended them, all when any topic may. It is called once, before
	// any other; the functions do not block.
	Watch(grown func(topic string), all func())
	// Close waits for the store's goroutines. Appends that have not returned
	// fail.
	Close() error
}

// CodeUnavailable is the code of the error while a store is away or full.
const CodeUnavailable = "LOG_UNAVAILABLE"

// Unavailable is the error of a store that is away or full.
func Unavailable(cause error) error {
	return &live.Error{
		Code:    CodeUnavailable,
		Message: "The event log cannot be reached or written to. Try again in a moment; with the same id, nothing is stored twice.",
		Cause:   cause,
	}
}

// Config is what a Log needs besides its Store.
type Config struct {
	// Secret signs cursors. Without one the store's own key does. Gateways that
	// share a store must share it.
	Secret string
	Logger *slog.Logger // [discards]
}

// Log is a store with its readers. Make it with New.
type Log struct {
	store   Store
	cursors *Cursors
	tail    *live.Tail[string, *Entry]
}

// New makes a Log on a store that nobody else watches.
func New(store Store, cfg Config) *Log {
	l := &Log{store: store, cursors: NewCursors(store, cfg.Secret)}
	l.tail = live.NewTail(live.TailConfig[string, *Entry]{
		Archive: archive{l}, Cursor: l.cursors.Seal, Size: (*Entry).Size, Logger: cfg.Logger,
		Renew: store.Retention().Age / 8,
	})
	store.Watch(l.tail.Grown, l.tail.GrownAll)
	return l
}

// Append stores an event and returns it once it is durable; see Store.Append.
func (l *Log) Append(ctx context.Context, d Draft) (e *Entry, fresh bool, err error) {
	if _, err := l.cursors.identity(ctx); err != nil { // so that the entry's cursor can be signed
		return nil, false, err
	}
	return l.store.Append(ctx, d)
}

// Subscribe opens a stream of a topic's entries: those after a cursor, or, when
// it is empty, those to come. The stream implements live.Kept. A cursor that is
// not one of this topic's is CURSOR_INVALID, at once; one behind which entries
// are missing ends the stream with CURSOR_TOO_OLD.
func (l *Log) Subscribe(ctx context.Context, topic, cursor string) (live.Sub[*Entry], error) {
	if cursor == "" {
		return l.tail.Subscribe(ctx, topic, nil)
	}
	after, err := l.cursors.Open(ctx, topic, cursor)
	if err != nil {
		return nil, err
	}
	return l.tail.Subscribe(ctx, topic, &after)
}

// History returns the newest entries before a cursor, or of all when it is
// empty, oldest first. more says whether there are older ones that are kept.
func (l *Log) History(ctx context.Context, topic, before string, limit int) (entries []*Entry, more bool, err error) {
	if _, err := l.cursors.identity(ctx); err != nil {
		return nil, false, err
	}
	var position live.Position
	if before != "" {
		if position, err = l.cursors.Open(ctx, topic, before); err != nil {
			return nil, false, err
		}
	}
	entries, err = l.store.Before(ctx, topic, position, limit+1)
	if err != nil {
		return nil, false, err
	}
	if len(entries) > limit {
		return entries[len(entries)-limit:], true, nil
	}
	return entries, false, nil
}

// Cursor names the position of an entry of the log to clients.
func (l *Log) Cursor(topic string, p live.Position) string { return l.cursors.Seal(topic, p) }

// Cursors are the log's own.
func (l *Log) Cursors() *Cursors { return l.cursors }

// Hold takes or renews a lease; see Store.Hold.
func (l *Log) Hold(ctx context.Context, name string, ttl time.Duration) (bool, error) {
	return l.store.Hold(ctx, name, ttl)
}

// Close ends every subscription. The store stays open.
func (l *Log) Close() { l.tail.Close() }

// archive is the store as live.Tail reads it.
type archive struct{ *Log }

func (a archive) Read(ctx context.Context, topic string, after live.Position, limit int) ([]live.Event[*Entry], error) {
	if _, err := a.cursors.identity(ctx); err != nil {
		return nil, err
	}
	entries, err := a.store.Read(ctx, topic, after, limit)
	if err != nil {
		return nil, err
	}
	events := make([]live.Event[*Entry], len(entries))
	for i, e := range entries {
		events[i] = live.Event[*Entry]{Value: e, Pos: e.Pos}
	}
	return events, nil
}

func (a archive) Head(ctx context.Context, topic string) (live.Position, error) {
	_, err := a.cursors.identity(ctx)
	head, headErr := a.store.Head(ctx, topic)
	return head, errors.Join(err, headErr)
}
