package main

import (
	"cmp"
	"context"
	"errors"
	"expvar"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof" // on the debug port alone
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/bridges/mqttbridge"
	"github.com/sluice-gateway/sluice/bridges/redisbridge"
	"github.com/sluice-gateway/sluice/graph"
	"github.com/sluice-gateway/sluice/internal/embedded"
	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/rooms"
	"github.com/sluice-gateway/sluice/labs/load"
	"github.com/sluice-gateway/sluice/lessons"
	"github.com/sluice-gateway/sluice/server"
	"github.com/sluice-gateway/sluice/web"
)

// run implements command.
func (c *config) run(ctx context.Context, stdout, stderr io.Writer) error {
	return serve(ctx, *c, stdout, stderr)
}

// serve wires the gateway and runs it until ctx ends:
//
//	Redis  (embedded or REDIS_URL)       ─ redisbridge ─┐
//	MQTT   (embedded or MQTT_BROKER_URL) ─ mqttbridge ──┼─ graph ─ server ─ :8080
//	events (--data-dir or REDIS_URL) ─ event log ─ rooms ┤               └─ :8081
//	learners (the same)              ─ progress ─────────┘
//
// What is made later is closed earlier, also when a later part cannot be made.
func serve(ctx context.Context, cfg config, stdout, stderr io.Writer) (err error) {
	var closing stack
	defer func() { err = errors.Join(err, closing.closeAll()) }()
	logger := newLogger(cfg, stderr)

	main, err := listen(ctx, "--addr", cfg.Addr, &closing)
	if err != nil {
		return err
	}
	opened := addresses{main: main.Addr().String(), urls: make(map[string]string)}
	var debug net.Listener
	coursePort := openCourse(ctx, cfg, &opened, &closing)
	if cfg.DebugAddr != "" {
		if debug, err = listen(ctx, "--debug-addr", cfg.DebugAddr, &closing); err != nil {
			return err
		}
	}

	shared, err := openShared(cfg, logger, &closing)
	if err != nil {
		return err
	}
	brokers, err := connect(cfg, logger, shared.streams, &closing)
	if err != nil {
		return err
	}
	room := rooms.New(shared.log, shared.members)
	resolver := brokers.resolver(cfg, room)
	resolver.Cursors, resolver.CoursePorts = shared.streams, opened.urls
	if cfg.load() {
		resolver.LoadRuns = load.NewRuns(load.RunsConfig{Base: "ws://" + ownAddr(opened.main)})
	}
	course, err := lessons.Embedded()
	if err != nil {
		return err
	}
	learners, err := openLearners(cfg, shared.key, course, &closing)
	if err != nil {
		return err
	}
	classroom := lessons.NewClassroom(lessons.ClassroomConfig{Course: course, Log: shared.log, Learners: learners, Announce: brokers.announce, Logger: logger})
	closing.add(func() error { classroom.Close(); return nil })
	resolver.Classroom, resolver.Learners = classroom, learners
	gateway, err := server.New(server.Config{
		MQTT:   brokers.mqttOverWebSocket(cfg),
		Logger: logger, Resolver: resolver, Access: cfg.access, Limits: cfg.limits.server(),
		Introspection: cfg.introspection(), Load: cfg.load(), Proxies: cfg.proxies, Upstreams: brokers.upstreams,
		Pages: web.Handler(cfg.WebDir, web.Info{
			Version: version(), MQTTAddr: brokers.mqttAddr, RedisAddr: brokers.redisAddr, NoIDEs: cfg.Production,
		}),
	})
	if err != nil {
		return err
	}
	resolver.Stats = gateway.Stats
	if expvar.Get("sluice_refusals") == nil {
		expvar.Publish("sluice_refusals", expvar.Func(func() any { return gateway.Refusals() }))
	}

	var servers []*http.Server
	var work sync.WaitGroup
	background, stopBackground := context.WithCancel(ctx)
	closing.add(func() error {
		stopBackground()
		drain(time.Duration(cfg.limits.drain), logger, gateway, servers, &work)
		return nil
	})
	if resolver.LoadRuns != nil {
		closing.add(func() error { resolver.LoadRuns.Close(); return nil })
	}
	failed := make(chan error, 2+len(coursePorts))
	serveOn := func(ln net.Listener, h http.Handler) {
		if ln == nil || h == nil {
			return
		}
		srv := gateway.HTTPServer(h)
		servers = append(servers, srv)
		work.Go(func() {
			if err := srv.Serve(gateway.Watch(ln)); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serving %s: %w", ln.Addr(), err)
			}
		})
	}
	serveOn(main, gateway)
	for name, ln := range coursePort {
		serveOn(ln, gateway.Practice(name))
	}
	serveOn(debug, http.DefaultServeMux)
	if cfg.demo() {
		work.Go(func() { demo(background, logger, shared.log, room, brokers.mqtt, brokers.redis) })
	}
	work.Go(func() { giveBackMemory(background) })

	if cfg.AddrFile != "" {
		if err := writeAddr(cfg.AddrFile, opened.main); err != nil {
			return err
		}
	}
	opened.main = called(cfg.Addr, opened.main)
	greet(stdout, cfg, opened, brokers, shared)

	select {
	case <-ctx.Done():
		logger.Info("stopping", "within", cfg.limits.drain.String())
		return nil
	case err := <-failed:
		return err
	}
}

