package chaos

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// end is one end of a connection within the program. It behaves as TCP does:
// each direction can be closed by itself, and all of it can be reset. Nothing is
// buffered.
type end struct {
	in, out net.Conn    // what the other end writes, what this one does
	stands  net.Conn    // for which connection it stands
	hard    atomic.Bool // Close resets
	gone    chan struct{}
	close   sync.Once
	reset   *reset // of both ends
}

// reset is closed when one of the ends is.
type reset struct {
	done chan struct{}
	once sync.Once
}

// newPipe makes both ends of a connection that stands for conn.
func newPipe(conn net.Conn) (one, other *end) {
	oneOut, otherIn := net.Pipe()
	otherOut, oneIn := net.Pipe()
	both := &reset{done: make(chan struct{})}
	one = &end{in: oneIn, out: oneOut, stands: conn, gone: make(chan struct{}), reset: both}
	other = &end{in: otherIn, out: otherOut, stands: conn, gone: make(chan struct{}), reset: both}
	return one, other
}

// Read implements net.Conn.
func (e *end) Read(b []byte) (int, error) {
	n, err := e.in.Read(b)
	return n, e.explain(err)
}

// Write implements net.Conn.
func (e *end) Write(b []byte) (int, error) {
	n, err := e.out.Write(b)
	return n, e.explain(err)
}

// explain says of an end whether it was a reset.
func (e *end) explain(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	select {
	case <-e.gone:
		return net.ErrClosed
	case <-e.reset.done:
		return syscall.ECONNRESET
	default:
		return err
	}
}

// CloseWrite lets the other end read an io.EOF, and leaves the other direction open.
func (e *end) CloseWrite() error { return e.out.Close() }

// SetLinger makes Close reset the connection, with 0, as that of net.TCPConn.
func (e *end) SetLinger(seconds int) error {
	e.hard.Store(seconds == 0)
	return nil
}

// Close implements net.Conn.
func (e *end) Close() error {
	e.close.Do(func() {
		if e.hard.Load() {
			e.reset.once.Do(func() { close(e.reset.done) })
		}
		close(e.gone)
		_ = e.out.Close()
		_ = e.in.Close()
	})
	return nil
}

// LocalAddr implements net.Conn.
func (e *end) LocalAddr() net.Addr { return e.stands.LocalAddr() }

// RemoteAddr implements net.Conn.
func (e *end) RemoteAddr() net.Addr { return e.stands.RemoteAddr() }

// SetDeadline implements net.Conn.
func (e *end) SetDeadline(t time.Time) error {
	return errors.Join(e.in.SetReadDeadline(t), e.out.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (e *end) SetReadDeadline(t time.Time) error { return e.in.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (e *end) SetWriteDeadline(t time.Time) error { return e.out.SetWriteDeadline(t) }

// resetConn closes a connection so that its other side sees a reset.
func resetConn(conn net.Conn) {
	if conn, ok := conn.(interface{ SetLinger(int) error }); ok {
		_ = conn.SetLinger(0)
	}
	_ = conn.Close()
}
