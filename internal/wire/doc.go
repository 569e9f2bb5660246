// Package wire reads and writes WebSocket as it is on the wire, right or wrong.
//
// It is for who wants to see: the practice servers, which refuse with a reason,
// and the graders, which judge a learner's traffic. A [Frame] is a value, and
// what is wrong with it is a list of [Problem], never an error that hides the
// rest. From the bytes up:
//
//	[Decoder]     bytes, in whatever chunks, to parts of frames
//	[Checker]     parts of frames to what RFC 6455 says against them
//	[Assembler]   parts of frames to messages, inflated (RFC 7692)
//	[Transcript]  what a server's connections carried, as it happened
//
// A Decoder, a Checker and an Assembler belong to one direction of one
// connection and to one goroutine. None allocates for bytes that a header only
// promises. A Transcript is for any number of goroutines; it taps connections
// below the library that serves them, so it shows also what that refuses.
package wire
