package load

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency is a distribution of times, each exact to 0.1 %, in a server's report to
// 1 %.
type Latency struct {
	Count                         int64
	Min, Mean                     time.Duration
	P50, P90, P95, P99, P999, Max time.Duration
}

// MarshalJSON writes milliseconds.
func (l Latency) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Count int64   `json:"count"`
		Min   float64 `json:"minMs"`
		Mean  float64 `json:"meanMs"`
		P50   float64 `json:"p50Ms"`
		P90   float64 `json:"p90Ms"`
		P95   float64 `json:"p95Ms"`
		P99   float64 `json:"p99Ms"`
		P999  float64 `json:"p999Ms"`
		Max   float64 `json:"maxMs"`
	}{l.Count, ms(l.Min), ms(l.Mean), ms(l.P50), ms(l.P90), ms(l.P95), ms(l.P99), ms(l.P999), ms(l.Max)})
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// longest is the longest time that a histogram can tell from a longer one.
const longest = time.Hour

// histogram counts times from a microsecond to an hour. It is for any number of
// goroutines. From its first time on it takes 180 KB, or, where it is a coarse one,
// 30 KB.
type histogram struct {
	coarse bool // exact to 1 %
	mu     sync.Mutex
	hdr    *hdrhistogram.Histogram
}

func (h *histogram) record(d time.Duration) {
	d = min(max(d, time.Microsecond), longest)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hdr == nil {
		digits := 3
		if h.coarse {
			digits = 2
		}
		h.hdr = hdrhistogram.New(1, longest.Microseconds(), digits)
	}
	_ = h.hdr.RecordValue(d.Microseconds()) // within its bounds
}

// latency says what was recorded; nil: nothing was. With reset it begins anew.
func (h *histogram) latency(reset bool) *Latency {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hdr == nil || h.hdr.TotalCount() == 0 {
		return nil
	}
	at := h.hdr.ValueAtPercentilesSlice([]float64{50, 90, 95, 99, 99.9})
	us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	l := &Latency{
		Count: h.hdr.TotalCount(), Min: us(h.hdr.Min()), Mean: time.Duration(h.hdr.Mean() * 1000), Max: us(h.hdr.Max()),
		P50: us(at[0]), P90: us(at[1]), P95: us(at[2]), P99: us(at[3]), P999: us(at[4]),
	}
	if reset {
		h.hdr.Reset()
	}
	return l
}
