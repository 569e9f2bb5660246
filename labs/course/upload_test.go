package course_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/labs/course"
)

func startUpload(t *testing.T) *lab {
	t.Helper()
	l := &lab{}
	cfg := course.UploadConfig{AckAfter: 10 * time.Millisecond}
	cfg.Refused = l.refuse
	return l.start(t, course.NewUpload(cfg))
}

func chunk(sequence, total int, data string) []byte {
	header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(sequence)), uint32(total))
	return append(header, data...)
}

func sendBytes(t *testing.T, conn *websocket.Conn, message []byte) {
	t.Helper()
	if err := conn.WriteMessage(websocket.BinaryMessage, message); err != nil {
		t.Fatal(err)
	}
}

// uploadFile sends a file of 16 chunks, with at most window of them unacknowledged.
func uploadFile(t *testing.T, conn *websocket.Conn, window int) (inFlight int) {
	t.Helper()
	const chunks = 16
	sum := sha256.New()
	sent := 0
	for acknowledged := range chunks {
		for ; sent < min(chunks, acknowledged+window); sent++ {
			data := strings.Repeat(string(rune('a'+sent)), 16<<10)
			sum.Write([]byte(data))
			sendBytes(t, conn, chunk(sent+1, chunks, data))
		}
		want := fmt.Sprintf(`{"type":"ack","sequence":%d,"bytes":%d}`, acknowledged+1, (acknowledged+1)*16<<10)
		if got := next(t, conn); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	var stored struct {
		Type, SHA256 string
		Chunks       int
		Bytes        int
		InFlight     int
	}
	told := next(t, conn)
	if err := json.Unmarshal([]byte(told), &stored); err != nil || stored.Type != "stored" || stored.SHA256 != fmt.Sprintf("%x", sum.Sum(nil)) || stored.Chunks != chunks || stored.Bytes != chunks*16<<10 {
		t.Errorf("got %s", told)
	}
	return stored.InFlight
}

func TestUpload(t *testing.T) {
	l := startUpload(t)
	conn := l.dial(t, "/upload")
	if got := uploadFile(t, conn, 4); got > 64<<10 || got < 16<<10 {
		t.Errorf("who waits for acknowledgements has %d bytes in flight", got)
	}
	if got := uploadFile(t, conn, 16); got <= 64<<10 {
		t.Errorf("who does not wait has %d bytes in flight", got)
	}
	if got := uploadFile(t, conn, 1); got != 16<<10 {
		t.Errorf("one at a time has %d bytes in flight", got)
	}
}

func TestUploadSaysWhatIsWrongWithAChunk(t *testing.T) {
	l := startUpload(t)
	for name, c := range map[string]struct {
		before [][]byte
		wrong  []byte
		want   string
	}{
		"no data":               {nil, chunk(1, 1, ""), "A chunk has a header of 8 bytes and at least one byte of the file: this message has 8."},
		"too much":              {nil, chunk(1, 1, strings.Repeat("a", 16<<10+1)), "A chunk has at most 16384 bytes of the file: this one has 16385."},
		"little-endian":         {nil, []byte{1, 0, 0, 0, 2, 0, 0, 0, 'a'}, "A file has 1 to 1024 chunks: this header says 33554432. Its numbers are big-endian."},
		"from 0":                {nil, chunk(0, 2, "a"), "A file begins with chunk 1: this is 0."},
		"in the middle":         {nil, chunk(2, 2, "a"), "A file begins with chunk 1: this is 2."},
		"one left out":          {[][]byte{chunk(1, 3, "a")}, chunk(3, 3, "a"), "Chunk 2 is the next: this is 3."},
		"one twice":             {[][]byte{chunk(1, 3, "a"), chunk(2, 3, "a")}, chunk(2, 3, "a"), "Chunk 3 is the next: this is 2."},
		"another total":         {[][]byte{chunk(1, 3, "a")}, chunk(2, 4, "a"), "Chunk 1 said that there are 3: this one says 4."},
		"behind the end":        {[][]byte{chunk(1, 1, "a")}, chunk(2, 1, "a"), "A file begins with chunk 1: this is 2."},
		"of too many, the last": {nil, chunk(1025, 1025, "a"), "A file has 1 to 1024 chunks: this header says 1025. Its numbers are big-endian."},
	} {
		t.Run(name, func(t *testing.T) {
			conn := l.dial(t, "/upload")
			for _, message := range c.before {
				sendBytes(t, conn, message)
			}
			sendBytes(t, conn, c.wrong)
			for {
				var told struct{ Type, Message string }
				if err := json.Unmarshal([]byte(next(t, conn)), &told); err != nil {
					t.Fatal(err)
				}
				if told.Type == "error" {
					if told.Message != c.want {
						t.Errorf("got %s", told.Message)
					}
					break
				}
			}
			sendBytes(t, conn, chunk(1, 1, "abc")) // and it lives on
			for want := "stored"; ; {
				if got := next(t, conn); strings.Contains(got, want) && strings.Contains(got, "ba7816bf") {
					break
				}
			}
		})
	}
	conn := l.dial(t, "/upload")
	send(t, conn, "hello")
	if got := next(t, conn); got != `{"type":"error","message":"A chunk is a binary message: this one is text."}` {
		t.Errorf("text: %s", got)
	}
	if got := l.refusals(); got != "" {
		t.Errorf("counted %s", got)
	}
}

func TestUploadOfWhoLeavesEnds(t *testing.T) {
	l := startUpload(t)
	conn := l.dial(t, "/upload")
	for n := range 200 { // more than the queue has room for
		sendBytes(t, conn, chunk(n+1, 200, "a"))
	}
	conn.Close()
}
