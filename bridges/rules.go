package bridges

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/internal/live"
)

// MQTTRules say which topics anonymous clients may read and publish to. The
// zero value allows nothing. Safe for use by many goroutines.
type MQTTRules struct {
	read, publish []string
}

// NewMQTTRules makes rules from two lists of topic filters. "#" opens every
// topic but those that begin with '$', which are opened by name: "$SYS/#", and
// those of lab sessions, which no rule opens: MQTTAccess does.
func NewMQTTRules(read, publish []string) (*MQTTRules, error) {
	for _, filter := range slices.Concat(read, publish) {
		if err := DefaultTopicLimits.CheckFilter(filter); err != nil {
			return nil, fmt.Errorf("bridges: allow list: %w", err)
		}
		if strings.HasPrefix(filter, "lab/") {
			return nil, fmt.Errorf("bridges: allow list: %q opens topics of lab sessions; "+
				"those that begin with \"lab/\" are open to their own session alone", filter)
		}
	}
	return &MQTTRules{read: slices.Clone(read), publish: slices.Clone(publish)}, nil
}

// ReadOnly returns rules that open the same for reading and nothing for publishing.
func (r *MQTTRules) ReadOnly() *MQTTRules { return &MQTTRules{read: r.read} }

// CheckRead reports a well-formed filter that may not be read, or nil: every
// topic that it can match has to be inside one allowed filter.
func (r *MQTTRules) CheckRead(filter string) error {
	for _, allowed := range r.read {
		if ContainsMQTT(allowed, filter) {
			return nil
		}
	}
	return forbidden("Topic filter", filter, "read", "Readable", r.read)
}

// CheckPublish reports a topic that may not be published to, or nil.
func (r *MQTTRules) CheckPublish(topic string) error {
	for _, allowed := range r.publish {
		if MatchMQTT(allowed, topic) {
			return nil
		}
	}
	return forbidden("Topic", topic, "published to", "Open for publishing", r.publish)
}

// ContainsMQTT reports whether every topic that matches the filter inner also
// matches outer. Both are well formed. It never says so wrongly; the one true
// containment that it does not see is "+/#" around "#".
func ContainsMQTT(outer, inner string) bool {
	// A wildcard in the first place does not match topics that begin with
	// '$' (MQTT 3.1.1, section 4.7.2).
	if strings.HasPrefix(inner, "$") && !strings.HasPrefix(outer, "$") || !names(outer, inner) {
		return false
	}
	out, in := strings.Split(outer, "/"), strings.Split(inner, "/")
	for i, o := range out {
		switch {
		case o == "#": // also matches what is above it (section 4.7.1.2)
			return true
		case i == len(in) || in[i] == "#":
			return false
		case o != "+" && o != in[i]:
			return false
		}
	}
	return len(in) == len(out)
}

// RedisRules say which channels and streams anonymous clients may read and
// publish to. The
// zero value allows nothing. Safe for use by many goroutines.
type RedisRules struct {
	read, publish []redisRule
}

type redisRule struct {
	text     string
	glob     glob
	reserved bool // opens channels of Redis itself, by name
	lab      bool // opens channels of the client's own lab session
}

// Channels that "*" does not open. Those of Redis itself tell of every key
// (notifications) and of every server (Sentinel); a rule can open them by
// name, as in "__keyspace@0__:*". Our own are open to nobody, those of a lab
// session to that session alone (see WithLab).
var (
	ownChannels      = mustGlob("sluice:*")
	labChannels      = mustGlob("lab:*")
	reservedChannels = []glob{mustGlob("__key*__:*"), mustGlob("__sentinel__*")}
)

// NewRedisRules makes rules from two lists of patterns in the syntax of
// MatchRedis.
func NewRedisRules(read, publish []string) (*RedisRules, error) {
	r := new(RedisRules)
	var err error
	if r.read, err = redisRules(read); err != nil {
		return nil, err
	}
	if r.publish, err = redisRules(publish); err != nil {
		return nil, err
	}
	return r, nil
}

