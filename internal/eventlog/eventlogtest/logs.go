package eventlogtest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
)

// What a Log does with a store.

// reader reads a subscription to a topic whose entries are numbers.
type reader struct {
	live.Sub[*eventlog.Entry]
	tb   testing.TB
	news chan struct{}
	last string // cursor of the newest entry that was read
}

func subscribe(tb testing.TB, log *eventlog.Log, topic, cursor string) *reader {
	tb.Helper()
	sub, err := log.Subscribe(tb.Context(), topic, cursor)
	if err != nil {
		tb.Fatalf("Subscribe to %q: %v", topic, err)
	}
	r := &reader{Sub: sub, tb: tb, news: make(chan struct{}, 1)}
	tb.Cleanup(sub.Close)
	sub.Wake(func() {
		select {
		case r.news <- struct{}{}:
		default:
		}
	})
	p, ok := r.kept().Start()
	if !ok {
		tb.Fatalf("it is not known where the subscription to %q starts", topic)
	}
	r.last = r.kept().Cursor(p)
	return r
}

func (r *reader) kept() live.Kept { return r.Sub.(live.Kept) }

// next waits for the next event; nil: the stream has ended.
func (r *reader) next() *live.Event[*eventlog.Entry] {
	r.tb.Helper()
	var one [1]live.Event[*eventlog.Entry]
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		n, open := r.Next(one[:])
		if n > 0 {
			r.last = r.kept().Cursor(one[0].Pos)
			return &one[0]
		}
		if !open {
			return nil
		}
		select {
		case <-r.news:
		case <-deadline.C:
			r.tb.Fatalf("no event within %v", patience)
		}
	}
}

// number is what the next event says; 0: the stream has ended.
func (r *reader) number() (n int, gap *live.Gap) {
	r.tb.Helper()
	ev := r.next()
	if ev == nil {
		return 0, nil
	}
	n, err := strconv.Atoi(string(ev.Value.Data))
	if err != nil {
		r.tb.Fatalf("an event that nobody appended: %q", ev.Value.Data)
	}
	return n, ev.Gap
}

// want takes the events from first to last, each once.
func (r *reader) want(first, last int) {
	r.tb.Helper()
	for want := first; want <= last; want++ {
		n, gap := r.number()
		if n != want {
			r.tb.Fatalf("got %d, want %d (0 is the end: %v)", n, want, r.Err())
		}
		if gap != nil {
			r.tb.Fatalf("%d carries a gap: %+v", n, *gap)
		}
	}
}

func (s *suite) cursors(t *testing.T) {
	log, _ := s.log(t, Options{Retention: eventlog.Retention{Events: 10}})
	other, _ := s.log(t, Options{})
	e := Append(t, log, "a", "1")
	cursor := log.Cursor("a", e.Pos)
	refused := func(what, topic, cursor string) {
		t.Helper()
		sub, err := log.Subscribe(t.Context(), topic, cursor)
		if err == nil {
			sub.Close()
		}
		_ = wantCode(t, what, err, eventlog.CodeCursorInvalid)
		_, _, err = log.History(t.Context(), topic, cursor, 1)
		_ = wantCode(t, "History, "+what, err, eventlog.CodeCursorInvalid)
	}
	refused("no cursor", "a", "nonsense")
	refused("no base64", "a", "!")
	refused("cut", "a", cursor[:len(cursor)-1])
	refused("longer", "a", cursor+"A")
	refused("of another topic", "b", cursor)
	o := Append(t, other, "a", "1")
	refused("of another log", "a", other.Cursor("a", o.Pos))
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for bit := range 8 {
			raw[i] ^= 1 << bit
			refused(fmt.Sprintf("bit %d of byte %d flipped", bit, i), "a", base64.RawURLEncoding.EncodeToString(raw))
			raw[i] ^= 1 << bit
		}
	}
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="
	for i := range cursor { // also where base64 has bits that count nothing
		for _, letter := range []byte(letters) {
			if letter != cursor[i] {
				refused("a letter changed", "a", cursor[:i]+string(letter)+cursor[i+1:])
			}
		}
	}
	refused("a line break", "a", cursor[:8]+"\n"+cursor[8:])

	appendMany(t, log, "a", 2, 3)
	subscribe(t, log, "a", cursor).want(2, 3)

	appendMany(t, log, "a", 4, 20)
	r := subscribe(t, log, "a", cursor)
	if ev := r.next(); ev != nil {
		t.Fatalf("a cursor behind which entries are missing: got %s", ev.Value.Data)
	}
	tooOld := wantCode(t, "a cursor behind which entries are missing", r.Err(), live.CodeCursorTooOld)
	subscribe(t, log, "a", tooOld.Cursor).want(11, 20)
}

