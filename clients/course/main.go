// Command course serves what the lessons use beside the echo server, on a free
// port of loopback, to the tests of real clients. It prints one line of JSON with
// its address and the values that its scripts give away, and ends with its
// standard input.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/sluice-gateway/sluice/labs"
	"github.com/sluice-gateway/sluice/labs/course"
	"github.com/sluice-gateway/sluice/labs/mock"
	"github.com/sluice-gateway/sluice/lessons/content"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	cfg := course.Config{Vars: course.Vars(1)}
	for slug, text := range content.ServerScripts() {
		script, err := mock.Parse(text)
		if err != nil {
			return fmt.Errorf("%s: %w", slug, err)
		}
		cfg.Scripts = append(cfg.Scripts, script)
	}
	servers := course.New(cfg)
	deflate := labs.NewEcho(labs.EchoConfig{Deflate: true})
	mux := http.NewServeMux()
	for _, path := range servers.Paths() {
		mux.Handle(path, servers)
	}
	mux.Handle("/deflate", deflate)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<!doctype html><title>A page of the same origin</title>")
	})
	web := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: mux}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		_ = servers.Shutdown(ctx)
		_ = deflate.Shutdown(ctx)
		_ = web.Close()
	}()
	err = json.NewEncoder(os.Stdout).Encode(struct {
		Addr string            `json:"addr"`
		Vars map[string]string `json:"vars"`
	}{listener.Addr().String(), cfg.Vars})
	if err == nil {
		err = web.Serve(listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
