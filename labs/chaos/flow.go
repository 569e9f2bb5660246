package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// HeldBytes is what is held of one direction of a connection: half of it for a
// message that is being collected because a fault needs it whole, half for what
// waits to be written.
const HeldBytes = 1 << 20

// flow is one direction of a line.
type flow struct {
	line      *line
	direction wire.Direction
	src, dst  net.Conn
	queue     queue
	done      chan struct{} // closed when write has returned

	// Of the goroutine that reads.
	opening bool // the head of an HTTP response comes first
	head    []byte
	decoder wire.Decoder
	partial []byte // of a header
	message *unit  // that has begun and has not ended
	yielded bool   // the last message lets the next one go first
	unit    *unit  // that the present frame belongs to
	begun   *item  // a header, to be written with what of its payload came along
	chunk   [16 << 10]byte

	// Of the goroutine that writes.
	aside      *item // that lets the next message go first
	asideUntil time.Time
	inFrame    bool // what was written ends within a frame
	mute       bool // nothing is written any more
}

func (f *flow) join(l *line, d wire.Direction, src, dst net.Conn) {
	f.line, f.direction, f.src, f.dst, f.opening = l, d, src, dst, d == wire.ToClient
	f.queue.init()
	f.done = make(chan struct{})
}

// unit is what passes or is lost as a whole: a message, or a control frame.
type unit struct {
	place  *place
	n      uint64 // number of the message; 0: it is none
	opcode wire.Opcode
	size   uint64 // of its first frame
	due    time.Time
	blows  []blow

	collect bool   // it is needed whole
	raw     []byte // what there is of it then
	lost    bool   // before it got into the queue
	dropped bool   // behind it
}

func (u *unit) String() string {
	if u.n == 0 {
		return fmt.Sprintf("a %v frame", u.opcode)
	}
	return fmt.Sprintf("%v", u.opcode)
}

// item is what waits to be written.
type item struct {
	unit        *unit // nil: the head of the opening, or the end
	raw         []byte
	first, last bool // of the unit
	frameEnds   bool
	again       bool
	yields      time.Duration
	end         error // io.EOF, or why nothing more can be read
}

// read takes bytes to the queue until there are no more.
func (f *flow) read() {
	for {
		n, err := f.src.Read(f.chunk[:])
		if !f.take(f.chunk[:n]) {
			return
		}
		if err != nil {
			if f.release() && f.pass(f.partial) {
				f.queue.put(item{end: err}, f.line.done)
			}
			return
		}
	}
}

// take goes through a chunk; false: the line is over.
func (f *flow) take(chunk []byte) bool {
	if f.opening {
		rest, ok := f.open(chunk)
		if !ok {
			return false
		}
		chunk = rest
	}
	at := 0
	for part := range f.decoder.Parts(chunk) {
		raw := slices.Concat(f.partial, chunk[at:part.At])
		f.partial, at = nil, part.At
		if !f.part(part, raw) {
			return false
		}
	}
	f.partial = append(f.partial, chunk[at:]...)
	if it := f.begun; it != nil {
		f.begun = nil
		return f.queue.put(*it, f.line.done)
	}
	return true
}

// open passes the head of the response, and returns what is behind it.
func (f *flow) open(chunk []byte) (rest []byte, ok bool) {
	before := len(f.head)
	f.head = append(f.head, chunk...)
	end := bytes.Index(f.head, []byte("\r\n\r\n")) + 4
	if end < 4 {
		f.head = f.head[len(f.head)-min(3, len(f.head)):]
		return nil, f.pass(chunk)
	}
	f.opening, f.head = false, nil
	return chunk[end-before:], f.pass(chunk[:end-before])
}

// pass puts bytes of no unit into the queue.
func (f *flow) pass(raw []byte) bool {
	return len(raw) == 0 || f.queue.put(item{raw: bytes.Clone(raw)}, f.line.done)
}

// part takes one part of a frame.
func (f *flow) part(p wire.Part, raw []byte) bool {
	begins := p.First && (p.Header.Opcode != wire.Continuation || f.message == nil)
	if begins {
		if p.Header.Opcode == wire.Close || !p.Header.Opcode.Control() {
			if !f.release() { // a message that will not end
				return false
			}
		}
		f.unit = f.begin(p.Header)
	} else if p.First {
		f.unit = f.message
	}
	u := f.unit
	last := p.Last && (p.Header.FIN || p.Header.Opcode.Control())
	if last && u == f.message {
		f.message = nil
	}
	if u.lost {
		return true
	}
	if u.collect && (len(u.raw)+len(raw) > HeldBytes/2 || p.First && p.Header.Length > HeldBytes/2) {
		begins = begins || len(u.raw) > 0
		raw, u.raw, u.collect = append(u.raw, raw...), nil, false
	}
	if u.collect {
		if u.raw = append(u.raw, raw...); last {
			return f.strike(u)
		}
		return true
	}
	it := item{unit: u, raw: raw, first: begins, last: last, frameEnds: p.Last}
	if p.First && !p.Last {
		f.begun = &it
		return true
	}
	if f.begun != nil {
		it.raw, it.first = slices.Concat(f.begun.raw, raw), f.begun.first
		f.begun = nil
	}
	return f.queue.put(it, f.line.done)
}

