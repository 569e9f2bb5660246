// Package probe tests a learner's own WebSocket echo server.
//
// It dials loopback addresses only, with plain sockets, so that it can send what
// no library would and see all that comes back. What it looks for is a fixed
// list of checks, in steps: each opens connections of its own, is over within a
// bounded time, and says what it saw, what it wanted, and where RFC 6455 asks
// for it. The checks of one step run a few at a time, the steps one after
// another. When Run returns, no connection is open and no goroutine is left.
//
// A report is what its sender says it is. ParseReport holds it to its form only.
package probe

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// The bounds of a run.
const (
	patience    = 2 * time.Second       // how long an answer may take
	loadTime    = 5 * time.Second       // how long the visitors of step S6 may take
	leaveTime   = 3 * time.Second       // how long a server may hold a connection that has ended
	runTime     = 28 * time.Second      // of all checks; those that are left are skipped
	atOnce      = 6                     // checks of a step that run together
	pollEvery   = 50 * time.Millisecond // between two questions to the status URL
	visitors    = 50                    // connections of step S6
	each        = 20                    // messages on each of them
	MaxTooLarge = 64 << 20              // bytes of the message that is too large
	fragment    = 64 << 10              // bytes of it that are written at a time
)

// Config is what to test. Zero fields take the defaults in brackets.
type Config struct {
	URL       string // of the server, ws:// with a name or address of this machine
	StatusURL string // http:// of the same kind: answers GET with the number of open WebSockets [not asked]
	TooLarge  int    // bytes of a message that the server has to refuse, up to MaxTooLarge [not sent]
}

// Status is how a check ended.
type Status string

// The ways to end.
const (
	Passed  Status = "passed"
	Failed  Status = "failed"
	Skipped Status = "skipped"
)

// Check is the result of one check. All but Status, Saw and Millis is the same
// in every report.
type Check struct {
	ID      string `json:"id"`
	Step    string `json:"step"` // of the lesson, S1 to S7
	Title   string `json:"title"`
	Status  Status `json:"status"`
	Saw     string `json:"saw"` // or why it was skipped
	Wanted  string `json:"wanted"`
	Section string `json:"section"` // such as "RFC 6455, section 5.1"
	Millis  int64  `json:"millis"`  // that it took
}

// Report is the result of a run: every check once, in order.
type Report struct {
	URL       string    `json:"url"`
	Checks    []Check   `json:"checks"`
	StartedAt time.Time `json:"startedAt"`
}

// Passed reports whether every check of a step passed, but those that were
// skipped because nobody asked for them. Step "" stands for all steps.
func (r *Report) Passed(step string) bool {
	for i, check := range r.Checks {
		if step == "" || check.Step == step {
			if check.Status == Failed || check.Status == Skipped && !catalogue[i].optional {
				return false
			}
		}
	}
	return true
}

// outcome is what a check comes to.
type outcome struct {
	status Status
	saw    string
}

func pass(format string, args ...any) outcome { return outcome{Passed, fmt.Sprintf(format, args...)} }

func fail(format string, args ...any) outcome { return outcome{Failed, fmt.Sprintf(format, args...)} }
func skip(why string) outcome                 { return outcome{Skipped, why} }

// prober is one run.
type prober struct {
	target target
	cfg    Config
	status *http.Client // nil: there is no status URL

	opens    bool    // the handshake is right
	visitors []*peer // of step S6, still connected
	came     int     // how many there were
	before   tally   // of the status URL, at the beginning
	during   tally   // and while they were there
}

// Run tests a server. The error says what is wrong with cfg, or that nothing
// listens there; what is wrong with the server is in the report.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	p := &prober{cfg: cfg}
	if cfg.TooLarge < 0 || cfg.TooLarge > MaxTooLarge {
		return nil, fmt.Errorf("a message of %d bytes is not sent: at most %d", cfg.TooLarge, MaxTooLarge)
	}
	var err error
	if p.target, err = find(ctx, "ws", cfg.URL); err != nil {
		return nil, err
	}
	if cfg.StatusURL != "" {
		status, err := find(ctx, "http", cfg.StatusURL)
		if err != nil {
			return nil, err
		}
		transport := &http.Transport{DialContext: status.dialContext, DisableKeepAlives: true}
		p.status = &http.Client{Transport: transport, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	conn, err := p.target.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("nothing answers at %s: start your server first (%w)", cfg.URL, err)
	}
	conn.Close()

	report := &Report{URL: cfg.URL, StartedAt: time.Now().UTC(), Checks: make([]Check, len(catalogue))}
	whole, stop := context.WithTimeout(ctx, runTime)
	defer stop()
	defer p.dismiss()
	if p.status != nil {
		p.before = p.held(whole)
	}
	for from := 0; from < len(catalogue); {
		to := from
		for to < len(catalogue) && catalogue[to].step == catalogue[from].step {
			to++
		}
		p.step(whole, report.Checks, from, to)
		p.opens = report.Checks[0].Status == Passed
		from = to
	}
	return report, ctx.Err()
}

// step runs the checks of one step, a few at a time.
func (p *prober) step(ctx context.Context, results []Check, from, to int) {
	width := atOnce
	if catalogue[from].ordered {
		width = 1
	}
	places := make(chan struct{}, width)
	var running sync.WaitGroup
	for i := from; i < to; i++ {
		places <- struct{}{}
		running.Go(func() {
			results[i] = p.check(ctx, catalogue[i])
			<-places
		})
	}
	running.Wait()
}

func (p *prober) check(ctx context.Context, d definition) Check {
	began := time.Now()
	var o outcome
	switch {
	case d.step != "S1" && !p.opens:
		o = skip("not tried: the handshake fails")
	case ctx.Err() != nil:
		o = skip("not tried: the time for all checks was up")
	default:
		o = d.run(ctx, p)
	}
	result := d.blank()
	result.Status, result.Saw, result.Millis = o.status, short(o.saw, maxSaw), time.Since(began).Milliseconds()
	return result
}

// dismiss closes the visitors that no check has let go.
func (p *prober) dismiss() {
	for _, visitor := range p.visitors {
		visitor.conn.Close()
	}
}
