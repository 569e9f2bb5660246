package server

import (
	"strings"
	"testing"
)

func TestDocumentCacheForgetsWhatWasUsedLeastRecently(t *testing.T) {
	c := newDocumentCache[int](100)
	a, b, d := strings.Repeat("a", 40), strings.Repeat("b", 40), strings.Repeat("d", 40)
	c.Add(t.Context(), a, 1)
	c.Add(t.Context(), b, 2)
	c.Add(t.Context(), a, 3)
	c.Add(t.Context(), d, 4)
	c.Add(t.Context(), strings.Repeat("e", 101), 5)
	for text, want := range map[string]int{a: 3, b: 0, d: 4, strings.Repeat("e", 101): 0} {
		if got, ok := c.Get(t.Context(), text); got != want || ok != (want != 0) {
			t.Errorf("%.1s…: got %d, %t, want %d", text, got, ok, want)
		}
	}
	if c.bytes != 80 || len(c.entries) != 2 || c.recent.Len() != 2 {
		t.Errorf("%d bytes, %d entries, %d in the list", c.bytes, len(c.entries), c.recent.Len())
	}
}
