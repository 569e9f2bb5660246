package redisbridge

import (
	"slices"
	"sync"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
)

const (
	maxCounts = 4096 // streams; one that was dropped is learned anew
	maxCount  = 8    // positions of a stream: its readers are not all at the same
)

// counts knows of streams how many entries had been added up to a position, and
// so tells those who follow a stream that is kept short that they have seen
// all, although the entry that they saw last is gone.
type counts struct {
	mu sync.Mutex
	of map[string][]count // the newest last
}

type count struct {
	at    live.Position // up to this position
	added int64         // so many entries had been added
}

// learn notes what a server that counts says.
func (c *counts) learn(stream string, info streamInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if info.counted {
		c.note(stream, count{at: info.last, added: info.added})
	}
}

func (c *counts) note(stream string, now count) {
	if c.of == nil {
		c.of = make(map[string][]count)
	}
	known := slices.DeleteFunc(c.of[stream], func(k count) bool { return k.at == now.at })
	if len(known) == maxCount {
		known = slices.Delete(known, 0, 1)
	}
	c.of[stream] = append(known, now)
	for other := range c.of {
		if len(c.of) <= maxCounts {
			return
		}
		delete(c.of, other)
	}
}

// advance counts the entries that were read after a position. Those that were
// deleted meanwhile are not among them: the count is then too low, and all says
// no too often, never yes.
func (c *counts) advance(stream string, after live.Position, events []live.Event[*bridges.StreamEntry]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.of[stream]
	if len(known) == 0 {
		return
	}
	last := events[len(events)-1].Pos
	for i, ev := range events {
		for _, k := range known {
			if k.at == after {
				c.note(stream, count{at: last, added: k.added + int64(len(events)-i)})
				return
			}
		}
		after = ev.Pos
	}
}

// all reports whether the entries that were read after a position are all that
// were ever added after it.
func (c *counts) all(stream string, after live.Position, events []live.Event[*bridges.StreamEntry], info streamInfo) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return info.counted && slices.Contains(c.of[stream], count{at: after, added: info.added - int64(len(events))})
}
