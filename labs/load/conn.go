package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

// conn is one connection of a run. Its live reads, a second goroutine sends;
// what each of them alone counts is read when both have ended.
type conn struct {
	run    *run
	number int
	wake   chan struct{} // something is due
	over   chan struct{} // closed when nothing is read any more

	ws      *websocket.Conn // set under run.mu
	writing sync.Mutex      // of messages
	closing atomic.Bool     // its end has been asked for

	// The sender's.
	sent         atomic.Int64 // messages; the next one's number
	first        int64        // the number in the schedule of the message 0
	sentMeasured int64
	heldUp       int64
	answered     chan struct{} // closed loop: the last one was

	// The reader's.
	seen                                 bitmap
	highest                              int64 // number that has come
	got, gotMeasured                     int64
	doubled, reordered, foreign, missing int64
	begun                                bool               // a numbered event has come
	gaps                                 map[int64]struct{} // numbers of events that have not
}

// live is the life of a connection, which was due at some time.
func (c *conn) live(ctx context.Context, due int64) {
	r := c.run
	ws, err := c.dial(ctx)
	if err == nil && !c.enter(ws) {
		_ = ws.Close()
		err = errors.New("it was not open when the run ended")
	}
	if err != nil {
		c.failed(ctx, err)
		return
	}
	r.connect.record(time.Duration(r.clock.now() - due))
	r.opened.Add(1)
	r.isOpen.Add(1)
	var sender sync.WaitGroup
	if r.plan.Loop != Listen && r.plan.Rate > 0 {
		r.senders.Add(1)
		sender.Go(func() {
			defer r.senders.Add(-1)
			if r.plan.Loop == Closed {
				c.sendClosed()
			} else {
				c.sendOpen(due)
			}
		})
	}
	err = c.read()
	close(c.over)
	_ = ws.Close()
	sender.Wait()
	r.waiting.Add(c.got - c.sent.Load()) // nobody waits for the rest
	r.isOpen.Add(-1)
	c.ended(err)
}

// enter makes it one of the open connections; false: it is too late.
func (c *conn) enter(ws *websocket.Conn) bool {
	c.run.mu.Lock()
	defer c.run.mu.Unlock()
	if c.run.closing {
		return false
	}
	c.ws = ws
	return true
}

func (c *conn) failed(ctx context.Context, err error) {
	r := c.run
	if errors.Is(ctx.Err(), context.Canceled) {
		return // the run ended early, and the handshake with it
	}
	why := plainly(err)
	r.reasons.add("not opened: " + why)
	if failed := r.failed.Add(1); r.opened.Load() == 0 && failed >= int64(min(hopeless, len(r.conns))) {
		r.giveUp(why)
	}
}

// plainly says what went wrong without what differs from connection to connection.
func plainly(err error) string {
	var operation *net.OpError
	switch {
	case errors.Is(err, syscall.EMFILE):
		return "too many open files: raise the limit with `ulimit -n`"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no local port is left for another connection to this address"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &operation):
		return operation.Err.Error()
	}
	return err.Error()
}

// dial opens the WebSocket, and with GraphQL waits until the server is ready.
func (c *conn) dial(ctx context.Context) (*websocket.Conn, error) {
	r := c.run
	select {
	case r.dials <- struct{}{}:
		defer func() { <-r.dials }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ws, response, err := r.dialer.DialContext(ctx, r.plan.URL, r.plan.Header) //nolint:bodyclose // the library does
	if errors.Is(err, websocket.ErrBadHandshake) {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 200)) // the library has read it
		line, _, _ := strings.Cut(string(body), "\n")
		return nil, fmt.Errorf("the server answered %s: %s", response.Status, line)
	}
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(maxRead)
	if r.plan.Protocol == Raw {
		return ws, nil
	}
	if err := c.greet(ctx, ws); err != nil {
		_ = ws.Close()
		return nil, err
	}
	return ws, nil
}

// maxRead is the largest message that a server may send.
const maxRead = 16 << 20

