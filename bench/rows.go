//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// row is one line of the table: a load, and the servers that get it.
type row struct {
	name    string // short, for -only
	title   string
	explain string // for the documentation
	format  func(float64) string
	rounds  int
	cells   []cell
	targets []target
}

// cell is one server, or one variant of the load.
type cell struct {
	key   string // column: sluice, floor, stock, chat, or other
	title string
	// open gets everything ready. All cells of a row are open at the same time,
	// each in a slot of its own.
	open func(ctx context.Context, b *bed, slot int) (opened, error)
}

// opened is a cell that is ready to be measured, again and again.
type opened interface {
	measure() (sample, error)
	close()
}

// fresh is a cell that starts a server of its own for each measurement.
type fresh func() (sample, error)

func (f fresh) measure() (sample, error) { return f() }
func (fresh) close()                     {}

// each makes a cell of a measurement that needs nothing open.
func each(key, title string, measure func(context.Context, *bed) (sample, error)) cell {
	return cell{key, title, func(ctx context.Context, b *bed, _ int) (opened, error) {
		return fresh(func() (sample, error) { return measure(ctx, b) }), nil
	}}
}

// sample is what one measurement of a cell found. Less is better.
type sample struct {
	value   float64
	text    string // instead of the formatted value
	lost    int
	mixed   int  // doubled or out of order
	over    bool // broke a bound that the value does not show
	latency histogram
	detail  string // for the log
}

// target is a promise about the first cell of a row.
type target struct {
	against string  // title of another cell; empty: absolute
	most    float64 // value, or ratio
	text    string  // the bound as it is written in the table
}

// result is a measured row.
type result struct {
	row
	samples [][]sample // of each cell
}

// median is the sample of a cell with the median value.
func (r result) median(i int) sample {
	sorted := slices.Clone(r.samples[i])
	slices.SortStableFunc(sorted, func(a, b sample) int { return cmp.Compare(a.value, b.value) })
	return sorted[len(sorted)/2]
}

// The columns of the table, by the key of a cell.
const (
	colSluice = "sluice"
	colFloor  = "floor"
	colStock  = "stock"
	colChat   = "chat"
	colOther  = "other"
)

var columnTitles = map[string]string{
	colSluice: "Sluice", colFloor: "raw `write(2)`", colStock: "gqlgen's stock transport", colChat: "gorilla broadcast", colOther: "other",
}

// nameOf says which column a server belongs to, and its title.
func nameOf(peer string) (key, title string) {
	switch peer {
	case "floor-batched":
		return colFloor, "raw `write(2)`, batched"
	case "stock-gorilla":
		return colOther, "stock transport on gorilla"
	}
	return peer, columnTitles[peer]
}

// peerCell is a load on a server.
func peerCell(peer string, l load) cell {
	key, title := nameOf(peer)
	return cell{key, title, func(ctx context.Context, b *bed, slot int) (opened, error) {
		mine := l
		mine.slot = slot
		r, err := b.begin(ctx, peer, mine)
		if err != nil {
			r.close()
			return nil, err
		}
		return r, nil
	}}
}

// titled renames a cell and puts it under "other".
func titled(title string, c cell) cell {
	c.key, c.title = colOther, title
	return c
}

func micros(v float64) string {
	if v < 1 {
		return fmt.Sprintf("%.2f µs", v)
	}
	return fmt.Sprintf("%.1f µs", v)
}

func bytesText(v float64) string { return thousands(int(v)) + " B" }

func millis(v float64) string { return fmt.Sprintf("%.1f ms", v) }

func paced(perSecond int, length time.Duration) func(*run) error {
	return func(r *run) error { return r.paced(perSecond, length) }
}

