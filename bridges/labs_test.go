package bridges

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/internal/live"
)

// TestLabsAreApart asks as a client of session "a" and as one of none, with
// rules that open all that rules can.
func TestLabsAreApart(t *testing.T) {
	mqttRules, err := NewMQTTRules([]string{"#"}, []string{"demo/#"})
	if err != nil {
		t.Fatal(err)
	}
	redisRules, err := NewRedisRules([]string{"*"}, []string{"demo:*"})
	if err != nil {
		t.Fatal(err)
	}
	guard := Guard{Topics: DefaultTopicLimits, PublishBytes: 10}
	mqtt := GuardedMQTT{Guard: guard, Bridge: NewMemory(MemoryConfig{}), Rules: mqttRules}
	redis := GuardedRedis{Guard: guard, Bridge: &reached{Memory: NewMemory(MemoryConfig{})}, Rules: redisRules}
	field := []StreamField{{Name: "n", Value: "v"}}
	asks := map[string]func(ctx context.Context, name string) error{
		"read": func(ctx context.Context, name string) error { _, err := mqtt.Subscribe(ctx, name, 0); return err },
		"publish": func(ctx context.Context, name string) error {
			_, err := mqtt.Publish(ctx, Publication{Topic: name})
			return err
		},
		"redis read": func(ctx context.Context, name string) error {
			_, err := redis.Subscribe(ctx, name, 0)
			return err
		},
		"redis pattern": func(ctx context.Context, name string) error {
			if _, err := redis.SubscribePattern(ctx, name); !errors.Is(err, errors.ErrUnsupported) {
				return err
			}
			return nil // it came through the guard
		},
		"redis publish": func(ctx context.Context, name string) error {
			_, err := redis.Publish(ctx, Publication{Topic: name})
			return err
		},
		"stream read": func(ctx context.Context, name string) error {
			_, err := redis.SubscribeStream(ctx, name, nil)
			return err
		},
		"stream append": func(ctx context.Context, name string) error {
			_, err := redis.AppendStream(ctx, name, field)
			return err
		},
	}
	tests := []struct {
		ask, name      string
		inLab, outside bool
	}{
		{"read", "lab/a/x", true, false},
		{"read", "lab/a/#", true, false},
		{"read", "lab/b/x", false, false},
		{"read", "lab/ab/x", false, false},
		{"read", "demo/x", true, true},
		{"publish", "lab/a/x", true, false},
		{"publish", "lab/b/x", false, false},
		{"publish", "demo/x", true, true},
		{"redis read", "lab:a:x", true, false},
		{"redis read", "lab:b:x", false, false},
		{"redis read", "lab:a", false, false},
		{"redis pattern", "lab:a:*", true, false},
		{"redis pattern", "lab:a:[xy]*", true, false},
		{"redis pattern", "lab:*", false, false},
		{"redis pattern", "lab:?:x", false, false},
		{"redis pattern", "*", false, false},
		{"redis pattern", "demo:*", true, true},
		{"redis publish", "lab:a:x", true, false},
		{"redis publish", "lab:b:x", false, false},
		{"stream read", "lab:a:x", true, false},
		{"stream read", "lab:b:x", false, false},
		{"stream append", "lab:a:x", true, false},
		{"stream append", "lab:b:x", false, false},
	}
	for _, test := range tests {
		for _, ctx := range []struct {
			context.Context
			name string
			want bool
		}{{WithLab(t.Context(), "a"), "in the session", test.inLab}, {t.Context(), "outside", test.outside}} {
			err := asks[test.ask](ctx, test.name)
			var told *live.Error
			if (err == nil) != ctx.want || err != nil && (!errors.As(err, &told) || told.Code != CodeTopicForbidden) {
				t.Errorf("%s: %s %q: %v, want allowed: %v", ctx.name, test.ask, test.name, err, ctx.want)
			}
		}
	}
}

// TestNoWildcardSpansLabs delivers, with a bridge that all filters share.
func TestNoWildcardSpansLabs(t *testing.T) {
	b := NewMemory(MemoryConfig{})
	defer b.Close()
	filters := []string{"#", "+/#", "+/a/x", "lab/#", "lab/+/x", "lab/+/#", "lab/a/#", "lab/b/#"}
	subs := make(map[string]live.Sub[*Message])
	for _, filter := range filters {
		sub, err := b.Subscribe(t.Context(), filter, AtMostOnce)
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		subs[filter] = sub
	}
	for _, topic := range []string{"lab/a/x", "lab/b/x", "other"} {
		if _, err := b.Publish(t.Context(), Publication{Topic: topic, Payload: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{"#": "other", "+/#": "other", "lab/a/#": "lab/a/x", "lab/b/#": "lab/b/x"}
	for _, filter := range filters {
		var got []string
		buf := make([]live.Event[*Message], 10)
		n, _ := subs[filter].Next(buf)
		for _, ev := range buf[:n] {
			got = append(got, ev.Value.Topic)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want[filter] {
			t.Errorf("%s got %q, want %q", filter, got, want[filter])
		}
	}
}

func TestReadOnlyRulesOpenNothingForPublishing(t *testing.T) {
	rules, err := NewMQTTRules([]string{"demo/#"}, []string{"demo/#"})
	if err != nil {
		t.Fatal(err)
	}
	access := MQTTAccess{Topics: DefaultTopicLimits, Rules: rules.ReadOnly(), Lab: "a"}
	checkRulings(t, []ruling{
		{"read", "demo/x", true},
		{"publish", "demo/x", false},
		{"read", "lab/a/#", true},
		{"publish", "lab/a/x", true},
		{"publish", "lab/b/x", false},
	}, map[string]func(string) error{"read": access.CheckRead, "publish": access.CheckPublish})
}
