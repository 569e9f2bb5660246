package model

import (
	"maps"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/labs/load"
)

// NewLoadRun is a run as a client is told of it.
func NewLoadRun(one *load.Started) LoadRun {
	run := LoadRun{ID: one.ID, StartedAt: one.At, Plan: one.Plan.String(), Progress: NewLoadProgress(one.Progress())}
	if failure := one.Failure(); failure != "" {
		run.Failure = &failure
	}
	if result := one.Result(); result != nil {
		run.Result = newLoadResult(result)
	}
	return run
}

// NewLoadProgress is where a run is.
func NewLoadProgress(p load.Progress) LoadProgress {
	return LoadProgress{
		Phase: p.Phase, ElapsedMs: ms(p.Elapsed), PlannedMs: ms(p.Planned),
		Connections: p.Connections, Failed: int(p.Failed), Abnormal: int(p.Abnormal),
		Sent: float64(p.Sent), Received: float64(p.Received), GraphqlErrors: float64(p.Errors),
		SentPerSecond: p.SentRate, ReceivedPerSecond: p.Rate, Latency: newLoadLatency(p.Latency), Lag: newLoadLatency(p.Lag),
	}
}

func newLoadResult(r *load.Result) *LoadResult {
	c, m, g := r.Connections, r.Messages, r.Generator
	result := &LoadResult{
		EndedEarly: r.Early, HeldMs: 1000 * r.HeldSeconds,
		Opened: int(c.Opened), Failed: int(c.Failed), Abnormal: int(c.Abnormal), CloseCodes: closeCounts(c.CloseCodes), Reasons: make([]LoadReason, len(c.Reasons)),
		Due: float64(m.Due), Sent: float64(m.Sent), Answered: float64(m.Answered), Lost: float64(m.Lost), Unsent: float64(m.Unsent),
		Doubled: float64(m.Doubled), Reordered: float64(m.Reordered), Foreign: float64(m.Foreign), GraphqlErrors: float64(m.Errors),
		SentPerSecond: m.SentRate, ReceivedPerSecond: m.Rate,
		Latency: newLoadLatency(r.Latency), Service: newLoadLatency(r.Service), Connect: newLoadLatency(r.Connect), Lag: newLoadLatency(g.Lag),
		Cpus: g.CPUs, Verdicts: r.Verdicts,
	}
	for i, reason := range c.Reasons {
		result.Reasons[i] = LoadReason{Text: reason.Text, Count: float64(reason.Count)}
	}
	if g.Behind {
		result.Behind = &g.Why
	}
	return result
}

// NewLoadReport is what a load server has counted.
func NewLoadReport(r load.Report) LoadReport {
	report := LoadReport{
		Since: r.Since, Open: r.Open, Peak: r.Peak, Opened: float64(r.Opened), Closed: float64(r.Closed), CloseCodes: closeCounts(r.CloseCodes),
		In: newLoadTraffic(r.In), Out: newLoadTraffic(r.Out), RoundTrip: newLoadLatency(r.RoundTrip), Age: newLoadLatency(r.Age),
		Cpus: r.CPUs, Descriptors: r.Process.Descriptors, DescriptorLimit: r.Process.DescriptorLimit,
	}
	if r.Process.MemoryBytes != nil {
		bytes := float64(*r.Process.MemoryBytes)
		report.MemoryBytes = &bytes
	}
	return report
}

func newLoadTraffic(t load.Traffic) LoadTraffic {
	return LoadTraffic{
		Messages: float64(t.Messages), Bytes: float64(t.Bytes),
		MessagesPerSecond: float64(t.MessagesPerSecond), BytesPerSecond: float64(t.BytesPerSecond),
	}
}

func newLoadLatency(l *load.Latency) *LoadLatency {
	if l == nil {
		return nil
	}
	return &LoadLatency{
		Count: float64(l.Count), MinMs: ms(l.Min), MeanMs: ms(l.Mean), P50Ms: ms(l.P50), P90Ms: ms(l.P90),
		P95Ms: ms(l.P95), P99Ms: ms(l.P99), P999Ms: ms(l.P999), MaxMs: ms(l.Max),
	}
}

func closeCounts(codes map[int]int64) []CloseCount {
	counts := make([]CloseCount, 0, len(codes))
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		counts = append(counts, CloseCount{Code: code, Count: float64(codes[code])})
	}
	return counts
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