// begin makes the unit of a frame that continues none, and draws for it.
func (f *flow) begin(h *wire.Header) *unit {
	s, p := f.line.server.settings.Load(), f.line.place.Load()
	u := &unit{place: p, opcode: h.Opcode, size: h.Length + uint64(h.Size()), due: time.Now()}
	direction, counts, acts := towards(f.direction), &p.counts[f.direction], s.acts(f.direction)
	switch {
	case h.Opcode == wire.Close:
		if n := counts.closings.Add(1); acts {
			u.blows = s.draw(p, closings, direction, n)
		}
		u.collect = len(u.blows) > 0
	case h.Opcode.Control(), h.Opcode == wire.Continuation: // the latter continues nothing
	default:
		u.n, f.message = counts.messages.Add(1), u
		if acts {
			u.blows = s.draw(p, messages, direction, u.n)
		}
	}
	if u.lost = time.Now().Before(s.silentUntil); u.lost {
		f.loses(u)
		return u
	}
	if f.slow(s) {
		takes := s.Throttling.takes(u.size)
		f.tell(u, NameThrottling, Event{What: fmt.Sprintf("%d bytes at %d bytes/s: %v", u.size, s.Throttling.BytesPerSecond, takes.Round(time.Millisecond)), DelayMs: takes.Milliseconds()})
	}
	if f.yielded && u.n > 0 { // this is the one that goes first
		f.yielded = false
		u.blows = slices.DeleteFunc(u.blows, func(b blow) bool { return b.yields > 0 })
	}
	for i := range u.blows {
		b := &u.blows[i]
		if b.delay > 0 {
			u.due = u.due.Add(b.delay)
			f.tell(u, b.name, Event{What: fmt.Sprintf("held for %v", b.delay), DelayMs: b.delay.Milliseconds()})
		}
		u.collect = u.collect || b.whole()
	}
	return u
}

// strike does to a unit that is whole what its blows say.
func (f *flow) strike(u *unit) bool {
	it := item{unit: u, raw: u.raw, first: true, last: true, frameEnds: true}
	u.raw = nil
	for i := range u.blows {
		switch b := &u.blows[i]; {
		case b.edit != nil:
			raw, change := corrupted(it.raw, u.opcode == wire.Text, b)
			if change != nil {
				it.raw = raw
				f.tell(u, b.name, Event{What: change.String(), Byte: change})
			}
		case b.again:
			it.again = true
			f.tell(u, b.name, Event{What: "sent twice"})
		case b.yields > 0:
			it.yields, f.yielded = b.yields, true
			f.tell(u, b.name, Event{What: fmt.Sprintf("lets the next message go first, if it comes within %v", b.yields)})
		case u.opcode == wire.Close:
			raw, was := recoded(it.raw, b.code)
			it.raw = raw
			f.tell(u, b.name, Event{What: fmt.Sprintf("close code %d → %d", was, b.code)})
		}
	}
	return f.queue.put(it, f.line.done)
}

// release lets the message that is being collected pass as it is.
func (f *flow) release() bool {
	u := f.message
	f.message = nil
	if u == nil || !u.collect || u.lost {
		return true
	}
	raw := u.raw
	u.raw, u.collect = nil, false
	return len(raw) == 0 || f.queue.put(item{unit: u, raw: raw, first: true, frameEnds: true}, f.line.done)
}

// corrupted changes a byte of a message's frames.
func corrupted(raw []byte, text bool, b *blow) ([]byte, *ByteChange) {
	frames, _ := wire.Frames(raw)
	var payload []byte
	for i := range frames {
		payload = append(payload, frames[i].Payload...)
	}
	change := b.edit(text, payload)
	if change == nil {
		return raw, nil
	}
	at := change.At
	raw = raw[:0]
	for i := range frames {
		if p := frames[i].Payload; at >= 0 && at < len(p) {
			p[at] = change.To
		}
		at -= len(frames[i].Payload)
		raw = frames[i].Append(raw)
	}
	return raw, change
}

// recoded puts another code into a Close frame.
func recoded(raw []byte, code uint16) (_ []byte, was int) {
	frames, _ := wire.Frames(raw)
	was, reason := wire.ClosePayload(frames[0].Payload)
	f := wire.NewFrame(true, wire.Close, append([]byte{byte(code >> 8), byte(code)}, reason...))
	if frames[0].Masked {
		f = f.Mask(frames[0].Key)
	}
	return f.Append(nil), was
}

