package sqlitelog

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
)

// pending is an append that waits for its transaction.
type pending struct {
	ctx   context.Context
	draft eventlog.Draft
	done  chan struct{} // closed when the rest is set

	entry *eventlog.Entry
	fresh bool
	err   error
}

var errClosed = errors.New("sqlitelog: closed")

// Append implements eventlog.Store.
func (s *Store) Append(ctx context.Context, d eventlog.Draft) (*eventlog.Entry, bool, error) {
	d.Data = slices.Clone(d.Data)
	p := &pending{ctx: ctx, draft: d, done: make(chan struct{})}
	select {
	case s.queue <- p:
	case <-ctx.Done():
		return nil, false, ctx.Err()
	case <-s.closing:
		return nil, false, eventlog.Unavailable(errClosed)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return nil, false, ctx.Err()
	case <-s.ended:
		select {
		case <-p.done: // just before the end
		default:
			return nil, false, eventlog.Unavailable(errClosed)
		}
	}
	return p.entry, p.fresh, p.err
}

// writer is the one that changes the file. Its fields belong to its goroutine.
type writer struct {
	store *Store
	db    *sql.DB
	conn  *sql.Conn

	begin, commit, rollback         *sql.Stmt
	findTopic, addTopic, saveTopic  *sql.Stmt
	dropTopic                       *sql.Stmt
	add, find, nth, newestOld, trim *sql.Stmt
	saveLog                         *sql.Stmt
	statements                      []*sql.Stmt // all of them

	last      live.Position     // newest entry of all topics
	forgotten live.Position     // newest entry of the topics that are gone
	topics    map[string]*topic // of the transaction
}

// topic is a row of the table of topics, during a transaction.
type topic struct {
	key     int64
	entries int64
	trimmed live.Position
	grown   bool
}

// open connects, and prepares statements.
func (w *writer) open() (err error) {
	ctx := context.Background()
	w.db.SetMaxOpenConns(1)
	if w.conn, err = w.db.Conn(ctx); err != nil {
		return err
	}
	if err := w.store.initialise(w.conn); err != nil {
		return err
	}
	for statement, query := range map[**sql.Stmt]string{
		&w.begin:    `BEGIN IMMEDIATE`,
		&w.commit:   `COMMIT`,
		&w.rollback: `ROLLBACK`,

		&w.findTopic: `SELECT topic, entries, trimmed_hi, trimmed_lo FROM topics WHERE name = ?`,
		&w.addTopic:  `INSERT INTO topics (name, entries, trimmed_hi, trimmed_lo) VALUES (?, 0, ?, ?)`,
		&w.saveTopic: `UPDATE topics SET entries = ?, trimmed_hi = ?, trimmed_lo = ? WHERE topic = ?`,
		&w.dropTopic: `DELETE FROM topics WHERE topic = ?`,

		&w.add:       `INSERT INTO entries (topic, hi, lo, id, data) VALUES (?, ?, ?, ?, ?) ON CONFLICT (topic, id) DO NOTHING`,
		&w.find:      `SELECT hi, lo, data FROM entries WHERE topic = ? AND id = ?`,
		&w.nth:       `SELECT hi, lo FROM entries WHERE topic = ? ORDER BY hi, lo LIMIT 1 OFFSET ?`,
		&w.newestOld: `SELECT hi, lo FROM entries WHERE topic = ? AND hi < ? ORDER BY hi DESC, lo DESC LIMIT 1`,
		&w.trim:      `DELETE FROM entries WHERE topic = ? AND (hi, lo) <= (?, ?)`,

		&w.saveLog: `UPDATE log SET last_hi = ?, last_lo = ?, forgotten_hi = ?, forgotten_lo = ?`,
	} {
		if *statement, err = w.conn.PrepareContext(ctx, query); err != nil {
			return err
		}
		w.statements = append(w.statements, *statement)
	}
	return w.conn.QueryRowContext(ctx, `SELECT last_hi, last_lo, forgotten_hi, forgotten_lo FROM log`).
		Scan(&w.last.Hi, &w.last.Lo, &w.forgotten.Hi, &w.forgotten.Lo)
}

func (w *writer) close() error {
	for _, statement := range w.statements {
		_ = statement.Close() // not done with the connection: see sql.Conn
	}
	if w.conn != nil {
		_ = w.conn.Close() // returned to the pool, which is closed
	}
	return w.db.Close()
}

// run writes until the store closes.
func (w *writer) run() {
	s := w.store
	defer func() {
		if err := w.close(); err != nil {
			s.cfg.Logger.Warn("The event log was not closed well", "error", err)
		}
	}()
	batch := make([]*pending, 0, batchSize)
	for {
		select {
		case p := <-s.queue:
			batch = w.gather(append(batch[:0], p), len(batch))
			w.appendAll(batch)
			clear(batch) // let go of them; how many there were still counts
		case topics := <-s.sweeps:
			if err := w.transaction(func() error { return w.removeOld(topics) }); err != nil {
				s.cfg.Logger.Warn("Old events cannot be removed from the event log", "error", err)
			}
		case <-s.closing:
			return
		}
	}
}

