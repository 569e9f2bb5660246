//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A payload begins with its place in the sequence of its channel and the time of
// its publication, between marks that no envelope contains:
//
//	@00000017@1790000000000000000@xxxx…
//
// Sequence number 0 is a warm-up that is not counted.
const (
	mark       = '@'
	stampBytes = 1 + 8 + 1 + 19 + 1
)

func appendPayload(b []byte, seq, size int) []byte {
	end := len(b) + size
	b = fmt.Appendf(b, "@%08d@%019d@", seq, time.Now().UnixNano())
	for len(b) < end {
		b = append(b, 'x')
	}
	return b
}

// client is one socket of the fleet.
type client struct {
	fd      int
	topic   int    // whose sequence its messages belong to
	rest    []byte // an incomplete frame
	warm    bool   // has seen a message
	until   int    // the last message whose cursor it keeps
	cursor  string // of the newest of them
	next    int    // sequence number that should come
	missing map[int]bool
	stalled bool // does not read any more
	closed  bool
}

// tally is what a fleet has received since the last reset.
type tally struct {
	Deliveries int
	Lost       int // never came, although later ones did
	Doubled    int
	Reordered  int // came after a later one
	Bytes      int
	Latency    histogram
}

// fleet is many WebSocket clients on one epoll instance, read by one goroutine.
// It takes frames apart only as far as it needs to count them, so that the
// server is what is measured.
type fleet struct {
	epoll   int
	events  bool // server-sent events instead of WebSocket frames
	clients []*client
	done    chan struct{}
	work    sync.WaitGroup

	mu     sync.Mutex // held by the reader for a batch of sockets
	tally  tally
	acked  int
	warmed int
	opened int    // have been told that their stream is open
	dead   int    // sockets that the server has closed
	why    string // what the server said first when it ended a socket or an operation
}

// fleetConfig says what a fleet subscribes to.
type fleetConfig struct {
	Addr     string
	N        int
	Document func(i int) string // of client i
	Topic    func(i int) int
	Events   bool             // server-sent events
	Narrow   func(i int) bool // with a small receive buffer
	Parallel int              // handshakes at a time [16]

	// Resume asks for the events behind a cursor, if it is not empty, of which the
	// first is the message next; for the notice that the stream is open; and for
	// the cursors of messages, which the client keeps up to the message until.
	Resume func(i int) (cursor string, next, until int)
}

// newFleet connects and subscribes.
func newFleet(cfg fleetConfig) (*fleet, error) {
	epoll, err := syscall.EpollCreate1(0)
	if err != nil {
		return nil, err
	}
	f := &fleet{epoll: epoll, events: cfg.Events, clients: make([]*client, cfg.N), done: make(chan struct{})}
	f.work.Go(f.read)
	var (
		dials  sync.WaitGroup
		mu     sync.Mutex
		failed error
		next   int
	)
	if cfg.Parallel == 0 {
		cfg.Parallel = 16
	}
	for range cfg.Parallel {
		dials.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				stop := failed != nil || i >= cfg.N
				mu.Unlock()
				if stop {
					return
				}
				if err := f.connect(cfg, i); err != nil {
					mu.Lock()
					failed = fmt.Errorf("socket %d of %d: %w", i, cfg.N, err)
					mu.Unlock()
				}
			}
		})
	}
	dials.Wait()
	if failed != nil {
		f.close()
		return nil, failed
	}
	return f, nil
}

func (f *fleet) connect(cfg fleetConfig, i int) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%w: raise the limit of open files (ulimit -n)", err)
	}
	c := &client{fd: fd, next: 1}
	if cfg.Topic != nil {
		c.topic = cfg.Topic(i)
	}
	extensions := ""
	if cfg.Resume != nil {
		var cursor string
		cursor, c.next, c.until = cfg.Resume(i)
		extensions = fmt.Sprintf(`,"extensions":{"sluice":{"ready":true,"cursor":true,"resume":%q}}`, cursor)
	}
	f.mu.Lock()
	f.clients[i] = c
	f.mu.Unlock()
	if cfg.Narrow != nil && cfg.Narrow(i) {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1460)
	}
	to, err := sockaddr(cfg.Addr)
	if err != nil {
		return err
	}
	if err := syscall.Connect(fd, to); err != nil {
		return err
	}
	document := cfg.Document(i)
	var rest []byte
	if cfg.Events {
		body := fmt.Sprintf(`{"query":%q}`, document)
		request := fmt.Sprintf("POST /graphql HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", cfg.Addr, len(body), body)
		rest, err = handshake(fd, request, "HTTP/1.1 200 ")
	} else {
		request := "GET /graphql HTTP/1.1\r\nHost: " + cfg.Addr + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
		rest, err = handshake(fd, request, "HTTP/1.1 101 ")
		if err == nil {
			hello := appendFrame(nil, 1, `{"type":"connection_init"}`)
			hello = appendFrame(hello, 1, fmt.Sprintf(`{"id":"1","type":"subscribe","payload":{"query":%q%s}}`, document, extensions))
			err = writeAll(fd, hello)
		}
	}
	if err != nil {
		return err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	f.mu.Lock()
	f.consume(c, rest)
	f.mu.Unlock()
	return syscall.EpollCtl(f.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(i)})
}