func (s *suite) history(t *testing.T) {
	log, _ := s.log(t, Options{})
	if entries, more, err := log.History(t.Context(), "a", "", 3); len(entries) != 0 || more || err != nil {
		t.Errorf("an empty topic: %d entries, more %v, %v", len(entries), more, err)
	}
	all := appendMany(t, log, "a", 1, 5)
	for _, test := range []struct {
		before      string
		limit       int
		first, last int
		more        bool
	}{
		{"", 2, 3, 5, true},
		{"", 5, 0, 5, false},
		{"", 9, 0, 5, false},
		{log.Cursor("a", all[3].Pos), 2, 1, 3, true},
		{log.Cursor("a", all[2].Pos), 2, 0, 2, false},
		{log.Cursor("a", all[0].Pos), 2, 0, 0, false},
	} {
		entries, more, err := log.History(t.Context(), "a", test.before, test.limit)
		if err != nil || more != test.more {
			t.Errorf("History(%q, %d): more %v, %v, want more %v", test.before, test.limit, more, err, test.more)
		}
		wantEntries(t, "History", entries, all[test.first:test.last])
	}
}

func (s *suite) catchUp(t *testing.T) {
	log, _ := s.log(t, Options{Retention: eventlog.Retention{Events: 100_000}})
	const senders, each, subscribers = 8, 200, 12
	start := log.Cursor("a", Append(t, log, "a", "start").Pos)
	appended := make(chan live.Position, senders*each)
	read := make([][]live.Position, subscribers)
	var work sync.WaitGroup
	for range senders {
		work.Go(func() {
			for range each {
				e, _, err := log.Append(t.Context(), eventlog.Draft{Topic: "a"})
				if err != nil {
					t.Errorf("Append: %v", err)
					return
				}
				appended <- e.Pos
			}
		})
	}
	for i := range subscribers {
		random := rand.New(rand.NewPCG(1, uint64(i)))
		work.Go(func() {
			for cursor := start; len(read[i]) < senders*each; { // comes back again and again
				r := subscribe(t, log, "a", cursor)
				for n := random.IntN(500); n >= 0 && len(read[i]) < senders*each; n-- {
					ev := r.next()
					if ev == nil || ev.Gap != nil {
						t.Errorf("subscriber %d: %+v after %d events (%v)", i, ev, len(read[i]), r.Err())
						return
					}
					read[i] = append(read[i], ev.Pos)
				}
				cursor = r.last
				r.Close()
			}
		})
	}
	work.Wait()
	close(appended)
	var want []live.Position
	for p := range appended {
		want = append(want, p)
	}
	slices.SortFunc(want, live.Position.Compare)
	for i := range read {
		if !slices.Equal(read[i], want) {
			t.Errorf("subscriber %d got other events than were appended, or not each once in order", i)
		}
	}
}

func (s *suite) manySubscribers(t *testing.T) {
	log, _ := s.log(t, Options{})
	const subscribers, topics, events = 500, 5, 40
	cursors := make([]string, topics)
	for i := range cursors {
		topic := fmt.Sprint(i)
		cursors[i] = log.Cursor(topic, Append(t, log, topic, "0").Pos)
		appendMany(t, log, topic, 1, 5)
	}
	readers := make([]*reader, subscribers)
	for i := range readers {
		cursor := cursors[i%topics]
		if i%2 == 0 {
			cursor = ""
		}
		readers[i] = subscribe(t, log, fmt.Sprint(i%topics), cursor)
	}
	for i := range topics {
		appendMany(t, log, fmt.Sprint(i), 6, events)
	}
	for i, r := range readers {
		first := 1
		if i%2 == 0 {
			first = 6
		}
		r.want(first, events)
	}
}

