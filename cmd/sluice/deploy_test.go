package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/testenv"
)

// The files of deploy/ are held to the program here, because only here its flags
// and variables are known.
const deployDir = "../../deploy"

var productionVariables = map[string]string{"SLUICE_ORIGINS": "https://app.example", "WEBSOCKET_SECRET": "a long random text"}

func compose(t *testing.T, file string, environment map[string]string) (*types.Project, error) {
	t.Helper()
	dir, err := filepath.Abs(deployDir)
	if err != nil {
		t.Fatal(err)
	}
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: dir, ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, file)}}, Environment: maps.Clone(environment),
	}, func(o *loader.Options) { o.Profiles = []string{"*"} })
}

// projects are both compose files.
func projects(t *testing.T) map[string]*types.Project {
	t.Helper()
	all := map[string]*types.Project{}
	for _, file := range []string{"compose.yaml", "compose.production.yaml"} {
		project, err := compose(t, file, productionVariables)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[file] = project
	}
	return all
}

// setenv gives a test the environment of a service.
func setenv(t *testing.T, service types.ServiceConfig) {
	t.Helper()
	for name, value := range service.Environment {
		t.Setenv(name, *value)
	}
}

func TestComposeHasTheServicesOfTheCourse(t *testing.T) {
	for file, want := range map[string]string{
		"compose.yaml":            "frontend-dev mosquitto redis websocket-basic websocket-graphql websocket-mqtt",
		"compose.production.yaml": "mosquitto redis sluice",
	} {
		project := projects(t)[file]
		if got := strings.Join(slices.Sorted(maps.Keys(project.Services)), " "); got != want {
			t.Errorf("%s has %s", file, got)
		}
		for name, service := range project.Services {
			if service.HealthCheck == nil || len(service.HealthCheck.Test) == 0 {
				t.Errorf("%s: %s has no health check", file, name)
			}
			for _, port := range service.Ports {
				if port.HostIP != "127.0.0.1" {
					t.Errorf("%s: %s publishes %s on %q", file, name, port.Published, port.HostIP)
				}
			}
			for other, dependency := range service.DependsOn {
				if dependency.Condition != types.ServiceConditionHealthy {
					t.Errorf("%s: %s does not wait until %s is well", file, name, other)
				}
			}
			for _, volume := range service.Volumes {
				if volume.Type != types.VolumeTypeBind {
					continue
				}
				if _, err := os.Stat(volume.Source); err != nil {
					t.Errorf("%s: %s: %v", file, name, err)
				}
			}
		}
	}
}

