package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/rooms"
)

// ask answers a query or mutation over the socket.
func (s *socket) ask(document string) string {
	s.Helper()
	s.subscribe("ask", document)
	answer := s.read()
	if done := s.read(); done != `{"id":"ask","type":"complete"}` {
		s.Fatalf("after %s came %s", answer, done)
	}
	return strings.TrimSuffix(strings.TrimPrefix(answer, `{"id":"ask","type":"next","payload":`), "}")
}

func (s *socket) say(content, more string) {
	s.Helper()
	if got := s.ask(fmt.Sprintf(`mutation { sendMessage(input: { content: %q %s }) { content } }`, content, more)); !strings.Contains(got, content) {
		s.Fatalf("got %s", got)
	}
}

type messageResult struct {
	ID      string
	Payload struct {
		Data struct {
			MessageUpdates struct{ ID, Content, Cursor string }
		}
		Extensions struct {
			Sluice struct {
				Ready  bool
				Cursor string
			}
		}
	}
}

func (s *socket) message() messageResult {
	s.Helper()
	var r messageResult
	text := s.read()
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		s.Fatalf("%s: %v", text, err)
	}
	return r
}

func TestWhoComesBackToARoomGetsWhatItMissed(t *testing.T) {
	g := start(t)
	s := g.socket(t)
	s.send(`{"id":"1","type":"subscribe","payload":{"query":"subscription { messageUpdates { content cursor } }","extensions":{"sluice":{"ready":true,"cursor":true}}}}`)
	ready := s.message()
	if !ready.Payload.Extensions.Sluice.Ready || ready.Payload.Extensions.Sluice.Cursor == "" {
		t.Fatalf("got %+v", ready)
	}
	other := g.socket(t)
	other.say("one", "")
	one := s.message()
	if one.Payload.Data.MessageUpdates.Content != "one" || one.Payload.Data.MessageUpdates.Cursor != one.Payload.Extensions.Sluice.Cursor {
		t.Errorf("got %+v", one)
	}
	s.Close()
	other.say("two", "")
	other.say("three", "")
	for i, from := range []struct {
		cursor string
		want   []string
	}{
		{ready.Payload.Extensions.Sluice.Cursor, []string{"one", "two", "three"}},
		{one.Payload.Extensions.Sluice.Cursor, []string{"two", "three"}},
	} {
		for j, document := range []string{
			fmt.Sprintf(`{"query":"subscription { messageUpdates(after: \"%s\") { content } }"}`, from.cursor),
			fmt.Sprintf(`{"query":"subscription S($c: Cursor) { messageUpdates(after: $c) { content } }","variables":{"c":%q}}`, from.cursor),
			fmt.Sprintf(`{"query":"subscription { messageUpdates { content } }","extensions":{"sluice":{"resume":%q}}}`, from.cursor),
		} {
			back := g.socket(t)
			back.send(`{"id":"1","type":"subscribe","payload":` + document + `}`)
			for _, want := range from.want {
				if got := back.message(); got.Payload.Data.MessageUpdates.Content != want {
					t.Errorf("cursor %d, document %d: got %+v, want %s", i, j, got, want)
				}
			}
		}
	}
}

func TestMessageSentTwiceIsStoredOnce(t *testing.T) {
	g := start(t)
	s := g.socket(t)
	first := s.ask(`mutation { sendMessage(input: { id: "order-1", content: "once" }) { id content timestamp cursor } }`)
	second := s.ask(`mutation { sendMessage(input: { id: "order-1", content: "twice" }) { id content timestamp cursor } }`)
	if first != second || !strings.Contains(first, "once") {
		t.Errorf("first %s, then %s", first, second)
	}
	if got, want := s.ask(`{ roomHistory { nodes { content } } }`), `{"data":{"roomHistory":{"nodes":[{"content":"once"}]}}}`; got != want {
		t.Errorf("got %s", got)
	}
}

