package mock

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/labs"
)

// Config is what a Server needs. Zero fields take the defaults in brackets.
type Config struct {
	Door   labs.DoorConfig
	Script *Script // [Default]
	Seed   uint64  // what scripts draw from [their own seed, else one that is drawn]
	// Vars are values for the variables that scripts declare under vars; a script
	// does not see those that it does not declare [none].
	Vars map[string]string
	// Event is told what the server does. It must not wait [nobody is told].
	Event func(Event)
}

// Knobs change how the server behaves, whatever the script says.
type Knobs struct {
	Latency     time.Duration `json:"latency"`     // before everything that is sent, 0 to 10 s
	ErrorRate   float64       `json:"errorRate"`   // how many messages are answered by an error instead, 0 to 1
	Connections int           `json:"connections"` // how many may be open at once, more are answered 503; 1 to 10,000 [1,000]
	BufferBytes int           `json:"bufferBytes"` // what may wait to be sent to one client, 1 byte to 1 MiB [1 MiB]
	Overflow    Overflow      `json:"overflow"`    // what happens to what does not fit into the buffer [Cut]
}

// Overflow says what happens to a client that reads too slowly. One message
// larger than the buffer is sent when nothing else waits.
type Overflow string

// The policies.
const (
	Cut  Overflow = "CUT"  // its connection is reset
	Drop Overflow = "DROP" // what does not fit is not sent
)

// KnobChange changes the knobs that it names.
type KnobChange struct {
	Latency                  *time.Duration
	ErrorRate                *float64
	Connections, BufferBytes *int
	Overflow                 *Overflow
}

// The bounds of the knobs.
const (
	maxConnections = 10_000
	maxBuffer      = 1 << 20
)

// apply returns the changed knobs, or why they cannot be changed so.
func (c KnobChange) apply(k Knobs) (Knobs, error) {
	set(&k.Latency, c.Latency)
	set(&k.ErrorRate, c.ErrorRate)
	set(&k.Connections, c.Connections)
	set(&k.BufferBytes, c.BufferBytes)
	set(&k.Overflow, c.Overflow)
	switch {
	case k.Latency < 0 || k.Latency > maxDelay:
		return k, fmt.Errorf("the latency %v is not accepted: it is a time from 0s to %v", k.Latency, maxDelay)
	case !(k.ErrorRate >= 0 && k.ErrorRate <= 1):
		return k, fmt.Errorf("the error rate %v is not accepted: it is a number from 0 to 1", k.ErrorRate)
	case k.Connections < 1 || k.Connections > maxConnections:
		return k, fmt.Errorf("the connection limit %d is not accepted: it is a number from 1 to %d", k.Connections, maxConnections)
	case k.BufferBytes < 1 || k.BufferBytes > maxBuffer:
		return k, fmt.Errorf("the buffer of %d bytes is not accepted: it has from 1 to %d bytes", k.BufferBytes, maxBuffer)
	case k.Overflow != Cut && k.Overflow != Drop:
		return k, fmt.Errorf("the overflow policy %q is not known: CUT and DROP are", k.Overflow)
	}
	return k, nil
}

func set[T any](target, change *T) {
	if change != nil {
		*target = *change
	}
}

// Event is something that the server did or saw.
type Event struct {
	At         time.Time
	Connection int // its number on its path
	Path       string
	Line       int    // of the script; 0: none
	Text       string // a sentence without its full stop
}

// Server behaves as a script says. It has no goroutines but those of its
// connections. Its methods are for any goroutine.
type Server struct {
	cfg   Config
	door  *labs.Door
	open  atomic.Int64
	knobs atomic.Pointer[Knobs]

	mu   sync.Mutex
	play *play
}

// play is a script while it runs. Connections stay with the one that they began.
type play struct {
	script *Script
	seed   uint64
	vars   map[string]any // what the host says and what is drawn once
	bench  bench
	at     time.Time

	opened, dropped atomic.Int64
}

// New makes a Server, with its knobs at their defaults.
func New(cfg Config) *Server {
	if cfg.Script == nil {
		cfg.Script = Default()
	}
	if cfg.Event == nil {
		cfg.Event = func(Event) {}
	}
	s := &Server{cfg: cfg}
	s.knobs.Store(&Knobs{Connections: 1000, BufferBytes: 1 << 20, Overflow: Cut})
	admit := cfg.Door.Admit
	if admit == nil {
		admit = func(*http.Request) (func(), string) { return func() {}, "" }
	}
	s.cfg.Door.Admit = func(r *http.Request) (func(), string) {
		if most := s.knobs.Load().Connections; s.open.Add(1) > int64(most) {
			s.open.Add(-1)
			return nil, fmt.Sprintf("The mock has as many connections as it may have, %d: close some, or try later.", most)
		}
		release, refusal := admit(r)
		if refusal != "" {
			s.open.Add(-1)
			return nil, refusal
		}
		return func() {
			release()
			s.open.Add(-1)
		}, ""
	}
	s.door = labs.NewDoor(s.cfg.Door)
	s.SetScript(cfg.Script)
	return s
}