func TestProductionAsksForWhatItNeeds(t *testing.T) {
	for name := range productionVariables {
		some := maps.Clone(productionVariables)
		delete(some, name)
		if _, err := compose(t, "compose.production.yaml", some); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

// Every variable, flag and port of a service that runs the gateway means something
// to it.
func TestComposeSpeaksOfThisProgram(t *testing.T) {
	ran := 0
	for file, project := range projects(t) {
		for name, service := range project.Services {
			if service.Image != "sluice" {
				continue
			}
			ran++
			t.Run(file+" "+name, func(t *testing.T) {
				setenv(t, service)
				command, err := parse(service.Command, io.Discard, io.Discard)
				if err != nil {
					t.Fatal(err)
				}
				cfg, ok := command.(*config)
				if !ok {
					t.Fatalf("it runs %v", service.Command)
				}
				known := variablesOfServe(t)
				for variable := range service.Environment {
					if !slices.Contains(known, variable) {
						t.Errorf("the program does not know %s", variable)
					}
				}
				_, main, _ := net.SplitHostPort(cfg.Addr)
				ports := map[string]bool{main: true}
				if cfg.coursePorts() {
					for _, port := range coursePorts {
						ports[port.port] = true
					}
				}
				for _, port := range service.Ports {
					if target := strconv.Itoa(int(port.Target)); !ports[target] || port.Published != target {
						t.Errorf("it publishes port %d as %s", port.Target, port.Published)
					}
				}
				if service.HealthCheck.Test[1] != "/usr/local/bin/sluice" {
					t.Errorf("its health check runs %v", service.HealthCheck.Test)
				}
				health, err := parse(service.HealthCheck.Test[2:], io.Discard, io.Discard)
				if h, ok := health.(*healthCommand); err != nil || !ok || h.Addr != cfg.Addr {
					t.Errorf("its health check is %v, %v", health, err)
				}
				if _, err := os.Stat(filepath.Join(service.Build.Context, service.Build.Dockerfile)); err != nil {
					t.Error(err)
				}
				if grace := time.Duration(*service.StopGracePeriod); grace <= time.Duration(cfg.limits.drain) {
					t.Errorf("it is killed after %v, and drains for %v", grace, cfg.limits.drain)
				}
			})
		}
	}
	if ran != 4 {
		t.Errorf("%d services run the gateway", ran)
	}
}

// variablesOfServe are those that the help names.
func variablesOfServe(t *testing.T) []string {
	t.Helper()
	var out bytes.Buffer
	_, _ = parse([]string{"serve", "--help"}, &out, io.Discard)
	var names []string
	for _, match := range regexp.MustCompile(`\$([A-Z_]+)`).FindAllStringSubmatch(out.String(), -1) {
		names = append(names, match[1])
	}
	return names
}

// The gateway of each service runs with its environment, brokers and all, and
// finds itself well.
func TestComposeStartsAGateway(t *testing.T) {
	redis, mqtt := testenv.Redis(t), testenv.Mosquitto(t)
	for _, test := range []struct{ file, service, origin string }{
		{"compose.yaml", "websocket-graphql", "http://localhost:5173"},
		{"compose.production.yaml", "sluice", "https://app.example"},
	} {
		t.Run(test.service, func(t *testing.T) {
			service := projects(t)[test.file].Services[test.service]
			setenv(t, service)
			t.Setenv("REDIS_URL", redis.URL())
			t.Setenv("MQTT_BROKER_URL", mqtt.URL())
			t.Setenv("SLUICE_DATA_DIR", inMemory)
			p := startProgram(t, append(slices.DeleteFunc(service.Command[1:], func(s string) bool { return s == "--course-ports" }), "--addr", "0.0.0.0:0")...)
			_, port, _ := net.SplitHostPort(p.addr)
			t.Setenv("SLUICE_ADDR", "0.0.0.0:"+port)
			var out bytes.Buffer
			if err := run(t.Context(), service.HealthCheck.Test[2:], &out, io.Discard); err != nil || out.String() != "ok\n" {
				t.Errorf("its health check says %q, %v", out.String(), err)
			}
			ready := func() bool {
				resp, err := http.Get("http://127.0.0.1:" + port + "/readyz")
				if err != nil {
					return false
				}
				resp.Body.Close()
				return resp.StatusCode == http.StatusOK
			}
			for end := time.Now().Add(10 * time.Second); !ready(); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("it is not ready after ten seconds")
				}
			}
			dialer := websocket.Dialer{Subprotocols: []string{"graphql-transport-ws"}}
			for origin, want := range map[string]int{test.origin: http.StatusSwitchingProtocols, "https://elsewhere.example": http.StatusForbidden} {
				ws, resp, err := dialer.Dial("ws://127.0.0.1:"+port+"/graphql", http.Header{"Origin": {origin}})
				if resp == nil || resp.StatusCode != want {
					t.Errorf("%s: %v", origin, err)
				}
				if err == nil {
					ws.Close()
				}
			}
			p.stop()
			if err := <-p.done; err != nil {
				t.Error(err)
			}
			if err := run(t.Context(), []string{"health"}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "does not answer") {
				t.Errorf("when it has stopped: %v", err)
			}
		})
	}
}

func TestHealthAsksFromInside(t *testing.T) {
	for addr, want := range map[string]string{
		"0.0.0.0:80": "127.0.0.1:80", "[::]:80": "127.0.0.1:80", ":80": "127.0.0.1:80", "10.0.0.7:80": "10.0.0.7:80", "[::1]:80": "[::1]:80", "localhost:80": "localhost:80",
	} {
		if got, err := fromInside(addr); err != nil || got != want {
			t.Errorf("%s: %s, %v", addr, got, err)
		}
	}
	if err := run(t.Context(), []string{"health", "--addr", "8080"}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "127.0.0.1:8080") {
		t.Errorf("got %v", err)
	}
}