// rows are the lines of the table.
func rows(short bool) []row {
	pick := func(full, brief int) int {
		if short {
			return brief
		}
		return full
	}
	length := 2 * time.Second
	sockets := pick(10_000, 2_000)
	connects := pick(2_000, 1_000)

	same256 := load{name: "same-256", n: 1000, size: 256, deliver: paced(20, length)}
	same4k := load{name: "same-4k", n: 1000, size: 4096, deliver: paced(8, length)}
	burst := func(count int) load {
		return load{name: "burst", n: 1000, size: 256, deliver: func(r *run) error {
			return r.bursts(count, pick(500, 300))
		}}
	}
	distinct := func(operations int) load {
		return load{name: fmt.Sprintf("distinct-%d", operations), n: 1000, size: 256, deliver: paced(20, length), selection: func(i int) string {
			return fmt.Sprintf("p%d: payload", i%operations)
		}}
	}
	topics := load{name: "topics", n: 1000, topics: 1000, size: 256, deliver: func(r *run) error {
		return r.saturated(20, length)
	}}
	private := load{name: "private", n: 1000, size: 256, mqtt: true, deliver: paced(20, length)}
	events := same256
	events.name, events.events = "sse", true

	cells := func(l load, peers ...string) (made []cell) {
		for _, peer := range peers {
			made = append(made, peerCell(peer, l))
		}
		return made
	}
	list := []row{
		{
			name: "same-256", title: "same operation, 1,000 subscribers, 256 B, 20 messages/s", format: micros, rounds: pick(5, 3),
			explain: "Everybody watches one Redis channel with the same document. Each message is executed and encoded once; what remains is one system call for each subscriber, which is why it is held against a server that does nothing else.",
			cells:   cells(same256, firstOf(short, []string{sluice, "floor", "stock", "chat", "stock-gorilla"}, 3)...),
			targets: []target{{columnTitles[colFloor], 1.25, "≤ 1.25"}, {columnTitles[colStock], 1 / 2.7, "≤ 1/2.7"}},
		},
		{
			name: "same-4k", title: "same operation, 1,000 subscribers, 4 KiB, 8 messages/s", format: micros, rounds: 3,
			explain: "The same with larger messages: to encode them once for each subscriber is what costs then. 8 messages a second, so that the stock transport keeps up.",
			cells:   cells(same4k, firstOf(short, []string{sluice, "stock", "floor", "chat"}, 2)...),
			targets: []target{{columnTitles[colStock], 1.0 / 8, "≤ 1/8"}},
		},
		{
			name: "burst", title: fmt.Sprintf("same operation, 1,000 subscribers, 256 B, bursts of %d messages", pick(500, 300)), format: micros, rounds: 3,
			explain: "Messages are published back to back and the next burst waits until the last one has arrived everywhere. All that waits for a socket goes into one write, so the cost per delivery falls far below that of a system call.",
			cells:   []cell{peerCell(sluice, burst(pick(30, 20))), peerCell("floor-batched", burst(pick(30, 20))), peerCell("stock", burst(1))},
			targets: []target{{"raw `write(2)`, batched", 2, "≤ 2"}, {columnTitles[colStock], 1.0 / 30, "≤ 1/30"}},
		},
		{
			name: "distinct-100", title: "100 operations on one topic, 1,000 subscribers, 256 B, 20 messages/s", format: micros, rounds: 3,
			explain: "The subscribers' documents differ in the alias of a field, ten subscribers to each. A message is executed a hundred times instead of once.",
			cells:   append(cells(distinct(100), firstOf(short, []string{sluice, "stock"}, 1)...), titled("Sluice, same operation", peerCell(sluice, same256))),
			targets: []target{{"Sluice, same operation", 1.3, "≤ 1.3"}},
		},
		{
			name: "topics", title: "one topic for each of 1,000 subscribers, 256 B, as fast as it goes", format: micros, rounds: 3,
			explain: "Nothing can be shared: every message has one subscriber. At most 20 messages of each topic are on their way.",
			cells:   cells(topics, firstOf(short, []string{sluice, "stock", "floor-batched"}, 2)...),
			targets: []target{{columnTitles[colStock], 0.5, "≤ 1/2"}},
		},
		{
			name: "idle", title: fmt.Sprintf("resident memory of an idle socket with one subscription, %s sockets", thousands(sockets)), format: bytesText, rounds: pick(3, 1),
			explain: fmt.Sprintf("The growth of the process's resident memory, divided by the sockets, %v after the last has come.", idleFor),
			cells:   idleCells(sockets, firstOf(short, []string{sluice, "stock", "chat"}, 1)...),
			targets: []target{{"", 9000, "≤ 9,000 B"}},
		},
		{
			name: "connect", title: fmt.Sprintf("connect, acknowledge, subscribe: %s connections, 16 at a time", thousands(connects)), format: micros, rounds: 3,
			explain: "CPU time of the server for one connection: TCP and HTTP, the upgrade, `connection_init`, validation, joining a channel that is already open.",
			cells:   stormCells(connects, firstOf(short, []string{sluice, "stock", "chat"}, 2)...),
			targets: []target{{columnTitles[colStock], 0.7, "≤ 0.7"}},
		},
	}
	if !short {
		list = append(list, resumeRows()...)
		list = append(list, stallRows()...)
		list = append(list, lessonRows()...)
		list = append(list,
			row{
				name: "distinct-1000", title: "1,000 operations on one topic, 1,000 subscribers, 256 B, 20 messages/s", format: micros, rounds: 3,
				explain: "Where sharing cannot help: each subscriber has a document of its own, so each message is executed a thousand times.",
				cells:   cells(distinct(1000), sluice, "stock", "floor"),
			},
			row{
				name: "private", title: "`mqttMessages`, 1,000 subscribers of one topic, 256 B, 20 messages/s", format: micros, rounds: 3,
				explain: "An operation that is not shared: each subscriber is owed the retained messages of the broker, so each has a stream of its own.",
				cells:   cells(private, sluice, "stock"),
			},
			row{
				name: "sse", title: "same operation as server-sent events, 1,000 subscribers, 256 B, 20 messages/s", format: micros, rounds: 3,
				explain: "The operation is executed once for all, but every stream is a response of `net/http` with a goroutine that writes it.",
				cells:   append(cells(events, sluice, "stock"), titled("Sluice, over WebSocket", peerCell(sluice, same256))),
			},
		)
	}
	return append(list, smallRows(short)...)
}