// handshake sends a request and reads the head of its answer; rest is what came
// behind it.
func handshake(fd int, request, want string) (rest []byte, err error) {
	if err := writeAll(fd, []byte(request)); err != nil {
		return nil, err
	}
	var head []byte
	buf := make([]byte, 2048)
	for {
		n, err := syscall.Read(fd, buf)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return nil, fmt.Errorf("no answer to the handshake: %w", err)
		}
		head = append(head, buf[:n]...)
		if i := bytes.Index(head, []byte("\r\n\r\n")); i >= 0 {
			if !bytes.HasPrefix(head, []byte(want)) {
				return nil, fmt.Errorf("the server answered %q", head)
			}
			return head[i+4:], nil
		}
	}
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := syscall.Write(fd, b)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// appendFrame appends a client's frame, masked with zeros.
func appendFrame(b []byte, opcode byte, text string) []byte {
	b = append(b, 0x80|opcode)
	if len(text) <= 125 {
		b = append(b, 0x80|byte(len(text)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(len(text)))
	}
	return append(append(b, 0, 0, 0, 0), text...)
}

func (f *fleet) read() {
	events := make([]syscall.EpollEvent, 512)
	buf := make([]byte, 256<<10)
	for {
		select {
		case <-f.done:
			return
		default:
		}
		n, err := syscall.EpollWait(f.epoll, events, 20)
		if err != nil && err != syscall.EINTR {
			return
		}
		if n <= 0 {
			continue
		}
		f.mu.Lock()
		for _, e := range events[:n] {
			f.receive(f.clients[e.Fd], buf)
		}
		f.mu.Unlock()
	}
}

func (f *fleet) receive(c *client, buf []byte) {
	if c.stalled || c.closed {
		return
	}
	n, err := syscall.Read(c.fd, buf)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return
	}
	if err != nil || n == 0 {
		c.closed = true
		f.dead++
		f.note("the server closed the connection")
		_ = syscall.EpollCtl(f.epoll, syscall.EPOLL_CTL_DEL, c.fd, nil)
		return
	}
	f.tally.Bytes += n
	f.consume(c, buf[:n])
}

func (f *fleet) note(why string) {
	if f.why == "" {
		f.why = why
	}
}

// consume takes bytes apart into frames.
func (f *fleet) consume(c *client, b []byte) {
	if len(c.rest) > 0 {
		c.rest = append(c.rest, b...)
		b = c.rest
	}
	if f.events {
		b = f.consumeEvents(c, b)
	} else {
		b = f.consumeFrames(c, b)
	}
	if len(b) > 0 || len(c.rest) > 0 {
		c.rest = append(c.rest[:0], b...)
	}
}

func (f *fleet) consumeFrames(c *client, b []byte) (rest []byte) {
	for len(b) >= 2 {
		head, length := 2, int(b[1]&127)
		switch {
		case length == 126 && len(b) >= 4:
			head, length = 4, int(binary.BigEndian.Uint16(b[2:]))
		case length == 127 && len(b) >= 10:
			head, length = 10, int(binary.BigEndian.Uint64(b[2:]))
		case length >= 126:
			return b
		}
		if len(b) < head+length {
			return b
		}
		f.frame(c, b[0]&15, b[head:head+length])
		b = b[head+length:]
	}
	return b
}

func (f *fleet) frame(c *client, opcode byte, text []byte) {
	switch opcode {
	case 8:
		if len(text) >= 2 {
			f.note(fmt.Sprintf("closed with %d %s", binary.BigEndian.Uint16(text), text[2:]))
		}
	case 9:
		_ = writeAll(c.fd, appendFrame(nil, 10, string(text)))
	case 1:
		i := bytes.IndexByte(text, mark)
		switch {
		case i >= 0 && len(text)-i >= stampBytes:
			f.message(c, text[i:])
			c.keepCursor(text)
		case bytes.Contains(text, []byte(`"ready":true`)):
			f.opened++
		case bytes.Contains(text, []byte(`"connection_ack"`)):
			f.acked++
		case bytes.Contains(text, []byte(`"error`)):
			f.note(strings.Clone(string(text)))
		}
	}
}

