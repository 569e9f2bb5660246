// Package server is the gateway's HTTP side: one handler with every door.
//
//	/graphql             POST, GET (no mutations), each as JSON or as server-sent
//	                     events; WebSocket, both subprotocols
//	/graphiql            an IDE page that speaks graphql-transport-ws
//	/playground          an IDE page that speaks the legacy graphql-ws
//	/echo …              practice servers; a WebSocket on / is an echo server, too
//	/lab/<id>/…          the practice servers of a lab session, and /graphql, watched
//	/healthz  /readyz    alive (looks at nothing else); ready (brokers, not draining)
//	/                    what this is
//
// Who asks /graphql for text/event-stream gets server-sent events in the
// "distinct connections mode" of graphql-sse: a subscription runs in the same
// engine and under the same limits as over a WebSocket, one to a response, so an
// EventSource and curl can follow it.
//
// Every door but the two health checks is behind Access. Drain and Shutdown end
// the sockets, which http.Server does not know any more once they are upgraded,
// and the event streams.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/99designs/gqlgen/graphql/handler/extension"
	"github.com/gorilla/websocket"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/graph"
	"github.com/sluice-gateway/sluice/graph/generated"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/labs"
	"github.com/sluice-gateway/sluice/labs/course"
	"github.com/sluice-gateway/sluice/labs/mock"
	"github.com/sluice-gateway/sluice/labs/sessions"
	"github.com/sluice-gateway/sluice/lessons/content"
	"github.com/sluice-gateway/sluice/server/gqlws"
)

// Config is what a Server needs.
type Config struct {
	Logger        *slog.Logger
	Resolver      *graph.Resolver
	Access        *Access
	Limits        Limits
	Proxies       []netip.Prefix // whose X-Forwarded-For is believed
	Upstreams     func() int     // how many topics brokers send; nil: not known
	Introspection bool
	Load          bool         // whether there are load servers
	Pages         http.Handler // the site and the IDE pages; nil: none
	// MQTT leads clients of MQTT over WebSocket to the broker (see mqttws.Config):
	// those of a lab session, by its public name, or those of none. refused counts
	// refusals. nil: they may not come.
	MQTT func(lab string, refused func(code string)) func(context.Context, net.Conn) error
}

// Limits bound what comes in over HTTP and over GraphQL.
type Limits struct {
	HeaderBytes int           // of a request's first line and headers
	HeaderWait  time.Duration // for them
	Idle        time.Duration // of a connection, between two requests
	BodyBytes   int64         // of a POST
	BodyWait    time.Duration // for a POST's body
	Document    DocumentLimits
	WebSocket   gqlws.Config // its limits alone
	EchoBytes   int64        // of a message to the echo server [1 MiB]

	LabBytes                           int64         // of a message to a lab session [128 KiB]
	LabConnections, LabRate            int           // of one lab session [4, 100 messages a second]
	LabLife                            time.Duration // of one that is not used [30 min]
	LabSessions, LabSessionsPerAddress int           // at once [500, 20]

	Connections           int // open streams of all clients: WebSockets and SSE
	ConnectionsPerAddress int // of one address; loopback is exempt
	PublishPerSecond      int // mutations of one address
	PublishBurst          int
}

// Server is the gateway's HTTP side. Make it with New.
type Server struct {
	mux       *http.ServeMux
	all       http.Handler // mux, bounded
	graphql   http.Handler
	access    *Access
	clients   *clients
	sockets   *gqlws.Transport
	public    *sessions.Servers // for those who practise without a session
	labs      *sessions.Sessions
	states    *bridges.States
	upstreams func() int
	started   time.Time
	limits    Limits
	logger    *slog.Logger
	refusals  refusals
}

