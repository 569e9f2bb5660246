// Package peers holds the servers that the gateway is measured against. Each
// speaks as much graphql-transport-ws as the load generator needs, has a real
// Redis server as its source, and runs as a process of its own.
//
//   - stock: the gateway's own schema, resolvers and bridges behind gqlgen's
//     stock WebSocket transport (and its stock transport for server-sent events)
//   - stock-gorilla: the same on gorilla/websocket instead of the transport's
//     default, coder/websocket
//   - chat: how one writes a broadcast server with gorilla/websocket: a channel
//     and a writing goroutine per client, JSON made for each of them
//   - floor: one write(2) of a ready frame per message and subscriber, the least
//     that a server can do that does not batch
//   - floor-batched: the same, with all frames that wait in one write
package peers
