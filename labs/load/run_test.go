package load

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/labs"
)

func TestGeneratorAndServerCountTheSame(t *testing.T) {
	for _, plan := range []Plan{
		{Loop: Open, Rate: 50},
		{Loop: Closed, Rate: 50, Binary: true},
		{Loop: Open, Rate: 10, Size: 100_000},
	} {
		t.Run(fmt.Sprintf("%s of %d", plan.Loop, plan.Size), func(t *testing.T) {
			s, url := start(t, Config{})
			plan.URL = url
			result := play(t, plan)
			report, m := s.Report(), result.Messages
			if report.In.Messages != m.SentInAll || report.Out.Messages != m.ReceivedInAll || report.In.Bytes != m.BytesSent || report.Out.Bytes != m.BytesReceived {
				t.Errorf("the server counted %+v in, %+v out", report.In, report.Out)
			}
			if report.Peak != 10 || report.Opened != 10 || report.Open != 0 || !reflect.DeepEqual(report.CloseCodes, result.Connections.CloseCodes) || report.CloseCodes[1000] != 10 {
				t.Errorf("the server counted %+v", report)
			}
			if m.Answered != m.Due || m.wrong() != 0 || m.Doubled+m.Reordered+m.Foreign != 0 || result.Latency.Count != m.Answered {
				t.Errorf("counted %+v, %d latencies", m, result.Latency.Count)
			}
			if plan.Loop == Open && m.Due != int64(10*plan.Rate) {
				t.Errorf("%d were due in a second", m.Due)
			}
			if report.Age == nil || report.Age.Count != m.SentInAll || report.Age.P50 > result.Service.Max {
				t.Errorf("ages %+v", report.Age)
			}
		})
	}
}

// A server that stops for 700 ms makes many users wait. A client that waits for
// answers hardly notices.
func TestOpenLoopShowsAStallThatClosedLoopHides(t *testing.T) {
	p99 := func(t *testing.T, loop Loop) time.Duration {
		var door sync.RWMutex
		var n atomic.Int64
		url := faulty(t, labs.Options{}, func(s *labs.Socket) error {
			for {
				kind, message, err := s.Read()
				if err != nil {
					return err
				}
				if n.Add(1) == 400 {
					door.Lock()
					time.AfterFunc(700*time.Millisecond, door.Unlock)
				}
				door.RLock()
				err = s.Write(kind, message)
				door.RUnlock()
				if err != nil {
					return err
				}
			}
		})
		result := play(t, Plan{URL: url, Loop: loop, Connections: 8, Rate: 50, Hold: 3 * time.Second})
		if result.Latency.Max < 600*time.Millisecond || result.Messages.wrong() != 0 {
			t.Errorf("at most %v, %+v", result.Latency.Max, result.Messages)
		}
		return result.Latency.P99
	}
	t.Run("open", func(t *testing.T) {
		t.Parallel()
		if got := p99(t, Open); got < 500*time.Millisecond {
			t.Errorf("p99 is %v", got)
		}
	})
	t.Run("closed", func(t *testing.T) {
		t.Parallel()
		if got := p99(t, Closed); got > 200*time.Millisecond {
			t.Errorf("p99 is %v", got)
		}
	})
}

func TestLostDoubledReorderedForeignAreCounted(t *testing.T) {
	var lost, doubled, reordered, foreign atomic.Int64
	url := faulty(t, labs.Options{}, func(s *labs.Socket) error {
		var kept []byte
		for n := 0; ; n++ {
			kind, message, err := s.Read()
			if err != nil {
				return err
			}
			st, _ := findStamp(message)
			if st.seq < 20 { // warm-up
				_ = s.Write(kind, message)
				continue
			}
			switch st.seq % 10 {
			case 3:
				lost.Add(1)
			case 5:
				doubled.Add(1)
				_ = s.Write(kind, message)
				_ = s.Write(kind, message)
			case 7:
				kept = append(kept[:0], message...)
			case 8:
				_ = s.Write(kind, message)
				if kept != nil {
					_ = s.Write(kind, kept)
					reordered.Add(1)
					kept = nil
				}
			case 9:
				foreign.Add(1)
				_ = s.Write(kind, message)
				message[3] ^= 1 // within the stamp: another connection's
				_ = s.Write(kind, message)
			default:
				_ = s.Write(kind, message)
			}
		}
	})
	m := play(t, Plan{URL: url, Connections: 5, Rate: 100, Timeout: 200 * time.Millisecond}).Messages
	// What the server holds back at the very end is lost, too.
	if got := m.Due - m.Answered; m.Lost != got || m.Lost < lost.Load() || m.Lost > lost.Load()+5 ||
		m.Doubled != doubled.Load() || m.Reordered != reordered.Load() || m.Foreign != foreign.Load() || lost.Load() < 30 {
		t.Errorf("counted %+v, of %d lost, %d doubled, %d reordered, %d foreign", m, lost.Load(), doubled.Load(), reordered.Load(), foreign.Load())
	}
}

