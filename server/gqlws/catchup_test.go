package gqlws

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/live"
)

// testLog is a source that keeps its events: the nth of a topic stands at n, and
// its cursor is "c" and n.
type testLog struct {
	tail    *live.Tail[string, string]
	streams atomic.Int32  // that are open
	sealed  atomic.Int32  // cursors
	lag     time.Duration // by how much a stream may be behind another, at most

	mu      sync.Mutex
	topics  map[string][]live.Event[string]
	trimmed uint64
	era     uint64 // of positions: other topics may have moved the head on
}

func newTestLog() *testLog {
	l := &testLog{topics: make(map[string][]live.Event[string]), era: 1}
	l.tail = live.NewTail(live.TailConfig[string, string]{
		Archive: l,
		Cursor: func(_ string, p live.Position) string {
			l.sealed.Add(1)
			return fmt.Sprintf("c%d", p.Lo)
		},
	})
	return l
}

func (l *testLog) append(topic string, words ...string) {
	l.mu.Lock()
	for _, word := range words {
		n := uint64(len(l.topics[topic]))
		l.topics[topic] = append(l.topics[topic], live.Event[string]{Value: word, Pos: live.Position{Hi: l.era, Lo: n + 1}})
	}
	l.mu.Unlock()
	l.tail.Grown(topic)
}

// Read implements live.Archive.
func (l *testLog) Read(_ context.Context, topic string, after live.Position, limit int) ([]live.Event[string], error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if after.Lo < l.trimmed {
		return nil, &live.Trimmed{Through: live.Position{Hi: 1, Lo: l.trimmed}}
	}
	events := l.topics[topic][after.Lo:]
	return append([]live.Event[string](nil), events[:min(limit, len(events))]...), nil
}

// Head implements live.Archive.
func (l *testLog) Head(_ context.Context, topic string) (live.Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return live.Position{Hi: l.era, Lo: uint64(len(l.topics[topic]))}, nil
}

func (l *testLog) open(ctx context.Context, topic, cursor string) (<-chan string, error) {
	var after *live.Position
	if cursor != "" {
		after = &live.Position{Hi: 1}
		if _, err := fmt.Sscanf(cursor, "c%d", &after.Lo); err != nil {
			return nil, &live.Error{Code: "CURSOR_INVALID", Message: "No cursor."}
		}
	}
	sub, err := l.tail.Subscribe(ctx, topic, after)
	if err != nil {
		return nil, err
	}
	l.streams.Add(1)
	return live.Stream(ctx, &countedSub{Sub: sub, Kept: sub.(live.Kept), log: l}, live.Value), nil
}

// countedSub counts open streams.
type countedSub struct {
	live.Sub[string]
	live.Kept
	log  *testLog
	once sync.Once

	// Of a log that lags; the worker's alone.
	wake func()
	late []live.Event[string] // until due
	due  time.Time
}

func (s *countedSub) Wake(f func()) {
	s.wake = f
	s.Sub.Wake(f)
}

// delay takes what waits, and shows it later.
func (s *countedSub) delay() {
	var one [1]live.Event[string]
	for n := 1; n > 0; {
		if n, _ = s.Sub.Next(one[:]); n > 0 {
			s.late = append(s.late, one[0])
		}
	}
	if len(s.late) > 0 && s.due.IsZero() {
		lag := rand.N(s.log.lag)
		s.due = time.Now().Add(lag)
		time.AfterFunc(lag, s.wake)
	}
}

func (s *countedSub) Next(buf []live.Event[string]) (int, bool) {
	if s.log.lag == 0 {
		return s.Sub.Next(buf)
	}
	s.delay()
	if len(s.late) == 0 {
		return s.Sub.Next(buf)
	}
	if time.Now().Before(s.due) {
		return 0, true
	}
	n := copy(buf, s.late)
	if s.late = s.late[n:]; len(s.late) == 0 {
		s.due = time.Time{}
	}
	return n, true
}

func (s *countedSub) Near() bool {
	near := s.Kept.Near()
	if s.log.lag > 0 {
		s.delay()
	}
	return near && len(s.late) == 0
}

func (s *countedSub) Close() {
	s.once.Do(func() { s.log.streams.Add(-1) })
	s.Sub.Close()
}

// logResult is a result of the field "log".
type logResult struct {
	ID      string
	Type    string
	Payload struct {
		Data *struct{ Log string }
		// Errors come in the payload's place.
		Extensions struct {
			Sluice struct {
				Ready  bool
				Cursor string
				Gap    any
			}
		}
	}
}

