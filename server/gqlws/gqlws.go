// Package gqlws is a gqlgen transport for GraphQL over WebSocket on
// gorilla/websocket. It speaks both subprotocols:
//
//   - graphql-transport-ws, the protocol of the npm package graphql-ws
//     (https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md)
//   - graphql-ws, the older protocol of subscriptions-transport-ws
//     (https://github.com/apollographql/subscriptions-transport-ws/blob/master/PROTOCOL.md)
//
// It knows no schema: any gqlgen server can add it with AddTransport.
//
// The way of an event:
//
//	source ─> live.Sub ─> run queue ─> worker: gqlgen executes, bytes
//	       ─> group: all subscribers of the same operation
//	       ─> each socket: a write of what it takes at once; the rest waits in
//	          its outbox (bounded) ─> flush: many frames, one write
//
// # Ordering
//
// The responses of one operation leave in the order of its events. A complete
// or error is the last frame of its id; after a client's complete not even
// queued frames of that id are sent.
//
// # Goroutines
//
// A socket has one goroutine that reads it, one for the message that is being
// handled, and one that writes while there is something to write. An operation has one while it opens; a query or mutation
// keeps it until it is answered. A subscription whose resolver returned
// live.Stream has none after that: a few workers, shared by all sockets, run
// the operations that have been woken, once for all subscribers of a field that
// the schema marks @shared. A resolver that returns a channel of its
// own costs one goroutine for as long as it runs. The transport has a keeper
// that pings. Shutdown ends and waits for all of them.
//
// # Bounds
//
// Config bounds the bytes queued for a socket, the size of a message either
// way and the number of operations. A client that does not read as fast as its
// events come is closed with SlowConsumer; it slows nobody else, because no
// worker ever waits for a socket.
//
// # Other transports
//
// Subscribe gives the results of a subscription to a caller with another way to
// its client, such as server-sent events: executed by the same workers, under
// the same bounds, ended by the same Shutdown.
package gqlws

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/gorilla/websocket"
)

// The tokens of the two subprotocols.
const (
	TransportWS = "graphql-transport-ws"
	LegacyWS    = "graphql-ws"
)

