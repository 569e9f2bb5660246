package course_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/labs/course"
	"github.com/sluice-gateway/sluice/labs/mock"
	"github.com/sluice-gateway/sluice/lessons/content"
)

// scripts are those of all lessons.
func scripts(t *testing.T) (list []*mock.Script) {
	t.Helper()
	for slug, text := range content.ServerScripts() {
		script, err := mock.Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", slug, err)
		}
		list = append(list, script)
	}
	return list
}

func TestScriptsAreThoseOfTheTable(t *testing.T) {
	var want, got []string
	for _, s := range lessonSteps {
		if s.by == script {
			want = append(want, s.lesson+s.path)
		}
	}
	vars := course.Vars(1)
	for slug, text := range content.ServerScripts() {
		parsed, err := mock.Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", slug, err)
		}
		for _, path := range parsed.Paths() {
			got = append(got, slug+path)
		}
		for name := range vars {
			if mentioned, declared := strings.Contains(string(text), "{{"+name+"}}"), slices.Contains(parsed.Vars(), name); mentioned != declared {
				t.Errorf("%s: %s is declared: %v, and said: %v", slug, name, declared, mentioned)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if want = slices.Compact(want); !slices.Equal(got, want) {
		t.Errorf("the scripts have %v, the table %v", got, want)
	}
}

// outcome reads until the connection ends, and says how: the code and the
// reason, behind the messages that came.
func outcome(t *testing.T, conn *websocket.Conn) (told []string, end string) {
	t.Helper()
	for {
		_, message, err := conn.ReadMessage()
		if closed, ok := err.(*websocket.CloseError); ok { //nolint:errorlint // as the library returns it
			return told, strings.TrimSpace(fmt.Sprintf("%d %s", closed.Code, closed.Text))
		} else if operation, ok := err.(*net.OpError); ok && !operation.Timeout() { //nolint:errorlint // the same
			return told, "1006 lost"
		} else if err != nil {
			t.Fatal(err)
		}
		told = append(told, string(message))
	}
}

func TestCloses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ path, want string }{
		{"/going-away", "1001 the server goes away"},
		{"/cut", "1006"},
		{"/busy", "1013 too much to do: come back in two seconds"},
		{"/banned", "1008 you may not be here, now or later"},
	} {
		t.Run(c.path, func(t *testing.T) {
			t.Parallel()
			l := startServers(t)
			if _, got := outcome(t, l.dial(t, c.path)); got != c.want && !strings.HasPrefix(got, c.want+" ") {
				t.Errorf("it ended with %s", got)
			}
			second := l.dial(t, c.path)
			if c.path == "/busy" {
				if got := next(t, second); got != `{"type":"hello","connection":2}` {
					t.Errorf("who comes back hears %s", got)
				}
			} else if _, got := outcome(t, second); got != c.want && !strings.HasPrefix(got, c.want+" ") {
				t.Errorf("the second ended with %s", got)
			}
		})
	}
}

func TestUnsteady(t *testing.T) {
	t.Parallel()
	l := startServers(t)
	for run := range 2 {
		for n := range 5 {
			told, end := outcome(t, l.dial(t, "/unsteady"))
			want := fmt.Sprintf(`{"type":"hello","connection":%d,"cut":%d}`, run*6+n+1, n+1)
			if !strings.HasPrefix(end, "1006") || !slices.Equal(told, []string{want}) {
				t.Errorf("run %d, connection %d: %q, ended with %s", run, n+1, told, end)
			}
		}
		stays := l.dial(t, "/unsteady")
		if got, want := next(t, stays), fmt.Sprintf(`{"type":"hello","connection":%d,"stays":true}`, run*6+6); got != want {
			t.Errorf("the sixth: %s", got)
		}
		time.Sleep(400 * time.Millisecond) // longer than those that are cut
		send(t, stays, "still here")
		if got := next(t, stays); got != "still here" {
			t.Errorf("the sixth: %s", got)
		}
		stays.Close()
	}
}

func TestFeedResumes(t *testing.T) {
	t.Parallel()
	l := startServers(t)
	events := func(from, to int) (list []string) {
		for n := from; n <= to; n++ {
			list = append(list, fmt.Sprintf(`{"type":"event","n":%d}`, n))
		}
		return list
	}
	first := l.dial(t, "/feed")
	send(t, first, `{"type":"start"}`)
	if told, end := outcome(t, first); !slices.Equal(told, events(1, 7)) || !strings.HasPrefix(end, "1006") {
		t.Errorf("got %q, then %s", told, end)
	}
	back := l.dial(t, "/feed")
	send(t, back, `{"type":"resume","after":5}`)
	if told, end := outcome(t, back); !slices.Equal(told, events(6, 15)) || end != "1000 the feed is over" {
		t.Errorf("got %q, then %s", told, end)
	}
	for message, want := range map[string]string{
		`{"type":"resume"}`:             "The member after is",
		`{"type":"resume","after":8}`:   "The member after is",
		`{"type":"resume","after":1.5}`: "The member after is",
		`{"type":"resume","after":"1"}`: "The member after is",
		`hello`:                         "The first message is",
	} {
		wrong := l.dial(t, "/feed")
		send(t, wrong, message)
		if got := next(t, wrong); !strings.HasPrefix(got, `{"type":"error","message":"`+want) {
			t.Errorf("%s: %s", message, got)
		}
	}
}