func (c *client) readLog() logResult {
	c.t.Helper()
	var r logResult
	if err := json.Unmarshal([]byte(c.read()), &r); err != nil {
		c.t.Fatal(err)
	}
	return r
}

// resume subscribes to the log after a cursor, by the extension.
func (c *client) resume(topic, cursor string) {
	c.t.Helper()
	c.send(fmt.Sprintf(`{"id":"1","type":"subscribe","payload":{"query":"subscription { log(topic: \"%s\") }","extensions":{"sluice":{"resume":%q,"cursor":true}}}}`, topic, cursor))
}

func TestResumeGoesOnBehindTheCursor(t *testing.T) {
	documents := map[string]string{
		"by the argument":    `{"query":"subscription { log(topic: \"a\", after: \"c2\") }"}`,
		"by a variable":      `{"query":"subscription L($a: String) { log(topic: \"a\", after: $a) }","variables":{"a":"c2"}}`,
		"by the extension":   `{"query":"subscription { log(topic: \"a\") }","extensions":{"sluice":{"resume":"c2"}}}`,
		"the extension wins": `{"query":"subscription { log(topic: \"a\", after: \"c1\") }","extensions":{"sluice":{"resume":"c2"}}}`,
	}
	for name, document := range documents {
		t.Run(name, func(t *testing.T) {
			g := start(t, Config{})
			g.log.append("a", "one", "two", "three", "four")
			c := g.connect(t)
			c.send(`{"id":"1","type":"subscribe","payload":` + document + `}`)
			c.want(`{"id":"1","type":"next","payload":{"data":{"log":"three"}}}`)
			c.want(`{"id":"1","type":"next","payload":{"data":{"log":"four"}}}`)
			g.log.append("a", "five")
			c.want(`{"id":"1","type":"next","payload":{"data":{"log":"five"}}}`)
		})
	}
}

func TestCursorAndReadyComeWhenAskedFor(t *testing.T) {
	g := start(t, Config{})
	g.log.append("a", "one", "two")
	c := g.connect(t)
	subscribe := func(id, extensions string) {
		c.send(fmt.Sprintf(`{"id":%q,"type":"subscribe","payload":{"query":"subscription { log(topic: \"a\") }","extensions":{"sluice":%s}}}`, id, extensions))
	}
	subscribe("1", `{"cursor":true,"ready":true}`)
	c.want(`{"id":"1","type":"next","payload":{"data":null,"extensions":{"sluice":{"ready":true,"cursor":"c2"}}}}`)
	g.log.append("a", "three")
	c.want(`{"id":"1","type":"next","payload":{"data":{"log":"three"},"extensions":{"sluice":{"cursor":"c3"}}}}`)
	subscribe("2", `{"ready":true}`) // joins a group that has moved
	c.want(`{"id":"2","type":"next","payload":{"data":null,"extensions":{"sluice":{"ready":true,"cursor":"c3"}}}}`)
	subscribe("3", `{"resume":"c3","ready":true,"cursor":true}`)
	c.want(`{"id":"3","type":"next","payload":{"data":null,"extensions":{"sluice":{"ready":true,"cursor":"c3"}}}}`)
	g.log.append("a", "four")
	got := map[string]bool{c.read(): true, c.read(): true, c.read(): true}
	for id, extensions := range map[string]string{"1": `,"extensions":{"sluice":{"cursor":"c4"}}`, "2": "", "3": `,"extensions":{"sluice":{"cursor":"c4"}}`} {
		if want := `{"id":"` + id + `","type":"next","payload":{"data":{"log":"four"}` + extensions + `}}`; !got[want] {
			t.Errorf("got %v, want %s", got, want)
		}
	}
}

func TestReadyWithoutACursor(t *testing.T) {
	g := start(t, Config{})
	c := g.connect(t)
	for i, field := range []string{`words(topic: \"a\")`, `private(topic: \"a\")`, `plain(n: 0)`} {
		c.send(fmt.Sprintf(`{"id":"%d","type":"subscribe","payload":{"query":"subscription { %s }","extensions":{"sluice":{"ready":true,"cursor":true}}}}`, i, field))
		c.want(fmt.Sprintf(`{"id":"%d","type":"next","payload":{"data":null,"extensions":{"sluice":{"ready":true}}}}`, i))
	}
	c.want(`{"id":"2","type":"complete"}`)
}

