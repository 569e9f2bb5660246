//go:build unix

package gqlws

import (
	"errors"
	"net"
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

// write writes what the system takes at once and says how much that is.
func (d *directWriter) write(b []byte) (n int, err error) {
	failed := d.raw.Write(func(fd uintptr) bool {
		for {
			n, err = syscall.Write(int(fd), b)
			if !errors.Is(err, syscall.EINTR) {
				return true // also when the socket is full: do not wait for it
			}
		}
	})
	n = max(n, 0)
	if errors.Is(err, syscall.EAGAIN) {
		err = nil
	}
	return n, errors.Join(failed, err)
}
