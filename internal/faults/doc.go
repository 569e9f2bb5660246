// Package faults breaks what the gateway lives on, and the gateway, and counts
// what becomes of numbered messages: the real binary, with a real Redis server
// and a real Mosquitto.
//
//	SLUICE_FAULTS=1 go test -count=1 -v -timeout 300s ./internal/faults
//
// FAULTS_RACE=1 builds the gateway with the race detector. Without SLUICE_FAULTS
// every test is skipped.
//
// A test is one kind of fault. Clients subscribe as careful ones do: they come
// back by themselves, from the last cursor that they have. Senders number what
// they send; where a message has an id they send it again under that id until it
// is acknowledged. In the end an account is taken of every stream, and printed as
// a table when all tests are through:
//
//   - lost: acknowledged messages that a client did not get and was not told of;
//   - told: those that it did not get, but was told of by a gap;
//   - doubled: messages that came more than once;
//   - reordered: messages that came behind a later one of the same sender, and
//     clients that saw another order than the others of a room.
//
// All are counted per client and added up. Streams that are kept may not even
// have gaps.
//
// Everything stays on loopback. The package needs Linux.
package faults