func TestResumeIsRefused(t *testing.T) {
	tests := []struct{ name, payload, want string }{
		{"a stream that keeps nothing", `{"query":"subscription { words(topic: \"a\") }","extensions":{"sluice":{"resume":"c1"}}}`, "RESUME_UNSUPPORTED"},
		{"a query", `{"query":"{ hello }","extensions":{"sluice":{"resume":"c1"}}}`, ""},
		{"a cursor that is none", `{"query":"subscription { log(topic: \"a\") }","extensions":{"sluice":{"resume":"nonsense"}}}`, "CURSOR_INVALID"},
		{"a cursor that is too old", `{"query":"subscription { log(topic: \"a\") }","extensions":{"sluice":{"resume":"c1"}}}`, "CURSOR_TOO_OLD"},
		{"no object", `{"query":"subscription { log(topic: \"a\") }","extensions":{"sluice":[1]}}`, "must be an object"},
		{"no string", `{"query":"subscription { log(topic: \"a\") }","extensions":{"sluice":{"resume":1}}}`, "must be a cursor"},
		{"no boolean", `{"query":"subscription { log(topic: \"a\") }","extensions":{"sluice":{"cursor":"yes"}}}`, "must be true or false"},
	}
	g := start(t, Config{})
	g.log.append("a", "one", "two", "three")
	g.log.trimmed = 2
	c := g.connect(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c.send(`{"id":"1","type":"subscribe","payload":` + test.payload + `}`)
			got := c.read()
			if test.want == "" {
				if !strings.Contains(got, "world") {
					t.Errorf("got %s", got)
				}
				c.read() // complete
				return
			}
			if !strings.HasPrefix(got, `{"id":"1","type":"error"`) || !strings.Contains(got, test.want) {
				t.Errorf("got %s, want an error with %s", got, test.want)
			}
		})
	}
	eventually(t, "no streams", func() bool { return g.log.streams.Load() == 0 })
}

// Subscribers leave and come back at random while events pour in: each sees
// every event once, in order.
func TestNothingIsLostOrDoubledWhileEventsPourIn(t *testing.T) {
	for _, queue := range []int{1 << 20, 4 << 10} { // the second makes held results too many now and then
		t.Run(fmt.Sprintf("queue=%d", queue), func(t *testing.T) {
			const total = 3000
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			g := start(t, Config{QueueBytes: queue, OperationsPerSecond: 1e6, OperationsBurst: 1e6})
			var work sync.WaitGroup
			work.Go(func() {
				chance := rand.New(rand.NewPCG(seed, 0))
				for n := 0; n < total; {
					words := make([]string, min(1+chance.IntN(40), total-n))
					for i := range words {
						n++
						words[i] = fmt.Sprint(n)
					}
					g.log.append("a", words...)
					time.Sleep(time.Duration(chance.IntN(500)) * time.Microsecond) // the pace of a source, nothing waits for it
				}
			})
			for i := range 12 {
				work.Go(func() { comeAndGo(t, g, rand.New(rand.NewPCG(seed, uint64(i+1))), total) })
			}
			work.Wait()
			eventually(t, "no streams", func() bool { return g.log.streams.Load() == 0 })
		})
	}
}

// comeAndGo follows the log to its end, over many sockets.
func comeAndGo(t *testing.T, g *gateway, chance *rand.Rand, total int) {
	cursor, last := "c0", 0
	for last < total {
		c := g.connect(t)
		c.resume("a", cursor)
		for range 1 + chance.IntN(2*total/5) {
			r := c.readLog()
			if r.Payload.Data == nil || r.Payload.Data.Log != fmt.Sprint(last+1) || r.Payload.Extensions.Sluice.Gap != nil {
				t.Errorf("after %d (%s) came %+v", last, cursor, r)
				return
			}
			cursor = r.Payload.Extensions.Sluice.Cursor
			if last++; last == total {
				break
			}
		}
		c.Close()
	}
}

