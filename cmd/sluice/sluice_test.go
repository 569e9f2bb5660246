package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/internal/testenv"
)

func TestMain(m *testing.M) {
	// What the developer's own shell says must not decide.
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "SLUICE_") || name == "REDIS_URL" || name == "MQTT_BROKER_URL" || name == "WEBSOCKET_SECRET" {
			_ = os.Unsetenv(name)
		}
	}
	_ = os.Setenv("SLUICE_DATA_DIR", inMemory)
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/dlclark/regexp2/v2.runClock")) // of the highlighter; it stops by itself
}

func parsed(t *testing.T, args ...string) config {
	t.Helper()
	command, err := parse(args, io.Discard, io.Discard)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return *command.(*config)
}

func TestFlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	if got := parsed(t).LogLevel; got != "info" {
		t.Errorf("default: %s", got)
	}
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	text := "log-level: debug\nmqtt-allow: [\"a/#\", b]\nlimit: [\"queue=4MiB\"]\nproduction: false\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := parsed(t, "--config", file)
	if cfg.LogLevel != "debug" || fmt.Sprint(cfg.MQTTAllow) != "[a/# b]" || cfg.limits.queue != 4<<20 {
		t.Errorf("file: %s %v %d", cfg.LogLevel, cfg.MQTTAllow, cfg.limits.queue)
	}
	t.Setenv("SLUICE_LOG_LEVEL", "warn")
	t.Setenv("SLUICE_LIMIT_QUEUE", "2MiB")
	t.Setenv("SLUICE_LIMIT_PONG_WITHIN", "7s")
	cfg = parsed(t, "--config", file)
	if cfg.LogLevel != "warn" || time.Duration(cfg.limits.pongWithin) != 7*time.Second {
		t.Errorf("environment: %s %v", cfg.LogLevel, cfg.limits.pongWithin)
	}
	cfg = parsed(t, "--config", file, "--log-level", "error", "--limit", "queue=1KiB")
	if cfg.LogLevel != "error" || cfg.limits.queue != 1024 {
		t.Errorf("flag: %s %d", cfg.LogLevel, cfg.limits.queue)
	}
}

func TestDefaultsFollowTheAddressAndTheBrokers(t *testing.T) {
	home := parsed(t)
	if !home.coursePorts() || !home.introspection() || !home.demo() || list(home.mqttPublish()) != "demo/#" || list(home.redisPublish()) != "demo:*, demo/*" {
		t.Error("at home everything is on")
	}
	away := parsed(t, "--addr", ":8080", "--origin", "https://app.example", "--anonymous",
		"--redis-url", "redis://r", "--mqtt-url", "mqtt://m")
	if away.coursePorts() || away.introspection() || away.demo() || list(away.mqttPublish()) != "nothing" || list(away.redisPublish()) != "nothing" {
		t.Error("away everything is off")
	}
	chosen := parsed(t, "--no-course-ports", "--no-introspection", "--mqtt-allow-publish", "x/#")
	if chosen.coursePorts() || chosen.introspection() || list(chosen.mqttPublish()) != "x/#" {
		t.Error("a flag decides")
	}
}

func TestSettingsThatAreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(file, []byte("log-levle: debug\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args []string
		want string // part of the error: what is accepted, or what to do
	}{
		{[]string{"--addr", "8080"}, "127.0.0.1:8080"},
		{[]string{"--adr", "x"}, "--addr"},
		{[]string{"--log-level", "loud"}, `"debug","info","warn","error"`},
		{[]string{"--log-format", "xml"}, `"auto","text","json"`},
		{[]string{"--limit", "queue"}, "NAME=VALUE"},
		{[]string{"--limit", "que=1"}, "did you mean queue? There are http-body"},
		{[]string{"--limit", "queue=0"}, "64KiB or 4MiB"},
		{[]string{"--limit", "queue=9999999999999MiB"}, "64KiB or 4MiB"},
		{[]string{"--limit", "subscriptions=-1"}, "at least 1"},
		{[]string{"--limit", "drain=soon"}, "500ms, 10s or 2m"},
		{[]string{"--addr", "0.0.0.0:80"}, "--anonymous"},
		{[]string{"--addr", "0.0.0.0:80", "--anonymous"}, "--origin"},
		{[]string{"--production"}, "MQTT_BROKER_URL"},
		{[]string{"--debug-addr", "0.0.0.0:6060"}, "127.0.0.1:6060"},
		{[]string{"--trusted-proxy", "proxy"}, "10.0.0.0/8"},
		{[]string{"--web-dir", "/nowhere"}, "/nowhere"},
		{[]string{"--config", file}, `"log-levle" is not a setting: did you mean log-level?`},
		{[]string{"dance"}, "dance"},
		{[]string{"prob", "ws://127.0.0.1:8090/"}, `there is no command "prob": did you mean probe?`},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			_, err := parse(test.args, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to say %s", err, test.want)
			}
		})
	}
}

