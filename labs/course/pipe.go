package course

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// network is a network within the program: who dials gets a connection to who
// accepts. It comes from the client whose request is passed on. Nothing waits in it.
type network struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newNetwork() *network {
	return &network{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// dial opens a connection for the request in ctx, see passOn.
func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	r, ok := ctx.Value(requestKey{}).(*http.Request)
	if !ok {
		return nil, errors.New("course: dialled for no request")
	}
	near, far := duplex(r)
	select {
	case n.conns <- far:
		return near, nil
	case <-n.closed:
	case <-ctx.Done():
	}
	near.Close()
	far.Close()
	return nil, net.ErrClosed
}

// Accept implements net.Listener.
func (n *network) Accept() (net.Conn, error) {
	select {
	case conn := <-n.conns:
		return conn, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (n *network) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

// Addr implements net.Listener.
func (n *network) Addr() net.Addr { return addr("") }

// addr is an address as http.Request.RemoteAddr has it.
type addr string

func (a addr) Network() string { return "memory" }
func (a addr) String() string  { return string(a) }

type requestKey struct{}

// passOn returns a request whose connection will know where it comes from.
func passOn(r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), requestKey{}, r))
}

// connContext adds to the context of an accepted connection what that of the
// request holds that is passed on, such as who the client is.
func connContext(ctx context.Context, conn net.Conn) context.Context {
	return inherited{ctx, conn.(*half).request.Context()}
}

// inherited is a context that asks another one for what it does not know itself.
type inherited struct {
	context.Context
	from context.Context
}

func (i inherited) Value(key any) any {
	if v := i.Context.Value(key); v != nil {
		return v
	}
	return i.from.Value(key)
}

// duplex makes a connection of two pipes, so that each direction can be closed
// by itself, as with TCP.
func duplex(r *http.Request) (near, far net.Conn) {
	r1, w1 := net.Pipe()
	r2, w2 := net.Pipe()
	return &half{r1, w2, r}, &half{r2, w1, r}
}

// half is one end of a duplex connection.
type half struct {
	r, w    net.Conn
	request *http.Request
}

func (h *half) Read(b []byte) (int, error)  { return h.r.Read(b) }
func (h *half) Write(b []byte) (int, error) { return h.w.Write(b) }
func (h *half) CloseWrite() error           { return h.w.Close() }
func (h *half) LocalAddr() net.Addr         { return addr("") }
func (h *half) RemoteAddr() net.Addr        { return addr(h.request.RemoteAddr) }

func (h *half) Close() error {
	_ = h.w.Close()
	return h.r.Close()
}

func (h *half) SetReadDeadline(t time.Time) error  { return h.r.SetReadDeadline(t) }
func (h *half) SetWriteDeadline(t time.Time) error { return h.w.SetWriteDeadline(t) }

func (h *half) SetDeadline(t time.Time) error {
	_ = h.SetReadDeadline(t)
	return h.SetWriteDeadline(t)
}
