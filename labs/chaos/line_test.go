package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// calm are settings without a fault, changed by change.
func calm(change func(*Faults)) *Faults {
	f := Default().Calm()
	if change != nil {
		change(&f)
	}
	return &f
}

func configure(t *testing.T, s *Server, f *Faults) {
	t.Helper()
	if _, err := s.Configure(f); err != nil {
		t.Fatal(err)
	}
}

// onLine runs a test in a bubble of its own time, with a server whose lines have
// these faults.
func onLine(t *testing.T, seed int64, f *Faults, play func(t *testing.T, s *Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(Config{Seed: seed})
		configure(t, s, f)
		play(t, s)
		over, stop := context.WithCancel(context.Background())
		stop()
		_ = s.Shutdown(over)
	})
}

const head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"

// connect makes a connection through a line, behind its handshake.
func connect(t *testing.T, s *Server) (client, server *end) {
	t.Helper()
	a, _ := net.Pipe()
	client, accepted := newPipe(a)
	server = s.wrap(accepted).(*end)
	go func() { _, _ = io.WriteString(server, head) }()
	got := make([]byte, len(head))
	if _, err := io.ReadFull(client, got); err != nil || string(got) != head {
		t.Fatalf("%q, %v", got, err)
	}
	return client, server
}

// arrival is a message or control frame as its receiver sees it, and when.
type arrival struct {
	what string
	at   time.Duration
}

// hears collects what arrives until the connection ends.
type hears struct {
	begun    time.Time
	arrivals []arrival
	problems []wire.Problem
	bytes    []byte
	err      error
	ended    time.Duration
}

func hear(conn net.Conn, d wire.Direction) (h *hears, done chan struct{}) {
	h, done = &hears{begun: time.Now()}, make(chan struct{})
	go func() {
		defer close(done)
		var decoder wire.Decoder
		messages := wire.NewAssembler(d, nil, 2<<20)
		chunk := make([]byte, 32<<10)
		var control []byte
		for {
			n, err := conn.Read(chunk)
			h.bytes = append(h.bytes, chunk[:n]...)
			for part := range decoder.Parts(chunk[:n]) {
				problems, m := messages.Add(part)
				h.problems = append(h.problems, problems...)
				if m != nil {
					h.add("%s", m.Data)
				}
				if part.Header.Opcode.Control() {
					if control = append(control, part.Data...); part.Last {
						h.add("%v %q", part.Header.Opcode, control)
						control = nil
					}
				}
			}
			if err != nil {
				h.err, h.ended = err, time.Since(h.begun)
				return
			}
		}
	}()
	return h, done
}

func (h *hears) add(format string, args ...any) {
	h.arrivals = append(h.arrivals, arrival{fmt.Sprintf(format, args...), time.Since(h.begun)})
}

func (h *hears) words() string {
	synctest.Wait()
	var words []string
	for _, a := range h.arrivals {
		words = append(words, a.what)
	}
	return strings.Join(words, " ")
}

func text(s string) []byte { return wire.NewFrame(true, wire.Text, []byte(s)).Append(nil) }

func masked(f wire.Frame) []byte { return f.Mask([4]byte{0x5a, 0xc3, 0x11, 0x7e}).Append(nil) }