// SetScript has connections that open from now on behave as the script says, and
// begins a new verdict. It returns the seed that the script draws from.
func (s *Server) SetScript(script *Script) (seed uint64) {
	seed = s.cfg.Seed
	if seed == 0 && script.Seed != nil {
		seed = *script.Seed
	}
	if seed == 0 {
		seed = 1 + rand.Uint64N(1<<32-1)
	}
	p := &play{script: script, seed: seed, vars: make(map[string]any), at: time.Now()}
	for name := range script.root.Vars {
		if text, ok := s.cfg.Vars[name]; ok {
			p.vars[name] = text
		}
	}
	r := rand.New(rand.NewPCG(seed, 0))
	for _, name := range sortedKeys(script.Draw) { // for the same seed always the same order
		if d := script.Draw[name]; d.Per == "script" {
			p.vars[name] = d.from(r)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.play = p
	return seed
}

// SetKnobs changes some knobs, on open connections too, and returns all.
func (s *Server) SetKnobs(change KnobChange) (Knobs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := change.apply(*s.knobs.Load())
	if err != nil {
		return *s.knobs.Load(), err
	}
	s.knobs.Store(&k)
	return k, nil
}

// Status is what the server is doing.
type Status struct {
	Script *Script
	Since  time.Time // when the script was set
	Seed   uint64
	Open   int // connections
	// Since the script was set: connections that opened, and messages that were
	// left out because a client read too slowly.
	Opened, Dropped int
	Knobs           Knobs
}

// Status tells what the server is doing.
func (s *Server) Status() Status {
	p := s.current()
	return Status{
		Script: p.script, Since: p.at, Seed: p.seed, Open: int(s.open.Load()),
		Opened: int(p.opened.Load()), Dropped: int(p.dropped.Load()), Knobs: *s.knobs.Load(),
	}
}

// Verdict compares what came since the script was set with what it expects.
func (s *Server) Verdict() Verdict {
	p := s.current()
	return p.bench.verdict(p.script, p.seed)
}

func (s *Server) current() *play {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.play
}

// Shutdown refuses new connections, tells the clients of those that are open to
// leave, with 1012, and waits for them. When ctx ends it drops the rest and
// returns an error.
func (s *Server) Shutdown(ctx context.Context) error { return s.door.Shutdown(ctx) }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := s.current()
	name, b := p.script.behaviourOf(r.URL.Path)
	if b == nil {
		if refused := s.cfg.Door.Refused; refused != nil {
			refused("PATH_UNKNOWN")
		}
		http.Error(w, fmt.Sprintf("The mock's script has no such path: it has %s. (PATH_UNKNOWN)", strings.Join(p.script.Paths(), ", ")), http.StatusNotFound)
		return
	}
	c := &conn{server: s, play: p, behaviour: b, name: name}
	o := labs.Options{
		MessageBytes: int64(b.MessageBytes), Subprotocols: b.Subprotocols, RequireSubprotocol: b.RequireSubprotocol,
		Deflate: b.Deflate, NoPong: b.NoPong, OnPing: c.pinged, OnPong: c.ponged,
	}
	if b.PingEvery != nil {
		o.PingEvery = time.Duration(*b.PingEvery)
	}
	if b.PongWithin != nil {
		o.PongWithin = time.Duration(*b.PongWithin)
	}
	s.door.Serve(w, r, o, c.serve)
}

// behaviourOf finds the longest path that the request's ends in.
func (s *Script) behaviourOf(path string) (name string, b *behaviour) {
	path = strings.TrimRight(path, "/")
	for candidate, behaviour := range s.root.Paths {
		if len(candidate) > len(name) && strings.HasSuffix(path, candidate) {
			name, b = candidate, behaviour
		}
	}
	if b == nil && s.Behaviour.speaks() {
		b = &s.Behaviour
	}
	return name, b
}

// behaviours are all, by the name of their path; the one without is for the rest.
func (s *Script) behaviours() iter.Seq2[string, *behaviour] {
	return func(yield func(string, *behaviour) bool) {
		if s.Behaviour.speaks() && !yield("", &s.Behaviour) {
			return
		}
		maps.All(s.root.Paths)(yield)
	}
}