func (s *suite) slow(t *testing.T) {
	log, _ := s.log(t, Options{Retention: eventlog.Retention{Events: 5000}})
	const events = 800
	quick, slow := subscribe(t, log, "a", ""), subscribe(t, log, "a", "")
	for n := 1; n <= events; n++ {
		Append(t, log, "a", fmt.Sprint(n))
		quick.want(n, n)
	}
	buf := make([]live.Event[*eventlog.Entry], events)
	n, _ := slow.Next(buf)
	if n > 2*live.PageEvents {
		t.Errorf("%d events waited for a slow subscriber, want at most %d", n, 2*live.PageEvents)
	}
	slow.want(n+1, events)
	Append(t, log, "a", fmt.Sprint(events+1))
	slow.want(events+1, events+1)
}

func (s *suite) quiet(t *testing.T) {
	const age = time.Second
	log, _ := s.log(t, Options{Retention: eventlog.Retention{Age: age}})
	cursor := log.Cursor("a", Append(t, log, "a", "1").Pos)
	Append(t, log, "a", "2")
	resumed, fresh := subscribe(t, log, "a", cursor), subscribe(t, log, "a", "")
	resumed.want(2, 2)
	for began := time.Now(); time.Since(began) < 2*age+age/2; { // others go on
		Append(t, log, "b", "x")
		time.Sleep(10 * time.Millisecond)
	}
	Append(t, log, "a", "3")
	resumed.want(3, 3)
	fresh.want(3, 3)
}

func (s *suite) close(t *testing.T) {
	store := s.Place(t)(t, Options{})
	log := eventlog.New(store, eventlog.Config{})
	e := Append(t, log, "a", "1")
	readers := []*reader{
		subscribe(t, log, "a", ""), subscribe(t, log, "b", ""), subscribe(t, log, "a", log.Cursor("a", e.Pos)),
	}
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for {
				if _, _, err := log.Append(t.Context(), eventlog.Draft{Topic: "c", Data: []byte("1")}); err != nil || t.Context().Err() != nil {
					return
				}
				if sub, err := log.Subscribe(t.Context(), "c", ""); err == nil {
					sub.Close()
				} else if errors.Is(err, live.ErrHubClosed) {
					return
				}
			}
		})
	}
	log.Close()
	for _, r := range readers {
		if ev := r.next(); ev != nil {
			t.Errorf("an event after Close: %s", ev.Value.Data)
		}
		if !errors.Is(r.Err(), live.ErrHubClosed) {
			t.Errorf("a subscription ended with %v", r.Err())
		}
	}
	if err := store.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	work.Wait()
}