func send(t *testing.T, conn net.Conn, frames ...[]byte) {
	t.Helper()
	for _, frame := range frames {
		if _, err := conn.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
}

// told lists all events, without their times.
func told(s *Server) []Event {
	events := make([]Event, maxEvents)
	n, _ := s.Events().After(0, events)
	events = events[:n]
	for i := range events {
		events[i].At = time.Time{}
	}
	return events
}

func whats(s *Server) string {
	var lines []string
	for _, e := range told(s) {
		lines = append(lines, fmt.Sprintf("%s %d %s %d: %s", e.Fault, e.Connection, e.Direction, e.Message, e.What))
	}
	return strings.Join(lines, "\n")
}

// likely reports whether n of total is what a rate gives, within four standard deviations.
func likely(n, total int, rate float64) bool {
	return math.Abs(float64(n)-rate*float64(total)) <= 4*math.Sqrt(float64(total)*rate*(1-rate))
}

func TestRatesOfMessagesAreThoseConfigured(t *testing.T) {
	const total = 10_000
	faults := calm(func(f *Faults) {
		*f = Default()
		f.Cut.Rate = 0
		f.Duplication.Rate, f.Reordering.Rate = 0.05, 0.03
	})
	onLine(t, 4711, faults, func(t *testing.T, s *Server) {
		client, server := connect(t, s)
		heard, done := hear(client, wire.ToClient)
		for i := range total {
			send(t, server, text(fmt.Sprintf("message %d", i)))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		_ = server.Close()
		<-done
		if len(heard.problems) > 0 {
			t.Errorf("wrong frames: %v", heard.problems)
		}
		counts := s.Events().Counts()
		for name, rate := range map[Name]float64{"corruption": 0.02, "latency": 0.1, "duplication": 0.05} {
			if n := int(counts[name]); !likely(n, total, rate) {
				t.Errorf("%s struck %d of %d, at a rate of %v", name, n, total, rate)
			}
		}
		if n := int(counts["reordering"]); !likely(n, total, 0.03/1.03) { // who goes first is not held
			t.Errorf("reordering struck %d of %d", n, total)
		}
		if n := len(heard.arrivals); n != total+int(counts["duplication"]) {
			t.Errorf("%d messages came of %d and %d copies", n, total, counts["duplication"])
		}
		var sum time.Duration
		n := 0
		for _, e := range told(s) {
			if e.Fault == "latency" {
				delay := time.Duration(e.DelayMs) * time.Millisecond
				if n++; delay < 100*time.Millisecond || delay > 2*time.Second {
					t.Errorf("held for %v", delay)
				}
				sum += delay
			}
		}
		if mean := sum / time.Duration(n); mean < 980*time.Millisecond || mean > 1120*time.Millisecond {
			t.Errorf("held for %v in the mean, of 100 to 2,000 ms", mean)
		}
	})
}

func TestRateOfCutsIsThatConfigured(t *testing.T) {
	const total = 10_000
	faults := Default()
	cuts := make(map[uint64]time.Duration)
	var sum time.Duration
	for n := range uint64(total) {
		for _, b := range faults.draw(&place{seed: 4711, connection: n + 1}, connections, Both, 0) {
			if sum += b.after; b.after < 5*time.Second || b.after > 35*time.Second {
				t.Errorf("connection %d is cut after %v", n+1, b.after)
			}
			cuts[n+1] = b.after
		}
	}
	if mean := sum / time.Duration(len(cuts)); !likely(len(cuts), total, 0.05) || mean < 18500*time.Millisecond || mean > 21500*time.Millisecond {
		t.Errorf("%d of %d connections are cut, after %v in the mean", len(cuts), total, mean)
	}
	// And what is drawn is what happens.
	onLine(t, 4711, calm(func(f *Faults) { f.Cut = faults.Cut }), func(t *testing.T, s *Server) {
		const together = 500
		heard, done := make([]*hears, together), make([]chan struct{}, together)
		for i := range together {
			client, _ := connect(t, s)
			heard[i], done[i] = hear(client, wire.ToClient)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for i, h := range heard {
			after, cut := cuts[uint64(i+1)]
			if cut != errors.Is(h.err, syscall.ECONNRESET) || h.ended != after {
				t.Errorf("connection %d: %v after %v, want a cut (%v) after %v", i+1, h.err, h.ended, cut, after)
			}
		}
		if s.Events().Counts()[NameCut] < 10 {
			t.Errorf("told %v", s.Events().Counts())
		}
	})
}

// pieces cuts a stream, its beginning into the smallest.
func pieces(stream []byte, size int) [][]byte {
	beginning := min(200, size*200)
	return slices.AppendSeq(slices.Collect(slices.Chunk(stream[:beginning], min(size, beginning))), slices.Chunk(stream[beginning:], max(size, 500)))
}

func TestWhatNoFaultTouchesPassesByteForByte(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	long := make([]byte, 70_000)
	for i := range long {
		long[i] = byte(chance.Uint32())
	}
	frame := func(fin bool, o wire.Opcode, p string) wire.Frame { return wire.NewFrame(fin, o, []byte(p)) }
	wide := frame(true, wire.Text, "hi")
	wide.Form = wire.Length64
	reserved := frame(true, 0x3, "x")
	reserved.RSV2 = true
	var stream []byte
	for _, f := range []wire.Frame{
		frame(true, wire.Text, "hello"), frame(true, wire.Text, ""), frame(false, wire.Text, "fra"), frame(true, wire.Ping, "p"),
		frame(false, wire.Continuation, "gmen"), frame(true, wire.Continuation, "ts"), wide, reserved, frame(true, wire.Continuation, "lost"),
		frame(true, wire.Binary, string(long)), frame(false, wire.Binary, "a"), frame(true, wire.Text, "b"), frame(true, wire.Pong, ""),
		wire.NewClose(1000, "bye"),
	} {
		stream = f.Mask([4]byte{1, 2, 3, byte(len(stream))}).Append(stream)
	}
	stream = append(stream, 0x81) // and half a header
	tests := map[string]*Faults{
		"no faults": calm(nil),
		"both ways, every fault at a rate of almost nothing": calm(func(f *Faults) {
			const rare = 1e-9
			f.Direction, f.Corruption.Rate, f.Latency.Rate, f.Duplication.Rate, f.Reordering.Rate, f.CloseCode.Rate = Both, rare, rare, rare, rare, rare
		}),
	}
	for name, faults := range tests {
		for _, size := range []int{1, 7, 1000, 1 << 20} {
			t.Run(fmt.Sprintf("%s, in pieces of %d", name, size), func(t *testing.T) {
				onLine(t, 1, faults, func(t *testing.T, s *Server) {
					client, server := connect(t, s)
					atServer, doneServer := hear(server, wire.ToServer)
					atClient, doneClient := hear(client, wire.ToClient)
					for _, chunk := range pieces(stream, size) {
						send(t, client, chunk)
						send(t, server, chunk)
					}
					_, _ = client.CloseWrite(), server.CloseWrite()
					<-doneServer
					<-doneClient
					if !bytes.Equal(atServer.bytes, stream) || !bytes.Equal(atClient.bytes, stream) {
						t.Errorf("of %d bytes came %d and %d", len(stream), len(atServer.bytes), len(atClient.bytes))
					}
					if !errors.Is(atServer.err, io.EOF) || !errors.Is(atClient.err, io.EOF) {
						t.Errorf("ended by %v and %v", atServer.err, atClient.err)
					}
					if got := whats(s); got != "" {
						t.Errorf("told: %s", got)
					}
				})
			})
		}
	}
}

func FuzzWhatNoFaultTouchesPassesByteForByte(f *testing.F) {
	f.Add(slices.Concat(text("a"), masked(wire.NewFrame(false, wire.Text, []byte("b"))), wire.NewClose(1000, "").Append(nil)), 3)
	f.Add([]byte{0x80, 0x00, 0x81, 0x7f, 0xff}, 1)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		onLine(t, 1, calm(func(f *Faults) { f.Latency = Latency{Rate: 0.5, MaxMs: 10} }), func(t *testing.T, s *Server) {
			client, server := connect(t, s)
			heard, done := hear(client, wire.ToClient)
			for chunk := range slices.Chunk(stream, min(max(size, 1), len(stream)+1)) {
				send(t, server, chunk)
			}
			_ = server.CloseWrite()
			<-done
			if !bytes.Equal(heard.bytes, stream) {
				t.Errorf("%x came as %x", stream, heard.bytes)
			}
			_ = server.Close()
		})
	})
}

func TestCorruptionChangesOneByteAndKeepsTheFrames(t *testing.T) {
	fragments := append(masked(wire.NewFrame(false, wire.Text, []byte("日本"))), masked(wire.NewFrame(true, wire.Ping, nil))...)
	fragments = append(fragments, masked(wire.NewFrame(true, wire.Continuation, []byte("語と日本")))...)
	tests := []struct {
		name     string
		breaking bool
		raw      []byte
		payload  string
		text     bool
	}{
		{"ASCII", false, masked(wire.NewFrame(true, wire.Text, []byte(`{"n":17}`))), `{"n":17}`, true},
		{"one byte", false, masked(wire.NewFrame(true, wire.Text, []byte("~"))), "~", true},
		{"fragments of Japanese", false, fragments, "日本語と日本", true},
		{"emoji and accents", false, masked(wire.NewFrame(true, wire.Text, []byte("né 🌊"))), "né 🌊", true},
		{"text, breaking UTF-8", true, masked(wire.NewFrame(true, wire.Text, []byte("né 🌊"))), "né 🌊", true},
		{"bytes", false, masked(wire.NewFrame(true, wire.Binary, []byte{0, 255, 128, 3})), "\x00\xff\x80\x03", false},
		{"a header of 16 bits", false, masked(wire.NewFrame(true, wire.Text, bytes.Repeat([]byte("ü"), 5000))), strings.Repeat("ü", 5000), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			faults := calm(func(f *Faults) {
				f.Direction, f.Corruption = ToServer, Corruption{Rate: 1, BreakUTF8: test.breaking}
			})
			onLine(t, 7, faults, func(t *testing.T, s *Server) {
				client, server := connect(t, s)
				heard, done := hear(server, wire.ToServer)
				const times = 200
				for range times {
					send(t, client, test.raw)
				}
				_ = client.Close()
				<-done
				if invalid := slices.ContainsFunc(heard.problems, func(p wire.Problem) bool { return p.Rule == wire.RuleUTF8 }); invalid != test.breaking || !invalid && len(heard.problems) > 0 {
					t.Errorf("what is wrong: %v", heard.problems)
				}
				if test.breaking {
					return // it is given up at the byte
				}
				messages := slices.DeleteFunc(heard.arrivals, func(a arrival) bool { return strings.HasPrefix(a.what, "ping") })
				events := told(s)
				if len(messages) != times || len(events) != times {
					t.Fatalf("%d messages, %d events", len(messages), len(events))
				}
				for i, m := range messages {
					var changed []int
					for at := range len(test.payload) {
						if m.what[at] != test.payload[at] {
							changed = append(changed, at)
						}
					}
					b := events[i].Byte
					if len(changed) != 1 || b == nil || b.At != changed[0] || b.From != test.payload[b.At] || b.To != m.what[b.At] || test.text && !utf8.ValidString(m.what) {
						t.Fatalf("%q became %q, told as %v", test.payload, m.what, b)
					}
				}
			})
		})
	}
}

