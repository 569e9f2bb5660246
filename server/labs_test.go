package server

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/graph/generated"
	"github.com/sluice-gateway/sluice/labs/probe"
)

// lab is a lab session as startLab tells of it.
type lab struct {
	ID, Name, Nonce string
	Servers         []struct{ Name, URL string }
}

func (g *gateway) startLab(t *testing.T) (one lab) {
	t.Helper()
	decode(t, g.query(t, `mutation { startLab { id name nonce servers { name url } } }`, nil), "startLab", &one)
	return one
}

// decode reads a root field of an answer.
func decode(t *testing.T, answer, field string, into any) {
	t.Helper()
	var a struct{ Data map[string]json.RawMessage }
	if err := json.Unmarshal([]byte(answer), &a); err != nil || a.Data[field] == nil {
		t.Fatalf("answered %s", answer)
	}
	if err := json.Unmarshal(a.Data[field], into); err != nil {
		t.Fatal(err)
	}
}

// url is where a server of the session is.
func (l lab) url(t *testing.T, name string) string {
	t.Helper()
	for _, s := range l.Servers {
		if s.Name == name {
			return s.URL
		}
	}
	t.Fatalf("there is no %s: %v", name, l.Servers)
	return ""
}

const watchWire = `subscription($session: ID!, $after: Cursor) { wireEvents(session: $session, after: $after) {
	number cursor
	... on WireFrame { direction kind payload { text } }
	... on WireMessage { direction graphql { type } }
	... on WireClose { by code }
} }`

type wireEvent struct {
	Number          int
	Cursor          string
	Direction, Kind string
	Graphql         *struct{ Type string }
	By              string
	Code            int
}

func (s *socket) watch(session, after string) {
	s.Helper()
	payload := map[string]any{
		"query": watchWire, "variables": map[string]any{"session": session},
		"extensions": map[string]any{"sluice": map[string]any{"ready": after == ""}},
	}
	if after != "" {
		payload["variables"].(map[string]any)["after"] = after
	}
	b, _ := json.Marshal(map[string]any{"id": "watch", "type": "subscribe", "payload": payload})
	s.send(string(b))
	if after == "" {
		if got := s.read(); !strings.Contains(got, `"ready":true`) {
			s.Fatalf("got %s", got)
		}
	}
}

func (s *socket) wireEvent() (e wireEvent) {
	s.Helper()
	var m struct {
		Payload struct {
			Data struct{ WireEvents wireEvent }
		}
	}
	text := s.read()
	if err := json.Unmarshal([]byte(text), &m); err != nil || m.Payload.Data.WireEvents.Number == 0 {
		s.Fatalf("got %s", text)
	}
	return m.Payload.Data.WireEvents
}

func TestALabSessionShowsWhatItsClientSends(t *testing.T) {
	g := start(t)
	one, other := g.startLab(t), g.startLab(t)
	watcher := g.socket(t)
	watcher.watch(one.ID, "")
	header := http.Header{"Origin": {"https://elsewhere.example"}, "Sec-WebSocket-Protocol": {"graphql-transport-ws"}}
	for _, l := range []lab{other, one} {
		conn, _, err := websocket.DefaultDialer.Dial(l.url(t, "graphql"), header)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		client := &socket{t, conn}
		client.send(`{"type":"connection_init"}`)
		if got := client.read(); got != `{"type":"connection_ack"}` {
			t.Fatalf("got %s", got)
		}
		if got := client.ask(`{ hello }`); !strings.Contains(got, "Hello from") {
			t.Fatalf("got %s", got)
		}
	}
	seen, cursor := []string{}, ""
	for number := 1; len(seen) < 5; number++ {
		e := watcher.wireEvent()
		if e.Number != number {
			t.Fatalf("number %d behind %d", e.Number, number-1)
		}
		if e.Graphql != nil {
			seen = append(seen, e.Direction+" "+e.Graphql.Type)
			if len(seen) == 3 {
				cursor = e.Cursor
			}
		}
	}
	want := "TO_SERVER connection_init, TO_CLIENT connection_ack, TO_SERVER subscribe, TO_CLIENT next, TO_CLIENT complete"
	if got := strings.Join(seen, ", "); got != want {
		t.Errorf("saw %s\nwant %s", got, want)
	}
	again := g.socket(t)
	again.watch(one.ID, cursor)
	for {
		if e := again.wireEvent(); e.Graphql != nil {
			if e.Graphql.Type != "next" {
				t.Errorf("behind the cursor comes %s", e.Graphql.Type)
			}
			break
		}
	}
	foreign := g.socket(t)
	foreign.watch(other.ID, cursor)
	if got := foreign.read(); !strings.Contains(got, "CURSOR_INVALID") {
		t.Errorf("a cursor of another session: %s", got)
	}
}