// Config is what a Transport needs. Zero fields take the defaults in brackets.
type Config struct {
	Logger *slog.Logger // [discards]

	// CheckOrigin says whether a page of this origin may connect [the origin
	// must equal the Host, or be absent].
	CheckOrigin func(*http.Request) bool

	// Context picks what the operations of a socket need of the request that
	// opened it, which is then forgotten: they see no headers. When what it returns
	// ends, the socket is closed with ServiceRestart [the values of the request's
	// context, without its end, and its headers; they stay in memory for as long as
	// the socket is open].
	Context func(*http.Request) context.Context

	// Init looks at the payload of connection_init, which may be nil. The
	// context that it returns is the parent of every operation's of that
	// connection; ack, if not nil, is the payload of the acknowledgement. An
	// error refuses the connection with Forbidden; its text is the reason
	// [accepts everybody].
	Init func(ctx context.Context, payload json.RawMessage) (_ context.Context, ack map[string]any, _ error)

	// Join is asked before each subscription of a client begins, also where many
	// share one execution; ctx is the one that Init returned, or the one of Context.
	// An error refuses the subscription; leave, if not nil, is called once when
	// it has ended. While it is asked nothing more of that socket is read
	// [everybody joins].
	Join func(ctx context.Context, opCtx *graphql.OperationContext) (leave func(), err error)

	// Scope names those subscribers of a field marked @shared that may share an
	// execution, because they may see the same, and returns its context, with what
	// they have in common and no end of its own. ctx is the one of the subscriber
	// [all share, in an empty context].
	Scope func(ctx context.Context) (name string, shared context.Context)

	// Admit takes a place for a socket before the upgrade; release gives it back
	// once the socket is gone. A refusal is the sentence that goes with a 503
	// [always admits].
	Admit func(*http.Request) (release func(), refusal string)

	// Refused is told the code of each refusal: of an operation, such as
	// RATE_LIMITED, or of a socket, such as 4413, or PONG_TIMEOUT for one that
	// is dropped without a Close frame. Errors of operations that pass the
	// server's error presenter are not among them [nobody is told].
	Refused func(code string)

	MessageBytes int64 // largest message from a client [256 KiB]
	PayloadBytes int   // largest result of one event [256 KiB]
	QueueBytes   int   // frames waiting for one socket [1 MiB]
	Operations   int   // active operations of one socket [100]

	// How many operations a socket may start: per second, after a burst. A
	// socket that sends messages of any kind ten times as fast is closed with
	// Flooding.
	OperationsPerSecond int // [50]
	OperationsBurst     int // [200]

	InitWait      time.Duration // for connection_init [3 s]
	PingEvery     time.Duration // WebSocket pings, legacy keep-alives [25 s]
	PongWithin    time.Duration // how late a pong may be [10 s]
	WriteDeadline time.Duration // for one write to the socket [10 s]

	// Unshared runs every subscriber's operation on its own, also those of
	// fields that are marked @shared. Results are the same; the cost is not.
	Unshared bool

	Workers int // how many goroutines execute events [GOMAXPROCS]
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Init == nil {
		c.Init = func(ctx context.Context, _ json.RawMessage) (context.Context, map[string]any, error) {
			return ctx, nil, nil
		}
	}
	if c.Scope == nil {
		c.Scope = func(context.Context) (string, context.Context) { return "", context.Background() }
	}
	if c.Admit == nil {
		c.Admit = func(*http.Request) (func(), string) { return func() {}, "" }
	}
	if c.Refused == nil {
		c.Refused = func(string) {}
	}
	set(&c.OperationsPerSecond, 50)
	set(&c.OperationsBurst, 200)
	set(&c.MessageBytes, 256<<10)
	set(&c.PayloadBytes, 256<<10)
	set(&c.QueueBytes, 1<<20)
	set(&c.Operations, 100)
	set(&c.InitWait, 3*time.Second)
	set(&c.PingEvery, 25*time.Second)
	set(&c.PongWithin, 10*time.Second)
	set(&c.WriteDeadline, 10*time.Second)
	set(&c.Workers, runtime.GOMAXPROCS(0))
	return c
}

func set[T comparable](field *T, fallback T) {
	var zero T
	if *field == zero {
		*field = fallback
	}
}

// Transport serves GraphQL over WebSocket. Make it with New, end it with
// Shutdown.
type Transport struct {
	cfg      Config
	upgrader websocket.Upgrader
	runs     runQueue
	results  resultSet
	groups   groups
	work     sync.WaitGroup // workers, keeper
	stopped  chan struct{}  // closed by Shutdown once the sockets are gone
	frames   atomic.Uint64  // written
	bytes    atomic.Uint64  // written
	began    time.Time

	mu       sync.Mutex
	conns    map[*conn]struct{}
	gone     sync.WaitGroup // one for each conn
	draining bool           // no new sockets …
	drained  drained        // … and those that there were
	stopping bool           // Shutdown has been called
}

var _ graphql.Transport = (*Transport)(nil)

// New makes a Transport and starts its workers.
func New(cfg Config) *Transport {
	t := &Transport{
		cfg:     cfg.withDefaults(),
		began:   time.Now(),
		conns:   make(map[*conn]struct{}),
		results: resultSet{empty: make(chan struct{})},
		stopped: make(chan struct{}),
		upgrader: websocket.Upgrader{
			ReadBufferSize: 256, // kept by idle sockets; larger messages are read past it
			// gorilla lifts net/http's deadlines before it answers.
			HandshakeTimeout: cfg.withDefaults().WriteDeadline,
			// Frames are written by the outbox, so gorilla needs no buffer.
			WriteBufferPool: &sync.Pool{},
			CheckOrigin:     cfg.CheckOrigin,
		},
	}
	t.runs.init()
	for range t.cfg.Workers {
		t.work.Go(t.runs.serve)
	}
	t.work.Go(t.keep)
	return t
}

// Supports implements graphql.Transport: every WebSocket handshake.
func (t *Transport) Supports(r *http.Request) bool {
	return websocket.IsWebSocketUpgrade(r)
}

