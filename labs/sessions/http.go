package sessions

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// Path is where a session is served: Path + id + "/echo", and so on.
const Path = "/lab/"

type sessionKey struct{}

// From returns the session whose door a request came through; nil: none.
func From(ctx context.Context) *Session {
	one, _ := ctx.Value(sessionKey{}).(*Session)
	return one
}

// With returns a context of that session.
func With(ctx context.Context, one *Session) context.Context {
	return context.WithValue(ctx, sessionKey{}, one)
}

// ServeHTTP serves what is below Path.
func (s *Sessions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, Path), "/")
	one, err := s.Find(id)
	if err != nil {
		s.refuse(w, http.StatusNotFound, CodeUnknown, "There is no such lab session, or it has ended: start one with startLab.")
		return
	}
	one.serve(w, r, "/"+path)
}

func (s *Sessions) refuse(w http.ResponseWriter, status int, code, message string) {
	if s.cfg.Door.Refused != nil {
		s.cfg.Door.Refused(code)
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "5")
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, "%s (%s)\n", message, code)
}

// serve gives a request to the session's servers, below the tap.
func (one *Session) serve(w http.ResponseWriter, r *http.Request, path string) {
	below := r.Clone(With(r.Context(), one))
	below.URL.Path, below.URL.RawPath = path, ""
	w.Header().Set("Referrer-Policy", "no-referrer") // the id is in the address
	if origin := r.Header.Get("Origin"); origin != "" {
		w.Header().Set("Access-Control-Allow-Origin", origin) // never with credentials
		w.Header().Add("Vary", "Origin")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
			w.Header().Set("Access-Control-Allow-Headers", "Content-Type, Accept, Authorization, Last-Event-ID")
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	one.handler.ServeHTTP(w, below)
}

// dispatch is what the tap is before.
func (one *Session) dispatch(w http.ResponseWriter, r *http.Request) {
	leave, refusal := one.enter(websocket.IsWebSocketUpgrade(r))
	if refusal != "" {
		one.of.refuse(w, http.StatusServiceUnavailable, "TOO_MANY_CONNECTIONS", refusal)
		return
	}
	stays := false
	defer func() {
		if !stays {
			leave()
		}
	}()
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	door := one.of.cfg.Doors[name]
	if door == nil {
		door = one.of.cfg.Posts[name]
	}
	if door != nil {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(one.ctx, cancel)()
		r = r.WithContext(ctx)
		r.URL.Path = "/" + rest
		r.Header = r.Header.Clone()
		r.Header.Del("Origin") // who knows the id is let in
		door.ServeHTTP(wire.WrapConn(w, func(conn net.Conn) net.Conn {
			stays = true // the handler may return before the connection ends
			return &placed{conn, sync.OnceFunc(leave)}
		}), r)
		return
	}
	if r.URL.Path == "/" && !websocket.IsWebSocketUpgrade(r) {
		one.about(w)
		return
	}
	one.Servers.ServeHTTP(w, r)
}

// placed is a connection that gives its place back when it is closed.
type placed struct {
	net.Conn
	leave func()
}

func (p *placed) Close() error {
	defer p.leave()
	return p.Conn.Close()
}

// CloseWrite is for sockets that wait for the client's last word.
func (p *placed) CloseWrite() error { return wire.CloseWrite(p.Conn) }

// plainRequests is how many requests other than WebSockets a session may have
// under way, for each WebSocket.
const plainRequests = 4

// enter takes a place for a connection, or says which limit stands against it.
func (one *Session) enter(upgrade bool) (leave func(), refusal string) {
	one.mu.Lock()
	defer one.mu.Unlock()
	count, limit := &one.open, one.connections
	if !upgrade {
		count, limit = &one.plain, limit*plainRequests
	}
	if *count >= limit {
		return nil, fmt.Sprintf("This lab session has %d open connections, which is the most it may have (limit lab-connections): close one.", *count)
	}
	*count++
	one.used = time.Now()
	return func() {
		one.mu.Lock()
		defer one.mu.Unlock()
		*count--
		one.used = time.Now()
	}, ""
}

// about says what is here.
func (one *Session) about(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"name": one.Name, "lesson": one.Lesson, "nonce": one.Nonce,
		"expires": one.Expires().UTC().Format(time.RFC3339), "servers": one.Doors(),
	})
}