// consumeEvents looks for payloads alone, in whatever chunks they come.
func (f *fleet) consumeEvents(c *client, b []byte) (rest []byte) {
	for {
		i := bytes.IndexByte(b, mark)
		if i < 0 {
			return nil
		}
		if len(b)-i < stampBytes {
			return b[i:]
		}
		f.message(c, b[i:])
		b = b[i+stampBytes:]
	}
}

// keepCursor keeps the cursor of the message that has just been counted.
func (c *client) keepCursor(text []byte) {
	name := []byte(`"cursor":"`)
	i := bytes.LastIndex(text, name)
	if c.next > c.until+1 || i < 0 {
		return
	}
	value := text[i+len(name):]
	c.cursor = string(value[:bytes.IndexByte(value, '"')])
}

// message counts one delivery. b begins with the stamp.
func (f *fleet) message(c *client, b []byte) {
	seq, sent := number(b[1:9]), number(b[10:29])
	if seq == 0 {
		if !c.warm {
			c.warm = true
			f.warmed++
		}
		return
	}
	f.tally.Deliveries++
	f.tally.Latency.add(time.Now().UnixNano() - int64(sent))
	switch {
	case seq == c.next:
		c.next++
	case seq > c.next:
		if c.missing == nil {
			c.missing = make(map[int]bool)
		}
		for ; c.next < seq; c.next++ {
			c.missing[c.next] = true
			f.tally.Lost++
		}
		c.next++
	case c.missing[seq]:
		delete(c.missing, seq)
		f.tally.Lost--
		f.tally.Reordered++
	default:
		f.tally.Doubled++
	}
}

func number(b []byte) (n int) {
	for _, d := range b {
		n = 10*n + int(d-'0')
	}
	return n
}

// reset forgets what was counted, and what has not come up to last.
func (f *fleet) reset(last func(topic int) int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tally = tally{}
	for _, c := range f.clients {
		c.next, c.missing = last(c.topic)+1, nil
	}
}

// finish counts what should have come up to last but has not, of clients that
// still read, and returns the result.
func (f *fleet) finish(last func(topic int) int) tally {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.tally
	for _, c := range f.clients {
		if !c.stalled {
			t.Lost += max(0, last(c.topic)+1-c.next)
		}
	}
	return t
}

// waiting says how many messages up to last those who still read have not got.
func (f *fleet) waiting(last func(topic int) int) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.clients {
		if !c.stalled && !c.closed {
			n += last(c.topic) + 1 - c.next + len(c.missing)
		}
	}
	return n
}

// closedOfStalled says how many of those who do not read the server has given
// up: their sockets were reset, or have an end behind what they did not read.
func (f *fleet) closedOfStalled() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	buf := make([]byte, 256<<10)
	for _, c := range f.clients {
		if !c.stalled || c.closed {
			continue
		}
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
			got, err := syscall.Read(c.fd, buf)
			if err == syscall.EAGAIN {
				time.Sleep(time.Millisecond)
				continue
			}
			if err != nil || got == 0 {
				n++
				break
			}
		}
	}
	return n
}

// ended reports that the server has closed sockets, and why.
func (f *fleet) ended() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead == 0 {
		return nil
	}
	return fmt.Errorf("%d sockets ended: %s", f.dead, f.why)
}

func (f *fleet) deliveries() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tally.Deliveries
}

func (f *fleet) count(field *int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *field
}

// stall makes clients stop reading.
func (f *fleet) stall(which func(i int) bool) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, c := range f.clients {
		if which(i) && !c.closed {
			c.stalled = true
			n++
			_ = syscall.EpollCtl(f.epoll, syscall.EPOLL_CTL_DEL, c.fd, nil)
		}
	}
	return n
}

func (f *fleet) close() {
	close(f.done)
	f.work.Wait()
	for _, c := range f.clients {
		if c != nil {
			_ = syscall.Close(c.fd)
		}
	}
	_ = syscall.Close(f.epoll)
}

// histogram counts durations in buckets a 32nd of a power of two wide, which
// keeps percentiles within 3 %.
type histogram struct {
	buckets [64 << fine]uint32
	n       int
}

const fine = 5

func (h *histogram) add(ns int64) {
	h.n++
	if ns < 1<<fine {
		h.buckets[0]++
		return
	}
	exponent := bits.Len64(uint64(ns)) - 1
	h.buckets[exponent<<fine+int(ns>>(exponent-fine)&(1<<fine-1))]++
}

func (h histogram) percentile(p float64) time.Duration {
	left := int(float64(h.n) * p / 100)
	for i, n := range h.buckets {
		if left -= int(n); left < 0 {
			exponent := i >> fine
			if exponent < fine {
				return 0
			}
			return time.Duration((1<<fine + int64(i&(1<<fine-1))) << (exponent - fine))
		}
	}
	return 0
}
