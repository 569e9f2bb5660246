//go:build unix

package gqlws

import (
	"net"
	"sync"
	"syscall"
)

// directWriter writes to a socket without waiting for it. A nil one cannot.
type directWriter struct{ raw syscall.RawConn }

// newDirectWriter returns nil for sockets that are not the system's own, such
// as TLS.
func newDirectWriter(socket net.Conn) *directWriter {
	own, ok := socket.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := own.SyscallConn()
	if err != nil {
		return nil
	}
	return &directWriter{raw}
}

// write writes what the system takes at once and says how much that is. One
// goroutine at a time may call it: Control, which spares the locks of
// net.Conn's Write, keeps the socket open meanwhile and nothing else.
func (d *directWriter) write(b []byte) (n int, err error) {
	w := directWrites.Get().(*directWrite)
	w.b = b
	failed := d.raw.Control(w.f)
	n, err = w.n, w.err
	w.b, w.n, w.err = nil, 0, nil
	directWrites.Put(w)
	if failed != nil {
		return 0, failed
	}
	return n, err
}

// directWrite is one write. They are lent, so that none needs memory of its own.
type directWrite struct {
	b   []byte
	n   int
	err error
	f   func(fd uintptr)
}

var directWrites = sync.Pool{New: func() any {
	w := new(directWrite)
	w.f = w.write
	return w
}}

func (w *directWrite) write(fd uintptr) {
	for {
		n, err := syscall.Write(int(fd), w.b)
		switch err {
		case syscall.EINTR:
			continue
		case nil:
			w.n = n
		case syscall.EAGAIN: // the socket is full: do not wait for it
		default:
			w.err = err
		}
		return
	}
}
