package bridges

import (
	"strings"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/internal/live"
)

// TopicLimits bounds topics, filters, channels, patterns and streams.
type TopicLimits struct {
	Bytes  int // length in UTF-8
	Levels int // MQTT levels, or parts of a Redis name between ':' or '/'
}

// DefaultTopicLimits are generous for people and small for a broker.
var DefaultTopicLimits = TopicLimits{Bytes: 255, Levels: 32}

// CheckFilter reports why an MQTT topic filter is ill formed (MQTT 3.1.1,
// section 4.7), or nil. The drivers check hardly any of this, and a broker
// answers a bad filter by dropping the connection that all topics share.
func (l TopicLimits) CheckFilter(filter string) error {
	if err := l.checkText("Topic filter", filter, "/"); err != nil {
		return err
	}
	if strings.HasPrefix(filter, "$share/") || strings.HasPrefix(filter, "$queue/") {
		return invalid("Topic filter", filter, "a shared subscription would take messages away from other clients of the broker")
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		switch {
		case strings.Contains(level, "#") && (level != "#" || i != len(levels)-1):
			return invalid("Topic filter", filter, `"#" must be the whole last level, as in "a/#"`)
		case strings.Contains(level, "+") && level != "+":
			return invalid("Topic filter", filter, `"+" must be a whole level, as in "a/+/b"`)
		}
	}
	return nil
}

// CheckTopic reports why an MQTT topic to publish to is ill formed, or nil.
func (l TopicLimits) CheckTopic(topic string) error {
	if err := l.checkText("Topic", topic, "/"); err != nil {
		return err
	}
	if strings.ContainsAny(topic, "+#") {
		return invalid("Topic", topic, `"+" and "#" are for subscribing; publish to one topic`)
	}
	if strings.HasPrefix(topic, "$") { // some brokers answer by closing the connection that all topics share
		return invalid("Topic", topic, `topics that begin with "$" belong to the broker and cannot be published to`)
	}
	return nil
}

// CheckChannel reports why a Redis channel or pattern is ill formed, or nil.
func (l TopicLimits) CheckChannel(channel string) error {
	return l.checkText("Channel", channel, ":/")
}

// CheckStream reports why the name of a Redis stream is ill formed, or nil.
func (l TopicLimits) CheckStream(stream string) error {
	return l.checkText("Stream", stream, ":/")
}

func (l TopicLimits) checkText(what, s, separators string) error {
	switch {
	case s == "":
		return invalid(what, s, "it is empty")
	case len(s) > l.Bytes:
		return live.Errorf(CodeTopicInvalid, "%s of %d bytes is too long: at most %d bytes are accepted.", what, len(s), l.Bytes)
	case !utf8.ValidString(s):
		return live.Errorf(CodeTopicInvalid, "%s is not valid UTF-8.", what)
	}
	levels := 1
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r <= 0x9f {
			return invalid(what, s, "it contains a control character")
		}
		if isNoncharacter(r) { // Mosquitto closes the connection that all topics share
			return invalid(what, s, "it contains a code point that is no character")
		}
		if strings.ContainsRune(separators, r) {
			levels++
		}
	}
	if levels > l.Levels {
		return live.Errorf(CodeTopicInvalid, "%s has %d levels: at most %d are accepted.", what, levels, l.Levels)
	}
	return nil
}

// isNoncharacter reports one of the 66 code points that Unicode keeps free for
// ever. MQTT lets a broker close the connection for them (section 1.5.3).
func isNoncharacter(r rune) bool { return r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe }

func invalid(what, s, why string) error {
	return live.Errorf(CodeTopicInvalid, "%s %q is not valid: %s.", what, s, why)
}

// MatchMQTT reports whether a topic matches a well-formed filter. A wildcard in
// the first place does not match topics that begin with '$' (section 4.7.2), and
// topics of a lab session match only filters that name it, as in "lab/<name>/#".
func MatchMQTT(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && !strings.HasPrefix(filter, "$") || !names(filter, topic) {
		return false
	}
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, trest, tmore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		switch {
		case !fmore && !tmore:
			return true
		case fmore && !tmore:
			return frest == "#" // "a/#" also matches "a" (section 4.7.1.2)
		case !fmore:
			return false
		}
		filter, topic = frest, trest
	}
}
