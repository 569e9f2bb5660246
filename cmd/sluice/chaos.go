package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-gateway/sluice/labs"
	"github.com/sluice-gateway/sluice/labs/chaos"
	"github.com/sluice-gateway/sluice/server"
)

// chaosCommand runs the chaos server, or the chaos proxy before a server of the
// user's, alone or around a command.
type chaosCommand struct {
	Addr      string   `help:"Where to listen. Port 0 picks a free one." default:"127.0.0.1:9997" group:"Where"`
	AddrFile  string   `help:"Write the address that was really opened to this file." placeholder:"FILE" group:"Where"`
	Origins   []string `help:"Pages that may connect to the echo, such as https://app.example. Pages of this machine may." name:"origin" placeholder:"ORIGIN" group:"Where"`
	Anonymous bool     `help:"Let clients of other machines in." group:"Where"`
	Upstream  string   `help:"Pass connections on to this server, such as ws://127.0.0.1:8080/graphql. Without it the messages come back." placeholder:"URL" group:"Where"`
	Seed      int64    `help:"Draw the same faults again. Without it a seed is drawn and printed." placeholder:"N" group:"Which faults"`
	Faults    string   `help:"Read faults from this YAML or JSON file; flags beat it." type:"existingfile" placeholder:"FILE" group:"Which faults"`

	Direction     *string    `help:"Whose messages the faults act on: toClient, toServer or both. Default: toClient." enum:"toClient,toServer,both" group:"Which faults"`
	Cut           *share     `help:"Share of the connections that are reset. Default: 5%." placeholder:"SHARE" group:"Which faults"`
	CutAfter      *timeRange `help:"When. Default: 5s..35s." placeholder:"TIMES" group:"Which faults"`
	Corrupt       *share     `help:"Share of the messages in which one byte is changed. Default: 2%." placeholder:"SHARE" group:"Which faults"`
	BreakUTF8     *bool      `help:"The byte becomes one that UTF-8 never has." name:"break-utf8" negatable:"" group:"Which faults"`
	Latency       *share     `help:"Share of the messages that are held. Default: 10%." placeholder:"SHARE" group:"Which faults"`
	LatencyTime   *timeRange `help:"For how long. Default: 100ms..2s." placeholder:"TIMES" group:"Which faults"`
	Duplicate     *share     `help:"Share of the messages that are sent twice. Default: 0." placeholder:"SHARE" group:"Which faults"`
	Reorder       *share     `help:"Share of the messages that let the next one go first. Default: 0." placeholder:"SHARE" group:"Which faults"`
	ReorderWithin *timeSpan  `help:"For how long they wait for it. Default: 1s." placeholder:"TIME" group:"Which faults"`
	Throttle      *int       `help:"Bytes that pass in a second. Default: as many as can." placeholder:"BYTES" group:"Which faults"`
	HalfOpen      *share     `help:"Share of the connections whose server vanishes unnoticed. Default: 0." placeholder:"SHARE" group:"Which faults"`
	HalfOpenAfter *timeRange `help:"When. Default: 5s..35s." placeholder:"TIMES" group:"Which faults"`
	BadClose      *share     `help:"Share of the Close frames that get another code. Default: 0." placeholder:"SHARE" group:"Which faults"`
	BadCloseCode  *int       `help:"Which. Default: 1006." placeholder:"CODE" group:"Which faults"`
	Partition     *timeSpan  `help:"For how long a partition silences everything. Default: 5s." placeholder:"TIME" group:"Which faults"`

	PartitionEvery time.Duration `help:"Start a partition again and again after this time. Default: never." placeholder:"TIME" group:"Which faults"`

	Quiet bool `help:"Print no faults, only the start and the summary." group:"Output"`
	JSON  bool `help:"Print one JSON object a line." name:"json" group:"Output"`

	Command []string `arg:"" optional:"" help:"A command to run, behind --, with the server's address in CHAOS_URL. Its status is that of the command."`
}

// Help is what --help says besides the flags.
func (*chaosCommand) Help() string {
	return `A SHARE is 5% or 0.05, TIMES are 100ms..2s or a single time.

Example: sluice chaos --upstream ws://127.0.0.1:8080/graphql --seed 4711 -- npm test`
}

