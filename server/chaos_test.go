package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/eventlog"
)

// lab starts a session; its cursors are signed.
func (g *gateway) lab(t *testing.T) (id string) {
	t.Helper()
	var answer struct {
		Data struct{ StartLab struct{ ID string } }
	}
	text := g.query(t, `mutation { startLab { id } }`, nil)
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Data.StartLab.ID == "" {
		t.Fatalf("%s, %v", text, err)
	}
	return answer.Data.StartLab.ID
}

func withCursors(cfg *Config) {
	cfg.Resolver.Cursors = eventlog.NewCursors(eventlog.NewMemory(eventlog.Retention{}, nil), "secret")
}

// chaosClient is a learner's client of a session's chaos server.
func (g *gateway) chaosClient(t *testing.T, path string) (conn *websocket.Conn, say func(string) (heard string)) {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.Dial(strings.Replace(g.url, "http", "ws", 1)+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, func(say string) string {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if err := conn.WriteMessage(websocket.TextMessage, []byte(say)); err != nil {
			t.Fatal(err)
		}
		_, message, err := conn.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		return string(message)
	}
}

type chaosResult struct {
	Type    string
	Payload struct {
		Data struct {
			ChaosEvents struct {
				Number, Connection, Message    int
				Fault, Direction, What, Cursor string
				Byte                           struct{ At, From, To int }
			}
		}
	}
}

func (s *socket) fault() chaosResult {
	s.Helper()
	var r chaosResult
	text := s.read()
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		s.Fatalf("%s: %v", text, err)
	}
	return r
}

const corruptAll = `{ cut: { rate: 0 }, latency: { rate: 0 }, corruption: { rate: 1 } }`