// firstOf takes the first n in the short form.
func firstOf(short bool, peers []string, n int) []string {
	if short {
		return peers[:n]
	}
	return peers
}

func idleCells(n int, peers ...string) (made []cell) {
	for _, peer := range peers {
		key, title := nameOf(peer)
		made = append(made, each(key, title, func(ctx context.Context, b *bed) (sample, error) {
			v, err := b.idle(ctx, peer, n)
			return sample{value: v, detail: bytesText(v)}, err
		}))
	}
	return made
}

func stormCells(n int, peers ...string) (made []cell) {
	for _, peer := range peers {
		key, title := nameOf(peer)
		made = append(made, each(key, title, func(ctx context.Context, b *bed) (sample, error) {
			v, err := b.storm(ctx, peer, n)
			return sample{value: v, detail: micros(v)}, err
		}))
	}
	return made
}

// The stall: a few clients stop reading, all others should not notice.
const (
	stallClients = 300
	stallStuck   = 3
	stallBefore  = 6 * time.Second
	stallAfter   = 20 * time.Second
)

func stallRows() []row {
	loads := load{
		name: "stall", n: stallClients, size: 4096,
		env:    []string{}, // the gateway's own limits: 1 MiB for each socket
		narrow: func(i int) bool { return i%(stallClients/stallStuck) == 0 },
	}
	measured := func(peer string, pick func(stalled) sample) cell {
		key, title := nameOf(peer)
		return each(key, title, func(ctx context.Context, b *bed) (sample, error) {
			s, err := b.stall(ctx, peer, loads)
			return pick(s), err
		})
	}
	var cells []cell
	for _, peer := range []string{sluice, "stock", "chat"} {
		cells = append(cells, measured(peer, func(s stalled) sample {
			return sample{
				value: s.p99.Seconds() / max(s.p99Before.Seconds(), 1e-6), lost: s.lost, over: s.grown > stallStuck<<20, detail: s.String(),
				text: fmt.Sprintf("%.2f × (%v → %v), %+d MiB, closed %d", s.p99.Seconds()/max(s.p99Before.Seconds(), 1e-6),
					round(s.p99Before), round(s.p99), s.grown>>20, s.closed),
			}
		}))
	}
	return []row{{
		name: "stall", title: fmt.Sprintf("%d of %d clients stop reading, 4 KiB, 25 messages/s: p99 of the others after and before", stallStuck, stallClients), rounds: 3,
		format:  func(v float64) string { return fmt.Sprintf("%.2f ×", v) },
		explain: fmt.Sprintf("After %v, %d of the clients stop reading for %v. What the others see, what they lose, how much the peak of the server's memory grows (the gateway's bound is 1 MiB for each socket, so %d MiB), and how many of the stuck clients it has closed in the end.", stallBefore, stallStuck, stallAfter, stallStuck),
		cells:   cells,
		targets: []target{{"", 1.5, fmt.Sprintf("≤ 1.5 ×, 0 lost, ≤ %d MiB", stallStuck)}},
	}}
}

