// Package mock is a WebSocket server that obeys a script.
//
// A script (Parse) says, for any number of paths, which rules to follow and what
// the client is expected to send. It is YAML or JSON:
//
//	vars: { word: amber }                  # variables, and what they begin with
//	draw: { lucky: { int: [1, 6] } }       # variables that are drawn from the seed
//	rules:
//	  - on: connect                        # or a message that fits
//	    do: [ { send: "the word is {{word}}" } ]
//	  - on: { json: { type: join } }
//	    if: received == 1                  # an expression
//	    do: [ { wait: 200ms }, { close: 1001 } ]
//	expect:
//	  messages: [ { json: { type: join } } ]
//
// Six ideas make up the language, and docs/practice.md lists their words.
//
//   - A rule has a trigger (on), a condition (if) and actions (do). When a
//     connection opens, all rules for connect are followed, side by side. For
//     each message, ping or pong the first rule that fits is.
//   - A matcher says what a message has to be: text, json, binary, ping, pong, and
//     close where a client is expected to end. Rules and expectations share them.
//   - An action does one thing: send, echo, error, ping, pong, close, cut, raw,
//     wait, repeat, set, stop.
//   - An expression computes with the message (text, json, bytes, hex, u32(0)…),
//     the connection (connection, received, sent…) and the variables. It stands
//     in if, and as {{expression}} in any text. It cannot fail: what makes no
//     sense is null.
//   - Bytes are hexadecimal digits, or a list of parts such as { u32: "{{n}}" }.
//   - Variables belong to a connection: each begins with the values of vars, of
//     the host (Config.Vars), and of draw.
//
// Order: what a rule does up to its first wait or repeat is done before the next
// message is looked at. From there on it runs beside the others, up to 64 on one
// connection that answer up to 256 KiB of messages; more close it with 1013. What is sent to a client is sent in
// one order, through a buffer of bounded size (Knobs.BufferBytes); a client that
// reads more slowly than that is cut, or misses messages (Knobs.Overflow).
//
// Chance comes from the seed, which Status and Verdict show: the same seed and
// the same order of connections draw the same values.
//
// Bounds: a script has at most 64 KiB; a wait takes at most 10 s; a repeat sends
// at most 100 messages a second; a message has at most 1 MiB; the verdict lists
// at most 100 connections.
//
// Endings: SetScript leaves open connections with the script that they began
// with. Shutdown tells clients 1012 and waits. A connection has its handler's
// goroutine, one that writes, and one for each rule that waits or repeats; all
// have ended when ServeHTTP returns.
package mock
