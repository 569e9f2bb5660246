package redisbridge_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/bridges/bridgetest"
	"github.com/sluice-gateway/sluice/bridges/redisbridge"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/testenv"
)

// entryReader reads a subscription of a stream in a test.
type entryReader struct {
	tb   testing.TB
	sub  live.Sub[*bridges.StreamEntry]
	news chan struct{}
}

func readStream(tb testing.TB, b bridges.Streams, stream string, after *live.Position) *entryReader {
	tb.Helper()
	sub, err := b.SubscribeStream(tb.Context(), stream, after)
	if err != nil {
		tb.Fatalf("SubscribeStream(%q): %v", stream, err)
	}
	r := &entryReader{tb: tb, sub: sub, news: make(chan struct{}, 1)}
	tb.Cleanup(sub.Close)
	sub.Wake(func() {
		select {
		case r.news <- struct{}{}:
		default:
		}
	})
	return r
}

// patience only runs out when something is broken.
const patience = 10 * time.Second

// next returns the next event; open is false when the stream has ended.
func (r *entryReader) next() (ev live.Event[*bridges.StreamEntry], open bool) {
	r.tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	var one [1]live.Event[*bridges.StreamEntry]
	for {
		n, open := r.sub.Next(one[:])
		if n > 0 || !open {
			return one[0], open
		}
		select {
		case <-r.news:
		case <-deadline.C:
			r.tb.Fatal("no entry within " + patience.String())
		}
	}
}

// want waits for the next entry and checks the value of its first field.
func (r *entryReader) want(value string) live.Event[*bridges.StreamEntry] {
	r.tb.Helper()
	ev, open := r.next()
	if !open {
		r.tb.Fatalf("the subscription ended before %q: %v", value, r.sub.Err())
	}
	if got := ev.Value.Fields[0].Value; got != value {
		r.tb.Fatalf("entry %s has %q, want %q", ev.Value.ID, got, value)
	}
	return ev
}

// wantWhole is want for an entry before which nothing is missing.
func (r *entryReader) wantWhole(value string) live.Event[*bridges.StreamEntry] {
	r.tb.Helper()
	ev := r.want(value)
	if ev.Gap != nil {
		r.tb.Fatalf("gap %+v before %q", *ev.Gap, value)
	}
	return ev
}

// wantEnd returns the cursor of the error that the stream ends with.
func (r *entryReader) wantEnd(code string) (cursor string) {
	r.tb.Helper()
	if ev, open := r.next(); open {
		r.tb.Fatalf("entry %v, want the end", ev.Value)
	}
	var told *live.Error
	if !errors.As(r.sub.Err(), &told) || told.Code != code {
		r.tb.Fatalf("ended with %v, want %s", r.sub.Err(), code)
	}
	return told.Cursor
}

func value(i int) []bridges.StreamField {
	return []bridges.StreamField{{Name: "n", Value: strconv.Itoa(i)}}
}

// add appends from outside the bridge.
func add(tb testing.TB, client *redis.Client, stream, text string, options ...any) string {
	tb.Helper()
	args := append([]any{"XADD", stream}, options...)
	id, err := client.Do(tb.Context(), append(args, "*", "n", text)...).Text()
	if err != nil {
		tb.Fatalf("XADD %s: %v", stream, err)
	}
	return id
}

// onBoth runs a test with a real and with the embedded server.
func onBoth(t *testing.T, test func(t *testing.T, addr string)) {
	t.Run("redis-server", func(t *testing.T) {
		t.Parallel()
		test(t, testenv.Redis(t).Addr())
	})
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		server := startEmbedded(t, "")
		t.Cleanup(func() { server.Close() })
		test(t, server.Addr())
	})
}

