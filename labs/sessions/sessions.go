// Package sessions keeps lab sessions: each learner's own practice servers, with
// a tap below them that records what the learner's client really sent.
//
// A session is found by its id, an unguessable one, which is the only credential
// and goes nowhere but into its URLs. Topics, channels and logs carry its public
// name, from which the id cannot be had. Its servers live under /lab/<id>/; what
// is set up there, and what is seen there, belongs to it alone, is kept in memory
// only, and goes with it. A session ends when it is forgotten, or when it has not
// been used for Config.Life: a request and an open connection use it.
//
// A Sessions has one goroutine, which ends what has expired, and one for each
// session that is ending. They end with Shutdown. Readers of a session's events are
// served by a live.Tail: bounded, at their own pace, oldest first.
package sessions

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"maps"
	draws "math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/wire"
	"github.com/sluice-gateway/sluice/labs"
	"github.com/sluice-gateway/sluice/labs/course"
	"github.com/sluice-gateway/sluice/labs/mock"
)

// What a client is told.
const (
	CodeUnknown  = "LAB_UNKNOWN"
	CodeTooMany  = "TOO_MANY_LABS"
	CodeRequired = "LAB_REQUIRED"
	CodeNoServer = "PATH_UNKNOWN"
)

// Config is what a Sessions needs. Zero fields take the defaults in brackets.
type Config struct {
	Door        labs.DoorConfig // of the practice servers, but Allow and CheckOrigin
	Connections int             // open WebSockets of one session [4]
	Rate        int             // messages per second from the clients of one session [100]
	Life        time.Duration   // of a session that is not used [30 min]
	Sessions    int             // at once [500]
	PerAddress  int             // of one client; loopback is exempt [20]
	Bounds      wire.Bounds     // of a transcript [4,000 events, 1 MiB, 128 KiB a message]
	// MQTT makes Env.MQTT for a session, by its public name [none].
	MQTT func(publicName string) func(context.Context, net.Conn) error
	// Doors are handlers of others under a session's path, such as "graphql".
	// They find the session by From. The request's context ends with the session;
	// so must a connection that they hijack, with Session.Context.
	Doors map[string]http.Handler
	// Cursor names a position among a session's events to clients [empty].
	Cursor func(one *Session, p live.Position) string
	// Posts are like Doors, but no servers: what a learner's tools report to.
	Posts map[string]http.Handler
	// Public is the set of servers of those who practise without a session.
	Public  *Servers
	Scripts []*mock.Script // of the lessons
	Load    bool           // whether sessions have a load server
	// PublicOpen lets anybody change how the public ones behave.
	PublicOpen bool
	// HTTPServer makes the server for what a session plays to itself [a plain one].
	HTTPServer func(http.Handler) *http.Server
}

// Sessions are the lab sessions of a gateway.
type Sessions struct {
	cfg  Config
	tail *live.Tail[*Session, wire.Event]
	stop chan struct{}
	once sync.Once // Shutdown
	work sync.WaitGroup
	// ending lasts as long as clients may take to leave.
	ending context.Context
	drop   context.CancelFunc

	mu     sync.Mutex
	byID   map[string]*Session
	closed bool
}

// New makes a Sessions and starts its goroutine.
func New(cfg Config) *Sessions {
	cfg.Connections = cmp.Or(cfg.Connections, 4)
	cfg.Rate = cmp.Or(cfg.Rate, 100)
	cfg.Life = cmp.Or(cfg.Life, 30*time.Minute)
	cfg.Sessions = cmp.Or(cfg.Sessions, 500)
	cfg.PerAddress = cmp.Or(cfg.PerAddress, 20)
	cfg.Door.MessageBytes = cmp.Or(cfg.Door.MessageBytes, 128<<10)
	cfg.Bounds.Events = cmp.Or(cfg.Bounds.Events, 4000)
	if cfg.MQTT == nil {
		cfg.MQTT = func(string) func(context.Context, net.Conn) error { return nil }
	}
	if cfg.Cursor == nil {
		cfg.Cursor = func(*Session, live.Position) string { return "" }
	}
	if cfg.HTTPServer == nil {
		cfg.HTTPServer = func(h http.Handler) *http.Server {
			return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
		}
	}
	s := &Sessions{cfg: cfg, stop: make(chan struct{}), byID: make(map[string]*Session)}
	s.ending, s.drop = context.WithCancel(context.Background())
	s.tail = live.NewTail(live.TailConfig[*Session, wire.Event]{
		Archive: archive{s}, Size: size, Cursor: cfg.Cursor,
		Follow: func(one *Session) func() { return one.Transcript.Follow(func() { s.tail.Grown(one) }) },
	})
	s.work.Go(s.expire)
	return s
}

