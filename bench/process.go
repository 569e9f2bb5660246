//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// cores says where servers run and where everything else does. On a machine with
// one core both run there, and figures mean little.
type cores struct{ server, load string }

// pin moves this process, and with it the brokers that it starts, to the cores
// of the load.
func pin() (cores, error) {
	n := runtime.NumCPU()
	if n == 1 {
		return cores{"0", "0"}, nil
	}
	c := cores{"0", "1"}
	if n > 2 {
		c.load = fmt.Sprintf("1-%d", n-1)
	}
	out, err := exec.Command("taskset", "-a", "-p", "-c", c.load, strconv.Itoa(os.Getpid())).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return c, errors.New("taskset is not installed: it keeps server and load on different cores; it comes with util-linux")
	}
	if err != nil {
		return c, fmt.Errorf("taskset: %s: %w", bytes.TrimSpace(out), err)
	}
	runtime.GOMAXPROCS(n - 1)
	return c, nil
}

// bed is what every measurement needs: the brokers and the cores.
type bed struct {
	cores   cores
	redis   string // host:port
	mqtt    string
	binary  string // the gateway
	self    string // this program, for its peers
	profile string // folder for CPU profiles of the gateway, or empty
	dir     string
	closing []func()
}

func newBed(ctx context.Context, binary, profile string) (_ *bed, err error) {
	b := &bed{profile: profile}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.cores, err = pin(); err != nil {
		return nil, err
	}
	if b.binary, err = filepath.Abs(binary); err != nil {
		return nil, err
	}
	if _, err := os.Stat(b.binary); err != nil {
		return nil, fmt.Errorf("%w: build it with `make bin/sluice`, or name another with -binary", err)
	}
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "sluice-bench-"); err != nil {
		return nil, err
	}
	b.closing = append(b.closing, func() { _ = os.RemoveAll(b.dir) })
	var stop func()
	if b.redis, stop, err = startRedis(ctx, b.dir); err != nil {
		return nil, err
	}
	b.closing = append(b.closing, stop)
	if b.mqtt, stop, err = startMosquitto(ctx, b.dir); err != nil {
		return nil, err
	}
	b.closing = append(b.closing, stop)
	return b, nil
}

func (b *bed) close() {
	for i := len(b.closing) - 1; i >= 0; i-- {
		b.closing[i]()
	}
}

// server is a gateway or one of its peers as a process of its own.
type server struct {
	name  string
	cmd   *exec.Cmd
	addr  string
	debug string // address of pprof, or empty
	dir   string
	stop  func()
}

// The gateway's names among its peers.
const (
	sluice      = "sluice"       // with real brokers, ready for production
	sluiceAlone = "sluice-alone" // with embedded brokers, as it comes, but for its rooms, which it forgets
	sluiceKept  = "sluice-kept"  // the same with rooms in the SLUICE_DATA_DIR of its environment
)

// start starts a server on its core and waits until it listens.
func (b *bed) start(ctx context.Context, name string, env ...string) (*server, error) {
	dir, err := os.MkdirTemp(b.dir, name+"-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "addr")
	s := &server{name: name, dir: dir}
	args := []string{"-c", b.cores.server, b.self, "peer", name, "-addr-file", file, "-redis", b.redis, "-mqtt", b.mqtt}
	switch name {
	case sluiceAlone, sluiceKept:
		args = []string{"-c", b.cores.server, b.binary, "serve", "--no-course-ports", "--log-level", "error", "--addr", "127.0.0.1:0", "--addr-file", file}
		if name == sluiceAlone {
			args = append(args, "--data-dir", ":memory:")
		}
	case sluice:
		args = []string{
			"-c", b.cores.server, b.binary, "serve", "--production", "--no-course-ports", "--log-level", "warn",
			"--addr", "127.0.0.1:0", "--addr-file", file, "--data-dir", ":memory:", "--redis-url", "redis://" + b.redis, "--mqtt-url", "mqtt://" + b.mqtt,
		}
	}
	if b.profile != "" && name != sluiceAlone && args[2] == b.binary {
		s.debug = freeAddr()
		args = append(args, "--debug-addr", s.debug)
	}
	s.cmd = exec.Command("taskset", args...)
	s.cmd.Env = append(os.Environ(), env...)
	said, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer said.Close() // the process has its own
	s.cmd.Stderr = said
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan struct{})
	go func() {
		_ = s.cmd.Wait()
		close(exited)
	}()
	s.stop = sync.OnceFunc(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(5 * time.Second):
			_ = s.cmd.Process.Kill()
			<-exited
		}
	})
	err = until(ctx, 10*time.Second, name, func() (bool, error) {
		select {
		case <-exited:
			return false, s.explain(errors.New("it ended at once"))
		default:
		}
		text, err := os.ReadFile(file)
		s.addr = strings.TrimSpace(string(text))
		return err == nil, nil
	})
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// kill ends the process without a warning.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	s.stop()
}

