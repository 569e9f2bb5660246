package redisclient

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

func TestURLs(t *testing.T) {
	for _, url := range []string{
		"redis://localhost", "redis://user:password@localhost:6379/0", "rediss://localhost:6380",
		"unix:///run/redis.sock", "redis://[::1]:6379",
	} {
		if _, err := Options(url, time.Second, 1); err != nil {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, url := range []string{
		"", "hunter2", "localhost:6379", "http://user:hunter2@localhost", "redis://user:hunter2@local host",
		"redis://:hunter2@host:port", "redis://user:hunter2@localhost/zero",
		"redis://user:hunter2@localhost?pass=hunter2", "unix://hunter2", "mqtt://user:hunter2@localhost",
	} {
		_, err := Options(url, time.Second, 1)
		if err == nil {
			t.Errorf("%q: no error", url)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: the error tells the password: %v", url, err)
		}
		if !strings.Contains(err.Error(), "redis://") || !strings.Contains(err.Error(), "unix://") {
			t.Errorf("%q: the error does not say what is accepted: %v", url, err)
		}
	}
}

func TestATLSDialEndsWithItsContext(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	opts, err := Options("rediss://"+silent.Addr().String(), time.Minute, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dialed := make(chan error, 1)
	go func() {
		conn, err := opts.Dialer(ctx, opts.Network, opts.Addr)
		if err == nil {
			conn.Close()
		}
		dialed <- err
	}()
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	if err := <-dialed; !errors.Is(err, context.Canceled) {
		t.Errorf("a dial whose context was canceled in the handshake ended with %v", err)
	}
}
