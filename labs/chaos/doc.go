// Package chaos makes WebSocket connections go wrong, on purpose and again in
// the same way.
//
// A line lies between the true connection and whatever serves it: an echo
// ([New]), or a proxy to another server ([NewProxy]). What no fault touches
// passes byte for byte and in order; a message that a fault changes is still a
// right one, with its mask and its length. Each fault is in a file of its own.
//
// Message n of a connection and direction is the nth data message whose first
// frame was read there, from 1; control frames are not counted. Each fault draws
// once for each message, from a generator made of the seed, the connection's
// number, the direction, the fault and n alone. So the same seed and the same
// traffic have the same faults, and the rate of one fault says nothing about
// what another does. A message of more than half of [HeldBytes] passes as its
// bytes come; faults that need it whole leave it alone.
//
// A connection has a goroutine that reads and one that writes for each
// direction, and one that watches; all end with it, and [Server.Shutdown] waits
// for them. Between the two of a direction wait at most [HeldBytes]; beyond that
// nothing is read. New settings reach open connections at once: those of messages
// with the next message, those of connections from the change on. What waits for
// a fault that is switched off goes on its way.
package chaos
