// Package learners keeps what learners have done, without knowing who they are.
//
// A learner is 128 random bits. Whoever holds the token with them is the learner;
// there is no other account. Progress can be taken along as a signed document,
// which names nobody: a gateway with the same key imports it for any learner.
//
// A Store holds the progress: in memory (this package), in an SQLite file
// (sqlitelearners) or in Redis (redislearners); learnerstest is the suite that
// all of them pass. Nothing is stored of a learner who has done nothing, and
// nothing is left of one who has done nothing for 400 days (Keep).
//
// Changes of one learner come one after the other, also those that several
// gateways make: a change that finds the progress changed begins anew. There are
// no goroutines and no queues here.
package learners

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/lessons"
)

// Codes of refusals.
const (
	// CodeTokenInvalid refuses a token that is not one of a learner here.
	CodeTokenInvalid = "TOKEN_INVALID"
	// CodeProgressInvalid refuses a document that is not one of Export with the
	// same key, and progress that is too large.
	CodeProgressInvalid = "PROGRESS_INVALID"
	// CodeUnavailable is the code of the error while the store is away or full.
	CodeUnavailable = "PROGRESS_UNAVAILABLE"
)

const (
	// MaxBytes bounds a learner's progress as JSON.
	MaxBytes = 64 << 10
	// Keep is for how long progress is kept after its last change.
	Keep = 400 * 24 * time.Hour

	// within bounds every call, and so the tries of a change.
	within = 3 * time.Second
)

// Store holds bytes for each learner. Implementations are safe for concurrent
// use, also by several processes, and forget what has not changed for Keep. A
// store that is away fails, and comes back by itself.
type Store interface {
	// Load returns what is held for a learner; nil: nothing.
	Load(ctx context.Context, id string) ([]byte, error)
	// Swap replaces what is held, if that is still old; nil: if there is nothing.
	// Once it has returned true the change is durable, as far as the store is. The
	// new bytes are never empty.
	Swap(ctx context.Context, id string, old, new []byte) (swapped bool, err error)
	// Close ends the store. Calls under way may fail.
	Close() error
}

// Key returns the secret that tokens and documents are signed under. It is asked
// each time, since a gateway may learn it late; the error says why it does not
// know it.
type Key func(ctx context.Context) ([]byte, error)

// Learners keep progress in a Store. Make it with New.
type Learners struct {
	store     Store
	signer    signer
	course    *lessons.Course
	steps     map[string]bool // by key, as in lessons.Progress
	questions map[string]bool
}

var _ lessons.Learners = (*Learners)(nil)

// New makes Learners on a store, which stays the caller's to close.
func New(store Store, key Key, course *lessons.Course) *Learners {
	l := &Learners{store: store, signer: signer{key}, course: course, steps: make(map[string]bool), questions: make(map[string]bool)}
	for _, lesson := range course.Lessons {
		for i := range lesson.Steps {
			l.steps[lesson.Slug+"/"+lesson.Steps[i].ID] = true
		}
		for i := range lesson.Quiz {
			l.questions[lesson.Slug+"/"+lesson.Quiz[i].ID] = true
		}
	}
	return l
}

// Create makes the token of a new learner. It stores nothing. The error is
// CodeUnavailable while the key is not known.
func (l *Learners) Create() (token string, err error) {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: see crypto/rand
	return l.signer.token(context.Background(), hex.EncodeToString(id[:]))
}

// ID returns who a token stands for. The error is CodeTokenInvalid, or
// CodeUnavailable while the key is not known.
func (l *Learners) ID(token string) (string, error) {
	return l.signer.id(context.Background(), token)
}

// Progress returns what a learner has done, as far as the course has it.
func (l *Learners) Progress(ctx context.Context, token string) (lessons.Progress, error) {
	id, err := l.signer.id(ctx, token)
	if err != nil {
		return lessons.Progress{}, err
	}
	p, err := l.load(ctx, id)
	return l.known(p), err
}

// load reads a learner's progress.
func (l *Learners) load(ctx context.Context, id string) (lessons.Progress, error) {
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	held, err := l.store.Load(limited, id)
	if err != nil {
		return lessons.Progress{}, unavailable(ctx, err)
	}
	return l.decode(ctx, held)
}

// Change applies f to a learner's progress and returns it before and after. It
// may call f several times, and stores nothing when f changes nothing. Keys that
// the course does not have stay: a newer gateway on the same store may have them.
// The error is CodeUnavailable, or CodeProgressInvalid for more than MaxBytes.
func (l *Learners) Change(ctx context.Context, id string, f func(lessons.Progress) lessons.Progress) (before, after lessons.Progress, err error) {
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		held, err := l.store.Load(limited, id)
		if err != nil {
			return before, after, unavailable(ctx, err)
		}
		if before, err = l.decode(ctx, held); err != nil {
			return before, after, err
		}
		after = f(before)
		changed, err := encode(after)
		if err != nil {
			return before, after, err
		}
		if bytes.Equal(changed, held) || held == nil && len(after.Steps)+len(after.Answers) == 0 {
			return before, after, nil
		}
		swapped, err := l.store.Swap(limited, id, held, changed)
		if err != nil {
			return before, after, unavailable(ctx, err)
		}
		if swapped {
			return before, after, nil
		}
	}
}

// Export returns a learner's progress as a signed document for Import.
func (l *Learners) Export(ctx context.Context, token string) (document string, err error) {
	id, err := l.signer.id(ctx, token)
	if err != nil {
		return "", err
	}
	p, err := l.load(ctx, id)
	if err != nil {
		return "", err
	}
	text, err := encode(p)
	if err != nil {
		return "", err
	}
	return l.signer.document(ctx, text)
}

// Import adds the progress of a document to a learner's and returns both
// together: see merge. What the course does not have is left out.
func (l *Learners) Import(ctx context.Context, token, document string) (lessons.Progress, error) {
	id, err := l.signer.id(ctx, token)
	if err != nil {
		return lessons.Progress{}, err
	}
	text, err := l.signer.progress(ctx, document)
	if err != nil {
		return lessons.Progress{}, err
	}
	brought, err := lessons.ParseProgress(text)
	if err != nil {
		return lessons.Progress{}, live.Errorf(CodeProgressInvalid, "This progress is in a form that this gateway does not know: import it where the gateway is as new as the one that exported it.")
	}
	brought = l.known(brought)
	_, after, err := l.Change(ctx, id, func(p lessons.Progress) lessons.Progress { return merge(p, brought) })
	return l.known(after), err
}

// decode reads what a store holds.
func (l *Learners) decode(ctx context.Context, held []byte) (lessons.Progress, error) {
	if held == nil {
		return lessons.NewProgress(), nil
	}
	p, err := lessons.ParseProgress(held)
	if err != nil {
		return p, unavailable(ctx, err)
	}
	return l.current(p), nil
}

func encode(p lessons.Progress) ([]byte, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("learners: %w", err)
	}
	if len(text) > MaxBytes {
		return nil, live.Errorf(CodeProgressInvalid, "The progress would take %d bytes: at most %d are kept.", len(text), MaxBytes)
	}
	return text, nil
}

// unavailable is the error of a store, or of a key, that cannot be had; but where
// the caller has gone, that of the context.
func unavailable(ctx context.Context, cause error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return &live.Error{
		Code:    CodeUnavailable,
		Message: "Learners' progress cannot be reached or written to. Try again in a moment; nothing counts twice.",
		Cause:   cause,
	}
}
