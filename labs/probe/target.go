package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// target is a server whose addresses have been looked at: all are loopback. They
// are dialled as they are, so the name cannot come to mean another machine.
type target struct {
	url       *url.URL
	addresses []netip.AddrPort
}

// defaultPorts are those of the two schemes.
var defaultPorts = map[string]string{"ws": "80", "http": "80"}

// find resolves the host of a URL and refuses what is not on this machine.
func find(ctx context.Context, scheme, raw string) (target, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != scheme || u.Hostname() == "" || u.User != nil || u.Fragment != "" || len(raw) > maxURL {
		return target{}, fmt.Errorf("%q is not a URL of the form %s://127.0.0.1:8080/path, without a user or a fragment and of at most %d bytes", raw, scheme, maxURL)
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), defaultPorts[scheme]), 10, 16)
	if err != nil || port == 0 {
		return target{}, fmt.Errorf("%q: port %s is not a number from 1 to 65535", raw, u.Port())
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return target{}, fmt.Errorf("%q: the name %s has no address: %w", raw, u.Hostname(), err)
	}
	t := target{url: u}
	for _, addr := range found {
		if addr = addr.Unmap(); !addr.IsLoopback() {
			return target{}, fmt.Errorf("%q is not on this machine: %s is %v. Only servers on loopback are tested, such as %s://127.0.0.1:8080", raw, u.Hostname(), addr, scheme)
		}
		t.addresses = append(t.addresses, netip.AddrPortFrom(addr, uint16(port)))
	}
	return t, nil
}

// dial connects to the first address that answers.
func (t target) dial(ctx context.Context) (*net.TCPConn, error) {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	var errs error
	for _, addr := range t.addresses {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr.String())
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		errs = errors.Join(errs, err)
	}
	return nil, errs
}

// dialContext is dial for an http.Transport, which knows the name only.
func (t target) dialContext(ctx context.Context, _, _ string) (net.Conn, error) { return t.dial(ctx) }

// path is what the request line asks for.
func (t target) path() string { return t.url.RequestURI() }

// short cuts a text to n bytes, at the end of a character, and makes it one line.
func short(s string, n int) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " ")
	if len(s) <= n {
		return s
	}
	const mark = "…"
	return strings.ToValidUTF8(s[:n-len(mark)], "") + mark
}