// Session is one learner's place to practise.
type Session struct {
	ID      string // secret
	Name    string // public
	Lesson  string // slug; empty: none in particular
	Nonce   string // a word to be sent by who means it
	Started time.Time
	Servers *Servers
	Vars    map[string]string // what its scripts say and exercises ask for
	// Transcript is what happened on the session's connections.
	Transcript *wire.Transcript

	of      *Sessions
	address netip.Addr
	limiter *rate.Limiter
	handler http.Handler

	connections int          // that may be open at once
	plays       atomic.Int64 // under way

	ctx    context.Context // ends with the session
	finish context.CancelFunc

	mu    sync.Mutex
	used  time.Time
	open  int // WebSockets
	plain int // other requests under way
}

// Want is what a session is asked for.
type Want struct {
	Lesson string // slug; empty: none in particular
	Client netip.Addr
	// Connections and Rate are what the lesson needs, where that is more than
	// every session has.
	Connections, Rate int
}

// Start makes a session.
func (s *Sessions) Start(w Want) (*Session, error) {
	id, client := rand.Text(), w.Client
	connections, perSecond := max(w.Connections, s.cfg.Connections), max(w.Rate, s.cfg.Rate)
	now := time.Now()
	one := &Session{
		ID: id, Name: PublicName(id), Lesson: w.Lesson, Started: now, used: now, of: s, address: client,
		Transcript: wire.NewTranscript(s.cfg.Bounds), limiter: rate.NewLimiter(rate.Limit(perSecond), perSecond), connections: connections,
	}
	one.ctx, one.finish = context.WithCancel(context.Background())
	door := s.cfg.Door
	door.Allow = one.allow
	door.CheckOrigin = func(*http.Request) bool { return true } // who knows the id is let in
	one.Vars = course.Vars(draws.Uint64())                      //nolint:gosec // exercises, not secrets
	one.Nonce = one.Vars[course.Nonce]
	one.Servers = NewServers(Env{Door: door, Scripts: s.cfg.Scripts, Vars: one.Vars, Load: s.cfg.Load, MQTT: s.cfg.MQTT(one.Name)})
	one.handler = one.Transcript.Tap(http.HandlerFunc(one.dispatch))
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, live.Errorf("SHUTTING_DOWN", "The gateway is stopping: try again in a moment.")
	case len(s.byID) >= s.cfg.Sessions:
		return nil, live.Errorf(CodeTooMany, "There are %d lab sessions, which is the most there may be (limit lab-sessions): try again later.", len(s.byID))
	case !client.IsLoopback() && s.count(client) >= s.cfg.PerAddress:
		return nil, live.Errorf(CodeTooMany, "Your address has %d lab sessions, which is the most it may have (limit lab-sessions-per-address): forget one, or wait until it expires.", s.cfg.PerAddress)
	}
	s.byID[id] = one
	return one, nil
}

// count is how many sessions a client has; the lock is held.
func (s *Sessions) count(client netip.Addr) (n int) {
	for _, one := range s.byID {
		if one.address == client {
			n++
		}
	}
	return n
}

