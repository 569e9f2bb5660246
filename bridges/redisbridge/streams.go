package redisbridge

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
)

// SubscribeStream implements bridges.Streams. See live.Tail for how a subscriber
// catches up. Redis must allow XRANGE, XINFO STREAM and XREAD.
//
// Entries that were trimmed away before they were read are told: see
// streamInfo.trimmed for when. An entry that its owner takes back with XDEL is
// no loss, and not told.
func (b *Bridge) SubscribeStream(ctx context.Context, stream string, after *live.Position) (live.Sub[*bridges.StreamEntry], error) {
	if err := b.cfg.Limits.CheckStream(stream); err != nil {
		return nil, err
	}
	if err := b.waitTried(ctx); err != nil { // a server that is there causes no gap
		return nil, err
	}
	return b.tail.Subscribe(ctx, stream, after)
}

// AppendStream implements bridges.Streams. Like a publication, an entry is sent
// once.
func (b *Bridge) AppendStream(ctx context.Context, stream string, fields []bridges.StreamField) (*bridges.StreamEntry, error) {
	if err := b.cfg.Limits.CheckStream(stream); err != nil {
		return nil, err
	}
	if err := bridges.CheckFields(fields); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, bridges.PublishTimeout)
	defer cancel()
	client, err := b.publisher(ctx)
	if err != nil {
		return nil, err
	}
	values := make([]string, 0, 2*len(fields))
	for _, f := range fields {
		values = append(values, f.Name, f.Value)
	}
	id, err := client.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: values}).Result()
	if err != nil {
		if refusal := streamRefusal("to append to", stream, err); refusal != nil {
			return nil, refusal
		}
		return nil, bridges.Unavailable(bridges.KindRedis, err)
	}
	return newEntry(stream, id, fields)
}

// streamRefusal is what a client is told of a reply that says no to a stream,
// now and later; nil: it is another error.
func streamRefusal(to, stream string, reply error) error {
	switch {
	case redis.HasErrorPrefix(reply, "NOPERM"):
		return refusal(fmt.Sprintf("%s stream %q", to, stream), reply)
	case redis.HasErrorPrefix(reply, "WRONGTYPE"):
		return &live.Error{
			Code:    bridges.CodeTopicRefused,
			Message: fmt.Sprintf("The Redis key %q holds something other than a stream.", stream),
			Cause:   reply,
		}
	}
	return nil
}

// streamID is how Redis writes a position.
func streamID(p live.Position) string {
	return strconv.FormatUint(p.Hi, 10) + "-" + strconv.FormatUint(p.Lo, 10)
}

func parseStreamID(id string) (p live.Position, err error) {
	ms, seq, _ := strings.Cut(id, "-")
	if p.Hi, err = strconv.ParseUint(ms, 10, 64); err == nil {
		p.Lo, err = strconv.ParseUint(seq, 10, 64)
	}
	if err != nil {
		return live.Position{}, fmt.Errorf("redisbridge: stream id %q: %w", id, err)
	}
	return p, nil
}

// before is the position just before another.
func before(p live.Position) live.Position {
	switch {
	case p.Lo > 0:
		return live.Position{Hi: p.Hi, Lo: p.Lo - 1}
	case p.Hi > 0:
		return live.Position{Hi: p.Hi - 1, Lo: math.MaxUint64}
	}
	return p
}

// lastMoment is the latest that can be written with four digits for the year.
var lastMoment = time.Date(9999, time.December, 31, 23, 59, 59, 999e6, time.UTC)

func newEntry(stream, id string, fields []bridges.StreamField) (*bridges.StreamEntry, error) {
	pos, err := parseStreamID(id)
	if err != nil {
		return nil, err
	}
	at := lastMoment
	if pos.Hi < uint64(lastMoment.UnixMilli()) {
		at = time.UnixMilli(int64(pos.Hi))
	}
	return &bridges.StreamEntry{Stream: stream, ID: id, Pos: pos, Fields: fields, At: at}, nil
}

// errReply is an answer of Redis that is not of the form it should have.
var errReply = errors.New("redisbridge: Redis answered something that was not asked")

// parseEntries reads the reply to XRANGE. go-redis would put the fields into a
// map, which knows neither order nor names that repeat.
func parseEntries(stream string, reply any) ([]live.Event[*bridges.StreamEntry], error) {
	list, ok := reply.([]any)
	if !ok {
		return nil, errReply
	}
	events := make([]live.Event[*bridges.StreamEntry], 0, len(list))
	for _, item := range list {
		parts, _ := item.([]any)
		if len(parts) != 2 {
			return nil, errReply
		}
		id, _ := parts[0].(string)
		texts, ok := parts[1].([]any)
		if !ok || len(texts)%2 != 0 {
			return nil, errReply
		}
		fields := make([]bridges.StreamField, len(texts)/2)
		for i := range fields {
			fields[i].Name, _ = texts[2*i].(string)
			fields[i].Value, _ = texts[2*i+1].(string)
		}
		entry, err := newEntry(stream, id, fields)
		if err != nil {
			return nil, err
		}
		events = append(events, live.Event[*bridges.StreamEntry]{Value: entry, Pos: entry.Pos})
	}
	return events, nil
}

// archive reads the streams of a Bridge's server.
type archive struct {
	bridge *Bridge
	counts counts
}

