package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"

	"github.com/99designs/gqlgen/graphql"

	"github.com/sluice-gateway/sluice/graph"
	"github.com/sluice-gateway/sluice/internal/rooms"
)

// meet makes the client of a socket known: under the name in the payload of its
// connection_init, which may be absent, and an id of its connection.
func meet(ctx context.Context, payload json.RawMessage) (context.Context, map[string]any, error) {
	viewer := graph.Viewer{ID: rand.Text(), Name: "anonymous"}
	var members map[string]json.RawMessage
	if payload != nil { // else there is no name
		_ = json.Unmarshal(payload, &members)
	}
	if name, present := members["name"]; present {
		if json.Unmarshal(name, &viewer.Name) != nil || rooms.CheckName("name", viewer.Name) != nil {
			return nil, nil, errors.New("name in the payload of connection_init must be a text of 1 to 40 characters")
		}
	}
	return graph.WithViewer(ctx, viewer), nil, nil
}

// present makes who subscribes to the messages of a room present there. A client
// without a socket is not.
func present(all *rooms.Rooms) func(context.Context, *graphql.OperationContext) (leave func(), err error) {
	return func(ctx context.Context, opCtx *graphql.OperationContext) (func(), error) {
		viewer, ok := graph.ViewerOf(ctx)
		if !ok || !strings.Contains(opCtx.RawQuery, "messageUpdates") {
			return nil, nil
		}
		for _, field := range graphql.CollectFields(opCtx, opCtx.Operation.SelectionSet, []string{"Subscription"}) {
			if field.Name == "messageUpdates" {
				room, _ := field.ArgumentMap(opCtx.Variables)["room"].(string)
				return all.Enter(room, viewer.ID, viewer.Name)
			}
		}
		return nil, nil
	}
}
