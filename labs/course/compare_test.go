package course_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/labs"
	"github.com/sluice-gateway/sluice/labs/course"
)

func startCompare(t *testing.T, cfg course.CompareConfig) (*lab, *course.Compare) {
	t.Helper()
	l := &lab{}
	cfg.Refused = l.refuse
	c := course.NewCompare(cfg)
	return l.start(t, c), c
}

// counting is a client whose bytes are counted on its connections.
type counting struct {
	http.Client
	transport http.Transport
	in, out   atomic.Int64 // as the server sees them
}

func newCounting(t *testing.T) *counting {
	c := &counting{}
	c.transport.DialContext = c.dial
	c.Transport = &c.transport
	t.Cleanup(c.transport.CloseIdleConnections)
	return c
}

func (c *counting) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	return &countedConn{conn, c}, err
}

type countedConn struct {
	net.Conn
	by *counting
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.by.out.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.by.in.Add(int64(n))
	return n, err
}

func (c *counting) get(t *testing.T, url string, headers ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

// poll asks for events and lists their numbers.
func (c *counting) poll(t *testing.T, url string) (numbers []uint64) {
	t.Helper()
	response := c.get(t, url)
	var answer struct {
		Events []struct{ N uint64 }
	}
	body, err := io.ReadAll(response.Body)
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %q, %v", url, response.Status, body, err)
	}
	for _, e := range answer.Events {
		numbers = append(numbers, e.N)
	}
	return numbers
}

// stream reads n events of an event stream.
func stream(t *testing.T, body *bufio.Reader, n int) (ids []string, data []string) {
	t.Helper()
	for len(data) < n {
		line, err := body.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			ids = append(ids, strings.TrimSpace(id))
		} else if text, ok := strings.CutPrefix(line, "data: "); ok {
			data = append(data, strings.TrimSpace(text))
		}
	}
	return ids, data
}

func TestCompareGivesOneFeedInFourWays(t *testing.T) {
	t.Parallel()
	l, _ := startCompare(t, course.CompareConfig{})
	client := newCounting(t)
	events := client.get(t, l.URL+"/lab/x/compare/events?every=200ms&after=0", "Accept", "text/event-stream")
	if kind := events.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("the stream is of type %s", kind)
	}
	socket := l.dial(t, "/lab/x/compare?every=200ms&after=0")
	ids, data := stream(t, bufio.NewReader(events.Body), 3)
	for i, want := range data {
		if n := strconv.Itoa(i + 1); ids[i] != n || !strings.Contains(want, `"n":`+n+",") {
			t.Errorf("event %s is %s %s", n, ids[i], want)
		}
		if got := next(t, socket); got != want {
			t.Errorf("the socket has %s, the stream %s", got, want)
		}
	}
	got := client.poll(t, l.URL+"/compare/poll?every=200ms&after=0")
	if len(got) < 3 || got[0] != 1 || got[2] != 3 {
		t.Errorf("a poll has %d", got)
	}
	last := got[len(got)-1]
	if got := client.poll(t, fmt.Sprintf("%s/compare/long?every=200ms&after=%d", l.URL, last)); len(got) == 0 || got[0] != last+1 {
		t.Errorf("a long poll behind %d has %d", last, got)
	}
}

func TestCompareResumes(t *testing.T) {
	t.Parallel()
	l, _ := startCompare(t, course.CompareConfig{})
	client := newCounting(t)
	until(t, "there are three events", func() bool { return len(client.poll(t, l.URL+"/poll?every=200ms&after=0")) >= 3 })
	if got := client.poll(t, l.URL+"/poll?every=200ms"); len(got) != 1 {
		t.Errorf("a first poll has %d: not the last event alone", got)
	}
	if got := client.poll(t, l.URL+"/poll?every=200ms&after=1000000"); len(got) != 0 {
		t.Errorf("behind an event that is not there yet come %d", got)
	}
	back := client.get(t, l.URL+"/events?every=200ms&after=0", "Last-Event-ID", "1")
	if ids, _ := stream(t, bufio.NewReader(back.Body), 2); ids[0] != "2" || ids[1] != "3" {
		t.Errorf("Last-Event-ID: 1 resumes with %v", ids)
	}
	if got := next(t, l.dial(t, "/?every=200ms&after=2")); !strings.Contains(got, `"n":3,`) {
		t.Errorf("after=2 resumes a socket with %s", got)
	}
}

