package wire

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// What a tap costs an echoed message, there and back, beside the same without.
func BenchmarkEcho(b *testing.B) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			kind, message, err := conn.ReadMessage()
			if err != nil || conn.WriteMessage(kind, message) != nil {
				return
			}
		}
	})
	for name, h := range map[string]http.Handler{"untapped": echo, "tapped": NewTranscript(Bounds{}).Tap(echo)} {
		b.Run(name, func(b *testing.B) {
			server := httptest.NewServer(h)
			defer server.Close()
			conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			message := []byte(strings.Repeat("a", 256))
			b.ReportAllocs()
			for b.Loop() {
				if err := conn.WriteMessage(websocket.TextMessage, message); err != nil {
					b.Fatal(err)
				}
				if _, _, err := conn.ReadMessage(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What the tap itself does with a message of 256 bytes, without a network.
func BenchmarkTap(b *testing.B) {
	t := NewTranscript(Bounds{})
	c := &tapped{transcript: t, id: t.newConn(), opened: true, answered: true}
	c.toServer = flow{direction: ToServer, assembler: NewAssembler(ToServer, nil, 128<<10)}
	c.toClient = flow{direction: ToClient, assembler: NewAssembler(ToClient, nil, 128<<10)}
	conn := c.tap(discard{})
	frame := NewFrame(true, Text, []byte(strings.Repeat("a", 256))).Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(frame); err != nil {
			b.Fatal(err)
		}
	}
}

// discard is a connection that takes everything.
type discard struct{ net.Conn }

func (discard) Write(b []byte) (int, error) { return io.Discard.Write(b) }
