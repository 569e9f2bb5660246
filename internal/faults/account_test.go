//go:build linux

package faults

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/sluice-gateway/sluice/internal/testenv"
)

// stream is who sends and who listens to one stream.
type stream struct {
	name    string
	kept    bool   // resumed by cursors: not even gaps are in order
	history string // the room, if it is one
	senders []*sender
	clients []*client
}

// account is what became of a stream's messages.
type account struct {
	sent, open, received           int
	lost, told, doubled, reordered int
	connections                    int
	examples                       []string
}

func (a *account) example(format string, args ...any) {
	if len(a.examples) < 8 {
		a.examples = append(a.examples, fmt.Sprintf(format, args...))
	}
}

// settle ends the senders, and waits until every client has got the last message
// of each, behind which nothing else can come.
func (s *stream) settle(t *testing.T) {
	t.Helper()
	halt(t, s.senders)
	for _, c := range s.clients {
		for _, from := range s.senders {
			testenv.Eventually(t, 20*time.Second, fmt.Sprintf("the last message of %s, %d, has come", from.name, from.last), func() string {
				if from.last < 0 || !c.has(from.name, from.last) {
					return fmt.Sprintf("%s has %d messages; %q", c.protocol, c.count(), c.wrong)
				}
				return ""
			})
		}
	}
}

// judge settles the stream and takes its account.
func (s *stream) judge(t *testing.T) {
	t.Helper()
	s.settle(t)
	var a account
	for _, from := range s.senders {
		a.sent += len(from.acked)
		a.open += len(from.open)
	}
	var first []event
	for i, c := range s.clients {
		events := c.seen()
		if c.protocol != history {
			a.received += len(events)
		}
		a.connections += c.sockets
		for _, from := range s.senders {
			a.follow(c, from, events)
		}
		if i == 0 {
			first = events
		} else if s.kept && !slices.EqualFunc(first, events, func(x, y event) bool { return x.sender == y.sender && x.n == y.n }) {
			a.reordered++
			a.example("%s saw another order than the first client", c.protocol)
		}
		for _, e := range events {
			if s.kept && e.gap {
				t.Errorf("%s: %s was told of a gap before %s %d", s.name, c.protocol, e.sender, e.n)
			}
		}
		c.mu.Lock()
		if len(c.wrong) > 0 {
			t.Errorf("%s: %s got what it should not: %q", s.name, c.protocol, c.wrong)
		}
		c.mu.Unlock()
	}
	if a.lost+a.doubled+a.reordered > 0 || s.kept && a.told > 0 {
		t.Errorf("%s: lost %d, doubled %d, reordered %d, told %d: %s", s.name, a.lost, a.doubled, a.reordered, a.told, strings.Join(a.examples, "; "))
	}
	record(t, s, a)
}

// follow counts one sender's messages at one client.
func (a *account) follow(c *client, from *sender, events []event) {
	gap := false          // since the newest message of the sender
	newest := -1          // of those that were acknowledged
	seen := map[int]int{} // how often each came
	told := map[int]bool{}
	for _, e := range events {
		gap = gap || e.gap
		if e.sender != from.name {
			continue
		}
		if seen[e.n]++; seen[e.n] > 1 {
			a.doubled++
			a.example("%s got %s %d again", c.protocol, e.sender, e.n)
			continue
		}
		if !from.acked[e.n] {
			continue // refused, or without an answer: it may come, late even
		}
		if e.n < newest {
			a.reordered++
			a.example("%s got %s %d behind %d", c.protocol, e.sender, e.n, newest)
			continue
		}
		for n := newest + 1; gap && n < e.n; n++ {
			told[n] = true
		}
		newest, gap = e.n, false
	}
	for n := range from.acked {
		switch {
		case seen[n] > 0:
		case told[n]:
			a.told++
		default:
			a.lost++
			a.example("%s lost %s %d", c.protocol, from.name, n)
		}
	}
}

// history is the protocol of a client that readBack makes.
const history = "roomHistory"

// readBack reads the history of a room as a client that was always there.
func readBack(t *testing.T, room, addr string) *client {
	t.Helper()
	c := &client{protocol: history, query: room}
	for before := any(nil); ; {
		var page struct {
			RoomHistory struct {
				Nodes    []struct{ Content string }
				PageInfo struct {
					HasPreviousPage bool
					StartCursor     string
				}
			}
		}
		if err := ask(context.Background(), fresh, addr,
			`query($room: ID!, $before: Cursor) { roomHistory(room: $room, last: 100, before: $before) { nodes { content } pageInfo { hasPreviousPage startCursor } } }`,
			map[string]any{"room": room, "before": before}, &page); err != nil {
			t.Fatal(err)
		}
		var events []event
		for _, node := range page.RoomHistory.Nodes {
			var e event
			if _, err := fmt.Sscanf(node.Content, "%s %d", &e.sender, &e.n); err != nil {
				t.Fatalf("%q: %v", node.Content, err)
			}
			events = append(events, e)
		}
		c.events = append(events, c.events...)
		if !page.RoomHistory.PageInfo.HasPreviousPage {
			return c
		}
		before = page.RoomHistory.PageInfo.StartCursor
	}
}

// The table of accounts: a row for the streams of one name in one test.
var table struct {
	mu   sync.Mutex
	rows []*row
}

type row struct {
	test, stream string
	clients      int
	account
}

func record(t *testing.T, s *stream, a account) {
	table.mu.Lock()
	defer table.mu.Unlock()
	test := strings.TrimPrefix(t.Name(), "Test")
	i := slices.IndexFunc(table.rows, func(r *row) bool { return r.test == test && r.stream == s.name })
	if i < 0 {
		i = len(table.rows)
		table.rows = append(table.rows, &row{test: test, stream: s.name})
	}
	r := table.rows[i]
	for _, c := range s.clients {
		if c.protocol != history {
			r.clients++
		}
	}
	r.add(a)
}

func (a *account) add(b account) {
	a.sent += b.sent
	a.open += b.open
	a.connections += b.connections
	a.received += b.received
	a.lost += b.lost
	a.told += b.told
	a.doubled += b.doubled
	a.reordered += b.reordered
}

func printTable(w io.Writer) {
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(columns, "test\tstream\tclients\tconnections\tacknowledged\tunanswered\treceived\tlost\ttold\tdoubled\treordered")
	for _, r := range table.rows {
		fmt.Fprintf(columns, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", r.test, r.stream,
			r.clients, r.connections, r.sent, r.open, r.received, r.lost, r.told, r.doubled, r.reordered)
	}
	_ = columns.Flush()
}
