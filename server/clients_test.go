package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func request(peer string, forwarded ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = peer
	for _, f := range forwarded {
		r.Header.Add("X-Forwarded-For", f)
	}
	return r
}

func TestAddressBehindProxies(t *testing.T) {
	c := newClients(Limits{}, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")})
	tests := []struct {
		name string
		r    *http.Request
		want string
	}{
		{"no proxy", request("203.0.113.7:1234"), "203.0.113.7"},
		{"an untrusted peer's header is ignored", request("203.0.113.7:1", "198.51.100.1"), "203.0.113.7"},
		{"one proxy", request("10.0.0.1:1", "203.0.113.7"), "203.0.113.7"},
		{"two proxies", request("10.0.0.1:1", "203.0.113.7, 10.0.0.2"), "203.0.113.7"},
		{"two headers", request("10.0.0.1:1", "203.0.113.7", "10.0.0.2"), "203.0.113.7"},
		{"what the client wrote before is ignored", request("10.0.0.1:1", "127.0.0.1, 203.0.113.7"), "203.0.113.7"},
		{"nonsense stands for the proxy", request("10.0.0.1:1", "unknown"), "10.0.0.1"},
		{"no header", request("10.0.0.1:1"), "10.0.0.1"},
		{"IPv6 is counted by its network", request("[fd00::1]:1", "2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::"},
		{"IPv6 loopback", request("[::1]:1"), "::1"},
		{"IPv6 on the link", request("[fe80::7%eth0]:1"), "fe80::7%eth0"},
		{"private IPv6", request("[fc00::7]:1"), "fc00::7"},
		{"IPv4 in IPv6", request("[::ffff:203.0.113.7]:1"), "203.0.113.7"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := c.address(test.r); got.String() != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// admitted asks for a place as the client of an address.
func admitted(c *clients, addr string) (release func(), ok bool) {
	var r *http.Request
	c.identify(http.HandlerFunc(func(_ http.ResponseWriter, identified *http.Request) { r = identified })).
		ServeHTTP(nil, request(addr+":1"))
	release, refusal := c.admit(r)
	return release, refusal == ""
}

func TestConnectionsPerAddressAndInAll(t *testing.T) {
	c := newClients(Limits{Connections: 5, ConnectionsPerAddress: 2}, nil)
	first, ok1 := admitted(c, "203.0.113.1")
	_, ok2 := admitted(c, "203.0.113.1")
	if _, ok3 := admitted(c, "203.0.113.1"); !ok1 || !ok2 || ok3 {
		t.Errorf("two of an address, and not three: %t %t %t", ok1, ok2, ok3)
	}
	first()
	if _, ok := admitted(c, "203.0.113.1"); !ok {
		t.Error("a place that was given back is not free")
	}
	for i := range 3 { // loopback may have more than two
		if _, ok := admitted(c, "127.0.0.1"); !ok {
			t.Errorf("loopback was refused its stream %d", i+1)
		}
	}
	if _, ok := admitted(c, "203.0.113.2"); ok {
		t.Error("five streams in all, and not six")
	}
}

func TestPublishRateOfAnAddress(t *testing.T) {
	g := start(t, func(cfg *Config) { cfg.Limits.PublishPerSecond, cfg.Limits.PublishBurst = 1, 3 })
	const two = `mutation { a: createRoom { id } b: createRoom { id } }`
	const one = `mutation { createRoom { id } }`
	for i, document := range []string{two, one} {
		if body := g.query(t, document, nil); strings.Contains(body, "errors") {
			t.Errorf("at the bound, %d: %s", i, body)
		}
	}
	if body := g.query(t, one, nil); !strings.Contains(body, `"code":"RATE_LIMITED"`) {
		t.Errorf("past the bound: %s", body)
	}
	if body := g.query(t, `{ hello }`, nil); strings.Contains(body, "errors") {
		t.Errorf("a query is no publication: %s", body)
	}
}

// Rooms are for people: half as many messages as other mutations.
func TestMessageToARoomCountsTwice(t *testing.T) {
	g := start(t, func(cfg *Config) { cfg.Limits.PublishPerSecond, cfg.Limits.PublishBurst = 1, 4 })
	const message = `mutation { sendMessage(input: { content: "hi" }) { id } }`
	for range 2 {
		if body := g.query(t, message, nil); strings.Contains(body, "errors") {
			t.Errorf("at the bound: %s", body)
		}
	}
	if body := g.query(t, message, nil); !strings.Contains(body, `"code":"RATE_LIMITED"`) {
		t.Errorf("past the bound: %s", body)
	}
}

func TestTooManyConnectionsIsSaidBeforeTheUpgrade(t *testing.T) {
	g := start(t, func(cfg *Config) { cfg.Limits.Connections = 1 })
	g.socket(t)
	status, body, header := g.do(t, "GET", "/graphql", "", "Connection", "Upgrade", "Upgrade", "websocket",
		"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol", "graphql-transport-ws")
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || !strings.Contains(body, "1 open connections") || !strings.Contains(body, "TOO_MANY_CONNECTIONS") {
		t.Errorf("got %d %v %s", status, header, body)
	}
	g.counted(t, map[string]uint64{"TOO_MANY_CONNECTIONS": 1})
	if status, _, _ := g.do(t, "GET", "/graphql?query=subscription%7BtimeUpdates%7D", "", "Accept", asEvents); status != http.StatusServiceUnavailable {
		t.Errorf("an event stream is answered %d", status)
	}
	g.counted(t, map[string]uint64{"TOO_MANY_CONNECTIONS": 2})
}

func TestRefusalsAreCounted(t *testing.T) {
	g := start(t)
	g.query(t, `{ fail(code: "MINE") }`, nil)
	g.query(t, `{ fail(code: "MINE") }`, nil)
	g.do(t, "GET", "/graphql?query=%7Bhello%7D", "", "Origin", "https://evil.example")
	g.do(t, "GET", "/graphql?query=%7Bhello%7D", "", "Host", "evil.example")
	g.do(t, "PUT", "/graphql", "")
	s := g.socket(t)
	s.send(`{`)
	_, _, _ = s.ReadMessage()
	counts := g.Refusals()
	for code, want := range map[string]uint64{"MINE": 2, "ORIGIN_FORBIDDEN": 1, "HOST_FORBIDDEN": 1, "METHOD_NOT_ALLOWED": 1, "4400": 1} {
		if counts[code] != want {
			t.Errorf("%s: counted %d, want %d", code, counts[code], want)
		}
	}
	for i := range 300 { // a client makes up codes
		g.refusals.add(fmt.Sprint("MADE_UP_", i))
	}
	if n := len(g.Refusals()); n > maxCodes+1 {
		t.Errorf("%d codes are kept", n)
	}
}