func TestChaosIsSetUpAndSeenOverGraphQL(t *testing.T) {
	g := start(t, withCursors)
	mine, other := g.lab(t), g.lab(t)
	conn, say := g.chaosClient(t, "/lab/"+mine+"/chaos")
	_, elsewhere := g.chaosClient(t, "/lab/"+other+"/chaos")
	if got := g.query(t, fmt.Sprintf(`mutation { a: configureChaos(session: %q, input: %s) { faults { direction cut { rate maxMs } corruption { rate } } }
		b: configureChaos(session: %q, input: { cut: { rate: 0 }, latency: { rate: 0 }, corruption: { rate: 0 } }) { faults { corruption { rate breakUtf8 } } } }`, mine, corruptAll, other), nil); got !=
		`{"data":{"a":{"faults":{"direction":"TO_CLIENT","cut":{"rate":0,"maxMs":35000},"corruption":{"rate":1}}},"b":{"faults":{"corruption":{"rate":0,"breakUtf8":false}}}}}` {
		t.Fatalf("got %s", got)
	}
	s := g.socket(t)
	watch := func(s *socket, after string) {
		s.subscribe("1", fmt.Sprintf(`subscription { chaosEvents(session: %q%s) { number connection message } }`, mine, after))
	}
	s.send(fmt.Sprintf(`{"id":"1","type":"subscribe","payload":{"query":"subscription { chaosEvents(session: \"%s\") { number connection message fault direction what cursor byte { at from to } } }","extensions":{"sluice":{"ready":true}}}}`, mine))
	if ready := s.read(); !strings.Contains(ready, `"ready":true`) {
		t.Fatalf("got %s", ready)
	}
	heard := say("hello")
	if elsewhere("hello") != "hello" || heard == "hello" {
		t.Errorf("heard %q", heard)
	}
	first := s.fault().Payload.Data.ChaosEvents
	if first.Number != 1 || first.Connection != 1 || first.Message != 1 || first.Fault != "CORRUPTION" || first.Direction != "TO_CLIENT" ||
		int(heard[first.Byte.At]) != first.Byte.To || int("hello"[first.Byte.At]) != first.Byte.From || !strings.HasPrefix(first.What, "byte ") {
		t.Errorf("heard %q, told %+v", heard, first)
	}
	say("again")
	for name, after := range map[string]string{"live": "", "from its cursor": fmt.Sprintf(`, after: %q`, first.Cursor)} {
		back := s
		if after != "" {
			back = g.socket(t)
			watch(back, after)
		}
		if got := back.fault().Payload.Data.ChaosEvents; got.Number != 2 || got.Message != 2 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	conn.Close()
	if got := g.query(t, `mutation($id: ID!) { forgetLab(id: $id) }`, map[string]any{"id": mine}); got != `{"data":{"forgetLab":true}}` {
		t.Error(got)
	}
	if got := s.fault(); got.Type != "complete" {
		t.Errorf("at the session's end came %+v", got)
	}
}

func TestChaosStateFollowsWhatIsDone(t *testing.T) {
	g := start(t, withCursors)
	id := map[string]any{"id": g.lab(t)}
	for _, step := range []struct{ document, want string }{
		{
			`query($id: ID!) { chaos(session: $id) { run connections open silentUntil counts { times } faults { latency { rate minMs maxMs } partition { durationMs } } } }`,
			`{"data":{"chaos":{"run":1,"connections":0,"open":0,"silentUntil":null,"counts":[],"faults":{"latency":{"rate":0.1,"minMs":100,"maxMs":2000},"partition":{"durationMs":5000}}}}}`,
		},
		{`mutation($id: ID!) { startPartition(session: $id, durationMs: 60000) { counts { fault times } } }`, `{"data":{"startPartition":{"counts":[{"fault":"PARTITION","times":1}]}}}`},
		{
			`mutation($id: ID!) { stopChaos(session: $id) { silentUntil faults { cut { rate } corruption { rate } latency { rate maxMs } } } }`,
			`{"data":{"stopChaos":{"silentUntil":null,"faults":{"cut":{"rate":0},"corruption":{"rate":0},"latency":{"rate":0,"maxMs":2000}}}}}`,
		},
		{`mutation($id: ID!) { a: replayChaos(session: $id, seed: 4711) { seed run } b: replayChaos(session: $id) { seed run } }`, `{"data":{"a":{"seed":4711,"run":2},"b":{"seed":4711,"run":3}}}`},
		{
			`mutation($id: ID!) { configureChaos(session: $id, input: { direction: BOTH, throttling: { bytesPerSecond: 9 } }) { faults { direction throttling { bytesPerSecond } } } }`,
			`{"data":{"configureChaos":{"faults":{"direction":"BOTH","throttling":{"bytesPerSecond":9}}}}}`,
		},
		{`mutation { configureChaos(input: { cut: { rate: 1 } }) { faults { cut { rate } } } }`, `{"data":{"configureChaos":{"faults":{"cut":{"rate":1}}}}}`}, // without a session, on loopback
	} {
		if got := g.query(t, step.document, id); got != step.want {
			t.Errorf("%s\ngot  %s\nwant %s", step.document, got, step.want)
		}
	}
}

func TestWhatChaosRefuses(t *testing.T) {
	g := start(t, withCursors)
	mine, other := g.lab(t), g.lab(t)
	for document, want := range map[string]string{
		`mutation { configureChaos(session: "x", input: {}) { run } }`:                                       "LAB_UNKNOWN",
		`mutation { configureChaos(session: "` + mine + `", input: { latency: { maxMs: 10001 } }) { run } }`: "latency.maxMs 10001 is not accepted: milliseconds from 100 to 10000. (ARGUMENT_OUT_OF_RANGE)",
		`mutation { startPartition(session: "` + mine + `", durationMs: 0) { run } }`:                        "ARGUMENT_OUT_OF_RANGE",
		`mutation { replayChaos(session: "` + mine + `", seed: 0) { run } }`:                                 "ARGUMENT_OUT_OF_RANGE",
		`mutation { configureChaos(session: "` + mine + `", input: { closeCode: { code: -1 } }) { run } }`:   "ARGUMENT_OUT_OF_RANGE",
	} {
		if got := g.query(t, document, nil); !strings.Contains(got, want) {
			t.Errorf("%s: %s", document, got)
		}
	}
	var answer struct {
		Data struct{ Chaos struct{ Cursor string } }
	}
	if err := json.Unmarshal([]byte(g.query(t, `{ chaos(session: "`+other+`") { cursor } }`, nil)), &answer); err != nil {
		t.Fatal(err)
	}
	s := g.socket(t)
	s.subscribe("1", fmt.Sprintf(`subscription { chaosEvents(session: %q, after: %q) { number } }`, mine, answer.Data.Chaos.Cursor))
	if got := s.read(); !strings.Contains(got, "CURSOR_INVALID") {
		t.Errorf("another session's cursor: %s", got)
	}
}
