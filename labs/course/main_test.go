package course_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lab is a practice server under test.
type lab struct {
	*httptest.Server
	mu      sync.Mutex
	refused []string
}

type server interface {
	http.Handler
	Shutdown(context.Context) error
}

func (l *lab) refuse(code string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = append(l.refused, code)
}

func (l *lab) refusals() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.refused, " ")
}

// start serves s until the test ends, and holds it to leaving nothing behind.
func (l *lab) start(t *testing.T, s server) *lab {
	t.Helper()
	l.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		l.Close()
	})
	return l
}

// dial opens a WebSocket, which is gone when the test ends.
func (l *lab) dial(t *testing.T, path string, options ...func(*websocket.Dialer)) *websocket.Conn {
	t.Helper()
	conn, response := l.try(t, path, options...)
	if conn == nil {
		t.Fatalf("%s answered %s", path, response.Status)
	}
	return conn
}

// try opens a WebSocket, or returns no connection and the answer.
func (l *lab) try(t *testing.T, path string, options ...func(*websocket.Dialer)) (*websocket.Conn, *http.Response) {
	t.Helper()
	var dialer websocket.Dialer
	for _, option := range options {
		option(&dialer)
	}
	conn, response, err := dialer.Dial("ws"+strings.TrimPrefix(l.URL, "http")+path, nil)
	if response == nil {
		t.Fatal(err)
	}
	if err != nil {
		return nil, response
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	return conn, response
}

// next reads a message.
func next(t *testing.T, conn *websocket.Conn) string {
	t.Helper()
	_, message, err := conn.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	return string(message)
}

func send(t *testing.T, conn *websocket.Conn, message string) {
	t.Helper()
	if err := conn.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
