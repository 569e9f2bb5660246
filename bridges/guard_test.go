package bridges

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/internal/live"
)

// reached is a Redis that notes what comes through the guard.
type reached struct {
	*Memory
	streams []string
}

func (r *reached) SubscribePattern(context.Context, string) (live.Sub[*Message], error) {
	return nil, errors.ErrUnsupported
}

func (r *reached) SubscribeStream(_ context.Context, stream string, _ *live.Position) (live.Sub[*StreamEntry], error) {
	r.streams = append(r.streams, "read "+stream)
	return live.NewQueue[*StreamEntry](live.Limit{}, nil), nil
}

func (r *reached) AppendStream(_ context.Context, stream string, fields []StreamField) (*StreamEntry, error) {
	r.streams = append(r.streams, "append "+stream)
	return &StreamEntry{Stream: stream, Fields: fields}, nil
}

func TestGuardedStreams(t *testing.T) {
	rules, err := NewRedisRules([]string{"demo:*", "*", "__keyspace@0__:*"}, []string{"demo:*", "__sentinel__*"})
	if err != nil {
		t.Fatal(err)
	}
	r := new(reached)
	g := GuardedRedis{Guard: Guard{Topics: DefaultTopicLimits, PublishBytes: 10}, Bridge: r, Rules: rules}
	read := func(stream string) error {
		_, err := g.SubscribeStream(t.Context(), stream, nil)
		return err
	}
	add := func(stream string, fields ...StreamField) error {
		_, err := g.AppendStream(t.Context(), stream, fields)
		return err
	}
	field := StreamField{Name: "name", Value: "value"}
	tests := []struct {
		name string
		err  error
		code string // empty: accepted
	}{
		{"a stream", read("demo:a"), ""},
		{"any stream", read("other"), ""},
		{"the gateway's own", read("sluice:rooms"), CodeTopicForbidden},
		{"reserved", read("__internal"), CodeTopicForbidden},
		{"reserved, though open as a channel", read("__keyspace@0__:a"), CodeTopicForbidden},
		{"an ill-formed name", read("a\nb"), CodeTopicInvalid},
		{"append", add("demo:a", field), ""},
		{"append elsewhere", add("other", field), CodeTopicForbidden},
		{"append to the gateway's own", add("sluice:rooms", field), CodeTopicForbidden},
		{"append to a reserved one", add("__sentinel__:a", field), CodeTopicForbidden},
		{"append to an ill-formed name", add("", field), CodeTopicInvalid},
		{"no fields", add("demo:a"), CodeFieldsInvalid},
		{"too many fields", add("demo:a", make([]StreamField, MaxStreamFields+1)...), CodeFieldsInvalid},
		{"as many fields as may be", add("demo:b", make([]StreamField, MaxStreamFields)...), ""},
		{"too many bytes", add("demo:a", field, StreamField{Name: "ab"}), CodePayloadTooLarge},
	}
	for _, test := range tests {
		var told *live.Error
		errors.As(test.err, &told)
		switch {
		case test.code == "" && test.err != nil:
			t.Errorf("%s: %v", test.name, test.err)
		case test.code != "" && (told == nil || told.Code != test.code):
			t.Errorf("%s: %v, want %s", test.name, test.err, test.code)
		}
	}
	if got := strings.Join(r.streams, ", "); got != "read demo:a, read other, append demo:a, append demo:b" {
		t.Errorf("let through: %s", got)
	}
}