func TestEmptyAndVeryLargeMessagesAreNotCorrupted(t *testing.T) {
	onLine(t, 1, calm(func(f *Faults) { f.Corruption.Rate, f.Duplication.Rate, f.Reordering.Rate = 1, 0, 0 }), func(t *testing.T, s *Server) {
		client, server := connect(t, s)
		heard, done := hear(client, wire.ToClient)
		large := wire.NewFrame(true, wire.Binary, make([]byte, HeldBytes)).Append(nil)
		inParts := append(wire.NewFrame(false, wire.Binary, make([]byte, HeldBytes/3)).Append(nil), wire.NewFrame(false, wire.Continuation, make([]byte, HeldBytes/3)).Append(nil)...)
		inParts = append(inParts, wire.NewFrame(true, wire.Continuation, []byte("end")).Append(nil)...)
		sent := slices.Concat(text(""), large, inParts)
		send(t, server, sent)
		_ = server.Close()
		<-done
		if !bytes.Equal(heard.bytes, sent) || whats(s) != "" {
			t.Errorf("%d of %d bytes, told %q", len(heard.bytes), len(sent), whats(s))
		}
	})
}

func TestDelaysKeepTheOrder(t *testing.T) {
	onLine(t, 3, calm(func(f *Faults) { f.Latency = Latency{Rate: 0.5, MinMs: 100, MaxMs: 2000} }), func(t *testing.T, s *Server) {
		client, server := connect(t, s)
		heard, done := hear(client, wire.ToClient)
		var want []string
		for i := range 100 {
			send(t, server, text(fmt.Sprint(i)))
			want = append(want, fmt.Sprint(i))
			time.Sleep(50 * time.Millisecond)
		}
		_ = server.Close()
		<-done
		if heard.words() != strings.Join(want, " ") {
			t.Errorf("came as %s", heard.words())
		}
		for _, e := range told(s) { // sent at 50 ms times its number from 0, and there when it was held for so long, or later
			due := time.Duration(e.Message-1)*50*time.Millisecond + time.Duration(e.DelayMs)*time.Millisecond
			if at := heard.arrivals[e.Message-1].at; at < due || at > due+2*time.Second {
				t.Errorf("message %d, %s, came at %v", e.Message, e.What, at)
			}
		}
		if len(told(s)) < 30 {
			t.Errorf("only %d delays", len(told(s)))
		}
	})
}