// Do implements graphql.Transport. It returns once the connection is open; the
// socket lives on until either side ends it or Shutdown does.
func (t *Transport) Do(w http.ResponseWriter, r *http.Request, exec graphql.GraphExecutor) {
	token := negotiate(websocket.Subprotocols(r))
	if token == "" {
		t.cfg.Refused("SUBPROTOCOL_UNKNOWN")
		http.Error(w, "Offer the WebSocket subprotocol "+TransportWS+" (or "+LegacyWS+", the legacy one) in Sec-WebSocket-Protocol.", http.StatusBadRequest)
		return
	}
	if !t.reserve() {
		t.cfg.Refused("SHUTTING_DOWN")
		w.Header().Set("Retry-After", "5")
		http.Error(w, "The gateway is restarting: try again in a moment. (SHUTTING_DOWN)", http.StatusServiceUnavailable)
		return
	}
	release, refusal := t.cfg.Admit(r)
	if refusal != "" {
		t.gone.Done()
		t.cfg.Refused("TOO_MANY_CONNECTIONS")
		w.Header().Set("Retry-After", "5")
		http.Error(w, refusal+" (TOO_MANY_CONNECTIONS)", http.StatusServiceUnavailable)
		return
	}
	ws, err := t.upgrader.Upgrade(onWire{w}, r, chosen[token])
	if err != nil {
		t.gone.Done()
		release()
		return // Upgrade has answered
	}
	c := newConn(t, ws, exec, r, token)
	c.release = release
	if !t.add(c) {
		c.leave()
	}
	go c.serve()
}

// chosen tell gorilla which subprotocol a client is to be answered. What gorilla
// itself picks is a part of the request's text, which it would keep in memory.
var chosen = map[string]http.Header{
	TransportWS: {"Sec-Websocket-Protocol": {TransportWS}},
	LegacyWS:    {"Sec-Websocket-Protocol": {LegacyWS}},
}

// negotiate picks the subprotocol: the new one wins in whatever order the
// client offers them.
func negotiate(offered []string) (token string) {
	for _, o := range offered {
		switch {
		case o == TransportWS:
			return o
		case o == LegacyWS:
			token = o
		}
	}
	return token
}

// reserve makes Shutdown wait for a connection that is about to open. Once the
// transport drains, there are no new ones.
func (t *Transport) reserve() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.draining {
		t.gone.Add(1)
	}
	return !t.draining
}

// add registers a connection; false means that the transport drains and the
// connection should close at once.
func (t *Transport) add(c *conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns[c] = struct{}{}
	if t.draining {
		t.drained.clients++
	}
	return !t.draining
}

func (t *Transport) remove(c *conn) {
	t.mu.Lock()
	delete(t.conns, c)
	t.mu.Unlock()
	c.release()
	t.gone.Done()
}

func (t *Transport) snapshot() []*conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	conns := make([]*conn, 0, len(t.conns))
	for c := range t.conns {
		conns = append(conns, c)
	}
	return conns
}

// Stats is what a Transport has to do.
type Stats struct {
	Connections int    // open sockets
	Operations  int    // active operations
	Frames      uint64 // written since the start
	Bytes       uint64 // written since the start
}

// Stats counts.
func (t *Transport) Stats() Stats {
	s := Stats{Operations: t.results.len(), Frames: t.frames.Load(), Bytes: t.bytes.Load()}
	for _, c := range t.snapshot() {
		s.Connections++
		s.Operations += c.operations()
	}
	return s
}

// age is how long there has been the transport.
func (t *Transport) age() time.Duration { return time.Since(t.began) }

// Config returns the configuration, its defaults filled in.
func (t *Transport) Config() Config { return t.cfg }

// keep pings every socket once per PingEvery. One goroutine and one timer serve
// all of them, a 25th of the interval apart.
func (t *Transport) keep() {
	ticks := time.NewTicker(max(t.cfg.PingEvery/25, time.Millisecond))
	defer ticks.Stop()
	for {
		select {
		case now := <-ticks.C:
			for _, c := range t.snapshot() {
				c.keepAlive(now)
			}
		case <-t.stopped:
			return
		}
	}
}
