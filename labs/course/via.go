package course

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
	"github.com/sluice-gateway/sluice/labs"
)

// ViaConfig is what a Via needs.
type ViaConfig struct {
	labs.EchoConfig
	Silence time.Duration // after which …/idle cuts a connection [10 s]
}

// Via has an echo server behind three reverse proxies:
//
//	…/good    passes everything on
//	…/broken  takes the headers of the hop away, as proxies do that have not
//	          heard of WebSocket; the refusal is the echo server's own
//	…/idle    passes everything on, and cuts a connection on which nothing, not
//	          even a ping, has moved in either direction for ten seconds
//
// The proxies are net/http/httputil's, and HTTP/1.1 is spoken between them and
// the echo server, which knows the client's address and what the context of its
// request holds, and does not ping before a connection is cut.
type Via struct {
	cfg     ViaConfig
	gate    *gate
	echo    *labs.Echo
	network *network
	server  http.Server
	proxies map[string]*httputil.ReverseProxy
	open    sync.Once
	serving sync.WaitGroup
}

// NewVia makes a Via.
func NewVia(cfg ViaConfig) *Via {
	cfg.Silence = cmp.Or(cfg.Silence, 10*time.Second)
	cfg.PingEvery = max(cfg.PingEvery, 25*time.Second, 2*cfg.Silence)
	v := &Via{cfg: cfg, gate: newGate(), echo: labs.NewEcho(cfg.EchoConfig), network: newNetwork()}
	quiet := log.New(io.Discard, "", 0)
	v.server = http.Server{Handler: v.echo, ConnContext: connContext, ReadHeaderTimeout: 10 * time.Second, ErrorLog: quiet}
	transport := &http.Transport{DialContext: v.network.dial, DisableKeepAlives: true, DisableCompression: true}
	v.proxies = make(map[string]*httputil.ReverseProxy)
	for _, name := range []string{"good", "broken", "idle"} {
		pseudonym := "1.1 " + name
		v.proxies[name] = &httputil.ReverseProxy{
			Transport: transport, ErrorLog: quiet,
			Rewrite: func(r *httputil.ProxyRequest) {
				r.Out.URL.Scheme, r.Out.URL.Host = "http", "echo"
				r.SetXForwarded()
				r.Out.Header.Add("Via", pseudonym)
				if name == "broken" { // httputil has put them back
					for _, header := range stripped {
						r.Out.Header.Del(header)
					}
				}
			},
			ModifyResponse: func(r *http.Response) error {
				r.Header.Add("Via", pseudonym)
				return nil
			},
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
				refuse(w, nil, http.StatusBadGateway, "SHUTTING_DOWN", "The echo server is stopping: try again in a moment.") // or the client is gone
			},
		}
	}
	return v
}

// stripped are the headers of an opening handshake that belong to the hop.
var stripped = []string{"Connection", "Upgrade"}

// Stripped names the headers of an opening handshake that …/broken takes away
// (RFC 9110, section 7.6.1).
func (v *Via) Stripped() []string { return slices.Clone(stripped) }

// ServeHTTP implements http.Handler.
func (v *Via) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	proxy := v.proxies[name]
	if proxy == nil {
		http.NotFound(w, r)
		return
	}
	leave, ok := v.gate.enter(w, v.cfg.Refused)
	if !ok {
		return
	}
	defer leave()
	v.open.Do(func() {
		v.serving.Go(func() { _ = v.server.Serve(v.network) })
	})
	silence := time.Duration(0)
	if name == "idle" {
		silence = v.cfg.Silence
	}
	w = wire.WrapConn(w, func(conn net.Conn) net.Conn { return newDownstream(conn, silence) })
	proxy.ServeHTTP(w, passOn(r))
}

// Shutdown ends the sockets as labs.Echo does, and what is between.
func (v *Via) Shutdown(ctx context.Context) error {
	v.gate.close()
	err := errors.Join(v.echo.Shutdown(ctx), v.server.Close(), v.network.Close(), v.gate.wait(ctx))
	v.serving.Wait()
	return err
}

// downstream is a proxy's connection to the client.
type downstream struct {
	passing
	silence time.Duration // 0: the connection is not cut
	timer   *time.Timer
}

func newDownstream(conn net.Conn, silence time.Duration) *downstream {
	d := &downstream{passing: passing{conn}, silence: silence}
	if silence > 0 {
		d.timer = time.AfterFunc(silence, func() { _ = conn.Close() })
	}
	return d
}

func (d *downstream) moved(n int) {
	if n > 0 && d.silence > 0 {
		d.timer.Reset(d.silence)
	}
}

func (d *downstream) Read(b []byte) (int, error) {
	n, err := d.Conn.Read(b)
	d.moved(n)
	return n, err
}

func (d *downstream) Write(b []byte) (int, error) {
	n, err := d.Conn.Write(b)
	d.moved(n)
	return n, err
}

// CloseWrite passes the echo server's end on. The client's is not waited for long.
func (d *downstream) CloseWrite() error {
	_ = d.SetReadDeadline(time.Now().Add(time.Second))
	return d.passing.CloseWrite()
}

func (d *downstream) Close() error {
	if d.silence > 0 {
		d.timer.Stop()
	}
	return d.Conn.Close()
}
