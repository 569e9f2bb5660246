package gqlws

import "time"

// bucket is a token bucket in one word: a socket keeps two of them for as long
// as it is open. The zero value is full. One goroutine at a time may use it.
type bucket struct {
	full time.Duration // when it is full again
}

// take takes a token out of a bucket that gets perSecond of them, up to burst. It
// reports whether there was one. now counts from any time that stays the same.
func (b *bucket) take(now time.Duration, perSecond, burst int) bool {
	each := float64(time.Second) / float64(perSecond)
	full := max(b.full, now)
	if float64(full-now) > float64(burst-1)*each {
		return false
	}
	b.full = full + time.Duration(each)
	return true
}
