package probe

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/labs"
)

func probe(t *testing.T, cfg Config) *Report {
	t.Helper()
	began := time.Now()
	report, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	b, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseReport(b)
	if err != nil {
		t.Fatalf("a report is refused: %v\n%s", err, b)
	}
	if !slices.Equal(again.Checks, report.Checks) || again.URL != report.URL || !again.StartedAt.Equal(report.StartedAt) {
		t.Error("a report is read otherwise than it was written")
	}
	return report
}

func ids(r *Report, status Status) (list []string) {
	for _, check := range r.Checks {
		if check.Status == status {
			list = append(list, check.ID)
		}
	}
	return list
}

func saw(r *Report, id string) string {
	i := slices.IndexFunc(r.Checks, func(c Check) bool { return c.ID == id })
	return r.Checks[i].Saw
}

func TestOurOwnEchoPassesEverything(t *testing.T) {
	echo := labs.NewEcho(labs.EchoConfig{})
	server := httptest.NewServer(echo)
	defer server.Close()
	defer func() {
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		if err := echo.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	}()
	report := probe(t, Config{URL: "ws" + strings.TrimPrefix(server.URL, "http") + "/echo?x=1", TooLarge: 1<<20 + 1})
	if failed := ids(report, Failed); len(failed) > 0 {
		var s strings.Builder
		_ = report.WriteTable(&s)
		t.Error(s.String())
	}
	if got := ids(report, Skipped); !slices.Equal(got, []string{"leave-count"}) {
		t.Errorf("skipped %v", got)
	}
	if !report.Passed("") || !report.Passed("S7") {
		t.Error("it did not pass")
	}
}

// What a server with one fault fails, and nothing else.
func TestEveryFaultIsFound(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"": "",

		"answers 200":                 "accept header-case nothing-unasked wrong-version missing-key short-key",
		"answers no HTTP":             "accept header-case nothing-unasked wrong-version missing-key short-key missing-upgrade missing-connection method",
		"answers nothing":             "accept header-case nothing-unasked wrong-version missing-key short-key missing-upgrade missing-connection method",
		"accepts with the key itself": "accept header-case",
		"forgets Connection":          "accept header-case",
		"upgrades to h2c":             "accept header-case",
		"keeps alive":                 "accept header-case",
		"compares Upgrade exactly":    "header-case",
		"chooses a subprotocol":       "nothing-unasked",
		"compresses":                  "nothing-unasked",
		"takes any version":           "wrong-version",
		"hides its version":           "wrong-version",
		"needs no key":                "missing-key",
		"takes any key":               "short-key",
		"needs no Upgrade":            "missing-upgrade",
		"needs no Connection":         "missing-connection",
		"takes POST":                  "method",

		"echoes everything as binary": "text empty bytewise together fragments character-split ping-inside pong-unasked load",
		"echoes everything as text":   "binary long",
		"changes a byte":              "binary long",
		"swallows what is empty":      "empty",
		"has no 64 bits":              "long",
		"wants a frame per segment":   "long bytewise",
		"reads one frame per segment": "together fragments character-split ping-inside pong-unasked message-inside utf8-split load",
		"echoes in the wrong order":   "together load",
		"masks its frames":            "text binary empty long bytewise together fragments character-split ping-inside pong-unasked load",

		"echoes each fragment":           "fragments character-split ping-inside message-inside utf8-split",
		"checks fragments by themselves": "character-split",
		"pongs without the payload":      "ping ping-inside",
		"pongs behind the message":       "ping-inside",
		"answers pongs":                  "pong-unasked",

		"closes without a word":    "close close-private close-empty close-tcp",
		"closes without a code":    "close close-private",
		"closes with 1000 always":  "close-private",
		"closes with 1005":         "close-empty",
		"leaves TCP to the client": "close-tcp leave-close",

		"takes unmasked frames":          "unmasked",
		"ignores RSV1":                   "reserved-bit",
		"ignores reserved opcodes":       "reserved-opcode",
		"takes fragments of pings":       "control-fragmented",
		"takes long pings":               "control-long",
		"continues nothing":              "continuation-alone",
		"takes messages inside messages": "message-inside",
		"takes a Close of one byte":      "close-short",
		"takes any close code":           "close-reserved",
		"takes any text":                 "utf8 utf8-split",
		"takes any size":                 "too-large",
		"refuses with 1000":              "unmasked reserved-bit reserved-opcode control-fragmented control-long continuation-alone message-inside close-short close-reserved utf8 utf8-split",
		"refuses without a word":         "unmasked reserved-bit reserved-opcode control-fragmented control-long continuation-alone message-inside close-short close-reserved utf8 utf8-split",

		"loses the 13th message": "load",
		"falls silent": "text binary empty long bytewise together fragments character-split ping ping-inside pong-unasked " +
			"close close-private close-empty close-tcp unmasked reserved-bit reserved-opcode control-fragmented control-long " +
			"continuation-alone message-inside close-short close-reserved utf8 utf8-split too-large load leave-close",
		"keeps who is cut off": "leave-cut",
		"counts nobody":        "leave-count",
		"never counts down":    "leave-count",
		"counts in words":      "leave-count",
		"has no status":        "leave-count",
	}
	found := map[string]bool{}
	var mu sync.Mutex
	each := func(t *testing.T, fault, want string) {
		s := startCrooked(t, fault)
		var report *Report
		var got []string
		// On a busy machine an answer may come later than the probe waits for it,
		// and is no fault of the server then: but not three times.
		for tries := 0; tries == 0 || strings.Join(got, " ") != want && tries < 3; tries++ {
			report = probe(t, Config{URL: s.url("ws", "/"), StatusURL: s.url("http", "/status"), TooLarge: large})
			got = ids(report, Failed)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("it fails %v, want %s", got, want)
		}
		if report.Passed("") != (want == "") {
			t.Errorf("passed: %v", report.Passed(""))
		}
		mu.Lock()
		defer mu.Unlock()
		for _, id := range got {
			found[id] = true
		}
	}
	var running sync.WaitGroup
	places := make(chan struct{}, 8) // they wait more than they work
	for fault, want := range tests {
		places <- struct{}{}
		running.Go(func() {
			t.Run(fault, func(t *testing.T) { each(t, fault, want) })
			<-places
		})
	}
	running.Wait()
	for _, d := range catalogue {
		if !found[d.id] {
			t.Errorf("no server was found to fail %s", d.id)
		}
	}
}

