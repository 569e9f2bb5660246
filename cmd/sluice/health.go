package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// healthCommand is what a container runs to find out whether the gateway in it
// lives: it asks /healthz, which looks at no broker, since a broker's outage is
// no reason to start the gateway anew.
type healthCommand struct {
	Addr string `help:"The gateway's own --addr." default:"127.0.0.1:8080" env:"SLUICE_ADDR" placeholder:"ADDR"`
}

// healthWithin is how long the gateway may take to answer.
const healthWithin = 3 * time.Second

// Help is what --help says besides the flags.
func (*healthCommand) Help() string {
	return `It asks /healthz, which looks at no broker, since a broker's outage is no reason to start the gateway anew. Exit status: 0 when the answer is ok, else 1.

Example: sluice health --addr 127.0.0.1:8080`
}

func (c *healthCommand) run(ctx context.Context, stdout, _ io.Writer) error {
	addr, err := fromInside(c.Addr)
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, healthWithin)
	defer stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("--addr %q: %w", c.Addr, err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy
	response, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("the gateway does not answer: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the gateway answers %s", response.Status)
	}
	_, err = fmt.Fprintln(stdout, "ok")
	return err
}

// fromInside is where a program on the same machine finds one that listens on addr.
func fromInside(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("--addr %q is not of the form host:port, such as 127.0.0.1:8080", addr)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}