func TestHelpIsAlsoACommand(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"help", "mock"}} {
		var asked, flagged strings.Builder
		_, err := parse(args, &asked, io.Discard)
		if exit := exitError(-1); !errors.As(err, &exit) || exit != 0 {
			t.Errorf("sluice %s: %v, want a help that ends well", strings.Join(args, " "), err)
		}
		_, _ = parse(append(args[1:len(args):len(args)], "--help"), &flagged, io.Discard)
		if asked.String() == "" || asked.String() != flagged.String() {
			t.Errorf("sluice %s prints %q, want what --help prints", strings.Join(args, " "), asked.String())
		}
	}
}

// A variable with a misspelt name would be silently without effect.
func TestUnknownVariablesAreRefused(t *testing.T) {
	for variable, want := range map[string]string{
		"SLUICE_LIMIT_QUEU":    "SLUICE_LIMIT_QUEUE?",
		"SLUICE_LIMITS_QUEUE":  "SLUICE_LIMIT_QUEUE?",
		"SLUICE_COURSE_PORT":   "SLUICE_COURSE_PORTS?",
		"SLUICE_ORIGIN":        "SLUICE_ORIGINS?",
		"SLUICE_limit_payload": "SLUICE_LIMIT_PAYLOAD?",
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, "1")
			_, err := parse(nil, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), variable+" is not known: did you mean "+want) {
				t.Errorf("got %v", err)
			}
			if err := run(t.Context(), []string{"version"}, io.Discard, io.Discard); err != nil {
				t.Errorf("the version needs no settings: %v", err)
			}
		})
	}
}

func TestVariablesOfKubernetesMeanNothing(t *testing.T) {
	for name, value := range map[string]string{
		"SLUICE_SERVICE_HOST": "10.0.0.7", "SLUICE_SERVICE_PORT": "80", "SLUICE_SERVICE_PORT_HTTP": "80",
		"SLUICE_PORT": "tcp://10.0.0.7:80", "SLUICE_PORT_80_TCP": "tcp://10.0.0.7:80", "SLUICE_PORT_80_TCP_ADDR": "10.0.0.7",
		"SLUICE_REDIS_SERVICE_HOST": "10.0.0.8", "SLUICE_REDIS_PORT_6379_TCP_PROTO": "tcp", "SLUICE_REDIS_PORT": "tcp://10.0.0.8:6379",
	} {
		t.Setenv(name, value)
	}
	parsed(t)
}

// TestConfigurationPage holds docs/configuration.md to the limits that there are.
func TestConfigurationPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	l := defaultLimits()
	var rows []string
	for _, limit := range l.table() {
		row := fmt.Sprintf("| `%s` | %s | %s |", limit.name, limit.value, limit.help)
		if !strings.Contains(string(page), row) {
			t.Errorf("docs/configuration.md lacks the row\n%s", row)
		}
		rows = append(rows, row)
	}
	if n := strings.Count(string(page), "\n| `"); n != len(rows) {
		t.Errorf("docs/configuration.md has %d limits, the program %d", n, len(rows))
	}
}

// Every limit can be set to something else, by either way.
func TestLimitsCanBeSet(t *testing.T) {
	l := defaultLimits()
	for _, limit := range l.table() {
		value, want := "7", "7"
		if _, isTime := limit.value.(*durationValue); isTime {
			value, want = "7s", "7s"
		}
		for name, resolve := range map[string]func() (limits, error){
			"--limit": func() (limits, error) {
				return limitFlags{limit.name + "=" + value}.resolve(func(string) (string, bool) { return "", false })
			},
			"environment": func() (limits, error) {
				return limitFlags(nil).resolve(func(variable string) (string, bool) { return value, variable == limitVariable(limit.name) })
			},
		} {
			changed, err := resolve()
			if err != nil {
				t.Fatal(err)
			}
			before := defaultLimits()
			for i, now := range changed.table() {
				expected := before.table()[i].value.String()
				if now.name == limit.name {
					expected = want
				}
				if now.value.String() != expected {
					t.Errorf("%s of %s: %s is %s", name, limit.name, now.name, now.value)
				}
			}
		}
	}
}