// cpu is the time that the process has spent, as a user and in the kernel, by its
// clock (clock_getcpuclockid(3)), which is finer than the ticks in /proc.
func (s *server) cpu() (time.Duration, error) {
	const ofAllThreads = 2
	clock := ^s.cmd.Process.Pid<<3 | ofAllThreads
	var t syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		return 0, fmt.Errorf("the CPU time of %s: %w", s.name, errno)
	}
	return time.Duration(t.Nano()), nil
}

// spends says how much CPU time the server spends while f runs.
func (s *server) spends(f func() error) (time.Duration, error) {
	before, err := s.cpu()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := s.cpu()
	return after - before, err
}

// explain adds the server's name and log to an error.
func (s *server) explain(err error) error {
	if err == nil {
		return nil
	}
	said, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return fmt.Errorf("%s: %w; its log: %q", s.name, err, said)
}

// resident is the resident memory of the process in bytes.
func (s *server) resident() (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	return pages * os.Getpagesize(), err
}

// most is the largest resident memory while f runs: garbage that waits to be
// collected makes it go up and down.
func (s *server) most(f func() error) (bytes int, err error) {
	done := make(chan struct{})
	peak := make(chan int)
	go func() {
		seen := 0
		ticks := time.NewTicker(20 * time.Millisecond)
		defer ticks.Stop()
		for {
			select {
			case <-ticks.C:
				if now, err := s.resident(); err == nil {
					seen = max(seen, now)
				}
			case <-done:
				peak <- seen
				return
			}
		}
	}()
	err = f()
	close(done)
	return <-peak, err
}

// settled waits until the resident memory stays within 1 % for a second, for at
// most limit.
func (s *server) settled(limit time.Duration) (int, error) {
	now, err := s.resident()
	for end, same := time.Now().Add(limit), 0; err == nil && same < 4 && time.Now().Before(end); {
		time.Sleep(250 * time.Millisecond)
		before := now
		now, err = s.resident()
		if max(now, before)-min(now, before) < before/100 {
			same++
		} else {
			same = 0
		}
	}
	return now, err
}

func startRedis(ctx context.Context, dir string) (addr string, stop func(), err error) {
	addr = freeAddr()
	_, port, _ := net.SplitHostPort(addr)
	stop, err = startBroker(ctx, addr, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir,
		"--client-output-buffer-limit", "pubsub 0 0 0") // what is lost, a server has lost
	return addr, stop, err
}

func startMosquitto(ctx context.Context, dir string) (addr string, stop func(), err error) {
	addr = freeAddr()
	host, port, _ := net.SplitHostPort(addr)
	file := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, "listener %s %s\nallow_anonymous true\nmax_queued_messages 0\n", port, host), 0o600); err != nil {
		return "", nil, err
	}
	stop, err = startBroker(ctx, addr, "mosquitto", "-c", file)
	return addr, stop, err
}

func startBroker(ctx context.Context, addr, name string, args ...string) (stop func(), err error) {
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			return nil, fmt.Errorf("%s is not installed: it is the broker that is measured with. Debian and Ubuntu: apt install %s", name, name)
		}
	}
	cmd := exec.Command(path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	err = until(ctx, 10*time.Second, name, func() (bool, error) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil, nil
	})
	if err != nil {
		stop()
	}
	return stop, err
}

// until polls a condition of another process.
func until(ctx context.Context, limit time.Duration, what string, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waited %v for %s", limit, what)
		}
	}
}

func freeAddr() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer ln.Close()
	return ln.Addr().String()
}

func sockaddr(addr string) (syscall.Sockaddr, error) {
	tcp, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return nil, err
	}
	return &syscall.SockaddrInet4{Port: tcp.Port, Addr: [4]byte(tcp.IP.To4())}, nil
}
