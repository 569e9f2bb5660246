package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// graphQL runs an operation and decodes its data; what it answers otherwise is
// the codes of its errors.
func (g *gateway) graphQL(t *testing.T, data any, query string, variables map[string]any) (codes string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := g.do(t, http.MethodPost, "/graphql", string(body), "Content-Type", "application/json")
	var answer struct {
		Data   json.RawMessage
		Errors []struct {
			Message    string
			Extensions struct{ Code string }
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, e := range answer.Errors {
		codes += e.Extensions.Code + ": " + e.Message
	}
	if codes == "" {
		if err := json.Unmarshal(answer.Data, data); err != nil {
			t.Fatal(err)
		}
	}
	return codes
}

func TestAMockIsSetAndJudgedOverGraphQL(t *testing.T) {
	g := start(t)
	var started struct{ StartLab struct{ ID, Nonce string } }
	if codes := g.graphQL(t, &started, "mutation { startLab { id nonce } }", nil); codes != "" {
		t.Fatal(codes)
	}
	session := started.StartLab
	const script = `
name: nonce
vars: { nonce: "" }
paths:
  /say:
    rules: [ { on: { text: "{{nonce}}" }, do: [ { send: right } ] }, { on: message, do: [ { send: wrong } ] } ]
    expect: { messages: [ { text: "{{nonce}}" } ] }
`
	set := `mutation($session: ID, $script: String!) { setMockScript(session: $session, script: $script) { name paths variables opened knobs { latencyMs overflow } } }`
	var state struct {
		SetMockScript struct {
			Name             string
			Paths, Variables []string
			Knobs            struct {
				LatencyMs int
				Overflow  string
			}
		}
	}
	if codes := g.graphQL(t, &state, set, map[string]any{"session": session.ID, "script": script}); codes != "" {
		t.Fatal(codes)
	}
	if got := state.SetMockScript; got.Name != "nonce" || strings.Join(got.Paths, " ") != "/say" || strings.Join(got.Variables, " ") != "nonce" || got.Knobs.Overflow != "CUT" {
		t.Errorf("the state is %+v", got)
	}
	talk := func(path, say, want string) {
		t.Helper()
		conn, status := dialEcho(t, g, path, nil)
		if status != http.StatusSwitchingProtocols {
			t.Fatalf("%s answered %d", path, status)
		}
		defer conn.Close()
		if err := conn.WriteMessage(websocket.TextMessage, []byte(say)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := conn.ReadMessage(); err != nil || string(got) != want {
			t.Errorf("%s said %q, %v", path, got, err)
		}
	}
	type judged struct {
		MockVerdict struct{ State, Text, Seed string }
	}
	verdict := func() (v judged) {
		t.Helper()
		if codes := g.graphQL(t, &v, "query($session: ID) { mockVerdict(session: $session) { state text seed connections { number checks { line wanted saw state } } } }", map[string]any{"session": session.ID}); codes != "" {
			t.Fatal(codes)
		}
		return v
	}
	if got := verdict().MockVerdict.State; got != "OPEN" {
		t.Errorf("before anybody came: %s", got)
	}
	talk("/lab/"+session.ID+"/mock/say", session.Nonce, "right")
	if got := verdict().MockVerdict; got.State != "PASSED" || !strings.Contains(got.Text, "connection 1 on /mock/say: passed") || got.Seed == "" {
		t.Errorf("the verdict is %+v", got)
	}
	var knobs struct {
		SetMockKnobs struct {
			Knobs struct{ LatencyMs, Connections int }
		}
	}
	turn := "mutation($session: ID, $ms: Int) { setMockKnobs(session: $session, knobs: { latencyMs: $ms }) { knobs { latencyMs connections } } }"
	if codes := g.graphQL(t, &knobs, turn, map[string]any{"session": session.ID, "ms": 20}); codes != "" || knobs.SetMockKnobs.Knobs.LatencyMs != 20 || knobs.SetMockKnobs.Knobs.Connections != 1000 {
		t.Errorf("the knobs are %+v, %s", knobs, codes)
	}
	for want, c := range map[string]struct {
		query     string
		variables map[string]any
	}{
		`SCRIPT_INVALID: The script is not accepted: line 2, column 9: "conect" is not known as "on": did you mean "connect"?.`: {set, map[string]any{"session": session.ID, "script": "rules:\n  - on: conect"}},
		"ARGUMENT_OUT_OF_RANGE: The knobs stay as they are: the latency 10.001s is not accepted: it is a time from 0s to 10s.":  {turn, map[string]any{"session": session.ID, "ms": 10_001}},
		"LAB_UNKNOWN: ": {set, map[string]any{"session": "nobody's", "script": script}},
	} {
		if codes := g.graphQL(t, nil, c.query, c.variables); !strings.HasPrefix(codes, want) {
			t.Errorf("got %s, want %s", codes, want)
		}
	}

	// The mock without a session is another one, on this machine open to change.
	if codes := g.graphQL(t, &state, set, map[string]any{"script": "rules: [ { on: message, do: [ { send: public } ] } ]"}); codes != "" {
		t.Error(codes)
	}
	talk("/mock", "x", "public")
	talk("/mock/anywhere", "x", "public")
	talk("/lab/"+session.ID+"/mock/say", "x", "wrong")
}