func TestGreetingSaysWhatTheUserGave(t *testing.T) {
	for _, test := range []struct{ given, opened, want string }{
		{"0.0.0.0:0", "[::]:4711", "0.0.0.0:4711"},
		{"0.0.0.0:8080", "[::]:8080", "0.0.0.0:8080"},
		{"gateway.internal:8080", "10.0.0.7:8080", "gateway.internal:8080"},
		{"localhost:0", "127.0.0.1:4711", "localhost:4711"},
		{"[::1]:0", "[::1]:4711", "[::1]:4711"},
		{":8080", "[::]:8080", "localhost:8080"},
	} {
		if got := called(test.given, test.opened); got != test.want {
			t.Errorf("--addr %s: %s, want %s", test.given, got, test.want)
		}
	}
}

func TestOpenAddressNamesWhatAnonymousClientsCouldDo(t *testing.T) {
	_, err := parse([]string{"--addr", ":8080", "--mqtt-allow", "plant/#"}, io.Discard, io.Discard)
	for _, want := range []string{"--origin", "--anonymous", "plant/#", "demo:*", "demo/#"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the refusal does not name %s: %v", want, err)
		}
	}
}

func TestHelpListsEveryFlagAndLimit(t *testing.T) {
	var out bytes.Buffer
	var exit exitError
	if _, err := parse([]string{"serve", "--help"}, &out, io.Discard); !errors.As(err, &exit) || exit != 0 {
		t.Fatalf("ended with %v", err)
	}
	l := defaultLimits()
	want := []string{"REDIS_URL", "MQTT_BROKER_URL", "SLUICE_ADDR", "demo/#,lessons/#"}
	for _, limit := range l.table() {
		want = append(want, limit.name)
	}
	for _, w := range want {
		if !strings.Contains(out.String(), w) {
			t.Errorf("help does not mention %s", w)
		}
	}
}

// program is the gateway in this process.
type program struct {
	addr   string
	stop   context.CancelFunc
	done   chan error
	stdout *bytes.Buffer // read it when done
}

func startProgram(t *testing.T, args ...string) *program {
	t.Helper()
	file := filepath.Join(t.TempDir(), "addr")
	ctx, cancel := context.WithCancel(context.Background())
	p := &program{stop: cancel, done: make(chan error, 1), stdout: new(bytes.Buffer)}
	args = append([]string{"serve", "--addr", "127.0.0.1:0", "--addr-file", file, "--no-course-ports", "--log-level", "error"}, args...)
	go func() { p.done <- run(ctx, args, p.stdout, io.Discard) }()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for p.addr == "" {
		select {
		case <-poll.C:
			b, _ := os.ReadFile(file)
			p.addr = strings.TrimSpace(string(b))
		case err := <-p.done:
			t.Fatalf("the gateway ended: %v", err)
		}
	}
	t.Cleanup(func() {
		cancel()
		http.DefaultClient.CloseIdleConnections()
	})
	return p
}

func TestGatewayServesAndStops(t *testing.T) {
	p := startProgram(t)
	resp, err := http.Get("http://" + p.addr + "/graphql?query=%7Bhello%7D")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if want := `{"data":{"hello":"Hello from GraphQL-WS!"}}`; string(body) != want {
		t.Errorf("got %s", body)
	}
	d := websocket.Dialer{Subprotocols: []string{"graphql-transport-ws"}}
	ws, _, err := d.Dial("ws://"+p.addr+"/graphql", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	p.stop()
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseServiceRestart) {
		t.Errorf("the socket ended with %v", err)
	}
	if err := <-p.done; err != nil {
		t.Errorf("the gateway ended with %v", err)
	}
	for _, want := range []string{"http://" + p.addr + "/graphiql", "redis-cli -h 127.0.0.1 -p ", "publishMQTT"} {
		if !strings.Contains(p.stdout.String(), want) {
			t.Errorf("the greeting does not say %s:\n%s", want, p.stdout)
		}
	}
}