func TestStreamEntriesAreAsRedisHasThem(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		b := connected(t, redisbridge.Config{URL: "redis://" + addr})
		r := readStream(t, b, "s", nil)
		fields := []bridges.StreamField{{Name: "b", Value: "1"}, {Name: "a", Value: "\xff\x00"}, {Name: "b", Value: "2"}, {}}
		before := time.Now().Truncate(time.Millisecond)
		appended, err := b.AppendStream(t.Context(), "s", fields)
		if err != nil {
			t.Fatal(err)
		}
		ev, _ := r.next()
		if diff := cmp.Diff(appended, ev.Value); diff != "" {
			t.Errorf("appended and received differ:\n%s", diff)
		}
		if diff := cmp.Diff(fields, ev.Value.Fields); diff != "" {
			t.Errorf("fields (-want +got):\n%s", diff)
		}
		if ev.Value.Stream != "s" || ev.Pos != ev.Value.Pos || ev.Value.At.Before(before) || ev.Value.At.After(time.Now().Add(time.Millisecond)) {
			t.Errorf("entry %+v at position %v", ev.Value, ev.Pos)
		}
		kept := r.sub.(live.Kept)
		if got := kept.Cursor(ev.Pos); got != ev.Value.ID {
			t.Errorf("cursor %q, want %q", got, ev.Value.ID)
		}
		if err := connect(t, addr).Do(t.Context(), "XADD", "s", "18446744073709551615-1", "n", "end of time").Err(); err != nil {
			t.Fatal(err)
		}
		if at := r.want("end of time").Value.At; at.Year() != 9999 {
			t.Errorf("at %v, want the end of 9999", at)
		}
	})
}

func TestStreamsAreInTheDatabaseOfTheURL(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	b := connected(t, redisbridge.Config{URL: server.URL() + "/3"})
	r := readStream(t, b, "s", nil)
	conn := connect(t, server.Addr()).Conn()
	for _, database := range []int{0, 3} {
		for _, command := range [][]any{{"SELECT", database}, {"XADD", "s", "*", "n", fmt.Sprint("in ", database)}} {
			if err := conn.Do(t.Context(), command...).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.want("in 3")
}

func TestStreamCursorIsTheConfigured(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	b := connected(t, redisbridge.Config{URL: server.URL(), StreamCursor: func(stream string, p live.Position) string {
		return fmt.Sprint(stream, "@", p.Hi, "/", p.Lo)
	}})
	r := readStream(t, b, "s", nil)
	if got := r.sub.(live.Kept).Cursor(live.Position{Hi: 7, Lo: 8}); got != "s@7/8" {
		t.Errorf("cursor %q", got)
	}
}

func TestStreamRefusals(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		b := connected(t, redisbridge.Config{URL: "redis://" + addr})
		for _, stream := range illFormed {
			_, err := b.SubscribeStream(t.Context(), stream, nil)
			wantCode(t, err, bridges.CodeTopicInvalid)
			_, err = b.AppendStream(t.Context(), stream, value(1))
			wantCode(t, err, bridges.CodeTopicInvalid)
		}
		for _, n := range []int{0, bridges.MaxStreamFields + 1} {
			_, err := b.AppendStream(t.Context(), "s", make([]bridges.StreamField, n))
			wantCode(t, err, bridges.CodeFieldsInvalid)
		}
		if err := connect(t, addr).Set(t.Context(), "text", "x", 0).Err(); err != nil {
			t.Fatal(err)
		}
		_, err := b.AppendStream(t.Context(), "text", value(1))
		wantCode(t, err, bridges.CodeTopicRefused)
		_, err = b.SubscribeStream(t.Context(), "text", nil)
		wantCode(t, err, bridges.CodeTopicRefused)
		readStream(t, b, "text", &live.Position{}).wantEnd(bridges.CodeTopicRefused)
	})
}

