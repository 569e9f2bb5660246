package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/server"
)

// cli is the command line. Kong fills it: a flag beats the environment, which
// beats the file, which beats the default.
type cli struct {
	Config kong.ConfigFlag `help:"Read settings from this YAML file: the names of the flags below, without the dashes." env:"SLUICE_CONFIG" placeholder:"FILE"`

	ShowVersion kong.VersionFlag `help:"Print the version." name:"version"`

	Serve   config         `cmd:"" default:"withargs" help:"Run the gateway (the default): GraphQL, practice servers, lab sessions and lessons on http://127.0.0.1:8080, and brokers unless it is given some."`
	Mock    mockCommand    `cmd:"" help:"Run a WebSocket server that obeys a script, to test clients against."`
	Chaos   chaosCommand   `cmd:"" help:"Break WebSocket connections on purpose: an echo server, or a proxy before your own."`
	Load    loadCommand    `cmd:"" help:"Put load on a WebSocket server and measure."`
	Probe   probeCommand   `cmd:"" help:"Test a WebSocket server of your own on this machine."`
	Health  healthCommand  `cmd:"" help:"Ask a gateway on this machine whether it is well, for the health checks of containers."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// command is one of them, with its flags.
type command interface {
	run(ctx context.Context, stdout, stderr io.Writer) error
}

// versionCommand prints the version.
type versionCommand struct{}

func (*versionCommand) run(_ context.Context, stdout, _ io.Writer) error {
	_, err := fmt.Fprintln(stdout, "sluice", version())
	return err
}

// config is everything that serve can be told.
type config struct {
	Addr     string `help:"Where to listen. Port 0 picks a free one." default:"127.0.0.1:8080" env:"SLUICE_ADDR" group:"Where"`
	AddrFile string `help:"Write the address that was really opened to this file." env:"SLUICE_ADDR_FILE" placeholder:"FILE" group:"Where"`

	CoursePorts *bool `help:"Also open the course's ports: 8081 GraphQL, 8082 MQTT over WebSocket, 9999 mock, 9998 load, 9997 chaos. On when bound to loopback." negatable:"" env:"SLUICE_COURSE_PORTS" group:"Where"`

	RedisURL string `help:"A Redis server, such as redis://127.0.0.1:6379. Without it an embedded one is started." name:"redis-url" env:"REDIS_URL" placeholder:"URL" group:"Brokers"`
	MQTTURL  string `help:"An MQTT broker, such as mqtt://127.0.0.1:1883. Without it an embedded one is started." name:"mqtt-url" env:"MQTT_BROKER_URL" placeholder:"URL" group:"Brokers"`

	DataDir string `help:"Where rooms, lesson events and learners' progress are kept, unless there is a Redis server to keep them. :memory: keeps them until the end. Default: ${statedir}." env:"SLUICE_DATA_DIR" placeholder:"DIR" group:"Storage"`
	Secret  string `help:"Signs cursors, and learners' tokens and exported progress. Without it a key is made once and kept with the events. Gateways on the same Redis need the same one." env:"WEBSOCKET_SECRET" placeholder:"TEXT" group:"Storage"`

	MQTTAllow         []string `help:"MQTT topics that anonymous clients may read, as filters. Default: ${default}." name:"mqtt-allow" default:"demo/#,lessons/#" env:"SLUICE_MQTT_ALLOW" placeholder:"FILTER" group:"Who may do what"`
	RedisAllow        []string `help:"Redis channels that anonymous clients may read, as patterns. Default: ${default}." name:"redis-allow" default:"demo:*,demo/*,lessons:*" env:"SLUICE_REDIS_ALLOW" placeholder:"PATTERN" group:"Who may do what"`
	MQTTAllowPublish  []string `help:"MQTT topics that they may publish to. Default: demo/# on the embedded broker, nothing on another." name:"mqtt-allow-publish" env:"SLUICE_MQTT_ALLOW_PUBLISH" placeholder:"FILTER" group:"Who may do what"`
	RedisAllowPublish []string `help:"Redis channels that they may publish to. Default: demo:*,demo/* on the embedded server, nothing on another." name:"redis-allow-publish" env:"SLUICE_REDIS_ALLOW_PUBLISH" placeholder:"PATTERN" group:"Who may do what"`
	MQTTRelay         bool     `help:"Let clients use MQTT over WebSocket with the broker of --mqtt-url although the gateway can be reached from other machines." name:"mqtt-relay" env:"SLUICE_MQTT_RELAY" group:"Who may do what"`
	Origins           []string `help:"Pages that may use the gateway, such as https://app.example. Pages of this machine may while bound to loopback." name:"origin" env:"SLUICE_ORIGINS" placeholder:"ORIGIN" group:"Who may do what"`
	Hosts             []string `help:"Names that the gateway answers to, besides loopback's and those of the origins." name:"host" env:"SLUICE_HOSTS" placeholder:"NAME" group:"Who may do what"`
	TrustedProxies    []string `help:"Proxies whose X-Forwarded-For is believed, as addresses or networks, such as 10.0.0.0/8." name:"trusted-proxy" env:"SLUICE_TRUSTED_PROXIES" placeholder:"CIDR" group:"Who may do what"`
	Anonymous         bool     `help:"Let clients without a login in although the gateway can be reached from other machines." env:"SLUICE_ANONYMOUS" group:"Who may do what"`
	Production        bool     `help:"No introspection, no IDE pages, no demo messages, no embedded brokers, JSON logs." env:"SLUICE_PRODUCTION" group:"Who may do what"`
	Introspection     *bool    `help:"Let clients read the schema. On when bound to loopback and not in production." negatable:"" env:"SLUICE_INTROSPECTION" group:"Who may do what"`

	Load *bool `help:"Let clients use the load server, and start load runs against this gateway. On when bound to loopback." negatable:"" env:"SLUICE_LOAD" group:"Who may do what"`

	Limits limitFlags `help:"Change a limit. See the list below." name:"limit" placeholder:"NAME=VALUE" group:"Running"`

	LogLevel  string `help:"${enum}." default:"info" enum:"debug,info,warn,error" env:"SLUICE_LOG_LEVEL" group:"Running"`
	LogFormat string `help:"${enum}. auto: text on a terminal, else JSON." default:"auto" enum:"auto,text,json" env:"SLUICE_LOG_FORMAT" group:"Running"`
	DebugAddr string `help:"Serve pprof and expvar here, on loopback only." env:"SLUICE_DEBUG_ADDR" placeholder:"ADDR" group:"Running"`
	WebDir    string `help:"Serve the pages from this folder instead of those built in." type:"existingdir" env:"SLUICE_WEB_DIR" placeholder:"DIR" group:"Running"`

	loopback   bool
	limits     limits
	proxies    []netip.Prefix
	access     *server.Access
	mqttRules  *bridges.MQTTRules
	mqttWS     bool // there is MQTT over WebSocket
	redisRules *bridges.RedisRules
}

// parse reads the command line. Help and version end the program through an
// exitError.
func parse(args []string, stdout, stderr io.Writer) (command, error) {
	var c cli
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("sluice"),
		kong.Description("A gateway that turns MQTT topics and Redis channels into GraphQL subscriptions over WebSocket, and servers to practise WebSocket against."),
		kong.Writers(stdout, stderr),
		kong.Vars{"version": "sluice " + version()},
		kong.Configuration(yamlFile),
		kong.ConfigureHelp(kong.HelpOptions{FlagsLast: true, WrapUpperBound: 100}),
		kong.Vars{"statedir": stateDir()},
		kong.Exit(func(code int) { exited = code }),
		kong.Help(func(options kong.HelpOptions, ctx *kong.Context) error {
			if err := kong.DefaultHelpPrinter(options, ctx); err != nil {
				return err
			}
			if selected := ctx.Selected(); selected == nil || selected.Name != serveCommand {
				return nil
			}
			return printLimits(ctx.Stdout)
		}),
	)
	if err != nil {
		return nil, err
	}
	if len(args) > 0 && args[0] == "help" {
		args = append(args[1:len(args):len(args)], "--help")
	}
	if name, ok := unknown(args, parser.Model); ok {
		return nil, fmt.Errorf("there is no command %q: did you mean %s? `sluice --help` lists them", name, nearest(name, commands(parser.Model)))
	}
	kctx, err := parser.Parse(args)
	if exited >= 0 {
		return nil, exitError(exited)
	}
	if err != nil {
		return nil, fmt.Errorf("%w; `sluice %s--help` lists what is accepted", err, asked(args, parser.Model))
	}
	selected, ok := kctx.Selected().Target.Addr().Interface().(command)
	if !ok {
		return nil, fmt.Errorf("%s is not a command", kctx.Command())
	}
	if selected == command(&c.Serve) {
		if err := checkVariables(os.Environ(), variables(parser.Model)); err != nil {
			return nil, err
		}
		return selected, c.Serve.check()
	}
	return selected, nil
}

// serveCommand is the one that runs without being named, and that the
// configuration file is for.
const serveCommand = "serve"

// commands lists the commands' names.
func commands(app *kong.Application) []string {
	var names []string
	for _, node := range app.Children {
		names = append(names, node.Name)
	}
	return names
}

// unknown is the first argument if it should be a command and is none. Serve,
// which needs no name, takes flags alone.
func unknown(args []string, app *kong.Application) (string, bool) {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") || slices.Contains(commands(app), args[0]) {
		return "", false
	}
	return args[0], true
}

// asked is the command that the arguments begin with, and a space.
func asked(args []string, app *kong.Application) string {
	for _, node := range app.Children {
		if len(args) > 0 && args[0] == node.Name {
			return node.Name + " "
		}
	}
	return serveCommand + " "
}

// variables lists those that the environment may have.
func variables(app *kong.Application) []string {
	var names []string
	for _, flag := range settings(app) {
		names = append(names, flag.Envs...)
	}
	l := defaultLimits()
	for _, limit := range l.table() {
		names = append(names, limitVariable(limit.name))
	}
	return names
}

// settings lists the flags of serve.
func settings(app *kong.Application) []*kong.Flag {
	flags := app.Flags
	for _, node := range app.Children {
		if node.Name == serveCommand {
			flags = slices.Concat(flags, node.Flags)
		}
	}
	return flags
}

// kubernetes is what a pod finds in its environment for a service by the name of
// sluice or sluice-…
var kubernetes = regexp.MustCompile(`^SLUICE_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=|^SLUICE_([A-Z0-9_]+_)?PORT=\w+://`)

// checkVariables reports a variable that seems to be meant for the gateway and
// has no effect.
func checkVariables(environment, known []string) error {
	for _, variable := range environment {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "SLUICE_") && !slices.Contains(known, name) && !kubernetes.MatchString(variable) {
			return fmt.Errorf("the environment variable %s is not known: did you mean %s? `sluice serve --help` lists them", name, nearest(strings.ToUpper(name), known))
		}
	}
	return nil
}

