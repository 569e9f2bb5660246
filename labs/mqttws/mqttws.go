// Package mqttws is MQTT over WebSocket (MQTT 3.1.1 and 5, section 6): it carries
// the bytes of a socket to a broker and back. The broker is whatever Connect
// leads to, such as one of this process, or another by way of a Relay, which
// holds clients to rules.
//
// The subprotocol is mqtt, and messages are binary; where one ends says nothing
// about packets. The bytes go through a pipe that holds none: a broker that is
// slow stops the reading of the socket, and a socket that is slow the reading of
// the broker, for as long as the write deadline of the Door. Keep alive is MQTT's
// business; pings of the WebSocket go on beside it.
//
// A connection has three goroutines: its handler's, which reads the socket, one
// that writes to it, and Connect's; a Relay adds one. They end with the socket, and
// the handler waits for them.
package mqttws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/wire"
	"github.com/sluice-gateway/sluice/labs"
)

// Config is what a Server needs.
type Config struct {
	Door labs.DoorConfig
	// Connect serves a connection as a broker does and closes it. It returns when
	// the client has left, which it may do at any byte.
	Connect func(ctx context.Context, conn net.Conn) error
}

// Server is MQTT over WebSocket on every path that it is mounted at.
type Server struct {
	door    *labs.Door
	connect func(context.Context, net.Conn) error
	refused func(code string)
}

// New makes a Server.
func New(cfg Config) *Server {
	if cfg.Door.Refused == nil {
		cfg.Door.Refused = func(string) {}
	}
	return &Server{door: labs.NewDoor(cfg.Door), connect: cfg.Connect, refused: cfg.Door.Refused}
}

// Shutdown ends the sockets as labs.Door.Shutdown does.
func (s *Server) Shutdown(ctx context.Context) error { return s.door.Shutdown(ctx) }

const (
	subprotocol = "mqtt"
	oldProtocol = "mqttv3.1" // of MQTT 3.1, from before the standard
)

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if offers := websocket.Subprotocols(r); slices.Contains(offers, oldProtocol) && !slices.Contains(offers, subprotocol) {
		s.refused("SUBPROTOCOL_UNKNOWN")
		http.Error(w, "mqttv3.1 is the subprotocol of MQTT 3.1, from before the standard, and not spoken here: offer mqtt in Sec-WebSocket-Protocol (MQTT 3.1.1, section 6). (SUBPROTOCOL_UNKNOWN)", http.StatusBadRequest)
		return
	}
	s.door.Serve(w, r, labs.Options{Subprotocols: []string{subprotocol}, RequireSubprotocol: true}, s.play)
}

// play connects the socket with the broker until either ends.
func (s *Server) play(socket *labs.Socket) error {
	ours, theirs := net.Pipe()
	ending := make(chan error, 1)
	var work sync.WaitGroup
	var lost error // of the socket, in writing
	work.Go(func() {
		defer theirs.Close()
		ending <- s.connect(socket.Context(), theirs)
	})
	work.Go(func() {
		switch err := toClient(socket, ours); {
		case errors.Is(err, io.EOF):
			s.tell(socket, <-ending)
		case !errors.Is(err, io.ErrClosedPipe):
			lost = err
			_ = socket.Cut() // wakes the reader
		}
	})
	err := toBroker(ours, socket)
	ours.Close()
	work.Wait()
	return cmp.Or(lost, err)
}

// tell closes the socket of a client whom the broker has left.
func (s *Server) tell(socket *labs.Socket, ending error) {
	code, reason := websocket.CloseNormalClosure, "The broker has closed the connection"
	if broken := violation(""); errors.As(ending, &broken) {
		code, reason = websocket.ClosePolicyViolation, broken.Error()
		s.refused(fmt.Sprint(code))
	}
	_ = socket.Close(code, reason)
}

// errText is the end of a client that sends text.
var errText = &labs.Foul{Problem: wire.Problem{Section: "MQTT 3.1.1, section 6", Text: "MQTT packets travel in binary messages, and this one is text", Code: websocket.CloseUnsupportedData}}

// toBroker carries messages until the socket ends. Once the broker has left they
// go nowhere.
func toBroker(broker net.Conn, socket *labs.Socket) error {
	for {
		kind, message, err := socket.Read()
		if err != nil {
			return err
		}
		if kind != websocket.BinaryMessage {
			return errText
		}
		if len(message) > 0 {
			_, _ = broker.Write(message)
		}
	}
}

// chunkBytes is the longest message to a client.
const chunkBytes = 16 << 10

// toClient carries bytes until the broker leaves (io.EOF), the pipe is closed
// (io.ErrClosedPipe), or the socket is lost.
func toClient(socket *labs.Socket, broker net.Conn) error {
	chunk := make([]byte, chunkBytes)
	for {
		n, err := broker.Read(chunk)
		if n > 0 {
			if err := socket.Write(websocket.BinaryMessage, chunk[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}