// coursePort is one of the ports of the course's servers, each of which answers
// on every path.
type coursePort struct{ name, port, what string }

// String is the port and what is there.
func (p coursePort) String() string { return p.port + " " + p.what }

var coursePorts = []coursePort{
	{"graphql", "8081", "GraphQL"},
	{"mqtt", "8082", "MQTT"},
	{"mock", "9999", "mock"},
	{"load", "9998", "load"},
	{"chaos", "9997", "chaos"},
}

// openCourse opens the course's ports beside the main one, by name. One that
// cannot be opened is noted and skipped.
func openCourse(ctx context.Context, cfg config, opened *addresses, closing *stack) map[string]net.Listener {
	course := make(map[string]net.Listener)
	if !cfg.coursePorts() {
		return course
	}
	host, _, _ := net.SplitHostPort(cfg.Addr)
	for _, port := range coursePorts {
		if port.name == "load" && !cfg.load() || port.name == "mqtt" && !cfg.mqttWS {
			continue
		}
		addr := net.JoinHostPort(host, port.port)
		ln, err := listen(ctx, "--no-course-ports", addr, closing)
		if err != nil {
			opened.skipped = append(opened.skipped, port.String()+" "+whyNot(err))
			continue
		}
		course[port.name] = ln
		opened.course = append(opened.course, port.String())
		opened.urls[port.name] = "ws://" + ln.Addr().String()
	}
	return course
}

// whyNot says in a word or two why a port could not be opened.
func whyNot(err error) string {
	var reason syscall.Errno
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "(in use)"
	case errors.As(err, &reason):
		return "(" + reason.Error() + ")"
	}
	return "(" + err.Error() + ")"
}

// drain lets clients go, and waits for every goroutine of serve. The listeners
// stay open while sockets are told to leave, for health checks and for those who
// are told to come later. Then requests may finish while sockets close; what is
// left after limit is dropped.
func drain(limit time.Duration, logger *slog.Logger, gateway *server.Server, servers []*http.Server, work *sync.WaitGroup) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for _, srv := range servers {
		srv.SetKeepAlivesEnabled(false) // a client's next request looks for another instance
	}
	gateway.Drain(ctx)
	work.Go(func() { _ = gateway.Shutdown(ctx) }) // the log says how many did not go in time
	for _, srv := range servers {
		work.Go(func() {
			if err := srv.Shutdown(ctx); err != nil {
				logger.Warn("some requests did not finish in time", "error", err)
				_ = srv.Close()
			}
		})
	}
	work.Wait()
}

// listen opens an address that flag chooses, until closing.
func listen(ctx context.Context, flag, addr string, closing *stack) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("%w: is another program using it, such as a gateway? %s chooses another address; port 0 picks a free one", err, flag)
		}
		return nil, err
	}
	closing.add(func() error { return ignoreClosed(ln.Close()) })
	return ln, nil
}

// brokerSet is the brokers that the gateway is connected to.
type brokerSet struct {
	mqtt  *mqttbridge.Bridge
	redis *redisbridge.Bridge
	// Where they are, host:port; empty for brokers that are not ours, whose
	// URLs may hold a password.
	mqttAddr, redisAddr string
	embedded            *embedded.MQTT // nil: the broker is not ours
	states              bridges.States
}

