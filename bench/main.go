// Command bench measures the gateway from the outside: the built binary as its
// own process, real brokers, clients over real sockets. It prints one Markdown
// table.
//
//   - start: from exec to the first timeUpdates event at a client, with
//     embedded brokers
//   - latency: from a publication to its frame at each of 100 subscribers, one
//     message every 10 ms, real redis-server and mosquitto
//   - memory: resident memory when idle, and per idle socket with a subscription
//
// Publisher and subscribers share this process and its clock, and the machine
// with the gateway: latencies are upper bounds.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"
	"github.com/redis/go-redis/v9"
)

var (
	binary      = flag.String("binary", "bin/sluice", "the gateway to measure")
	subscribers = flag.Int("subscribers", 100, "sockets that watch one topic, for latency")
	messages    = flag.Int("messages", 500, "messages, for latency")
	idle        = flag.Int("idle", 1000, "sockets, for memory")
)

func main() {
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	err := run(ctx)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	fmt.Printf("%s on %d cores, %s\n\n| What | Figure |\n|---|---|\n", runtime.Version(), runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
	if err := start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	redisAddr, stopRedis, err := startRedis(ctx, dir)
	if err != nil {
		return err
	}
	defer stopRedis()
	mqttAddr, stopMQTT, err := startMosquitto(ctx, dir)
	if err != nil {
		return err
	}
	defer stopMQTT()
	g, err := startGateway(ctx, "REDIS_URL=redis://"+redisAddr, "MQTT_BROKER_URL=mqtt://"+mqttAddr)
	if err != nil {
		return err
	}
	defer g.stop()
	if err := memory(ctx, g); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	if err := redisLatency(ctx, g, redisAddr); err != nil {
		return fmt.Errorf("latency of Redis: %w", err)
	}
	if err := mqttLatency(ctx, g, mqttAddr); err != nil {
		return fmt.Errorf("latency of MQTT: %w", err)
	}
	return nil
}

func row(what, format string, args ...any) {
	fmt.Printf("| %s | %s |\n", what, fmt.Sprintf(format, args...))
}

// start measures five starts.
func start(ctx context.Context) error {
	var took []time.Duration
	for range 5 {
		begun := time.Now()
		g, err := startGateway(ctx)
		if err != nil {
			return err
		}
		c, err := g.subscribe(ctx, `subscription { timeUpdates }`)
		if err == nil {
			_, _, err = c.ReadMessage()
			took = append(took, time.Since(begun))
			c.Close()
		}
		g.stop()
		if err != nil {
			return err
		}
	}
	row("exec to the first event at a client, embedded brokers (median of 5)", "%v", percentile(took, 50).Round(time.Millisecond))
	return nil
}

func memory(ctx context.Context, g *gateway) error {
	before, err := g.resident()
	if err != nil {
		return err
	}
	row("resident memory, idle", "%.1f MiB", float64(before)/(1<<20))
	var open []*websocket.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range *idle {
		c, err := g.subscribe(ctx, `subscription { redisMessages(channel: "demo:idle") { payload } }`)
		if err != nil {
			return err
		}
		open = append(open, c)
	}
	after, err := g.resident()
	if err != nil {
		return err
	}
	row(fmt.Sprintf("resident memory per idle socket with one subscription (%d sockets)", *idle), "%d bytes", (after-before)/int64(*idle))
	return nil
}

func redisLatency(ctx context.Context, g *gateway, addr string) error {
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	return latency(ctx, g, "Redis PUBLISH", `subscription { redisMessages(channel: "demo:bench") { payload } }`, func(payload string) error {
		return client.Publish(ctx, "demo:bench", payload).Err()
	})
}

func mqttLatency(ctx context.Context, g *gateway, addr string) error {
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID("sluice-bench"))
	if token := client.Connect(); token.Wait() && token.Error() != nil {
		return token.Error()
	}
	defer client.Disconnect(100)
	return latency(ctx, g, "MQTT publish, QoS 0", `subscription { mqttMessages(topic: "demo/bench") { payload } }`, func(payload string) error {
		token := client.Publish("demo/bench", 0, false, payload)
		token.Wait()
		return token.Error()
	})
}