func TestPartitionSilencesBothDirectionsAndLosesWhatIsSent(t *testing.T) {
	onLine(t, 1, calm(func(f *Faults) { f.Latency = Latency{Rate: 1, MinMs: 500, MaxMs: 500} }), func(t *testing.T, s *Server) {
		client, server := connect(t, s)
		atServer, doneServer := hear(server, wire.ToServer)
		atClient, doneClient := hear(client, wire.ToClient)
		send(t, server, text("held"))
		send(t, server, wire.NewFrame(false, wire.Text, []byte("be")).Append(nil))
		time.Sleep(600 * time.Millisecond) // "held" has passed, and the first half of "begun"
		send(t, server, text("held again")[:3])
		time.Sleep(time.Millisecond)
		if until, err := s.StartPartition(0); err != nil || time.Until(until) != 5*time.Second {
			t.Fatalf("%v, %v", until, err)
		}
		send(t, client, masked(wire.NewFrame(true, wire.Text, []byte("lost"))), masked(wire.NewFrame(true, wire.Ping, nil)))
		send(t, server, text("held again")[3:])
		time.Sleep(4900 * time.Millisecond)
		if got := atServer.words() + "|" + atClient.words(); got != "|held" || atServer.err != nil || atClient.err != nil {
			t.Errorf("in the partition: %q, %v, %v", got, atServer.err, atClient.err)
		}
		time.Sleep(200 * time.Millisecond)
		send(t, client, masked(wire.NewFrame(true, wire.Text, []byte("after"))))
		_ = client.CloseWrite()
		<-doneServer
		_ = server.Close()
		<-doneClient
		if got := atServer.words(); got != "after" {
			t.Errorf("the server got %q", got)
		}
		if lost := s.Events().Counts()["partition"]; lost < 3 {
			t.Errorf("told: %s", whats(s))
		}
	})
}