// Leaving out what never came back would make a dead server a fast one.
func TestUnansweredMessagesCountAsLatency(t *testing.T) {
	for _, loop := range []Loop{Open, Closed} {
		url := faulty(t, labs.Options{}, func(s *labs.Socket) error {
			for {
				if _, _, err := s.Read(); err != nil {
					return err
				}
			}
		})
		result := play(t, Plan{URL: url, Loop: loop, Connections: 2, Rate: 10, Timeout: 400 * time.Millisecond})
		m := result.Messages
		if m.Due == 0 || m.Lost != m.Due || result.Latency == nil || result.Latency.Count != m.Due || result.Latency.Min < 390*time.Millisecond {
			t.Errorf("%s: %+v, %+v", loop, m, result.Latency)
		}
	}
}

func TestEndsOfConnectionsAreCounted(t *testing.T) {
	url := faulty(t, labs.Options{}, func(s *labs.Socket) error {
		for n := 0; ; n++ {
			kind, message, err := s.Read()
			if err != nil {
				return err
			}
			if n == 5 {
				switch s.ID() % 4 {
				case 1:
					_ = s.Close(1013, "slow down")
				case 2:
					_ = s.Cut()
				}
			}
			if err := s.Write(kind, message); err != nil {
				return err
			}
		}
	})
	result := play(t, Plan{URL: url, Connections: 20, Rate: 20, Timeout: 200 * time.Millisecond})
	c := result.Connections
	if want := (map[int]int64{1000: 10, 1006: 5, 1013: 5}); !reflect.DeepEqual(c.CloseCodes, want) || c.Abnormal != 10 || c.Opened != 20 {
		t.Errorf("counted %+v", c)
	}
	if m := result.Messages; m.Due != 400 || m.Unsent < 100 || m.Answered+m.Lost+m.Unsent != m.Due {
		t.Errorf("what was due on connections that ended: %+v", m)
	}
	reasons := fmt.Sprint(c.Reasons)
	if !strings.Contains(reasons, "{ended: closed with 1013 slow down 5}") {
		t.Error(reasons)
	}
}

func TestAServerThatLetsNobodyInEndsTheRun(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "All places are taken.\nmore", http.StatusServiceUnavailable)
	}))
	defer refusing.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	for url, want := range map[string]string{
		refusing.URL: "503 Service Unavailable: All places are taken.",
		gone.URL:     "connection refused",
	} {
		begun := time.Now()
		_, err := Run(t.Context(), Plan{URL: "ws" + strings.TrimPrefix(url, "http"), Connections: 100, Hold: time.Minute}, nil)
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
	}
}

func TestARunThatIsToldToEndSaysWhatItHasMeasured(t *testing.T) {
	_, url := start(t, Config{})
	for _, at := range []Phase{Ramping, Holding} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			plan := Plan{URL: url, Connections: 20, Rate: 50, Ramp: 300 * time.Millisecond, Hold: time.Hour}
			if at == Ramping {
				plan.Ramp = time.Hour
			}
			var phases []Phase
			result, err := Run(ctx, plan, func(p Progress) {
				phases = append(phases, p.Phase)
				if len(phases) == 2 {
					stop()
				}
			})
			if err != nil || !result.Early || phases[len(phases)-1] != Done {
				t.Fatalf("%v, %+v, %v", err, result, phases)
			}
			m := result.Messages
			if m.SentInAll == 0 || m.wrong() != 0 || result.Connections.abnormal() != 0 || at == Holding && (m.Answered == 0 || m.Answered != m.Due) {
				t.Errorf("%+v, %+v", m, result.Connections)
			}
		})
	}
}

// Two hundred connections and nothing else: what a server holds.
func TestSilentConnectionsAreHeld(t *testing.T) {
	s, url := start(t, Config{})
	result := play(t, Plan{URL: url + "?mode=silent&ping=500ms", Connections: 200})
	if c := result.Connections; c.Opened != 200 || c.abnormal() != 0 || c.CloseCodes[1000] != 200 {
		t.Errorf("%+v", c)
	}
	if r := s.Report(); r.Peak != 200 || r.RoundTrip == nil || r.RoundTrip.Count < 200 {
		t.Errorf("%+v", r)
	}
}