func connect(cfg config, logger *slog.Logger, streams *eventlog.Cursors, closing *stack) (*brokerSet, error) {
	var b brokerSet
	mqttURL, redisURL := cfg.MQTTURL, cfg.RedisURL
	if mqttURL == "" {
		broker, err := embedded.StartMQTT(embedded.MQTTConfig{Addr: "127.0.0.1:1883", Logger: logger})
		if err != nil {
			return nil, err
		}
		closing.add(broker.Close)
		mqttURL, b.mqttAddr, b.embedded = broker.URL(), broker.Addr(), broker
	}
	if redisURL == "" {
		broker, err := embedded.StartRedis(embedded.RedisConfig{Addr: "127.0.0.1:6379"})
		if err != nil {
			return nil, err
		}
		closing.add(broker.Close)
		redisURL, b.redisAddr = broker.URL(), broker.Addr()
	}
	var err error
	if b.mqtt, err = mqttbridge.New(mqttbridge.Config{URL: mqttURL, Logger: logger, Limits: cfg.limits.topics(), OnStatus: b.watch("mqtt", bridges.KindMQTT)}); err != nil {
		return nil, wrong("--mqtt-url (MQTT_BROKER_URL)", err)
	}
	closing.add(b.mqtt.Close)
	if b.redis, err = redisbridge.New(redisbridge.Config{
		URL: redisURL, Logger: logger, Limits: cfg.limits.topics(), OnStatus: b.watch("redis", bridges.KindRedis),
		StreamCursor: func(stream string, p live.Position) string { return streams.Seal(graph.StreamTopic(stream), p) },
	}); err != nil {
		return nil, wrong("--redis-url (REDIS_URL)", err)
	}
	closing.add(b.redis.Close)
	return &b, nil
}

// resolver puts the rules before the brokers.
func (b *brokerSet) resolver(cfg config, room *rooms.Rooms) *graph.Resolver {
	guard := bridges.Guard{Topics: cfg.limits.topics(), PublishBytes: int(cfg.limits.publishBytes)}
	return &graph.Resolver{
		MQTT:         bridges.GuardedMQTT{Guard: guard, Bridge: b.mqtt, Rules: cfg.mqttRules},
		Redis:        bridges.GuardedRedis{Guard: guard, Bridge: b.redis, Rules: cfg.redisRules},
		Rooms:        room,
		States:       &b.states,
		PayloadBytes: int(cfg.limits.payload),
	}
}

// announce tells what happens in lessons over the brokers, too. That one is away
// is no matter: the event log has it.
func (b *brokerSet) announce(ctx context.Context, lesson string, happening []byte) {
	_, _ = b.mqtt.Publish(ctx, bridges.Publication{Topic: "lessons/" + lesson + "/events", Payload: happening})
	_, _ = b.redis.Publish(ctx, bridges.Publication{Topic: "lessons:" + lesson, Payload: happening})
}

// watch keeps the state of a bridge, which begins without a connection.
func (b *brokerSet) watch(name string, kind bridges.Kind) func(bridges.Status) {
	b.states.Set(name, kind, bridges.Status{State: bridges.Connecting, Since: time.Now()})
	return func(status bridges.Status) { b.states.Set(name, kind, status) }
}

func (b *brokerSet) upstreams() int { return len(b.mqtt.Upstreams()) + len(b.redis.Upstreams()) }

// stack closes things in the opposite order of their making.
type stack []func() error

func (s *stack) add(f func() error) { *s = append(*s, f) }

func (s *stack) closeAll() (err error) {
	for i := len(*s) - 1; i >= 0; i-- {
		err = errors.Join(err, (*s)[i]())
	}
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// writeAddr writes the file in one step: a reader sees all of it or none.
func writeAddr(path, addr string) error {
	if err := os.WriteFile(path+".tmp", []byte(addr+"\n"), 0o644); err != nil {
		return fmt.Errorf("--addr-file: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		_ = os.Remove(path + ".tmp")
		return fmt.Errorf("--addr-file: %w", err)
	}
	return nil
}

func newLogger(cfg config, stderr io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.LogLevel)) // kong has checked it
	options := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "text" || cfg.LogFormat == "auto" && !cfg.Production && isTerminal(stderr) {
		return slog.New(slog.NewTextHandler(stderr, options))
	}
	return slog.New(slog.NewJSONHandler(stderr, options))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// addresses are what was really opened.
type addresses struct {
	main            string
	course, skipped []string          // of the course's ports, those that are open and those that are not
	urls            map[string]string // of the course's servers
}

// ownAddr is where this process reaches a listener of its own.
func ownAddr(opened string) string {
	addr, err := netip.ParseAddrPort(opened)
	if err == nil && addr.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), addr.Port()).String()
	}
	return opened
}

