package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/server"
	"github.com/sluice-gateway/sluice/server/gqlws"
)

// limits are the bounds of the gateway under the names by which people change
// them: --limit NAME=VALUE, or SLUICE_LIMIT_NAME in the environment.
type limits struct {
	httpBody, message, payload, queue, publishBytes, headerBytes bytesValue
	document, echoMessage, labMessage                            bytesValue
	labConnections, labRate, labSessions, labPerAddress          countValue
	labLife                                                      durationValue
	tokens, depth, introspectionDepth, aliases, directives       countValue
	fragments, rootFields, selections, complexity, errors        countValue
	subscriptions, operations, operationsBurst                   countValue
	connections, connectionsPerAddress, publish, publishBurst    countValue
	topicBytes, topicLevels                                      countValue
	headerWait, bodyWait, httpIdle, initWait                     durationValue
	pingEvery, pongWithin, writeDeadline, drain                  durationValue
}

func defaultLimits() limits {
	return limits{
		httpBody: 256 << 10, message: 256 << 10, payload: 256 << 10, queue: 1 << 20,
		publishBytes: 64 << 10, headerBytes: 16 << 10,
		document: 32 << 10, echoMessage: 1 << 20,
		labMessage: 128 << 10, labConnections: 4, labRate: 100, labSessions: 500, labPerAddress: 20,
		labLife: durationValue(30 * time.Minute),
		tokens:  2000, depth: 12, introspectionDepth: 20, aliases: 30, directives: 50,
		fragments: 50, rootFields: 20, selections: 1000, complexity: 500, errors: 20,
		subscriptions: 100, operations: 50, operationsBurst: 200,
		connections: 20_000, connectionsPerAddress: 200, publish: 10, publishBurst: 50,
		topicBytes:  countValue(bridges.DefaultTopicLimits.Bytes),
		topicLevels: countValue(bridges.DefaultTopicLimits.Levels),
		headerWait:  durationValue(5 * time.Second), bodyWait: durationValue(10 * time.Second),
		httpIdle: durationValue(60 * time.Second), initWait: durationValue(3 * time.Second),
		pingEvery: durationValue(25 * time.Second), pongWithin: durationValue(10 * time.Second),
		writeDeadline: durationValue(10 * time.Second), drain: durationValue(10 * time.Second),
	}
}

// limit is one of them as the command line sees it.
type limit struct {
	name, help string
	value      interface {
		fmt.Stringer
		set(string) error
	}
}

func (l *limits) table() []limit {
	return []limit{
		{"http-body", "size of a POST", &l.httpBody},
		{"message", "size of a WebSocket message from a client", &l.message},
		{"echo-message", "size of a message to the echo server", &l.echoMessage},
		{"lab-message", "size of a message to a lab session", &l.labMessage},
		{"payload", "size of one event's result", &l.payload},
		{"queue", "size of the frames that wait for one socket", &l.queue},
		{"publish-bytes", "size of a payload that is published", &l.publishBytes},
		{"header-bytes", "size of the first line and the headers of a request", &l.headerBytes},
		{"document", "size of a GraphQL document", &l.document},
		{"tokens", "words and signs of a document", &l.tokens},
		{"depth", "levels of a document", &l.depth},
		{"introspection-depth", "levels below __schema and __type", &l.introspectionDepth},
		{"aliases", "aliases of a document", &l.aliases},
		{"directives", "directives of a document", &l.directives},
		{"fragments", "fragments of a document", &l.fragments},
		{"root-fields", "fields of the first level of an operation", &l.rootFields},
		{"selections", "fields of a document, with its fragments written out", &l.selections},
		{"complexity", "fields of the operation that runs", &l.complexity},
		{"errors", "errors in one answer", &l.errors},
		{"subscriptions", "active operations of one socket", &l.subscriptions},
		{"operations", "operations that a socket may start in a second", &l.operations},
		{"operations-burst", "and at once, after a pause", &l.operationsBurst},
		{"connections", "open sockets and event streams of all clients", &l.connections},
		{"connections-per-address", "and of one address (loopback is exempt)", &l.connectionsPerAddress},
		{"lab-connections", "open sockets of one lab session, and what it plays at a time", &l.labConnections},
		{"lab-rate", "messages and pings from the clients of one lab session in a second", &l.labRate},
		{"lab-sessions", "lab sessions of all clients", &l.labSessions},
		{"lab-sessions-per-address", "and of one address (loopback is exempt)", &l.labPerAddress},
		{"publish", "mutations of one address in a second", &l.publish},
		{"publish-burst", "and at once, after a pause", &l.publishBurst},
		{"topic-bytes", "length of a topic or channel", &l.topicBytes},
		{"topic-levels", "levels of a topic or channel", &l.topicLevels},
		{"header-wait", "time for the headers of a request", &l.headerWait},
		{"body-wait", "time for the body of a request", &l.bodyWait},
		{"http-idle", "time between two requests of a connection", &l.httpIdle},
		{"init-wait", "time for connection_init", &l.initWait},
		{"ping-every", "time between two pings", &l.pingEvery},
		{"pong-within", "time for the answer to a ping", &l.pongWithin},
		{"write-deadline", "time for one write to a socket", &l.writeDeadline},
		{"lab-life", "time until a lab session ends that is not used", &l.labLife},
		{"drain", "time to close sockets at the end", &l.drain},
	}
}

