//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// load is what is done to a server.
type load struct {
	name      string
	n         int                // subscribers
	size      int                // of a payload
	selection func(i int) string // of subscriber i ["payload"]
	topics    int                // [1]; subscriber i has topic i modulo topics
	mqtt      bool               // published to the MQTT broker, not to Redis
	events    bool               // server-sent events
	narrow    func(i int) bool   // see fleetConfig
	deliver   func(*run) error   // publishes, and waits for the deliveries
	env       []string           // of the gateway [raised]
	slot      int                // keeps apart loads that are open at the same time
}

// channels are the names of a load's topics.
func (l load) channels() []string {
	names := make([]string, max(l.topics, 1))
	for i := range names {
		names[i] = fmt.Sprintf("demo:bench:%d:%d", l.slot, i)
		if l.mqtt {
			names[i] = strings.ReplaceAll(names[i], ":", "/")
		}
	}
	return names
}

// documents returns what each subscriber asks for.
func (l load) documents() func(i int) string {
	channels := l.channels()
	format := `subscription { redisMessages(channel: "%s") { %s } }`
	if l.mqtt {
		format = `subscription { mqttMessages(topic: "%s") { %s } }`
	}
	return func(i int) string {
		selection := "payload"
		if l.selection != nil {
			selection = l.selection(i)
		}
		return fmt.Sprintf(format, channels[l.topic(i)], selection)
	}
}

func (l load) topic(i int) int { return i % max(l.topics, 1) }

// run is one load on one server.
type run struct {
	ctx   context.Context
	bed   *bed
	load  load
	on    *server
	fleet *fleet
	pub   *publisher
}

// raised are the limits of the gateway, out of the way of the measurement.
var raised = []string{
	"SLUICE_LIMIT_CONNECTIONS=100000", "SLUICE_LIMIT_QUEUE=64MiB", "SLUICE_LIMIT_OPERATIONS=100000", "SLUICE_LIMIT_OPERATIONS_BURST=100000",
}

// begin starts a server, subscribes and warms up. The caller closes the run, also
// after an error.
func (b *bed) begin(ctx context.Context, peer string, l load) (r *run, err error) {
	r = &run{ctx: ctx, bed: b, load: l}
	env := l.env
	if env == nil {
		env = raised
	}
	if r.on, err = b.start(ctx, peer, env...); err != nil {
		return r, err
	}
	r.fleet, err = newFleet(fleetConfig{
		Addr: r.on.addr, N: l.n, Document: l.documents(), Topic: l.topic, Events: l.events, Narrow: l.narrow,
	})
	if err != nil {
		return r, r.on.explain(err)
	}
	broker := b.redis
	if l.mqtt {
		broker = b.mqtt
	}
	if r.pub, err = newPublisher(broker, l.mqtt, l.channels(), l.size); err != nil {
		return r, err
	}
	if err := r.pub.warmUp(ctx, r.fleet); err != nil {
		return r, r.on.explain(err)
	}
	// Memory grows to its size and code gets warm before anything counts.
	return r, r.paced(50, 200*time.Millisecond)
}

func (r *run) close() {
	if r.pub != nil {
		r.pub.close()
	}
	if r.fleet != nil {
		r.fleet.close()
	}
	if r.on != nil {
		r.on.stop()
	}
}

// measure delivers.
func (r *run) measure() (sample, error) {
	time.Sleep(200 * time.Millisecond)
	r.fleet.reset(r.pub.lastOf)
	profiled := r.bed.startProfile(r.on, r.load.name)
	begun := time.Now()
	spent, err := r.on.spends(func() error { return r.load.deliver(r) })
	if err != nil {
		return sample{}, r.on.explain(err)
	}
	took := time.Since(begun)
	profiled()
	t := r.fleet.finish(r.pub.lastOf)
	resident, err := r.on.resident()
	v := spent.Seconds() * 1e6 / float64(max(t.Deliveries, 1))
	return sample{value: v, lost: t.Lost, mixed: t.Doubled + t.Reordered, latency: t.Latency, detail: fmt.Sprintf(
		"%.2f µs per delivery, %d deliveries in %v, p50 %v, p99 %v, lost %d, doubled %d, reordered %d, sockets ended %d, %d MiB",
		v, t.Deliveries, took.Round(time.Millisecond), t.Latency.percentile(50), t.Latency.percentile(99),
		t.Lost, t.Doubled, t.Reordered, r.fleet.count(&r.fleet.dead), resident>>20)}, err
}

