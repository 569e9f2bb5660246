// Package load puts load on WebSocket servers and measures it: Server is one to
// aim at, which holds connections and reports what comes; Run is a generator,
// which plays a Plan and says what became of every message.
//
// # What is measured
//
// A plan has four parts: the ramp opens connections evenly in time, the warm-up
// lets things settle, the hold is what is measured, the drain waits for answers.
// A message belongs to the part in which it was due.
//
// In an open loop messages are due at fixed times, whatever the server does, and
// a latency counts from the time that a message was due. If the server stalls
// for a second, the messages that could not leave in that second count, too, as
// they would for users who do not know of each other. A closed loop waits for
// each answer before it sends again, so that a stall delays one message per
// connection and hides all that was not sent: that is coordinated omission.
// Messages that are never answered count with the time that was waited for them.
//
// Every message begins with a stamp: connection, number, when it was due, when
// it was sent. So each is answered, lost, doubled or reordered, and the server
// can tell its age.
//
// # How it is done
//
// A connection has two goroutines, one that reads and one that sends. What is
// due is arithmetic, so nothing waits in a queue: who was held up looks up what
// is due by now. One more goroutine keeps the time, since timers are a
// millisecond late. What a run holds is bounded by its Plan: a bit per message,
// a sample per second, histograms of fixed size. Every goroutine ends before Run
// returns.
package load