// A key that becomes something else, or may be read no longer, ends its own
// subscriptions; the other streams on the connection go on.
func TestStreamRefusalsHarmNobodyElse(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	admin := connect(t, server.Addr())
	allow := func(rules ...any) {
		t.Helper()
		args := append([]any{"ACL", "SETUSER", "gateway", "on", ">secret", "resetkeys", "-@all", "+subscribe", "+ping", "+xread", "+xrange", "+xinfo|stream", "+xadd"}, rules...)
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	allow("~open:*", "~lost:*")
	b := connected(t, redisbridge.Config{URL: "redis://gateway:secret@" + server.Addr()})
	_, err := b.SubscribeStream(t.Context(), "secret", nil)
	wantCode(t, err, bridges.CodeTopicRefused)
	_, err = b.AppendStream(t.Context(), "secret", value(1))
	wantCode(t, err, bridges.CodeTopicRefused)

	kept := readStream(t, b, "open:1", nil)
	changed := readStream(t, b, "open:2", nil)
	lost := readStream(t, b, "lost:1", nil)
	for i, r := range []*entryReader{kept, changed, lost} {
		add(t, admin, []string{"open:1", "open:2", "lost:1"}[i], "one")
		r.wantWhole("one")
	}
	if err := admin.Del(t.Context(), "open:2").Err(); err != nil {
		t.Fatal(err)
	}
	if err := admin.Set(t.Context(), "open:2", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	changed.wantEnd(bridges.CodeTopicRefused)
	add(t, admin, "open:1", "two")
	kept.wantWhole("two")

	allow("~open:*")
	lost.wantEnd(bridges.CodeTopicRefused)
	add(t, admin, "open:1", "three")
	kept.wantWhole("three")
}

// Subscribers come at positions all over a stream that is being written, read
// at their own pace, and get every entry behind their position once, in order.
func TestStreamResumesWithoutGapOrDouble(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		b := connected(t, redisbridge.Config{URL: "redis://" + addr})
		const before, during = 1500, 1500
		positions := make([]live.Position, 0, before)
		for i := range before {
			entry, err := b.AppendStream(t.Context(), "s", value(i))
			if err != nil {
				t.Fatal(err)
			}
			positions = append(positions, entry.Pos)
		}
		var work sync.WaitGroup
		defer work.Wait()
		work.Go(func() {
			for i := range during {
				if _, err := b.AppendStream(t.Context(), "s", value(before+i)); err != nil {
					t.Errorf("AppendStream: %v", err)
					return
				}
			}
		})
		for _, from := range []int{-1, 0, 1, before - live.PageEvents - 1, before - live.PageEvents, before - 2, before - 1} {
			after := live.Position{}
			if from >= 0 {
				after = positions[from]
			}
			r := readStream(t, b, "s", &after)
			work.Go(func() {
				for i := from + 1; i < before+during; i++ {
					ev, open := r.next()
					if !open {
						t.Errorf("after %d: ended before entry %d: %v", from, i, r.sub.Err())
						return
					}
					if got := ev.Value.Fields[0].Value; got != strconv.Itoa(i) || ev.Gap != nil {
						t.Errorf("after %d: entry %s with gap %v, want %d", from, got, ev.Gap, i)
						return
					}
				}
			})
		}
	})
}

func TestStreamNewcomersAreLiveAtOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		b := connected(t, redisbridge.Config{URL: "redis://" + addr})
		old := readStream(t, b, "old", nil) // has an XREAD wait
		client := connect(t, addr)
		add(t, client, "old", "0")
		old.wantWhole("0")
		var waited time.Duration
		const n = 20
		for i := range n {
			stream := fmt.Sprint("new:", i)
			r := readStream(t, b, stream, nil)
			began := time.Now()
			add(t, client, stream, "0")
			r.wantWhole("0")
			waited += time.Since(began)
		}
		// One that had to wait for the end of an XREAD would wait for half a second in
		// the mean; a busy machine delays some, not all.
		if waited > n*time.Second/4 {
			t.Errorf("%d newcomers waited %v for their first entries", n, waited)
		}
		add(t, client, "old", "1")
		old.wantWhole("1")
	})
}

