package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// dialEcho opens a WebSocket, or says how that was answered.
func dialEcho(t *testing.T, g *gateway, path string, header http.Header) (*websocket.Conn, int) {
	t.Helper()
	conn, response, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(g.url, "http")+path, header)
	if response == nil {
		t.Fatal(err)
	}
	if err == nil {
		t.Cleanup(func() { conn.Close() })
	}
	return conn, response.StatusCode
}

func TestEchoIsBehindItsDoors(t *testing.T) {
	g := start(t, func(cfg *Config) {
		cfg.Limits.EchoBytes = 100
		cfg.Pages = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("the site")) })
	})
	for _, path := range []string{"/echo", "/", "/echo?limit=16777216"} {
		conn, status := dialEcho(t, g, path, http.Header{"Origin": {"http://localhost:5173"}})
		if status != http.StatusSwitchingProtocols {
			t.Fatalf("%s answered %d", path, status)
		}
		if err := conn.WriteMessage(websocket.TextMessage, []byte("Hello")); err != nil {
			t.Fatal(err)
		}
		if _, echoed, err := conn.ReadMessage(); err != nil || string(echoed) != "Hello" {
			t.Errorf("%s sent back %q, %v", path, echoed, err)
		}
		message := make([]byte, 101)
		if err := conn.WriteMessage(websocket.BinaryMessage, message); err != nil {
			t.Fatal(err)
		}
		if _, echoed, err := conn.ReadMessage(); websocket.IsCloseError(err, 1009) == strings.Contains(path, "limit") {
			t.Errorf("%s sent back %d bytes, %v", path, len(echoed), err)
		}
	}
	if g.Refusals()["1009"] != 2 {
		t.Errorf("counted %v", g.Refusals())
	}
	if status, body, _ := g.do(t, http.MethodGet, "/", ""); status != http.StatusOK || body != "the site" {
		t.Errorf("a plain request was answered %d %q", status, body)
	}
	if status, body, _ := g.do(t, http.MethodGet, "/echo", ""); status != http.StatusBadRequest || !strings.Contains(body, "HANDSHAKE_INVALID") {
		t.Errorf("a plain request of /echo was answered %d %q", status, body)
	}
}

func TestEchoIsUnderTheGatewaysRules(t *testing.T) {
	g := start(t, func(cfg *Config) { cfg.Limits.Connections = 1 })
	for _, path := range []string{"/echo", "/"} {
		if _, status := dialEcho(t, g, path, http.Header{"Origin": {"https://other.example"}}); status != http.StatusForbidden {
			t.Errorf("%s answered a page of another site with %d", path, status)
		}
		if _, status := dialEcho(t, g, path, http.Header{"Host": {"rebound.example"}}); status != http.StatusForbidden {
			t.Errorf("%s answered to another name with %d", path, status)
		}
	}
	conn, _ := dialEcho(t, g, "/echo", nil)
	if _, status := dialEcho(t, g, "/echo", nil); status != http.StatusServiceUnavailable {
		t.Errorf("one too many was answered %d", status)
	}
	counted := g.Refusals()
	if counted["ORIGIN_FORBIDDEN"] != 2 || counted["HOST_FORBIDDEN"] != 2 || counted["TOO_MANY_CONNECTIONS"] != 1 {
		t.Errorf("counted %v", counted)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- g.stop() }()
	if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, 1012) {
		t.Errorf("at the end of the gateway got %v", err)
	}
	conn.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
