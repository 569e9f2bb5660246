package load

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/sluice-gateway/sluice/internal/live"
)

// What a client is told.
const (
	CodeOff     = "LOAD_OFF"
	CodeBusy    = "LOAD_RUN_BUSY"
	CodeUnknown = "LOAD_RUN_UNKNOWN"
	codeRange   = "ARGUMENT_OUT_OF_RANGE"
)

// ErrOff says that there are no load runs, and no load server.
var ErrOff = live.Errorf(CodeOff, "Load is off: start the gateway with --load, or use the command sluice load.")

// RunsConfig is what a Runs needs. Zero fields take the defaults in brackets.
type RunsConfig struct {
	// Base is where our own listener is, such as ws://127.0.0.1:8080, the only one
	// that runs go to; empty: nobody may start one.
	Base string
	Caps Caps          // [RunsCaps]
	Runs int           // at a time, of all sessions; of one session it is 1 [4]
	Keep time.Duration // how long a run that has ended can be asked for [10 min]
	Kept int           // of them at most [50]
}

// RunsCaps are those of runs that clients start.
var RunsCaps = Caps{Connections: 500, Rate: 5000, Size: 64 << 10, Time: time.Minute}

// Runs are the runs that clients of the gateway start, all of them against the
// gateway itself. Each run has the goroutines of Run and one that waits for its
// end. They end with Close. Where load is off it is nil, and lets nobody start one.
type Runs struct {
	cfg  RunsConfig
	work sync.WaitGroup

	mu     sync.Mutex
	closed bool
	runs   []*Started // the oldest first
}

// NewRuns makes a Runs. It starts nothing.
func NewRuns(cfg RunsConfig) *Runs {
	if cfg.Caps == (Caps{}) {
		cfg.Caps = RunsCaps
	}
	cfg.Runs = cmp.Or(cfg.Runs, 4)
	cfg.Keep = cmp.Or(cfg.Keep, 10*time.Minute)
	cfg.Kept = cmp.Or(cfg.Kept, 50)
	return &Runs{cfg: cfg}
}

// On reports whether runs can be started.
func (r *Runs) On() bool { return r != nil && r.cfg.Base != "" }

// Order is what a client wants.
type Order struct {
	Session    string // empty: none
	Path       string // of the gateway, with a query
	Plan       Plan   // without a URL
	Assertions []string
}

// maxAssertions is how many an Order may have.
const maxAssertions = 20

// Started is a run that a client has started. Whoever knows its ID may watch and
// stop it.
type Started struct {
	ID      string
	Session string // empty: none
	Plan    Plan
	At      time.Time

	assertions []Assertion
	stop       func()

	mu       sync.Mutex
	progress Progress
	result   *Result
	failure  string
	ended    time.Time // zero: it runs
	watchers []*live.Queue[Progress]
}

// Progress is where the run is.
func (s *Started) Progress() Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.progress
}

// Result is what the run has measured; nil while it runs, and if it could not be
// made.
func (s *Started) Result() *Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.result
}

