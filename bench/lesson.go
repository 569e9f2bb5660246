//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Learners at work at the same time, and how long after one frame of theirs the
// next one follows, of whichever of them.
const (
	learners      = 200
	frameEvery    = 5 * time.Millisecond
	echoes        = 100 // of each learner, for the cost of a frame
	echoWarm      = 10  // before anything counts
	lesson        = "what-is-websocket"
	tickedByWord  = "S2"
	lessonSockets = 4 // for the subscriptions, of which one socket has at most a hundred
)

// labLimits are the limits of a gateway with all these sessions.
var labLimits = append([]string{"SLUICE_LIMIT_LAB_RATE=1000000"}, keptLimits...)

// ask posts an operation and decodes its data.
func ask(ctx context.Context, addr, query string, data any) error {
	body, _ := json.Marshal(map[string]string{"query": query})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/graphql", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Data   json.RawMessage
		Errors json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Errors != nil {
		return fmt.Errorf("%s was refused: %s", query, answer.Errors)
	}
	return json.Unmarshal(answer.Data, data)
}

// learner is one lab session, and its socket on one of the echo servers.
type learner struct {
	id, nonce string
	echo      *websocket.Conn
	sent      time.Time // the frame that ticks a step
}

// classOf starts sessions and connects each to an echo: its own, or the one
// without a session.
func classOf(ctx context.Context, addr string, n int, own bool) (class []*learner, err error) {
	defer func() {
		if err != nil {
			dismiss(class)
		}
	}()
	for range n {
		l, path := &learner{}, "/echo"
		if own {
			var started struct{ StartLab struct{ ID, Nonce string } }
			if err := ask(ctx, addr, `mutation { startLab(lesson: "`+lesson+`") { id nonce } }`, &started); err != nil {
				return class, err
			}
			l.id, l.nonce = started.StartLab.ID, started.StartLab.Nonce
			path = "/lab/" + l.id + path
		}
		if l.echo, err = dial(ctx, "ws://"+addr+path); err != nil {
			return class, err
		}
		class = append(class, l)
	}
	return class, nil
}

func dismiss(class []*learner) {
	for _, l := range class {
		_ = l.echo.Close()
	}
}

