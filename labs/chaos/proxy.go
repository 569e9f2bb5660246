package chaos

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// NewProxy makes a server that passes each connection on to upstream, a ws://
// or wss:// URL, which it dials anew for each. The opening handshake passes with
// its headers, subprotocols, path and query; a request for "/" goes to the path
// of upstream. Host becomes upstream's, and extensions are not offered to it:
// faults look into frames. What is no WebSocket passes untouched. cfg.Door is
// not used. It begins with the faults of Default. An error is an *InvalidError.
func NewProxy(cfg Config, upstream string) (*Server, error) {
	target, err := url.Parse(upstream)
	if err != nil || target.Host == "" || target.Scheme != "ws" && target.Scheme != "wss" {
		return nil, &InvalidError{"upstream", fmt.Sprintf("%q", upstream), "a WebSocket URL such as ws://127.0.0.1:8080/graphql"}
	}
	s := newServer(cfg)
	transport := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, Protocols: new(http.Protocols),
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second,
	}
	transport.Protocols.SetHTTP1(true)
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme = map[string]string{"ws": "http", "wss": "https"}[target.Scheme]
			r.Out.URL.Host, r.Out.Host = target.Host, ""
			if r.In.URL.Path == "/" {
				r.Out.URL.Path, r.Out.URL.RawPath = target.Path, target.RawPath
			}
			r.Out.URL.RawQuery = r.In.URL.RawQuery // also what Go would not parse
			for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if values, ok := r.In.Header[name]; ok { // the library left them out
					r.Out.Header[name] = values
				}
			}
			r.Out.Header.Del("Sec-WebSocket-Extensions")
		},
		ErrorLog: log.New(io.Discard, "", 0), // the client is told
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, fmt.Sprintf("%s could not be reached: %v.", upstream, err), http.StatusBadGateway)
		},
	}
	s.serve = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.stopping() {
			w.Header().Set("Retry-After", "5")
			http.Error(w, "The proxy is stopping: try again in a moment. (SHUTTING_DOWN)", http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(wire.WrapConn(w, s.wrap), r)
	})
	return s, nil
}

func (s *Server) stopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}