// latency publishes the time and lets every subscriber say how old it is.
func latency(ctx context.Context, g *gateway, name, document string, publish func(payload string) error) error {
	var (
		mu    sync.Mutex
		took  []time.Duration
		ready sync.WaitGroup
		work  sync.WaitGroup
		first error
	)
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if first == nil {
			first = err
		}
	}
	ready.Add(*subscribers)
	for range *subscribers {
		c, err := g.subscribe(ctx, document)
		if err != nil {
			return err
		}
		work.Go(func() {
			defer c.Close()
			warm := sync.OnceFunc(ready.Done)
			mine := make([]time.Duration, 0, *messages)
			for {
				_, frame, err := c.ReadMessage()
				if err != nil {
					fail(err)
					warm()
					return
				}
				payload := between(frame, `"payload":"`)
				if payload == "warm" {
					warm()
					continue
				}
				if payload == "end" {
					break
				}
				sent, err := strconv.ParseInt(payload, 10, 64)
				if err != nil {
					fail(fmt.Errorf("frame %s: %w", frame, err))
					return
				}
				mine = append(mine, time.Duration(time.Now().UnixNano()-sent))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	// A subscription is confirmed by its first message: repeat it until all have it.
	all := make(chan struct{})
	go func() { ready.Wait(); close(all) }()
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	for warm := true; warm; {
		if err := publish("warm"); err != nil {
			return err
		}
		select {
		case <-all:
			warm = false
		case <-ticks.C:
		}
	}
	for range *messages {
		<-ticks.C
		if err := publish(strconv.FormatInt(time.Now().UnixNano(), 10)); err != nil {
			return err
		}
	}
	if err := publish("end"); err != nil {
		return err
	}
	work.Wait()
	if first != nil {
		return first
	}
	lost := *subscribers**messages - len(took)
	row(fmt.Sprintf("%s to the frame, %d subscribers, %d messages", name, *subscribers, *messages),
		"p50 %v, p99 %v, lost %d", percentile(took, 50).Round(10*time.Microsecond), percentile(took, 99).Round(10*time.Microsecond), lost)
	return nil
}

func between(frame []byte, name string) string {
	_, rest, _ := strings.Cut(string(frame), name)
	payload, _, _ := strings.Cut(rest, `"`)
	return payload
}

func percentile(d []time.Duration, p int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(len(d)*p/100, len(d)-1)]
}

// gateway is the binary as a process of its own.
type gateway struct {
	cmd  *exec.Cmd
	addr string
	dir  string
}

func startGateway(ctx context.Context, env ...string) (*gateway, error) {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "addr")
	g := &gateway{dir: dir}
	g.cmd = exec.CommandContext(ctx, *binary, "serve", "--addr", "127.0.0.1:0", "--addr-file", file, "--no-course-ports", "--log-level", "error")
	g.cmd.Env = append(os.Environ(), env...)
	g.cmd.Stderr = os.Stderr
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	err = until(ctx, "the gateway", func() bool {
		b, err := os.ReadFile(file)
		g.addr = strings.TrimSpace(string(b))
		return err == nil
	})
	if err != nil {
		g.stop()
	}
	return g, err
}

func (g *gateway) stop() {
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	_ = g.cmd.Wait()
	_ = os.RemoveAll(g.dir)
}

// resident is the resident memory of the process in bytes.
func (g *gateway) resident() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", g.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("resident memory is read from /proc: %w", err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// subscribe opens a socket with one subscription.
func (g *gateway) subscribe(ctx context.Context, document string) (*websocket.Conn, error) {
	d := websocket.Dialer{Subprotocols: []string{"graphql-transport-ws"}, ReadBufferSize: 1024, WriteBufferSize: 1024}
	c, resp, err := d.DialContext(ctx, "ws://"+g.addr+"/graphql", nil)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	for _, m := range []any{
		map[string]string{"type": "connection_init"},
		map[string]any{"id": "1", "type": "subscribe", "payload": map[string]string{"query": document}},
	} {
		if err := c.WriteJSON(m); err != nil {
			return nil, err
		}
	}
	_, _, err = c.ReadMessage() // connection_ack
	return c, err
}

func startRedis(ctx context.Context, dir string) (addr string, stop func(), err error) {
	addr = freeAddr()
	_, port, _ := net.SplitHostPort(addr)
	stop, err = startBroker(ctx, addr, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir)
	return addr, stop, err
}

func startMosquitto(ctx context.Context, dir string) (addr string, stop func(), err error) {
	addr = freeAddr()
	host, port, _ := net.SplitHostPort(addr)
	file := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, "listener %s %s\nallow_anonymous true\n", port, host), 0o600); err != nil {
		return "", nil, err
	}
	stop, err = startBroker(ctx, addr, "mosquitto", "-c", file)
	return addr, stop, err
}

func startBroker(ctx context.Context, addr, name string, args ...string) (stop func(), err error) {
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			return nil, fmt.Errorf("%s is not installed: it is the broker that is measured with", name)
		}
	}
	cmd := exec.CommandContext(ctx, path, args...)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	err = until(ctx, name, func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	if err != nil {
		stop()
	}
	return stop, err
}

// until polls a condition of another process every millisecond.
func until(ctx context.Context, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for !ok() {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waited 10 s for %s", what)
		}
	}
	return nil
}

func freeAddr() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer ln.Close()
	return ln.Addr().String()
}
