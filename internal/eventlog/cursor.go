package eventlog

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/internal/live"
)

// CodeCursorInvalid refuses a cursor that this log did not give for this topic.
const CodeCursorInvalid = "CURSOR_INVALID"

// A cursor is opaque to clients: base64url of
//
//	version (1 byte) | store's id (8) | position (8 + 8) | signature (16)
//
// The signature is HMAC-SHA256, cut to 128 bits, of all before it and of the
// topic, which the cursor does not hold. It means "after this event".
const (
	cursorVersion = 1
	cursorSigned  = 1 + 8 + 16
	cursorBytes   = cursorSigned + 16
)

var cursorText = base64.RawURLEncoding.Strict()

// Cursors names positions to clients and reads what they send back. A Log has
// its own; others are for sources that keep their events elsewhere. Make it with
// NewCursors.
type Cursors struct {
	store interface {
		Identity(ctx context.Context) (Identity, error)
	}
	secret string
	known  atomic.Pointer[signer] // the store's, when last asked
}

// signer is a store's identity and what signs with its key.
type signer struct {
	Identity
	macs sync.Pool // of hash.Hash: to make one costs more than to use it
}

// NewCursors makes cursors that are valid for as long as a store is itself. They
// are signed with the secret, or without one with the store's own key.
func NewCursors(store Store, secret string) *Cursors { return &Cursors{store: store, secret: secret} }

// identity asks the store who it is, and keeps the answer for Seal.
func (c *Cursors) identity(ctx context.Context) (*signer, error) {
	id, err := c.store.Identity(ctx)
	if err != nil {
		return nil, err
	}
	known := c.known.Load()
	if known == nil || known.Identity != id {
		known = newSigner(id, c.secret)
		c.known.Store(known)
	}
	return known, nil
}

func newSigner(id Identity, secret string) *signer {
	key := id.Key[:]
	if secret != "" {
		key = []byte(secret)
	}
	return &signer{Identity: id, macs: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

// Seal names a position of a topic. It is empty while the store is away and has
// never said who it is.
func (c *Cursors) Seal(topic string, p live.Position) string {
	who := c.known.Load()
	if who == nil {
		var err error
		if who, err = c.identity(context.Background()); err != nil { // it answers within three seconds, and this happens once
			return ""
		}
	}
	b := make([]byte, 0, cursorSigned+sha256.Size)
	b = append(b, cursorVersion)
	b = append(b, who.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, p.Hi)
	b = binary.BigEndian.AppendUint64(b, p.Lo)
	return cursorText.EncodeToString(who.sign(b, topic))
}

// sign appends the signature of what has been signed so far and of a topic.
func (s *signer) sign(signed []byte, topic string) []byte {
	mac := s.macs.Get().(hash.Hash)
	defer s.macs.Put(mac)
	mac.Reset()
	_, _ = io.WriteString(mac, "sluice cursor\x00") // a hash never fails
	mac.Write(signed)
	_, _ = io.WriteString(mac, topic)
	return mac.Sum(signed)[:cursorBytes]
}

// Open reads a cursor of a topic, or refuses it with CodeCursorInvalid.
func (c *Cursors) Open(ctx context.Context, topic, cursor string) (live.Position, error) {
	who, err := c.identity(ctx)
	if err != nil {
		return live.Position{}, err
	}
	b, err := cursorText.DecodeString(cursor)
	if err != nil || len(cursor) != cursorText.EncodedLen(cursorBytes) || len(b) != cursorBytes || b[0] != cursorVersion { // line breaks decode to nothing
		return live.Position{}, live.Errorf(CodeCursorInvalid, "%.60q is not a cursor: use one that this gateway gave, unchanged.", cursor)
	}
	if [8]byte(b[1:9]) != who.ID {
		return live.Position{}, live.Errorf(CodeCursorInvalid, "This cursor belongs to another event log, or to this one before it was emptied: subscribe without a cursor.")
	}
	if !hmac.Equal(b, who.sign(slices.Clone(b[:cursorSigned]), topic)) {
		return live.Position{}, live.Errorf(CodeCursorInvalid, "This cursor was given for something else, or has been changed: use one of the same subscription, unchanged.")
	}
	return live.Position{Hi: binary.BigEndian.Uint64(b[9:]), Lo: binary.BigEndian.Uint64(b[17:])}, nil
}