func TestAServerThatSaysNothingIsLeftInTime(t *testing.T) {
	t.Parallel()
	s := startCrooked(t, "")
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer silent.Close()
	report := probe(t, Config{URL: "ws" + strings.TrimPrefix(silent.URL, "http")})
	if got := saw(report, "accept"); got != "no HTTP answer: nothing came in time" {
		t.Errorf("saw %q", got)
	}
	if got := saw(report, "load"); got != "not tried: the handshake fails" {
		t.Errorf("saw %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Config{URL: s.url("ws", "/")}); err == nil {
		t.Error("a run that was cancelled has a report")
	}
}

func TestWhatIsSeenIsSaid(t *testing.T) {
	for fault, want := range map[string][2]string{
		"takes any text":              {"utf8", "the server itself breaks a rule: a text message is not UTF-8: byte 0x21 cannot stand where it stands (RFC 6455, section 8.1)"},
		"refuses with 1000":           {"unmasked", `Close 1000 "a client's frame is not masked"`},
		"refuses without a word":      {"unmasked", "TCP was closed without a Close frame"},
		"echoes everything as binary": {"empty", "an empty binary message"},
		"pongs without the payload":   {"ping", "an empty pong: not what was sent"},
		"masks its frames":            {"empty", "the server itself breaks a rule: a server's frame is masked (RFC 6455, section 5.1)"},
		"closes without a code":       {"close-private", "an empty Close"},
		"counts nobody":               {"leave-count", "with 50 connections of step S6 open it counted 0, and 0 before"},
		"hides its version":           {"wrong-version", "426 Upgrade Required, but no header Sec-WebSocket-Version that says 13"},
		"loses the 13th message":      {"load", `trouble on 50 of 50 connections, such as text, 21 bytes ("visitor 1, message 14"): not what was sent; "visitor 1, message 13" was due`},
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			s := startCrooked(t, fault)
			report := probe(t, Config{URL: s.url("ws", "/"), StatusURL: s.url("http", "/status")})
			if got := saw(report, want[0]); got != want[1] {
				t.Errorf("saw  %s\nwant %s", got, want[1])
			}
		})
	}
}

