package gqlws

import (
	"testing"
	"time"
)

// A bucket holds a burst at first, and again after a rest; in between it gives as
// many tokens as it gets.
func TestBucket(t *testing.T) {
	var b bucket
	taken := func(now time.Duration) (n int) {
		for b.take(now, 10, 3) {
			n++
		}
		return n
	}
	for _, step := range []struct {
		now  time.Duration
		want int
	}{
		{5 * time.Second, 3},
		{5*time.Second + 99*time.Millisecond, 0},
		{5*time.Second + 100*time.Millisecond, 1},
		{5*time.Second + 350*time.Millisecond, 2},
		{5*time.Second + 399*time.Millisecond, 0},
		{time.Minute, 3},
	} {
		if got := taken(step.now); got != step.want {
			t.Errorf("at %v: %d tokens, want %d", step.now, got, step.want)
		}
	}
}

// Limits may be as large as an int.
func TestBucketOfAnySize(t *testing.T) {
	for _, n := range []int{1, 1 << 40, 1 << 62} {
		b := bucket{full: time.Second}
		if !b.take(time.Second, n, 1) || !b.take(time.Hour, n, n) {
			t.Errorf("%d a second: no token in a full bucket", n)
		}
		if b = (bucket{}); !b.take(0, 1, n) {
			t.Errorf("a burst of %d: no token in a full bucket", n)
		}
	}
}