func TestCompareKeepsTheLastHundred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := course.NewCompare(course.CompareConfig{})
		w := httptest.NewRecorder()
		time.Sleep(150 * time.Second)
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/poll?after=3", http.NoBody)
		c.ServeHTTP(w, r)
		if body := w.Body.String(); !strings.HasPrefix(body, `{"events":[{"n":51,`) || !strings.HasSuffix(body, `{"n":150,"celsius":19}]}`) {
			t.Errorf("got %.40s…%s", body, body[max(0, len(body)-40):])
		}
	})
}

func TestCompareWaitsForAnEventNoLongerThanTheLongPoll(t *testing.T) {
	l, _ := startCompare(t, course.CompareConfig{LongPoll: 50 * time.Millisecond})
	begun := time.Now()
	if got := newCounting(t).poll(t, l.URL+"/long?every=10s"); len(got) != 0 {
		t.Errorf("got %d", got)
	}
	if took := time.Since(begun); took < 50*time.Millisecond || took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestCompareCountsWhatIsOnTheWire(t *testing.T) {
	t.Parallel()
	total := func(c course.Count) (n uint64) { return c.BytesIn + c.BytesOut }
	check := func(t *testing.T, name string, got func() course.Count, requests, events uint64, client *counting) {
		t.Helper()
		var c course.Count
		var in, out uint64 // on the wire when c was taken: an event may follow
		until(t, name+"'s bytes are all there", func() bool {
			c, in, out = got(), uint64(client.in.Load()), uint64(client.out.Load())
			return total(c) == in+out || c.Requests > requests
		})
		if c.Requests != requests || c.Events < events || c.BytesIn != in || c.BytesOut != out {
			t.Errorf("%s: %+v, and on the wire %d in, %d out", name, c, in, out)
		}
		if c.BytesPerEvent() != float64(total(c))/float64(c.Events) {
			t.Errorf("%v bytes an event", c.BytesPerEvent())
		}
	}
	l, c := startCompare(t, course.CompareConfig{DoorConfig: labs.DoorConfig{PingEvery: 50 * time.Millisecond}})

	polls := newCounting(t)
	for range 10 {
		polls.poll(t, l.URL+"/compare/poll?after=0&every=200ms")
	}
	polls.transport.CloseIdleConnections()
	polls.transport.DisableKeepAlives = true
	until(t, "there is an event", func() bool { return len(polls.poll(t, l.URL+"/compare/poll?after=0&every=200ms")) > 0 })
	check(t, "poll", func() course.Count { return c.Counters().Poll }, c.Counters().Poll.Requests, 1, polls)

	long := newCounting(t)
	last := polls.poll(t, l.URL+"/compare/poll?every=200ms")[0]
	for range 2 {
		got := long.poll(t, fmt.Sprintf("%s/compare/long?every=200ms&after=%d", l.URL, last))
		last = got[len(got)-1]
	}
	check(t, "long poll", func() course.Count { return c.Counters().LongPoll }, 2, 2, long)

	events := newCounting(t)
	response := events.get(t, l.URL+"/compare/events?every=200ms", "Accept", "text/event-stream", "Cookie", "a=b")
	stream(t, bufio.NewReader(response.Body), 2)
	check(t, "SSE", func() course.Count { return c.Counters().SSE }, 1, 2, events)

	socket := newCounting(t)
	conn := l.dial(t, "/compare?every=200ms", func(d *websocket.Dialer) { d.NetDialContext = socket.dial })
	next(t, conn)
	next(t, conn)
	send(t, conn, "not that it matters")
	_ = conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""))
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			break
		}
	}
	check(t, "WebSocket", func() course.Count { return c.Counters().WebSocket }, 1, 2, socket)
}

