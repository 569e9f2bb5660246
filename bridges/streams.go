package bridges

import (
	"context"
	"time"

	"github.com/sluice-gateway/sluice/internal/live"
)

// StreamEntry is one entry of a Redis stream. It is shared by all who receive
// it and never changed.
type StreamEntry struct {
	Stream string
	ID     string        // milliseconds and a sequence number, as in "1526919030474-0"
	Pos    live.Position // the ID in numbers
	Fields []StreamField // in the order in which Redis has them; names may repeat
	At     time.Time     // from the ID; the end of the year 9999 for one beyond
}

// StreamField is a name and a value of a StreamEntry: any bytes.
type StreamField struct{ Name, Value string }

// Size is what an entry counts against the bounds of a queue, in bytes.
func (e *StreamEntry) Size() int { return len(e.Stream) + len(e.ID) + fieldBytes(e.Fields) + 96 }

func fieldBytes(fields []StreamField) (n int) {
	for _, f := range fields {
		n += len(f.Name) + len(f.Value)
	}
	return n
}

// Streams is a broker with streams: named logs that keep their entries.
type Streams interface {
	// SubscribeStream opens a stream of the entries after a position, or
	// without one of those to come; it implements live.Kept. While the broker
	// is away it waits. Positions behind which entries are gone end it with
	// live.CodeCursorTooOld, a broker's refusal with TOPIC_REFUSED.
	SubscribeStream(ctx context.Context, stream string, after *live.Position) (live.Sub[*StreamEntry], error)
	// AppendStream returns the entry once the broker has acknowledged it; after
	// PublishTimeout, or at once when the broker is away, the error is
	// UPSTREAM_UNAVAILABLE. No fields, or more than MaxStreamFields, are
	// FIELDS_INVALID.
	AppendStream(ctx context.Context, stream string, fields []StreamField) (*StreamEntry, error)
}

// MaxStreamFields is how many fields an entry that is appended may have. Entries
// of others are delivered whatever they have.
const MaxStreamFields = 64

// CodeFieldsInvalid refuses an entry for the number of its fields.
const CodeFieldsInvalid = "FIELDS_INVALID"

// CheckFields reports fields that cannot be appended to a stream, or nil.
func CheckFields(fields []StreamField) error {
	if n := len(fields); n == 0 || n > MaxStreamFields {
		return live.Errorf(CodeFieldsInvalid, "The entry has %d fields: 1 to %d are accepted.", n, MaxStreamFields)
	}
	return nil
}
