package model

import "github.com/sluice-gateway/sluice/internal/rooms"

// MessageConnection is a page of a room's messages.
type MessageConnection struct {
	Nodes []rooms.Message
	// More says whether there are older ones.
	More bool
	// Before says whether the page was cut off at a cursor.
	Before bool
}

// Edges are the messages with their cursors.
func (c MessageConnection) Edges() []MessageEdge {
	edges := make([]MessageEdge, len(c.Nodes))
	for i, m := range c.Nodes {
		edges[i] = MessageEdge{Cursor: m.Cursor(), Node: m}
	}
	return edges
}

// PageInfo says where the page stands.
func (c MessageConnection) PageInfo() PageInfo {
	info := PageInfo{HasPreviousPage: c.More, HasNextPage: c.Before}
	if n := len(c.Nodes); n > 0 {
		first, last := c.Nodes[0].Cursor(), c.Nodes[n-1].Cursor()
		info.StartCursor, info.EndCursor = &first, &last
	}
	return info
}
