//go:build linux

package hostile

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/sluice-gateway/sluice/internal/testenv"
)

// What may be left of an attack.
const (
	spareMemory    = 30 << 20 // caches, pools, the heap's own book-keeping
	spareGoroutine = 2
	spareFiles     = 2 + 8 // a connection of the tester that is being closed, and those that the event log keeps to Redis
)

// settleWithin is for how long. Upstreams stay for 5 s after their last
// subscriber, with another 5 s of grace. Under the race detector the gateway
// takes many times longer to work off what it was sent.
func settleWithin() time.Duration {
	if withRace {
		return time.Minute
	}
	return 15 * time.Second
}

// figures are what an attack could leave behind.
type figures struct {
	connections, operations, upstreams int // gatewayStats
	channels                           int // of Redis, by its own count
	goroutines                         int
	files                              int // descriptors
	heap                               int // bytes in use, after a garbage collection
	resident                           int // bytes
}

func (g *gateway) figures(t testing.TB) figures {
	t.Helper()
	var f figures
	var stats struct {
		GatewayStats struct{ Connections, Operations, Upstreams int }
	}
	a := g.query(t, `{ gatewayStats { connections operations upstreams } }`)
	if err := json.Unmarshal(a.data, &stats); err != nil {
		t.Fatalf("gatewayStats: %v: %s", err, a.text)
	}
	f.connections, f.operations, f.upstreams = stats.GatewayStats.Connections, stats.GatewayStats.Operations, stats.GatewayStats.Upstreams

	channels, err := g.redis.PubSubChannels(context.Background(), "*").Result() // the test's context may be over
	if err != nil {
		t.Fatal(err)
	}
	for _, channel := range channels {
		if !strings.HasPrefix(channel, "sluice:") { // the gateway's own are always there
			f.channels++
		}
	}

	g.debugPage(t, "/debug/pprof/heap?gc=1") // collects garbage
	var vars struct {
		Memstats struct{ HeapInuse, StackInuse int }
	}
	if err := json.Unmarshal(g.debugPage(t, "/debug/vars"), &vars); err != nil {
		t.Fatal(err)
	}
	f.heap = vars.Memstats.HeapInuse + vars.Memstats.StackInuse
	f.goroutines = counted(string(g.debugPage(t, "/debug/pprof/goroutine?debug=1")), "total")

	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.pid))
	if err != nil {
		t.Fatal(err)
	}
	f.files = len(entries)
	f.resident = g.status1024(t, "VmRSS:")
	return f
}

// status1024 reads a size of /proc/<pid>/status.
func (g *gateway) status1024(t testing.TB, name string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.pid))
	if err != nil {
		t.Fatal(err)
	}
	return counted(string(text), name+"\t") << 10
}

// peak is the most memory that the process had since resetPeak.
func (g *gateway) peak(t testing.TB) int { return g.status1024(t, "VmHWM:") }

func (g *gateway) resetPeak(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", g.pid), []byte("5"), 0); err != nil {
		t.Logf("the peak of memory counts from the start of the process: %v", err)
	}
}

// settles waits until nothing of the attack is left.
func (g *gateway) settles(t testing.TB) (now figures) {
	t.Helper()
	defer func() {
		if now.goroutines > g.before.goroutines+spareGoroutine {
			t.Logf("what the goroutines do:\n%.6000s", g.debugPage(t, "/debug/pprof/goroutine?debug=1"))
		}
	}()
	testenv.Eventually(t, settleWithin(), "everything is back where it was", func() string {
		now = g.figures(t)
		return now.above(g.before)
	})
	return now
}

// above says what there is more of than before.
func (f figures) above(before figures) string {
	for _, c := range []struct {
		what              string
		now, then, allows int
	}{
		{"connections", f.connections, before.connections, 0},
		{"operations", f.operations, before.operations, 0},
		{"upstreams", f.upstreams, before.upstreams, 0},
		{"Redis channels", f.channels, before.channels, 0},
		{"goroutines", f.goroutines, before.goroutines, spareGoroutine},
		{"descriptors", f.files, before.files, spareFiles},
		{"bytes in use", f.heap, before.heap, spareMemory},
	} {
		if c.now > c.then+c.allows {
			return fmt.Sprintf("%d %s, before there were %d", c.now, c.what, c.then)
		}
	}
	return ""
}

// The table of figures, for go test -v.
var table struct {
	mu   sync.Mutex
	rows []string
}

func record(name string, before, after figures, peak int) {
	table.mu.Lock()
	defer table.mu.Unlock()
	mib := func(n int) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }
	table.rows = append(table.rows, fmt.Sprintf("%s\t%d > %d\t%d > %d\t%d > %d\t%s > %s\t%s > %s\t%s", name,
		before.goroutines, after.goroutines, before.files, after.files, before.upstreams, after.upstreams,
		mib(before.heap), mib(after.heap), mib(before.resident), mib(after.resident), mib(peak)))
}

func printFigures(w io.Writer) {
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(columns, "test\tgoroutines\tdescriptors\tupstreams\tin use, MiB\tresident, MiB\tpeak, MiB")
	for _, row := range table.rows {
		fmt.Fprintln(columns, row)
	}
	_ = columns.Flush()
}