// run implements command.
func (c *chaosCommand) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	access, err := c.access()
	if err != nil {
		return err
	}
	s, err := c.server(access)
	if err != nil {
		return err
	}
	var closing stack
	defer func() { err = errors.Join(err, closing.closeAll()) }()
	ln, err := listen(ctx, "--addr", c.Addr, &closing)
	if err != nil {
		return err
	}
	addr := called(c.Addr, ln.Addr().String())
	if c.AddrFile != "" {
		if err := writeAddr(c.AddrFile, ln.Addr().String()); err != nil {
			return err
		}
	}
	target := "ws://" + addr + c.path()
	out := stdout
	if len(c.Command) > 0 {
		out = stderr // what the command prints is its own
	}
	report := &chaosReport{out: out, json: c.JSON, quiet: c.Quiet}
	report.begins(s, target, c.Upstream)

	var work sync.WaitGroup
	background, stop := context.WithCancel(ctx)
	failed := make(chan error, 1)
	web := &http.Server{Handler: c.known(access, s), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	work.Go(func() {
		if err := web.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	})
	work.Go(func() { report.follow(s) })
	work.Go(func() { c.partitions(background, s) })
	closing.add(func() error {
		stop()
		within, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(within) // who did not leave in time was dropped
		_ = web.Shutdown(within)
		work.Wait()
		report.ends(s)
		return nil
	})
	if len(c.Command) > 0 {
		return wrap(ctx, c.Command, "CHAOS_URL="+target, stdout, stderr)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// access says who may come.
func (c *chaosCommand) access() (*server.Access, error) {
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return nil, fmt.Errorf("--addr %q is not of the form host:port, such as 127.0.0.1:9997", c.Addr)
	}
	if !isLoopback(host) && !c.Anonymous {
		return nil, fmt.Errorf("--addr %s can be reached from other machines, and whoever comes is let in: say so with --anonymous", c.Addr)
	}
	access, err := server.NewAccess(isLoopback(host), c.Origins, nil)
	if err != nil {
		return nil, wrong("--origin", err)
	}
	return access, nil
}

// server makes the server with the faults of the defaults, the file and the flags.
func (c *chaosCommand) server(access *server.Access) (s *chaos.Server, err error) {
	if c.Seed < 0 || c.Seed > chaos.MaxSeed {
		return nil, fmt.Errorf("--seed %d is not accepted: a number from 1 to %d", c.Seed, chaos.MaxSeed)
	}
	cfg := chaos.Config{Seed: c.Seed, Door: labs.DoorConfig{CheckOrigin: access.AllowOrigin}}
	if c.Upstream == "" {
		s = chaos.New(cfg)
	} else if s, err = chaos.NewProxy(cfg, c.Upstream); err != nil {
		return nil, fmt.Errorf("--%w", err)
	}
	if c.Faults != "" {
		patch, err := faultsFile(c.Faults)
		if err != nil {
			return nil, err
		}
		if _, err := s.Configure(patch); err != nil {
			return nil, fmt.Errorf("--faults %s: %w", c.Faults, err)
		}
	}
	_, err = s.Configure(c.patch())
	return s, err
}

// known refuses names that are not this machine's: a page elsewhere may have one
// that leads here (DNS rebinding), and the proxy says Host anew.
func (c *chaosCommand) known(access *server.Access, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !c.Anonymous && !access.AllowHost(r) {
			http.Error(w, fmt.Sprintf("%q is not a name of this machine: use 127.0.0.1 or localhost.", r.Host), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func faultsFile(path string) (map[string]any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--faults: %w", err)
	}
	var patch map[string]any
	if err := yaml.Unmarshal(text, &patch); err != nil {
		return nil, fmt.Errorf("--faults %s: %w", path, err)
	}
	return patch, nil
}

// patch is what the flags change.
func (c *chaosCommand) patch() map[string]any {
	patch := make(map[string]any)
	set := func(fault, field string, value any) {
		settings, ok := patch[fault].(map[string]any)
		if !ok {
			settings = make(map[string]any)
			patch[fault] = settings
		}
		settings[field] = value
	}
	rate := func(fault string, s *share) {
		if s != nil {
			set(fault, "rate", *s)
		}
	}
	times := func(fault string, r *timeRange) {
		if r != nil {
			set(fault, "minMs", r.low.Milliseconds())
			set(fault, "maxMs", r.high.Milliseconds())
		}
	}
	if c.Direction != nil {
		patch["direction"] = *c.Direction
	}
	rate("cut", c.Cut)
	times("cut", c.CutAfter)
	rate("corruption", c.Corrupt)
	if c.BreakUTF8 != nil {
		set("corruption", "breakUtf8", *c.BreakUTF8)
	}
	rate("latency", c.Latency)
	times("latency", c.LatencyTime)
	rate("duplication", c.Duplicate)
	rate("reordering", c.Reorder)
	if c.ReorderWithin != nil {
		set("reordering", "withinMs", time.Duration(*c.ReorderWithin).Milliseconds())
	}
	if c.Throttle != nil {
		set("throttling", "bytesPerSecond", *c.Throttle)
	}
	rate("halfOpen", c.HalfOpen)
	times("halfOpen", c.HalfOpenAfter)
	rate("closeCode", c.BadClose)
	if c.BadCloseCode != nil {
		set("closeCode", "code", *c.BadCloseCode)
	}
	if c.Partition != nil {
		set("partition", "durationMs", time.Duration(*c.Partition).Milliseconds())
	}
	return patch
}

// path is that of the upstream, so that CHAOS_URL stands for it.
func (c *chaosCommand) path() string {
	if u, err := url.Parse(c.Upstream); err == nil && c.Upstream != "" {
		return u.RequestURI()
	}
	return "/chaos"
}

// partitions starts them until ctx ends.
func (c *chaosCommand) partitions(ctx context.Context, s *chaos.Server) {
	if c.PartitionEvery <= 0 {
		return
	}
	ticks := time.NewTicker(c.PartitionEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
			_, _ = s.StartPartition(0) // its duration was checked with the other settings
		case <-ctx.Done():
			return
		}
	}
}

// chaosReport prints what happens. Its methods are called one after the other.
type chaosReport struct {
	out         io.Writer
	json, quiet bool
}

func (r *chaosReport) object(kind string, more map[string]any) {
	more["kind"] = kind
	line, _ := json.Marshal(more) // of values that can be
	fmt.Fprintf(r.out, "%s\n", line)
}

func (r *chaosReport) begins(s *chaos.Server, target, upstream string) {
	state := s.State()
	if r.json {
		r.object("start", map[string]any{"url": target, "upstream": upstream, "seed": state.Seed, "faults": state.Faults})
		return
	}
	fmt.Fprintf(r.out, "Chaos on %s before %s, --seed %d\n", target, cmp.Or(upstream, "an echo"), state.Seed)
}

// follow prints each fault until the server has shut down.
func (r *chaosReport) follow(s *chaos.Server) {
	if r.quiet {
		return
	}
	wake := make(chan struct{}, 1)
	defer s.Events().Follow(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})()
	var seq uint64
	buf := make([]chaos.Event, 100)
	for {
		n, open := s.Events().After(seq, buf)
		out := bufio.NewWriter(r.out)
		for _, e := range buf[:n] {
			if left := e.Seq - seq - 1; left > 0 && !r.json {
				fmt.Fprintf(out, "… and %d faults more\n", left)
			}
			seq = e.Seq
			r.fault(out, e)
		}
		_ = out.Flush()
		if !open {
			return
		}
		if n == 0 {
			<-wake
		}
	}
}

func (r *chaosReport) fault(w io.Writer, e chaos.Event) {
	if r.json {
		line, _ := json.Marshal(struct {
			Kind string `json:"kind"`
			chaos.Event
		}{"fault", e})
		fmt.Fprintf(w, "%s\n", line)
		return
	}
	where := "all connections"
	if e.Connection > 0 {
		where = fmt.Sprintf("connection %d", e.Connection)
	}
	switch e.Direction {
	case chaos.ToClient:
		where += " → client"
	case chaos.ToServer:
		where += " → server"
	}
	if e.Message > 0 {
		where += fmt.Sprintf(", message %d", e.Message)
	}
	fmt.Fprintf(w, "%s  %-12s %s: %s\n", e.At.Format("15:04:05.000"), e.Fault, where, e.What)
}

func (r *chaosReport) ends(s *chaos.Server) {
	state, counts := s.State(), s.Events().Counts()
	if r.json {
		r.object("summary", map[string]any{"seed": state.Seed, "connections": state.Connections, "faults": counts})
		return
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, fmt.Sprintf("%s %d", name, counts[name]))
	}
	fmt.Fprintf(r.out, "Connections: %d. Faults: %s. Again with --seed %d\n", state.Connections, cmp.Or(strings.Join(list, ", "), "none"), state.Seed)
}

