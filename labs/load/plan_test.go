package load

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestPlansThatAreRefused(t *testing.T) {
	good := Plan{URL: "ws://h/", Connections: 10, Rate: 1, Hold: time.Second}
	if _, err := good.Check(CommandCaps); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		field  string
		change func(*Plan)
		want   string // what is accepted
	}{
		{"url", func(p *Plan) { p.URL = "http://h/" }, "ws://127.0.0.1:9998/load"},
		{"url", func(p *Plan) { p.URL = "ws:" }, "ws://127.0.0.1:9998/load"},
		{"protocol", func(p *Plan) { p.Protocol = "mqtt" }, "graphql-transport-ws"},
		{"loop", func(p *Plan) { p.Loop = "ajar" }, "open, closed and listen"},
		{"connections", func(p *Plan) { p.Connections = 0 }, "1 to 100000"},
		{"connections", func(p *Plan) { p.Connections = 100_001 }, "1 to 100000"},
		{"rate", func(p *Plan) { p.Rate = -1 }, "0.01 to 100000"},
		{"rate", func(p *Plan) { p.Rate = math.NaN() }, "0.01 to 100000"},
		{"rate", func(p *Plan) { p.Rate = math.Inf(1) }, "0.01 to 100000"},
		{"rate", func(p *Plan) { p.Rate = 100_001 }, "0.01 to 100000"},
		{"rate", func(p *Plan) { p.Loop = Listen }, "nothing is"},
		{"expect", func(p *Plan) { p.Expect = 1 }, "listen"},
		{"size", func(p *Plan) { p.Size = 62 }, "63 to 1048576"},
		{"hold", func(p *Plan) { p.Hold = 0 }, "at least 100ms"},
		{"hold", func(p *Plan) { p.Hold = 25 * time.Hour }, "at most 24h"},
		{"hold", func(p *Plan) { p.Rate, p.Hold = 1e5, time.Hour }, "at most 1e+09"},
		{"timeout", func(p *Plan) { p.Timeout = time.Hour }, "100ms to 1m"},
		{"operation", func(p *Plan) { p.Operation = "{ a }" }, "graphql-ws"},
		{"operation", func(p *Plan) { p.Protocol = LegacyWS }, "subscription { timeUpdates }"},
		{"operation", func(p *Plan) { p.Protocol, p.Operation = LegacyWS, "{" }, "is not GraphQL"},
		{"operation", func(p *Plan) { p.Protocol, p.Operation = LegacyWS, "query A{a} query B{b}" }, "exactly one"},
		{"loop", func(p *Plan) { p.Protocol, p.Operation, p.Loop = LegacyWS, "{ a }", Listen }, "needs a subscription"},
		{"variables", func(p *Plan) { p.Protocol, p.Operation, p.Variables = LegacyWS, "{ a }", []byte("1") }, "JSON object"},
	}
	for _, test := range tests {
		plan := good
		test.change(&plan)
		_, err := plan.Check(CommandCaps)
		var wrong *PlanError
		if !errors.As(err, &wrong) || wrong.Field != test.field || !strings.Contains(wrong.Text, test.want) {
			t.Errorf("got %v, want %s: %s", err, test.field, test.want)
		}
	}
}

