package bridges

import (
	"context"
	"slices"
	"strings"
)

// A lab session has a public name, a hash of its secret id. Its topics are
// "lab/<name>/…", its Redis channels and streams "lab:<name>:…". No wildcard
// spans sessions: a filter matches such a topic only if it says "lab/<name>"
// itself, and a pattern is open to a session only if it begins with
// "lab:<name>:". So who does not know a name reads nothing of its session.

type labKey struct{}

// WithLab returns a context whose client works in the lab session with this
// public name: beyond what the rules open to everyone, it may read and publish
// that session's topics and channels.
func WithLab(ctx context.Context, publicName string) context.Context {
	return context.WithValue(ctx, labKey{}, publicName)
}

// LabOf returns the public name of the client's lab session; empty: it has none.
func LabOf(ctx context.Context) string {
	name, _ := ctx.Value(labKey{}).(string)
	return name
}

// LabTopic returns the session that a topic belongs to, or that a filter names;
// ok is false when there is none.
func LabTopic(topic string) (publicName string, ok bool) {
	rest, ok := strings.CutPrefix(topic, "lab/")
	if !ok {
		return "", false
	}
	publicName, _, _ = strings.Cut(rest, "/")
	return publicName, publicName != "+" && publicName != "#"
}

// names reports whether a filter may match topics of the session that topic
// belongs to, if it belongs to one.
func names(filter, topic string) bool {
	session, ok := LabTopic(topic)
	if !ok {
		return true
	}
	named, ok := LabTopic(filter)
	return ok && named == session
}

// MQTTAccess is what one client of an MQTT broker may do.
type MQTTAccess struct {
	Topics TopicLimits
	Rules  *MQTTRules // what is open to everyone
	Lab    string     // the public name of the client's lab session; empty: it has none
}

// CheckRead reports a filter that is ill formed or may not be read, or nil.
func (a MQTTAccess) CheckRead(filter string) error {
	if err := a.Topics.CheckFilter(filter); err != nil {
		return err
	}
	return a.Rules.inLab(a.Lab).CheckRead(filter)
}

// CheckPublish reports a topic that is ill formed or may not be published to, or nil.
func (a MQTTAccess) CheckPublish(topic string) error {
	if err := a.Topics.CheckTopic(topic); err != nil {
		return err
	}
	return a.Rules.inLab(a.Lab).CheckPublish(topic)
}

// inLab returns rules that open the topics of a session, too.
func (r *MQTTRules) inLab(publicName string) *MQTTRules {
	if publicName == "" {
		return r
	}
	own := []string{"lab/" + publicName + "/#"}
	return &MQTTRules{read: slices.Concat(r.read, own), publish: slices.Concat(r.publish, own)}
}

// inLab returns rules that open the channels and streams of a session, too.
func (r *RedisRules) inLab(publicName string) *RedisRules {
	if publicName == "" {
		return r
	}
	pattern := "lab:" + publicName + ":*"
	g, _ := parseGlob(pattern)
	own := []redisRule{{text: pattern, glob: g, lab: true}}
	return &RedisRules{read: slices.Concat(r.read, own), publish: slices.Concat(r.publish, own)}
}