func TestCompareRefuses(t *testing.T) {
	l, c := startCompare(t, course.CompareConfig{DoorConfig: labs.DoorConfig{
		Admit: func(r *http.Request) (func(), string) {
			if r.URL.Query().Has("full") {
				return nil, "There are too many."
			}
			return func() {}, ""
		},
	}})
	client := newCounting(t)
	for _, test := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/poll?every=199ms", 400, "ARGUMENT_OUT_OF_RANGE"},
		{"GET", "/events?every=11s", 400, "ARGUMENT_OUT_OF_RANGE"},
		{"GET", "/long?every=often", 400, "ARGUMENT_OUT_OF_RANGE"},
		{"GET", "/poll?after=-1", 400, "ARGUMENT_OUT_OF_RANGE"},
		{"POST", "/poll", 405, "METHOD_NOT_ALLOWED"},
		{"GET", "/compare", 400, "HANDSHAKE_INVALID"},
		{"GET", "/events?full", 503, "TOO_MANY_CONNECTIONS"},
		{"GET", "/long?full", 503, "TOO_MANY_CONNECTIONS"},
	} {
		request, err := http.NewRequestWithContext(t.Context(), test.method, l.URL+test.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != test.status || !strings.Contains(string(body), "("+test.code+")") {
			t.Errorf("%s %s: %s, %s", test.method, test.path, response.Status, body)
		}
	}
	if got, want := l.refusals(), strings.Repeat("ARGUMENT_OUT_OF_RANGE ", 4)+"METHOD_NOT_ALLOWED HANDSHAKE_INVALID TOO_MANY_CONNECTIONS TOO_MANY_CONNECTIONS"; got != want {
		t.Errorf("counted %s, not %s", got, want)
	}
	if c.Counters() != (course.Counters{}) {
		t.Errorf("refused requests count: %+v", c.Counters())
	}
}

func TestCompareEndsEverythingWhenItIsShutDown(t *testing.T) {
	var inside atomic.Int64
	l, c := startCompare(t, course.CompareConfig{DoorConfig: labs.DoorConfig{Admit: func(*http.Request) (func(), string) {
		inside.Add(1)
		return func() { inside.Add(-1) }, ""
	}}})
	client := newCounting(t)
	events := client.get(t, l.URL+"/events?every=10s")
	conn := l.dial(t, "/?every=10s")
	waiting := make(chan error)
	go func() {
		response, err := http.Get(l.URL + "/long?every=10s") //nolint:noctx // ends with the server
		if err == nil {
			var body []byte
			body, err = io.ReadAll(response.Body)
			response.Body.Close()
			if string(body) != `{"events":[]}` {
				err = fmt.Errorf("a poll that waits got %s", body)
			}
		}
		waiting <- err
	}()
	until(t, "a stream, a socket and a poll are inside", func() bool { return inside.Load() == 3 })
	ended := make(chan error)
	go func() { ended <- c.Shutdown(t.Context()) }()
	if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, 1012) {
		t.Errorf("the socket ended with %v", err)
	}
	if rest, err := io.ReadAll(events.Body); err != nil || len(rest) > 0 {
		t.Errorf("the stream ended with %q, %v", rest, err)
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil || inside.Load() != 0 {
		t.Errorf("%v, %d are inside", err, inside.Load())
	}
	if sse := c.Counters().SSE; sse.BytesOut != uint64(client.out.Load()) {
		t.Errorf("%+v, and on the wire %d out", sse, client.out.Load())
	}
	if response := client.get(t, l.URL+"/poll"); response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("then a poll is answered %s", response.Status)
	}
	http.DefaultClient.CloseIdleConnections()
}
