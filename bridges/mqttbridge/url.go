package mqttbridge

import (
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/sluice-gateway/sluice/bridges"
)

// defaultPorts are those of the accepted schemes.
var defaultPorts = map[string]string{
	"mqtt": "1883", "tcp": "1883",
	"mqtts": "8883", "ssl": "8883",
	"ws": "80", "wss": "443",
}

const acceptedURLs = "mqtt://[user:password@]host[:port] is accepted; instead of mqtt also tcp, mqtts, ssl, ws or wss"

// parseURL reads a broker's address and adds the port if there is none. Its
// errors show no part of the URL that might be a password.
func parseURL(s string) (*url.URL, error) {
	if s == "" {
		return nil, errors.New("no broker URL given: " + acceptedURLs)
	}
	u, err := url.Parse(s)
	if err != nil { // the error quotes the URL, which may hold a password
		return nil, errors.New("the broker URL cannot be read: " + acceptedURLs)
	}
	port, ok := defaultPorts[u.Scheme]
	if !ok {
		if u.Host == "" { // as in "host:1883"; what looks like a scheme may be a user name
			return nil, errors.New("the broker URL has no scheme that is known: " + acceptedURLs)
		}
		return nil, fmt.Errorf("the broker URL has the scheme %q: %s", u.Scheme, acceptedURLs)
	}
	if u.Hostname() == "" {
		return nil, errors.New("the broker URL names no host: " + acceptedURLs)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	if err := bridges.CheckAddress(u.Host); err != nil {
		return nil, fmt.Errorf("the broker URL names no address: %w; %s", err, acceptedURLs)
	}
	return u, nil
}