// paced publishes so many messages a second on every topic.
func (r *run) paced(perSecond int, length time.Duration) error {
	ticks := time.NewTicker(time.Second / time.Duration(perSecond))
	defer ticks.Stop()
	for range int(length.Seconds() * float64(perSecond)) {
		select {
		case <-ticks.C:
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
		for channel := range r.pub.channels {
			r.pub.add(channel)
		}
		if err := r.pub.send(); err != nil {
			return err
		}
	}
	return r.quiet()
}

// bursts publishes messages back to back and waits until they have arrived, again
// and again.
func (r *run) bursts(count, length int) error {
	for range count {
		for range length {
			r.pub.add(0)
		}
		if err := r.pub.send(); err != nil {
			return err
		}
		if err := r.quiet(); err != nil {
			return err
		}
	}
	return nil
}

// saturated publishes as much as the server delivers: at most window messages of
// each topic are on their way.
func (r *run) saturated(window int, length time.Duration) error {
	start := r.fleet.deliveries()
	sent := 0 // of each topic
	for end := time.Now().Add(length); time.Now().Before(end); {
		if r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		arrived := (r.fleet.deliveries() - start) / r.load.n
		if sent-arrived > window-4 {
			time.Sleep(time.Millisecond)
			continue
		}
		for range 4 {
			for channel := range r.pub.channels {
				r.pub.add(channel)
			}
			if err := r.pub.send(); err != nil {
				return err
			}
			sent++
		}
	}
	return r.quiet()
}

// quiet waits until everything has arrived at those who still read, or nothing
// arrives any more.
func (r *run) quiet() error {
	before, since := -1, time.Now()
	for r.ctx.Err() == nil {
		waiting := r.fleet.waiting(r.pub.lastOf)
		if waiting == 0 {
			return nil
		}
		if waiting != before {
			before, since = waiting, time.Now()
		}
		if time.Since(since) > 10*time.Second {
			return nil // the rest is lost
		}
		time.Sleep(2 * time.Millisecond)
	}
	return r.ctx.Err()
}

// startProfile takes a CPU profile of the gateway in the background; the result
// waits for it.
func (b *bed) startProfile(s *server, name string) func() {
	if s.debug == "" {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := download("http://"+s.debug+"/debug/pprof/profile?seconds=3", filepath.Join(b.profile, name+".pprof")); err != nil {
			fmt.Fprintln(os.Stderr, "no profile:", err)
		}
	}()
	return func() { <-done }
}

// memoryProfile writes how the gateway's memory is used, and then what lives on
// its heap.
func (b *bed) memoryProfile(s *server, name string) {
	if s.debug == "" {
		return
	}
	err := download("http://"+s.debug+"/debug/vars", filepath.Join(b.profile, name+".vars.json"))
	if err == nil {
		err = download("http://"+s.debug+"/debug/pprof/heap?gc=1", filepath.Join(b.profile, name+".heap.pprof"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "no profile:", err)
	}
}

func download(url, path string) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(file, resp.Body)
	return err
}

// idleFor is how long nothing happens before memory counts as idle: the gateway
// takes up to 10 s to see that it is quiet, and to give back what it has used for
// the connections' coming.
const idleFor = 12 * time.Second

// idle opens sockets with one subscription each and says how much resident
// memory each of them takes.
func (b *bed) idle(ctx context.Context, peer string, n int) (bytes float64, err error) {
	// The server's own memory, with one subscriber.
	r, err := b.begin(ctx, peer, load{n: 1, size: 64})
	defer r.close()
	if err != nil {
		return 0, err
	}
	before, err := r.on.settled(3 * time.Second)
	if err != nil {
		return 0, err
	}
	f, err := newFleet(fleetConfig{Addr: r.on.addr, N: n, Document: r.load.documents()})
	if err != nil {
		return 0, r.on.explain(err)
	}
	defer f.close()
	if err := r.pub.warmUp(ctx, f); err != nil {
		return 0, r.on.explain(err)
	}
	select {
	case <-time.After(idleFor):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := r.on.resident()
	b.memoryProfile(r.on, "idle")
	return float64(after-before) / float64(n), err
}

// storm connects and subscribes as fast as it can and says how much CPU time of
// the server each connection takes, in microseconds.
func (b *bed) storm(ctx context.Context, peer string, n int) (micros float64, err error) {
	// With some subscribers before, the channel is open and the code warm.
	r, err := b.begin(ctx, peer, load{n: 50, size: 64})
	defer r.close()
	if err != nil {
		return 0, err
	}
	time.Sleep(200 * time.Millisecond)
	profiled := b.startProfile(r.on, "connect")
	spent, err := r.on.spends(func() error {
		f, err := newFleet(fleetConfig{Addr: r.on.addr, N: n, Document: r.load.documents()})
		if err != nil {
			return err
		}
		defer time.AfterFunc(time.Second, f.close)
		err = until(ctx, 30*time.Second, "acknowledgements", func() (bool, error) { return f.count(&f.acked) == n, f.ended() })
		time.Sleep(300 * time.Millisecond) // for the subscriptions behind them
		return err
	})
	profiled()
	return spent.Seconds() * 1e6 / float64(n), r.on.explain(err)
}

// stalled is what happens when some clients stop reading.
type stalled struct {
	p99Before, p99 time.Duration // of the others
	lost           int           // by the others
	grown          int           // bytes of memory, from the peak before to the peak after
	closed         int           // of those that do not read
}

func (s stalled) String() string {
	return fmt.Sprintf("p99 %v before, %v after, lost %d, %+d KiB, closed %d", s.p99Before, s.p99, s.lost, s.grown>>10, s.closed)
}

// stall lets the narrow clients of a load stop reading.
func (b *bed) stall(ctx context.Context, peer string, l load) (s stalled, err error) {
	const perSecond = 25
	r, err := b.begin(ctx, peer, l)
	defer r.close()
	if err != nil {
		return s, err
	}
	if err := r.paced(perSecond, 2*time.Second); err != nil {
		return s, err
	}
	r.fleet.reset(r.pub.lastOf)
	before, err := r.on.most(func() error { return r.paced(perSecond, stallBefore) })
	if err != nil {
		return s, err
	}
	s.p99Before = r.fleet.finish(r.pub.lastOf).Latency.percentile(99)
	r.fleet.stall(l.narrow)
	r.fleet.reset(r.pub.lastOf)
	after, err := r.on.most(func() error { return r.paced(perSecond, stallAfter) })
	s.grown = after - before
	t := r.fleet.finish(r.pub.lastOf)
	s.p99, s.lost = t.Latency.percentile(99), t.Lost
	s.closed = r.fleet.closedOfStalled()
	return s, err
}