func TestLabSessionsOverGraphQL(t *testing.T) {
	g := start(t)
	one := g.startLab(t)
	if got := g.query(t, `mutation($i: SendRawFramesInput!) { sendRawFrames(input: $i) { status closed answer { text } } }`, map[string]any{
		"i": map[string]any{"session": one.ID, "waitMs": 10_000, "frames": []any{map[string]any{"text": "hi", "masked": false}, map[string]any{"opcode": 8, "hex": "03 e8"}}},
	}); !strings.Contains(got, `"status":101`) || !strings.Contains(got, `"closed":true`) || !strings.Contains(got, "RFC 6455, section 5.1") {
		t.Errorf("an unmasked frame: %s", got)
	}
	if got := g.query(t, `mutation($i: SendRawRequestInput!) { sendRawRequest(input: $i) { status answer { text } } }`, map[string]any{
		"i": map[string]any{"session": one.ID, "head": "GET /echo HTTP/1.1\nHost: x\nUpgrade: websocket\nConnection: close", "waitMs": 10_000},
	}); !strings.Contains(got, `"status":400`) || !strings.Contains(got, "Connection: Upgrade") {
		t.Errorf("a request that lacks something: %s", got)
	}
	if got := g.query(t, `query($id: ID!) { labSession(id: $id) { counts { connections problems } } }`, map[string]any{"id": one.ID}); got != `{"data":{"labSession":{"counts":{"connections":2,"problems":1}}}}` {
		t.Errorf("the session: %s", got)
	}
	tests := map[string]string{
		`{"f":{"frames":[{"opcode":16}]}}`:                       "0 to 15",
		`{"f":{"frames":[{"hex":"0g"}]}}`:                        "hexadecimal",
		`{"f":{"frames":[{"hex":"00","text":"a"}]}}`:             "not both",
		`{"f":{"frames":[{"key":"12"}]}}`:                        "8 hexadecimal digits",
		`{"f":{"frames":[{"lengthForm":8}]}}`:                    "7, 16 or 64",
		`{"f":{"frames":[{"pauseMs":20001}]}}`:                   "0 to 20000",
		`{"f":{"frames":[],"waitMs":-1}}`:                        "0 to 20000",
		`{"f":{"frames":[` + strings.Repeat("{},", 64) + `{}]}}`: "at most 64",
	}
	for input, want := range tests {
		var v struct{ F map[string]any }
		if err := json.Unmarshal([]byte(input), &v); err != nil {
			t.Fatal(err)
		}
		v.F["session"] = one.ID
		if got := g.query(t, `mutation($i: SendRawFramesInput!) { sendRawFrames(input: $i) { status } }`, map[string]any{"i": v.F}); !strings.Contains(got, want) || !strings.Contains(got, "ARGUMENT_OUT_OF_RANGE") {
			t.Errorf("%s: %s", input, got)
		}
	}
	for document, want := range map[string]string{
		`mutation { forgetLab(id: "` + one.ID + `") }`:                `{"data":{"forgetLab":true}}`,
		`mutation { forgetLab(id: "nobody's") }`:                      `{"data":{"forgetLab":false}}`,
		`{ labSession(id: "nobody's") { id } }`:                       `{"data":{"labSession":null}}`,
		`mutation { extendLab(id: "nobody's") { id } }`:               "LAB_UNKNOWN",
		`subscription { wireEvents(session: "nobody's") { number } }`: "SUBSCRIPTION_NOT_SUPPORTED",
	} {
		if got := g.query(t, document, nil); !strings.Contains(got, want) {
			t.Errorf("%s: %s", document, got)
		}
	}
	if strings.Contains(g.log.String(), one.ID) {
		t.Error("the log has the id of a session")
	}
}

// Without this a session's subscriber would silently hear of another lesson than
// the one asked for.
func TestLessonEventsAreOfASessionOrOfALesson(t *testing.T) {
	g := start(t)
	for document, want := range map[string]string{
		`subscription { lessonEvents(session: "any", lesson: "first") { at } }`: "ARGUMENT_OUT_OF_RANGE",
		`subscription { lessonEvents(lesson: "nowhere") { at } }`:               "LESSON_UNKNOWN",
	} {
		if got := g.listen(t, document).event(); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", document, got, want)
		}
	}
}

