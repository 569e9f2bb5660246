package bridges

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/testenv"
)

func TestContainsMQTT(t *testing.T) {
	tests := []struct {
		outer, inner string
		want         bool
	}{
		{"demo/#", "demo/#", true},
		{"demo/#", "demo", true}, // section 4.7.1.2
		{"demo/#", "demo/a", true},
		{"demo/#", "demo/+", true},
		{"demo/#", "demo/+/x", true},
		{"demo/#", "demo/a/#", true},
		{"demo/#", "demo/", true},
		{"demo/#", "demos/a", false},
		{"demo/#", "demon", false},
		{"demo/#", "#", false},
		{"demo/#", "+/#", false},
		{"demo/#", "+", false},
		{"demo/#", "+/a", false},
		{"demo/#", "/demo/a", false},
		{"demo/+", "demo/a", true},
		{"demo/+", "demo/+", true},
		{"demo/+", "demo/", true},
		{"demo/+", "demo", false},
		{"demo/+", "demo/#", false},
		{"demo/+", "demo/a/b", false},
		{"demo/+/x", "demo/a/x", true},
		{"demo/+/x", "demo/+/x", true},
		{"demo/+/x", "demo/a/+", false},
		{"demo/+/#", "demo/a", true},
		{"demo/+/#", "demo/#", false}, // demo itself
		{"demo/a", "demo/a", true},
		{"demo/a", "demo/+", false},
		{"demo/a", "demo/a/#", false},
		{"#", "#", true},
		{"#", "+/a", true},
		{"#", "a/b/c", true},
		{"#", "$SYS/#", false},
		{"#", "$SYS", false},
		{"+/#", "$SYS/a", false},
		{"+", "$SYS", false},
		{"$SYS/#", "$SYS/broker/+", true},
		{"$SYS/#", "$SYS", true},
		{"$SYS/#", "#", false},
		{"$SYS/#", "+/broker", false},
		{"lab/a/#", "lab/a/x", true},
		{"lab/a/#", "lab/a", true},
		{"lab/a/#", "lab/b/x", false},
		{"lab/a/#", "lab/+/x", false},
		{"lab/a/#", "lab/#", false},
		{"lab/+/#", "lab/a/x", false},
		{"lab/#", "lab/a/x", false},
		{"+/a/#", "lab/a/x", false},
		{"#", "lab/a/#", false},
		{"#", "lab/#", true}, // which matches no session's topics
		{"#", "lab/+/x", true},
		{"#", "lab", true},
		{"#", "laboratory/a", true},
	}
	for _, test := range tests {
		if got := ContainsMQTT(test.outer, test.inner); got != test.want {
			t.Errorf("ContainsMQTT(%q, %q) = %v, want %v", test.outer, test.inner, got, test.want)
		}
	}
}

// ruling is what a rule is asked and what it says.
type ruling struct {
	verb, topic string
	allowed     bool
}

func checkRulings(t *testing.T, rulings []ruling, check map[string]func(string) error) {
	t.Helper()
	for _, r := range rulings {
		err := check[r.verb](r.topic)
		if (err == nil) != r.allowed {
			t.Errorf("%s %q: %v, want allowed: %v", r.verb, r.topic, err, r.allowed)
		}
		var told *live.Error
		if err != nil && (!errors.As(err, &told) || told.Code != CodeTopicForbidden) {
			t.Errorf("%s %q: %v, want %s", r.verb, r.topic, err, CodeTopicForbidden)
		}
	}
}

func TestMQTTRules(t *testing.T) {
	rules, err := NewMQTTRules([]string{"demo/#", "lessons/#"}, []string{"demo/#"})
	if err != nil {
		t.Fatal(err)
	}
	open, err := NewMQTTRules([]string{"#"}, []string{"#"})
	if err != nil {
		t.Fatal(err)
	}
	checkRulings(t, []ruling{
		{"read", "demo/x", true},
		{"read", "lessons/+/events", true},
		{"read", "#", false},
		{"read", "private/x", false},
		{"read", "$share/group/demo/x", false},
		{"publish", "demo/x", true},
		{"publish", "lessons/x/events", false},
		{"publish", "$SYS/x", false},
		{"read openly", "#", true},
		{"read openly", "a/b", true},
		{"read openly", "$SYS/#", false},
		{"read openly", "$share/group/a", false},
		{"read openly", "lab/a/x", false},
		{"publish openly", "lab/a/x", false},
		{"publish openly", "a/b", true},
		{"publish openly", "$SYS/x", false},
		{"read nothing", "demo/x", false},
		{"publish nothing", "demo/x", false},
	}, map[string]func(string) error{
		"read": rules.CheckRead, "publish": rules.CheckPublish,
		"read openly": open.CheckRead, "publish openly": open.CheckPublish,
		"read nothing": new(MQTTRules).CheckRead, "publish nothing": new(MQTTRules).CheckPublish,
	})
}

