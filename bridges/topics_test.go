package bridges

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/internal/live"
)

func TestCheckFilter(t *testing.T) {
	tests := []struct {
		filter string
		want   string // part of the message; empty: accepted
	}{
		{"a", ""},
		{"/", ""},
		{"a//b", ""},
		{"/a/", ""},
		{"#", ""},
		{"+", ""},
		{"a/#", ""},
		{"+/+/#", ""},
		{"/+", ""},
		{"demo/温度/+", ""},
		{"with space", ""},
		{"$SYS/#", ""},
		{"$shared", ""},
		{strings.Repeat("a", 255), ""},
		{strings.Repeat("/", 31), ""},

		{"", "it is empty"},
		{strings.Repeat("a", 256), "at most 255 bytes"},
		{strings.Repeat("温", 86), "258 bytes"},
		{strings.Repeat("/", 32), "33 levels: at most 32"},
		{"a\x00", "control character"},
		{"a\nb", "control character"},
		{"a\x7f", "control character"},
		{"a\u0085", "control character"},
		{"a\uffff", "no character"},
		{"a\ufdd0", "no character"},
		{"a\U0001fffe", "no character"},
		{"a\xff", "not valid UTF-8"},
		{"\xed\xa0\x80", "not valid UTF-8"}, // a surrogate (section 1.5.3)
		{"#/a", `"#" must be the whole last level`},
		{"a/#/b", `"#" must be the whole last level`},
		{"a#", `"#" must be the whole last level`},
		{"a/b#", `"#" must be the whole last level`},
		{"##", `"#" must be the whole last level`},
		{"+#", `"#" must be the whole last level`},
		{"+a", `"+" must be a whole level`},
		{"a/b+/c", `"+" must be a whole level`},
		{"++", `"+" must be a whole level`},
		{"$share/group/a", "shared subscription"},
		{"$queue/a", "shared subscription"},
	}
	for _, test := range tests {
		wantInvalid(t, "CheckFilter", test.filter, DefaultTopicLimits.CheckFilter(test.filter), test.want)
	}
}

func TestCheckTopic(t *testing.T) {
	tests := []struct {
		topic string
		want  string // part of the message; empty: accepted
	}{
		{"a/b", ""},
		{"/", ""},
		{"a$b/$c", ""},

		{"", "it is empty"},
		{"a/#", "are for subscribing"},
		{"a+b", "are for subscribing"},
		{"$SYS/broker", "belong to the broker"},
		{"a\x01", "control character"},
	}
	for _, test := range tests {
		wantInvalid(t, "CheckTopic", test.topic, DefaultTopicLimits.CheckTopic(test.topic), test.want)
	}
}

func wantInvalid(t *testing.T, check, s string, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("%s(%q): %v, want it accepted", check, s, err)
		}
		return
	}
	var told *live.Error
	if !errors.As(err, &told) || told.Code != CodeTopicInvalid || !strings.Contains(told.Message, want) {
		t.Errorf("%s(%q): %v, want %s with %q", check, s, err, CodeTopicInvalid, want)
	}
	if told != nil && !utf8.ValidString(told.Message) {
		t.Errorf("%s(%q): the message %q is not valid UTF-8", check, s, told.Message)
	}
}

