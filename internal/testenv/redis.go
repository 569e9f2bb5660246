package testenv

import (
	"bufio"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Server is a real Redis server.
type Server struct{ *Process }

// Redis starts a private redis-server that keeps nothing: everything is gone
// after Stop. Further arguments are options of redis-server, such as
// "--requirepass", "secret".
func Redis(tb testing.TB, options ...string) *Server {
	tb.Helper()
	port := FreePort(tb)
	args := append([]string{
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1",
		"--save", "", "--appendonly", "no", "--dir", tb.TempDir(),
	}, options...)
	s := &Server{StartProcess(tb, loopback(port), "redis-server", args...)}
	s.waitForPong(tb)
	return s
}

// URL is where Redis clients find the server.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Start starts the server, unless it runs, and waits until it answers.
func (s *Server) Start(tb testing.TB) {
	tb.Helper()
	s.Process.Start(tb)
	s.waitForPong(tb)
}

// waitForPong waits until the server answers a PING: it accepts connections a
// little earlier. One that asks for a password answers too.
func (s *Server) waitForPong(tb testing.TB) {
	tb.Helper()
	deadline := time.Now().Add(startWithin)
	for {
		answer, err := ping(s.Addr(), deadline)
		if err == nil && (strings.HasPrefix(answer, "+PONG") || strings.HasPrefix(answer, "-NOAUTH")) {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("redis-server on %s does not answer PING after %v: %q, %v", s.Addr(), startWithin, answer, err)
		}
	}
}

func ping(addr string, deadline time.Time) (answer string, err error) {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(deadline)
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}
