// Package hostile attacks the gateway, the real binary with real brokers, and
// checks each time that nothing of it is left.
//
//	SLUICE_HOSTILE=1 go test -timeout 300s ./internal/hostile
//
// HOSTILE_RACE=1 builds the gateway with the race detector. Without
// SLUICE_HOSTILE every test is skipped.
//
// A test is what one kind of attacker does; start is what everybody else is
// promised meanwhile and afterwards. It runs a gateway with a Redis server and
// a Mosquitto of its own and a well-behaved client beside them, and when the
// test ends it asks:
//
//   - Did the client get its events, and did new queries, sockets and messages
//     from both brokers get through, each within a second?
//   - Are sockets, operations, upstreams, goroutines, descriptors and memory
//     back where they were?
//   - Is the log short, and without a panic, a data race or a payload?
//   - Does the gateway end by itself, with status 0, when it is told to?
//
// The tests of the gateway's own end, which leaves nobody to be asked, measure
// what clients see of it. DRAIN_SOCKETS=5000 lets as many take part.
//
// Everything stays on loopback, and is bounded in number and time. The package
// reads /proc, so its tests are for Linux.
package hostile
