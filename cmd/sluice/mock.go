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
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/labs"
	"github.com/sluice-gateway/sluice/labs/mock"
	"github.com/sluice-gateway/sluice/server"
)

// mockCommand runs a mock server.
type mockCommand struct {
	Script  string   `arg:"" optional:"" help:"What the server obeys, in YAML or JSON. Without one it greets and echoes."`
	Command []string `arg:"" optional:"" help:"A command to run, behind --, with the server's address in MOCK_URL. Its status is that of the command, or 1 when the expectations are not met."`

	Check  bool `help:"Only say whether the script is right."`
	Schema bool `help:"Print the JSON Schema of scripts."`

	Addr      string   `help:"Where to listen. Port 0 picks a free one." default:"127.0.0.1:9999"`
	Origins   []string `help:"Pages that may connect, such as https://app.example. Pages of this machine may." name:"origin" placeholder:"ORIGIN"`
	Anonymous bool     `help:"Let clients of other machines in."`

	Seed        uint64 `help:"What scripts draw from, instead of their own seed."`
	VerdictJSON string `help:"Write the verdict to this file, too." name:"verdict-json" placeholder:"FILE"`
	Verbose     bool   `help:"Tell what happens." short:"v"`

	Latency     time.Duration `help:"Before everything that is sent, at most 10s." group:"Knobs"`
	ErrorRate   float64       `help:"How many messages are answered by an error, from 0 to 1." group:"Knobs"`
	Connections int           `help:"How many connections may be open at once." default:"1000" group:"Knobs"`
	BufferBytes int           `help:"What may wait for a client that reads slowly." default:"1048576" group:"Knobs"`
	Overflow    string        `help:"What becomes of more: ${enum}. cut resets the connection." enum:"cut,drop" default:"cut" group:"Knobs"`
}

// Help is what --help says besides the flags.
func (*mockCommand) Help() string {
	return `Clients that open the server's address are answered as the script says. At the end the verdict says which of the script's expectations were met.

    Greet and echo, until Ctrl-C:
      sluice mock
    Find what is wrong with a script:
      sluice mock --check script.yaml
    Run a test suite against a script, and fail when its expectations are not met:
      sluice mock script.yaml --addr 127.0.0.1:0 -- npm test

A running gateway may have port 9999 already, as one of its course ports.`
}

func (m *mockCommand) run(ctx context.Context, stdout, stderr io.Writer) error {
	if m.Schema {
		_, err := stdout.Write(mock.Schema())
		return err
	}
	script := mock.Default()
	var err error
	if m.Script != "" {
		if script, err = readScript(m.Script); err != nil {
			return err
		}
	}
	if m.Check {
		if m.Script == "" {
			return errors.New("--check needs a script")
		}
		_, err := fmt.Fprintf(stdout, "%s is right.\n", m.Script)
		return err
	}
	host, _, err := net.SplitHostPort(m.Addr)
	if err != nil {
		return fmt.Errorf("--addr %q is not of the form host:port, such as 127.0.0.1:9999", m.Addr)
	}
	if !isLoopback(host) && !m.Anonymous {
		return fmt.Errorf("--addr %s can be reached from other machines, and whoever comes is let in: say so with --anonymous", m.Addr)
	}
	access, err := server.NewAccess(isLoopback(host), m.Origins, nil)
	if err != nil {
		return wrong("--origin", err)
	}
	config := mock.Config{Script: script, Seed: m.Seed, Door: labs.DoorConfig{CheckOrigin: func(r *http.Request) bool {
		return access.AllowOrigin(r) && (m.Anonymous || access.AllowHost(r)) // the latter against DNS rebinding
	}}}
	if m.Verbose {
		config.Event = func(e mock.Event) {
			fmt.Fprintf(stderr, "%s connection %d on %s%s: %s\n", e.At.Format("15:04:05.000"), e.Connection, e.Path, onLine(e.Line), e.Text)
		}
	}
	one := mock.New(config)
	overflow := mock.Overflow(strings.ToUpper(m.Overflow))
	if _, err := one.SetKnobs(mock.KnobChange{
		Latency: &m.Latency, ErrorRate: &m.ErrorRate, Connections: &m.Connections, BufferBytes: &m.BufferBytes, Overflow: &overflow,
	}); err != nil {
		return err
	}
	return m.serve(ctx, one, stdout, stderr)
}

func onLine(line int) string {
	if line == 0 {
		return ""
	}
	return fmt.Sprintf(", line %d", line)
}

// readScript reads a script; its errors begin with the file's name.
func readScript(file string) (*mock.Script, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	script, err := mock.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return script, nil
}

// serve runs the server until ctx or the command ends, and tells the verdict.
func (m *mockCommand) serve(ctx context.Context, one *mock.Server, stdout, stderr io.Writer) (err error) {
	var closing stack
	listener, err := listen(ctx, "--addr", m.Addr, &closing)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closing.closeAll()) }()
	web := &http.Server{Handler: one, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener) }()
	url := "ws://" + called(m.Addr, listener.Addr().String())
	status := one.Status()
	fmt.Fprintf(stdout, "The mock server is on %s%s · seed %d\n", url, strings.Join(append([]string{""}, status.Script.Paths()...), " "), status.Seed)

	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if m.Script != "" {
			m.follow(watching, one, stderr)
		}
	}()
	var ended error
	if len(m.Command) > 0 {
		ended = wrap(ctx, m.Command, "MOCK_URL="+url, stdout, stderr)
	} else {
		select {
		case <-ctx.Done():
		case ended = <-served:
		}
	}
	stop()
	<-watched
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = one.Shutdown(ending) // those who do not answer are dropped
	_ = web.Close()
	return errors.Join(ended, m.tell(one.Verdict(), stdout, ended == nil))
}

// tell prints the verdict. judge: it decides the status of the program.
func (m *mockCommand) tell(v mock.Verdict, stdout io.Writer, judge bool) error {
	fmt.Fprint(stdout, v)
	if m.VerdictJSON != "" {
		text, err := json.MarshalIndent(v, "", "  ")
		if err == nil {
			err = os.WriteFile(m.VerdictJSON, append(text, '\n'), 0o644)
		}
		if err != nil {
			return fmt.Errorf("--verdict-json: %w", err)
		}
	}
	if judge && v.State != mock.Passed && v.State != mock.None {
		return exitError(1)
	}
	return nil
}

// follow takes the script over whenever the file has changed.
func (m *mockCommand) follow(ctx context.Context, one *mock.Server, stderr io.Writer) {
	last, _ := os.ReadFile(m.Script)
	ticks := time.NewTicker(500 * time.Millisecond)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		text, err := os.ReadFile(m.Script)
		if err != nil || bytes.Equal(text, last) {
			continue // an editor may be about to put it back
		}
		last = text
		script, err := mock.Parse(text)
		if err != nil {
			fmt.Fprintf(stderr, "%s: %v; the script before stays\n", m.Script, err)
			continue
		}
		fmt.Fprintf(stderr, "%s has changed and is obeyed from now on · seed %d\n", m.Script, one.SetScript(script))
	}
}
