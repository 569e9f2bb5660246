package course_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// by says what serves a step.
type by string

const (
	echo    by = "echo"    // labs.Echo, with the handshake's judge
	here    by = "course"  // labs/course
	script  by = "script"  // lessons/content/<slug>/server.yaml, in labs/mock
	gql     by = "graphql" // the gateway's GraphQL server
	broker  by = "mqtt"    // labs/mqttws
	learner by = "probe"   // the learner's own server, asked by labs/probe
	nobody  by = "nobody"  // an answer to something that is shown, not served
)

// lessonSteps are all steps of lessons 1 to 19, with what a server does for each,
// on which path, and the tests that show it, as package.Test or as a file and a
// part of a test's name.
var lessonSteps = []struct {
	lesson, step string
	behaviour    string
	by           by
	path         string
	shown        []string
}{
	{"what-is-websocket", "S1", "answers the handshake", echo, "/echo", []string{"labs.TestHandshakes"}},
	{"what-is-websocket", "S2", "sends a text back", echo, "/echo", []string{"labs.TestEchoKeepsToTheProtocol"}},
	{"what-is-websocket", "S3", "and a second one on the same connection", echo, "/echo", []string{"labs.TestEchoKeepsToTheProtocol"}},

	{"realtime-options", "S1", "gives events to polls, and counts requests, events and bytes", here, "/compare/poll", []string{"labs/course.TestCompareGivesOneFeedInFourWays", "labs/course.TestCompareCountsWhatIsOnTheWire"}},
	{"realtime-options", "S2", "sends events as text/event-stream, and resumes", here, "/compare/events", []string{"labs/course.TestCompareGivesOneFeedInFourWays", "labs/course.TestCompareResumes", "clients/browser/course.test.js: EventSource"}},
	{"realtime-options", "S3", "sends events over a WebSocket", here, "/compare", []string{"labs/course.TestCompareGivesOneFeedInFourWays"}},
	{"realtime-options", "S4", "its counters are those of the wire", here, "/compare/long", []string{"labs/course.TestCompareCountsWhatIsOnTheWire"}},

	{"opening-handshake", "S1", "answers a handshake made by hand", echo, "/echo", []string{"labs.TestHandshakes"}},
	{"opening-handshake", "S2", "draws a key whose accept value is asked for", here, "key", []string{"labs/course.TestVarsAreWhatTheirNamesSay"}},
	{"opening-handshake", "S3", "426 with Sec-WebSocket-Version: 13 for another version", echo, "/echo", []string{"labs.TestHandshakes"}},
	{"opening-handshake", "S4", "names the header that is missing", echo, "/echo", []string{"labs.TestHandshakes"}},

	{"network-path", "S1", "a proxy that strips hop-by-hop headers: the echo server refuses", here, "/via/broken", []string{"labs/course.TestViaBrokenStripsTheHeadersOfTheHop"}},
	{"network-path", "S2", "names what it strips", here, "/via/broken", []string{"labs/course.TestViaBrokenStripsTheHeadersOfTheHop"}},
	{"network-path", "S3", "a proxy that passes everything on", here, "/via/good", []string{"labs/course.TestViaGoodPassesEverythingOn"}},
	{"network-path", "S4", "a proxy that cuts after 10 s of silence", here, "/via/idle", []string{"labs/course.TestViaIdleCutsSilence"}},

	{"browser-api", "S1", "answers the handshake", echo, "/echo", []string{"labs.TestHandshakes"}},
	{"browser-api", "S2", "takes a text", echo, "/echo", []string{"labs.TestEchoKeepsToTheProtocol"}},
	{"browser-api", "S3", "takes bytes", echo, "/echo", []string{"labs.TestEchoKeepsToTheProtocol"}},
	{"browser-api", "S4", "sends a number as an 8-byte float and judges the answer", script, "/number", []string{"labs/course.TestNumber", "clients/browser/course.test.js: float"}},
	{"browser-api", "S5", "two connections at once", echo, "/echo", []string{"labs.TestDoorEndsTheContextOfItsSockets"}},

	{"ready-states-and-close", "S1", "answers a Close with 1000", echo, "/echo", []string{"labs.TestEchoAnswersEveryCloseCode"}},
	{"ready-states-and-close", "S2", "answers a Close with 4000 to 4999 and a reason", echo, "/echo", []string{"labs.TestEchoAnswersEveryCloseCode"}},
	{"ready-states-and-close", "S3", "answers an empty Close", echo, "/echo", []string{"labs.TestEchoKeepsToTheProtocol"}},
	{"ready-states-and-close", "S4", "closes with 1001 and waits for the answer", script, "/going-away", []string{"labs/course.TestCloses", "clients/browser/course.test.js: 1001"}},
	{"ready-states-and-close", "S5", "cuts TCP without a Close frame", script, "/cut", []string{"labs/course.TestCloses", "clients/browser/course.test.js: 1006"}},

	{"reconnect-and-backoff", "S1", "cuts, then lets the client come back", script, "/unsteady", []string{"labs/course.TestUnsteady"}},
	{"reconnect-and-backoff", "S2", "cuts five times, then stays", script, "/unsteady", []string{"labs/course.TestUnsteady"}},
	{"reconnect-and-backoff", "S3", "the same for a second run", script, "/unsteady", []string{"labs/course.TestUnsteady"}},
	{"reconnect-and-backoff", "S4", "closes with 1013, then is there again", script, "/busy", []string{"labs/course.TestCloses", "clients/browser/course.test.js: 1013"}},
	{"reconnect-and-backoff", "S5", "closes with 1008, every time", script, "/banned", []string{"labs/course.TestCloses", "clients/browser/course.test.js: 1008"}},
	{"reconnect-and-backoff", "S6", "numbered messages, a cut, and more from the number that the client names", script, "/feed", []string{"labs/course.TestFeedResumes"}},

	{"debugging-tools", "S1", "hides a word in a binary frame, and knows it when it comes back", script, "/hunt", []string{"labs/course.TestHunt"}},
	{"debugging-tools", "S2", "hides a word in a ping", script, "/hunt", []string{"labs/course.TestHunt"}},
	{"debugging-tools", "S3", "hides a word in the reason of a Close", script, "/hunt", []string{"labs/course.TestHunt"}},
	{"debugging-tools", "S4", "three recorded logs", nobody, "", nil},

	{"frame-anatomy", "S1", "takes the 7-bit form", echo, "/echo", []string{"labs.TestEchoKeepsToTheProtocol"}},
	{"frame-anatomy", "S2", "takes the 16-bit form", echo, "/echo", []string{"labs.TestEchoKeepsToTheProtocol"}},
	{"frame-anatomy", "S3", "takes the 64-bit form", echo, "/echo", []string{"labs.TestEchoKeepsToTheProtocol"}},
	{"frame-anatomy", "S4", "headers to write in hex", nobody, "", nil},
	{"frame-anatomy", "S5", "an overhead to compute", nobody, "", nil},

	{"masking-and-fragments", "S1", "joins fragments", echo, "/echo", []string{"labs.TestEchoKeepsToTheProtocol"}},
	{"masking-and-fragments", "S2", "answers a ping between two fragments", echo, "/echo", []string{"labs.TestEchoKeepsToTheProtocol"}},
	{"masking-and-fragments", "S3", "closes an unmasked frame with 1002", echo, "/echo", []string{"labs.TestEchoRefusesFramesWithoutAMask"}},
	{"masking-and-fragments", "S4", "takes a character split over two fragments", echo, "/echo", []string{"labs.TestEchoKeepsToTheProtocol"}},
	{"masking-and-fragments", "S5", "closes invalid UTF-8 with 1007", echo, "/echo", []string{"labs.TestEchoRefusesTextAtItsFirstBadByte"}},

	{"binary-and-files", "S1", "takes a chunk with its header, and says what is wrong with one", here, "/upload", []string{"labs/course.TestUpload"}},
	{"binary-and-files", "S2", "acknowledges chunks in order", here, "/upload", []string{"labs/course.TestUpload"}},
	{"binary-and-files", "S3", "tells the SHA-256 of the joined file", here, "/upload", []string{"labs/course.TestUpload", "clients/browser/course.test.js: upload"}},
	{"binary-and-files", "S4", "acknowledges late, so that who does not wait is seen", here, "/upload", []string{"labs/course.TestUpload"}},

	{"heartbeat-and-limits", "S1", "pings", echo, "/echo", []string{"labs.TestEchoPingsAndDropsWhoDoesNotAnswer"}},
	{"heartbeat-and-limits", "S2", "closes a message one byte over the limit with 1009", echo, "/echo", []string{"labs.TestEchoHoldsMessagesToTheirLimit"}},
	{"heartbeat-and-limits", "S3", "sends on, queues, drops, and disconnects who does not read", here, "/flood", []string{"labs/course.TestFloodDisconnectsWhoDoesNotRead"}},
	{"heartbeat-and-limits", "S4", "cuts who sends no pongs", echo, "/echo", []string{"labs.TestEchoPingsAndDropsWhoDoesNotAnswer"}},

	{"compression", "S1", "agrees on permessage-deflate", echo, "/deflate", []string{"labs/course.TestDeflate"}},
	{"compression", "S2", "takes and sends compressed messages", echo, "/deflate", []string{"labs/course.TestDeflate"}},
	{"compression", "S3", "answers as it was asked, so that the bytes saved can be counted", echo, "/deflate", []string{"labs/course.TestDeflate"}},
	{"compression", "S4", "closes RSV1 without the extension with 1002", echo, "/deflate", []string{"labs/course.TestDeflate"}},

	{"subprotocol-negotiation", "S1", "speaks chat.v1 and not chat.v2", script, "/chat", []string{"labs/course.TestChat"}},
	{"subprotocol-negotiation", "S2", "opens without a subprotocol for who offers none that it speaks", script, "/chat", []string{"labs/course.TestChat"}},
	{"subprotocol-negotiation", "S3", "join, ack, say, bye", script, "/chat", []string{"labs/course.TestChat"}},
	{"subprotocol-negotiation", "S4", "an error for an unknown type, and goes on", script, "/chat", []string{"labs/course.TestChat"}},

	{"graphql-subscriptions", "S1", "chooses graphql-transport-ws", gql, "/graphql", []string{"server/gqlws.TestNegotiation"}},
	{"graphql-subscriptions", "S2", "connection_ack", gql, "/graphql", []string{"server/gqlws/conformance.TestConformance"}},
	{"graphql-subscriptions", "S3", "next", gql, "/graphql", []string{"server/gqlws.TestEventsInOrderThenComplete"}},
	{"graphql-subscriptions", "S4", "two operations at the same time", gql, "/graphql", []string{"server/gqlws/conformance.TestConformance"}},
	{"graphql-subscriptions", "S5", "nothing behind the client's complete", gql, "/graphql", []string{"server/gqlws.TestNothingAfterTheClientsComplete"}},
	{"graphql-subscriptions", "S6", "pong", gql, "/graphql", []string{"server/gqlws.TestPingsBothWays"}},
	{"graphql-subscriptions", "S7", "error without complete", gql, "/graphql", []string{"server/gqlws.TestErrorEndsAnOperationWithoutComplete"}},

	{"graphql-legacy-and-errors", "S1", "data, stop", gql, "/graphql", []string{"server/gqlws/conformance.TestConformance"}},
	{"graphql-legacy-and-errors", "S2", "ka", gql, "/graphql", []string{"server/gqlws.TestLegacyPipelinedAndKeptAlive"}},
	{"graphql-legacy-and-errors", "S3", "4401", gql, "/graphql", []string{"server/gqlws.TestClosesByTheBook"}},
	{"graphql-legacy-and-errors", "S4", "4409", gql, "/graphql", []string{"server/gqlws.TestClosesByTheBook"}},
	{"graphql-legacy-and-errors", "S5", "4429", gql, "/graphql", []string{"server/gqlws.TestClosesByTheBook"}},
	{"graphql-legacy-and-errors", "S6", "4400", gql, "/graphql", []string{"server/gqlws.TestInvalidMessagesClose4400"}},
	{"graphql-legacy-and-errors", "S7", "4408", gql, "/graphql", []string{"server/gqlws.TestInitWaitToTheInstant"}},

	{"mqtt-over-websocket", "S1", "CONNACK", broker, "/mqtt", nil},
	{"mqtt-over-websocket", "S2", "SUBACK, with wildcards", broker, "/mqtt", nil},
	{"mqtt-over-websocket", "S3", "PUBACK", broker, "/mqtt", nil},
	{"mqtt-over-websocket", "S4", "PUBREC, PUBREL, PUBCOMP", broker, "/mqtt", nil},
	{"mqtt-over-websocket", "S5", "a retained message for a new subscription", broker, "/mqtt", nil},
	{"mqtt-over-websocket", "S6", "the will after a cut", broker, "/mqtt", nil},
	{"mqtt-over-websocket", "S7", "packets to count", broker, "/mqtt", nil},

	{"bridges-to-graphql", "S1", "mqttMessages", gql, "/graphql", []string{"clients/node/smoke.test.mjs: mosquitto_pub reaches"}},
	{"bridges-to-graphql", "S2", "redisMessages", gql, "/graphql", []string{"clients/node/smoke.test.mjs: redis-cli PUBLISH reaches"}},
	{"bridges-to-graphql", "S3", "keeps nothing of Redis for who is away", gql, "/graphql", []string{"bridges/redisbridge.TestBridgeToRedis"}},
	{"bridges-to-graphql", "S4", "qos is the lower one", gql, "/graphql", []string{"bridges/mqttbridge.TestMosquitto"}},
	{"bridges-to-graphql", "S5", "one subscription upstream", gql, "/graphql", []string{"bridges/mqttbridge.TestMosquitto", "bridges/redisbridge.TestBridgeToRedis"}},

	{"write-a-server", "S1", "the handshake of the learner's server", learner, "", nil},
	{"write-a-server", "S2", "echo", learner, "", nil},
	{"write-a-server", "S3", "fragments, pong", learner, "", nil},
	{"write-a-server", "S4", "Close", learner, "", nil},
	{"write-a-server", "S5", "1002, 1007", learner, "", nil},
	{"write-a-server", "S6", "50 connections", learner, "", nil},
	{"write-a-server", "S7", "none left", learner, "", nil},
}

