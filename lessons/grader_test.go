package lessons

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// graded are lessons with the steps of all vectors that have no lesson.
func graded(t testing.TB) []*Lesson {
	t.Helper()
	var list []*Lesson
	for _, file := range vectorFiles(t) {
		f := readVectors(t, file)
		if f.Lesson != "" {
			continue
		}
		all := script{Want: make(map[string]want)}
		for _, s := range f.Steps {
			all.Want[s.ID] = want{}
		}
		list = append(list, f.lesson(t, nil, &all))
	}
	return list
}

// noise makes events of bytes: whatever they are, it is a transcript.
func noise(b []byte) []Event {
	var events []Event
	now := scriptStart
	next := func(n int) int {
		if len(b) == 0 {
			return 0
		}
		v := int(b[0]) % n
		b = b[1:]
		return v
	}
	rest := func() []byte {
		n := min(next(16), len(b))
		text := b[:n]
		b = b[n:]
		return text
	}
	texts := []string{"a", "b", "first", "second", "kumo-42", `{"type":"subscribe","id":"1","payload":{"query":"subscription { timeUpdates }"}}`, `{"items":[{},{"id":"7"}]}`, "\xff"}
	for len(b) > 0 {
		var e Event
		now = now.Add(time.Duration(next(32)) * 100 * time.Millisecond)
		e.Seq, e.At, e.Conn = uint64(len(events)+1), now, uint64(next(4))
		text := texts[next(len(texts))]
		d := wire.Direction(next(2))
		switch next(14) {
		case 0:
			e.Request = &wire.Request{Method: "GET", URI: "/lab/x/" + text, Header: http.Header{"Sec-Websocket-Protocol": {text}}}
		case 1:
			e.Response = &wire.Response{Status: []int{101, 200, 400, 426}[next(4)], Header: http.Header{"Sec-Websocket-Protocol": {"graphql-transport-ws"}}}
		case 2, 3:
			f := wire.NewFrame(next(4) > 0, wire.Opcode(next(16)), rest())
			f.RSV1, f.Length = next(5) == 0, f.Length+uint64(next(2))
			e.Frame = &wire.FrameEvent{Direction: d, Frame: f, Problems: f.Problems(d, false)}
		case 4, 5:
			m := wire.Message{Opcode: wire.Opcode(1 + next(2)), Data: []byte(text), Size: uint64(len(text) + next(2)), Fragments: next(3)}
			m.GraphQL = wire.ParseGraphQL("graphql-transport-ws", d, m.Data)
			if next(4) == 0 {
				m.MQTT = []wire.MQTTPacket{{Type: wire.MQTTType(next(16)), PacketID: uint16(next(3)), QoS: 1}, {Type: wire.CONNECT, Connect: &wire.MQTTConnect{}}}
			}
			if next(4) == 0 {
				m.Problems = []wire.Problem{{Rule: wire.RuleUTF8}}
			}
			e.Message = &wire.MessageEvent{Direction: d, Message: m}
		case 6:
			e.Close = &wire.CloseEvent{By: []wire.Side{wire.Client, wire.Server, wire.Nobody}[next(3)], Code: []int{1000, 1001, 1005, 1006, 1008, 4321}[next(6)], Reason: text, Complete: next(2) == 0}
		case 7:
			e.End = &wire.EndEvent{By: []wire.Side{wire.Client, wire.Server}[next(2)], How: []wire.Ending{wire.FIN, wire.RST, wire.Timeout}[next(3)]}
		case 8:
			e.Answer = &Answer{Step: fmt.Sprint("S", 1+next(20)), Name: text, Value: []any{nil, text, 1.5, true, []any{text}, map[string]any{"a": text}}[next(6)]}
		case 9:
			e.Bridge = &Bridge{Source: "redis", Name: text, What: "delivered"}
		case 10:
			e.Probe = &Probe{Case: "handshake", Passed: next(2) == 0}
		case 11:
			e.Sample = &Sample{Source: "load", Value: map[string]any{"connections": float64(next(255)), "rate": text}}
		case 12:
			e.Chaos = &Chaos{Fault: "partition", Number: next(3)}
		}
		events = append(events, e)
	}
	return events
}