func TestRulesSayWhatIsOpen(t *testing.T) {
	mqtt, _ := NewMQTTRules([]string{"demo/#", "lessons/#"}, nil)
	redis, _ := NewRedisRules([]string{"demo:*", "lessons:*"}, nil)
	tests := []struct {
		err  error
		want string
	}{
		{mqtt.CheckRead("x/#"), `Topic filter "x/#" may not be read. Readable here: demo/#, lessons/#.`},
		{mqtt.CheckPublish("x"), `Topic "x" may not be published to. Open for publishing here: nothing.`},
		{redis.CheckRead("x"), `Channel "x" may not be read. Readable here: demo:*, lessons:*.`},
		{redis.CheckReadPattern("*"), `Pattern "*" may not be read. Readable here: demo:*, lessons:*.`},
		{redis.CheckPublish("x"), `Channel "x" may not be published to. Open for publishing here: nothing.`},
	}
	for _, test := range tests {
		var told *live.Error
		if !errors.As(test.err, &told) || told.Message != test.want {
			t.Errorf("got  %v\nwant %s", test.err, test.want)
		}
	}
}

func TestRulesThatAreRefused(t *testing.T) {
	mqtt := func(p string) error { _, err := NewMQTTRules(nil, []string{p}); return err }
	redis := func(p string) error { _, err := NewRedisRules([]string{p}, nil); return err }
	tests := []struct {
		make    func(string) error
		pattern string
		says    string
	}{
		{mqtt, "", "empty"},
		{mqtt, "demo/#/x", `"demo/#/x"`},
		{mqtt, "demo+", `"+" must be a whole level`},
		{mqtt, "$share/g/#", "shared subscription"},
		{mqtt, "lab/#", "lab sessions"},
		{mqtt, "lab/+/x", "lab sessions"},
		{mqtt, "lab", ""},
		{redis, "lab:*", "lab sessions"},
		{redis, "[l]ab:a:x", "lab sessions"},
		{redis, "", "empty"},
		{redis, "a\r\nb", "control character"},
		{redis, "sluice:*", "never open"},
		{redis, "slui?e:secret", ""}, // also matches "sluiXe:secret": of use
		{redis, "sluic[e]:secret", "never open"},
		{redis, "[é-ü]", "ASCII"},
	}
	for _, test := range tests {
		err := test.make(test.pattern)
		if (err == nil) != (test.says == "") {
			t.Errorf("%q: error %v, want one that says %q", test.pattern, err, test.says)
		}
		if err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%q: error %v does not say %q", test.pattern, err, test.says)
		}
	}
}