func (l *limits) set(name, value string) error {
	var names []string
	for _, limit := range l.table() {
		if limit.name == name {
			if err := limit.value.set(value); err != nil {
				return fmt.Errorf("limit %s=%s: %w", name, value, err)
			}
			return nil
		}
		names = append(names, limit.name)
	}
	return fmt.Errorf("limit %q is not known: did you mean %s? There are %s", name, nearest(name, names), strings.Join(names, ", "))
}

func (l *limits) topics() bridges.TopicLimits {
	return bridges.TopicLimits{Bytes: int(l.topicBytes), Levels: int(l.topicLevels)}
}

func (l *limits) server() server.Limits {
	return server.Limits{
		HeaderBytes: int(l.headerBytes), HeaderWait: time.Duration(l.headerWait), Idle: time.Duration(l.httpIdle),
		BodyBytes: int64(l.httpBody), BodyWait: time.Duration(l.bodyWait),
		Document: server.DocumentLimits{
			Bytes: int(l.document), Tokens: int(l.tokens), Depth: int(l.depth), IntrospectionDepth: int(l.introspectionDepth),
			Aliases: int(l.aliases), Directives: int(l.directives), Fragments: int(l.fragments), RootFields: int(l.rootFields),
			Selections: int(l.selections), Complexity: int(l.complexity), Errors: int(l.errors),
		},
		EchoBytes: int64(l.echoMessage),
		LabBytes:  int64(l.labMessage), LabConnections: int(l.labConnections), LabRate: int(l.labRate), LabLife: time.Duration(l.labLife),
		LabSessions: int(l.labSessions), LabSessionsPerAddress: int(l.labPerAddress),
		Connections: int(l.connections), ConnectionsPerAddress: int(l.connectionsPerAddress),
		PublishPerSecond: int(l.publish), PublishBurst: int(l.publishBurst),
		WebSocket: gqlws.Config{
			MessageBytes: int64(l.message), PayloadBytes: int(l.payload), QueueBytes: int(l.queue),
			Operations: int(l.subscriptions), OperationsPerSecond: int(l.operations), OperationsBurst: int(l.operationsBurst),
			InitWait:  time.Duration(l.initWait),
			PingEvery: time.Duration(l.pingEvery), PongWithin: time.Duration(l.pongWithin),
			WriteDeadline: time.Duration(l.writeDeadline),
		},
	}
}

// limitFlags are the NAME=VALUE of the command line.
type limitFlags []string

// resolve applies the environment, then the flags, to the defaults.
func (f limitFlags) resolve(env func(string) (string, bool)) (limits, error) {
	l := defaultLimits()
	for _, limit := range l.table() {
		name := limitVariable(limit.name)
		if value, ok := env(name); ok {
			if err := limit.value.set(value); err != nil {
				return l, fmt.Errorf("%s=%s: %w", name, value, err)
			}
		}
	}
	for _, flag := range f {
		name, value, ok := strings.Cut(flag, "=")
		if !ok {
			return l, fmt.Errorf("--limit %q is not of the form NAME=VALUE, such as queue=4MiB", flag)
		}
		if err := l.set(name, value); err != nil {
			return l, fmt.Errorf("--limit: %w", err)
		}
	}
	return l, nil
}

func limitVariable(name string) string {
	return "SLUICE_LIMIT_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

func printLimits(w io.Writer) error {
	l := defaultLimits()
	fmt.Fprintln(w, "\nLimits (--limit NAME=VALUE, or SLUICE_LIMIT_NAME in the environment):")
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, limit := range l.table() {
		fmt.Fprintf(columns, "  %s\t%s\t%s\n", limit.name, limit.value, limit.help)
	}
	return columns.Flush()
}

// bytesValue is a size: a number of bytes, or one with KiB or MiB.
type bytesValue int64

func (b *bytesValue) set(s string) error {
	number, unit := s, int64(1)
	for suffix, factor := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20} {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			number, unit = rest, factor
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 1 || n > (1<<40)/unit {
		return fmt.Errorf("want a size of at least one byte, such as 65536, 64KiB or 4MiB")
	}
	*b = bytesValue(n * unit)
	return nil
}

func (b *bytesValue) String() string {
	switch n := int64(*b); {
	case n%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", n>>20)
	case n%(1<<10) == 0:
		return fmt.Sprintf("%dKiB", n>>10)
	default:
		return strconv.FormatInt(n, 10)
	}
}

// countValue is a positive number.
type countValue int

func (c *countValue) set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return fmt.Errorf("want a number of at least 1")
	}
	*c = countValue(n)
	return nil
}

func (c *countValue) String() string { return strconv.Itoa(int(*c)) }

// durationValue is a positive length of time.
type durationValue time.Duration

func (d *durationValue) set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil || v <= 0 {
		return fmt.Errorf("want a length of time above zero, such as 500ms, 10s or 2m")
	}
	*d = durationValue(v)
	return nil
}

func (d *durationValue) String() string {
	s := time.Duration(*d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	return s
}
