// Package testenv runs what tests need from outside the module: real brokers,
// each on a port of its own, logging to the test and gone when it ends.
//
// A program that is not installed skips the test on a laptop and fails it
// where REQUIRE_BROKERS is set, so that a green run in CI means that every
// test ran.
package testenv

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// startWithin bounds how long a program may take until it accepts connections.
const startWithin = 15 * time.Second

// missing ends a test whose program is not installed: as skipped, or as failed
// where REQUIRE_BROKERS is set.
func missing(tb testing.TB, name string) {
	tb.Helper()
	if os.Getenv("REQUIRE_BROKERS") != "" {
		tb.Fatalf("%s is not installed, and REQUIRE_BROKERS is set", name)
	}
	tb.Skipf("%s is not installed", name)
}

// Faults is where a test begins that has long outages in it: make test-faults
// sets SLUICE_FAULTS, without which it is skipped.
func Faults(tb testing.TB) {
	tb.Helper()
	if os.Getenv("SLUICE_FAULTS") == "" {
		tb.Skip("takes long; make test-faults runs it")
	}
}

// lookup finds a program. Debian keeps servers in sbin, which is not on every
// user's PATH.
func lookup(tb testing.TB, name string) string {
	tb.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	missing(tb, name)
	return ""
}

// FreePort returns a loopback port that was free a moment ago. It is below the
// range from which systems take the ports of outgoing connections, so that
// none of those can sit on it while a broker is restarted. Tests of one package
// draw from a block of their own, one after the other, so that they take no port
// of a broker that another test has stopped for a while.
func FreePort(tb testing.TB) int {
	tb.Helper()
	const first, blocks, size = 20_000, 50, 200
	block := first + os.Getpid()%blocks*size
	for range size {
		port := block + int(drawn.Add(1))%size
		ln, err := net.Listen("tcp", loopback(port))
		if err == nil {
			ln.Close()
			return port
		}
	}
	tb.Fatalf("no free port on loopback between %d and %d", block, block+size-1)
	return 0
}

var drawn atomic.Uint32 // ports, free or not

// Logger returns a logger that writes to the test's log. Goroutines that
// outlive the test may go on using it; what they say then is dropped.
func Logger(tb testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(newTestWriter(tb), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// testWriter writes lines to a test's log until the test has ended: t.Log
// panics after that.
type testWriter struct {
	mu sync.Mutex
	tb testing.TB // nil: the test has ended
}

func newTestWriter(tb testing.TB) io.Writer {
	w := &testWriter{tb: tb}
	tb.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.tb = nil
	})
	return w
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tb != nil {
		w.tb.Logf("%s", bytes.TrimRight(p, "\n"))
	}
	return len(p), nil
}

// Process is a server program that a test runs. It can be killed and started
// again on the same address.
type Process struct {
	addr   string
	bin    string
	args   []string
	output *output

	process *os.Process
	stop    context.CancelFunc // kills; nil: not running
	done    chan struct{}      // closed when the program has ended
	state   *os.ProcessState   // how it ended, readable then
}

// StartProcess starts the named program and waits until addr accepts
// connections. Its output is in the test's log if the test fails.
func StartProcess(tb testing.TB, addr, name string, args ...string) *Process {
	tb.Helper()
	p := &Process{addr: addr, bin: lookup(tb, name), args: args, output: &output{}}
	tb.Cleanup(func() {
		p.Stop(tb)
		if tb.Failed() {
			tb.Logf("%s said:\n%s", name, p.output)
		}
	})
	p.Start(tb)
	return p
}

// Addr is the host:port on which the program listens.
func (p *Process) Addr() string { return p.addr }

// Start starts the program, unless it runs, and waits until it accepts
// connections.
func (p *Process) Start(tb testing.TB) {
	tb.Helper()
	if p.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.done = stop, make(chan struct{})
	started := make(chan error, 1)
	go p.run(ctx, started)
	if err := <-started; err != nil {
		tb.Fatalf("cannot start %s: %v", p.bin, err)
	}
	p.waitUntilReady(tb)
}

// run starts the program and waits for its end. It keeps its thread, because
// Linux ends the child with the thread that started it (see childAttributes).
func (p *Process) run(ctx context.Context, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	cmd := exec.CommandContext(ctx, p.bin, p.args...) // kills when ctx ends
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.SysProcAttr = childAttributes()
	err := cmd.Start()
	p.process = cmd.Process
	started <- err
	if err == nil {
		_ = cmd.Wait() // "signal: killed" is the usual end
		p.state = cmd.ProcessState
	}
}

func (p *Process) waitUntilReady(tb testing.TB) {
	tb.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(startWithin)
	for {
		conn, err := net.DialTimeout("tcp", p.addr, time.Second)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-p.done:
			tb.Fatalf("%s ended before it accepted connections on %s:\n%s", p.bin, p.addr, p.output)
		case <-deadline:
			tb.Fatalf("%s does not accept connections on %s after %v: %v\n%s", p.bin, p.addr, startWithin, err, p.output)
		case <-poll.C:
		}
	}
}

// Stop kills the program, as a crash would, and waits until it is gone.
func (p *Process) Stop(tb testing.TB) {
	tb.Helper()
	if p.stop == nil {
		return
	}
	p.stop()
	<-p.done
	p.stop = nil
}

// Pid is the number of the process, which runs or has run.
func (p *Process) Pid() int { return p.process.Pid }

// Output is what the program has written, all starts together, up to 64 KiB.
func (p *Process) Output() string { return p.output.String() }

// output collects what a program writes, up to a bound: the end is cut.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const maxOutput = 64 << 10

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if room := maxOutput - o.buf.Len(); room > 0 {
		o.buf.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// loopback is the address of a port on this machine.
func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
