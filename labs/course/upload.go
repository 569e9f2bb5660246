package course

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/labs"
)

// UploadConfig is what an Upload needs.
type UploadConfig struct {
	labs.DoorConfig
	AckAfter time.Duration // what a chunk takes before it is acknowledged [25 ms]
}

// The bounds of an upload.
const (
	chunkHeader = 8
	chunkData   = 16 << 10 // bytes of a chunk without its header
	maxChunks   = 1024
)

// Upload takes files in chunks. A chunk is a binary message: its number from 1
// and how many there are, each a uint32, big-endian, then 1 to 16,384 bytes of
// the file. They come in order; number 1 begins a new file. The server keeps
// nothing but the sum. It sends, as JSON,
//
//	{"type":"ack","sequence":n,"bytes":b}  when it is done with chunk n, a while after it came
//	{"type":"stored","chunks":n,"bytes":b,"sha256":"…","inFlight":f}  behind the last ack of a file
//	{"type":"error","message":"…"}  for what is no chunk, or not the next; nothing else happens
//
// inFlight is the largest number of the file's bytes that had come and were not
// acknowledged yet. Acknowledgements wait in a queue of 64; when it is full, the
// server does not read.
type Upload struct {
	cfg  UploadConfig
	door *labs.Door
}

// NewUpload makes an Upload.
func NewUpload(cfg UploadConfig) *Upload {
	cfg.AckAfter = cmp.Or(cfg.AckAfter, 25*time.Millisecond)
	return &Upload{cfg: cfg, door: labs.NewDoor(cfg.DoorConfig)}
}

// Shutdown ends its sockets as labs.Door does.
func (u *Upload) Shutdown(ctx context.Context) error { return u.door.Shutdown(ctx) }

// ServeHTTP implements http.Handler.
func (u *Upload) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.door.Serve(w, r, labs.Options{}, u.play)
}

// chunk is what is to be acknowledged.
type chunk struct {
	sequence, total uint32
	size            int
	bytes           int64  // of the file so far
	sum             string // of the file, with its last chunk
	most            int64  // of it in flight at once
}

func (u *Upload) play(s *labs.Socket) error {
	f := &file{}
	queue, acknowledging := make(chan chunk, 64), make(chan error, 1)
	go func() { acknowledging <- u.acknowledge(s, f, queue) }()
	for {
		kind, message, err := s.Read()
		if err == nil {
			err = f.take(s, queue, kind, message)
		}
		if err != nil {
			close(queue)
			return cmp.Or(<-acknowledging, err)
		}
	}
}

// acknowledge sends what waits in the queue, until it is closed.
func (u *Upload) acknowledge(s *labs.Socket, f *file, queue <-chan chunk) error {
	var failed error
	for c := range queue {
		select {
		case <-time.After(u.cfg.AckAfter):
		case <-s.Context().Done():
			continue // empties the queue
		}
		answers := []any{ack{"ack", c.sequence, c.bytes}}
		f.inFlight.Add(-int64(c.size))
		if c.sum != "" {
			answers = append(answers, stored{"stored", c.total, c.bytes, c.sum, c.most})
		}
		for _, answer := range answers {
			if failed = write(s, answer); failed != nil {
				_ = s.Cut() // which ends Read, and the context
				break
			}
		}
	}
	return failed
}

// file is the file that is coming. It belongs to the reading goroutine, but for
// inFlight.
type file struct {
	next, total uint32
	bytes, most int64
	sum         hash.Hash
	inFlight    atomic.Int64
}

// take takes a message, or says what is wrong with it. Its error ends the socket.
func (f *file) take(s *labs.Socket, queue chan<- chunk, kind int, message []byte) error {
	if problem := f.problem(kind, message); problem != "" {
		return write(s, failure{"error", problem})
	}
	c := chunk{sequence: binary.BigEndian.Uint32(message), total: binary.BigEndian.Uint32(message[4:]), size: len(message) - chunkHeader}
	if c.sequence == 1 {
		f.total, f.bytes, f.most, f.sum = c.total, 0, 0, sha256.New()
	}
	f.next = c.sequence + 1
	f.bytes += int64(c.size)
	f.sum.Write(message[chunkHeader:])
	f.most = max(f.most, f.inFlight.Add(int64(c.size)))
	c.bytes, c.most = f.bytes, f.most
	if c.sequence == f.total {
		c.sum = hex.EncodeToString(f.sum.Sum(nil))
		f.next = 0
	}
	select {
	case queue <- c:
	case <-s.Context().Done(): // Read tells why
	}
	return nil
}

// problem says what is wrong with a message; empty: it is the next chunk.
func (f *file) problem(kind int, message []byte) string {
	if kind != websocket.BinaryMessage {
		return "A chunk is a binary message: this one is text."
	}
	if len(message) <= chunkHeader {
		return fmt.Sprintf("A chunk has a header of %d bytes and at least one byte of the file: this message has %d.", chunkHeader, len(message))
	}
	if size := len(message) - chunkHeader; size > chunkData {
		return fmt.Sprintf("A chunk has at most %d bytes of the file: this one has %d.", chunkData, size)
	}
	sequence, total := binary.BigEndian.Uint32(message), binary.BigEndian.Uint32(message[4:])
	switch {
	case total < 1 || total > maxChunks:
		return fmt.Sprintf("A file has 1 to %d chunks: this header says %d. Its numbers are big-endian.", maxChunks, total)
	case sequence == 1:
		return ""
	case f.next == 0:
		return fmt.Sprintf("A file begins with chunk 1: this is %d.", sequence)
	case sequence != f.next:
		return fmt.Sprintf("Chunk %d is the next: this is %d.", f.next, sequence)
	case total != f.total:
		return fmt.Sprintf("Chunk 1 said that there are %d: this one says %d.", f.total, total)
	}
	return ""
}

type ack struct {
	Type     string `json:"type"`
	Sequence uint32 `json:"sequence"`
	Bytes    int64  `json:"bytes"`
}

type stored struct {
	Type     string `json:"type"`
	Chunks   uint32 `json:"chunks"`
	Bytes    int64  `json:"bytes"`
	SHA256   string `json:"sha256"`
	InFlight int64  `json:"inFlight"`
}

type failure struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

func write(s *labs.Socket, message any) error {
	b, _ := json.Marshal(message) // of numbers and texts
	return s.Write(websocket.TextMessage, b)
}
