package wire

import (
	"testing"
	"unicode/utf8"
)

// UTF8 agrees with the library on every text, and never calls a beginning good
// that nothing could complete.
func TestUTF8FailsAtTheFirstBadByte(t *testing.T) {
	for _, c := range []struct {
		text     string
		good     int
		complete bool
	}{
		{"", 0, true},
		{"κόσμε", 10, true},
		{"日本\xe8\xaa", 8, false},
		{"a\x80", 1, false},
		{"a\xc0\xaf", 1, false},
		{"a\xc1\xbf", 1, false},
		{"a\xe0\x80\x80", 2, false},
		{"a\xe0\x9f", 2, false},
		{"a\xe0\xa0\x80", 4, true},
		{"a\xed\x9f\xbf", 4, true},
		{"a\xed\xa0\x80", 2, false},
		{"a\xef\xbf\xbf", 4, true},
		{"a\xf0\x8f\xbf\xbf", 2, false},
		{"a\xf0\x90\x80\x80", 5, true},
		{"a\xf4\x8f\xbf\xbf", 5, true},
		{"a\xf4\x90\x80\x80", 2, false},
		{"a\xf5", 1, false},
		{"a\xff", 1, false},
		{"a\xe3\x81b", 3, false},
	} {
		for cut := range len(c.text) + 1 {
			var u UTF8
			good := u.Write([]byte(c.text[:cut]))
			if good == cut {
				good += u.Write([]byte(c.text[cut:]))
			}
			if good != c.good || u.Complete() != c.complete {
				t.Errorf("%q cut at %d: good %d, complete %v, want %d, %v", c.text, cut, good, u.Complete(), c.good, c.complete)
			}
		}
	}
}

func FuzzUTF8(f *testing.F) {
	f.Add([]byte("κόσμε\xf4\x90"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var u UTF8
		good := 0
		for _, one := range b {
			good += u.Write([]byte{one})
		}
		if u.Complete() != utf8.Valid(b) {
			t.Fatalf("% x is complete: %v", b, u.Complete())
		}
		if good == len(b) {
			return
		}
		// What stands before the bad byte can be completed, with it nothing can.
		if !completes(b[:good]) || completes(b[:good+1]) {
			t.Fatalf("% x: the first bad byte is not number %d", b, good)
		}
	})
}

// completes reports whether some bytes make text of b.
func completes(b []byte) bool {
	for _, tail := range []string{"", "\x80", "\xa0", "\x80\x80", "\xa0\x80", "\x90\x80", "\x80\x80\x80", "\x90\x80\x80"} {
		if utf8.Valid(append(append([]byte(nil), b...), tail...)) {
			return true
		}
	}
	return false
}
