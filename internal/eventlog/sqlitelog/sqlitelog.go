// Package sqlitelog keeps an event log in an SQLite file.
//
// Order: one goroutine writes. What was sent while it was busy, and what comes
// within 2 ms where several send, goes into one transaction and so shares one
// fsync (group commit); Append returns when that
// has been made, and readers, who have connections of their own, see a
// transaction as a whole or not at all. Positions grow over the whole log.
//
// Buffering: at most 1,024 appends wait; further ones wait for room under their
// contexts.
//
// Endings: after a crash, of this program or of the machine, every acknowledged
// event is there. When the disk is full, appends fail as a whole and succeed
// again once there is room. A second program on the same directory is refused.
//
// Goroutines: the writer, and one that removes events that have become too old;
// Close waits for both.
package sqlitelog

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
)

// The files in the data directory. SQLite keeps two more beside the first.
const (
	fileName = "events.db"
	lockName = "events.lock"
)

const (
	application = 0x536c7563 // says in the file's header whose it is
	version     = 1          // of the tables

	readers    = 4    // connections
	queueSize  = 1024 // appends that wait
	batchSize  = 512  // appends of one transaction
	sweepTopic = 256  // topics that are swept in one transaction

	companyWait = 2 * time.Millisecond // how long an append waits for others
)

// Positions compare like (hi, lo). An id is NULL where there is none, since no
// two NULLs are the same to UNIQUE.
const schema = `
CREATE TABLE log (
	one INTEGER PRIMARY KEY CHECK (one = 1),
	id BLOB NOT NULL,
	key BLOB NOT NULL,
	last_hi INTEGER NOT NULL, last_lo INTEGER NOT NULL,           -- newest entry of all topics
	forgotten_hi INTEGER NOT NULL, forgotten_lo INTEGER NOT NULL  -- newest entry of the topics that are gone
);
CREATE TABLE topics (
	topic INTEGER PRIMARY KEY,
	name BLOB NOT NULL UNIQUE,
	entries INTEGER NOT NULL,                                     -- how many there are
	trimmed_hi INTEGER NOT NULL, trimmed_lo INTEGER NOT NULL      -- newest entry that is gone
);
CREATE TABLE entries (
	topic INTEGER NOT NULL,
	hi INTEGER NOT NULL, lo INTEGER NOT NULL,
	id BLOB,
	data BLOB,
	PRIMARY KEY (topic, hi, lo),
	UNIQUE (topic, id)
) WITHOUT ROWID;`

// Config is what a Store needs. Zero fields take the defaults in brackets.
type Config struct {
	Retention eventlog.Retention
	Now       func() time.Time // the clock [time.Now]
	Logger    *slog.Logger     // [discards]
	// Sweep is how often topics are looked through for events that have become
	// too old [1 min]. Those of a topic that is written to go at once, and
	// nobody is given any.
	Sweep time.Duration
}

func (c Config) withDefaults() Config {
	c.Retention = c.Retention.WithDefaults()
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Sweep == 0 {
		c.Sweep = time.Minute
	}
	return c
}

// Store is an event log in a file. Make it with Open.
type Store struct {
	cfg      Config
	lock     *flock.Flock
	identity eventlog.Identity
	grown    func(topic string)

	read    *sql.DB
	page    *sql.Stmt
	before  *sql.Stmt
	head    *sql.Stmt
	expired *sql.Stmt

	queue   chan *pending
	sweeps  chan []string // topics that have entries which are too old
	closing chan struct{}
	close   sync.Once
	work    sync.WaitGroup
	ended   chan struct{} // closed when the writer has ended
}

var _ eventlog.Store = (*Store)(nil)

