package eventlog_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
)

// known is a store whose identity is the same in every process.
type known struct{ *eventlog.Memory }

func (known) Identity(context.Context) (eventlog.Identity, error) {
	return eventlog.Identity{ID: [8]byte{1, 2, 3}, Key: [32]byte{4, 5, 6}}, nil
}

// No text is taken for a cursor but those that were given for the topic.
func FuzzCursor(f *testing.F) {
	store := known{eventlog.NewMemory(eventlog.Retention{}, nil)}
	log := eventlog.New(store, eventlog.Config{})
	f.Cleanup(log.Close)
	if _, _, err := log.History(context.Background(), "a", "", 1); err != nil {
		f.Fatal(err)
	}
	given := map[string]bool{}
	for _, p := range []live.Position{{}, {Hi: 1}, {Hi: 1, Lo: 1}, {Hi: 1_700_000_000_000, Lo: 3}, {Hi: 1<<64 - 1, Lo: 1<<64 - 1}} {
		given[log.Cursor("a", p)] = true
		f.Add("a", log.Cursor("a", p))
		f.Add("b", log.Cursor("a", p))
		f.Add("b", log.Cursor("b", p))
	}
	f.Add("a", "x")
	long := log.Cursor("a", live.Position{Hi: 1})
	f.Add("a", strings.Repeat("\n", len(long))) // of the right length, and decodes to nothing
	f.Add("a", long[:len(long)-8]+"\r\n\r\n\r\n\r\n")
	f.Fuzz(func(t *testing.T, topic, cursor string) {
		if cursor == "" {
			return
		}
		_, _, err := log.History(context.Background(), topic, cursor, 1)
		if err == nil {
			if topic == "a" && !given[cursor] {
				t.Fatalf("accepted %q, which was not given", cursor)
			}
			return
		}
		var refusal *live.Error
		if !errors.As(err, &refusal) || refusal.Code != eventlog.CodeCursorInvalid {
			t.Fatalf("refused with %v", err)
		}
	})
}

func TestCursorsOfGatewaysWithOneSecret(t *testing.T) {
	open := func(secret string) *eventlog.Log {
		log := eventlog.New(known{eventlog.NewMemory(eventlog.Retention{}, nil)}, eventlog.Config{Secret: secret})
		t.Cleanup(log.Close)
		if _, _, err := log.History(t.Context(), "a", "", 1); err != nil {
			t.Fatal(err)
		}
		return log
	}
	a, b, other := open("secret"), open("secret"), open("another secret")
	cursor := a.Cursor("a", live.Position{Hi: 1 << 40})
	if _, _, err := b.History(t.Context(), "a", cursor, 1); err != nil {
		t.Errorf("with the same secret: %v", err)
	}
	if _, _, err := other.History(t.Context(), "a", cursor, 1); err == nil {
		t.Error("accepted with another secret")
	}
}