func TestNumber(t *testing.T) {
	l := startServers(t)
	want := course.Vars(1)[course.Float]
	conn := l.dial(t, "/number")
	kind, bytes, err := conn.ReadMessage()
	if err != nil || kind != websocket.BinaryMessage || len(bytes) != 8 {
		t.Fatalf("got %x, %v", bytes, err)
	}
	number := math.Float64frombits(binary.BigEndian.Uint64(bytes))
	if fmt.Sprint(number) != want {
		t.Errorf("got %v, want %s", number, want)
	}
	for _, c := range []struct{ answer, starts string }{
		{fmt.Sprint(math.Float64frombits(binary.LittleEndian.Uint64(bytes))), `{"type":"error","message":"The number is another one.`},
		{"many", `{"type":"error","message":"The number is another one.`},
		{fmt.Sprint(number), `{"type":"right","number":`},
		{fmt.Sprintf("%e", number), `{"type":"right","number":`},
	} {
		send(t, conn, c.answer)
		if got := next(t, conn); !strings.HasPrefix(got, c.starts) {
			t.Errorf("%s: %s", c.answer, got)
		}
	}
	sendBytes(t, conn, bytes)
	if got := next(t, conn); !strings.Contains(got, "as text, in decimal") {
		t.Errorf("bytes: %s", got)
	}
}

func TestHunt(t *testing.T) {
	l := startServers(t)
	vars := course.Vars(1)
	conn := l.dial(t, "/hunt")
	var pings []string
	conn.SetPingHandler(func(payload string) error {
		pings = append(pings, payload)
		return nil
	})
	if got, want := next(t, conn), "\xde\xad\x00\x08"+vars[course.WordBinary]; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	found := map[string]string{
		vars[course.WordBinary]: "a binary frame",
		vars[course.WordPing]:   "a ping",
		vars[course.WordClose]:  "the reason of a Close frame",
	}
	for _, word := range slices.Sorted(maps.Keys(found)) {
		send(t, conn, word)
		if got, want := next(t, conn), `{"type":"found","where":"`+found[word]+`"}`; got != want {
			t.Errorf("%s: %s, want %s", word, got, want)
		}
	}
	send(t, conn, "amber")
	if got := next(t, conn); !strings.Contains(got, "none of the three words") {
		t.Errorf("another word: %s", got)
	}
	send(t, conn, "bye")
	if _, got := outcome(t, conn); got != "1000 "+vars[course.WordClose] {
		t.Errorf("it ended with %s", got)
	}
	if !slices.Equal(pings, []string{vars[course.WordPing]}) {
		t.Errorf("it pinged with %q", pings)
	}
}

func TestChat(t *testing.T) {
	l := startServers(t)
	offer := func(subprotocols ...string) func(*websocket.Dialer) {
		return func(d *websocket.Dialer) { d.Subprotocols = subprotocols }
	}
	for chosen, offers := range map[string][]string{"chat.v1": {"chat.v2", "chat.v1"}, "": {"chat.v2"}} {
		if conn := l.dial(t, "/chat", offer(offers...)); conn.Subprotocol() != chosen {
			t.Errorf("of %v %q was chosen", offers, conn.Subprotocol())
		}
	}
	none := l.dial(t, "/chat")
	send(t, none, `{"type":"join","id":"1","room":"lobby","name":"Aki"}`)
	if got := next(t, none); !strings.HasPrefix(got, `{"type":"error","message":"No subprotocol was chosen`) {
		t.Errorf("without a subprotocol: %s", got)
	}
	conn := l.dial(t, "/chat", offer("chat.v2", "chat.v1"))
	problem := func(text string) string { return `{"type":"error","message":"` + text + `"}` }
	for _, c := range []struct {
		send string
		want []string
	}{
		{`{"type":"say","id":"1","text":"hello"}`, []string{problem("Join a room before you say something.")}},
		{`{"type":"join","id":"1","room":"lobby"}`, []string{problem("A join has id, room and name, all texts, the name of 1 to 40 characters.")}},
		{`{"type":"join","id":1,"room":"lobby","name":"Aki"}`, []string{problem("A join has id, room and name, all texts, the name of 1 to 40 characters.")}},
		{`{"type":"join","id":"1","room":"lobby","name":"Aki \"A\""}`, []string{`{"type":"ack","id":"1"}`}},
		{`{"type":"dance","id":"2"}`, []string{problem("The type dance is not known in chat.v1: join, say and bye are.")}},
		{`hello`, []string{problem("A message is a JSON object with a type, as text.")}},
		{`{"type":"say","id":"3"}`, []string{problem("A say has id and text, both texts.")}},
		{`{"type":"say","id":"3","text":"<b>さくら</b>"}`, []string{`{"type":"ack","id":"3"}`, `{"type":"said","name":"Aki \"A\"","text":"<b>さくら</b>"}`}},
		{`{"type":"bye"}`, []string{problem("A bye has an id, a text.")}},
		{`{"type":"bye","id":"4"}`, []string{`{"type":"ack","id":"4"}`}},
	} {
		send(t, conn, c.send)
		for _, want := range c.want {
			if got := next(t, conn); got != want {
				t.Errorf("%s: %s, want %s", c.send, got, want)
			}
		}
	}
	if _, end := outcome(t, conn); end != "1000" {
		t.Errorf("it ended with %s", end)
	}
}