func TestStopEndsEverythingAtOnce(t *testing.T) {
	onLine(t, 1, calm(nil), func(t *testing.T, s *Server) {
		client, server := connect(t, s)
		heard, done := hear(client, wire.ToClient)
		if _, err := s.Configure([]byte(`{"latency":{"rate":1,"minMs":9000,"maxMs":9000},"throttling":{"bytesPerSecond":1},"cut":{"rate":1,"minMs":5000,"maxMs":5000}}`)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.StartPartition(time.Minute); err != nil {
			t.Fatal(err)
		}
		send(t, server, text("lost"))
		time.Sleep(time.Second)
		s.Stop()
		send(t, server, text("at once"))
		time.Sleep(100 * time.Millisecond)
		if heard.words() != "at once" {
			t.Errorf("came: %q", heard.words())
		}
		time.Sleep(10 * time.Second)
		if heard.err != nil {
			t.Errorf("ended by %v", heard.err)
		}
		_ = server.Close()
		<-done
	})
}

func TestDuplicationSendsTwiceAndReorderingChangesPlaces(t *testing.T) {
	tests := []struct {
		name   string
		faults func(*Faults)
		frames [][]byte
		want   string
		told   string
	}{
		{
			"duplication", func(f *Faults) { f.Duplication.Rate = 1 },
			[][]byte{text("a"), text("b")},
			"a a b b",
			"duplication 1 toClient 1: sent twice\nduplication 1 toClient 2: sent twice",
		},
		{
			"reordering", func(f *Faults) { f.Reordering.Rate = 1 },
			[][]byte{text("1"), text("2"), text("3"), text("4")},
			"2 1 4 3",
			"reordering 1 toClient 1: lets the next message go first, if it comes within 1s\nreordering 1 toClient 3: lets the next message go first, if it comes within 1s",
		},
		{
			"reordering, but nothing else comes", func(f *Faults) { f.Reordering.Rate = 1 },
			[][]byte{text("1")},
			"1",
			"reordering 1 toClient 1: lets the next message go first, if it comes within 1s",
		},
		{
			"control frames go first without being counted", func(f *Faults) { f.Reordering.Rate = 1 },
			[][]byte{text("1"), wire.NewFrame(true, wire.Ping, nil).Append(nil), text("2")},
			`ping "" 2 1`,
			"reordering 1 toClient 1: lets the next message go first, if it comes within 1s",
		},
		{
			"nothing goes behind the Close frame", func(f *Faults) { f.Reordering.Rate = 1 },
			[][]byte{text("1"), wire.NewClose(1000, "").Append(nil)},
			`1 close "\x03\xe8"`, "reordering 1 toClient 1: lets the next message go first, if it comes within 1s",
		},
		{
			"a bad close code", func(f *Faults) { f.CloseCode = CloseCode{Rate: 1, Code: 1006} },
			[][]byte{wire.NewClose(1000, "bye").Append(nil)},
			`close "\x03\xeebye"`, "closeCode 1 toClient 0: close code 1000 → 1006",
		},
		{
			"a close code where there was none", func(f *Faults) { f.CloseCode = CloseCode{Rate: 1, Code: 999} },
			[][]byte{wire.NewClose(0, "").Append(nil)},
			`close "\x03\xe7"`, "closeCode 1 toClient 0: close code 1005 → 999",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			onLine(t, 1, calm(test.faults), func(t *testing.T, s *Server) {
				client, server := connect(t, s)
				heard, done := hear(client, wire.ToClient)
				send(t, server, test.frames...)
				time.Sleep(2 * time.Second)
				_ = server.Close()
				<-done
				if heard.words() != test.want {
					t.Errorf("came as %q, want %q", heard.words(), test.want)
				}
				if got := whats(s); got != test.told {
					t.Errorf("told\n%s\nwant\n%s", got, test.told)
				}
			})
		})
	}
}