func (f *flow) tell(u *unit, name Name, e Event) {
	f.line.tell(u.place, name, towards(f.direction), u.n, e)
}

func (f *flow) loses(u *unit) {
	f.tell(u, NamePartition, Event{What: fmt.Sprintf("lost: %v of %d bytes on the wire", u, u.size)})
}

// write writes what is in the queue, when its time has come, until its end.
func (f *flow) write() {
	defer close(f.done)
	leaving := f.line.leaving
	if f.direction == wire.ToServer {
		leaving = nil // its client is told, and tells the server itself
	}
	for {
		s, now, leave := f.line.server.settings.Load(), time.Now(), leaving
		if f.inFrame {
			leave = nil
		}
		select {
		case <-leave:
			_ = f.put(wire.NewClose(1012, "The server is restarting").Append(nil))
			f.mute, leaving = true, nil
			continue
		default:
		}
		if f.aside != nil && (s.Reordering.Rate == 0 || !now.Before(f.asideUntil)) {
			f.goes()
			continue
		}
		more, wake := f.queue.more, f.asideUntil // zero unless one is set aside
		if it, ok := f.queue.head(); ok {
			at := f.when(it, s)
			if !now.Before(at) {
				f.queue.next()
				if it.end != nil {
					f.finish(it.end)
					return
				}
				f.handle(it)
				continue
			}
			if wake.IsZero() || at.Before(wake) {
				wake = at
			}
			more = nil
		}
		if !f.sleep(wake, s, leave, more) {
			return
		}
	}
}

// sleep waits until a time (zero: for none), other settings, or one of the
// signals; false: the line is over.
func (f *flow) sleep(until time.Time, s *settings, leave, more <-chan struct{}) bool {
	var timer <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
	case <-s.changed:
	case <-leave:
	case <-more:
	case <-f.line.done:
		return false
	}
	return true
}

// when says when an item may go.
func (f *flow) when(it item, s *settings) time.Time {
	switch {
	case it.unit == nil || !it.first && !it.unit.dropped:
		return s.silentUntil
	case s.Latency.Rate == 0:
		return time.Time{}
	}
	return it.unit.due
}

// handle writes an item, sets it aside or drops it.
func (f *flow) handle(it item) {
	if it.yields > 0 {
		f.aside, f.asideUntil = &it, time.Now().Add(it.yields)
		return
	}
	if it.first && it.unit.opcode == wire.Close && f.aside != nil {
		f.goes() // nothing goes behind a Close frame
	}
	f.send(it)
	if f.aside != nil && it.last && it.unit.n > 0 {
		f.goes()
	}
}

// goes sends what was set aside.
func (f *flow) goes() {
	it := *f.aside
	f.aside, f.asideUntil = nil, time.Time{}
	f.send(it)
}

// send writes an item, unless a partition swallows it.
func (f *flow) send(it item) {
	defer f.queue.free(len(it.raw))
	if it.first && time.Now().Before(f.line.server.settings.Load().silentUntil) {
		it.unit.dropped = true
		f.loses(it.unit)
	}
	if it.unit != nil && it.unit.dropped {
		return
	}
	err := f.put(it.raw)
	if err == nil && it.again {
		err = f.put(it.raw)
	}
	f.inFrame = !it.frameEnds && it.unit != nil
	if err != nil {
		f.mute = true
		if f.direction == wire.ToClient {
			f.line.end(false) // the client is gone
		}
	}
}

func (f *flow) slow(s *settings) bool { return s.Throttling.BytesPerSecond > 0 && s.acts(f.direction) }

// put writes bytes as fast as it is allowed, and not in a partition.
func (f *flow) put(raw []byte) error {
	for len(raw) > 0 {
		if f.mute || f.line.abandoned.Load() {
			return nil
		}
		s := f.line.server.settings.Load()
		n := len(raw)
		switch {
		case time.Now().Before(s.silentUntil):
			if !f.sleep(s.silentUntil, s, nil, nil) {
				return net.ErrClosed
			}
			continue
		case f.slow(s):
			n = min(n, s.Throttling.step())
			if !f.sleep(time.Now().Add(s.Throttling.takes(uint64(n))), s, nil, nil) {
				return net.ErrClosed
			}
			if s != f.line.server.settings.Load() {
				continue // as the new ones say
			}
		}
		if _, err := f.dst.Write(raw[:n]); err != nil {
			return err
		}
		raw = raw[n:]
	}
	return nil
}

// finish passes the end on.
func (f *flow) finish(end error) {
	if f.aside != nil {
		f.goes()
	}
	switch {
	case f.direction == wire.ToClient && f.line.abandoned.Load():
	case !errors.Is(end, io.EOF):
		f.line.end(true) // the other side has reset it
	case wire.CloseWrite(f.dst) != nil && f.direction == wire.ToClient:
		f.line.end(false) // there is no way to close one direction
	}
}