// healthy runs the health check of a broker that listens on port.
func healthy(t *testing.T, test []string, port string) error {
	t.Helper()
	bin, err := exec.LookPath(test[1])
	if err != nil {
		if os.Getenv("REQUIRE_BROKERS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	out, err := exec.CommandContext(t.Context(), bin, append([]string{"-p", port}, test[2:]...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func TestHealthChecksOfTheBrokers(t *testing.T) {
	services := projects(t)["compose.production.yaml"].Services
	_, port, _ := net.SplitHostPort(testenv.Redis(t).Addr())
	if err := healthy(t, services["redis"].HealthCheck.Test, port); err != nil {
		t.Error(err)
	}
	if err := healthy(t, services["redis"].HealthCheck.Test, "1"); err == nil {
		t.Error("a Redis that is not there is well")
	}
	if err := healthy(t, services["mosquitto"].HealthCheck.Test, "1"); err == nil {
		t.Error("a broker that is not there is well")
	}
}

// The real broker takes the configuration: both listeners are open to everybody.
func TestConfigurationOfMosquitto(t *testing.T) {
	text, err := os.ReadFile(deployDir + "/mosquitto/config/mosquitto.conf")
	if err != nil {
		t.Fatal(err)
	}
	mqtt, ws := strconv.Itoa(testenv.FreePort(t)), strconv.Itoa(testenv.FreePort(t))
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil { // it may change its user
		t.Fatal(err)
	}
	changed := string(text)
	for from, to := range map[string]string{
		"listener 1883\n": "listener " + mqtt + " 127.0.0.1\n", "listener 9001\n": "listener " + ws + " 127.0.0.1\n",
		"/mosquitto/data/": dir + "/", "/mosquitto/log/": dir + "/",
	} {
		if strings.Count(changed, from) != 1 {
			t.Fatalf("mosquitto.conf has not one %q", from)
		}
		changed = strings.Replace(changed, from, to, 1)
	}
	file := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	testenv.StartProcess(t, "127.0.0.1:"+mqtt, "mosquitto", "-c", file)
	if err := healthy(t, projects(t)["compose.yaml"].Services["mosquitto"].HealthCheck.Test, mqtt); err != nil {
		t.Error(err)
	}
	socket, _, err := (&websocket.Dialer{Subprotocols: []string{"mqtt"}}).Dial("ws://127.0.0.1:"+ws+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if socket.Subprotocol() != "mqtt" {
		t.Errorf("the subprotocol is %q", socket.Subprotocol())
	}
}

// The front end's variables are read by the pages, and its script exists.
func TestComposeServesThePages(t *testing.T) {
	service := projects(t)["compose.yaml"].Services["frontend-dev"]
	read := func(name string) string {
		b, err := os.ReadFile("../../web/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	sources := read("endpoints.js") + read("dev.js")
	for variable := range service.Environment {
		if !strings.Contains(sources, "env."+variable) {
			t.Errorf("no page reads %s", variable)
		}
	}
	var manifest struct{ Scripts map[string]string }
	if err := json.Unmarshal([]byte(read("package.json")), &manifest); err != nil {
		t.Fatal(err)
	}
	script := regexp.MustCompile(`npm run (\w+)`).FindStringSubmatch(strings.Join(service.Command, " "))
	if script == nil || manifest.Scripts[script[1]] == "" {
		t.Errorf("%v runs no script of package.json", service.Command)
	}
	if !strings.Contains(read("dev.js"), fmt.Sprintf("port: %d", service.Ports[0].Target)) {
		t.Error("the pages are not served on the port that is published")
	}
}

func TestDockerfileNamesWhatThereIs(t *testing.T) {
	b, err := os.ReadFile(deployDir + "/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	copied := 0
	for _, line := range regexp.MustCompile(`(?m)^COPY ([^-].*) \S+$`).FindAllStringSubmatch(text, -1) {
		for source := range strings.FieldsSeq(line[1]) {
			copied++
			if _, err := os.Stat("../../" + source); err != nil {
				t.Error(err)
			}
		}
	}
	if copied < 5 {
		t.Errorf("only %d things are copied", copied)
	}
	known := variablesOfServe(t)
	for _, match := range regexp.MustCompile(`\b(SLUICE_[A-Z_]+)=`).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(known, match[1]) {
			t.Errorf("the program does not know %s", match[1])
		}
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	if !strings.Contains(text, "FROM golang:"+string(version[1])+"-") {
		t.Errorf("it is not built with Go %s", version[1])
	}
}
