package model

import (
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/labs/mock"
)

// MockState is what a mock server is doing.
type MockState struct{ mock.Status }

// Name is what the script calls itself.
func (s MockState) Name() string { return s.Script.Name() }

// Paths are those that the script names.
func (s MockState) Paths() []string { return s.Script.Paths() }

// Variables are those that the script declares.
func (s MockState) Variables() []string { return s.Script.Vars() }

// Seed is in decimal.
func (s MockState) Seed() string { return strconv.FormatUint(s.Status.Seed, 10) }

// Knobs are in the units of the schema.
func (s MockState) Knobs() MockKnobs {
	k := s.Status.Knobs
	return MockKnobs{
		LatencyMs: int(k.Latency.Milliseconds()), ErrorRate: k.ErrorRate,
		Connections: k.Connections, BufferBytes: k.BufferBytes, Overflow: k.Overflow,
	}
}

// Change is what the input asks for. A latency out of bounds stays out of them.
func (in MockKnobsInput) Change() mock.KnobChange {
	change := mock.KnobChange{ErrorRate: in.ErrorRate, Connections: in.Connections, BufferBytes: in.BufferBytes, Overflow: in.Overflow}
	if in.LatencyMs != nil {
		latency := time.Duration(*in.LatencyMs) * time.Millisecond
		change.Latency = &latency
	}
	return change
}

// MockVerdict is the verdict on the connections of a mock server.
type MockVerdict struct{ mock.Verdict }

// Seed is in decimal.
func (v MockVerdict) Seed() string { return strconv.FormatUint(v.Verdict.Seed, 10) }

// Text is the verdict in lines.
func (v MockVerdict) Text() string { return v.String() }