func TestEveryDemoSaysWhereItIs(t *testing.T) {
	g := start(t)
	type demo struct {
		ID, Title, Titel, State string
		URLs                    []string
		Document                *string
	}
	var demos []demo
	decode(t, g.query(t, `{ demos { id title titel: title(locale: JA) state urls document } }`, nil), "demos", &demos)
	var documents strings.Builder
	for _, d := range demos {
		if d.Document != nil {
			documents.WriteString(*d.Document)
		}
		if d.Title == "" || d.Titel == "" || len(d.URLs) == 0 || !strings.HasPrefix(d.URLs[0], "ws://") {
			t.Errorf("%+v", d)
		}
		if d.Document == nil {
			continue
		}
		s := g.socket(t)
		b, _ := json.Marshal(map[string]any{"id": "1", "type": "subscribe", "payload": map[string]any{"query": *d.Document, "variables": map[string]any{"session": "x", "id": "x"}}})
		s.send(string(b))
		s.send(`{"type":"ping"}`)
		for {
			got := s.read()
			if strings.Contains(got, "GRAPHQL_") {
				t.Errorf("%s: %s", d.ID, got)
			}
			if strings.Contains(got, "pong") {
				break
			}
		}
	}
	for _, field := range generated.NewExecutableSchema(generated.Config{}).Schema().Subscription.Fields {
		if !strings.Contains(documents.String(), field.Name) {
			t.Errorf("no demo shows %s", field.Name)
		}
	}
	for _, name := range g.public.Names() {
		if !slices.ContainsFunc(demos, func(d demo) bool { return strings.HasSuffix(d.URLs[0], "/"+name) }) {
			t.Errorf("no demo is the server %s", name)
		}
	}
}

func TestALabsServersBeginWithTheLessonsOwn(t *testing.T) {
	g := start(t)
	var one lab
	decode(t, g.query(t, `mutation { startLab(lesson: "what-is-websocket") { id name nonce servers { name url } } }`, nil), "startLab", &one)
	if first := one.Servers[0].Name; first != "echo" {
		t.Errorf("the first server is %s, want echo", first)
	}
	if !slices.IsSortedFunc(one.Servers[1:], func(a, b struct{ Name, URL string }) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("the others are not in the order of their names: %v", one.Servers)
	}
	answer, err := http.Get(one.url(t, "compare/poll")) // a plain request, so at http://
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("%s answers %s", one.url(t, "compare/poll"), answer.Status)
	}
	if url := one.url(t, "compare"); !strings.HasPrefix(url, "ws://") {
		t.Errorf("a WebSocket is at %s", url)
	}
}

func TestAProbesReportReachesItsSession(t *testing.T) {
	g := start(t)
	var one lab
	decode(t, g.query(t, `mutation { startLab(lesson: "what-is-websocket") { id name nonce servers { name url } } }`, nil), "startLab", &one)
	for name, test := range map[string]struct {
		method, session, body string
		status                int
		says                  string
	}{
		"not by GET":        {"GET", one.ID, "", 405, "sluice probe"},
		"no report":         {"POST", one.ID, "{}", 400, "no report of a probe"},
		"too large":         {"POST", one.ID, strings.Repeat("x", 70_000), 413, "too large"},
		"unknown session":   {"POST", "nobody's", "{}", 404, "LAB_UNKNOWN"},
		"takes no lesson":   {"POST", g.startLab(t).ID, report(t), 409, "LESSON_REQUIRED"},
		"what probe prints": {"POST", one.ID, report(t), 204, ""},
	} {
		status, body, _ := g.do(t, test.method, "/lab/"+test.session+"/probe", test.body, "Content-Type", "application/json")
		if status != test.status || !strings.Contains(body, test.says) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

func TestReportsOfProbesAreHeldToTheRateOfMutations(t *testing.T) {
	g := start(t, func(c *Config) { c.Limits.PublishPerSecond, c.Limits.PublishBurst = 1, 3 })
	one := g.startLab(t)
	statuses := make(map[int]int)
	for range 10 {
		status, _, _ := g.do(t, "POST", "/lab/"+one.ID+"/probe", "{}", "Content-Type", "application/json")
		statuses[status]++
	}
	if statuses[400] < 2 || statuses[429] < 5 || statuses[400]+statuses[429] != 10 {
		t.Errorf("got %v", statuses)
	}
}

// report is what the probe says to our own echo server.
func report(t *testing.T) string {
	t.Helper()
	g := start(t)
	r, err := probe.Run(t.Context(), probe.Config{URL: "ws" + strings.TrimPrefix(g.url, "http") + "/echo"})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Passed("") {
		t.Errorf("our own echo server fails: %+v", r.Checks)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
