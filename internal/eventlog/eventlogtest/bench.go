package eventlogtest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
)

// Bench measures appends of 200 bytes by 1, 16 and 256 senders to 16 topics, and
// reads of pages.
func Bench(b *testing.B, place func(tb testing.TB) Place) {
	b.Helper()
	data := make([]byte, 200)
	for _, senders := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("append/senders=%d", senders), func(b *testing.B) {
			store := open(b, place(b), Options{})
			store.Watch(func(string) {}, func() {})
			took := make([]time.Duration, b.N)
			var next atomic.Int64
			var work sync.WaitGroup
			b.ResetTimer()
			for range senders {
				work.Go(func() {
					for n := next.Add(1) - 1; n < int64(b.N); n = next.Add(1) - 1 {
						began := time.Now()
						_, _, err := store.Append(b.Context(), eventlog.Draft{Topic: fmt.Sprint(n % 16), ID: fmt.Sprint(n), Data: data})
						if err != nil {
							b.Errorf("Append: %v", err)
							return
						}
						took[n] = time.Since(began)
					}
				})
			}
			work.Wait()
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
			b.ReportMetric(float64(took[b.N/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[b.N*99/100].Microseconds()), "p99-µs")
		})
	}
	b.Run("read", func(b *testing.B) {
		store := open(b, place(b), Options{})
		store.Watch(func(string) {}, func() {})
		var entries []*eventlog.Entry
		for range 1000 {
			entries = append(entries, Append(b, store, "a", string(data)))
		}
		after := entries[0].Pos
		for b.Loop() {
			page, err := store.Read(b.Context(), "a", after, live.PageEvents)
			if err != nil {
				b.Fatal(err)
			}
			after = page[len(page)-1].Pos
			if len(page) < live.PageEvents {
				after = entries[0].Pos
			}
		}
	})
}