// New makes a Server, or says what is wrong with the schema. Its sockets' workers run until Shutdown.
func New(cfg Config) (*Server, error) {
	schema := generated.NewExecutableSchema(generated.Config{Resolvers: cfg.Resolver})
	if err := gqlws.CheckSchema(schema.Schema()); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	s := &Server{
		mux: http.NewServeMux(), access: cfg.Access, clients: newClients(cfg.Limits, cfg.Proxies),
		states: cfg.Resolver.States, upstreams: cfg.Upstreams, started: time.Now(), limits: cfg.Limits, logger: cfg.Logger,
	}
	if s.upstreams == nil {
		s.upstreams = func() int { return 0 }
	}
	ws := cfg.Limits.WebSocket
	ws.Logger, ws.CheckOrigin = cfg.Logger, cfg.Access.AllowOrigin
	ws.Admit, ws.Refused = s.clients.admit, s.refusals.add
	ws.Context, ws.Scope, ws.Init, ws.Join = onlyClient, ofLab, meet, present(cfg.Resolver.Rooms)
	s.sockets = gqlws.New(ws)
	s.graphql = s.clients.identify(s.newGraphQL(cfg, schema))

	if err := s.newLabs(cfg); err != nil {
		return nil, err
	}

	s.mux.HandleFunc("GET /healthz", s.healthz)
	s.mux.HandleFunc("GET /readyz", s.readyz)
	s.mux.Handle("/graphql", s.access.guard(s.graphql, s.refusals.add))
	for _, name := range s.public.Names() {
		s.mux.Handle("/"+name, s.practice(s.public))
	}
	s.mux.Handle("/mock/", s.practice(s.public)) // its scripts have paths
	s.mux.Handle(sessions.Path, s.access.guardHost(s.clients.identify(s.labs), s.refusals.add))
	echo, pages := s.practice(s.public.Echo), http.NotFoundHandler()
	if cfg.Pages != nil {
		pages = s.access.guard(steadily(s.sockets.Config().WriteDeadline, cfg.Pages), s.refusals.add)
	}
	s.mux.Handle("/", pages)
	s.mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		if websocket.IsWebSocketUpgrade(r) {
			echo.ServeHTTP(w, r)
			return
		}
		pages.ServeHTTP(w, r)
	})
	s.all = s.bounded(s.mux)
	return s, nil
}

// echoOnLoopback is how large a message a client on this machine may ask the
// echo server to take.
const echoOnLoopback = 16 << 20

// newLabs makes the practice servers: those for everybody, and the sessions.
func (s *Server) newLabs(cfg Config) error {
	scripts, err := lessonScripts()
	if err != nil {
		return err
	}
	ws := s.sockets.Config()
	door := labs.DoorConfig{
		PingEvery: ws.PingEvery, PongWithin: ws.PongWithin, WriteDeadline: ws.WriteDeadline,
		CheckOrigin: cfg.Access.AllowOrigin, Admit: s.clients.admit, Refused: s.refusals.add,
	}
	mqtt := func(string) func(context.Context, net.Conn) error { return nil }
	if cfg.MQTT != nil {
		mqtt = func(lab string) func(context.Context, net.Conn) error { return cfg.MQTT(lab, s.refusals.add) }
	}
	public := sessions.Env{Door: door, Scripts: scripts, Vars: course.Vars(rand.Uint64()), Load: cfg.Load, MQTT: mqtt("")} //nolint:gosec // exercises, not secrets
	public.Door.MessageBytes = cfg.Limits.EchoBytes
	if cfg.Access.loopback {
		public.MaxMessageBytes = echoOnLoopback
	}
	s.public = sessions.NewServers(public)
	door.MessageBytes = cfg.Limits.LabBytes
	s.labs = sessions.New(sessions.Config{
		Door: door, Connections: cfg.Limits.LabConnections, Rate: cfg.Limits.LabRate, Life: cfg.Limits.LabLife,
		Sessions: cfg.Limits.LabSessions, PerAddress: cfg.Limits.LabSessionsPerAddress,
		Doors: map[string]http.Handler{"graphql": inLab(s.graphql)},
		Posts: map[string]http.Handler{"probe": s.takeProbe(cfg.Resolver.Classroom)},
		MQTT:  mqtt, Scripts: scripts, Load: cfg.Load, Public: s.public, PublicOpen: cfg.Access.loopback,
		Cursor: func(one *sessions.Session, p live.Position) string {
			return cfg.Resolver.Cursors.Seal(graph.LabTopic(one.ID), p)
		},
		HTTPServer: func(h http.Handler) *http.Server { return s.HTTPServer(s.bounded(h)) },
	})
	cfg.Resolver.Labs, cfg.Resolver.Practice = s.labs, func() []string { return slices.Clone(s.public.Names()) }
	return nil
}