// PublicName is what topics, channels and logs call a session: a hash, from which
// the id cannot be had.
func PublicName(id string) string {
	sum := sha256.Sum256([]byte("sluice lab\x00" + id))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

// Find returns a session that has not ended.
func (s *Sessions) Find(id string) (*Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.byID[id]; one != nil {
		return one, nil
	}
	return nil, errEnded
}

var errEnded = live.Errorf(CodeUnknown, "There is no such lab session, or it has ended: call startLab.")

// Servers are those of a session, or the public ones where they may be changed.
func (s *Sessions) Servers(id *string) (*Servers, error) {
	if id != nil {
		one, err := s.Find(*id)
		if err != nil {
			return nil, err
		}
		return one.Servers, nil
	}
	if !s.cfg.PublicOpen {
		return nil, live.Errorf(CodeRequired, "The practice servers without a lab session cannot be changed on this gateway: call startLab and name the session.")
	}
	return s.cfg.Public, nil
}

// Extend begins the life of a session anew.
func (s *Sessions) Extend(id string) (*Session, error) {
	one, err := s.Find(id)
	if err == nil {
		one.use()
	}
	return one, err
}

// Forget ends a session: its connections are closed with 1012 and what was
// recorded is gone. It reports whether there was one.
func (s *Sessions) Forget(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.byID[id]
	if one == nil {
		return false
	}
	s.end(one)
	return true
}

// endWait is how long the clients of a session that ends may take to leave.
const endWait = 5 * time.Second

// end takes a session out; the lock is held.
func (s *Sessions) end(one *Session) {
	delete(s.byID, one.ID)
	one.finish()
	s.work.Go(func() {
		ctx, cancel := context.WithTimeout(s.ending, endWait)
		defer cancel()
		_ = one.Servers.Shutdown(ctx) // who did not leave has been dropped
		one.Transcript.Close()        // which wakes who watches
	})
}

// expire ends sessions that have not been used.
func (s *Sessions) expire() {
	ticker := time.NewTicker(max(time.Millisecond, s.cfg.Life/60))
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case now := <-ticker.C:
			s.mu.Lock()
			for _, one := range s.byID {
				if one.Expires().Before(now) {
					s.end(one)
				}
			}
			s.mu.Unlock()
		}
	}
}

// Shutdown ends every session and waits for the goroutines. When ctx ends it drops
// the clients that have not left.
func (s *Sessions) Shutdown(ctx context.Context) {
	s.once.Do(func() {
		defer s.drop()
		defer context.AfterFunc(ctx, s.drop)()
		s.mu.Lock()
		s.closed = true
		close(s.stop)
		for _, one := range s.byID {
			s.end(one)
		}
		s.mu.Unlock()
		s.work.Wait()
		s.tail.Close()
	})
}

// Expires is when the session ends unless it is used before.
func (one *Session) Expires() time.Time {
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.open > 0 || one.plain > 0 {
		return time.Now().Add(one.of.cfg.Life)
	}
	return one.used.Add(one.of.cfg.Life)
}

// Context ends with the session.
func (one *Session) Context() context.Context { return one.ctx }

func (one *Session) use() {
	one.mu.Lock()
	defer one.mu.Unlock()
	one.used = time.Now()
}

// Doors lists the session's servers, each of which is below the session's own
// path under its name.
func (one *Session) Doors() []string {
	list := slices.Concat(one.Servers.Names(), slices.Collect(maps.Keys(one.of.cfg.Doors)))
	slices.Sort(list)
	return list
}

// URL is where one of the session's servers is, for a client that reached the
// gateway at base, such as ws://localhost:8080. The few that answer plain
// requests are at http://.
func (one *Session) URL(base, door string) string {
	if course.Plain("/" + door) {
		base = "http" + strings.TrimPrefix(base, "ws")
	}
	return base + Path + one.ID + "/" + door
}

// allow takes a place for a message.
func (one *Session) allow() (refusal string) {
	if one.limiter.Allow() {
		return ""
	}
	return fmt.Sprintf("lab-rate: more than %d messages a second in this lab session", one.limiter.Burst())
}

func size(e wire.Event) int {
	switch {
	case e.Frame != nil:
		return len(e.Frame.Payload) + 100
	case e.Message != nil:
		return len(e.Message.Data) + 100
	}
	return 1000
}

// Facts are what the session's servers know from the beginning: the values that
// they give away or ask for, and the headers that the broken proxy takes away.
func (one *Session) Facts() map[string]any {
	facts := make(map[string]any)
	var stripped []any
	for _, name := range one.Servers.Course.Via.Stripped() {
		stripped = append(stripped, name)
	}
	facts["stripped"] = stripped
	for name, value := range one.Vars {
		facts[name] = value
	}
	return facts
}

// Counters are what they have counted so far: what an event has cost in bytes on
// each way of the comparison, and what the flood did with messages that were not
// read.
func (one *Session) Counters() map[string]any {
	costs, flood := one.Servers.Course.Compare.Counters(), one.Servers.Course.Flood.Last()
	slow := "queued"
	if flood.Dropped > 0 {
		slow = "dropped"
	}
	return map[string]any{
		"pollingCost": costs.Poll.BytesPerEvent(), "sseCost": costs.SSE.BytesPerEvent(), "websocketCost": costs.WebSocket.BytesPerEvent(),
		"slow": slow,
	}
}