// Open opens the event log of a data directory, which is made if need be. Its
// errors are sentences for whoever started the program.
func Open(dir string, cfg Config) (_ *Store, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the event log's directory cannot be made; name another one with --data-dir: %w", err)
	}
	s := &Store{
		cfg: cfg.withDefaults(), lock: flock.New(filepath.Join(dir, lockName)), grown: func(string) {},
		queue: make(chan *pending, queueSize), sweeps: make(chan []string),
		closing: make(chan struct{}), ended: make(chan struct{}),
	}
	locked, err := s.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("the event log in %s cannot be locked; name another directory with --data-dir: %w", dir, err)
	}
	if !locked {
		return nil, fmt.Errorf("another gateway uses the event log in %s: stop it, or name another directory with --data-dir", dir)
	}
	defer func() {
		if err != nil {
			_ = s.lock.Close()
		}
	}()
	file := filepath.Join(dir, fileName)
	w, err := s.openFile(file)
	if err != nil {
		return nil, explain(file, err)
	}
	s.work.Go(func() {
		defer close(s.ended)
		w.run()
	})
	s.work.Go(s.sweep)
	return s, nil
}

var (
	errForeign = errors.New("it is an SQLite file of another program")
	errNewer   = errors.New("it was written by a newer version")
)

// explain makes a sentence of why a file cannot be opened.
func explain(file string, err error) error {
	var failure *sqlite.Error
	foreign := errors.As(err, &failure) && failure.Code() == sqlite3.SQLITE_NOTADB || errors.Is(err, errForeign)
	switch {
	case foreign:
		return fmt.Errorf("%s is no event log: move it away, or name another directory with --data-dir: %w", file, err)
	case errors.Is(err, errNewer):
		return fmt.Errorf("%s is of a newer version of Sluice: use that one, or name another directory with --data-dir: %w", file, err)
	default:
		return fmt.Errorf("the event log %s cannot be opened; name another directory with --data-dir: %w", file, err)
	}
}

// openFile opens the file, making its tables if it is new.
func (s *Store) openFile(file string) (_ *writer, err error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	w := &writer{store: s, topics: make(map[string]*topic)}
	// The log in front of the file goes into it every 32 MiB: each time takes
	// several fsyncs.
	if w.db, err = sql.Open("sqlite", dsn(path, "journal_mode(WAL)", "synchronous(FULL)", "wal_autocheckpoint(8000)", "journal_size_limit(67108864)")); err != nil {
		return nil, err
	}
	if s.read, err = sql.Open("sqlite", dsn(path, "query_only(1)")); err != nil {
		return nil, errors.Join(err, w.db.Close())
	}
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	if err = w.open(); err == nil {
		err = s.prepare()
	}
	if err != nil { // the first says it all
		_ = errors.Join(w.close(), s.read.Close())
		return nil, err
	}
	return w, nil
}

func dsn(path string, pragmas ...string) string {
	u := url.URL{
		Scheme: "file", Path: filepath.ToSlash(path),
		RawQuery: url.Values{"_pragma": append(pragmas, "busy_timeout(2000)")}.Encode(),
	}
	return u.String()
}

func (s *Store) prepare() error {
	var failed error
	statement := func(query string) *sql.Stmt {
		stmt, err := s.read.Prepare(query)
		failed = cmp.Or(failed, err)
		return stmt
	}
	// One statement, so that all of it is of one moment. "+ 0" keeps SQLite from
	// planning by the values, also by that of LIMIT: it would prepare the statement
	// anew at each read (https://www.sqlite.org/c3ref/prepare.html), which took four
	// times as long as the read.
	s.page = statement(`
		SELECT coalesce(t.trimmed_hi, l.forgotten_hi), coalesce(t.trimmed_lo, l.forgotten_lo), coalesce(e.hi, -1), coalesce(e.lo, 0), e.id, e.data
		FROM log l LEFT JOIN topics t ON t.name = ? LEFT JOIN entries e ON e.topic = t.topic AND (e.hi, e.lo) > (? + 0, ? + 0)
		WHERE l.one = 1 ORDER BY e.hi, e.lo LIMIT ? + 0`)
	s.before = statement(`
		SELECT hi, lo, id, data FROM entries
		WHERE topic = (SELECT topic FROM topics WHERE name = ?) AND (hi, lo) < (? + 0, ? + 0) AND hi >= ? + 0
		ORDER BY hi DESC, lo DESC LIMIT ? + 0`)
	s.head = statement(`SELECT last_hi, last_lo FROM log`)
	s.expired = statement(`
		SELECT name FROM topics t WHERE coalesce((SELECT hi FROM entries e WHERE e.topic = t.topic ORDER BY hi, lo LIMIT 1), 0) < ? LIMIT ?`)
	return failed
}