// lessonScripts reads what the lessons' servers do.
func lessonScripts() (scripts []*mock.Script, err error) {
	for slug, text := range content.ServerScripts() {
		script, err := mock.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("server: lessons/content/%s/server.yaml: %w", slug, err)
		}
		scripts = append(scripts, script)
	}
	return scripts, nil
}

// practice puts what stands before a practice server without a session.
func (s *Server) practice(h http.Handler) http.Handler {
	return s.access.guard(s.clients.identify(h), s.refusals.add)
}

// Practice is one server alone, on every path: one of the course's ports. It is
// "graphql" or the name of a practice server; nil: there is none by that name.
func (s *Server) Practice(name string) http.Handler {
	h := s.public.Named(name)
	if name == "graphql" {
		h = s.graphql
	}
	if h == nil {
		return nil
	}
	return s.bounded(s.practice(h))
}

// bounded is what stands before every door.
func (s *Server) bounded(next http.Handler) http.Handler {
	next = limitHeaders(s.limits.HeaderBytes, s.refusals.add, closeChunked(next))
	return withDeadlines(s.limits.BodyWait, s.sockets.Config().WriteDeadline, next)
}

func (s *Server) newGraphQL(cfg Config, schema graphql.ExecutableSchema) http.Handler {
	h := handler.New(schema)
	h.AddTransport(s.sockets)
	h.AddTransport(overHTTP{bodyBytes: cfg.Limits.BodyBytes, bodyWait: cfg.Limits.BodyWait, engine: s.sockets})
	h.SetQueryCache(newDocumentCache[*ast.QueryDocument](documentBytes))
	h.SetParserTokenLimit(cfg.Limits.Document.Tokens)
	h.SetErrorPresenter(graph.Present(cfg.Logger, s.refusals.add))
	h.SetRecoverFunc(graph.Recover)
	h.Use(newDocumentGuard(cfg.Limits.Document, s.sockets.Config().PayloadBytes, s.refusals.add))
	h.Use(publishing{s.clients})
	if cfg.Introspection {
		h.Use(extension.Introspection{})
	}
	return h
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.all.ServeHTTP(w, r) }

// Drain makes the gateway unready, then tells its sockets and streams to leave,
// as gqlws.Transport.Drain does. Requests are answered as before.
func (s *Server) Drain(ctx context.Context) { s.sockets.Drain(ctx) }

// Shutdown drains the gateway, unless that has been done, and waits for its
// sockets and streams, as gqlws.Transport.Shutdown does. The practice servers'
// sockets are told to leave now, and the lab sessions end.
func (s *Server) Shutdown(ctx context.Context) error {
	practice := make(chan error, 1)
	go func() {
		var ending sync.WaitGroup
		ending.Go(func() { s.labs.Shutdown(ctx) })
		err := s.public.Shutdown(ctx)
		ending.Wait()
		practice <- err
	}()
	return errors.Join(s.sockets.Shutdown(ctx), <-practice)
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// readyz says whether this instance should get traffic, and why not.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	status, code := "ready", http.StatusOK
	brokers := make(map[string]bridges.State)
	for _, b := range s.states.List() {
		brokers[b.Name] = b.State
		if b.State != bridges.Connected {
			status, code = "a broker is away", http.StatusServiceUnavailable
		}
	}
	if s.sockets.Draining() {
		status, code = "draining", http.StatusServiceUnavailable
	}
	writeJSON(w, code, map[string]any{"status": status, "bridges": brokers})
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}