// Failure is why the run could not be made; empty: it could, or it runs.
func (s *Started) Failure() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// Start starts a run. Runs come from this machine, which many limits on clients
// leave alone, so that they may not change anything. An error is a *live.Error.
func (r *Runs) Start(o Order) (*Started, error) {
	if !r.On() {
		return nil, ErrOff
	}
	plan := o.Plan
	plan.URL = r.cfg.Base + o.Path
	plan, err := plan.Check(r.cfg.Caps)
	if wrong := (*PlanError)(nil); errors.As(err, &wrong) {
		return nil, live.Errorf(codeRange, "%s %s.", wrong.Field, wrong.Text)
	}
	if kind, err := operationKind(plan.Operation); err == nil && kind == ast.Mutation {
		return nil, live.Errorf(codeRange, "operation is a mutation: a query or a subscription is accepted.")
	}
	if len(o.Assertions) > maxAssertions {
		return nil, live.Errorf(codeRange, "There are %d assertions: at most %d are accepted.", len(o.Assertions), maxAssertions)
	}
	assertions := make([]Assertion, len(o.Assertions))
	for i, text := range o.Assertions {
		if assertions[i], err = ParseAssertion(text); err != nil {
			return nil, live.Errorf(codeRange, "%s.", err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(time.Now())
	active := 0
	for _, other := range r.runs {
		if !other.over() {
			active++
			if other.Session == o.Session {
				return nil, live.Errorf(CodeBusy, "A load run is under way: wait for its end, or call stopLoadRun.")
			}
		}
	}
	if active >= r.cfg.Runs || r.closed {
		return nil, live.Errorf(CodeBusy, "There are %d load runs of others: try again in a minute.", active)
	}
	ctx, cancel := context.WithCancel(context.Background())
	one := &Started{
		ID: rand.Text(), Session: o.Session, Plan: plan, At: time.Now(), assertions: assertions, stop: cancel,
		progress: Progress{Phase: Ramping, Planned: plan.Ramp + plan.WarmUp + plan.Hold},
	}
	r.runs = append(r.runs, one)
	r.work.Go(func() {
		defer cancel()
		one.end(Run(ctx, plan, one.tell))
	})
	return one, nil
}

// forget drops runs that have ended long ago, or that are too many.
func (r *Runs) forget(now time.Time) {
	r.runs = slices.DeleteFunc(r.runs, func(one *Started) bool {
		one.mu.Lock()
		defer one.mu.Unlock()
		return !one.ended.IsZero() && now.Sub(one.ended) > r.cfg.Keep
	})
	for i := 0; len(r.runs) >= r.cfg.Kept && i < len(r.runs); {
		if r.runs[i].over() {
			r.runs = slices.Delete(r.runs, i, i+1)
		} else {
			i++
		}
	}
}

// Find returns a run; an error is a *live.Error.
func (r *Runs) Find(id string) (*Started, error) {
	if !r.On() {
		return nil, ErrOff
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(time.Now())
	i := slices.IndexFunc(r.runs, func(one *Started) bool { return one.ID == id })
	if i < 0 {
		return nil, live.Errorf(CodeUnknown, "There is no load run by that id, or it ended more than %v ago.", r.cfg.Keep)
	}
	return r.runs[i], nil
}

// Stop ends a run early; one that has ended is left as it is. It does not wait
// for the end.
func (r *Runs) Stop(id string) (*Started, error) {
	one, err := r.Find(id)
	if err != nil {
		return nil, err
	}
	one.stop()
	return one, nil
}

// watchLimit bounds what waits for one watcher: a second each.
var watchLimit = live.Limit{Events: 16, Stall: 100 * time.Millisecond}

// Watch opens the progress of a run: where it is now, then once a second, and
// its end, with which the stream completes.
func (r *Runs) Watch(_ context.Context, id string) (live.Sub[Progress], error) {
	one, err := r.Find(id)
	if err != nil {
		return nil, err
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	var watcher *live.Queue[Progress]
	watcher = live.NewQueue[Progress](watchLimit, func() { one.leave(watcher) })
	watcher.Push(live.Event[Progress]{Value: one.progress}, 0)
	if one.ended.IsZero() {
		one.watchers = append(one.watchers, watcher)
	} else {
		watcher.End(nil)
	}
	return watcher, nil
}

// Close ends all runs and waits for them. Nobody can start one any more.
func (r *Runs) Close() {
	r.mu.Lock()
	r.closed = true
	for _, one := range r.runs {
		one.stop()
	}
	r.mu.Unlock()
	r.work.Wait()
}

func (s *Started) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.ended.IsZero()
}

// tell tells all watchers.
func (s *Started) tell(p Progress) {
	s.mu.Lock()
	s.progress = p
	watchers := slices.Clone(s.watchers)
	s.mu.Unlock()
	for _, watcher := range watchers {
		watcher.Push(live.Event[Progress]{Value: p}, 0)
	}
}

func (s *Started) leave(watcher *live.Queue[Progress]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers = slices.DeleteFunc(s.watchers, func(other *live.Queue[Progress]) bool { return other == watcher })
}

// end keeps what came of the run.
func (s *Started) end(result Result, err error) {
	s.mu.Lock()
	s.ended = time.Now()
	if err != nil {
		s.failure = strings.TrimPrefix(err.Error(), "load: ")
	} else {
		for _, assertion := range s.assertions {
			result.Verdicts = append(result.Verdicts, assertion.Judge(result))
		}
		s.result = &result
	}
	watchers := s.watchers
	s.watchers = nil
	s.mu.Unlock()
	for _, watcher := range watchers {
		watcher.End(nil)
	}
}