// initialise makes the tables of a new file and reads the identity.
func (s *Store) initialise(conn *sql.Conn) error {
	ctx := context.Background()
	var owner, format, tables int
	err := errors.Join(
		conn.QueryRowContext(ctx, "PRAGMA application_id").Scan(&owner),
		conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&format),
		conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables),
	)
	switch {
	case err != nil:
		return err
	case tables == 0 && owner == 0:
		if err := s.create(conn); err != nil {
			return err
		}
	case owner != application:
		return errForeign
	case format > version:
		return fmt.Errorf("%w: its tables are of version %d, known are those up to %d", errNewer, format, version)
	}
	var id, key []byte
	if err := conn.QueryRowContext(ctx, "SELECT id, key FROM log").Scan(&id, &key); err != nil {
		return err
	}
	copy(s.identity.ID[:], id)
	copy(s.identity.Key[:], key)
	return nil
}

func (s *Store) create(conn *sql.Conn) error {
	ctx := context.Background()
	var id eventlog.Identity
	_, _ = rand.Read(id.ID[:]) // never fails: see crypto/rand
	_, _ = rand.Read(id.Key[:])
	first := eventlog.NextPosition(live.Position{}, s.cfg.Now())
	for _, step := range []struct {
		query string
		args  []any
	}{
		{"BEGIN IMMEDIATE", nil},
		{schema, nil},
		{"INSERT INTO log VALUES (1, ?, ?, ?, ?, 0, 0)", []any{id.ID[:], id.Key[:], int64(first.Hi), int64(first.Lo)}},
		{fmt.Sprintf("PRAGMA application_id = %d", application), nil},
		{fmt.Sprintf("PRAGMA user_version = %d", version), nil},
		{"COMMIT", nil},
	} {
		if _, err := conn.ExecContext(ctx, step.query, step.args...); err != nil {
			return err
		}
	}
	return nil
}

// oldest is the time in milliseconds before which entries are too old.
func (s *Store) oldest() uint64 {
	return uint64(max(s.cfg.Now().Add(-s.cfg.Retention.Age).UnixMilli(), 0))
}

// Read implements eventlog.Store.
func (s *Store) Read(ctx context.Context, topic string, after live.Position, limit int) ([]*eventlog.Entry, error) {
	// Reads are short. One that could be interrupted would cost a goroutine.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rows, err := s.page.QueryContext(context.WithoutCancel(ctx), []byte(topic), number(after.Hi), number(after.Lo), limit)
	if err != nil {
		return nil, eventlog.Unavailable(err)
	}
	defer rows.Close()
	var entries []*eventlog.Entry
	var trimmedHi, trimmedLo, hi, lo int64
	var id sql.RawBytes
	var data []byte // Scan makes a new one for each row
	for rows.Next() {
		if err := rows.Scan(&trimmedHi, &trimmedLo, &hi, &lo, &id, &data); err != nil {
			return nil, eventlog.Unavailable(err)
		}
		if hi != nowhere {
			entries = append(entries, entry(hi, lo, id, data))
		}
	}
	if err := rows.Err(); err != nil {
		return nil, eventlog.Unavailable(err)
	}
	if trimmed := position(trimmedHi, trimmedLo); after.Compare(trimmed) < 0 {
		return nil, &live.Trimmed{Through: trimmed}
	}
	if oldest := s.oldest(); len(entries) > 0 && entries[0].Pos.Hi < oldest {
		return nil, &live.Trimmed{Through: live.Position{Hi: oldest - 1, Lo: maxNumber}}
	}
	return entries, nil
}

