package graph

import (
	"context"

	"github.com/sluice-gateway/sluice/internal/live"
)

// Viewer is the client behind a WebSocket. An execution that many share has none.
type Viewer struct {
	ID   string // of the connection; not secret
	Name string // as the client gave it
}

type viewerKey struct{}

// WithViewer returns a context with the client in it.
func WithViewer(ctx context.Context, v Viewer) context.Context {
	return context.WithValue(ctx, viewerKey{}, v)
}

// ViewerOf returns the client; ok is false over plain HTTP and in a shared
// execution.
func ViewerOf(ctx context.Context) (_ Viewer, ok bool) {
	v, ok := ctx.Value(viewerKey{}).(Viewer)
	return v, ok
}

var errNoViewer = live.Errorf("PRESENCE_REQUIRED", "Only who is in the room can do that: send it over the WebSocket that subscribes to the room's messageUpdates.")
