package chaos

import "time"

// Partition silences both directions of all connections for a time, when it is
// started. TCP stays alive. Messages and control frames that begin within that
// time are lost, and so are those that wait for their delay to end; a message
// that has begun to pass, and the end of a connection, wait for its end.
type Partition struct {
	DurationMs int `json:"durationMs" yaml:"durationMs"` // when none is said; 1 to 60,000
}

// MaxPartitionMs is the longest that a partition may be.
const MaxPartitionMs = 60_000

func (p Partition) name() Name { return NamePartition }
func (p Partition) check() error {
	return checkMs(p.name(), "durationMs", p.DurationMs, 1, MaxPartitionMs*time.Millisecond)
}

func milliseconds(n int) time.Duration { return time.Duration(n) * time.Millisecond }