// Most of these are the examples of MQTT 3.1.1, section 4.7.
func TestMatchMQTT(t *testing.T) {
	tests := []struct {
		filter, topic string
		want          bool
	}{
		{"a", "a", true},
		{"a", "A", false},
		{"a", "/a", false},
		{"a", "a/", false},
		{"a/b", "a", false},
		{"a", "a/b", false},

		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/tennis/player1/#", "sport/tennis/player10", false},
		{"sport/#", "sport", true},
		{"#", "a", true},
		{"#", "/", true},

		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+", "finance", true},
		{"+", "/finance", false},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+/tennis/#", "sport/tennis", true},
		{"a/+/c", "a/b/c", true},
		{"a/+/c", "a//c", true},
		{"a/+/#", "a", false},

		{"#", "$SYS/a", false},
		{"+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"+", "$SYS", false},
		{"$SYS/#", "$SYS/a", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
		{"a/+", "a/$b", true},

		{"lab/a/#", "lab/a/x", true},
		{"lab/a/+/y", "lab/a/x/y", true},
		{"lab/a/#", "lab/a", true},
		{"lab/a", "lab/a", true},
		{"lab/a/#", "lab/b/x", false},
		{"#", "lab/a/x", false},
		{"+/#", "lab/a/x", false},
		{"+/a/x", "lab/a/x", false},
		{"lab/#", "lab/a/x", false},
		{"lab/+", "lab/a", false},
		{"lab/+/x", "lab/a/x", false},
		{"lab/+/x", "lab//x", false},
		{"lab//x", "lab//x", true},
		{"lab/#", "lab", true},
		{"#", "lab", true},
		{"#", "laboratory/a", true},
		{"+/lab/a", "x/lab/a", true},
	}
	for _, test := range tests {
		if got := MatchMQTT(test.filter, test.topic); got != test.want {
			t.Errorf("MatchMQTT(%q, %q) = %v, want %v", test.filter, test.topic, got, test.want)
		}
	}
}

// matchByLevels is section 4.7 word by word, slow and plain.
func matchByLevels(filter, topic string) bool {
	fs, ts := strings.Split(filter, "/"), strings.Split(topic, "/")
	if ts[0] != "" && ts[0][0] == '$' && (fs[0] == "+" || fs[0] == "#") {
		return false // 4.7.2
	}
	if len(ts) > 1 && ts[0] == "lab" && (len(fs) < 2 || fs[0] != "lab" || fs[1] != ts[1]) {
		return false // of a lab session that the filter does not name
	}
	for i, f := range fs {
		if f == "#" {
			return i <= len(ts) // 4.7.1.2: the parent and any number of children
		}
		if i >= len(ts) || f != "+" && f != ts[i] {
			return false
		}
	}
	return len(fs) == len(ts)
}

// FuzzCheckFilter: what is accepted can be given to a driver, and matches as
// the standard says.
func FuzzCheckFilter(f *testing.F) {
	for _, seed := range [][2]string{
		{"a/#", "a"}, {"+/b", "a/b"}, {"#", "$SYS"}, {"a//+", "a//"}, {"a\xff", "a"}, {"+a", "#"}, {"$share/g/a", "a"}, {"/", "/"}, {"lab/+/x", "lab/a/x"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, filter, topic string) {
		if err := DefaultTopicLimits.CheckFilter(filter); err != nil {
			var told *live.Error
			if !errors.As(err, &told) || told.Code != CodeTopicInvalid || !utf8.ValidString(told.Message) {
				t.Fatalf("CheckFilter(%q): %v", filter, err)
			}
			return
		}
		if filter == "" || len(filter) > DefaultTopicLimits.Bytes || !utf8.ValidString(filter) || strings.ContainsRune(filter, 0) {
			t.Fatalf("CheckFilter(%q) accepted it", filter)
		}
		for i, level := range strings.Split(filter, "/") {
			if len(level) > 1 && strings.ContainsAny(level, "+#") {
				t.Fatalf("CheckFilter(%q) accepted level %d", filter, i)
			}
		}
		if DefaultTopicLimits.CheckTopic(filter) == nil && !MatchMQTT(filter, filter) {
			t.Fatalf("the topic %q does not match itself", filter)
		}
		if topic == "" || strings.ContainsAny(topic, "+#") {
			return
		}
		if got, want := MatchMQTT(filter, topic), matchByLevels(filter, topic); got != want {
			t.Fatalf("MatchMQTT(%q, %q) = %v, want %v", filter, topic, got, want)
		}
	})
}