// FuzzGrader: no sequence of events makes a grader panic, and in pieces, with
// moments between, it says the same as at once.
func FuzzGrader(f *testing.F) {
	for seed := range 8 {
		var b []byte
		for i := range 400 {
			b = binary.LittleEndian.AppendUint32(b, uint32(i*i*2654435761+seed*40503))
		}
		f.Add(b)
	}
	lessons, file := graded(f), &vectors{Nonce: "kumo-42", Knows: map[string]any{"accept": "a", "cost": 1.5, "code": "x"}}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4000 {
			return
		}
		events := noise(b)
		for _, l := range lessons {
			whole := Grade(l, Config{Nonce: file.Nonce, Facts: file.Knows}, events)
			if pieces := inPieces(l, file, events); !cmp.Equal(whole, pieces) {
				t.Errorf("in pieces the verdicts differ:\n%s", cmp.Diff(whole, pieces))
			}
		}
	})
}

// flood is a client that sends what nearly fits, on and on.
func flood(n int, event func(i int) Event) []Event {
	events := []Event{
		{Event: wire.Event{Seq: 1, Conn: 1, At: scriptStart, Request: &wire.Request{Method: "GET", URI: "/"}}},
		{Event: wire.Event{Seq: 2, Conn: 1, At: scriptStart, Response: &wire.Response{Status: 101}}},
	}
	for i := range n {
		e := event(i)
		e.Seq, e.Conn, e.At = uint64(i+3), 1, scriptStart.Add(time.Duration(i)*time.Millisecond)
		events = append(events, e)
	}
	return events
}

// TestMemoryIsBounded: after thousands of large messages that fit, a grader holds
// what its bounds say, and none of their payloads.
func TestMemoryIsBounded(t *testing.T) {
	var graders []*Grader
	steps := 0
	for _, l := range graded(t) {
		graders = append(graders, NewGrader(l, Config{Nonce: "kumo-42"}))
		steps += len(l.Steps)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	const events, size = 3000, 10_000
	for i := range events {
		data := make([]byte, size)
		binary.BigEndian.PutUint32(data, uint32(i*3)) // never in order
		e := Event{Event: wire.Event{Seq: uint64(i + 1), Conn: uint64(i), At: scriptStart.Add(time.Duration(i) * time.Millisecond)}}
		e.Message = &wire.MessageEvent{Direction: wire.ToServer, Message: wire.Message{Opcode: wire.Binary, Size: size, Data: data, Fragments: 1}}
		for _, g := range graders {
			g.Feed(e)
		}
	}
	if held := int64(heap()) - int64(before); held > 4<<20 {
		t.Errorf("the graders of %d steps hold %d bytes", steps, held)
	}
	for _, g := range graders {
		if n := len(g.history.links); n > maxLinks {
			t.Errorf("a grader remembers %d connections", n)
		}
	}
	runtime.KeepAlive(graders)
}

// TestEarlyEventsOutlastAFlood: of more events than are remembered, some stay
// that are far apart in time, so that a window from an early one still closes.
func TestEarlyEventsOutlastAFlood(t *testing.T) {
	course := embedded(t)
	events := flood(1500, func(int) Event {
		return Event{Event: wire.Event{Message: &wire.MessageEvent{Direction: wire.ToServer, Message: wire.Message{Opcode: wire.Text, Size: 1, Data: []byte("x"), Fragments: 1}}}}
	})
	for _, v := range Grade(course.Lesson(model), Config{Nonce: "kumo-42"}, events) {
		if v.Step == "S3" && (v.State != Ticked || v.Tick.At.Sub(scriptStart) != time.Second) {
			t.Errorf("a message each millisecond leaves S3 %v, %+v", v.State, v.Tick)
		}
	}
}

func BenchmarkFeed(b *testing.B) {
	l := embedded(b).Lesson(model)
	events := flood(1000, func(i int) Event {
		return Event{Event: wire.Event{Message: &wire.MessageEvent{Direction: wire.ToServer, Message: wire.Message{Opcode: wire.Text, Size: 1, Data: []byte{byte('a' + i%26)}, Fragments: 1}}}}
	})
	for b.Loop() {
		g := NewGrader(l, Config{Nonce: "kumo-42"})
		for _, e := range events {
			g.Feed(e)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(events)), "ns/event")
}
