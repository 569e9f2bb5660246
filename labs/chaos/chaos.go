package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
	"github.com/sluice-gateway/sluice/labs"
)

// Config is what a Server needs. Zero fields take the defaults in brackets.
type Config struct {
	Door labs.DoorConfig
	Seed int64 // of the draws [drawn, from 1 to MaxSeed]
}

// MaxSeed is the largest seed that is drawn, and that Restart takes: GraphQL's
// largest Int.
const MaxSeed = 1<<31 - 1

// Server is a WebSocket server behind faults.
type Server struct {
	events   *Events
	settings atomic.Pointer[settings]
	serve    http.Handler
	door     *labs.Door // of what serves; nil: it has none

	mu      sync.Mutex
	run     run
	lines   map[*line]struct{} // that are open
	last    uint64             // order of the newest
	stopped bool
	working sync.WaitGroup // of lines
}

// run is a beginning of the draws.
type run struct {
	seed        int64
	number      uint64 // from 1
	connections uint64
}

// settings are what the lines go by. They are replaced, never changed.
type settings struct {
	Faults
	silentUntil time.Time     // a partition's end
	changed     chan struct{} // closed when others are in their place
}

// New makes a server that sends every message back: text as text, bytes as
// bytes. It begins with the faults of Default.
func New(cfg Config) *Server {
	s := newServer(cfg)
	s.door = labs.NewDoor(cfg.Door)
	s.serve = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.door.Serve(w, r, labs.Options{Wrap: s.wrap}, labs.PlayEcho)
	})
	return s
}

func newServer(cfg Config) *Server {
	seed := cfg.Seed
	if seed == 0 {
		seed = 1 + rand.Int64N(MaxSeed)
	}
	s := &Server{events: newEvents(), lines: make(map[*line]struct{}), run: run{seed: seed, number: 1}}
	s.settings.Store(&settings{Faults: Default(), changed: make(chan struct{})})
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.serve.ServeHTTP(w, r) }

// Faults returns the settings.
func (s *Server) Faults() Faults { return s.settings.Load().Faults }

// Configure changes the settings that patch names, at any depth, as Faults.Merge
// does, and returns all. Open connections go by them at once. An error is an
// *InvalidError; then nothing has changed.
func (s *Server) Configure(patch any) (Faults, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.settings.Load()
	merged, err := old.Merge(patch)
	if err != nil {
		return old.Faults, err
	}
	s.set(merged, old.silentUntil)
	return merged, nil
}

// set puts settings in place. s.mu is held.
func (s *Server) set(f Faults, silentUntil time.Time) {
	old := s.settings.Swap(&settings{Faults: f, silentUntil: silentUntil, changed: make(chan struct{})})
	close(old.changed)
}

// Stop switches every fault off and ends a partition. The other settings stay.
func (s *Server) Stop() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	calm := s.settings.Load().Calm()
	s.set(calm, time.Time{})
	return calm
}

// StartPartition begins a partition, or lets the present one end at another
// time, and says when. Zero is the duration of the settings. An error is an
// *InvalidError.
func (s *Server) StartPartition(duration time.Duration) (until time.Time, err error) {
	s.mu.Lock()
	old := s.settings.Load()
	if duration == 0 {
		duration = milliseconds(old.Partition.DurationMs)
	}
	if err := (Partition{DurationMs: int(duration.Milliseconds())}).check(); err != nil {
		s.mu.Unlock()
		return time.Time{}, err
	}
	until = time.Now().Add(duration)
	number := s.run.number
	s.set(old.Faults, until)
	s.mu.Unlock()
	s.events.add(Event{Run: number, Fault: NamePartition, Direction: Both, DelayMs: duration.Milliseconds(), What: fmt.Sprintf("silence for %v", duration)})
	return until, nil
}

// Seed returns the seed of the draws.
func (s *Server) Seed() int64 { return s.State().Seed }

// State is how a server stands.
type State struct {
	Faults      Faults
	Seed        int64
	Run         uint64    // counts the times that the draws began, from 1
	Connections uint64    // that were numbered in this run
	Open        int       // connections
	SilentUntil time.Time // the end of a partition; zero: there is none
}

// State returns how the server stands.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.settings.Load()
	state := State{Faults: set.Faults, Seed: s.run.seed, Run: s.run.number, Connections: s.run.connections, Open: len(s.lines)}
	if time.Now().Before(set.silentUntil) {
		state.SilentUntil = set.silentUntil
	}
	return state
}

// Restart lets the draws begin anew, with the same seed for 0: connections count
// from 1 again, those that are open first, in the order of their opening, and so
// do their messages; times until a cut count from now. An error is an *InvalidError.
func (s *Server) Restart(seed int64) error {
	if seed < 0 || seed > MaxSeed {
		return &InvalidError{"seed", seed, fmt.Sprintf("a number from 1 to %d", MaxSeed)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run = run{seed: cmp.Or(seed, s.run.seed), number: s.run.number + 1}
	for _, l := range s.open() {
		l.place.Store(s.nextPlace())
	}
	old := s.settings.Load()
	s.set(old.Faults, old.silentUntil) // wakes those that watch
	return nil
}

// open lists the open lines in their order. s.mu is held.
func (s *Server) open() []*line {
	lines := make([]*line, 0, len(s.lines))
	for l := range s.lines {
		lines = append(lines, l)
	}
	slices.SortFunc(lines, func(a, b *line) int { return cmp.Compare(a.order, b.order) })
	return lines
}

// Events returns what has happened.
func (s *Server) Events() *Events { return s.events }

// nextPlace numbers a connection. s.mu is held.
func (s *Server) nextPlace() *place {
	s.run.connections++
	return &place{seed: s.run.seed, run: s.run.number, connection: s.run.connections}
}

// wrap puts a line before a client's connection and returns its other end.
func (s *Server) wrap(client net.Conn) net.Conn {
	l := newLine(s, client)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		l.end(false)
		return l.inner
	}
	s.last++
	l.order = s.last
	l.place.Store(s.nextPlace())
	s.lines[l] = struct{}{}
	s.working.Go(func() {
		l.work()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.lines, l)
	})
	return l.inner
}

// Shutdown refuses new connections, tells the clients of those that are open to
// leave, with 1012, and waits for them. When ctx ends it drops the rest and
// returns an error. The faults go on until then, but for partitions.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.set(s.settings.Load().Faults, time.Time{})
	s.mu.Unlock()
	var err error
	if s.door != nil {
		err = s.door.Shutdown(ctx)
	}
	s.mu.Lock()
	s.stopped = true
	for _, l := range s.open() {
		l.goAway()
	}
	s.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		s.working.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
		s.mu.Lock()
		left := s.open()
		s.mu.Unlock()
		for _, l := range left {
			l.end(false)
		}
		if len(left) > 0 {
			err = errors.Join(err, fmt.Errorf("chaos: dropped %d connections: %w", len(left), ctx.Err()))
		}
		<-gone
	}
	s.events.close()
	return err
}

// place is where a connection stands in the draws.
type place struct {
	seed       int64
	run        uint64
	connection uint64
	counts     [2]struct{ messages, closings atomic.Uint64 } // by wire.Direction
}

// messages is how many messages have begun in a direction.
func (p *place) messages(d wire.Direction) uint64 { return p.counts[d].messages.Load() }