// post asks the gateway and returns the data.
func (p *program) post(t *testing.T, document string) string {
	t.Helper()
	body, _ := json.Marshal(map[string]string{"query": document})
	resp, err := http.Post("http://"+p.addr+"/graphql", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	return string(answer)
}

func TestRoomsAndCursorsSurviveTheGateway(t *testing.T) {
	dir := t.TempDir()
	p := startProgram(t, "--data-dir", dir)
	sent := p.post(t, `mutation { sendMessage(input: { id: "mine", content: "still here" }) { cursor } }`)
	if err := run(t.Context(), []string{"--addr", "127.0.0.1:0", "--no-course-ports", "--data-dir", dir, "--log-level", "error"}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("a second gateway on the same directory: %v", err)
	}
	p.stop()
	if err := <-p.done; err != nil {
		t.Fatal(err)
	}
	p = startProgram(t, "--data-dir", dir)
	_, cursor, _ := strings.Cut(sent, `"cursor":"`)
	cursor, _, _ = strings.Cut(cursor, `"`)
	if got := p.post(t, `{ roomHistory(last: 100) { nodes { id content } } }`); !strings.Contains(got, `{"id":"mine","content":"still here"}`) {
		t.Errorf("got %s", got)
	}
	if got := p.post(t, `{ roomHistory(before: "`+cursor+`") { nodes { id } } }`); strings.Contains(got, "CURSOR") {
		t.Errorf("the cursor is not valid any more: %s", got)
	}
	if got := p.post(t, `{ roomHistory(last: 100) { nodes { id } } }`); strings.Count(got, `"msg_0"`) > 1 {
		t.Errorf("the demo began anew: %s", got)
	}
	p.stop()
	if err := <-p.done; err != nil {
		t.Error(err)
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	err = run(t.Context(), []string{"--addr", ln.Addr().String()}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), ln.Addr().String()) || !strings.Contains(err.Error(), "--addr chooses another") {
		t.Errorf("got %v", err)
	}
}

// Whatever fails after the first port was opened: nothing runs on, and no port
// stays open.
func TestStartThatFailsReleasesWhatWasOpened(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	folder := t.TempDir()
	tests := []struct {
		name, want string
		args       []string
	}{
		{"the debug port is taken", "--debug-addr chooses another", []string{"--debug-addr", taken.Addr().String()}},
		{"a broker's URL is malformed", "--redis-url", []string{"--redis-url", "http://redis"}},
		{"a rule is malformed", "--mqtt-allow", []string{"--mqtt-allow", "a/#/b"}},
		{"an origin is malformed", "--origin", []string{"--origin", "app.example"}},
		{"the address cannot be written", "--addr-file", []string{"--addr-file", filepath.Join(t.TempDir(), "no", "addr")}},
		{"the address cannot be moved to its place", "--addr-file", []string{"--addr-file", folder}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			addr := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))
			args := append([]string{"--addr", addr, "--no-course-ports", "--log-level", "error"}, test.args...)
			if err := run(t.Context(), args, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("it ended with %v, want it to say %s", err, test.want)
			}
			goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/dlclark/regexp2/v2.runClock"))
			again, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatalf("its port is not free: %v", err)
			}
			again.Close()
		})
	}
	if _, err := os.Stat(folder + ".tmp"); err == nil {
		t.Error("half of the address file is left")
	}
}

func TestMalformedBrokerURLs(t *testing.T) {
	for _, args := range [][]string{
		{"--redis-url", "http://user:hunter2@redis"},
		{"--mqtt-url", "amqp://user:hunter2@broker"},
		{"--redis-url", "redis://user:hunter2@[::1"},
		{"--mqtt-allow", "a/#/b"},
		{"--redis-allow", "sluice:*"},
		{"--origin", "app.example"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // should it start after all
		err := run(ctx, append([]string{"--addr", "127.0.0.1:0"}, args...), io.Discard, io.Discard)
		cancel()
		if err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(args[0], "-publish")) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v: got %v", args, err)
		} else if regexp.MustCompile(`\b(bridges|mqttbridge|redisbridge|server):`).MatchString(err.Error()) {
			t.Errorf("%v: the name of a package says nothing to the user: %v", args, err)
		}
	}
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}, {"serve", "--version"}} {
		var out bytes.Buffer
		err := run(t.Context(), args, &out, io.Discard)
		if err != nil && !errors.Is(err, exitError(0)) || out.String() != "sluice "+version()+"\n" {
			t.Errorf("%v: %q %v", args, out.String(), err)
		}
	}
}
