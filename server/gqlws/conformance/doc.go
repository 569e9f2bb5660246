// Package conformance holds a transport to the words of its protocols.
//
// Its tests play some 270 conversations over real WebSockets, each tied to a
// sentence of one of two documents, or to a question that both leave open:
//
//   - testdata/graphql-transport-ws.md, the protocol of the npm package graphql-ws
//   - testdata/graphql-ws.md, the older one of subscriptions-transport-ws
//
// A sentence that no case quotes fails the tests, unless sentences_test.go says
// why it asks nothing of a server. So the suite is as complete as the documents.
//
// The cases run against two transports on the same schema: gqlws, which must
// pass them all, and the one that gqlgen brings, whose results are only
// recorded. The record is docs/conformance.md. A test fails when that file is
// not what the run has found; this writes it:
//
//	go test ./server/gqlws/conformance -update
//
// There is no code here but tests: nothing else needs it.
package conformance