func TestManyStreamsOnOneConnection(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		b := connected(t, redisbridge.Config{URL: "redis://" + addr})
		client := connect(t, addr)
		const n = 200
		readers := make([]*entryReader, n)
		var work sync.WaitGroup
		for i := range n {
			work.Go(func() { readers[i] = readStream(t, b, fmt.Sprint("many:", i), nil) })
		}
		work.Wait()
		for round := range 3 {
			for i := range n {
				add(t, client, fmt.Sprint("many:", i), strconv.Itoa(round))
			}
			for _, r := range readers {
				r.wantWhole(strconv.Itoa(round))
			}
		}
		if got := len(b.Upstreams()); got != n {
			t.Errorf("%d upstreams, want %d", got, n)
		}
		if strings.Contains(t.Name(), "redis-server") {
			bridgetest.Eventually(t, "one connection waits for all streams", func() bool {
				return blockedClients(t, client) == 1
			})
		}
		for _, r := range readers {
			r.sub.Close()
		}
		if got := b.Upstreams(); len(got) != 0 {
			t.Errorf("upstreams %q are left", got)
		}
		if strings.Contains(t.Name(), "redis-server") {
			bridgetest.Eventually(t, "no connection waits", func() bool { return blockedClients(t, client) == 0 })
		}
	})
}

// blockedClients asks Redis how many connections wait for something.
func blockedClients(t *testing.T, client *redis.Client) int {
	t.Helper()
	info, err := client.Info(t.Context(), "clients").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "blocked_clients:")
	text, _, _ := strings.Cut(rest, "\r\n")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%v in %s", err, info)
	}
	return n
}

func TestStreamTrimmedIsTold(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		b := connected(t, redisbridge.Config{URL: "redis://" + addr})
		client := connect(t, addr)
		var ids []live.Position
		for i := range 10 {
			entry, err := b.AppendStream(t.Context(), "s", value(i))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, entry.Pos)
		}
		if err := client.XTrimMaxLen(t.Context(), "s", 4).Err(); err != nil { // 6 to 9 stay
			t.Fatal(err)
		}
		r := readStream(t, b, "s", &ids[6])
		r.wantWhole("7")
		readStream(t, b, "s", &ids[9]) // at the end

		cursor := readStream(t, b, "s", &ids[3]).wantEnd(live.CodeCursorTooOld)
		ms, seq, _ := strings.Cut(cursor, "-")
		hi, err1 := strconv.ParseUint(ms, 10, 64)
		lo, err2 := strconv.ParseUint(seq, 10, 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("cursor %q", cursor)
		}
		rest := readStream(t, b, "s", &live.Position{Hi: hi, Lo: lo})
		for i := 6; i < 10; i++ {
			rest.wantWhole(strconv.Itoa(i))
		}

		if err := client.Del(t.Context(), "s").Err(); err != nil {
			t.Fatal(err)
		}
		readStream(t, b, "s", &ids[9]).wantEnd(live.CodeCursorTooOld) // the stream is gone
	})
}

// A stream that keeps one entry drops each as the next comes. Who follows it
// sees all, and on a server that counts entries is told that nothing is missing.
func TestStreamThatKeepsOneEntryIsFollowedWhole(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	b := connected(t, redisbridge.Config{URL: server.URL()})
	client := connect(t, server.Addr())
	for name, existing := range map[string]bool{"is there": true, "is to come": false} {
		t.Run(name, func(t *testing.T) {
			if existing {
				add(t, client, name, "before")
			}
			r := readStream(t, b, name, nil)
			for i := range 20 {
				add(t, client, name, strconv.Itoa(i), "MAXLEN", 1)
				r.wantWhole(strconv.Itoa(i))
			}
		})
	}
}

// What was trimmed before a follower could read it is a gap.
func TestStreamTrimmedBeforeItWasReadIsAGap(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		b := connected(t, redisbridge.Config{URL: "redis://" + addr})
		client := connect(t, addr)
		add(t, client, "s", "0")
		r := readStream(t, b, "s", nil)
		add(t, client, "s", "1")
		r.wantWhole("1")
		_, err := client.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
			for i := 2; i < 6; i++ {
				p.XAdd(t.Context(), &redis.XAddArgs{Stream: "s", MaxLen: 2, Values: []string{"n", strconv.Itoa(i)}})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if ev := r.want("4"); ev.Gap == nil || ev.Gap.Reason != live.GapOverflow {
			t.Errorf("gap %+v before what is left, want %s", ev.Gap, live.GapOverflow)
		}
		r.wantWhole("5")
		add(t, client, "s", "6")
		r.wantWhole("6")
	})
}