// histories plays random histories against a simple model: the events of a topic
// are the numbers from 1, of which the newest few are kept.
func (s *suite) histories(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for round := range s.Rounds {
		random := rand.New(rand.NewPCG(seed, uint64(round)))
		h := history{t: t, random: random, keeps: 1 + random.IntN(20)}
		h.log, _ = s.log(t, Options{Retention: eventlog.Retention{Events: h.keeps}})
		h.play(20 + random.IntN(100))
		h.log.Close()
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}

type history struct {
	t      *testing.T
	random *rand.Rand
	log    *eventlog.Log
	keeps  int
	topics [3]struct {
		newest  int
		cursors []string // by number; of 0: before all
	}
	clients []*client
}

// client is who reads a topic, goes away and comes back.
type client struct {
	*reader     // nil: is away
	topic, last int
	cursor      string
	resumed     bool // by a cursor
	skips       bool // was told to begin again from what is left
}

func (h *history) play(steps int) {
	h.t.Helper()
	for range steps {
		switch h.random.IntN(8) {
		case 0, 1, 2:
			h.append(h.random.IntN(len(h.topics)), 1+h.random.IntN(1+h.random.IntN(2*h.keeps)))
		case 3:
			h.subscribeAtHead(h.random.IntN(len(h.topics)))
		case 4:
			h.subscribeAtCursor(h.random.IntN(len(h.topics)))
		default:
			if len(h.clients) > 0 {
				h.act(h.clients[h.random.IntN(len(h.clients))])
			}
		}
	}
	for _, c := range h.clients {
		if c.reader == nil {
			h.resume(c)
		}
		h.take(c, h.topics[c.topic].newest)
		c.Close()
	}
}

func (h *history) append(topic, n int) {
	h.t.Helper()
	tp := &h.topics[topic]
	for range n {
		d := eventlog.Draft{Topic: fmt.Sprint(topic), Data: fmt.Append(nil, tp.newest+1)}
		if h.random.IntN(2) == 0 {
			d.ID = fmt.Sprint("id ", tp.newest+1)
		}
		e, fresh, err := h.log.Append(h.t.Context(), d)
		if err != nil || !fresh {
			h.t.Fatalf("Append: fresh %v, %v", fresh, err)
		}
		tp.newest++
		tp.cursors = append(tp.cursors, h.log.Cursor(d.Topic, e.Pos))
		if d.ID != "" && h.random.IntN(4) == 0 { // sent again
			if again, fresh, err := h.log.Append(h.t.Context(), d); err != nil || fresh || again.Pos != e.Pos {
				h.t.Fatalf("the same id again: fresh %v, %v", fresh, err)
			}
		}
	}
}

func (h *history) subscribeAtHead(topic int) {
	h.t.Helper()
	c := &client{topic: topic, last: h.topics[topic].newest, reader: subscribe(h.t, h.log, fmt.Sprint(topic), "")}
	c.cursor = c.reader.last
	h.clients = append(h.clients, c)
}

func (h *history) subscribeAtCursor(topic int) {
	h.t.Helper()
	tp := h.topics[topic]
	if tp.newest == 0 {
		return
	}
	c := &client{topic: topic, last: 1 + h.random.IntN(tp.newest)}
	c.cursor = tp.cursors[c.last-1]
	h.resume(c)
	h.clients = append(h.clients, c)
}

// gone says whether the event behind the last one of a client is not kept.
func (h *history) gone(c *client) bool { return c.last+1 <= h.topics[c.topic].newest-h.keeps }

func (h *history) resume(c *client) {
	h.t.Helper()
	c.reader, c.resumed = subscribe(h.t, h.log, fmt.Sprint(c.topic), c.cursor), true
}

func (h *history) act(c *client) {
	h.t.Helper()
	switch {
	case c.reader == nil:
		h.resume(c)
	case h.random.IntN(3) == 0:
		c.cursor = c.reader.last
		c.Close()
		c.reader = nil
	default:
		h.take(c, min(h.topics[c.topic].newest, c.last+1+h.random.IntN(20)))
	}
}

// take reads up to a number, and sees that nothing is missing but what may be
// and is told.
func (h *history) take(c *client, through int) {
	h.t.Helper()
	for c.last < through {
		n, gap := c.number()
		switch {
		case n == 0: // is to begin again from what is left
			refusal := wantCode(h.t, "the end of a subscription", c.Err(), live.CodeCursorTooOld)
			if !c.resumed || !h.gone(c) {
				h.t.Fatalf("topic %d after %d: refused although %d keeps %d: %v", c.topic, c.last, h.topics[c.topic].newest, h.keeps, c.Err())
			}
			c.Close()
			c.skips, c.cursor = true, refusal.Cursor // of what was left when it was refused
			h.resume(c)
		case n == c.last+1 && gap == nil:
			c.last = n
		case n > c.last+1 && h.gone(c) && (c.skips && gap == nil || !c.resumed && gap != nil):
			c.last, c.skips = n, false
		default:
			h.t.Fatalf("topic %d: %d after %d (resumed %v, skips %v), gap %v; %d are there, of which the newest %d are kept", c.topic, n, c.last, c.resumed, c.skips, gap, h.topics[c.topic].newest, h.keeps)
		}
	}
}
