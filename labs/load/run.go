package load

import (
	"context"
	"fmt"
	"maps"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Run plays a plan. When ctx ends it stops sending, waits a second for answers,
// and returns what it has measured until then. progress is called once a second
// and at the end, on one goroutine; nil: nobody is told. An error says that the
// plan is not accepted (*PlanError), that the system has too few descriptors, or
// that the server let nobody in.
func Run(ctx context.Context, plan Plan, progress func(Progress)) (Result, error) {
	plan, err := plan.Check(CommandCaps)
	if err != nil {
		return Result{}, err
	}
	if err := needDescriptors(plan.Connections); err != nil {
		return Result{}, err
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	r := newRun(plan, progress)
	err = r.play(ctx)
	return r.result(), err
}

// The bounds of a run's behaviour.
const (
	parallelDials  = 128
	parallelCloses = 64
	hopeless       = 10 // failures without a success end the run
	closeWait      = 3 * time.Second
	earlyDrain     = time.Second
	lagBound       = 5 * time.Millisecond // of the 99th percentile: above it the generator was behind
	cpuBound       = 0.9                  // of all processors
)

// run is one play of a plan.
type run struct {
	plan     Plan
	progress func(Progress)
	speech   speech
	dialer   websocket.Dialer
	buffers  sync.Pool     // of *[]byte, for messages that are read or written
	dials    chan struct{} // takes a place for each handshake

	stopDialing context.CancelFunc

	clock   clock
	start   int64         // when the ramp begins, by the clock
	measure int64         // when the hold begins
	end     atomic.Int64  // when it ends; moved once, to an earlier time
	halted  chan struct{} // closed when end was moved
	halt    func()        // ends the hold now
	stopped chan struct{} // closed when nobody is to send any more
	conns   []*conn

	latency, service, connect histogram
	lag, beats                histogram
	second, secondLag         histogram // since the last sample

	opened, failed, abnormal, isOpen                      atomic.Int64
	sent, received, waiting, errors, bytesSent, bytesRead atomic.Int64
	senders                                               atomic.Int64 // connections that have something to send yet
	cpuAtMeasure, cpuAtEnd                                *float64
	reasons                                               reasons

	mu         sync.Mutex
	closing    bool // connections that open now are too late
	closeCodes map[int]int64
	refusal    error // why nobody was let in

	over    int64 // when stopped was closed
	early   bool
	samples []Progress
}

func newRun(plan Plan, progress func(Progress)) *run {
	r := &run{
		plan: plan, progress: progress, speech: newSpeech(plan), clock: newClock(), dials: make(chan struct{}, parallelDials),
		halted: make(chan struct{}), stopped: make(chan struct{}), closeCodes: make(map[int]int64),
		buffers: sync.Pool{New: func() any { return new([]byte) }},
	}
	r.dialer = websocket.Dialer{
		HandshakeTimeout: plan.Timeout, Subprotocols: r.speech.subprotocols(),
		WriteBufferPool: &sync.Pool{}, WriteBufferSize: len(r.speech.message(nil, stamp{})) + 64, // a message in one frame
	}
	r.conns = make([]*conn, plan.Connections)
	for i := range r.conns {
		r.conns[i] = &conn{run: r, number: i, wake: make(chan struct{}, 1), over: make(chan struct{}), answered: make(chan struct{}, 1)}
	}
	r.start = r.clock.now()
	r.measure = r.start + int64(plan.Ramp+plan.WarmUp)
	r.end.Store(r.measure + int64(plan.Hold))
	r.halt = sync.OnceFunc(func() {
		r.end.Store(min(r.end.Load(), r.clock.now()))
		close(r.halted)
	})
	return r
}

// play runs all phases. Everything that it starts has ended when it returns.
func (r *run) play(ctx context.Context) error {
	dialing, stopDialing := context.WithDeadline(ctx, r.clock.time(r.end.Load()))
	defer stopDialing()
	r.stopDialing = stopDialing
	var connections, helpers sync.WaitGroup
	helpers.Go(func() { r.open(dialing, &connections) })
	helpers.Go(r.keepTime)
	helpers.Go(r.beat)
	r.hold(ctx)
	r.cpuAtEnd = ownProcess().CPUSeconds
	helpers.Wait()
	r.drain()
	r.closeAll()
	connections.Wait()
	r.sample(Done)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refusal
}

// open starts connections evenly over the ramp.
func (r *run) open(ctx context.Context, connections *sync.WaitGroup) {
	for i, c := range r.conns {
		due := r.start + int64(float64(r.plan.Ramp)*float64(i)/float64(len(r.conns)))
		if !r.waitUntil(due) || ctx.Err() != nil {
			return
		}
		connections.Go(func() { c.live(ctx, due) })
	}
}

// waitUntil waits for a time; false: the run was ended before.
func (r *run) waitUntil(due int64) bool {
	wait := due - r.clock.now()
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(time.Duration(wait))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.halted:
		return false
	}
}

// hold waits for the end of the hold, or of ctx, and takes samples.
func (r *run) hold(ctx context.Context) {
	ticks := time.NewTicker(time.Second)
	defer ticks.Stop()
	measure := time.NewTimer(time.Duration(r.measure - r.clock.now()))
	defer measure.Stop()
	end := time.NewTimer(time.Duration(r.end.Load() - r.clock.now()))
	defer end.Stop()
	for {
		select {
		case <-ticks.C:
			r.sample(r.phaseNow())
		case <-measure.C:
			r.cpuAtMeasure = ownProcess().CPUSeconds
		case <-end.C:
			return
		case <-r.halted: // nobody was let in
			return
		case <-ctx.Done():
			r.early = true
			r.halt()
			return
		}
	}
}

func (r *run) phaseNow() Phase {
	switch now := r.clock.now(); {
	case now >= r.end.Load():
		return Draining
	case now >= r.measure:
		return Holding
	case now >= r.start+int64(r.plan.Ramp):
		return WarmingUp
	default:
		return Ramping
	}
}

// giveUp ends the run because nobody was let in.
func (r *run) giveUp(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refusal == nil {
		r.refusal = fmt.Errorf("load: %s lets nobody in: %s", r.plan.URL, why)
		r.stopDialing()
		r.halt()
	}
}

// due is the schedule: when connection i is to send its message k. All connections
// together are evenly spread.
func (r *run) due(i int, k int64) int64 {
	step := 1e9 / r.plan.Rate / float64(len(r.conns))
	return r.start + int64(float64(k*int64(len(r.conns))+int64(i))*step)
}

// firstDue is the first message of connection i that is not due before at.
func (r *run) firstDue(i int, at int64) int64 {
	k := max(0, int64(float64(at-r.due(i, 0))/1e9*r.plan.Rate)-1)
	for r.due(i, k) < at {
		k++
	}
	return k
}

// keepTime wakes the senders, each when something is due on it.
func (r *run) keepTime() {
	if r.plan.Rate == 0 {
		return
	}
	for k := int64(0); ; k++ {
		for i, c := range r.conns {
			due := r.due(i, k)
			for {
				if due >= r.end.Load() {
					return
				}
				wait := due - r.clock.now()
				if wait <= 0 {
					break
				}
				sleep(min(time.Duration(wait), 20*time.Millisecond)) // end may move
			}
			select {
			case c.wake <- struct{}{}:
			default: // it has not looked at the last one yet
			}
		}
	}
}

// beat finds out how late this process gets to run.
func (r *run) beat() {
	const every = int64(10 * time.Millisecond)
	for due := r.clock.now() + every; due < r.end.Load(); due = max(due+every, r.clock.now()) {
		if !r.waitUntil(due) {
			return
		}
		r.late(&r.beats, due, r.clock.now())
	}
}

// late records how late the generator itself was for something that was due.
func (r *run) late(lag *histogram, due, now int64) {
	if due >= r.measure {
		lag.record(time.Duration(now - due))
	}
	r.secondLag.record(time.Duration(now - due))
}

// drain waits until everything due was sent and everything sent was answered, for
// as long as answers may take.
func (r *run) drain() {
	limit := r.plan.Timeout
	if r.early {
		limit = min(limit, earlyDrain)
	}
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	for end := time.Now().Add(limit); time.Now().Before(end) && (r.senders.Load() > 0 || r.waiting.Load() > 0); {
		<-ticks.C
	}
	r.over = r.clock.now()
	close(r.stopped)
}

// closeAll ends every connection with a closing handshake.
func (r *run) closeAll() {
	r.mu.Lock()
	r.closing = true
	r.mu.Unlock()
	var closes sync.WaitGroup
	next := make(chan *conn)
	for range min(parallelCloses, len(r.conns)) {
		closes.Go(func() {
			for c := range next {
				c.close()
			}
		})
	}
	for _, c := range r.conns {
		next <- c
	}
	close(next)
	closes.Wait()
}

// sample keeps and tells how things are.
func (r *run) sample(phase Phase) {
	p := Progress{
		Phase: phase, Elapsed: time.Duration(r.clock.now() - r.start), Planned: time.Duration(r.measure-r.start) + r.plan.Hold,
		Connections: int(r.isOpen.Load()), Failed: r.failed.Load(), Abnormal: r.abnormal.Load(),
		Sent: r.sent.Load(), Received: r.received.Load(), Errors: r.errors.Load(),
		Latency: r.second.latency(true), Lag: r.secondLag.latency(true),
	}
	var last Progress
	if n := len(r.samples); n > 0 {
		last = r.samples[n-1]
	}
	if seconds := (p.Elapsed - last.Elapsed).Seconds(); seconds > 0 {
		p.SentRate, p.Rate = float64(p.Sent-last.Sent)/seconds, float64(p.Received-last.Received)/seconds
	}
	r.samples = append(r.samples, p)
	r.progress(p)
}

// result adds up what the connections have counted.
func (r *run) result() Result {
	end := r.end.Load()
	held := max(0, time.Duration(end-r.measure)).Seconds()
	out := Result{
		Plan: r.plan, StartedAt: r.clock.time(r.start), Early: r.early, HeldSeconds: held, Samples: r.samples, Verdicts: []Verdict{},
		Connections: Connections{
			Planned: len(r.conns), Opened: r.opened.Load(), Failed: r.failed.Load(), Abnormal: r.abnormal.Load(),
			CloseCodes: maps.Clone(r.closeCodes), Reasons: r.reasons.list(),
		},
		Messages: Messages{
			Errors: r.errors.Load(), SentInAll: r.sent.Load(), ReceivedInAll: r.received.Load(),
			BytesSent: r.bytesSent.Load(), BytesReceived: r.bytesRead.Load(),
		},
	}
	for _, c := range r.conns {
		c.add(&out.Messages, end, held)
		out.Generator.HeldUp += c.heldUp
	}
	if held > 0 {
		out.Messages.SentRate, out.Messages.Rate = float64(out.Messages.Sent)/held, float64(out.Messages.Answered)/held
	}
	out.Latency, out.Service, out.Connect = r.latency.latency(false), r.service.latency(false), r.connect.latency(false)
	r.judgeItself(&out.Generator, held)
	return out
}

// judgeItself says whether the generator kept up.
func (r *run) judgeItself(g *Generator, held float64) {
	g.Process, g.Lag = ownProcess(), r.lag.latency(false)
	if beats := r.beats.latency(false); beats != nil && (g.Lag == nil || beats.P99 > lagBound && beats.P99 > g.Lag.P99) {
		g.Lag = beats
	}
	if r.cpuAtMeasure != nil && r.cpuAtEnd != nil && held > 0 {
		cpus := math.Round((*r.cpuAtEnd-*r.cpuAtMeasure)/held*1000) / 1000
		g.CPUs = &cpus
	}
	switch all := float64(runtime.GOMAXPROCS(0)); {
	case g.Lag != nil && g.Lag.P99 > lagBound:
		g.Why = fmt.Sprintf("in 1 %% of cases it was more than %v late by itself", g.Lag.P99.Round(100*time.Microsecond))
	case g.CPUs != nil && *g.CPUs > cpuBound*all:
		g.Why = fmt.Sprintf("its process used %.1f of %.0f processors", *g.CPUs, all)
	}
	g.Behind = g.Why != ""
}