// nearest is the name that takes the fewest letters to change.
func nearest(name string, known []string) string {
	return slices.MinFunc(known, func(a, b string) int {
		return cmp.Compare(levenshtein.ComputeDistance(name, a), levenshtein.ComputeDistance(name, b))
	})
}

// check completes the settings and reports those that do not fit together.
func (c *config) check() error {
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return fmt.Errorf("--addr %q is not of the form host:port, such as 127.0.0.1:8080 or [::1]:8080", c.Addr)
	}
	c.loopback = isLoopback(host)
	if c.limits, err = c.Limits.resolve(os.LookupEnv); err != nil {
		return err
	}
	for _, proxy := range c.TrustedProxies {
		prefix, err := parsePrefix(proxy)
		if err != nil {
			return fmt.Errorf("--trusted-proxy %q is not an address or a network, such as 10.0.0.7 or 10.0.0.0/8", proxy)
		}
		c.proxies = append(c.proxies, prefix)
	}
	if c.access, err = server.NewAccess(c.loopback, c.Origins, c.Hosts); err != nil {
		return wrong("--origin, --host", err)
	}
	if c.mqttRules, err = bridges.NewMQTTRules(c.MQTTAllow, c.mqttPublish()); err != nil {
		return wrong("--mqtt-allow, --mqtt-allow-publish", err)
	}
	if c.redisRules, err = bridges.NewRedisRules(c.RedisAllow, c.redisPublish()); err != nil {
		return wrong("--redis-allow, --redis-allow-publish", err)
	}
	if err := c.checkMQTTWS(); err != nil {
		return err
	}
	if !c.loopback && (len(c.Origins) == 0 || !c.Anonymous) {
		return fmt.Errorf("--addr %s can be reached from other machines, so say who may come: --origin with the address of your pages, and --anonymous as long as there are no user tokens. "+
			"Anonymous clients could then read MQTT %s and Redis %s, and publish to MQTT %s and Redis %s", c.Addr,
			list(c.MQTTAllow), list(c.RedisAllow), list(c.mqttPublish()), list(c.redisPublish()))
	}
	if c.Production && (c.RedisURL == "" || c.MQTTURL == "") {
		return errors.New("--production needs real brokers: set --redis-url (REDIS_URL) and --mqtt-url (MQTT_BROKER_URL). The embedded ones are for trying things out")
	}
	if c.DebugAddr != "" {
		host, _, err := net.SplitHostPort(c.DebugAddr)
		if err != nil || !isLoopback(host) {
			return fmt.Errorf("--debug-addr %q must be host:port on loopback, such as 127.0.0.1:6060", c.DebugAddr)
		}
	}
	return nil
}