func TestThrottlingLetsBytesTrickle(t *testing.T) {
	onLine(t, 1, calm(func(f *Faults) { f.Throttling.BytesPerSecond = 10 }), func(t *testing.T, s *Server) {
		client, server := connect(t, s)
		heard, done := hear(client, wire.ToClient)
		send(t, server, text("12345678"), text("12345678"), text("12345678"))
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if n := len(heard.bytes); n < 14 || n > 15 {
			t.Errorf("%d bytes in 1.5 s", n)
		}
		if _, err := s.Configure(map[string]any{"throttling": map[string]any{"bytesPerSecond": 0}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		if heard.words() != "12345678 12345678 12345678" {
			t.Errorf("without a limit: %q", heard.words())
		}
		_ = server.Close()
		<-done
		if got := strings.Split(whats(s), "\n")[0]; got != "throttling 1 toClient 1: 10 bytes at 10 bytes/s: 1s" {
			t.Errorf("told %s", got)
		}
	})
}

func TestHalfOpenLeavesTheClientAlone(t *testing.T) {
	onLine(t, 1, calm(func(f *Faults) { f.HalfOpen = HalfOpen{Rate: 1, MinMs: 2000, MaxMs: 2000} }), func(t *testing.T, s *Server) {
		client, server := connect(t, s)
		atServer, doneServer := hear(server, wire.ToServer)
		atClient, doneClient := hear(client, wire.ToClient)
		send(t, server, text("hello"))
		<-doneServer
		if !errors.Is(atServer.err, syscall.ECONNRESET) || atServer.ended != 2*time.Second {
			t.Errorf("the server's end: %v after %v", atServer.err, atServer.ended)
		}
		_ = server.Close()
		for range 5 * 60 {
			send(t, client, masked(wire.NewFrame(true, wire.Text, []byte("anybody there?"))))
			time.Sleep(time.Second)
		}
		if atClient.words() != "hello" || atClient.err != nil {
			t.Errorf("after 5 minutes the client has %v, %q", atClient.err, atClient.words())
		}
		_ = client.CloseWrite()
		<-doneClient
		if got := whats(s); got != "halfOpen 1 both 1: half-open after 2s" {
			t.Errorf("told %s", got)
		}
	})
}

func TestShutdownDoesNotWaitForHalfConnections(t *testing.T) {
	onLine(t, 1, calm(func(f *Faults) { f.HalfOpen = HalfOpen{Rate: 1, MinMs: 1000, MaxMs: 1000} }), func(t *testing.T, s *Server) {
		client, server := connect(t, s)
		_, done := hear(client, wire.ToClient)
		time.Sleep(2 * time.Second)
		_ = server.Close()
		begun := time.Now()
		if err := s.Shutdown(t.Context()); err != nil || time.Since(begun) > 0 {
			t.Errorf("took %v, %v", time.Since(begun), err)
		}
		<-done
	})
}

func TestHalfAConnectionEndsAfterTenMinutes(t *testing.T) {
	onLine(t, 1, calm(func(f *Faults) { f.HalfOpen = HalfOpen{Rate: 1, MinMs: 1000, MaxMs: 1000} }), func(t *testing.T, s *Server) {
		client, _ := connect(t, s)
		heard, done := hear(client, wire.ToClient)
		<-done
		if heard.ended < abandonedTime || !errors.Is(heard.err, syscall.ECONNRESET) {
			t.Errorf("ended by %v after %v", heard.err, heard.ended)
		}
	})
}

// traffic is some of it: two connections, both directions.
func traffic(t *testing.T, s *Server) {
	t.Helper()
	for n := range 2 {
		client, server := connect(t, s)
		_, doneClient := hear(client, wire.ToClient)
		_, doneServer := hear(server, wire.ToServer)
		for i := range 300 {
			send(t, client, masked(wire.NewFrame(true, wire.Text, fmt.Appendf(nil, "%d up %d", n, i))))
			time.Sleep(time.Millisecond)
			send(t, server, text(fmt.Sprintf("%d down %d", n, i)))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Second)
		_ = server.Close()
		<-doneServer
		_ = client.Close()
		<-doneClient
		time.Sleep(drainTime)
	}
}

func several() *Faults {
	return calm(func(f *Faults) {
		f.Direction = Both
		f.Corruption.Rate, f.Latency.Rate, f.Duplication.Rate, f.Reordering.Rate = 0.05, 0.1, 0.05, 0.05
		f.Latency.MinMs, f.Latency.MaxMs = 5, 20
	})
}

// eventsOf plays the traffic and returns what was told.
func eventsOf(t *testing.T, seed int64, f *Faults, only ...Name) (events []Event) {
	onLine(t, seed, f, func(t *testing.T, s *Server) {
		traffic(t, s)
		for _, e := range told(s) {
			if len(only) == 0 || slices.Contains(only, e.Fault) {
				events = append(events, e)
			}
		}
	})
	return events
}

func TestSameSeedAndSameTrafficHaveTheSameFaults(t *testing.T) {
	first := eventsOf(t, 4711, several())
	if len(first) < 200 {
		t.Fatalf("only %d events", len(first))
	}
	if diff := cmp.Diff(first, eventsOf(t, 4711, several())); diff != "" {
		t.Errorf("the same again:\n%s", diff)
	}
	if cmp.Equal(first, eventsOf(t, 4712, several())) {
		t.Error("another seed had the same faults")
	}
}

func TestOneFaultsRateDoesNotMoveAnothersDraws(t *testing.T) {
	alone := calm(func(f *Faults) { f.Direction, f.Corruption.Rate = Both, 0.05 })
	seq := func(events []Event) []Event {
		for i := range events {
			events[i].Seq = 0
		}
		slices.SortStableFunc(events, func(a, b Event) int { // two directions have no order
			return strings.Compare(fmt.Sprint(a.Connection, a.Direction), fmt.Sprint(b.Connection, b.Direction))
		})
		return events
	}
	if diff := cmp.Diff(seq(eventsOf(t, 5, alone, "corruption")), seq(eventsOf(t, 5, several(), "corruption"))); diff != "" {
		t.Error(diff)
	}
}

func TestRestartBringsTheSameFaultsAgain(t *testing.T) {
	onLine(t, 99, several(), func(t *testing.T, s *Server) {
		traffic(t, s)
		first := told(s)
		if err := s.Restart(0); err != nil {
			t.Fatal(err)
		}
		traffic(t, s)
		second := told(s)[len(first):]
		for i := range second {
			if second[i].Run != 2 {
				t.Fatalf("run %d", second[i].Run)
			}
			second[i].Run, second[i].Seq = 1, second[i].Seq-uint64(len(first))
		}
		if diff := cmp.Diff(first, second); diff != "" {
			t.Error(diff)
		}
		if state := s.State(); state.Seed != 99 || state.Run != 2 || state.Connections != 2 {
			t.Errorf("%+v", state)
		}
	})
}

func TestRestartCountsOpenConnectionsAnew(t *testing.T) {
	onLine(t, 12, calm(func(f *Faults) { f.Corruption.Rate = 0.2 }), func(t *testing.T, s *Server) {
		gone, goneServer := connect(t, s)
		_, over := hear(gone, wire.ToClient)
		client, server := connect(t, s)
		_ = goneServer.Close()
		<-over
		_ = gone.Close()
		time.Sleep(drainTime)
		_, done := hear(client, wire.ToClient)
		play := func() {
			for range 50 {
				send(t, server, text("0123456789"))
				time.Sleep(time.Millisecond)
			}
		}
		play()
		before := len(told(s))
		if err := s.Restart(12); err != nil {
			t.Fatal(err)
		}
		play()
		after := told(s)[before:]
		if len(after) == 0 || after[0].Connection != 1 || after[0].Message > 30 {
			t.Errorf("after the restart: %+v", after)
		}
		_ = server.Close()
		<-done
	})
}

func TestNewSettingsReachOpenConnections(t *testing.T) {
	onLine(t, 1, calm(nil), func(t *testing.T, s *Server) {
		client, server := connect(t, s)
		heard, done := hear(client, wire.ToClient)
		send(t, server, text("aaaa"))
		time.Sleep(time.Hour) // the time until a cut counts from the change on
		if _, err := s.Configure([]byte(`{"corruption":{"rate":1},"cut":{"rate":1}}`)); err != nil {
			t.Fatal(err)
		}
		changed := time.Since(heard.begun)
		send(t, server, text("aaaa"))
		<-done
		if heard.arrivals[0].what != "aaaa" || heard.arrivals[1].what == "aaaa" || heard.arrivals[1].at > changed+100*time.Millisecond {
			t.Errorf("came: %v", heard.arrivals)
		}
		if after := heard.ended - changed; after < 5*time.Second || after > 35*time.Second {
			t.Errorf("cut %v after the change", after)
		}
		_ = server.Close()
	})
}

func TestWhatIsHeldIsBounded(t *testing.T) {
	onLine(t, 1, calm(func(f *Faults) { f.Latency = Latency{Rate: 1, MinMs: 10_000, MaxMs: 10_000} }), func(t *testing.T, s *Server) {
		client, server := connect(t, s)
		heard, done := hear(client, wire.ToClient)
		frame := wire.NewFrame(true, wire.Binary, make([]byte, 10_000)).Append(nil)
		accepted, full := 0, false
		for !full {
			_ = server.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
			n, err := server.Write(frame)
			accepted += n
			full = err != nil
		}
		if accepted > HeldBytes || accepted < HeldBytes/3 {
			t.Errorf("%d bytes were taken", accepted)
		}
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if len(heard.bytes) != accepted {
			t.Errorf("%d of %d bytes came", len(heard.bytes), accepted)
		}
		_ = server.Close()
		<-done
	})
}

func TestEndsPassThrough(t *testing.T) {
	pass := func(name string, end func(client, server *end), check func(t *testing.T, atClient, atServer error)) {
		t.Run(name, func(t *testing.T) {
			onLine(t, 1, calm(nil), func(t *testing.T, s *Server) {
				client, server := connect(t, s)
				atServer, doneServer := hear(server, wire.ToServer)
				atClient, doneClient := hear(client, wire.ToClient)
				end(client, server)
				<-doneServer
				<-doneClient
				check(t, atClient.err, atServer.err)
				_, _ = client.Close(), server.Close()
				synctest.Wait()
				if n := s.State().Open; n != 0 {
					t.Errorf("%d connections are open", n)
				}
			})
		})
	}
	is := func(t *testing.T, who string, got, want error) {
		t.Helper()
		if !errors.Is(got, want) {
			t.Errorf("%s sees %v, want %v", who, got, want)
		}
	}
	pass("the server resets", func(_, server *end) { resetConn(server) }, func(t *testing.T, c, _ error) { is(t, "the client", c, syscall.ECONNRESET) })
	pass("the client resets", func(client, _ *end) { resetConn(client) }, func(t *testing.T, _, s error) { is(t, "the server", s, syscall.ECONNRESET) })
	pass("the server closes", func(_, server *end) { _ = server.Close() }, func(t *testing.T, c, _ error) { is(t, "the client", c, io.EOF) })
	pass("both close one direction", func(client, server *end) { _, _ = client.CloseWrite(), server.CloseWrite() }, func(t *testing.T, c, s error) {
		is(t, "the client", c, io.EOF)
		is(t, "the server", s, io.EOF)
	})
}