// stepCounts are the lessons in their order, with the number of their steps.
var stepCounts = []struct {
	lesson string
	steps  int
}{
	{"what-is-websocket", 3},
	{"realtime-options", 4},
	{"opening-handshake", 4},
	{"network-path", 4},
	{"browser-api", 5},
	{"ready-states-and-close", 5},
	{"reconnect-and-backoff", 6},
	{"debugging-tools", 4},
	{"frame-anatomy", 5},
	{"masking-and-fragments", 5},
	{"binary-and-files", 4},
	{"heartbeat-and-limits", 4},
	{"compression", 4},
	{"subprotocol-negotiation", 4},
	{"graphql-subscriptions", 7},
	{"graphql-legacy-and-errors", 7},
	{"mqtt-over-websocket", 7},
	{"bridges-to-graphql", 5},
	{"write-a-server", 7},
}

const root = "../../"

func TestEveryStepOfTheLessonsIsServed(t *testing.T) {
	var want, got []string
	for _, c := range stepCounts {
		for n := range c.steps {
			want = append(want, fmt.Sprintf("%s S%d", c.lesson, n+1))
		}
	}
	for _, s := range lessonSteps {
		got = append(got, s.lesson+" "+s.step)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the table has\n%s\nand the lessons\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, s := range lessonSteps {
		for _, name := range s.shown {
			if !exists(t, name) {
				t.Errorf("%s %s: there is no test %s", s.lesson, s.step, name)
			}
		}
		if shown := len(s.shown) > 0; !shown && (s.by == echo || s.by == here || s.by == script) {
			t.Errorf("%s %s: no test shows it", s.lesson, s.step)
		}
	}
}

func TestThePageListsWhatTheLessonsUse(t *testing.T) {
	page, err := os.ReadFile(root + "docs/practice.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## What the lessons use\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if !found {
		t.Fatal("there is no section")
	}
	var want, got []string
	for _, s := range lessonSteps {
		if slices.Contains([]by{echo, here, script}, s.by) && strings.HasPrefix(s.path, "/") && s.path != "/echo" {
			want = append(want, s.path)
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(/[^`]*)` \\|").FindAllStringSubmatch(section, -1) {
		got = append(got, row[1])
	}
	slices.Sort(want)
	slices.Sort(got)
	if want = slices.Compact(want); !slices.Equal(got, want) {
		t.Errorf("the section lists %v, the table %v", got, want)
	}
}

// exists reports whether there is such a test.
func exists(t *testing.T, name string) bool {
	t.Helper()
	pattern, what := "", ""
	if file, part, ok := strings.Cut(name, ": "); ok {
		pattern, what = file, "[\"`][^\n]*"+regexp.QuoteMeta(part)
	} else {
		dot := strings.LastIndex(name, ".")
		pattern, what = name[:dot]+"/*_test.go", `(?m)^func `+name[dot+1:]+`\(t \*testing`
	}
	files, err := filepath.Glob(root + pattern)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return regexp.MustCompile(what).Match(source)
	})
}
