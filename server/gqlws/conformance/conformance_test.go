package conformance

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write docs/conformance.md instead of comparing with it")

const recordFile = "../../../docs/conformance.md"

// stockPlays is how often each case runs against the stock transport: a result
// that differs from one time to the next is no result.
const stockPlays = 3

func TestConformance(t *testing.T) {
	r := record{ours: make(map[string]string), stock: make(map[string]string)}
	t.Run("ours", func(t *testing.T) {
		runAll(t, serveOurs(t), r.ours, 1, func(t *testing.T, f *failure) { t.Error(f) })
	})
	t.Run("stock", func(t *testing.T) {
		runAll(t, serveStock(t), r.stock, stockPlays, func(t *testing.T, f *failure) { t.Log(f) })
	})
	n := 0
	each(func(document, testCase) { n++ })
	switch {
	case t.Failed():
	case len(r.ours) < n || len(r.stock) < n:
		t.Log("not all cases have run, so the record is neither compared nor written")
	default:
		r.gqlgen = gqlgenVersion(t)
		compare(t, report(r))
	}
}

// runAll plays every case against a server, as parallel subtests that it waits
// for, and keeps what was seen of those that failed.
func runAll(t *testing.T, url string, seen map[string]string, plays int, failed func(*testing.T, *failure)) {
	var mu sync.Mutex
	t.Run("case", func(t *testing.T) {
		each(func(d document, tc testCase) {
			t.Run(d.name(tc), func(t *testing.T) {
				t.Parallel()
				f := playSome(t, url, d.name(tc), tc, plays)
				if f != nil {
					failed(t, f)
				}
				mu.Lock()
				defer mu.Unlock()
				seen[d.name(tc)] = summary(f)
			})
		})
	})
}

func summary(f *failure) string {
	if f == nil {
		return ""
	}
	return f.seen
}

// playSome plays a case several times at once, which must end alike.
func playSome(t *testing.T, url string, name string, tc testCase, plays int) *failure {
	ends := make([]*failure, plays)
	var work sync.WaitGroup
	for i := range ends {
		work.Go(func() { ends[i] = play(url, fmt.Sprintf("%s %d", name, i), tc) })
	}
	work.Wait()
	for _, f := range ends {
		if summary(f) != summary(ends[0]) {
			t.Errorf("not the same each time: saw %q and %q", summary(ends[0]), summary(f))
		}
	}
	return ends[0]
}

// play holds one conversation. Its topic and its gate go by the name.
func play(url string, name string, tc testCase) *failure {
	c := &client{url: url, name: name}
	defer c.hangUp()
	tc.play(c)
	return c.failed
}

// compare compares the record with the file, or writes it.
func compare(t *testing.T, now string) {
	if *update {
		if err := os.WriteFile(recordFile, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(recordFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) == now {
		return
	}
	file, run := strings.Split(string(b), "\n"), strings.Split(now, "\n")
	t.Error("docs/conformance.md is not what this run has found; write it with -update")
	for i := range max(len(file), len(run)) {
		if line(file, i) != line(run, i) {
			t.Errorf("line %d\nfile %s\n run %s", i+1, line(file, i), line(run, i))
		}
	}
}

func line(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(none)"
}

// TestNamesAreUnique proves that no case hides another's result.
func TestNamesAreUnique(t *testing.T) {
	seen := make(map[string]bool)
	each(func(d document, c testCase) {
		if seen[d.name(c)] {
			t.Errorf("two cases are called %s", d.name(c))
		}
		seen[d.name(c)] = true
	})
}

// gqlgenVersion is the version of the transport that we compare with.
func gqlgenVersion(t *testing.T) string {
	mod, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`github.com/99designs/gqlgen (v\S+)`).FindSubmatch(mod)
	if found == nil {
		t.Fatal("go.mod does not require gqlgen")
	}
	return string(found[1])
}