func TestOtherMachinesAreNotDialled(t *testing.T) {
	for url, want := range map[string]string{
		"ws://192.0.2.1/":                   "is not on this machine",
		"ws://0.0.0.0:8080":                 "is not on this machine",
		"ws://[2001:db8::1]:8080/":          "is not on this machine",
		"ws://[::ffff:192.0.2.1]:8080/":     "is not on this machine",
		"ws://169.254.169.254/":             "is not on this machine",
		"wss://127.0.0.1:8080/":             "ws://127.0.0.1:8080/path",
		"http://127.0.0.1:8080/":            "ws://127.0.0.1:8080/path",
		"ws://user@127.0.0.1:8080/":         "without a user",
		"ws://127.0.0.1:8080/#x":            "fragment",
		"ws://127.0.0.1:0/":                 "from 1 to 65535",
		"ws://127.0.0.1:99999/":             "from 1 to 65535",
		"ws:///x":                           "ws://127.0.0.1:8080/path",
		"ws://127.0.0.1:1/":                 "start your server first",
		"ws://" + strings.Repeat("a", 300):  "at most 256 bytes",
		"ws://no-such-name.invalid:8080/ab": "has no address",
	} {
		if _, err := Run(t.Context(), Config{URL: url}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it to say %s", url, err, want)
		}
	}
	s := startCrooked(t, "")
	for _, cfg := range []Config{
		{URL: s.url("ws", "/"), StatusURL: "http://192.0.2.1/"},
		{URL: s.url("ws", "/"), StatusURL: "https://127.0.0.1/"},
		{URL: s.url("ws", "/"), TooLarge: MaxTooLarge + 1},
	} {
		if _, err := Run(t.Context(), cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}

func TestNamesOfThisMachineAreResolved(t *testing.T) {
	s := startCrooked(t, "")
	_, port, _ := strings.Cut(strings.TrimPrefix(s.url("", ""), "://"), ":")
	target, err := find(t.Context(), "ws", "ws://localhost:"+port)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := target.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestTableFitsATerminal(t *testing.T) {
	s := startCrooked(t, "refuses with 1000")
	report := probe(t, Config{URL: s.url("ws", "/"+strings.Repeat("long", 50))})
	var b strings.Builder
	if err := report.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{
		"S5 What has to be refused\n  FAILED  unmasked            A frame that is not masked is refused\n",
		"          Saw Close 1000 \"a client's frame is not masked\"; wanted Close 1002:\n          RFC 6455, section 5.1.\n",
		"not yet right: S5.\n", " 2 skipped",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, b.String())
		}
	}
}

func TestReportsOfAnotherFormAreRefused(t *testing.T) {
	s := startCrooked(t, "")
	report := probe(t, Config{URL: s.url("ws", "/")})
	if b, _ := json.Marshal(report); len(b) > MaxReport/2 {
		t.Errorf("a report has %d bytes", len(b))
	}
	for name, spoil := range map[string]func(r *Report){
		"no URL":              func(r *Report) { r.URL = "" },
		"a long URL":          func(r *Report) { r.URL += strings.Repeat("a", 256) },
		"no time":             func(r *Report) { r.StartedAt = time.Time{} },
		"a check less":        func(r *Report) { r.Checks = r.Checks[1:] },
		"a check twice":       func(r *Report) { r.Checks[1] = r.Checks[0] },
		"another step":        func(r *Report) { r.Checks[0].Step = "S2" },
		"other words":         func(r *Report) { r.Checks[0].Title = "<b>" },
		"another wish":        func(r *Report) { r.Checks[0].Wanted = "nothing" },
		"another section":     func(r *Report) { r.Checks[0].Section = "" },
		"an unknown status":   func(r *Report) { r.Checks[0].Status = "fine" },
		"nothing seen":        func(r *Report) { r.Checks[0].Saw = "" },
		"two lines":           func(r *Report) { r.Checks[0].Saw = "a\nb" },
		"too much to say":     func(r *Report) { r.Checks[0].Saw = strings.Repeat("a", maxSaw+1) },
		"time going backward": func(r *Report) { r.Checks[0].Millis = -1 },
	} {
		spoiled := *report
		spoiled.Checks = slices.Clone(report.Checks)
		spoil(&spoiled)
		b, err := json.Marshal(spoiled)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseReport(b); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	good, _ := json.Marshal(report)
	for name, b := range map[string][]byte{
		"nothing":         nil,
		"something else":  []byte(`[]`),
		"another field":   append([]byte(`{"x":1,`), good[1:]...),
		"something more":  append(slices.Clone(good), "{}"...),
		"too many bytes":  append(slices.Clone(good), make([]byte, MaxReport)...),
		"half of it":      good[:len(good)/2],
		"a null of null":  []byte("null"),
		"checks of nulls": []byte(`{"url":"ws://x","startedAt":"2026-11-22T00:00:00Z","checks":[null]}`),
	} {
		if _, err := ParseReport(b); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
