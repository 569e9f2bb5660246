package conformance

import (
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// closesInvalid sends a message to an acknowledged connection, which must be
// closed for it.
func closesInvalid(message string) func(*client) {
	return func(c *client) {
		c.connect()
		c.send(message)
		c.wantClose(4400, "")
	}
}

// acknowledges opens a socket and wants this connection_init to be accepted.
func acknowledges(init string) func(*client) {
	return func(c *client) {
		c.dial(modern)
		c.send(init)
		c.want(`{"type":"connection_ack"}`)
		c.wantAlive()
	}
}

// answers wants a payload of subscribe to be executed: it selects hello.
func answers(payload string) func(*client) {
	return func(c *client) {
		c.connect()
		c.send(`{"id":"1","type":"subscribe","payload":` + payload + `}`)
		c.wantNext("1", "hello", "world")
		c.wantComplete("1")
	}
}

// fails wants an operation to be answered with an error message.
func fails(operation string) func(*client) {
	return func(c *client) {
		c.connect()
		c.subscribe("1", operation)
		c.wantErrors("1")
	}
}

// carries runs a query under an id and wants the id back as it was.
func carries(id string) func(*client) {
	return func(c *client) {
		c.connect()
		c.subscribe(id, `{ hello }`)
		c.wantNext(id, "hello", "world")
		c.wantComplete(id)
	}
}

// running leaves a subscription of id 1 running, and knows that it runs.
func running(c *client) {
	c.connect()
	c.subscribe("1", c.words())
	c.ask("ready", c.subscribers(1))
}

// runningQuery does the same with a query, which answers once its gate is open.
func runningQuery(c *client) {
	c.connect()
	c.subscribe("1", c.slow())
	c.ask("ready", c.subscribers(1))
}

const (
	initSentence    = `interface ConnectionInitMessage { type: 'connection_init'; payload?: Record<string, unknown> | null; }`
	ackSentence     = `interface ConnectionAckMessage { type: 'connection_ack'; payload?: Record<string, unknown> | null; }`
	pingSentence    = `interface PingMessage { type: 'ping'; payload?: Record<string, unknown> | null; }`
	pongSentence    = `interface PongMessage { type: 'pong'; payload?: Record<string, unknown> | null; }`
	invalidSentence = `Receiving a message of a type or format which is not specified in this document will result in an immediate socket closure with the event 4400: <error-message>.`
)

var modernCases = []testCase{
	// Communication
	{
		"token", `The WebSocket sub-protocol for this specification is: graphql-transport-ws.`, must,
		"the handshake agrees on it", func(c *client) {
			c.dial(modern)
			c.wantToken(modern)
		},
	},
	{
		"text-frames", `Messages are represented through the JSON structure and are stringified before being sent over the network.`, must,
		"every message of a server is JSON in a text frame", func(c *client) {
			c.connect()
			c.subscribe("1", `{ hello }`)
			for range 2 {
				if m, ok := c.read(); ok && m.frame != websocket.TextMessage {
					c.failRaw("a text frame", m.String()+" in another frame", m.raw)
				}
			}
		},
	},
	{
		"structure", `They are bidirectional, meaning both the server and the client must conform to the specified message structure.`, must,
		"the messages of a server have the members that the document lists, and no others", func(c *client) {
			c.connect()
			c.subscribe("1", `{ hello }`)
			c.want(`{"id":"1","type":"next","payload":{"data":{"hello":"world"}}}`)
			c.want(`{"id":"1","type":"complete"}`)
			c.send(`{"type":"ping"}`)
			c.want(`{"type":"pong"}`)
		},
	},
	{
		"no-type", `All messages contain the type field outlining the action this message describes.`, must,
		"a message without one is invalid", closesInvalid(`{"id":"1","payload":{"query":"{ hello }"}}`),
	},
	{
		"id-of-results", `Messages corresponding to operations must contain the id field used for uniquely identifying server responses and connecting them with the client's requests.`, must,
		"next, error and complete carry the id", func(c *client) {
			c.connect()
			c.subscribe("a", `{ hello }`)
			c.wantKind("next", "a")
			c.wantKind("complete", "a")
			c.subscribe("b", `{ nonsense }`)
			c.wantKind("error", "b")
		},
	},
	{
		"subscribe-without-id", `Messages corresponding to operations must contain the id field`, must,
		"without one a subscribe is invalid", closesInvalid(`{"type":"subscribe","payload":{"query":"{ hello }"}}`),
	},
	{
		"complete-without-id", `Messages corresponding to operations must contain the id field`, must,
		"without one a complete is invalid", closesInvalid(`{"type":"complete"}`),
	},
	{
		"interleaved", `Multiple operations identified with separate IDs can be active at any time and their messages can be interleaved on the connection.`, must,
		"two endless subscriptions and queries between their events", func(c *client) {
			c.connect()
			c.subscribe("a", `subscription { ticks }`)
			c.subscribe("b", `subscription { ticks }`)
			for range 3 {
				c.until("next", "a")
				c.until("next", "b")
			}
			c.ask("c", `{ hello }`)
			c.until("next", "a")
			c.until("next", "b")
		},
	},
	{
		"server-closes", `The server can close the socket (kick the client off) at any time.`, may,
		"it does, after a refused connection_init", func(c *client) {
			c.dial(modern)
			c.send(`{"type":"connection_init","payload":{"token":"refuse"}}`)
			c.wantClose(4403, "")
		},
	},
	{
		"close-tells-why", `The close event dispatched by the server is used to describe the fatal error to the client.`, must,
		"the reason of a close is not empty", closesInvalid(`{"type":"nonsense"}`),
	},
	{
		"client-closes", `The client closes the socket and the connection by dispatching a 1000: Normal Closure close event to the server indicating a normal closure.`, must,
		"the server answers with the same code, and the client's operations end", func(c *client) {
			running(c)
			c.another(func(other *client) {
				other.connect()
				c.write(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "Normal Closure"))
				c.untilClose(1000)
				other.subscribe("idle", c.subscribers(0))
				other.wantNext("idle", "subscribers", true)
			})
		},
	},

	// ConnectionInit
	{
		"init-client-only", `Direction: Client -> Server`, must,
		"a connection_ack of a client is invalid", closesInvalid(`{"type":"connection_ack"}`),
	},
	{
		"init-within-the-socket", `Indicates that the client wants to establish a connection within the existing socket.`, must,
		"a server says nothing before a client asks", func(c *client) {
			c.dial(modern)
			c.wantSilence()
		},
	},
	{
		"init-in-time", `The server must receive the connection initialisation message within the allowed waiting time specified in the connectionInitWaitTimeout parameter during the server setup.`, must,
		"who was in time is not closed when the time has passed", func(c *client) {
			c.dialPath(impatient, modern)
			c.send(`{"type":"connection_init"}`)
			c.want(`{"type":"connection_ack"}`)
			c.listen(impatientInitWait + silence/4)
		},
	},
	{
		"init-too-late", `If the client does not request a connection within the allowed timeout, the server will close the socket with the event: 4408: Connection initialisation timeout.`, must,
		"", func(c *client) {
			c.dialPath(impatient, modern)
			m, ok := c.read()
			if ok && m.String() != `close 4408 "Connection initialisation timeout"` {
				c.failRaw(`close 4408 "Connection initialisation timeout"`, m.String(), m.raw)
			}
		},
	},
	{
		"init-twice", `If the server receives more than one ConnectionInit message at any given time, the server will close the socket with the event 4429: Too many initialisation requests.`, must,
		"after the acknowledgement", func(c *client) {
			c.connect()
			c.send(`{"type":"connection_init"}`)
			c.wantClose(4429, "Too many initialisation requests")
		},
	},
	{
		"init-twice-at-once", `more than one ConnectionInit message at any given time`, must,
		"without waiting for the acknowledgement", func(c *client) {
			c.dial(modern)
			c.send(`{"type":"connection_init"}`)
			c.send(`{"type":"connection_init"}`)
			c.want(`{"type":"connection_ack"}`)
			c.wantClose(4429, "Too many initialisation requests")
		},
	},
	{
		"init-refused", `If the server wishes to reject the connection, for example during authentication, it is recommended to close the socket with 4403: Forbidden.`, should,
		"nothing comes before the close", func(c *client) {
			c.dial(modern)
			c.send(`{"type":"connection_init","payload":{"token":"refuse"}}`)
			c.wantClose(4403, "")
		},
	},
	{"init-payload-absent", initSentence, must, "no payload", acknowledges(`{"type":"connection_init"}`)},
	{"init-payload-null", initSentence, must, "a null payload", acknowledges(`{"type":"connection_init","payload":null}`)},
	{"init-payload-empty", initSentence, must, "an empty payload", acknowledges(`{"type":"connection_init","payload":{}}`)},
	{"init-payload-object", initSentence, must, "any members", acknowledges(`{"type":"connection_init","payload":{"a":{"b":[1,null]},"token":7}}`)},
	{"init-payload-text", initSentence, must, "a text as payload is invalid", func(c *client) {
		c.dial(modern)
		c.send(`{"type":"connection_init","payload":"token"}`)
		c.wantClose(4400, "")
	}},
	{"init-payload-list", initSentence, must, "a list as payload is invalid", func(c *client) {
		c.dial(modern)
		c.send(`{"type":"connection_init","payload":[]}`)
		c.wantClose(4400, "")
	}},

	// ConnectionAck
	{
		"ack", `Expected response to the ConnectionInit message from the client acknowledging a successful connection with the server.`, must,
		"", acknowledges(`{"type":"connection_init"}`),
	},
	{
		"ack-server-only", `Direction: Server -> Client`, must,
		"a next of a client is invalid", closesInvalid(`{"id":"1","type":"next","payload":{"data":null}}`),
	},
	{
		"ack-payload", `The server can use the optional payload field to transfer additional details about the connection.`, may,
		"", func(c *client) {
			c.dial(modern)
			c.send(`{"type":"connection_init","payload":{"token":"welcome"}}`)
			c.want(`{"type":"connection_ack","payload":{"welcome":true}}`)
		},
	},
	{"ack-shape", ackSentence, must, "a payload is an object, or null, or absent", func(c *client) {
		c.dial(modern)
		c.send(`{"type":"connection_init"}`)
		m := c.wantKind("connection_ack", "")
		if _, ok := m.payload.(map[string]any); m.payload != nil && !ok {
			c.failRaw("an object", "another payload", m.raw)
		}
	}},
	{
		"ack-ready", `The client is now ready to request subscription operations.`, must,
		"", func(c *client) {
			c.connect()
			c.subscribe("1", `subscription { ticks }`)
			c.wantNext("1", "ticks", number("0"))
		},
	},

	// Ping
	{
		"ping-both-ways", `Direction: bidirectional`, must,
		"a server answers a client's ping", func(c *client) {
			c.connect()
			c.send(`{"type":"ping"}`)
			c.want(`{"type":"pong"}`)
		},
	},
	{
		"ping-answered-at-once", `A Pong must be sent in response from the receiving party as soon as possible.`, must,
		"while a query runs and a subscription waits", func(c *client) {
			c.connect()
			c.subscribe("1", c.words())
			c.subscribe("2", c.slow())
			c.send(`{"type":"ping"}`)
			c.want(`{"type":"pong"}`)
		},
	},
	{
		"ping-before-init", `The Ping message can be sent at any time within the established socket.`, must,
		"before connection_init", func(c *client) {
			c.dial(modern)
			c.send(`{"type":"ping"}`)
			c.want(`{"type":"pong"}`)
			c.send(`{"type":"connection_init"}`)
			c.want(`{"type":"connection_ack"}`)
		},
	},
	{
		"ping-payload", `The optional payload field can be used to transfer additional details about the ping.`, must,
		"any object is accepted", func(c *client) {
			c.connect()
			c.send(`{"type":"ping","payload":{"at":1,"deep":[{}]}}`)
			c.wantKind("pong", "")
		},
	},
	{"ping-payload-null", pingSentence, must, "a null payload is as good as none", func(c *client) {
		c.connect()
		c.send(`{"type":"ping","payload":null}`)
		c.want(`{"type":"pong"}`)
	}},
	{"ping-payload-text", pingSentence, must, "a text as payload is invalid", closesInvalid(`{"type":"ping","payload":"now"}`)},

	// Pong
	{
		"pong-for-each-ping", `The response to the Ping message. Must be sent as soon as the Ping message is received.`, must,
		"three pings at once, three pongs", func(c *client) {
			c.connect()
			for range 3 {
				c.send(`{"type":"ping"}`)
			}
			for range 3 {
				c.want(`{"type":"pong"}`)
			}
		},
	},
	{
		"pong-before-init", `The Pong message can be sent at any time within the established socket.`, must,
		"before connection_init", func(c *client) {
			c.dial(modern)
			c.send(`{"type":"pong"}`)
			c.send(`{"type":"connection_init"}`)
			c.want(`{"type":"connection_ack"}`)
		},
	},
	{
		"pong-unsolicited", `Furthermore, the Pong message may even be sent unsolicited as an unidirectional heartbeat.`, must,
		"is accepted and not answered", func(c *client) {
			c.connect()
			c.send(`{"type":"pong"}`)
			c.wantAlive()
		},
	},
	{
		"pong-payload", `The optional payload field can be used to transfer additional details about the pong.`, must,
		"", func(c *client) {
			c.connect()
			c.send(`{"type":"pong","payload":{"heart":"beat"}}`)
			c.wantAlive()
		},
	},
	{"pong-payload-null", pongSentence, must, "a null payload is as good as none", func(c *client) {
		c.connect()
		c.send(`{"type":"pong","payload":null}`)
		c.wantAlive()
	}},
	{"pong-payload-number", pongSentence, must, "a number as payload is invalid", closesInvalid(`{"type":"pong","payload":1}`)},

	// Subscribe
	{
		"subscribe", `Requests an operation specified in the message payload.`, must,
		"", answers(`{"query":"{ hello }"}`),
	},
	{
		"subscribe-id", `This message provides a unique ID field to connect published messages to the operation requested by this message.`, must,
		"each of two subscriptions gets its own events", func(c *client) {
			c.connect()
			c.subscribe("1", `subscription { count(n: 2) }`)
			c.until("complete", "1")
			c.subscribe("2", `subscription { other: count(n: 1) }`)
			c.wantNext("2", "other", number("0"))
			c.wantComplete("2")
		},
	},
	{
		"id-in-use", `If there is already an active subscriber for an operation matching the provided ID, regardless of the operation type, the server must close the socket immediately with the event 4409: Subscriber for <unique-operation-id> already exists.`, must,
		"a subscription and a subscription", func(c *client) {
			running(c)
			c.subscribe("1", c.words())
			c.wantClose(4409, "Subscriber for 1 already exists")
		},
	},
	{
		"id-in-use-by-a-query", `regardless of the operation type`, must,
		"a query that runs, and a subscription", func(c *client) {
			runningQuery(c)
			c.subscribe("1", c.words())
			c.wantClose(4409, "Subscriber for 1 already exists")
		},
	},
	{
		"id-in-use-for-a-query", `regardless of the operation type`, must,
		"a subscription that runs, and a query", func(c *client) {
			running(c)
			c.subscribe("1", `{ hello }`)
			c.wantClose(4409, "Subscriber for 1 already exists")
		},
	},
	{
		"id-free-after-complete", `The server needs only keep track of IDs for as long as the subscription is active.`, must,
		"after the server's complete", func(c *client) {
			c.connect()
			for range 3 {
				c.subscribe("1", `subscription { count(n: 1) }`)
				c.wantNext("1", "count", number("0"))
				c.wantComplete("1")
			}
		},
	},
	{
		"id-free-after-error", `The server needs only keep track of IDs for as long as the subscription is active.`, must,
		"after the server's error", func(c *client) {
			c.connect()
			c.subscribe("1", `{ nonsense }`)
			c.wantErrors("1")
			c.ask("2", `{ hello }`)
			c.subscribe("1", `{ hello }`)
			c.wantNext("1", "hello", "world")
			c.wantComplete("1")
		},
	},
	{
		"id-free-after-clients-complete", `Once a client completes an operation, it is free to re-use that ID.`, must,
		"at once; what comes for the id is the new operation's alone", func(c *client) {
			running(c)
			c.complete("1")
			c.subscribe("1", `subscription { ticks }`)
			for i := range 30 {
				c.wantNext("1", "ticks", number(itoa(i)))
			}
		},
	},
	{
		"operation-name", `interface SubscribeMessage`, must, "selects one of several operations",
		answers(`{"operationName":"B","query":"query A { fails } query B { hello }"}`),
	},
	{
		"operation-name-null", `operationName?: string | null;`, must, "null is as good as absent",
		answers(`{"operationName":null,"query":"{ hello }"}`),
	},
	{
		"operation-name-number", `operationName?: string | null;`, must, "a number is invalid",
		closesInvalid(`{"id":"1","type":"subscribe","payload":{"operationName":1,"query":"{ hello }"}}`),
	},
	{"variables", `variables?: Record<string, unknown> | null;`, must, "are used", func(c *client) {
		c.connect()
		c.send(`{"id":"1","type":"subscribe","payload":{"query":"query($t: String) { echo(text: $t) }","variables":{"t":"quo\"te 🙂"}}}`)
		c.wantNext("1", "echo", `quo"te 🙂`)
	}},
	{
		"variables-null", `variables?: Record<string, unknown> | null;`, must, "null is as good as absent",
		answers(`{"query":"{ hello }","variables":null}`),
	},
	{
		"variables-list", `variables?: Record<string, unknown> | null;`, must, "a list is invalid",
		closesInvalid(`{"id":"1","type":"subscribe","payload":{"query":"{ hello }","variables":[]}}`),
	},
	{
		"extensions", `extensions?: Record<string, unknown> | null;`, must, "any members are accepted",
		answers(`{"query":"{ hello }","extensions":{"trace":{"id":1}}}`),
	},
	{
		"extensions-null", `extensions?: Record<string, unknown> | null;`, must, "null is as good as absent",
		answers(`{"query":"{ hello }","extensions":null}`),
	},
	{
		"extensions-text", `extensions?: Record<string, unknown> | null;`, must, "a text is invalid",
		closesInvalid(`{"id":"1","type":"subscribe","payload":{"query":"{ hello }","extensions":"x"}}`),
	},
	{
		"query-absent", `query: string;`, must, "without one a subscribe is invalid",
		closesInvalid(`{"id":"1","type":"subscribe","payload":{}}`),
	},
	{
		"query-null", `query: string;`, must, "null is invalid",
		closesInvalid(`{"id":"1","type":"subscribe","payload":{"query":null}}`),
	},
	{
		"query-object", `query: string;`, must, "an object is invalid",
		closesInvalid(`{"id":"1","type":"subscribe","payload":{"query":{"kind":"Document"}}}`),
	},
	{
		"subscribe-without-payload", `payload: { operationName?: string | null;`, must, "is invalid",
		closesInvalid(`{"id":"1","type":"subscribe"}`),
	},
	{
		"subscribe-before-init", `Executing operations is allowed only after the server has acknowledged the connection through the ConnectionAck message, if the connection is not acknowledged, the socket will be closed immediately with the event 4401: Unauthorized.`, must,
		"", func(c *client) {
			c.dial(modern)
			c.subscribe("1", `{ hello }`)
			c.wantClose(4401, "Unauthorized")
		},
	},

	// Next
	{
		"next-in-order", `Operation execution result(s) from the source stream created by the binding Subscribe message.`, must,
		"every event once, in order", func(c *client) {
			c.connect()
			c.subscribe("1", `subscription { count(n: 100) }`)
			for i := range 100 {
				c.wantNext("1", "count", number(itoa(i)))
			}
		},
	},
	{
		"complete-after-results", `After all results have been emitted, the Complete message will follow indicating stream completion.`, must,
		"also when there are none", func(c *client) {
			c.connect()
			c.subscribe("1", `subscription { count(n: 2) }`)
			c.wantNext("1", "count", number("0"))
			c.wantNext("1", "count", number("1"))
			c.wantComplete("1")
			c.subscribe("2", `subscription { count(n: 0) }`)
			c.wantComplete("2")
		},
	},
	{
		"next-payload", `interface NextMessage { id: '<unique-operation-id>'; type: 'next'; payload: ExecutionResult; }`, must,
		"an error of a field comes with the data", func(c *client) {
			c.connect()
			c.subscribe("1", `{ fails }`)
			m := c.wantKind("next", "1")
			result, _ := m.payload.(map[string]any)
			_, data := result["data"].(map[string]any)
			errs, _ := result["errors"].([]any)
			if c.failed == nil && (!data || !isErrorList(errs)) {
				c.failRaw("data and errors", "next with another payload", m.raw)
			}
			c.wantComplete("1")
		},
	},

	// Error
	{
		"error-of-validation", `Operation execution error(s) in response to the Subscribe message. This can occur before execution starts, usually due to validation errors`, must,
		"a field that does not exist", fails(`{ nonsense }`),
	},
	{"error-of-syntax", `This can occur before execution starts`, must, "a query that does not parse", fails(`{ hello`)},
	{
		"error-of-variables", `This can occur before execution starts`, must, "a variable without its value",
		fails(`query($t: String!) { echo(text: $t) }`),
	},
	{"error-of-empty-query", `This can occur before execution starts`, must, "an empty query", fails(``)},
	{"error-of-operation-name", `This can occur before execution starts`, must, "a name that no operation has", func(c *client) {
		c.connect()
		c.send(`{"id":"1","type":"subscribe","payload":{"operationName":"B","query":"query A { hello }"}}`)
		c.wantErrors("1")
	}},
	{
		"error-of-opening", `or during the execution of the request.`, may, "a stream that cannot be opened",
		fails(`subscription { refused }`),
	},
	{"error-of-stream", `or during the execution of the request.`, may, "a stream that breaks after two events", func(c *client) {
		c.connect()
		c.subscribe("1", `subscription { breaks(after: 2) }`)
		c.wantNext("1", "breaks", number("0"))
		c.wantNext("1", "breaks", number("1"))
		c.wantErrors("1")
	}},
	{
		"error-is-last", `This message terminates the operation and no further messages will be sent.`, must,
		"no complete either, while other operations go on", func(c *client) {
			c.connect()
			c.subscribe("1", `subscription { breaks(after: 1) }`)
			c.wantKind("next", "1")
			c.wantErrors("1")
			c.wantAlive()
			c.subscribe("2", `{ hello }`)
			c.wantNext("2", "hello", "world")
		},
	},
	{
		"error-payload", `interface ErrorMessage { id: '<unique-operation-id>'; type: 'error'; payload: GraphQLError[]; }`, must,
		"a list, with the place of the error", func(c *client) {
			c.connect()
			c.subscribe("1", `{ nonsense }`)
			m := c.wantKind("error", "1")
			list, _ := m.payload.([]any)
			if c.failed != nil {
				return
			}
			if !isErrorList(list) || list[0].(map[string]any)["locations"] == nil {
				c.failRaw("a list of errors with locations", "error with another payload", m.raw)
			}
		},
	},

	// Complete
	{
		"complete-of-server", `Server -> Client indicates that the requested operation execution has completed.`, must,
		"for a mutation", func(c *client) {
			c.connect()
			c.subscribe("1", c.open())
			c.wantNext("1", "open", true)
			c.wantComplete("1")
		},
	},
	{
		"no-complete-after-error", `If the server dispatched the Error message relative to the original Subscribe message, no Complete message will be emitted.`, must,
		"for a query that is not valid", func(c *client) {
			c.connect()
			c.subscribe("1", `{ nonsense }`)
			c.wantErrors("1")
			c.wantAlive()
		},
	},
	{
		"complete-of-client", `Client -> Server indicates that the client has stopped listening and wants to complete the subscription.`, must,
		"the resolver's stream is closed", func(c *client) {
			running(c)
			c.complete("1")
			c.ask("idle", c.subscribers(0))
		},
	},
	{
		"nothing-after-clients-complete", `No further events, relevant to the original subscription, should be sent through.`, should,
		"what is published after it does not arrive", func(c *client) {
			running(c)
			c.subscribe("first", c.publish("first"))
			c.until("next", "1")
			c.complete("1")
			c.ask("idle", c.subscribers(0))
			c.forbid("next", "1")
			c.ask("second", c.publish("second"))
			c.listen(silence)
		},
	},
	{
		"no-result-after-clients-complete", `Even if the client sent a Complete message for a single-result-operation before it resolved, the result should not be sent through once it does.`, should,
		"a query that resolves after it", func(c *client) {
			runningQuery(c)
			c.complete("1")
			c.send(`{"type":"ping"}`)
			c.want(`{"type":"pong"}`)
			c.forbid("next", "1")
			c.ask("2", c.open())
			c.ask("idle", c.subscribers(0))
			c.listen(silence)
		},
	},
	{
		"complete-after-complete", `Both client and server must therefore be prepared to receive (and ignore) messages for operations that they consider already completed.`, must,
		"a client's complete after the server's", func(c *client) {
			c.connect()
			c.subscribe("1", `{ hello }`)
			c.wantNext("1", "hello", "world")
			c.wantComplete("1")
			c.complete("1")
			c.wantAlive()
		},
	},
	{
		"complete-after-error", `when the server has itself completed the operation (via a Error or Complete message).`, must,
		"a client's complete after the server's error", func(c *client) {
			c.connect()
			c.subscribe("1", `{ hello`)
			c.wantErrors("1")
			c.send(`{"type":"ping"}`)
			c.until("pong", "")
			c.complete("1")
			c.wantAlive()
		},
	},
	{
		"complete-in-flight", `a client can send a Complete message to the server even when messages are in-flight to the client`, must,
		"a complete that follows its subscribe at once, ten times", func(c *client) {
			c.connect()
			for range 10 {
				c.subscribe("1", `subscription { count(n: 5) }`)
				c.complete("1")
			}
			c.ask("2", `{ hello }`)
		},
	},
	{
		"complete-shape", `interface CompleteMessage { id: '<unique-operation-id>'; type: 'complete'; }`, must,
		"a server's complete has no payload", func(c *client) {
			c.connect()
			c.subscribe("1", `subscription { count(n: 0) }`)
			c.want(`{"id":"1","type":"complete"}`)
		},
	},

	// Invalid message
	{"invalid-type", invalidSentence, must, "an unknown type", closesInvalid(`{"type":"nonsense"}`)},
	{"invalid-type-of-server", invalidSentence, must, "an error, which only a server sends", closesInvalid(`{"id":"1","type":"error","payload":[]}`)},
	{"invalid-type-of-legacy", invalidSentence, must, "a start of the older protocol", closesInvalid(`{"id":"1","type":"start","payload":{"query":"{ hello }"}}`)},
	{"invalid-terminate", invalidSentence, must, "a connection_terminate of the older protocol", closesInvalid(`{"type":"connection_terminate"}`)},
	{"invalid-type-number", invalidSentence, must, "a type that is a number", closesInvalid(`{"type":1}`)},
	{"invalid-type-empty", invalidSentence, must, "an empty type", closesInvalid(`{"type":""}`)},
	{"invalid-empty", invalidSentence, must, "an empty message", closesInvalid(``)},
	{"invalid-json", invalidSentence, must, "text that is not JSON", closesInvalid(`{"type":"ping"`)},
	{"invalid-object", invalidSentence, must, "an empty object", closesInvalid(`{}`)},
	{"invalid-list", invalidSentence, must, "a list of messages", closesInvalid(`[{"type":"ping"}]`)},
	{"invalid-null", invalidSentence, must, "null", closesInvalid(`null`)},
	{"invalid-text", invalidSentence, must, "a JSON text", closesInvalid(`"ping"`)},
	{"invalid-two", invalidSentence, must, "two messages in one frame", closesInvalid(`{"type":"pong"}{"type":"pong"}`)},
	{"invalid-id-number", invalidSentence, must, "an id that is a number", closesInvalid(`{"id":1,"type":"subscribe","payload":{"query":"{ hello }"}}`)},
	{"invalid-id-of-complete", invalidSentence, must, "a complete whose id is a number", closesInvalid(`{"id":1,"type":"complete"}`)},
	{"invalid-before-init", invalidSentence, must, "before connection_init as well", func(c *client) {
		c.dial(modern)
		c.send(`{"type":"nonsense"}`)
		c.wantClose(4400, "")
	}},
	{
		"invalid-tells-why", `The <error-message> can be vaguely descriptive on why the received message is invalid.`, may,
		"the reason names the member that is wrong", func(c *client) {
			c.connect()
			c.send(`{"id":"1","type":"subscribe","payload":{"query":"{ hello }","variables":7}}`)
			m, ok := c.read()
			if ok && (!websocket.IsCloseError(m.err, 4400) || !strings.Contains(m.String(), "variables")) {
				c.failRaw("close 4400 about variables", m.String(), m.raw)
			}
		},
	},
	{
		"completed-id", `Receiving a message (other than Subscribe) with an ID that belongs to an operation that has been previously completed does not constitute an error.`, must,
		"completed twice by the client", func(c *client) {
			running(c)
			c.complete("1")
			c.complete("1")
			c.ask("idle", c.subscribers(0))
		},
	},
	{
		"unknown-id", `It is permissable to simply ignore all unknown IDs without closing the connection.`, may,
		"a complete for an id that never was", func(c *client) {
			c.connect()
			c.complete("never seen")
			c.wantAlive()
		},
	},

	// Examples
	{
		"example-handshake", `Server accepts the handshake and establishes a WebSocket communication channel (which we call "socket")`, must,
		"", func(c *client) {
			c.dial(modern)
			c.wantToken(modern)
		},
	},
	{
		"example-init", `Server validates the connection initialisation request and dispatches a ConnectionAck message to the client on successful connection`, must,
		"", acknowledges(`{"type":"connection_init","payload":{}}`),
	},
	{
		"example-init-timeout", `Server closes the socket by dispatching the event 4408: Connection initialisation timeout`, must,
		"not before the time has passed", func(c *client) {
			dialled := time.Now()
			c.dialPath(impatient, modern)
			c.untilClose(4408)
			if waited := time.Since(dialled); waited < impatientInitWait {
				c.fail("a close after "+impatientInitWait.String(), "an earlier one")
			}
		},
	},
	{
		"example-stream", `Server executes the streaming GraphQL operation`, must,
		"the resolver has been called", running,
	},
	{
		"example-unique", `Server checks if the generated ID is unique across active streaming subscriptions`, must,
		"the other operations of a socket that is closed for it end", func(c *client) {
			running(c)
			c.subscribe("1", c.words())
			c.wantClose(4409, "")
			c.another(func(other *client) {
				other.connect()
				other.subscribe("idle", c.subscribers(0))
				other.wantNext("idle", "subscribers", true)
			})
		},
	},
	{
		"example-not-unique", `If not unique, the server will close the socket with the event 4409: Subscriber for <generated-id> already exists`, must,
		"the reason holds the id", func(c *client) {
			c.connect()
			c.subscribe("a-1 🙂", c.words())
			c.subscribe("a-1 🙂", c.words())
			c.wantClose(4409, "Subscriber for a-1 🙂 already exists")
		},
	},
	{
		"example-invalid", `If not valid, the server sends an Error message and deems the operation complete.`, must,
		"the id can be used again", func(c *client) {
			c.connect()
			c.subscribe("a-1", `subscription { nonsense }`)
			c.wantErrors("a-1")
			c.ask("2", `{ hello }`)
			c.subscribe("a-1", `{ hello }`)
			c.wantNext("a-1", "hello", "world")
		},
	},
	{
		"example-next", `Server dispatches results over time with the Next message`, must,
		"one that waits for its event", func(c *client) {
			running(c)
			c.subscribe("2", c.publish("a word"))
			c.until("next", "1")
		},
	},
	{
		"example-complete", `Server dispatches the Complete message indicating that the source stream has completed`, must,
		"", func(c *client) {
			c.connect()
			c.subscribe("1", `subscription { count(n: 1) }`)
			c.wantNext("1", "count", number("0"))
			c.wantComplete("1")
		},
	},
	{
		"example-client-completes", `Server receives Complete message and completes the source stream`, must,
		"while events come", func(c *client) {
			c.connect()
			c.subscribe("1", `subscription { ticks }`)
			c.wantNext("1", "ticks", number("0"))
			c.complete("1")
			c.ask("2", `{ hello }`)
		},
	},
	{
		"example-crossing", `Server ignores the Complete message from the client`, must,
		"when the two cross, ten times", func(c *client) {
			c.connect()
			for range 10 {
				c.subscribe("1", `{ hello }`)
				c.complete("1")
			}
			c.listen(silence)
		},
	},
	{
		"single-result", `A single result operation is identical to a streaming operation except that at most one Next message is sent.`, must,
		"", func(c *client) {
			c.connect()
			c.subscribe("1", `{ hello }`)
			c.wantNext("1", "hello", "world")
			c.wantComplete("1")
			c.wantAlive()
		},
	},
	{
		"one-namespace", `It shares the same name-space for IDs as streaming operations and can be multiplexed with other operations on the connection.`, must,
		"a query with the id of another that runs", func(c *client) {
			runningQuery(c)
			c.subscribe("1", `{ hello }`)
			c.wantClose(4409, "Subscriber for 1 already exists")
		},
	},
	{
		"multiplexed", `can be multiplexed with other operations on the connection`, must,
		"a quick query overtakes a slow one", func(c *client) {
			runningQuery(c)
			c.subscribe("2", `{ hello }`)
			c.wantNext("2", "hello", "world")
			c.wantComplete("2")
			c.ask("3", c.open())
		},
	},
	{
		"example-single-executes", `Server executes the single result GraphQL operation`, must, "",
		answers(`{"query":"query { hello }"}`),
	},
	{
		"example-single-result", `Server dispatches the result with the Next message`, must, "",
		answers(`{"query":"query Q { hello }"}`),
	},
	{
		"example-single-complete", `Server dispatches the Complete message indicating that the execution has completed`, must, "",
		answers(`{"query":"query Q { hello }","operationName":"Q"}`),
	},
	{
		"example-single-cancel", `The client may dispatch a Complete message at any time, just as shown in the streaming operations examples above, and the same interactions ensue.`, must,
		"while a query runs; its id is free at once", func(c *client) {
			runningQuery(c)
			c.complete("1")
			c.subscribe("1", `{ hello }`)
			c.wantNext("1", "hello", "world")
			c.wantComplete("1")
		},
	},

	// What the document leaves open
	{
		"open-complete-of-complete", "Is a client's complete answered with a complete?", open,
		"no: the client has stopped listening", func(c *client) {
			running(c)
			c.complete("1")
			c.forbid("", "1")
			c.ask("idle", c.subscribers(0))
			c.listen(silence)
		},
	},
	{
		"open-complete-before-init", "A complete before connection_init?", open,
		"is ignored, like that of any unknown id", func(c *client) {
			c.dial(modern)
			c.complete("1")
			c.send(`{"type":"connection_init"}`)
			c.want(`{"type":"connection_ack"}`)
		},
	},
	{
		"open-ping-echo", "Does a pong carry the payload of its ping?", open,
		"yes, to the last digit, so that a client can measure", func(c *client) {
			c.connect()
			c.send(`{"type":"ping","payload":{"at":12345678901234567890.5,"<&>":"\u2028 🙂"}}`)
			c.want(`{"type":"pong","payload":{"at":12345678901234567890.5,"<&>":"\u2028 🙂"}}`)
		},
	},
	{
		"open-pipelined", "A subscribe right behind connection_init, before the acknowledgement has come?", open,
		"messages are taken in order, so it is acknowledged by then", func(c *client) {
			c.dial(modern)
			c.send(`{"type":"connection_init"}`)
			c.subscribe("1", `{ hello }`)
			c.want(`{"type":"connection_ack"}`)
			c.wantNext("1", "hello", "world")
			c.wantComplete("1")
		},
	},
	{
		"open-pipelined-refused", "A subscribe right behind a connection_init that is refused?", open,
		"is not executed: 4403", func(c *client) {
			c.dial(modern)
			c.send(`{"type":"connection_init","payload":{"token":"refuse"}}`)
			c.subscribe("1", `{ hello }`)
			c.wantClose(4403, "")
		},
	},
	{"open-id-long", "An id of 300 bytes?", open, "comes back whole", carries(strings.Repeat("x", 300))},
	{"open-id-quotes", "An id with quotes and control characters?", open, "comes back whole", carries("quo\"te\\ \n\x00 <&>")},
	{"open-id-emoji", "An id beyond ASCII?", open, "comes back whole", carries("🙂 ключ \u2028")},
	{
		"open-id-empty", "An empty id?", open, "is no id: 4400",
		closesInvalid(`{"id":"","type":"subscribe","payload":{"query":"{ hello }"}}`),
	},
	{
		"open-id-null", "A null id?", open, "is no id: 4400",
		closesInvalid(`{"id":null,"type":"subscribe","payload":{"query":"{ hello }"}}`),
	},
	{"open-id-of-ping", "A null id, where none is needed?", open, "is as good as absent", func(c *client) {
		c.connect()
		c.send(`{"id":null,"type":"ping"}`)
		c.want(`{"type":"pong"}`)
	}},
	{
		"open-reason-long-id", "The reason of 4409, for an id of 300 bytes?", open,
		"is cut at a character to the 123 bytes that a Close frame can hold", func(c *client) {
			id := strings.Repeat("🙂", 75)
			c.connect()
			c.subscribe(id, c.words())
			c.subscribe(id, c.words())
			c.wantClose(4409, "Subscriber for "+strings.Repeat("🙂", 27))
		},
	},
	{
		"open-reason-long-refusal", "The reason of 4403, for a refusal of 400 bytes?", open,
		"is cut as well", func(c *client) {
			c.dial(modern)
			c.send(`{"type":"connection_init","payload":{"token":"refuse at length"}}`)
			c.wantClose(4403, "")
		},
	},
	{
		"open-reason-long-type", "The reason of 4400, for a type of 500 bytes?", open,
		"is cut as well", closesInvalid(`{"type":"` + strings.Repeat("🙂", 125) + `"}`),
	},
	{"open-unknown-members", "Members that the document does not name?", open, "are ignored", func(c *client) {
		c.connect()
		c.send(`{"type":"ping","id":"7","extra":{"a":1}}`)
		c.want(`{"type":"pong"}`)
	}},
	{
		"open-case", "Member names in other letters?", open, "are other members, so the type is missing: 4400",
		closesInvalid(`{"Type":"ping"}`),
	},
	{"open-escapes", "Member names and types that are escaped?", open, "are the same names", func(c *client) {
		c.connect()
		c.send(` { "\u0074ype" : "pi\u006eg" } `)
		c.want(`{"type":"pong"}`)
	}},
	{"open-mark", "A byte order mark before the message?", open, "is not JSON: 4400", closesInvalid("\ufeff" + `{"type":"ping"}`)},
	{
		"open-deep", "JSON that nests 20,000 deep?", open, "is invalid: 4400",
		closesInvalid(`{"type":"ping","payload":{"a":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}}`),
	},
	{
		"open-deep-variables", "Variables that nest 20,000 deep?", open, "are invalid: 4400",
		closesInvalid(`{"id":"1","type":"subscribe","payload":{"query":"{ hello }","variables":{"a":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}}}`),
	},
	{"open-large-numbers", "A number with more digits than a float has?", open, "keeps them all", func(c *client) {
		c.connect()
		c.send(`{"type":"ping","payload":{"n":98765432109876543210}}`)
		c.want(`{"type":"pong","payload":{"n":98765432109876543210}}`)
	}},
	{"open-mutation", "Mutations, in words?", open, "are executed like queries", func(c *client) {
		running(c)
		c.subscribe("2", `mutation { publish(topic: "nobody's", word: "a word") }`)
		c.wantNext("2", "publish", true)
		c.wantComplete("2")
	}},
	{"open-burst", "Fifty operations at once?", open, "each gets its one result and its one complete", func(c *client) {
		c.connect()
		for i := range 50 {
			c.subscribe(itoa(i), `{ hello }`)
		}
		c.wantEach(50, "next", "complete")
	}},
	{"open-crossing-error", "A client's complete that crosses the server's error?", open, "is ignored; the error may be held back for it", func(c *client) {
		c.connect()
		c.subscribe("1", `{ nonsense }`)
		c.complete("1")
		c.ask("2", `{ hello }`)
	}},
}