func TestRoomHistoryPages(t *testing.T) {
	g := start(t)
	s := g.socket(t)
	if got, want := s.ask(`{ roomHistory { nodes { id } edges { cursor } pageInfo { hasPreviousPage hasNextPage startCursor endCursor } } }`),
		`{"data":{"roomHistory":{"nodes":[],"edges":[],"pageInfo":{"hasPreviousPage":false,"hasNextPage":false,"startCursor":null,"endCursor":null}}}}`; got != want {
		t.Errorf("got %s", got)
	}
	for i := range 5 {
		s.say(fmt.Sprintf("m%d", i), "")
	}
	page := func(arguments string) (contents []string, previous, next bool, start string) {
		var answer struct {
			Data struct {
				RoomHistory struct {
					Nodes    []struct{ Content string }
					PageInfo struct {
						HasPreviousPage, HasNextPage bool
						StartCursor                  string
					}
				}
			}
		}
		if err := json.Unmarshal([]byte(s.ask(`{ roomHistory(`+arguments+`) { nodes { content } pageInfo { hasPreviousPage hasNextPage startCursor } } }`)), &answer); err != nil {
			t.Fatal(err)
		}
		for _, n := range answer.Data.RoomHistory.Nodes {
			contents = append(contents, n.Content)
		}
		info := answer.Data.RoomHistory.PageInfo
		return contents, info.HasPreviousPage, info.HasNextPage, info.StartCursor
	}
	got, previous, next, cursor := page(`last: 3`)
	if fmt.Sprint(got, previous, next) != "[m2 m3 m4] true false" {
		t.Errorf("got %v %t %t", got, previous, next)
	}
	got, previous, next, _ = page(fmt.Sprintf(`last: 3, before: %q`, cursor))
	if fmt.Sprint(got, previous, next) != "[m0 m1] false true" {
		t.Errorf("got %v %t %t", got, previous, next)
	}
	for _, bad := range []string{"last: 0", "last: 101", `before: "x"`, `room: "cellar"`} {
		if answer := s.ask(`{ roomHistory(` + bad + `) { nodes { id } } }`); !strings.Contains(answer, "_INVALID") && !strings.Contains(answer, "ARGUMENT_OUT_OF_RANGE") {
			t.Errorf("%s: got %s", bad, answer)
		}
	}
}

// named connects under a name.
func (g *gateway) named(t *testing.T, name string) *socket {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{"graphql-transport-ws"}}
	ws, resp, err := d.Dial(strings.Replace(g.url, "http", "ws", 1)+"/graphql", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	t.Cleanup(func() { ws.Close() })
	s := &socket{t, ws}
	s.send(fmt.Sprintf(`{"type":"connection_init","payload":{"name":%q}}`, name))
	return s
}