var _ live.Archive[string, *bridges.StreamEntry] = (*archive)(nil)

// Read implements live.Archive. It also asks for the entry at the position:
// Redis trims from the front, so where that is kept, so is all that follows.
func (a *archive) Read(ctx context.Context, stream string, after live.Position, limit int) ([]live.Event[*bridges.StreamEntry], error) {
	client, err := a.client(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := client.Do(ctx, "XRANGE", stream, streamID(after), "+", "COUNT", limit+1).Result()
	if err != nil {
		return nil, readError(stream, err)
	}
	events, err := parseEntries(stream, reply)
	if err != nil {
		return nil, err
	}
	kept := len(events) > 0 && events[0].Pos == after
	if kept {
		events = events[1:]
	} else {
		// Asked after the entries were read: what was trimmed in between counts
		// as trimmed, too, and nothing is overlooked.
		info, err := readInfo(ctx, client, stream)
		if err != nil {
			return nil, err
		}
		through, trimmed := info.trimmed(after)
		all := a.counts.all(stream, after, events, info)
		a.counts.learn(stream, info)
		if trimmed && !all {
			return nil, &live.Trimmed{Through: through}
		}
	}
	events = events[:min(len(events), limit)]
	if len(events) > 0 {
		a.counts.advance(stream, after, events)
		a.bridge.follower.saw(stream, events[len(events)-1].Pos)
	}
	return events, nil
}

// Head implements live.Archive.
func (a *archive) Head(ctx context.Context, stream string) (live.Position, error) {
	client, err := a.client(ctx)
	if err != nil {
		return live.Position{}, err
	}
	info, err := readInfo(ctx, client, stream)
	if err != nil {
		return live.Position{}, err
	}
	a.counts.learn(stream, info)
	return info.last, nil
}

func (a *archive) client(ctx context.Context) (*redis.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, bridges.PublishTimeout)
	defer cancel()
	return a.bridge.publisher(ctx)
}

// readError is what a failed read says: a refusal ends those who wait for it,
// anything else passes.
func readError(stream string, err error) error {
	if refusal := streamRefusal("to read", stream, err); refusal != nil {
		return refusal
	}
	return err
}

// streamInfo is what Redis knows of a stream. Of one that does not exist, all
// is zero.
type streamInfo struct {
	length  int64
	last    live.Position // of the newest entry ever, kept or not
	first   live.Position // of the oldest that is kept, if there is one
	added   int64         // entries ever
	counted bool          // added is known: since Redis 7, and not with the embedded server
}

// readInfo asks for a stream. The oldest entry is asked for on its own, because
// servers call it by different names or not at all.
func readInfo(ctx context.Context, client redis.Cmdable, stream string) (streamInfo, error) {
	pipe := client.Pipeline()
	about, oldest := askInfo(ctx, pipe, stream)
	_, _ = pipe.Exec(ctx) // the commands have their errors
	return infoOf(stream, about, oldest)
}

func askInfo(ctx context.Context, pipe redis.Pipeliner, stream string) (about, oldest *redis.Cmd) {
	return pipe.Do(ctx, "XINFO", "STREAM", stream), pipe.Do(ctx, "XRANGE", stream, "-", "+", "COUNT", 1)
}

func infoOf(stream string, about, oldest *redis.Cmd) (info streamInfo, err error) {
	pairs, err := about.Slice()
	if err != nil {
		if redis.HasErrorPrefix(err, "no such key") {
			return streamInfo{counted: true}, nil
		}
		return info, readError(stream, err)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		switch pairs[i] {
		case "length":
			info.length, _ = pairs[i+1].(int64)
		case "entries-added":
			info.added, info.counted = pairs[i+1].(int64)
		case "last-generated-id":
			id, _ := pairs[i+1].(string)
			if info.last, err = parseStreamID(id); err != nil {
				return info, err
			}
		}
	}
	reply, err := oldest.Result()
	if err != nil {
		return info, readError(stream, err)
	}
	events, err := parseEntries(stream, reply)
	if len(events) > 0 {
		info.first = events[0].Pos
	} else {
		info.length = 0 // emptied in between
	}
	return info, err
}

// trimmed reports whether entries after a position may be gone, and through
// which. The position is that of an entry that is not kept, or zero, before all
// entries; it is taken for that of an entry that there was, or of a head.
//
// It is conservative: somebody who has seen everything up to an entry that was
// trimmed itself cannot be told from somebody who has missed the next, unless
// the entries were counted (see counts). On a server that does not count them,
// which is any before Redis 7 and the embedded one, a stream whose beginning was trimmed away looks like one that
// began there: who reads it from before its first entry is not told.
func (i streamInfo) trimmed(after live.Position) (through live.Position, trimmed bool) {
	through = i.last // an empty stream, or none: nothing is left up to the newest
	if i.length > 0 {
		through = before(i.first)
	}
	switch {
	case after == through, after == i.last: // nothing was, or can have been, in between
		return through, false
	case after == live.Position{}:
		return through, i.length == 0 || i.counted && i.added > i.length
	case i.length > 0 && after.Compare(i.first) > 0 && after.Compare(i.last) < 0:
		// It was deleted on its own; trimming ends before the first entry. Where
		// none was ever deleted, the stream is another of the same name.
		return through, i.counted && i.added == i.length
	}
	return through, true // older than what is left, or of another stream of the name
}