// wrong reports the value of a setting. The name of our package that found it
// out says nothing to the user.
func wrong(setting string, err error) error {
	text := err.Error()
	for _, own := range []string{"mqttbridge: ", "mqttws: ", "redisbridge: ", "bridges: allow list: "} {
		text = strings.TrimPrefix(text, own)
	}
	return fmt.Errorf("%s: %s", setting, text)
}

// inMemory is the --data-dir that keeps nothing.
const inMemory = ":memory:"

func (c *config) dataDir() string { return cmp.Or(c.DataDir, stateDir()) }

// stateDir is where this user's programs keep what should survive them: on Unix
// as the XDG Base Directory Specification says, elsewhere with their settings.
func stateDir() string {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sluice")
	}
	if home, err := os.UserHomeDir(); err == nil && runtime.GOOS != "windows" && runtime.GOOS != "darwin" {
		return filepath.Join(home, ".local", "state", "sluice")
	}
	if dir, err := os.UserConfigDir(); err == nil {
		return filepath.Join(dir, "sluice")
	}
	return "sluice-data" // beside the program: there is no home
}

func (c *config) coursePorts() bool   { return given(c.CoursePorts, c.loopback) }
func (c *config) load() bool          { return given(c.Load, c.loopback) }
func (c *config) introspection() bool { return given(c.Introspection, c.loopback && !c.Production) }
func (c *config) demo() bool          { return c.loopback && !c.Production }