// share is a rate: 5% or 0.05.
type share float64

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *share) UnmarshalText(text []byte) error {
	number, percent := strings.CutSuffix(string(text), "%")
	value, err := strconv.ParseFloat(number, 64)
	if percent {
		value /= 100
	}
	if err != nil || math.IsNaN(value) || value < 0 || value > 1 {
		return fmt.Errorf("%q is not a share such as 5%% or 0.05", text)
	}
	*s = share(value)
	return nil
}

// timeSpan is a time: 5s.
type timeSpan time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *timeSpan) UnmarshalText(text []byte) error {
	value, err := time.ParseDuration(string(text))
	if err != nil || value < 0 {
		return fmt.Errorf("%q is not a time such as 5s or 300ms", text)
	}
	*d = timeSpan(value)
	return nil
}

// timeRange is a range of times: 100ms..2s, or one of them.
type timeRange struct{ low, high time.Duration }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *timeRange) UnmarshalText(text []byte) error {
	low, high, ok := strings.Cut(string(text), "..")
	if !ok {
		high = low
	}
	var from, to timeSpan
	if from.UnmarshalText([]byte(low)) != nil || to.UnmarshalText([]byte(high)) != nil || from > to {
		return fmt.Errorf("%q is not a range of times such as 100ms..2s", text)
	}
	r.low, r.high = time.Duration(from), time.Duration(to)
	return nil
}