// greet makes a WebSocket one that GraphQL can be spoken over.
func (c *conn) greet(ctx context.Context, ws *websocket.Conn) error {
	r := c.run
	if ws.Subprotocol() != string(r.plan.Protocol) {
		return fmt.Errorf("the server does not speak %s", r.plan.Protocol)
	}
	forget := context.AfterFunc(ctx, func() { _ = ws.Close() })
	defer forget()
	_ = ws.SetReadDeadline(time.Now().Add(r.plan.Timeout))
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"connection_init"}`)); err != nil {
		return err
	}
	for {
		_, message, err := ws.ReadMessage()
		if err != nil {
			return err
		}
		switch w := r.speech.understand(message); w.heard {
		case failure:
			return errors.New(w.wrong)
		case greeting:
			_ = ws.SetReadDeadline(time.Time{})
			if r.plan.Loop != Listen {
				return nil
			}
			return ws.WriteMessage(websocket.TextMessage, r.speech.message(nil, stamp{conn: c.number}))
		}
	}
}

// blockedWrite is how long a write takes that waits for the server to read.
const blockedWrite = 5 * time.Millisecond

// await waits for a time of the schedule; false: nothing is to be sent any more.
func (c *conn) await(due int64) bool {
	r := c.run
	for due < r.end.Load() {
		if r.clock.now() >= due {
			select {
			case <-r.stopped:
				return false
			case <-c.over:
				return false
			default:
				return true
			}
		}
		select {
		case <-c.wake:
		case <-r.halted: // end has moved
		case <-c.over:
			return false
		}
	}
	return false
}

// sendOpen sends what is due when it is due, or as soon after as it can: first
// what became due while the connection, due at begin, was opened.
func (c *conn) sendOpen(begin int64) {
	r := c.run
	c.first = r.firstDue(c.number, begin)
	waited := r.clock.now() - begin // for the server, since this was last in time
	for seq := int64(0); ; seq++ {
		due := r.due(c.number, c.first+seq)
		behind := r.clock.now() > due
		if !c.await(due) {
			return
		}
		before := r.clock.now()
		if !behind {
			waited = 0
		} else if waited > 0 && due >= r.measure {
			c.heldUp++
		}
		r.late(&r.lag, due, before-waited)
		if c.send(seq, due) != nil {
			return // the reader finds out why
		}
		if took := r.clock.now() - before; took > int64(blockedWrite) {
			waited += took
		}
	}
}

// sendClosed sends at those times of the schedule at which nothing is waited for.
func (c *conn) sendClosed() {
	r := c.run
	timer := time.NewTimer(0)
	defer timer.Stop()
	k := int64(-1)
	for seq := int64(0); ; seq++ {
		k = max(k+1, r.firstDue(c.number, r.clock.now()))
		due := r.due(c.number, k)
		if !c.await(due) {
			return
		}
		select {
		case <-c.answered: // one that nobody waited for any more
		default:
		}
		now := r.clock.now()
		r.late(&r.lag, due, now)
		if c.send(seq, now) != nil {
			return
		}
		timer.Reset(r.plan.Timeout)
		select {
		case <-c.answered:
		case <-timer.C:
		case <-r.stopped:
			return
		case <-c.over:
			return
		}
	}
}

func (c *conn) send(seq, due int64) error {
	r := c.run
	c.sent.Store(seq + 1)
	if due >= r.measure {
		c.sentMeasured++
	}
	r.waiting.Add(1)
	buffer := r.buffers.Get().(*[]byte)
	*buffer = r.speech.message((*buffer)[:0], stamp{c.number, int(seq), due, r.clock.now()})
	err := c.write(r.speech.kind(), *buffer)
	r.sent.Add(1)
	r.bytesSent.Add(int64(len(*buffer)))
	r.buffers.Put(buffer)
	return err
}

func (c *conn) write(kind int, message []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.ws.WriteMessage(kind, message)
}

// read takes messages until the connection ends.
func (c *conn) read() error {
	r := c.run
	for {
		_, reader, err := c.ws.NextReader()
		if err != nil {
			return err
		}
		buffer := r.buffers.Get().(*[]byte)
		*buffer, err = readAll(reader, (*buffer)[:0])
		if err == nil {
			c.take(*buffer, r.clock.now())
		}
		r.buffers.Put(buffer)
		if err != nil {
			return err
		}
	}
}

// readAll is io.ReadAll into a buffer.
func readAll(r io.Reader, b []byte) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

// take counts a message that came at now.
func (c *conn) take(message []byte, now int64) {
	r := c.run
	r.bytesRead.Add(int64(len(message)))
	w := r.speech.understand(message)
	if w.heard == complete && r.plan.Loop == Listen && !c.closing.Load() {
		w.heard, w.wrong = failure, "the server completed the subscription"
	}
	if w.wrong != "" {
		r.errors.Add(1)
		r.reasons.add("error: " + w.wrong)
	}
	switch w.heard {
	case answer:
		c.answer(w, len(message), now)
	case failure:
		if r.plan.Loop != Listen {
			c.answer(w, len(message), now)
		}
	case event:
		c.event(w.data, now)
	case ping:
		_ = c.write(websocket.TextMessage, []byte(`{"type":"pong"}`))
	}
}

// answer counts the answer to a message of ours.
func (c *conn) answer(w word, size int, now int64) {
	r := c.run
	st, ok := findStamp(w.id)
	if !ok || st.conn != c.number || int64(st.seq) >= c.sent.Load() || r.plan.Protocol == Raw && size != r.plan.Size {
		c.foreign++
		return
	}
	seq := int64(st.seq)
	if !c.seen.set(seq) {
		c.doubled++
		return
	}
	if seq < c.highest {
		c.reordered++
	}
	c.highest = max(c.highest, seq)
	c.got++
	r.received.Add(1)
	r.waiting.Add(-1)
	r.second.record(time.Duration(now - st.due))
	if st.due >= r.measure {
		c.gotMeasured++
		r.latency.record(time.Duration(now - st.due))
		r.service.record(time.Duration(now - st.sent))
	}
	if r.plan.Loop == Closed && seq == c.sent.Load()-1 {
		select {
		case c.answered <- struct{}{}:
		default:
		}
	}
}

// event counts a message that the server sent by itself.
func (c *conn) event(data []byte, now int64) {
	r := c.run
	r.received.Add(1)
	st, numbered := findStamp(data)
	at, timed := st.due, numbered
	if !numbered {
		at, timed = findTime(data)
	}
	if timed {
		r.second.record(time.Duration(now - at))
	}
	if now < r.measure || now >= r.end.Load() {
		return
	}
	c.gotMeasured++
	if timed {
		r.latency.record(time.Duration(now - at))
	}
	if numbered {
		c.order(int64(st.seq))
	}
}

// maxGaps is how many missing events a connection remembers; what is missing
// beyond them is lost even if it comes.
const maxGaps = 1024

// order looks at the number of an event: those that are left out are missing
// until they come.
func (c *conn) order(seq int64) {
	if !c.begun {
		c.begun, c.highest, c.gaps = true, seq, make(map[int64]struct{})
		return
	}
	if seq > c.highest {
		c.missing += seq - c.highest - 1
		for n := c.highest + 1; n < seq && len(c.gaps) < maxGaps; n++ {
			c.gaps[n] = struct{}{}
		}
		c.highest = seq
		return
	}
	if _, gap := c.gaps[seq]; !gap {
		c.doubled++
		return
	}
	delete(c.gaps, seq)
	c.missing--
	c.reordered++
}

// close asks for the end of the connection, if it is open, and gives the server
// a while for its part.
func (c *conn) close() {
	c.run.mu.Lock()
	ws := c.ws
	c.run.mu.Unlock()
	if ws == nil {
		return
	}
	select {
	case <-c.over:
		return
	default:
	}
	c.closing.Store(true)
	now := time.Now()
	_ = ws.NetConn().SetWriteDeadline(now) // ends a write that the server does not read
	_ = ws.NetConn().SetReadDeadline(now.Add(closeWait))
	if ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), now.Add(time.Second)) != nil {
		_ = ws.Close()
	}
}

// ended counts the end of a connection.
func (c *conn) ended(err error) {
	r := c.run
	code, why := websocket.CloseAbnormalClosure, "no Close frame came"
	var closed *websocket.CloseError
	if errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure {
		code, why = closed.Code, fmt.Sprintf("closed with %d %s", closed.Code, closed.Text)
	} else if closed == nil {
		why += ": " + plainly(err)
	}
	r.mu.Lock()
	r.closeCodes[code]++
	r.mu.Unlock()
	if code == websocket.CloseAbnormalClosure || !c.closing.Load() {
		r.abnormal.Add(1)
		r.reasons.add("ended: " + strings.TrimSpace(why))
	}
}

// add adds what the connection has counted. A message that was due and never
// answered counts with the time that was waited for it.
func (c *conn) add(m *Messages, end int64, held float64) {
	r := c.run
	m.Answered += c.gotMeasured
	m.Doubled += c.doubled
	m.Reordered += c.reordered
	m.Foreign += c.foreign
	if r.plan.Loop == Listen {
		due, lost := c.gotMeasured+c.missing, c.missing
		if r.plan.Expect > 0 {
			due = int64(held * r.plan.Expect)
			lost = max(lost, due-1-c.gotMeasured) // one may fall just outside
		}
		m.Due += due
		m.Lost += lost
		return
	}
	m.Sent += c.sentMeasured
	m.Lost += c.sentMeasured - c.gotMeasured
	if r.plan.Loop == Closed || r.plan.Rate == 0 {
		m.Due += c.sentMeasured
		for range c.sentMeasured - c.gotMeasured {
			r.latency.record(r.plan.Timeout)
		}
		return
	}
	from, to := r.firstDue(c.number, r.measure), r.firstDue(c.number, max(end, r.measure))
	m.Due += to - from
	m.Unsent += max(0, to-from-c.sentMeasured)
	for k := max(from, c.first); k < to && c.ws != nil; k++ {
		seq := k - c.first
		if sent := seq < c.sent.Load(); !c.seen.has(seq) && (sent || c.closing.Load()) {
			r.latency.record(time.Duration(r.over - r.due(c.number, k)))
		}
	}
}

// bitmap is a set of small numbers.
type bitmap []uint64

// set adds a number; false: it was there.
func (b *bitmap) set(n int64) bool {
	word, bit := int(n/64), uint64(1)<<(n%64)
	for len(*b) <= word {
		*b = append(*b, 0)
	}
	was := (*b)[word]&bit != 0
	(*b)[word] |= bit
	return !was
}

func (b bitmap) has(n int64) bool {
	word := int(n / 64)
	return word < len(b) && b[word]&(1<<(n%64)) != 0
}