func dial(ctx context.Context, url string, protocols ...string) (*websocket.Conn, error) {
	dialer := websocket.Dialer{Subprotocols: protocols}
	c, resp, err := dialer.DialContext(ctx, url, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	resp.Body.Close()
	return c, nil
}

// echoed sends a message and waits until it is back.
func (l *learner) echoed(text []byte) error {
	if err := l.echo.WriteMessage(websocket.TextMessage, text); err != nil {
		return err
	}
	_, _, err := l.echo.ReadMessage()
	return err
}

// watch subscribes to the lessons of a part of a class, and returns once every
// stream is open. What came is read until the socket is closed: told is called
// with the place in the class of each whose step was ticked.
func watch(ctx context.Context, addr string, class []*learner, told func(i int)) (stop func(), err error) {
	c, err := dial(ctx, "ws://"+addr+"/graphql", "graphql-transport-ws")
	if err != nil {
		return nil, err
	}
	fail := func(err error) (func(), error) {
		_ = c.Close()
		return nil, err
	}
	if err := c.WriteMessage(websocket.TextMessage, []byte(`{"type":"connection_init"}`)); err != nil {
		return fail(err)
	}
	for i, l := range class {
		err := c.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"id":"%d","type":"subscribe","payload":{"query":"subscription { lessonEvents(session: \"%s\") { ... on StepTicked { step { id } } } }","extensions":{"sluice":{"ready":true}}}}`, i, l.id))
		if err != nil {
			return fail(err)
		}
	}
	// next reads the next message of a stream.
	next := func() (i int, step string, err error) {
		var m struct {
			ID      int `json:",string"`
			Type    string
			Payload struct {
				Data *struct {
					LessonEvents struct{ Step struct{ ID string } }
				}
			}
		}
		_, text, err := c.ReadMessage()
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		if err == nil && m.Type != "next" && m.Type != "connection_ack" {
			err = fmt.Errorf("the gateway said %s", text)
		}
		if m.Type == "connection_ack" || m.Payload.Data == nil {
			return m.ID, "", err
		}
		return m.ID, m.Payload.Data.LessonEvents.Step.ID, err
	}
	for range 1 + len(class) { // the acknowledgement, and a notice for each stream
		if _, _, err := next(); err != nil {
			return fail(err)
		}
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			i, step, err := next()
			if err != nil {
				return // the socket is closed, or what was not told counts as lost
			}
			if step == tickedByWord {
				told(i)
			}
		}
	})
	return func() {
		_ = c.Close()
		reading.Wait()
	}, nil
}

// ticks measures how long after its frame a step is told as ticked, from the
// write of the client to a subscriber's reading of the event.
func (b *bed) ticks(ctx context.Context) (s sample, err error) {
	on, err := b.start(ctx, sluiceAlone, labLimits...)
	if err != nil {
		return s, err
	}
	defer on.stop()
	class, err := classOf(ctx, on.addr, learners, true)
	if err != nil {
		return s, on.explain(err)
	}
	defer dismiss(class)
	var (
		mu   sync.Mutex
		told int
		most time.Duration
	)
	for first := 0; first < learners; first += learners / lessonSockets {
		part := class[first : first+learners/lessonSockets]
		stop, err := watch(ctx, on.addr, part, func(i int) {
			now := time.Now()
			mu.Lock()
			defer mu.Unlock()
			told++
			took := now.Sub(part[i].sent)
			s.latency.add(took.Nanoseconds())
			most = max(most, took)
		})
		if err != nil {
			return s, on.explain(err)
		}
		defer stop()
	}
	pace := time.NewTicker(frameEvery)
	defer pace.Stop()
	for _, l := range class {
		<-pace.C
		mu.Lock()
		l.sent = time.Now()
		mu.Unlock()
		if err := l.echo.WriteMessage(websocket.TextMessage, []byte(l.nonce)); err != nil {
			return s, on.explain(err)
		}
	}
	_ = until(ctx, 10*time.Second, "every tick", func() (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		return told >= learners, nil
	})
	if ctx.Err() != nil {
		return s, ctx.Err()
	}
	mu.Lock()
	defer mu.Unlock()
	p50, p99 := s.latency.percentile(50), s.latency.percentile(99)
	s.value, s.lost = p99.Seconds()*1e3, learners-told
	s.text = fmt.Sprintf("p50 %v, p99 %v, max %v", round(p50), round(p99), round(most))
	s.detail = fmt.Sprintf("%s, %d of %d ticks", s.text, told, learners)
	return s, nil
}

// echo measures the CPU time of the server for a message of 64 bytes and its echo,
// in microseconds.
func (b *bed) echo(ctx context.Context, own bool) (s sample, err error) {
	on, err := b.start(ctx, sluiceAlone, labLimits...)
	if err != nil {
		return s, err
	}
	defer on.stop()
	class, err := classOf(ctx, on.addr, learners, own)
	if err != nil {
		return s, on.explain(err)
	}
	defer dismiss(class)
	text := bytes.Repeat([]byte{'x'}, 64)
	all := func(times int) error {
		for range times {
			for _, l := range class {
				if err := l.echoed(text); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := all(echoWarm); err != nil {
		return s, on.explain(err)
	}
	name := "echo"
	if own {
		name = "echo-graded"
	}
	profiled := b.startProfile(on, name)
	spent, err := on.spends(func() error { return all(echoes) })
	profiled()
	s.value = spent.Seconds() * 1e6 / (learners * echoes)
	s.detail = micros(s.value)
	return s, on.explain(err)
}

// lessonRows are about the course.
func lessonRows() []row {
	return []row{
		{
			name: "tick", title: fmt.Sprintf("frame of a learner to the event that its step is ticked, %d lab sessions, %d frames/s", learners, time.Second/frameEvery), rounds: 3, format: millis,
			explain: "Each session has a client at its echo server, which sends the frame that ticks a step, and a GraphQL subscriber, which is told so: from the client's write to the subscriber's read. Between them are the tap, the grader and the event log in memory.",
			cells:   []cell{each(colSluice, columnTitles[colSluice], func(ctx context.Context, b *bed) (sample, error) { return b.ticks(ctx) })},
			targets: []target{{"", 100, "p99 ≤ 100 ms, 0 lost"}},
		},
		{
			name: "echo-graded", title: fmt.Sprintf("a message of 64 B and its echo, tapped and graded, %d lab sessions", learners), rounds: 3, format: micros,
			explain: "CPU time of the gateway for each message. What a lab session adds to an echo: the tap that takes the frames of both directions apart and keeps them, and the grader that holds them against the lesson's steps.",
			cells: []cell{
				each(colSluice, columnTitles[colSluice], func(ctx context.Context, b *bed) (sample, error) { return b.echo(ctx, true) }),
				each(colOther, "Sluice, echo without a session", func(ctx context.Context, b *bed) (sample, error) { return b.echo(ctx, false) }),
			},
		},
	}
}