// A stream of the same name that was made anew is another one.
func TestStreamMadeAnewIsAGap(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, addr string) {
		b := connected(t, redisbridge.Config{URL: "redis://" + addr})
		client := connect(t, addr)
		// An id of long ago: within one millisecond, the new stream's first entry
		// would have the id of this one, and nobody could tell them apart.
		err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: "s", ID: "1-0", Values: []string{"n", "0"}}).Err()
		if err != nil {
			t.Fatal(err)
		}
		r := readStream(t, b, "s", nil)
		_, err = client.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
			p.XAdd(t.Context(), &redis.XAddArgs{Stream: "s", Values: []string{"n", "lost"}})
			p.Del(t.Context(), "s")
			p.XAdd(t.Context(), &redis.XAddArgs{Stream: "s", Values: []string{"n", "new"}})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if ev := r.want("new"); ev.Gap == nil {
			t.Error("no gap where a stream was deleted")
		}
	})
}

// numbers is what was appended to a stream.
type numbers struct {
	mu           sync.Mutex
	sent         int // the newest
	acknowledged map[int]bool
	slowest      time.Duration // of those that failed
}

// send appends one number after the other until ctx ends, and none twice,
// whether it was acknowledged or not.
func (s *numbers) send(ctx context.Context, t *testing.T, b bridges.Streams, stream string) {
	for i := 0; ctx.Err() == nil; i++ {
		s.mu.Lock()
		s.sent = i
		s.mu.Unlock()
		began := time.Now()
		_, err := b.AppendStream(ctx, stream, value(i))
		s.mu.Lock()
		switch {
		case err == nil:
			s.acknowledged[i] = true
		case ctx.Err() == nil:
			s.slowest = max(s.slowest, time.Since(began))
			wantCode(t, err, bridges.CodeUpstreamUnavailable)
		}
		s.mu.Unlock()
		if err != nil {
			select { // an error while away comes at once
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

func (s *numbers) newest() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

func TestStreamsOutliveAKilledServer(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, "--appendonly", "yes", "--appendfsync", "always")
	outlive(t, server, bridgetest.Fault{
		Begin: func(t testing.TB) { server.Stop(t) }, End: func(t testing.TB) { server.Start(t) },
	}, 2)
}

func TestStreamsOutliveAServerThatHangs(t *testing.T) {
	testenv.Faults(t)
	t.Parallel()
	server := testenv.Redis(t, "--appendonly", "yes")
	outlive(t, server, bridgetest.Fault{
		For: 20 * time.Second, Begin: func(t testing.TB) { server.Pause(t) }, End: func(t testing.TB) { server.Resume(t) },
	}, 1)
}

// outlive checks that a server's fault costs the followers of its streams
// nothing.
func outlive(t *testing.T, server *testenv.Server, fault bridgetest.Fault, times int) {
	b := connected(t, redisbridge.Config{URL: server.URL()})
	r := readStream(t, b, "s", nil)
	quiet := readStream(t, b, "quiet", nil)
	client := connect(t, server.Addr())
	add(t, client, "quiet", "before")
	quiet.wantWhole("before")

	ctx, cancel := context.WithCancel(t.Context())
	sent := &numbers{acknowledged: make(map[int]bool)}
	var work sync.WaitGroup
	work.Go(func() { sent.send(ctx, t, b, "s") })
	defer work.Wait()
	defer cancel()
	newest := -1
	received := make(map[int]bool)
	var last live.Position
	take := func() {
		t.Helper()
		ev, open := r.next()
		if !open {
			t.Fatalf("ended: %v", r.sub.Err())
		}
		n, _ := strconv.Atoi(ev.Value.Fields[0].Value)
		if ev.Gap != nil || n <= newest || ev.Pos.Compare(last) <= 0 {
			t.Fatalf("entry %d at %v with the gap %v after %d at %v", n, ev.Pos, ev.Gap, newest, last)
		}
		newest, last = n, ev.Pos
		received[n] = true
	}
	for range 100 {
		take()
	}
	for range times {
		fault.Begin(t)
		over := time.NewTimer(fault.For)
		waitForState(t, b, bridges.Connecting, 20*time.Second)
		during := readStream(t, b, "during", nil)
		<-over.C
		fault.End(t)
		back := time.Now()
		for down := sent.newest(); newest <= down; {
			take()
		}
		took := time.Since(back)
		t.Logf("new entries %v after the server was back", took)
		if took > 5*time.Second {
			t.Errorf("new entries came %v after the server was back, want at most 5 s", took)
		}
		bridgetest.Eventually(t, "the head of what was subscribed to meanwhile is known", func() bool {
			_, known := during.sub.(live.Kept).Start()
			return known
		})
		text := strconv.Itoa(newest)
		add(t, client, "during", text)
		if ev := during.want(text); ev.Gap == nil || ev.Gap.Reason != live.GapOutage {
			t.Errorf("gap %+v, want %s: the head was not known", ev.Gap, live.GapOutage)
		}
		during.sub.Close()
		add(t, client, "quiet", text)
		quiet.wantWhole(text)
	}
	cancel()
	work.Wait()
	for len(received) < len(sent.acknowledged) || !received[maxOf(sent.acknowledged)] {
		take()
	}
	lost := 0
	for n := range sent.acknowledged {
		if !received[n] {
			lost++
		}
	}
	t.Logf("%d sent, %d acknowledged, %d received, none doubled or reordered, %d lost; the slowest failure took %v",
		sent.sent+1, len(sent.acknowledged), len(received), lost, sent.slowest)
	if lost > 0 {
		t.Errorf("%d entries were acknowledged and not received", lost)
	}
	if len(sent.acknowledged) > sent.sent {
		t.Error("no append failed: the server was not away")
	}
	if sent.slowest > bridges.PublishTimeout+500*time.Millisecond {
		t.Errorf("an append took %v to fail, want at most %v", sent.slowest, bridges.PublishTimeout)
	}
}

func maxOf(set map[int]bool) (newest int) {
	for n := range set {
		newest = max(newest, n)
	}
	return newest
}

// The embedded server's streams end with it, and who follows one is told.
func TestStreamsOfAnEmbeddedServerEndWithIt(t *testing.T) {
	t.Parallel()
	server := startEmbedded(t, "")
	addr := server.Addr()
	t.Cleanup(func() { server.Close() })
	b := connected(t, redisbridge.Config{URL: "redis://" + addr})
	entry, err := b.AppendStream(t.Context(), "s", value(0))
	if err != nil {
		t.Fatal(err)
	}
	r := readStream(t, b, "s", nil)
	server.Close()
	bridgetest.Eventually(t, "the bridge has noticed", func() bool { return b.Status().State == bridges.Connecting })
	server = startEmbedded(t, addr)
	bridgetest.WaitConnected(t, b)
	readStream(t, b, "s", &entry.Pos).wantEnd(live.CodeCursorTooOld)
	add(t, connect(t, addr), "s", "new")
	if ev := r.want("new"); ev.Gap == nil {
		t.Error("no gap where a stream has ended with its server")
	}
}

func TestCloseEndsStreams(t *testing.T) {
	t.Parallel()
	b := connected(t, redisbridge.Config{URL: testenv.Redis(t).URL()})
	r := readStream(t, b, "s", nil)
	began := time.Now()
	b.Close()
	if took := time.Since(began); took > time.Second {
		t.Errorf("Close took %v while an XREAD waits", took)
	}
	r.wantEnd("SHUTTING_DOWN")
	if _, err := b.SubscribeStream(t.Context(), "s", nil); !errors.Is(err, live.ErrHubClosed) {
		t.Errorf("SubscribeStream after Close: %v", err)
	}
	if _, err := b.AppendStream(t.Context(), "s", value(0)); !errors.Is(err, live.ErrHubClosed) {
		t.Errorf("AppendStream after Close: %v", err)
	}
}