// Who comes back late is sent everything at its own pace, and is not closed for
// the length of it.
func TestCatchUpIsPacedByTheSocket(t *testing.T) {
	const events, size = 3000, 4 << 10
	g := start(t, Config{QueueBytes: 64 << 10})
	for range events {
		g.log.append("a", strings.Repeat("x", size))
	}
	c := g.connect(t)
	c.resume("a", "c0")
	other := g.connect(t)
	other.subscribe("1", `{ hello }`)
	other.want(`{"id":"1","type":"next","payload":{"data":{"hello":"world"}}}`)
	eventually(t, "a full socket", func() bool { return waitingFor(g, 10<<10) })
	if n := g.executed.Load(); n > events/2 {
		t.Errorf("%d of %d events were executed for a client that reads nothing", n, events)
	}
	for i := range events {
		if r := c.readLog(); r.Payload.Extensions.Sluice.Cursor != fmt.Sprintf("c%d", i+1) {
			t.Fatalf("got %+v, want event %d", r, i+1)
		}
	}
}

// waitingFor says whether so many bytes wait for some socket, and stay.
func waitingFor(g *gateway, bytes int) bool {
	for _, c := range g.transport.snapshot() {
		c.out.mu.Lock()
		waiting := c.out.bytes
		c.out.mu.Unlock()
		if waiting > bytes {
			return true
		}
	}
	return false
}

// Everybody comes back at once, as after a restart of the gateway: what they
// missed is executed about once, and then they are one group again.
func TestManyWhoComeBackAtOnceShareTheirExecutions(t *testing.T) {
	if unshared {
		t.Skip("this run shares nothing")
	}
	const clients, missed = 300, 50
	g := start(t, Config{})
	for n := range missed {
		g.log.append("a", fmt.Sprint(n+1))
	}
	all := make([]*client, clients)
	for i := range all {
		all[i] = g.connect(t)
	}
	for i, c := range all {
		c.resume("a", fmt.Sprintf("c%d", i%5))
	}
	for i, c := range all {
		for n := i % 5; n < missed; n++ {
			if r := c.readLog(); r.Payload.Data.Log != fmt.Sprint(n+1) {
				t.Fatalf("client %d got %+v, want %d", i, r, n+1)
			}
		}
	}
	if n := g.executed.Load(); n > 4*missed {
		t.Errorf("%d executions for %d events", n, missed)
	}
	eventually(t, "one stream", func() bool { return g.log.streams.Load() == 1 })
	before := g.executed.Load()
	g.log.append("a", "live")
	for _, c := range all {
		if r := c.readLog(); r.Payload.Data.Log != "live" || r.Payload.Extensions.Sluice.Cursor != fmt.Sprintf("c%d", missed+1) {
			t.Fatalf("got %+v", r)
		}
	}
	if n := g.executed.Load() - before; n != 1 {
		t.Errorf("%d executions of one event", n)
	}
}

// A subscriber that stops reading while it catches up holds up nobody, and
// leaves nothing behind when it goes.
func TestSlowResumerEndsCleanly(t *testing.T) {
	g := start(t, Config{QueueBytes: 8 << 10})
	for range 2000 {
		g.log.append("a", strings.Repeat("x", 4<<10))
	}
	c := g.connect(t)
	c.resume("a", "c0")
	eventually(t, "a full socket", func() bool { return waitingFor(g, 2<<10) })
	c.Close()
	eventually(t, "no streams", func() bool { return g.log.streams.Load() == 0 && len(g.transport.snapshot()) == 0 })
}

func TestGapAndDroppedResultsAreOneNotice(t *testing.T) {
	r := result{body: []byte(`{"data":{}`), more: &more{others: []byte(`"a":1`), gap: &live.Gap{Reason: live.GapOutage, Missed: 2}}}
	got := string(r.missing(3).appendTail(r.body, false))
	if want := `{"data":{},"extensions":{"a":1,"sluice":{"gap":{"reason":"OUTAGE","missed":5}}}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A socket may be closed at any moment of the way from the log to the group.
func TestCloseAtAnyMomentOfTheCatchUp(t *testing.T) {
	g := start(t, Config{OperationsPerSecond: 1e6, OperationsBurst: 1e6})
	stop := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				g.log.append("a", fmt.Sprint(n))
			}
		}
	})
	for i := range 100 {
		c := g.connect(t)
		c.resume("a", "c0")
		for range i % 7 * 20 {
			c.read()
		}
		if i%2 == 0 {
			_ = c.WriteMessage(websocket.TextMessage, []byte(`{"id":"1","type":"complete"}`))
		}
		c.Close()
	}
	close(stop)
	work.Wait()
	eventually(t, "no streams", func() bool { return g.log.streams.Load() == 0 && len(g.transport.snapshot()) == 0 })
}