// gather takes what came while the writer was busy, and waits a moment for as
// many as there were the last time: senders who have just been answered are about
// to send again. One who is alone waits for nobody.
func (w *writer) gather(batch []*pending, company int) []*pending {
	var late <-chan time.Time
	for len(batch) < batchSize {
		select {
		case p := <-w.store.queue:
			batch = append(batch, p)
			continue
		default:
		}
		if len(batch) >= company {
			return batch
		}
		if late == nil {
			late = time.After(companyWait)
		}
		select {
		case p := <-w.store.queue:
			batch = append(batch, p)
		case <-late:
			return batch
		case <-w.store.closing:
			return batch
		}
	}
	return batch
}

// appendAll stores appends in one transaction, tells whoever listens, and lets
// the senders go on.
func (w *writer) appendAll(batch []*pending) {
	err := w.transaction(func() error {
		for _, p := range batch {
			if p.err = p.ctx.Err(); p.err != nil {
				continue
			}
			if err := w.append(p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.store.cfg.Logger.Error("Events cannot be written to the event log", "events", len(batch), "error", err)
		for _, p := range batch {
			p.entry, p.fresh, p.err = nil, false, eventlog.Unavailable(err)
			close(p.done)
		}
		return
	}
	for name, t := range w.topics {
		if t.grown {
			w.store.grown(name)
		}
	}
	for _, p := range batch {
		close(p.done)
	}
}

// transaction changes the file as a whole or not at all.
func (w *writer) transaction(change func() error) error {
	last, forgotten := w.last, w.forgotten
	clear(w.topics)
	_, err := w.begin.Exec()
	if err == nil {
		err = change()
	}
	if err == nil {
		err = w.save()
	}
	if err == nil {
		_, err = w.commit.Exec()
	}
	if err != nil {
		_, _ = w.rollback.Exec() // there may be nothing to roll back any longer
		w.last, w.forgotten = last, forgotten
	}
	return err
}

// save trims the topics of the transaction by count and writes their rows.
func (w *writer) save() error {
	for _, t := range w.topics {
		if over := t.entries - int64(w.store.cfg.Retention.Events); over > 0 {
			if err := w.cut(t, w.nth.QueryRow(t.key, over-1)); err != nil {
				return err
			}
		}
		if t.entries == 0 {
			w.forget(t)
			if _, err := w.dropTopic.Exec(t.key); err != nil {
				return err
			}
		} else if _, err := w.saveTopic.Exec(t.entries, number(t.trimmed.Hi), number(t.trimmed.Lo), t.key); err != nil {
			return err
		}
	}
	_, err := w.saveLog.Exec(number(w.last.Hi), number(w.last.Lo), number(w.forgotten.Hi), number(w.forgotten.Lo))
	return err
}

func (w *writer) forget(t *topic) {
	if w.forgotten.Compare(t.trimmed) < 0 {
		w.forgotten = t.trimmed
	}
}

func (w *writer) append(p *pending) error {
	t, err := w.topic(p.draft.Topic)
	if err != nil {
		return err
	}
	position := eventlog.NextPosition(w.last, w.store.cfg.Now())
	var id any
	if p.draft.ID != "" {
		id = []byte(p.draft.ID)
	}
	result, err := w.add.Exec(t.key, number(position.Hi), number(position.Lo), id, p.draft.Data)
	if err != nil {
		return err
	}
	added, err := result.RowsAffected()
	if err != nil {
		return err
	}
	if added == 0 {
		var hi, lo int64
		var data []byte
		err := w.find.QueryRow(t.key, id).Scan(&hi, &lo, &data)
		p.entry = entry(hi, lo, []byte(p.draft.ID), data)
		return err
	}
	w.last = position
	t.entries++
	t.grown, p.fresh = true, true
	p.entry = &eventlog.Entry{ID: p.draft.ID, Time: eventlog.TimeOf(position), Data: p.draft.Data, Pos: position}
	return nil
}

// topic brings a topic into the transaction, without what is too old.
func (w *writer) topic(name string) (*topic, error) {
	if t := w.topics[name]; t != nil {
		return t, nil
	}
	t := &topic{}
	err := w.findTopic.QueryRow([]byte(name)).Scan(&t.key, &t.entries, &t.trimmed.Hi, &t.trimmed.Lo)
	if errors.Is(err, sql.ErrNoRows) {
		t.trimmed = w.forgotten
		var result sql.Result
		if result, err = w.addTopic.Exec([]byte(name), number(t.trimmed.Hi), number(t.trimmed.Lo)); err != nil {
			return nil, err
		}
		t.key, err = result.LastInsertId()
	} else if err == nil {
		err = w.cut(t, w.newestOld.QueryRow(t.key, number(w.store.oldest())))
	}
	if err != nil {
		return nil, err
	}
	w.topics[name] = t
	return t, nil
}

// cut removes the entries of a topic up to one, if there is one.
func (w *writer) cut(t *topic, through *sql.Row) error {
	var p live.Position
	switch err := through.Scan(&p.Hi, &p.Lo); {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	result, err := w.trim.Exec(t.key, number(p.Hi), number(p.Lo))
	if err != nil {
		return err
	}
	removed, err := result.RowsAffected()
	t.entries -= removed
	t.trimmed = p
	return err
}

// removeOld brings topics into the transaction, which trims them.
func (w *writer) removeOld(topics []string) error {
	for _, name := range topics {
		if _, err := w.topic(name); err != nil {
			return err
		}
	}
	return nil
}