func TestAGeneratorThatCannotKeepUpSaysSo(t *testing.T) {
	_, url := start(t, Config{})
	result := play(t, Plan{URL: url, Connections: 20, Rate: 20_000, Timeout: 100 * time.Millisecond})
	if g := result.Generator; !g.Behind || g.Why == "" || result.Messages.Unsent == 0 {
		t.Errorf("%+v, %+v", g, result.Messages)
	}
}

func TestBroadcastsAreNumberedAndTimed(t *testing.T) {
	_, url := start(t, Config{})
	result := play(t, Plan{URL: url + "?mode=broadcast&rate=50/s", Loop: Listen, Expect: 50})
	if m := result.Messages; m.Answered < 450 || m.Answered > 550 || m.wrong()+m.Doubled+m.Reordered != 0 || result.Latency == nil || result.Latency.P50 > 100*time.Millisecond {
		t.Errorf("%+v, %+v", m, result.Latency)
	}
}

func TestEventsThatAreMissingAreCounted(t *testing.T) {
	_, url := start(t, Config{})
	m := play(t, Plan{URL: url + "?mode=broadcast&rate=20/s", Loop: Listen, Expect: 40}).Messages
	if m.Due != 400 || m.Lost < 170 || m.Lost > 200 {
		t.Errorf("twice as many were expected: %+v", m)
	}
	c := &conn{}
	for _, seq := range []int64{7, 8, 11, 9, 11, 12} {
		c.order(seq)
	}
	if c.missing != 1 || c.reordered != 1 || c.doubled != 1 {
		t.Errorf("10 is missing: %d missing, %d reordered, %d doubled", c.missing, c.reordered, c.doubled)
	}
}

// speaker is a GraphQL server of one operation, for either subprotocol.
func speaker(s *labs.Socket) error {
	event := map[string]string{string(TransportWS): "next", string(LegacyWS): "data"}[s.Subprotocol()]
	say := func(kind string, id string, payload string) {
		_ = s.Write(1, fmt.Appendf(nil, `{"id":%q,"type":%q,"payload":%s}`, id, kind, payload))
	}
	for n := 1; ; n++ {
		_, message, err := s.Read()
		if err != nil {
			return err
		}
		var m struct {
			ID, Type string
			Payload  struct{ Query string }
		}
		_ = json.Unmarshal(message, &m)
		switch {
		case m.Type == "connection_init":
			say("connection_ack", "", "null")
		case m.Type == "pong":
		case strings.HasPrefix(m.Payload.Query, "subscription"):
			for range 5 {
				say(event, m.ID, fmt.Sprintf(`{"data":{"at":%q}}`, time.Now().UTC().Format(time.RFC3339Nano)))
			}
			say("complete", m.ID, "null")
		case n%10 == 0:
			say("error", m.ID, `[{"message":"Slow down."}]`)
		case n%10 == 5:
			say(event, m.ID, `{"data":null,"errors":[{"message":"No."}]}`)
			say("complete", m.ID, "null")
		default:
			say("ping", "", "null")
			say(event, m.ID, `{"data":{"errors":1}}`)
			say("complete", m.ID, "null")
		}
	}
}

func TestGraphQLOperationsAreTimedAndTheirErrorsCounted(t *testing.T) {
	for _, protocol := range []Protocol{TransportWS, LegacyWS} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			url := faulty(t, labs.Options{Subprotocols: []string{string(protocol)}, RequireSubprotocol: true}, speaker)
			result := play(t, Plan{URL: url, Protocol: protocol, Operation: "{ a }", Loop: Closed, Connections: 4, Rate: 50})
			m := result.Messages
			if m.Answered < 100 || m.Answered != m.Due || m.Lost+m.Doubled+m.Foreign != 0 || m.Errors < m.SentInAll/10 || result.Latency.Count != m.Due {
				t.Errorf("%+v", m)
			}
			if reasons := fmt.Sprint(result.Connections.Reasons); !strings.Contains(reasons, "{error: Slow down.") || !strings.Contains(reasons, "{error: No.") {
				t.Error(reasons)
			}
			ended := play(t, Plan{URL: url, Protocol: protocol, Operation: "subscription { a }", Expect: 5})
			if m := ended.Messages; m.Errors != 10 || m.ReceivedInAll != 50 {
				t.Errorf("subscriptions that end early: %+v", m)
			}
		})
	}
	url := faulty(t, labs.Options{}, speaker)
	if _, err := Run(t.Context(), quick(Plan{URL: url, Protocol: TransportWS, Operation: "{ a }"}), nil); err == nil || !strings.Contains(err.Error(), "does not speak graphql-transport-ws") {
		t.Errorf("got %v", err)
	}
}
