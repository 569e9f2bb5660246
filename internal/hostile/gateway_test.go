//go:build linux

package hostile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/internal/testenv"
)

var (
	enabled  = os.Getenv("SLUICE_HOSTILE") != ""
	withRace = os.Getenv("HOSTILE_RACE") != ""
	program  string // the gateway
)

func TestMain(m *testing.M) {
	if !enabled {
		os.Exit(m.Run())
	}
	built, remove, err := testenv.BuildGateway(withRace)
	if err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
	program = built
	code := m.Run()
	if testing.Verbose() {
		printFigures(os.Stdout)
	}
	remove()
	os.Exit(code)
}

// secret stands in whatever hostile clients and publishers send. It must never
// be in the log.
const secret = "hush-7f3a91"

// gateway is a gateway under attack.
type gateway struct {
	addr, debug string
	redis       *redis.Client
	mqtt        mqtt.Client
	probe       *probe

	pid    int
	stop   context.CancelFunc // tells the process to end
	ended  chan struct{}
	status error // of the process, readable once ended is closed
	log    logged

	before figures
	lines  int // how many the attack may add to the log
}

// start launches a gateway with these limits, NAME=VALUE, and lets the package
// comment's questions be asked when the test ends.
func start(t *testing.T, limits ...string) *gateway {
	t.Helper()
	g := launch(t, limits...)
	g.probe = startProbe(t, g)
	g.probe.served(t)
	g.before = g.figures(t)
	g.resetPeak(t)
	began := g.log.lines()
	g.probe.watch()
	t.Cleanup(func() { g.judge(t, began) }) // after what the attack cleans up, which comes later
	return g
}

// launch runs a gateway with brokers of its own.
func launch(t *testing.T, limits ...string) *gateway {
	t.Helper()
	if !enabled {
		t.Skip("attacks on the gateway run by make test-hostile")
	}
	inputs.Do(noteInputs)
	redisServer, mosquitto := testenv.Redis(t), testenv.Mosquitto(t)
	g := &gateway{lines: 10, debug: fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t)), ended: make(chan struct{})}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the gateway's log:\n%s", g.log.text())
		}
	})
	g.run(t, limits, redisServer.URL(), mosquitto.URL())
	g.redis = redis.NewClient(&redis.Options{Addr: redisServer.Addr()})
	t.Cleanup(func() { g.redis.Close() })
	g.mqtt = mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + mosquitto.Addr()).SetClientID("hostile"))
	if token := g.mqtt.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { g.mqtt.Disconnect(0) })
	return g
}

// noteInputs lets go test know what a result depends on besides this package, so
// that it does not take one from its cache after the gateway was changed: it
// watches which folders and variables tests look at.
func noteInputs() {
	for _, name := range []string{"REQUIRE_BROKERS", "SLUICE_HOSTILE", "HOSTILE_RACE"} {
		os.Getenv(name)
	}
	for _, dir := range []string{"bridges", "cmd", "graph", "internal", "labs", "lessons", "server", "web/home", "web/dist"} {
		_ = filepath.WalkDir(filepath.Join("../..", dir), func(string, fs.DirEntry, error) error { return nil })
	}
}

var inputs sync.Once

// run starts the process and waits until it is ready.
func (g *gateway) run(t *testing.T, limits []string, redisURL, mqttURL string) {
	t.Helper()
	addrFile := filepath.Join(t.TempDir(), "addr")
	args := []string{
		"serve", "--addr", "127.0.0.1:0", "--data-dir", ":memory:", "--addr-file", addrFile, "--no-course-ports", "--debug-addr", g.debug,
		"--redis-url", redisURL, "--mqtt-url", mqttURL,
	}
	for _, limit := range limits {
		args = append(args, "--limit", limit)
	}
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	started := make(chan error, 1)
	go func() {
		defer close(g.ended)
		runtime.LockOSThread() // Pdeathsig looks at the thread that starts the process
		defer runtime.UnlockOSThread()
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = 20 * time.Second // then it is killed
		cmd.Stdout, cmd.Stderr = io.Discard, &g.log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err := cmd.Start()
		if err == nil {
			g.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			g.status = cmd.Wait()
		}
	}()
	t.Cleanup(func() { stop(); <-g.ended })
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 15*time.Second, "the gateway is ready", func() string {
		if g.addr == "" {
			b, err := os.ReadFile(addrFile)
			if err != nil {
				return err.Error()
			}
			g.addr = strings.TrimSpace(string(b))
		}
		response, err := fresh.Get("http://" + g.addr + "/readyz")
		if err != nil {
			return err.Error()
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return response.Status
		}
		return ""
	})
}