func TestWhoSubscribesToARoomIsPresent(t *testing.T) {
	g := start(t)
	watcher := g.socket(t)
	watcher.send(`{"id":"1","type":"subscribe","payload":{"query":"subscription { presenceUpdates { kind member { name typing } } }","extensions":{"sluice":{"ready":true}}}}`)
	watcher.read()
	want := func(kind, name string, typing bool) {
		t.Helper()
		if got, want := watcher.read(), fmt.Sprintf(`{"id":"1","type":"next","payload":{"data":{"presenceUpdates":{"kind":%q,"member":{"name":%q,"typing":%t}}}}}`, kind, name, typing); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
	ann := g.named(t, "Ann")
	ann.read()
	if got := ann.ask(`mutation { setTyping(typing: true) }`); !strings.Contains(got, "PRESENCE_REQUIRED") {
		t.Errorf("who is not in the room types: %s", got)
	}
	ann.subscribe("1", `subscription { messageUpdates { id } }`)
	want("JOINED", "Ann", false)
	if got := ann.ask(`mutation { setTyping(typing: true) }`); got != `{"data":{"setTyping":true}}` {
		t.Errorf("got %s", got)
	}
	want("TYPING", "Ann", true)
	if got := ann.ask(`{ presence { name typing } }`); got != `{"data":{"presence":[{"name":"Ann","typing":true}]}}` {
		t.Errorf("got %s", got)
	}
	ann.ask(`mutation { setTyping(typing: false) }`)
	want("STOPPED_TYPING", "Ann", false)
	ann.Close()
	want("LEFT", "Ann", false)
	resp, err := http.Post(g.url+"/graphql", "application/json", strings.NewReader(`{"query":"mutation { setTyping(typing: true) }"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if line, _ := bufio.NewReader(resp.Body).ReadString('\n'); !strings.Contains(line, "PRESENCE_REQUIRED") {
		t.Errorf("over plain HTTP: %s", line)
	}
	for _, name := range []string{"", strings.Repeat("x", 41)} {
		if _, _, err := g.named(t, name).ReadMessage(); !websocket.IsCloseError(err, 4403) {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

// eventOf returns the next event of a stream.
func eventOf(t *testing.T, lines *bufio.Scanner) (id, data string) {
	t.Helper()
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			id = v
		}
		if v, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			return id, v
		}
	}
	t.Fatalf("the stream ended: %v", lines.Err())
	return "", ""
}

// The ids of server-sent events are cursors, so an EventSource that comes back
// goes on where it was.
func TestEventSourceResumes(t *testing.T) {
	g := start(t)
	s := g.socket(t)
	open := func(lastID string) *bufio.Scanner {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/graphql?query=subscription%7BmessageUpdates%7Bcontent%7D%7D", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/event-stream")
		if lastID != "" {
			req.Header.Set("Last-Event-ID", lastID)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return bufio.NewScanner(resp.Body)
	}
	s.say("one", "")
	_, cursor, _ := strings.Cut(s.ask(`{ roomHistory { pageInfo { endCursor } } }`), `"endCursor":"`)
	cursor, _, _ = strings.Cut(cursor, `"`)
	s.say("two", "")
	stream := open(cursor)
	id, data := eventOf(t, stream)
	if data != `{"data":{"messageUpdates":{"content":"two"}}}` || id == "" {
		t.Fatalf("got %s %s", id, data)
	}
	s.say("three", "")
	if _, data := eventOf(t, open(id)); !strings.Contains(data, "three") {
		t.Errorf("who came back got %s", data)
	}
	if _, data := eventOf(t, stream); !strings.Contains(data, "three") {
		t.Errorf("the first stream got %s", data)
	}
}

// Who comes too late is told from where all that is left can be had.
func TestCursorThatIsTooOldNamesTheFirstThatIsNot(t *testing.T) {
	g := start(t)
	s := g.socket(t)
	s.say("first", "")
	_, cursor, _ := strings.Cut(s.ask(`{ roomHistory { pageInfo { endCursor } } }`), `"endCursor":"`)
	cursor, _, _ = strings.Cut(cursor, `"`)
	for i := range 1001 { // one more than a room keeps besides
		if _, err := g.rooms.Send(t.Context(), rooms.Draft{Room: rooms.Lobby, Author: "ann", Content: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	resume := func(cursor string) string {
		s.send(fmt.Sprintf(`{"id":"1","type":"subscribe","payload":{"query":"subscription { messageUpdates { content } }","extensions":{"sluice":{"resume":%q}}}}`, cursor))
		return s.read()
	}
	refusal := resume(cursor)
	if !strings.HasPrefix(refusal, `{"id":"1","type":"error"`) || !strings.Contains(refusal, `"code":"CURSOR_TOO_OLD"`) {
		t.Fatalf("got %s", refusal)
	}
	_, first, _ := strings.Cut(refusal, `"cursor":"`)
	first, _, _ = strings.Cut(first, `"`)
	if got := resume(first); got != `{"id":"1","type":"next","payload":{"data":{"messageUpdates":{"content":"1"}}}}` {
		t.Errorf("with %q: got %s", first, got)
	}
}

// What a request asks for in its extensions holds for event streams, too.
func TestEventStreamsDoWhatTheirRequestAsks(t *testing.T) {
	g := start(t)
	s := g.socket(t)
	ask := func(sluice string) string {
		return "/graphql?query=" + url.QueryEscape("subscription { messageUpdates { content } }") +
			"&extensions=" + url.QueryEscape(`{"sluice":`+sluice+`}`)
	}
	listenTo := func(sluice string) *bufio.Scanner {
		return listen(t, http.DefaultClient, http.MethodGet, g.url+ask(sluice), "").lines
	}
	notice := listenTo(`{"ready":true}`)
	id, data := eventOf(t, notice)
	if want := fmt.Sprintf(`{"data":null,"extensions":{"sluice":{"ready":true,"cursor":%q}}}`, id); data != want || id == "" {
		t.Fatalf("\n got %s\nwant %s", data, want)
	}
	s.say("one", "")
	if _, data := eventOf(t, listenTo(fmt.Sprintf(`{"resume":%q}`, id))); !strings.Contains(data, "one") {
		t.Errorf("who came back got %s", data)
	}
	if status, body, _ := g.do(t, http.MethodGet, ask(`{"ready":1}`), "", "Accept", asEvents); status != http.StatusBadRequest || !strings.Contains(body, "BAD_REQUEST") {
		t.Errorf("ill formed: %d %s", status, body)
	}
}
