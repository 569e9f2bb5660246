package learners

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// memoryLearners is how many a Memory holds: a few kilobytes each.
const memoryLearners = 10_000

// Memory is a Store that ends with the process. It holds 10,000 learners; for
// another one it forgets the one of whom nothing was heard for longest. Make it
// with NewMemory.
type Memory struct {
	mu   sync.Mutex
	held *simplelru.LRU[string, []byte]
}

var _ Store = (*Memory)(nil)

// NewMemory makes an empty store.
func NewMemory() *Memory {
	held, err := simplelru.NewLRU[string, []byte](memoryLearners, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Memory{held: held}
}

// Load implements Store.
func (m *Memory) Load(ctx context.Context, id string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	held, _ := m.held.Get(id)
	return slices.Clone(held), ctx.Err()
}

// Swap implements Store.
func (m *Memory) Swap(ctx context.Context, id string, old, new []byte) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if held, ok := m.held.Get(id); ok != (old != nil) || !bytes.Equal(held, old) {
		return false, nil
	}
	m.held.Add(id, slices.Clone(new))
	return true, nil
}

// Close implements Store.
func (m *Memory) Close() error { return nil }