func (c *config) mqttPublish() []string {
	if c.MQTTAllowPublish == nil && c.MQTTURL == "" {
		return []string{"demo/#"}
	}
	return c.MQTTAllowPublish
}

func (c *config) redisPublish() []string {
	if c.RedisAllowPublish == nil && c.RedisURL == "" {
		return []string{"demo:*", "demo/*"}
	}
	return c.RedisAllowPublish
}

func given(flag *bool, fallback bool) bool {
	if flag != nil {
		return *flag
	}
	return fallback
}

func list(patterns []string) string {
	if len(patterns) == 0 {
		return "nothing"
	}
	return strings.Join(patterns, ", ")
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Prefix(addr.BitLen())
	}
	prefix, err := netip.ParsePrefix(s)
	return prefix.Masked(), err
}

// yamlFile reads the configuration file. Kong asks it before the environment,
// so it keeps quiet about settings that the environment has.
func yamlFile(r io.Reader) (kong.Resolver, error) {
	var values map[string]any
	if err := yaml.NewDecoder(r).Decode(&values); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	return &fileResolver{values}, nil
}

type fileResolver struct{ values map[string]any }

// Validate implements kong.Resolver: every name must be a flag's.
func (f *fileResolver) Validate(app *kong.Application) error {
	var known []string
	for _, flag := range settings(app) {
		known = append(known, flag.Name)
	}
	for name := range f.values {
		if !slices.Contains(known, name) {
			return fmt.Errorf("configuration file: %q is not a setting: did you mean %s? `sluice serve --help` lists them", name, nearest(name, known))
		}
	}
	return nil
}

// Resolve implements kong.Resolver.
func (f *fileResolver) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if !slices.Contains(settings(ctx.Model), flag) {
		return nil, nil // another command's, that has the same name
	}
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	value := f.values[flag.Name]
	if items, ok := value.([]any); ok {
		texts := make([]string, len(items))
		for i, item := range items {
			texts[i] = fmt.Sprint(item)
		}
		return strings.Join(texts, ","), nil
	}
	return value, nil
}

// version is the module's, as the build recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "dev"
	}
	return info.Main.Version
}
