package model

import "github.com/sluice-gateway/sluice/bridges"

// RedisStreamEntry is an entry of a Redis stream as a subscriber is told of it.
type RedisStreamEntry struct {
	*bridges.StreamEntry
	// Name makes the cursor.
	Name func(*bridges.StreamEntry) string
}

// Field is the value of the first field of a name, or nil.
func (e RedisStreamEntry) Field(name string) *string {
	for i := range e.Fields {
		if e.Fields[i].Name == name {
			return &e.Fields[i].Value
		}
	}
	return nil
}

// Cursor names the entry's place in its stream.
func (e RedisStreamEntry) Cursor() string { return e.Name(e.StreamEntry) }
