package server

import (
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// withDeadlines bounds how long a client may take to send the body of a request
// and to read the answer. Handlers that read or write for longer move the
// deadlines themselves. Without them net/http waits for ever: for a body that no
// handler asked for, which it reads before it answers, and for a client that
// does not read.
func withDeadlines(bodyWait, writeWait time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		socket := http.NewResponseController(w)
		wait := writeWait
		if r.ContentLength != 0 { // -1: chunked
			_ = socket.SetReadDeadline(time.Now().Add(bodyWait))
			wait += bodyWait // net/http reads the rest of the body before it writes
		}
		_ = socket.SetWriteDeadline(time.Now().Add(wait))
		next.ServeHTTP(w, r)
		if !websocket.IsWebSocketUpgrade(r) { // else it may be a WebSocket by now, with deadlines of its own
			_ = socket.SetWriteDeadline(time.Now().Add(wait)) // net/http has still to write
		}
	})
}

// steadily bounds each write of an answer instead of the whole: a large file may
// take its time as long as the client goes on reading.
func steadily(wait time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&steadyWriter{w, http.NewResponseController(w), wait}, r)
	})
}

type steadyWriter struct {
	http.ResponseWriter
	socket *http.ResponseController
	wait   time.Duration
}

func (s *steadyWriter) Write(b []byte) (int, error) {
	_ = s.socket.SetWriteDeadline(time.Now().Add(s.wait))
	return s.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (s *steadyWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// closeChunked ends the connection after a chunked request: net/http would
// read what follows a body with two lengths as a second request.
func closeChunked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
