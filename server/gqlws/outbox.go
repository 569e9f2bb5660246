package gqlws

import (
	"bytes"
	"encoding/binary"
	"sync"

	"github.com/gorilla/websocket"
)

// outbox is what waits to be written to one socket.
//
// It is bounded in bytes: a frame that does not fit is refused, except that a
// single frame larger than the bound passes when nothing else waits. Who paces
// itself by room is never refused, and stays below the bound but for one frame. At most
// one flush runs at a time; offer tells its caller to start one. Control frames
// go between data frames, ahead of those that wait.
//
// Nothing here touches the socket, and no lock is held while a frame is
// written: a slow socket holds up its own flush and nothing else. Where nothing
// waits, a worker may claim the outbox and write by itself what the socket takes
// at once; the rest it leaves to a flush.
type outbox struct {
	limit int
	// work counts the flush. It is raised here, under the lock that also says
	// whether the outbox is sealed: once it is, and work is down, no flush will
	// ever start again.
	work *sync.WaitGroup

	mu        sync.Mutex
	frames    []frame  // waiting, oldest first
	rest      []byte   // what a direct write could not bring off; goes first
	bytes     int      // of frames and rest, and of those being written
	taken     int      // bytes of the batch that is being written
	pong      []byte   // rendered pong, or nil: the latest ping's (RFC 6455, section 5.5.3)
	closing   []byte   // rendered Close frame, goes after all frames
	ping      bool     // a ping waits
	sealed    bool     // nothing more is accepted …
	abandoned bool     // … or written
	flushing  bool     // somebody writes
	waiters   []func() // called once there is room
}

// room reports whether at most a quarter of the bound waits. Else f is called,
// never blocking, when that is so.
func (o *outbox) room(f func()) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes <= o.limit/4 || o.sealed { // sealed: nothing is kept
		return true
	}
	o.waiters = append(o.waiters, f)
	return false
}

// takeWaiters returns who can go on, now that there is room.
func (o *outbox) takeWaiters() (waiters []func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes <= o.limit/4 || o.sealed {
		waiters, o.waiters = o.waiters, nil
	}
	return waiters
}

// frame is one text message in up to three parts, so that many subscribers can
// share the body of a result. Frames of an operation that is silenced are not
// sent.
type frame struct {
	op     *operation // nil: of the connection
	head   []byte     // the whole message, but for a result's
	result result
	tail   []byte // closes the result and the message
}

// isResult: an operation's last messages have no body.
func (f frame) isResult() bool { return f.result.body != nil }

// isEvent: a policy may drop it.
func (f frame) isEvent() bool { return f.isResult() && (f.result.more == nil || !f.result.more.ready) }

func (f frame) size() int { return len(f.head) + len(f.result.body) + len(f.tail) }

func (f frame) append(b []byte) []byte {
	b = appendFrameHeader(b, websocket.TextMessage, f.size())
	b = append(b, f.head...)
	b = append(b, f.result.body...)
	return append(b, f.tail...)
}

// missing returns the frame as one that says how many results were dropped
// before it.
func (f frame) missing(n uint64) frame {
	if n > 0 {
		f = f.op.frame(f.result.missing(n))
	}
	return f
}

func (f frame) missed() uint64 {
	if f.result.more == nil {
		return 0
	}
	return f.result.more.missed
}

// offered is what became of a frame.
type offered int

const (
	queued   offered = iota
	starting         // queued, and the caller must start the flush, which is counted in work
	full             // refused: over the bound
	late             // refused: the outbox is sealed
)

func (o *outbox) offer(f frame) offered {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sealed {
		return late
	}
	size := f.size()
	if o.bytes > 0 && o.bytes+size > o.limit && (!f.isResult() || !f.op.paced.Load()) {
		if !f.isEvent() || f.op.policy != keepLatest {
			return full
		}
		o.replace(f)
		return queued // what fills the outbox is being flushed
	}
	if f.isResult() && f.op.missed > 0 {
		f, f.op.missed = f.missing(f.op.missed), 0
		size = f.size()
	}
	o.bytes += size
	o.frames = append(o.frames, f)
	return o.started()
}

// replace puts an event into the place of the newest one of its operation that
// waits; where none does, it is dropped and counted.
func (o *outbox) replace(f frame) {
	for i := len(o.frames) - 1; i >= 0; i-- {
		if o.frames[i].op == f.op && o.frames[i].isEvent() {
			newest := f.missing(o.frames[i].missed() + 1)
			grows := newest.size() - o.frames[i].size()
			if grows > 0 && o.bytes+grows > o.limit {
				break // it would go over the bound: dropped like one with nothing to replace
			}
			f = newest
			o.bytes += grows
			o.frames[i] = f
			return
		}
	}
	f.op.missed++
}