func TestRedisRules(t *testing.T) {
	rules, err := NewRedisRules([]string{"demo:*", "demo/*", "lessons:*"}, []string{"demo:*"})
	if err != nil {
		t.Fatal(err)
	}
	open, err := NewRedisRules([]string{"*"}, []string{"*"})
	if err != nil {
		t.Fatal(err)
	}
	events, err := NewRedisRules([]string{"__keyspace@0__:*", "news"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	checkRulings(t, []ruling{
		{"read", "demo:x", true},
		{"read", "demo:*", true}, // a channel of that very name
		{"read", "demo", false},
		{"read", "other", false},
		{"read", "sluice:x", false},
		{"pattern", "demo:*", true},
		{"pattern", "demo:?", true},
		{"pattern", "demo:[a-z]*", true},
		{"pattern", `\demo:*`, true},
		{"pattern", "d[e]mo/*/x", true},
		{"pattern", "lessons:*:events", true},
		{"pattern", "*", false},
		{"pattern", "d*", false},
		{"pattern", "demo*", false},
		{"pattern", "demo?x", false},
		{"pattern", "demo[:/]x", false}, // two rules together: not looked for
		{"pattern", `demo\:*`, true},
		{"publish", "demo:x", true},
		{"publish", "demo/x", false},
		{"publish", "sluice:x", false},
		{"read openly", "anything", true},
		{"read openly", "sluice:log", false},
		{"read openly", "sluice", true},
		{"read openly", "__keyspace@0__:x", false},
		{"read openly", "__keyevent@15__:set", false},
		{"read openly", "__sentinel__:hello", false},
		{"read openly", "lab:a:x", false},
		{"publish openly", "lab:a:x", false},
		{"pattern openly", "lab:*", false},
		{"pattern openly", "lab:a:*", false},
		{"pattern openly", "l*", false},
		{"pattern openly", "[l-m]ab:*", false},
		{"pattern openly", "labour*", true},
		{"pattern openly", "a*", true},
		{"pattern openly", "*", false},   // all of the reserved ones
		{"pattern openly", "*:x", false}, // sluice:x
		{"pattern openly", "s*", false},  // sluice:x
		{"pattern openly", "?luice:x", false},
		{"pattern openly", "[^a]*", false},
		{"pattern openly", "sluice", true},
		{"pattern openly", "sluice*", false},
		{"pattern openly", "_*", false},
		{"pattern openly", "__keyspace@0__:x", false},
		{"pattern openly", "t*:x", true},
		{"publish openly", "x", true},
		{"publish openly", "sluice:x", false},
		{"publish openly", "__sentinel__:hello", false},
		{"read events", "__keyspace@0__:x", true},
		{"read events", "__keyspace@1__:x", false},
		{"pattern events", "__keyspace@0__:user:*", true},
		{"pattern events", "__key*", false},
		{"read events", "news", true},
		{"pattern nothing", "x", false},
	}, map[string]func(string) error{
		"read": rules.CheckRead, "pattern": rules.CheckReadPattern, "publish": rules.CheckPublish,
		"read openly": open.CheckRead, "pattern openly": open.CheckReadPattern, "publish openly": open.CheckPublish,
		"read events": events.CheckRead, "pattern events": events.CheckReadPattern,
		"pattern nothing": new(RedisRules).CheckReadPattern,
	})
}

func TestGlobContains(t *testing.T) {
	tests := []struct {
		outer, inner string
		want         bool
	}{
		{"*", "*", true},
		{"*", "?", true},
		{"?*", "*", true}, // no channel is empty
		{"??*", "*", false},
		{"*?", "?*", true},
		{"*a*", "*a", true},
		{"*a*", "a*a", true},
		{"a*a", "*a*", false},
		{"a*a", "a*ba", true},
		{"a*a", "a", false}, // needs two of them
		{"[a-c]", "[ab]", true},
		{"[ab]", "[a-c]", false},
		{"[^a]", "b", true},
		{"[^a]", "?", false},
		{"?", "[^a]", true},
		{"[c-a]", "b", true},
		{`\*`, "*", false},
		{"*", `\*`, true},
		{"x*", `[]`, true}, // an empty set matches nothing, which is inside
		{"*ab*", "*a?b*", false},
		{"*b*c", "*b?*c", true},
		{"a*b*c*d", "a?b?c?d", true},
		{"*a", "*aa", true},
		{"*aa", "*a", false},
		{"*aab", "*aaab", true},
	}
	for _, test := range tests {
		if got := mustGlob(test.outer).contains(mustGlob(test.inner)); got != test.want {
			t.Errorf("%q contains %q = %v, want %v", test.outer, test.inner, got, test.want)
		}
	}
}

// A pattern that would take for ever is refused in no time.
func TestGlobContainsIsBounded(t *testing.T) {
	hard := mustGlob("*a" + strings.Repeat("?", 100) + "b*")
	if hard.contains(mustGlob("*[ab]" + strings.Repeat("[ab]", 100) + "c*")) {
		t.Error("an answer that is wrong")
	}
	long := mustGlob(strings.Repeat("*a", 40))
	if !long.contains(long) {
		t.Error("40 stars are not within themselves")
	}
}

// BenchmarkCheckReadPattern asks for the worst patterns that were found, as
// long as limits allow.
func BenchmarkCheckReadPattern(b *testing.B) {
	rules, err := NewRedisRules([]string{"demo:*", "demo/*", "lessons:*", "*a????????b*"}, nil)
	if err != nil {
		b.Fatal(err)
	}
	var distinct strings.Builder
	for c := byte('!'); distinct.Len() < 240; c++ {
		distinct.WriteString("*" + `\` + string(c))
	}
	for name, pattern := range map[string]string{
		"usual":    "demo:sensors:*",
		"wide":     strings.Repeat("*?", 120),
		"distinct": "d" + distinct.String(),
		"sets":     "d" + strings.Repeat("*[ab]", 50),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_ = rules.CheckReadPattern(pattern)
			}
		})
	}
}

// randomPattern makes patterns that trip over every corner of the syntax.
func randomPattern(r *rand.Rand) string {
	return randomText(r, `abc**??[[]]^-\`, 1+r.IntN(9))
}

func randomText(r *rand.Rand, alphabet string, n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte(alphabet[r.IntN(len(alphabet))])
	}
	return b.String()
}

func newRand(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// channelsOf is every string of up to four bytes over what randomPattern
// tells apart.
func channelsOf(alphabet string, length int) []string {
	all, last := []string{}, []string{""}
	for range length {
		var longer []string
		for _, s := range last {
			for _, c := range alphabet {
				longer = append(longer, s+string(c))
			}
		}
		all, last = append(all, longer...), longer
	}
	return all
}

func TestGlobContainsAndOverlapsKeepTheirWord(t *testing.T) {
	r := newRand(t)
	channels := channelsOf(`abcd*]^-\`, 3)
	var contained, disjoint int
	for range 2000 {
		outer, inner := randomPattern(r), randomPattern(r)
		if r.IntN(2) == 0 { // make containment likely
			inner = outer[:r.IntN(len(outer)+1)] + randomPattern(r)
		}
		contains := mustGlob(outer).contains(mustGlob(inner))
		overlaps := mustGlob(outer).overlaps(mustGlob(inner))
		for _, c := range channels {
			o, i := MatchRedis(outer, c), MatchRedis(inner, c)
			if contains && i && !o {
				t.Fatalf("%q contains %q, but %q matches only the second", outer, inner, c)
			}
			if !overlaps && i && o {
				t.Fatalf("%q and %q do not overlap, but %q matches both", outer, inner, c)
			}
		}
		if contains {
			contained++
		}
		if !overlaps {
			disjoint++
		}
	}
	if contained < 100 || disjoint < 100 {
		t.Errorf("%d contained, %d disjoint: too few to mean anything", contained, disjoint)
	}
}

func FuzzGlobContains(f *testing.F) {
	f.Add("demo:*", "demo:?", "demo:x")
	f.Add("*a?b*", "*aab", "aab")
	f.Add(`[^\]-a]`, "[a-]b", "b")
	f.Fuzz(func(t *testing.T, outer, inner, channel string) {
		o, ok := parseGlob(outer)
		i, also := parseGlob(inner)
		if !ok || !also || len(o)+len(i) > 100 || channel == "" {
			return
		}
		if o.contains(i) && i.match(channel) && !o.match(channel) {
			t.Errorf("%q contains %q, but %q matches only the second", outer, inner, channel)
		}
		if !o.overlaps(i) && i.match(channel) && o.match(channel) {
			t.Errorf("%q and %q do not overlap, but %q matches both", outer, inner, channel)
		}
	})
}

func FuzzContainsMQTT(f *testing.F) {
	f.Add("demo/#", "demo/+/x", "demo/a/x")
	f.Add("+/a", "+/a", "$SYS/a")
	f.Add("lab/+/x", "lab/a/x", "lab/a/x")
	f.Fuzz(func(t *testing.T, outer, inner, topic string) {
		l := DefaultTopicLimits
		if l.CheckFilter(outer) != nil || l.CheckFilter(inner) != nil || l.CheckTopic(topic) != nil {
			return
		}
		if ContainsMQTT(outer, inner) && MatchMQTT(inner, topic) && !MatchMQTT(outer, topic) {
			t.Errorf("%q contains %q, but %q matches only the second", outer, inner, topic)
		}
	})
}

// Redis itself is asked: KEYS and PSUBSCRIBE share one matcher.
func TestMatchRedisAsRedisDoes(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: testenv.Redis(t).Addr(), Protocol: 2, DisableIdentity: true})
	defer client.Close()
	r := newRand(t)
	patterns := []string{
		"*", "**", "?", "[", "[^", "[^]", "[]", "[]a]", "[a", "[a-", "[a-]", "[a-]b", `[a-\]]`, `[\a-c]`, `[\]`, `[\`,
		`\`, `a\`, `\\`, `\*`, `\?`, `\[a]`, "[*]", "[?]", "[^a-c]", "[c-a]", "[-]", "[--a]", "a]", "]", "^", "[b^]",
		"*[^a]*", "a*b*c", "?*?", "*?", "[a]*", "a**", "a*?**", `*\**`, "\xff", "[\x80-\xff]", "[a-\xff]", "[^\x80]",
	}
	for range 2000 {
		patterns = append(patterns, randomPattern(r))
	}
	channels := append(channelsOf(`abcd*?[]^-\`, 2), "\x80", "\xc3", "\xff", "a\xff")
	for range 300 {
		channels = append(channels, randomText(r, `abcd*?[]^-\`, 3+r.IntN(4)))
	}
	slices.Sort(channels)
	channels = slices.Compact(channels)
	pairs := make([]any, 0, 2*len(channels))
	for _, c := range channels {
		pairs = append(pairs, c, "")
	}
	if err := client.MSet(t.Context(), pairs...).Err(); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range patterns {
		want, err := client.Keys(t.Context(), pattern).Result()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range channels {
			if MatchRedis(pattern, c) {
				got = append(got, c)
			}
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("MatchRedis with pattern %q: %q, Redis says %q", pattern, got, want)
		}
	}
}