// judge asks the questions of the package comment.
func (g *gateway) judge(t *testing.T, began int) {
	g.probe.stopWatching(t)
	g.probe.served(t)
	after := g.settles(t)
	record(t.Name(), g.before, after, g.peak(t))

	text := g.log.text()
	if n := g.log.lines() - began; n > g.lines {
		t.Errorf("the attack added %d lines to the log: at most %d are in order", n, g.lines)
	}
	for _, word := range []string{secret, "panic", "DATA RACE", "goroutine "} {
		if strings.Contains(text, word) {
			t.Errorf("the log has the word %q in it", word)
		}
	}
	g.probe.close()
	g.stop()
	<-g.ended
	if g.status != nil && !errors.Is(g.status, context.Canceled) {
		t.Errorf("the gateway was told to stop and ended with: %v", g.status)
	}
}

// fresh makes a connection for each request, so that none lingers.
var fresh = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}

func (g *gateway) url(path string) string { return "http://" + g.addr + path }

// answer is a GraphQL response over HTTP.
type answer struct {
	status int
	text   string
	data   json.RawMessage
	codes  []string // of the errors
	took   time.Duration
}

// query sends a document as POST.
func (g *gateway) query(t testing.TB, document string) answer {
	t.Helper()
	body, _ := json.Marshal(map[string]string{"query": document})
	return g.post(t, "application/json", body)
}

func (g *gateway) post(t testing.TB, contentType string, body []byte) answer {
	t.Helper()
	begin := time.Now()
	response, err := fresh.Post(g.url("/graphql"), contentType, bytes.NewReader(body))
	if err != nil {
		t.Fatalf("POST of %d bytes: %v", len(body), err)
	}
	return read(t, begin, response)
}

func read(t testing.TB, begin time.Time, response *http.Response) answer {
	t.Helper()
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: response.StatusCode, text: string(text), took: time.Since(begin)}
	a.data, a.codes = parseResult(text)
	return a
}

// parseResult reads a GraphQL response.
func parseResult(text []byte) (data json.RawMessage, codes []string) {
	var result struct {
		Data   json.RawMessage
		Errors []struct{ Extensions struct{ Code string } }
	}
	_ = json.Unmarshal(text, &result)
	for _, e := range result.Errors {
		codes = append(codes, e.Extensions.Code)
	}
	return result.Data, codes
}

func (a answer) has(code string) bool {
	for _, c := range a.codes {
		if c == code {
			return true
		}
	}
	return false
}

// refusals says how often a code was refused since the start.
func (g *gateway) refusals(t testing.TB, code string) int {
	t.Helper()
	var vars struct {
		Refusals map[string]int `json:"sluice_refusals"`
	}
	if err := json.Unmarshal(g.debugPage(t, "/debug/vars"), &vars); err != nil {
		t.Fatal(err)
	}
	return vars.Refusals[code]
}

func (g *gateway) debugPage(t testing.TB, path string) []byte {
	t.Helper()
	response, err := fresh.Get("http://" + g.debug + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// publishMQTT and publishRedis send straight to the brokers.
func (g *gateway) publishMQTT(t testing.TB, topic string, payload []byte) {
	t.Helper()
	token := g.mqtt.Publish(topic, 1, false, payload)
	if !token.WaitTimeout(20*time.Second) || token.Error() != nil {
		t.Fatalf("publish %d bytes to Mosquitto: %v", len(payload), token.Error())
	}
}

func (g *gateway) publishRedis(t testing.TB, channel string, payload []byte) {
	t.Helper()
	if err := g.redis.Publish(context.Background(), channel, payload).Err(); err != nil {
		t.Fatalf("publish %d bytes to Redis: %v", len(payload), err)
	}
}

// logged is what the gateway wrote to its log.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const maxLog = 4 << 20

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len() < maxLog {
		l.buf.Write(p)
	}
	return len(p), nil
}

// text is its beginning, which is all that a short log has.
func (l *logged) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logged) lines() int { return strings.Count(l.text(), "\n") }

// counted turns "name 12 …" of a text into 12.
func counted(text, name string) int {
	_, rest, _ := strings.Cut(text, name)
	digits, _, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	n, _ := strconv.Atoi(strings.TrimSpace(strings.SplitN(digits, "\n", 2)[0]))
	return n
}
