//go:build linux

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/testenv"
)

var (
	enabled = os.Getenv("SLUICE_FAULTS") != ""
	program string // the gateway
)

func TestMain(m *testing.M) {
	if !enabled {
		os.Exit(m.Run())
	}
	built, remove, err := testenv.BuildGateway(os.Getenv("FAULTS_RACE") != "")
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
	program = built
	code := m.Run()
	printTable(os.Stdout)
	remove()
	os.Exit(code)
}

// gateway is one that a test kills and starts again on the same port.
type gateway struct{ *testenv.Process }

// start runs a gateway on a port of its own.
func start(t *testing.T, args ...string) *gateway {
	t.Helper()
	return startUnder(t, nil, args...)
}

// startUnder runs a gateway as the last argument of a command.
func startUnder(t *testing.T, command []string, args ...string) *gateway {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))
	command = append(command, program, "serve", "--addr", addr, "--no-course-ports",
		"--limit", "publish=100000", "--limit", "publish-burst=100000")
	command = append(command, args...)
	g := &gateway{testenv.StartProcess(t, addr, command[0], command[1:]...)}
	t.Cleanup(func() {
		for _, word := range []string{"panic", "DATA RACE", "fatal error", "goroutine "} {
			if strings.Contains(g.Output(), word) {
				t.Errorf("the gateway's log has the word %q in it", word)
			}
		}
	})
	return g
}

// brokers are the servers behind a gateway. Redis has on its disk what it has
// acknowledged.
type brokers struct {
	redis     *testenv.Server
	mosquitto *testenv.Broker
}

func startBrokers(t *testing.T) brokers {
	t.Helper()
	needed(t)
	return brokers{testenv.Redis(t, "--appendonly", "yes", "--appendfsync", "always"), testenv.Mosquitto(t)}
}

// flags connect a gateway to the brokers; it may publish there.
func (b brokers) flags() []string {
	return []string{
		"--redis-url", b.redis.URL(), "--mqtt-url", b.mosquitto.URL(),
		"--redis-allow-publish", "demo:*", "--mqtt-allow-publish", "demo/#",
	}
}

func needed(t *testing.T) {
	t.Helper()
	if !enabled {
		t.Skip("fault tests of the gateway run by make test-faults")
	}
}

// refusal is an error of GraphQL.
type refusal struct{ code, message string }

func (r refusal) Error() string { return r.message }

// ask answers a query or mutation at one gateway.
func ask(ctx context.Context, client *http.Client, addr, document string, variables map[string]any, to any) error {
	body, err := json.Marshal(map[string]any{"query": document, "variables": variables})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/graphql", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct {
		Data   json.RawMessage
		Errors []struct {
			Message    string
			Extensions struct{ Code string }
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", response.Status, err)
	}
	if len(answer.Errors) > 0 {
		return refusal{answer.Errors[0].Extensions.Code, answer.Errors[0].Message}
	}
	if to == nil {
		return nil
	}
	return json.Unmarshal(answer.Data, to)
}

// noAnswer stands for the code of an error that is not the gateway's.
const noAnswer = "no answer"

// codeOf is what a table or a test calls an error.
func codeOf(err error) string {
	var refused refusal
	if errors.As(err, &refused) {
		return refused.code
	}
	return noAnswer
}

// fresh makes a connection for each request, so that none lingers.
var fresh = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}

// readiness asks /readyz; "" is ready.
func (g *gateway) readiness() string {
	response, err := fresh.Get("http://" + g.Addr() + "/readyz")
	if err != nil {
		return err.Error()
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return response.Status
	}
	return ""
}

func (g *gateway) ready(t *testing.T) {
	t.Helper()
	testenv.Eventually(t, 15*time.Second, "the gateway is ready", g.readiness)
}