// called is an address under the name that the user gave to it, with the port
// that was opened. Without a name it is one that this machine answers to.
func called(given, opened string) string {
	host, _, _ := net.SplitHostPort(given)
	_, port, _ := net.SplitHostPort(opened)
	return net.JoinHostPort(cmp.Or(host, "localhost"), port)
}

// greet says what runs where and what to try.
func greet(w io.Writer, cfg config, opened addresses, b *brokerSet, kept *shared) {
	var s strings.Builder
	fmt.Fprintf(&s, "Sluice %s is up.\n\n", version())
	line := func(name, value string) { fmt.Fprintf(&s, "  %-12s%s\n", name, value) }
	line("Home", "http://"+opened.main+"/")
	line("GraphQL", "http://"+opened.main+"/graphql  (POST, GET, WebSocket, SSE)")
	if !cfg.Production {
		line("GraphiQL", "http://"+opened.main+"/graphiql")
		line("Playground", "http://"+opened.main+"/playground")
	}
	line("Practice", "ws://"+opened.main+"/echo  (also "+strings.Join(practicePaths(cfg), ", ")+")")
	if len(opened.course) > 0 {
		host, _, _ := net.SplitHostPort(opened.main)
		line("Course", "ws://"+net.JoinHostPort(host, strings.Join(opened.course, ", :")))
	}
	line("MQTT", brokerLine(b.mqttAddr, "mqtt://", cfg.MQTTURL))
	line("Redis", brokerLine(b.redisAddr, "redis://", cfg.RedisURL))
	line("Events", "kept "+kept.where)
	if len(opened.skipped) > 0 {
		line("Note", "course ports that could not be opened: "+strings.Join(opened.skipped, ", "))
	}
	if cfg.demo() {
		fmt.Fprintf(&s, "\nTry:\n")
		fmt.Fprintf(&s, "  1. Open http://%s/graphiql and run its Clock tab; its first tab is a lesson.\n", opened.main)
		fmt.Fprintf(&s, "  2. Run its MQTT tab, then publish:\n     %s\n", publishMQTT(opened.main, b.mqttAddr, cfg.MQTTURL))
		fmt.Fprintf(&s, "  3. Run its Redis tab, then publish:\n     %s\n", publishRedis(b.redisAddr, cfg.RedisURL))
	}
	s.WriteString("\nCtrl-C stops it.\n")
	_, _ = io.WriteString(w, s.String())
}

// practicePaths are the practice servers beside the echo server.
func practicePaths(cfg config) []string {
	paths := []string{"/mock", "/chaos"}
	if cfg.load() {
		paths = append(paths, "/load")
	}
	if cfg.mqttWS {
		paths = append(paths, "/mqtt")
	}
	return paths
}

// brokerLine names an embedded broker, or one of the user's own without its
// password.
func brokerLine(addr, scheme, given string) string {
	if addr != "" {
		return scheme + addr + "  (embedded)"
	}
	u, err := url.Parse(given)
	if err != nil {
		return "as configured"
	}
	return u.Redacted()
}

// publishMQTT is a command that reaches the topic that the MQTT tab watches:
// curl on the embedded broker, which everybody has, else the broker's own.
func publishMQTT(main, addr, given string) string {
	if addr == "" {
		return "mosquitto_pub " + hostPort(given, "1883") + " -t demo/hello -m hi"
	}
	return `curl -s http://` + main + `/graphql -H 'Content-Type: application/json' -d '{"query":"mutation{publishMQTT(input:{topic:\"demo/hello\",payload:\"hi\"}){acknowledgedAt}}"}'`
}

func publishRedis(addr, given string) string {
	if addr != "" {
		given = "redis://" + addr
	}
	return "redis-cli " + hostPort(given, "6379") + " publish demo:hello hi"
}

// hostPort is the -h and -p of a broker's own command.
func hostPort(given, defaultPort string) string {
	u, err := url.Parse(given)
	if err != nil {
		return "-p " + defaultPort
	}
	return "-h " + u.Hostname() + " -p " + cmp.Or(u.Port(), defaultPort)
}
