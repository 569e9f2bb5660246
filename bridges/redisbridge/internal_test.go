package redisbridge

import (
	"fmt"
	"math"
	"testing"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
)

func at(ms uint64) live.Position { return live.Position{Hi: ms} }

func justBefore(ms uint64) live.Position { return live.Position{Hi: ms - 1, Lo: math.MaxUint64} }

// TestTrimmed: positions are those of entries that are not kept.
func TestTrimmed(t *testing.T) {
	var none live.Position
	tests := []struct {
		name    string
		info    streamInfo
		after   live.Position
		trimmed bool
		through live.Position
	}{
		{"no stream, from the beginning", streamInfo{counted: true}, none, false, none},
		{"a stream that is gone", streamInfo{counted: true}, at(5), true, none},
		{"empty from the start", streamInfo{counted: true}, none, false, none},
		{"emptied, from the beginning", streamInfo{last: at(9), added: 3, counted: true}, none, true, at(9)},
		{"emptied, not counted", streamInfo{last: at(9)}, none, true, at(9)},
		{"emptied, nothing after the last", streamInfo{last: at(9), added: 3, counted: true}, at(9), false, none},
		{"emptied, something after it", streamInfo{last: at(9), added: 3, counted: true}, at(5), true, at(9)},
		{"emptied, made anew", streamInfo{last: at(9), added: 3, counted: true}, at(12), true, at(9)},

		{"whole, from the beginning", streamInfo{length: 3, first: at(4), last: at(9), added: 3, counted: true}, none, false, none},
		{"trimmed, from the beginning", streamInfo{length: 3, first: at(4), last: at(9), added: 4, counted: true}, none, true, justBefore(4)},
		{"not counted, from the beginning", streamInfo{length: 3, first: at(4), last: at(9)}, none, false, none},
		{"trimmed, older than what is left", streamInfo{length: 3, first: at(4), last: at(9), added: 9, counted: true}, at(3), true, justBefore(4)},
		{"not counted, older than what is left", streamInfo{length: 3, first: at(4), last: at(9)}, at(3), true, justBefore(4)},
		{"just before what is left", streamInfo{length: 3, first: at(4), last: at(9), added: 9, counted: true}, justBefore(4), false, none},
		{"deleted on its own", streamInfo{length: 3, first: at(4), last: at(9), added: 4, counted: true}, at(6), false, none},
		{"deleted on its own, not counted", streamInfo{length: 3, first: at(4), last: at(9)}, at(6), false, none},
		{"not deleted and yet not there", streamInfo{length: 3, first: at(4), last: at(9), added: 3, counted: true}, at(6), true, justBefore(4)},
		{"the last, deleted", streamInfo{length: 3, first: at(4), last: at(9), added: 4, counted: true}, at(9), false, none},
		{"beyond the last", streamInfo{length: 3, first: at(4), last: at(9), added: 3, counted: true}, at(10), true, justBefore(4)},
		{"whole from the first id there is", streamInfo{length: 1, first: live.Position{Lo: 1}, last: at(9), added: 5, counted: true}, none, false, none},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			through, trimmed := test.info.trimmed(test.after)
			if trimmed != test.trimmed || trimmed && through != test.through {
				t.Fatalf("trimmed %t through %v, want %t through %v", trimmed, through, test.trimmed, test.through)
			}
			if trimmed {
				if _, again := test.info.trimmed(through); again {
					t.Errorf("from %v on, entries are missing again: a reader would never come through", through)
				}
			}
		})
	}
}

func entries(ms ...uint64) (events []live.Event[*bridges.StreamEntry]) {
	for _, n := range ms {
		events = append(events, live.Event[*bridges.StreamEntry]{Pos: at(n)})
	}
	return events
}

func TestCountsKnowWhenAllWasSeen(t *testing.T) {
	info := func(last uint64, added int64) streamInfo {
		return streamInfo{last: at(last), added: added, counted: true}
	}
	var c counts
	if c.all("s", at(1), entries(2), info(2, 2)) {
		t.Error("all, of a stream that nothing is known of")
	}
	c.learn("s", info(1, 10))
	for _, test := range []struct {
		after uint64
		seen  []uint64
		added int64
		want  bool
	}{
		{1, []uint64{2, 3}, 12, true},
		{1, []uint64{3}, 12, false}, // 2 is gone
		{1, nil, 10, true},
		{1, nil, 11, false},
		{1, []uint64{2}, 1, false}, // made anew
		{0, []uint64{1, 2}, 11, false},
	} {
		if got := c.all("s", at(test.after), entries(test.seen...), info(9, test.added)); got != test.want {
			t.Errorf("%+v: %t", test, got)
		}
	}
	if c.all("s", at(1), entries(2, 3), streamInfo{last: at(3)}) {
		t.Error("all, on a server that does not count")
	}

	c.advance("s", at(1), entries(2, 3))
	c.advance("s", at(0), entries(1, 2, 3, 4)) // by a reader who came later
	if !c.all("s", at(4), entries(5), info(5, 14)) || !c.all("s", at(1), entries(2), info(2, 11)) {
		t.Error("entries that were read are not counted")
	}
	c.advance("s", at(7), entries(8)) // not connected to anything known
	if c.all("s", at(8), nil, info(8, 14)) {
		t.Error("all, at a position whose count is not known")
	}
}

func TestCountsAreBounded(t *testing.T) {
	var c counts
	for i := range 2 * maxCounts {
		c.learn(fmt.Sprint(i), streamInfo{last: at(1), counted: true})
	}
	for i := range uint64(2 * maxCount) {
		c.learn("s", streamInfo{last: at(i), counted: true})
	}
	if len(c.of) > maxCounts || len(c.of["s"]) > maxCount {
		t.Errorf("%d streams, %d positions", len(c.of), len(c.of["s"]))
	}
}
