package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/labs/chaos"
)

// faultsOf are those that the command line asks for.
func faultsOf(t *testing.T, args ...string) (chaos.Faults, error) {
	t.Helper()
	command, err := parse(append([]string{"chaos"}, args...), io.Discard, io.Discard)
	if err != nil {
		return chaos.Faults{}, err
	}
	access, err := command.(*chaosCommand).access()
	if err != nil {
		return chaos.Faults{}, err
	}
	s, err := command.(*chaosCommand).server(access)
	if err != nil {
		return chaos.Faults{}, err
	}
	return s.Faults(), nil
}

func TestChaosFlagsBeatItsFileWhichBeatsTheDefaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "faults.yaml")
	if err := os.WriteFile(file, []byte("direction: both\ncut: {rate: 1}\nlatency: {rate: 0.5, maxMs: 300}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := chaos.Default()
	if got, err := faultsOf(t); err != nil || got != want {
		t.Errorf("by default %+v, %v", got, err)
	}
	want.Direction, want.Cut.Rate, want.Latency = chaos.Both, 0, chaos.Latency{Rate: 0.5, MinMs: 50, MaxMs: 50}
	want.Corruption, want.Throttling.BytesPerSecond = chaos.Corruption{Rate: 0.25, BreakUTF8: true}, 1000
	want.Duplication.Rate, want.Reordering = 0.01, chaos.Reordering{Rate: 1, WithinMs: 200}
	want.HalfOpen, want.CloseCode = chaos.HalfOpen{Rate: 0.5, MinMs: 1000, MaxMs: 60_000}, chaos.CloseCode{Rate: 1, Code: 999}
	want.Partition.DurationMs, want.Cut.MinMs, want.Cut.MaxMs = 700, 0, 2000
	got, err := faultsOf(t, "--faults", file, "--cut", "0", "--cut-after", "0s..2s", "--latency-time", "50ms", "--corrupt", "25%", "--break-utf8", "--throttle", "1000",
		"--duplicate", "1%", "--reorder", "100%", "--reorder-within", "200ms", "--half-open", ".5", "--half-open-after", "1s..1m", "--bad-close", "1", "--bad-close-code", "999", "--partition", "700ms")
	if err != nil || got != want {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
}

func TestChaosSettingsThatAreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "faults.yaml")
	if err := os.WriteFile(file, []byte("cut: {rate: 5}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--cut", "5"}, `"5" is not a share such as 5% or 0.05`},
		{[]string{"--cut-after", "9s..2s"}, `"9s..2s" is not a range of times`},
		{[]string{"--latency-time", "1s..20s"}, "latency.maxMs 20000 is not accepted: milliseconds from 1000 to 10000"},
		{[]string{"--seed=-1"}, "--seed -1 is not accepted: a number from 1 to 2147483647"},
		{[]string{"--direction", "up"}, `"toClient","toServer","both"`},
		{[]string{"--addr", ":9997"}, "say so with --anonymous"},
		{[]string{"--origin", "app"}, "--origin"},
		{[]string{"--upstream", "http://x"}, "--upstream"},
		{[]string{"--faults", file}, "cut.rate 5 is not accepted: a share from 0 to 1"},
		{[]string{"--partition", "2m"}, "partition.durationMs 120000"},
	} {
		if _, err := faultsOf(t, test.args...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want it to say %s", test.args, err, test.want)
		}
	}
}

func TestChaosEndsWithTheStatusOfItsCommand(t *testing.T) {
	for script, want := range map[string]error{
		"exit 0":     nil,
		"exit 3":     exitError(3),
		"kill -9 $$": exitError(137),
		`test "${CHAOS_URL#ws://127.0.0.1:}" != "$CHAOS_URL" && test "${CHAOS_URL%/graphql}" != "$CHAOS_URL" || exit 9`: nil,
	} {
		var out, errs bytes.Buffer
		err := run(t.Context(), []string{"chaos", "--addr", "127.0.0.1:0", "--upstream", "ws://127.0.0.1:1/graphql", "--seed", "4711", "--", "sh", "-c", script}, &out, &errs)
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: %v, want %v", script, err, want)
		}
		if out.Len() > 0 || !strings.Contains(errs.String(), "--seed 4711") {
			t.Errorf("%s printed %q and %q", script, out.String(), errs.String())
		}
	}
	if err := run(t.Context(), []string{"chaos", "--addr", "127.0.0.1:0", "--", "/no/such/command"}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "/no/such/command") {
		t.Errorf("without the command: %v", err)
	}
}

// lines is a writer that can be read while it is written to.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestChaosPrintsEachFault(t *testing.T) {
	for _, machine := range []bool{false, true} {
		t.Run(fmt.Sprintf("json %v", machine), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "addr")
			args := []string{"chaos", "--addr", "127.0.0.1:0", "--addr-file", file, "--seed", "4711", "--cut", "0", "--latency", "0", "--corrupt", "100%"}
			if machine {
				args = append(args, "--json")
			}
			ctx, stop := context.WithCancel(t.Context())
			out, done := &lines{}, make(chan error)
			go func() { done <- run(ctx, args, out, io.Discard) }()
			var addr []byte
			poll(t, func() bool { addr, _ = os.ReadFile(file); return len(addr) > 0 })
			conn, _, err := websocket.DefaultDialer.Dial("ws://"+strings.TrimSpace(string(addr))+"/chaos", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			header := http.Header{"Host": {"evil.example"}}
			if _, response, err := websocket.DefaultDialer.Dial("ws://"+strings.TrimSpace(string(addr)), header); err == nil || response == nil || response.StatusCode != http.StatusForbidden {
				t.Errorf("under another name: %v, %v", response, err)
			}
			if _, message, err := conn.ReadMessage(); err != nil || string(message) == "hello" {
				t.Errorf("came back as %q, %v", message, err)
			}
			poll(t, func() bool {
				return strings.Contains(out.String(), "corruption") && strings.Contains(out.String(), "→")
			})
			conn.Close()
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
			got := strings.Split(strings.TrimSpace(out.String()), "\n")
			if len(got) != 3 {
				t.Fatalf("printed %q", got)
			}
			wants := [][]string{{"4711"}, {"corruption", "0x"}, {"4711", "corruption", "1"}}
			if machine {
				wants = [][]string{{`"kind":"start"`, `"seed":4711`}, {`"kind":"fault"`, `"connection":1`, `"message":1`, `"byte":{"at":`}, {`"kind":"summary"`, `"connections":1`, `"corruption":1`}}
			}
			for i, line := range got {
				for _, want := range wants[i] {
					if !strings.Contains(line, want) || machine && !json.Valid([]byte(line)) {
						t.Errorf("line %d is %s, without %s", i+1, line, want)
					}
				}
			}
		})
	}
}

func poll(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}