func round(d time.Duration) time.Duration {
	if d > 10*time.Millisecond {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}

// smallRows are the measures of the gateway alone.
func smallRows(short bool) []row {
	messages := 500
	if short {
		messages = 300
	}
	latency := func(mqtt bool) cell {
		l := load{name: "latency", n: 100, size: 64, mqtt: mqtt, deliver: paced(100, time.Duration(messages)*10*time.Millisecond)}
		c := peerCell(sluice, l)
		return cell{c.key, c.title, func(ctx context.Context, b *bed, slot int) (opened, error) {
			r, err := c.open(ctx, b, slot)
			return latencies{r}, err
		}}
	}
	return []row{
		{
			name: "latency-redis", title: fmt.Sprintf("Redis PUBLISH to the frame, 100 subscribers, %d messages, 100/s", messages), format: millis, rounds: 1,
			explain: "Publisher, broker, gateway and clients share this machine: an upper bound.",
			cells:   []cell{latency(false)},
		},
		{
			name: "latency-mqtt", title: fmt.Sprintf("MQTT publish (QoS 0) to the frame, 100 subscribers, %d messages, 100/s", messages), format: millis, rounds: 1,
			explain: "The same through mosquitto.",
			cells:   []cell{latency(true)},
		},
		{
			name: "start", title: "exec to the first event at a client, embedded brokers", format: millis, rounds: 5,
			explain: "From the start of the process to the first `timeUpdates` event.",
			cells:   []cell{each(colSluice, columnTitles[colSluice], firstEvent)},
			targets: []target{{"", 1000, "≤ 1 s"}},
		},
		{
			name: "resident", title: "resident memory without clients, embedded brokers", rounds: 1,
			format:  func(v float64) string { return fmt.Sprintf("%.1f MiB", v/(1<<20)) },
			explain: "As it is started without any settings.",
			cells:   []cell{each(colSluice, columnTitles[colSluice], atRest)},
		},
	}
}

// latencies tells how late messages came instead of what they cost.
type latencies struct{ opened }

func (l latencies) measure() (sample, error) {
	s, err := l.opened.measure()
	p50, p99 := s.latency.percentile(50), s.latency.percentile(99)
	s.value, s.text = p99.Seconds()*1e3, fmt.Sprintf("p50 %v, p99 %v", round(p50), round(p99))
	return s, err
}