// maxNumber is the largest number that SQLite knows.
const maxNumber = 1<<63 - 1

func number(n uint64) int64 { return int64(min(n, maxNumber)) }

// nowhere is what the page statement has for the hi of an entry that is not there.
const nowhere = -1

// position is made of what SQLite has. database/sql gives an int64 as it is, but
// prints and parses each uint64.
func position(hi, lo int64) live.Position { return live.Position{Hi: uint64(hi), Lo: uint64(lo)} }

func entry(hi, lo int64, id, data []byte) *eventlog.Entry {
	p := position(hi, lo)
	return &eventlog.Entry{ID: string(id), Time: eventlog.TimeOf(p), Data: data, Pos: p}
}

// Before implements eventlog.Store.
func (s *Store) Before(ctx context.Context, topic string, before live.Position, limit int) ([]*eventlog.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if before == (live.Position{}) {
		before.Hi = maxNumber
	}
	rows, err := s.before.QueryContext(context.WithoutCancel(ctx), []byte(topic), number(before.Hi), number(before.Lo), s.oldest(), limit)
	if err != nil {
		return nil, eventlog.Unavailable(err)
	}
	defer rows.Close()
	var entries []*eventlog.Entry
	var hi, lo int64
	var id sql.RawBytes
	var data []byte
	for rows.Next() {
		if err := rows.Scan(&hi, &lo, &id, &data); err != nil {
			return nil, eventlog.Unavailable(err)
		}
		entries = append(entries, entry(hi, lo, id, data))
	}
	if err := rows.Err(); err != nil {
		return nil, eventlog.Unavailable(err)
	}
	slices.Reverse(entries)
	return entries, nil
}

// Head implements eventlog.Store: it is the newest entry of all topics.
func (s *Store) Head(ctx context.Context, _ string) (p live.Position, err error) {
	if err := ctx.Err(); err != nil {
		return p, err
	}
	if err := s.head.QueryRowContext(context.WithoutCancel(ctx)).Scan(&p.Hi, &p.Lo); err != nil {
		return p, eventlog.Unavailable(err)
	}
	return p, nil
}

// Identity implements eventlog.Store.
func (s *Store) Identity(context.Context) (eventlog.Identity, error) { return s.identity, nil }

// Hold implements eventlog.Store: nobody else can open the file.
func (s *Store) Hold(context.Context, string, time.Duration) (bool, error) { return true, nil }

// Retention implements eventlog.Store.
func (s *Store) Retention() eventlog.Retention { return s.cfg.Retention }

// Watch implements eventlog.Store.
func (s *Store) Watch(grown func(topic string), _ func()) { s.grown = grown }

// sweep has the writer remove what has become too old in topics that nobody
// writes to.
func (s *Store) sweep() {
	ticker := time.NewTicker(s.cfg.Sweep)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.closing:
			return
		}
		for more := true; more; {
			topics, err := s.tooOld()
			if err != nil {
				s.cfg.Logger.Warn("The event log cannot be looked through for old events", "error", err)
			}
			select {
			case s.sweeps <- topics:
			case <-s.closing:
				return
			}
			more = len(topics) == sweepTopic
		}
	}
}

// tooOld names topics that have entries which are too old.
func (s *Store) tooOld() (topics []string, err error) {
	rows, err := s.expired.Query(s.oldest(), sweepTopic)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name []byte
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		topics = append(topics, string(name))
	}
	return topics, rows.Err()
}

// Close implements eventlog.Store.
func (s *Store) Close() (err error) {
	s.close.Do(func() {
		close(s.closing)
		s.work.Wait() // the writer closes its connection
		err = errors.Join(s.page.Close(), s.before.Close(), s.head.Close(), s.expired.Close(), s.read.Close(), s.lock.Close())
	})
	return err
}