func redisRules(patterns []string) ([]redisRule, error) {
	rules := make([]redisRule, 0, len(patterns))
	for _, pattern := range patterns {
		if err := DefaultTopicLimits.CheckChannel(pattern); err != nil {
			return nil, fmt.Errorf("bridges: allow list: %w", err)
		}
		g, ok := parseGlob(pattern)
		if !ok {
			return nil, fmt.Errorf("bridges: allow list: %q has a range that is not of ASCII characters, "+
				"which Redis reads differently on different machines", pattern)
		}
		if ownChannels.contains(g) {
			return nil, fmt.Errorf("bridges: allow list: %q opens channels of the gateway itself; "+
				"those that begin with \"sluice:\" are never open", pattern)
		}
		if labChannels.contains(g) {
			return nil, fmt.Errorf("bridges: allow list: %q opens channels of lab sessions; "+
				"those that begin with \"lab:\" are open to their own session alone", pattern)
		}
		byName := slices.ContainsFunc(reservedChannels, func(channels glob) bool { return channels.contains(g) })
		rules = append(rules, redisRule{text: pattern, glob: g, reserved: byName})
	}
	return rules, nil
}

// CheckRead reports a channel that may not be read, or nil.
func (r *RedisRules) CheckRead(channel string) error {
	if allows(r.read, matching(channel), matching(channel)) {
		return nil
	}
	return forbidden("Channel", channel, "read", "Readable", texts(r.read))
}

// CheckReadPattern reports a pattern that may not be read, or nil: every
// channel that it can match has to be inside one allowed pattern and outside
// the reserved ones. A pattern too intricate to be sure of is refused.
func (r *RedisRules) CheckReadPattern(pattern string) error {
	if g, ok := parseGlob(pattern); ok {
		within := func(outer glob) bool { return outer.contains(g) }
		if allows(r.read, within, g.overlaps) {
			return nil
		}
	}
	return forbidden("Pattern", pattern, "read", "Readable", texts(r.read))
}

// CheckPublish reports a channel that may not be published to, or nil.
func (r *RedisRules) CheckPublish(channel string) error {
	if allows(r.publish, matching(channel), matching(channel)) {
		return nil
	}
	return forbidden("Channel", channel, "published to", "Open for publishing", texts(r.publish))
}

// CheckReadStream reports a stream that may not be read, or nil. The rules are
// those of channels, but names that begin with "__" are open to nobody.
func (r *RedisRules) CheckReadStream(stream string) error {
	if allowsStream(r.read, stream) {
		return nil
	}
	return forbidden("Stream", stream, "read", "Readable", texts(r.read))
}

// CheckAppendStream reports a stream that may not be appended to, or nil.
func (r *RedisRules) CheckAppendStream(stream string) error {
	if allowsStream(r.publish, stream) {
		return nil
	}
	return forbidden("Stream", stream, "appended to", "Open for publishing", texts(r.publish))
}

func allowsStream(rules []redisRule, stream string) bool {
	return !strings.HasPrefix(stream, "__") && allows(rules, matching(stream), matching(stream))
}

func matching(channel string) func(glob) bool {
	return func(g glob) bool { return g.match(channel) }
}

// allows reports whether something lies within one of the rules and touches no
// reserved channels, unless a rule opens those by name.
func allows(rules []redisRule, within, touches func(glob) bool) bool {
	for _, rule := range rules {
		if !within(rule.glob) {
			continue
		}
		if rule.lab || !touches(ownChannels) && !touches(labChannels) && (rule.reserved || !slices.ContainsFunc(reservedChannels, touches)) {
			return true
		}
	}
	return false
}

func texts(rules []redisRule) []string {
	texts := make([]string, len(rules))
	for i, rule := range rules {
		texts[i] = rule.text
	}
	return texts
}

func forbidden(what, s, verb, open string, allowed []string) error {
	list := "nothing"
	if len(allowed) > 0 {
		list = strings.Join(allowed, ", ")
	}
	return live.Errorf(CodeTopicForbidden, "%s %q may not be %s. %s here: %s.", what, s, verb, open, list)
}