func TestRatesAreReadPerSecond(t *testing.T) {
	for text, want := range map[string]PerSecond{"20": 20, "20/s": 20, "0.5/s": 0.5, "30/m": 0.5, "0": 0} {
		var got PerSecond
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "-1/s", "1/h", "NaN", "Inf", "1/s/s"} {
		if err := new(PerSecond).UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "20/s") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// some is a result with something of everything.
func some() Result {
	l := &Latency{Count: 1000, P50: time.Millisecond, P95: 40 * time.Millisecond, P99: 99 * time.Millisecond, P999: 12 * time.Second, Max: time.Hour, Mean: 2 * time.Millisecond}
	return Result{
		Plan:        Plan{URL: "ws://" + strings.Repeat("long.", 30) + "example/load", Protocol: Raw, Loop: Open, Connections: 100_000, Rate: 10},
		Early:       true,
		Connections: Connections{Planned: 200, Opened: 198, Failed: 2, Abnormal: 1, CloseCodes: map[int]int64{1000: 197, 1006: 1}, Reasons: []Reason{{"ended: " + strings.Repeat("語", 90), 1}}},
		Messages:    Messages{Due: 1e9, Sent: 1e9, Answered: 999e6, Lost: 1e6, Doubled: 3, Rate: 901},
		Latency:     l, Service: l, Connect: l,
		Generator: Generator{Lag: l, Behind: true, Why: strings.Repeat("so it is ", 20)},
		Samples:   []Progress{{Phase: Holding, Latency: l, Lag: l}, {Phase: Done}},
	}
}

func TestAssertions(t *testing.T) {
	for text, holds := range map[string]bool{
		"p99<100ms": true, "p99<99ms": false, "p99 <= 99ms": true, "p50>=1ms": true, "p95>1s": false, "p999<13s": true, "max<=1h": true, "mean<1ms": false,
		"errors<1%": true, "errors<0.05%": false, "lost<=0.1%": true, "abnormal<2%": true, "abnormal<1%": false, "failed<=1%": true,
		"rate>900/s": true, "rate>901/s": false, "no-loss": false, "no-doubles": false, "in-order": true, "in-time": false,
	} {
		assertion, err := ParseAssertion(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := assertion.Judge(some()); got.Holds != holds || got.Assertion != text || got.Measured == "" {
			t.Errorf("%+v", got)
		}
	}
	for _, text := range []string{"p99<1s", "p99>0s", "errors<1%", "no-loss"} {
		assertion, _ := ParseAssertion(text)
		if got := assertion.Judge(Result{}); got.Holds || got.Measured != "not measured" {
			t.Errorf("nothing was measured, and: %+v", got)
		}
	}
	for text, want := range map[string]string{
		"":            "no-loss, or one of abnormal",
		"fast":        "p99<100ms",
		"p98<1ms":     "abnormal, errors, failed, lost, max, mean, p50, p90, p95, p99, p999, rate",
		"p99<100":     "such as 100ms",
		"p99<-1s":     "such as 100ms",
		"errors<1":    "such as 1%",
		"rate>900":    "such as 1/s",
		"rate>NaN/s":  "such as 1/s",
		"p99=100ms":   "<, <=, > or >=",
		"no-loss<1ms": "which is not measured",
	} {
		if _, err := ParseAssertion(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestTheTableFitsEightyColumns(t *testing.T) {
	result := some()
	assertion, _ := ParseAssertion("no-loss")
	result.Verdicts = []Verdict{assertion.Judge(result)}
	var b bytes.Buffer
	if err := result.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if width := utf8.RuneCountInString(strings.TrimRight(line, "\n")); width > 80 && !strings.Contains(line, "example") && !strings.Contains(line, "語") {
			t.Errorf("%d columns: %s", width, line)
		}
	}
	for _, want := range []string{"Since due", "Since sent", "DOES NOT HOLD no-loss (1000000)", "1000: 197, 1006: 1", "Beware"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s is missing in\n%s", want, &b)
		}
	}
	line := Progress{Phase: WarmingUp, Elapsed: 90 * time.Hour, Planned: 99 * time.Hour, Connections: 100_000, SentRate: 1e6, Rate: 12_345, Latency: result.Latency, Errors: 1e9}.String()
	if len(line) > 79 {
		t.Errorf("%d columns: %s", len(line), line)
	}
}

func TestResultsAreJSONAndCSV(t *testing.T) {
	var b bytes.Buffer
	if err := some().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Plan                                                         struct{ RampSeconds, HoldSeconds *float64 }
		Latency                                                      struct{ P99Ms float64 }
		Service, Connect, Messages, Connections, Generator, Verdicts any
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got.Latency.P99Ms != 99 || got.Plan.HoldSeconds == nil {
		t.Errorf("%v, %s", err, &b)
	}
	b.Reset()
	if err := some().WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(&b).ReadAll() // all as long as the first
	if err != nil || len(records) != 3 || records[1][12] != "99.000" || records[1][14] != "99.000" || records[2][12] != "" {
		t.Errorf("%v, %q", err, records)
	}
}

func TestStampsAreFoundInWhatHoldsThem(t *testing.T) {
	want := stamp{conn: 17, seq: 42, due: 1_790_000_000_000_000_000, sent: 1_790_000_000_000_123_456}
	b := want.append([]byte(`{"a":"@@00000@`), 100)
	if got, ok := findStamp(b); !ok || got != want || len(b) != 114 {
		t.Errorf("%+v in %s", got, b)
	}
	for _, broken := range []string{"", "@", strings.Repeat("@", 200), strings.Repeat("9", 200), strings.Replace(string(b), "42@", "4x@", 1)} {
		if got, ok := findStamp([]byte(broken)); ok {
			t.Errorf("%+v in %s", got, broken)
		}
	}
	for text, found := range map[string]bool{
		`{"timeUpdates":"2026-11-22T08:22:57.120Z"}`: true, `{"a":"2026-11-22T08:22:57Z"}`: true,
		`{"a":"2026-11-22"}`: false, `"2026-13-22T08:22:57.120Z"`: false, `"2026-11-22T08:22:57.120Z`: false, ``: false, `"`: false,
	} {
		if _, ok := findTime([]byte(text)); ok != found {
			t.Errorf("%s: %v", text, ok)
		}
	}
	if at, ok := findSentAt([]byte(`{"sentAt": 1790000000000.5}`)); !ok || at/1000 != 1_790_000_000_000_500 && at/1000 != 1_790_000_000_000_499 {
		t.Error(at)
	}
	for _, text := range []string{`{"sentAt":`, `{"sentAt":"now"}`, `{"sentAt":1e99}`, `{}`} {
		if at, ok := findSentAt([]byte(text)); ok && at > 1e6 {
			t.Errorf("%s: %d", text, at)
		}
	}
}

func FuzzWhatServersSay(f *testing.F) {
	f.Add([]byte(`{"id":"1","type":"next","payload":{"errors":[{"message":"a"}]}}`))
	f.Add(stamp{}.append(nil, 100))
	f.Fuzz(func(_ *testing.T, b []byte) {
		for _, p := range []Protocol{Raw, TransportWS, LegacyWS} {
			w := newSpeech(Plan{Protocol: p}).understand(b)
			findStamp(w.id)
			findTime(w.data)
			findSentAt(b)
		}
	})
}

func TestTooFewDescriptorsNameTheCure(t *testing.T) {
	if ownProcess().DescriptorLimit == nil {
		t.Skip("this system has no such limit")
	}
	if err := needDescriptors(1 << 30); err == nil || !strings.Contains(err.Error(), "ulimit -n 107374") {
		t.Errorf("got %v", err)
	}
}
