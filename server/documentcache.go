package server

import (
	"container/list"
	"context"
	"sync"

	"github.com/99designs/gqlgen/graphql"
)

// documentBytes bounds the text of the documents that a cache remembers. What
// gqlgen keeps of a document, parsed, was measured to be 80 times as large as
// its text: a cache that counts documents could be filled with 1,000 large ones.
const documentBytes = 128 << 10

// documentCache remembers the documents used last, up to a number of bytes.
type documentCache[T any] struct {
	limit int

	mu      sync.Mutex
	bytes   int
	recent  *list.List // of *cached[T], the most recently used first
	entries map[string]*list.Element
}

type cached[T any] struct {
	text  string
	value T
}

var _ graphql.Cache[int] = (*documentCache[int])(nil)

func newDocumentCache[T any](limit int) *documentCache[T] {
	return &documentCache[T]{limit: limit, recent: list.New(), entries: make(map[string]*list.Element)}
}

// Get implements graphql.Cache.
func (c *documentCache[T]) Get(_ context.Context, text string) (value T, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry, ok := c.entries[text]
	if !ok {
		return value, false
	}
	c.recent.MoveToFront(entry)
	return entry.Value.(*cached[T]).value, true
}

// Add implements graphql.Cache.
func (c *documentCache[T]) Add(_ context.Context, text string, value T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if entry, ok := c.entries[text]; ok {
		entry.Value.(*cached[T]).value = value
		c.recent.MoveToFront(entry)
		return
	}
	if len(text) > c.limit {
		return
	}
	c.entries[text] = c.recent.PushFront(&cached[T]{text, value})
	for c.bytes += len(text); c.bytes > c.limit; {
		oldest := c.recent.Remove(c.recent.Back()).(*cached[T])
		delete(c.entries, oldest.text)
		c.bytes -= len(oldest.text)
	}
}
