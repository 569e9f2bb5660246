// Package sqlitelearners keeps learners' progress in an SQLite file.
//
// A change that was acknowledged is on disk. There is one connection, and calls
// wait for it under their contexts; another program on the same file waits for
// its turn, up to 2 s. Whose progress has not changed for learners.Keep is
// removed when the file is opened. There are no goroutines of its own.
package sqlitelearners

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/sluice-gateway/sluice/internal/learners"
)

// fileName is the file in the data directory. SQLite keeps two more beside it.
const fileName = "learners.db"

const (
	application = 0x536c7570 // says in the file's header whose it is
	version     = 1          // of the tables
)

const schema = `
CREATE TABLE learners (
	id TEXT PRIMARY KEY,
	progress BLOB NOT NULL,
	changed INTEGER NOT NULL  -- Unix time in seconds
)`

// Store keeps progress in a file. Make it with Open.
type Store struct {
	db  *sql.DB
	now func() time.Time
}

var _ learners.Store = (*Store)(nil)

// Open opens the file in a data directory; both are made if need be. now is the
// clock [time.Now]. Its errors are sentences for whoever started the program.
func Open(dir string, now func() time.Time) (*Store, error) {
	if now == nil {
		now = time.Now
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the directory of learners' progress cannot be made; name another one with --data-dir: %w", err)
	}
	file, err := filepath.Abs(filepath.Join(dir, fileName))
	if err != nil {
		return nil, err
	}
	name := url.URL{
		Scheme: "file", Path: filepath.ToSlash(file),
		RawQuery: url.Values{"_pragma": {"busy_timeout(2000)", "journal_mode(WAL)", "synchronous(FULL)"}}.Encode(),
	}
	s := &Store{now: now}
	if s.db, err = sql.Open("sqlite", name.String()); err != nil {
		return nil, err
	}
	s.db.SetMaxOpenConns(1)
	if err := s.initialise(context.Background()); err != nil {
		_ = s.db.Close() // the first error says it all
		return nil, fmt.Errorf("learners' progress in %s cannot be opened; move the file away, or name another directory with --data-dir: %w", file, err)
	}
	return s, nil
}

// initialise makes the table of a new file, and removes whom nobody remembers.
func (s *Store) initialise(ctx context.Context) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() // back to the pool
	// Before anything is read, so that of two programs only one makes the table.
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err = s.prepare(ctx, conn); err == nil {
		_, err = conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		_, _ = conn.ExecContext(ctx, "ROLLBACK") // there may be nothing to roll back any longer
	}
	return err
}

func (s *Store) prepare(ctx context.Context, conn *sql.Conn) error {
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
		for _, query := range []string{
			schema, fmt.Sprintf("PRAGMA application_id = %d", application), fmt.Sprintf("PRAGMA user_version = %d", version),
		} {
			if _, err := conn.ExecContext(ctx, query); err != nil {
				return err
			}
		}
	case owner != application:
		return errors.New("it is an SQLite file of another program")
	case format > version:
		return fmt.Errorf("it was written by a newer version of Sluice: its table is of version %d, known are those up to %d", format, version)
	}
	_, err = conn.ExecContext(ctx, "DELETE FROM learners WHERE changed < ?", s.now().Add(-learners.Keep).Unix())
	return err
}

// Load implements learners.Store.
func (s *Store) Load(ctx context.Context, id string) (progress []byte, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT progress FROM learners WHERE id = ?", id).Scan(&progress)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return progress, err
}

// Swap implements learners.Store.
func (s *Store) Swap(ctx context.Context, id string, old, new []byte) (bool, error) {
	var result sql.Result
	var err error
	if changed := s.now().Unix(); old == nil {
		result, err = s.db.ExecContext(ctx, "INSERT INTO learners VALUES (?, ?, ?) ON CONFLICT DO NOTHING", id, new, changed)
	} else {
		result, err = s.db.ExecContext(ctx, "UPDATE learners SET progress = ?, changed = ? WHERE id = ? AND progress = ?", new, changed, id, old)
	}
	if err != nil {
		return false, err
	}
	rows, err := result.RowsAffected()
	return rows == 1, err
}

// Close implements learners.Store.
func (s *Store) Close() error { return s.db.Close() }
