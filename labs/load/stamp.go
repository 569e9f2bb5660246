package load

import (
	"bytes"
	"strconv"
	"time"
)

// A stamp is what a message begins with, in 63 bytes of ASCII:
//
//	@00000017@0000000042@01790000000000000000@01790000000000123456@
//
// the number of the connection, that of the message on it, from 0, when the
// message was due and when it was sent, in nanoseconds since 1970.
type stamp struct {
	conn, seq int
	due, sent int64
}

const stampBytes = 1 + 8 + 1 + 10 + 1 + 20 + 1 + 20 + 1

// append writes the stamp and fills up to size bytes.
func (s stamp) append(b []byte, size int) []byte {
	end := len(b) + size
	b = appendNumber(b, int64(s.conn), 8)
	b = appendNumber(b, int64(s.seq), 10)
	b = appendNumber(b, s.due, 20)
	b = append(appendNumber(b, s.sent, 20), '@')
	for len(b) < end {
		b = append(b, 'x')
	}
	return b
}

func appendNumber(b []byte, n int64, digits int) []byte {
	var buf [20]byte
	text := strconv.AppendInt(buf[:0], n, 10)
	b = append(b, '@')
	for range digits - len(text) {
		b = append(b, '0')
	}
	return append(b, text...)
}

// findStamp finds the first stamp within a message.
func findStamp(b []byte) (stamp, bool) {
	for {
		i := bytes.IndexByte(b, '@')
		if i < 0 || len(b)-i < stampBytes {
			return stamp{}, false
		}
		b = b[i:]
		conn, ok1 := number(b, 0, 8)
		seq, ok2 := number(b, 9, 10)
		due, ok3 := number(b, 20, 20)
		sent, ok4 := number(b, 41, 20)
		if ok1 && ok2 && ok3 && ok4 {
			return stamp{int(conn), int(seq), due, sent}, true
		}
		b = b[1:]
	}
}

// number reads digits that stand at b[at+1:], between two marks.
func number(b []byte, at, digits int) (n int64, ok bool) {
	if b[at] != '@' || b[at+1+digits] != '@' {
		return 0, false
	}
	for _, d := range b[at+1 : at+1+digits] {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = 10*n + int64(d-'0')
	}
	return n, n >= 0
}

// findTime finds the first JSON string that is a time (RFC 3339), as events have
// that say when they happened.
func findTime(b []byte) (int64, bool) {
	const shortest = len("2006-01-02T15:04:05Z")
	for {
		i := bytes.IndexByte(b, '"')
		if i < 0 || len(b) < i+1+shortest {
			return 0, false
		}
		b = b[i+1:]
		if b[4] != '-' || b[7] != '-' || b[10] != 'T' {
			continue
		}
		end := bytes.IndexByte(b, '"')
		if end < 0 {
			return 0, false
		}
		if t, err := time.Parse(time.RFC3339, string(b[:end])); err == nil {
			return t.UnixNano(), true
		}
	}
}

// findSentAt finds when a message was sent by the clock of a client that is not
// ours: a member "sentAt" with the milliseconds since 1970.
func findSentAt(b []byte) (int64, bool) {
	_, after, found := bytes.Cut(b, []byte(`"sentAt":`))
	if !found {
		return 0, false
	}
	after = bytes.TrimLeft(after, " ")
	end := 0
	for end < len(after) && end < 32 && (after[end] >= '0' && after[end] <= '9' || after[end] == '.') {
		end++
	}
	ms, err := strconv.ParseFloat(string(after[:end]), 64)
	return int64(ms * 1e6), err == nil && ms < 1e13
}

// clock tells nanoseconds since 1970. It never jumps, and agrees with the clock
// of the system at its start.
type clock struct {
	base time.Time
	wall int64
}

func newClock() clock {
	now := time.Now()
	return clock{now, now.UnixNano()}
}

func (c clock) now() int64 { return c.wall + int64(time.Since(c.base)) }

// time is a moment of the clock.
func (c clock) time(at int64) time.Time { return c.base.Add(time.Duration(at - c.wall)) }