// claim makes the caller the one who writes, if nothing waits and nobody
// writes. missed are the results that op, which may be nil, has not been told
// of. A claim ends with release.
func (o *outbox) claim(op *operation) (missed uint64, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sealed || o.flushing {
		return 0, false
	}
	o.flushing = true
	o.work.Add(1) // serve waits for it as for a flush
	if op != nil {
		missed, op.missed = op.missed, 0
	}
	return missed, true
}

// release ends a claim. rest is what could not be written; it is copied.
func (o *outbox) release(rest []byte) offered {
	defer o.work.Done() // after started has counted the flush
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flushing = false
	if o.abandoned {
		return late
	}
	if len(rest) > 0 {
		o.rest = bytes.Clone(rest)
		o.bytes += len(rest)
	}
	if o.rest == nil && len(o.frames) == 0 && !o.ping && o.pong == nil && o.closing == nil {
		return queued
	}
	return o.started()
}

// probe queues a ping.
func (o *outbox) probe() offered {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sealed {
		return late
	}
	o.ping = true
	return o.started()
}

// answer queues the pong to a ping.
func (o *outbox) answer(payload string) offered {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sealed {
		return late
	}
	o.pong = append(appendFrameHeader(nil, websocket.PongMessage, len(payload)), payload...)
	return o.started()
}

// seal refuses everything from now on. A Close frame with this payload goes
// out last; with discard, the frames that wait do not go before it.
func (o *outbox) seal(payload []byte, discard bool) offered {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sealed {
		return late
	}
	o.sealed = true
	o.closing = append(appendFrameHeader(nil, websocket.CloseMessage, len(payload)), payload...)
	if discard {
		o.frames, o.bytes = nil, o.taken+len(o.rest)
	}
	return o.started()
}

func (o *outbox) isSealed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sealed
}

// abandon refuses everything and forgets what waits.
func (o *outbox) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sealed, o.abandoned = true, true
	o.rest, o.frames, o.closing, o.ping, o.pong = nil, nil, nil, false, nil
	o.bytes = o.taken
}

func (o *outbox) started() offered {
	if o.flushing {
		return queued
	}
	o.flushing = true
	o.work.Add(1)
	return starting
}

// take renders what waits into buf, up to about the capacity of buf, and says
// how many text frames that is and whether the Close frame is among it. An empty result means that nothing waits:
// the flush is over.
func (o *outbox) take(buf []byte) (batch []byte, frames int, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bytes -= o.taken
	o.taken = 0

	if o.rest != nil {
		buf, o.taken, o.rest = append(buf[:0], o.rest...), len(o.rest), nil
		return buf, 0, false
	}
	buf = append(buf[:0], o.pong...)
	if o.ping {
		buf = append(buf, pingFrame...)
	}
	o.pong, o.ping = nil, false

	n := 0
	for n < len(o.frames) && (len(buf) == 0 || len(buf)+o.frames[n].size() <= cap(buf)) {
		f := o.frames[n]
		n++
		o.taken += f.size()
		if f.op != nil && f.op.silenced.Load() {
			continue
		}
		frames++
		buf = f.append(buf)
	}
	o.drop(n)
	if len(o.frames) == 0 && o.closing != nil {
		buf = append(buf, o.closing...)
		o.closing = nil
		return buf, frames, true
	}
	if len(buf) == 0 { // then all frames were silenced, or there were none
		o.bytes, o.taken = 0, 0
		o.flushing = false
	}
	return buf, frames, false
}

// drop forgets the first n frames, and their memory once none is left.
func (o *outbox) drop(n int) {
	clear(o.frames[:n])
	o.frames = o.frames[n:]
	if len(o.frames) == 0 {
		o.frames = nil
	}
}

// pingFrame is a ping without a payload.
var pingFrame = appendFrameHeader(nil, websocket.PingMessage, 0)

// maxFrameHeader is how long the header of a frame of ours can be.
const maxFrameHeader = 10

// appendFrameHeader appends the header of an unfragmented, unmasked frame with
// the shortest length form (RFC 6455, section 5.2).
func appendFrameHeader(b []byte, opcode, length int) []byte {
	b = append(b, 0x80|byte(opcode))
	switch {
	case length <= 125:
		return append(b, byte(length))
	case length <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(length))
}
