package conformance

import (
	"strings"

	"github.com/gorilla/websocket"
)

// parsingError sends what is no message to an acknowledged connection. It must
// be told so, and nothing else must come of it.
func parsingError(text string) func(*client) {
	return func(c *client) {
		c.connectLegacy()
		c.send(text)
		c.wantConnectionError()
		c.wantAlive()
	}
}

// legacyAcknowledges opens a socket and wants this connection_init to be accepted.
func legacyAcknowledges(init string) func(*client) {
	return func(c *client) {
		c.dial(legacy)
		c.send(init)
		c.want(`{"type":"connection_ack"}`)
		c.want(`{"type":"ka"}`)
		c.wantAlive()
	}
}

// legacyAnswers wants a payload of start to be executed: it selects hello.
func legacyAnswers(payload string) func(*client) {
	return func(c *client) {
		c.connectLegacy()
		c.send(`{"id":"1","type":"start","payload":` + payload + `}`)
		c.wantData("1", "hello", "world")
		c.wantComplete("1")
	}
}

// legacyFails wants a message with the id 1 to be answered with an error for it.
func legacyFails(message string) func(*client) {
	return func(c *client) {
		c.connectLegacy()
		c.send(message)
		c.wantError("1")
	}
}

// legacyCarries runs a query under an id and wants the id back as it was.
func legacyCarries(id string) func(*client) {
	return func(c *client) {
		c.connectLegacy()
		c.start(id, `{ hello }`)
		c.wantData(id, "hello", "world")
		c.wantComplete(id)
	}
}

// legacyRunning leaves a subscription of id 1 running, and knows that it runs.
func legacyRunning(c *client) {
	c.connectLegacy()
	c.start("1", c.words())
	c.ask("ready", c.subscribers(1))
}

// legacyRunningQuery does the same with a query, which answers once its gate is
// open.
func legacyRunningQuery(c *client) {
	c.connectLegacy()
	c.start("1", c.slow())
	c.ask("ready", c.subscribers(1))
}

// wantFailedData reads a result of graphql-ws that has errors.
func (c *client) wantFailedData(id string) message {
	m := c.wantKind("data", id)
	result, _ := m.payload.(map[string]any)
	errs, _ := result["errors"].([]any)
	if c.failed == nil && !isErrorList(errs) {
		c.failRaw("data with errors", m.String()+" with another payload", m.raw)
	}
	return m
}

var legacyCases = []testCase{
	// Client-server communication
	{
		"members", `Each message has a type field, which defined in the protocol of this package, as well as associated fields inside payload field, depending on the message type, and id field so the client can identify each response from the server.`, must,
		"data and complete", func(c *client) {
			c.connectLegacy()
			c.start("a", `{ hello }`)
			c.want(`{"id":"a","type":"data","payload":{"data":{"hello":"world"}}}`)
			c.want(`{"id":"a","type":"complete"}`)
		},
	},
	{
		"text-frames", `Each WebSocket message is represented in JSON structure, and being stringified before sending it over the network.`, must,
		"every message of a server is JSON in a text frame", func(c *client) {
			c.connectLegacy()
			c.start("1", `{ hello }`)
			for range 2 {
				if m, ok := c.read(); ok && m.frame != websocket.TextMessage {
					c.failRaw("a text frame", m.String()+" in another frame", m.raw)
				}
			}
		},
	},
	{
		"structure", `export interface OperationMessage { payload?: any; id?: string; type: string; }`, must,
		"an acknowledgement has a type and nothing else", func(c *client) {
			c.dial(legacy)
			c.send(`{"type":"connection_init"}`)
			c.want(`{"type":"connection_ack"}`)
		},
	},

	// GQL_CONNECTION_INIT
	{
		"init-first", `Client sends this message after plain websocket connection to start the communication with the server`, must,
		"a server says nothing before it", func(c *client) {
			c.dial(legacy)
			c.wantSilence()
		},
	},
	{
		"init-answer", `The server will response only with GQL_CONNECTION_ACK + GQL_CONNECTION_KEEP_ALIVE (if used) or GQL_CONNECTION_ERROR to this message.`, must,
		"an acknowledgement, a keep-alive, and nothing else", legacyAcknowledges(`{"type":"connection_init"}`),
	},
	{
		"init-payload", `payload: Object : optional parameters that the client specifies in connectionParams`, must,
		"any members", legacyAcknowledges(`{"type":"connection_init","payload":{"a":{"b":[1,null]},"token":7}}`),
	},
	{
		"init-payload-empty", `optional parameters that the client specifies`, must,
		"an empty payload", legacyAcknowledges(`{"type":"connection_init","payload":{}}`),
	},
	{
		"init-payload-null", `optional parameters that the client specifies`, must,
		"a null payload", legacyAcknowledges(`{"type":"connection_init","payload":null}`),
	},

	// GQL_START
	{
		"start", `Client sends this message to execute GraphQL operation`, must, "",
		legacyAnswers(`{"query":"{ hello }"}`),
	},
	{
		"start-id", `id: string : The id of the GraphQL operation to start`, must,
		"two operations at a time keep their events apart", func(c *client) {
			c.connectLegacy()
			c.start("a", `subscription { a: ticks }`)
			c.start("b", `subscription { b: ticks }`)
			for range 3 {
				c.until("data", "a")
				c.until("data", "b")
			}
		},
	},
	{
		"start-payload", `payload: Object:`, must,
		"a start without a payload fails", legacyFails(`{"id":"1","type":"start"}`),
	},
	{
		"start-query", `query: string : GraphQL operation as string or parsed GraphQL document node`, must,
		"a string", legacyAnswers(`{"query":"query Q { hello }"}`),
	},
	{
		"start-variables", `variables?: Object : Object with GraphQL variables`, must,
		"are used", func(c *client) {
			c.connectLegacy()
			c.send(`{"id":"1","type":"start","payload":{"query":"query($t: String) { echo(text: $t) }","variables":{"t":"quo\"te 🙂"}}}`)
			c.wantData("1", "echo", `quo"te 🙂`)
		},
	},
	{
		"start-variables-null", `variables?: Object`, must, "null is as good as absent",
		legacyAnswers(`{"query":"{ hello }","variables":null}`),
	},
	{
		"start-variables-list", `variables?: Object`, must, "a list fails",
		legacyFails(`{"id":"1","type":"start","payload":{"query":"{ hello }","variables":[]}}`),
	},
	{
		"start-operation-name", `operationName?: string : GraphQL operation name`, must, "selects one of several operations",
		legacyAnswers(`{"operationName":"B","query":"query A { fails } query B { hello }"}`),
	},
	{
		"start-operation-name-null", `operationName?: string`, must, "null is as good as absent",
		legacyAnswers(`{"operationName":null,"query":"{ hello }"}`),
	},

	// GQL_STOP
	{
		"stop", `Client sends this message in order to stop a running GraphQL operation execution (for example: unsubscribe)`, must,
		"the resolver's stream is closed", func(c *client) {
			legacyRunning(c)
			c.stop("1")
			c.ask("idle", c.subscribers(0))
		},
	},
	{
		"stop-id", `id: string : operation id`, must,
		"others run on", func(c *client) {
			c.connectLegacy()
			c.start("1", `subscription { a: ticks }`)
			c.start("2", `subscription { b: ticks }`)
			c.stop("1")
			c.until("complete", "1")
			for range 5 {
				c.until("data", "2")
			}
		},
	},

	// GQL_CONNECTION_TERMINATE
	{
		"terminate", `Client sends this message to terminate the connection.`, must,
		"the socket is closed with 1000", func(c *client) {
			c.connectLegacy()
			c.send(`{"type":"connection_terminate"}`)
			c.wantClose(1000, "")
		},
	},

	// GQL_CONNECTION_ERROR
	{
		"init-refused", `The server may responses with this message to the GQL_CONNECTION_INIT from client, indicates the server rejected the connection.`, may,
		"", func(c *client) {
			c.dial(legacy)
			c.send(`{"type":"connection_init","payload":{"token":"refuse"}}`)
			c.wantConnectionError()
		},
	},
	{
		"parsing-error", `It server also respond with this message in case of a parsing errors of the message (which does not disconnect the client, just ignore the message).`, must,
		"text that is not JSON", parsingError(`{"type":"start"`),
	},
	{
		"parsing-error-before-init", `in case of a parsing errors of the message (which does not disconnect the client, just ignore the message)`, must,
		"before connection_init", func(c *client) {
			c.dial(legacy)
			c.send(`{"type":`)
			c.wantConnectionError()
			c.send(`{"type":"connection_init"}`)
			c.want(`{"type":"connection_ack"}`)
		},
	},
	{"parsing-error-empty", `in case of a parsing errors of the message`, must, "an empty message", parsingError(``)},
	{"parsing-error-list", `in case of a parsing errors of the message`, must, "a list", parsingError(`[]`)},
	{"parsing-error-null", `in case of a parsing errors of the message`, must, "null", parsingError(`null`)},
	{
		"parsing-error-running", `does not disconnect the client, just ignore the message`, must,
		"what runs is not disturbed", func(c *client) {
			legacyRunning(c)
			c.send(`nonsense`)
			c.until("connection_error", "")
			c.start("2", c.publish("a word"))
			c.until("data", "1")
		},
	},
	{
		"connection-error-payload", `payload: Object: the server side error`, must,
		"an object with a message", func(c *client) {
			c.dial(legacy)
			c.send(`{"type":"connection_init","payload":{"token":"refuse"}}`)
			c.want(`{"type":"connection_error","payload":{"message":"no entry"}}`)
		},
	},

	// GQL_CONNECTION_ACK
	{
		"ack", `The server may responses with this message to the GQL_CONNECTION_INIT from client, indicates the server accepted the connection.`, may,
		"", legacyAcknowledges(`{"type":"connection_init","payload":{"token":"fine"}}`),
	},
	{
		"ack-payload", `May optionally include a payload.`, may,
		"", func(c *client) {
			c.dial(legacy)
			c.send(`{"type":"connection_init","payload":{"token":"welcome"}}`)
			c.want(`{"type":"connection_ack","payload":{"welcome":true}}`)
			c.want(`{"type":"ka"}`)
		},
	},

	// GQL_DATA
	{
		"data", `The server sends this message to transfter the GraphQL execution result from the server to the client, this message is a response for GQL_START message.`, must,
		"every event once, in order", func(c *client) {
			c.connectLegacy()
			c.start("1", `subscription { count(n: 100) }`)
			for i := range 100 {
				c.wantData("1", "count", number(itoa(i)))
			}
		},
	},
	{
		"data-at-least-one", `For each GraphQL operation send with GQL_START, the server will respond with at least one GQL_DATA message.`, must,
		"for an operation that has a result; see below for others", func(c *client) {
			c.connectLegacy()
			c.start("1", c.open())
			c.wantData("1", "open", true)
		},
	},
	{"data-id", `id: string : ID of the operation that was successfully set up`, must, "", legacyCarries("a-1")},
	{"data-payload", `data: any: Execution result`, must, "under any alias", func(c *client) {
		c.connectLegacy()
		c.start("1", `{ greeting: hello }`)
		c.wantData("1", "greeting", "world")
	}},
	{
		"data-errors", `errors?: Error[] : Array of resolvers errors`, must,
		"beside the data", func(c *client) {
			c.connectLegacy()
			c.start("a", `{ fails }`)
			m := c.wantFailedData("a")
			result, _ := m.payload.(map[string]any)
			if _, data := result["data"].(map[string]any); c.failed == nil && !data {
				c.failRaw("data and errors", "data with another payload", m.raw)
			}
		},
	},

	// GQL_ERROR
	{
		"error", `Server sends this message upon a failing operation, before the GraphQL execution, usually due to GraphQL validation errors (resolver errors are part of GQL_DATA message, and will be added as errors array)`, must,
		"a field that does not exist", func(c *client) {
			c.connectLegacy()
			c.start("1", `{ nonsense }`)
			c.wantKind("error", "1")
		},
	},
	{
		"error-of-syntax", `Server sends this message upon a failing operation, before the GraphQL execution`, must,
		"a query that does not parse", func(c *client) {
			c.connectLegacy()
			c.start("1", `{ hello`)
			c.wantKind("error", "1")
		},
	},
	{
		"error-of-opening", `resolver errors are part of GQL_DATA message, and will be added as errors array`, must,
		"a stream that cannot be opened: the error is in data, and the operation is complete", func(c *client) {
			c.connectLegacy()
			c.start("1", `subscription { refused }`)
			c.wantFailedData("1")
			c.wantComplete("1")
		},
	},
	{
		"error-payload", `payload: Error : payload with the error attributed to the operation failing on the server`, must,
		"one error, not a list", func(c *client) {
			c.connectLegacy()
			c.start("1", `{ nonsense }`)
			c.wantError("1")
		},
	},
	{"error-id", `id: string : operation ID of the operation that failed on the server`, must, "", func(c *client) {
		c.connectLegacy()
		c.start("a-1", `{ nonsense }`)
		c.wantKind("error", "a-1")
	}},

	// GQL_COMPLETE
	{
		"complete", `Server sends this message to indicate that a GraphQL operation is done, and no more data will arrive for the specific operation.`, must,
		"after the last event", func(c *client) {
			c.connectLegacy()
			c.start("1", `subscription { count(n: 2) }`)
			c.wantData("1", "count", number("0"))
			c.wantData("1", "count", number("1"))
			c.wantComplete("1")
			c.wantAlive()
		},
	},
	{"complete-id", `id: string : operation ID of the operation that completed`, must, "a quick query overtakes a slow one", func(c *client) {
		legacyRunningQuery(c)
		c.start("2", `{ hello }`)
		c.wantKind("data", "2")
		c.wantComplete("2")
		c.ask("3", c.open())
	}},

	// GQL_CONNECTION_KEEP_ALIVE
	{
		"keep-alive", `Server message that should be sent right after each GQL_CONNECTION_ACK processed and then periodically to keep the client connection alive.`, should,
		"right after the acknowledgement", legacyAcknowledges(`{"type":"connection_init"}`),
	},
	{
		"keep-alive-periodically", `and then periodically to keep the client connection alive`, should,
		"three more", func(c *client) {
			c.dialPath(lively, legacy)
			c.send(`{"type":"connection_init"}`)
			c.want(`{"type":"connection_ack"}`)
			for range 4 {
				c.want(`{"type":"ka"}`)
			}
		},
	},

	// Messages flow
	{
		"flow-init", `Client sends GQL_CONNECTION_INIT message to the server.`, must, "is accepted",
		legacyAcknowledges(`{"payload":{},"type":"connection_init"}`),
	},
	{
		"flow-on-connect", `Server calls onConnect callback with the init arguments, waits for init to finish and returns it's return value with GQL_CONNECTION_ACK + GQL_CONNECTION_KEEP_ALIVE (if used), or GQL_CONNECTION_ERROR in case of false or thrown exception from onConnect callback.`, must,
		"a refusal comes without an acknowledgement", func(c *client) {
			c.dial(legacy)
			c.send(`{"type":"connection_init","payload":{"token":"refuse"}}`)
			c.forbid("connection_ack", "")
			c.wantConnectionError()
			c.untilClose(4403)
		},
	},
	{
		"flow-start", `App creates a subscription using subscribe or query client's API, and the GQL_START message sent to the server.`, must,
		"a subscription and a query side by side", func(c *client) {
			legacyRunning(c)
			c.start("2", `{ hello }`)
			c.wantData("2", "hello", "world")
			c.wantComplete("2")
		},
	},
	{
		"flow-result", `Server calls onOperation callback, and responds with GQL_DATA in case of zero errors, or GQL_ERROR if there is a problem with the operation (is might also return GQL_ERROR with errors array, in case of resolvers errors).`, must,
		"one of the two", func(c *client) {
			c.connectLegacy()
			c.start("1", `{ hello }`)
			c.wantKind("data", "1")
			c.wantComplete("1")
			c.start("2", `{ nonsense }`)
			c.wantKind("error", "2")
		},
	},
	{
		"flow-complete", `Server sends GQL_COMPLETE if the operation is a query or mutation`, must,
		"a mutation", func(c *client) {
			c.connectLegacy()
			c.start("1", c.open())
			c.wantKind("data", "1")
			c.wantComplete("1")
		},
	},
	{
		"flow-complete-of-stop", `(for subscriptions, this sent when unsubscribing)`, must,
		"a stop is answered with one complete", func(c *client) {
			legacyRunning(c)
			c.stop("1")
			c.wantComplete("1")
			c.forbid("", "1")
			c.ask("idle", c.subscribers(0))
			c.listen(silence)
		},
	},
	{
		"flow-publish", `App triggers PubSub's publication method, and the server publishes the event, passing it through the subscribe executor to create GraphQL execution result`, must,
		"a subscription of before gets what is published", func(c *client) {
			legacyRunning(c)
			c.start("2", c.publish("a word"))
			c.until("data", "1")
		},
	},
	{
		"flow-data", `Client receives GQL_DATA with the data, and handles it.`, must,
		"one per event", func(c *client) {
			c.connectLegacy()
			c.start("1", `subscription { ticks }`)
			for i := range 5 {
				c.wantData("1", "ticks", number(itoa(i)))
			}
		},
	},
	{
		"flow-unsubscribe", `When client unsubscribe, the server triggers onOperationDone and sends GQL_COMPLETE message to the client.`, must,
		"in the midst of events", func(c *client) {
			c.connectLegacy()
			c.start("1", `subscription { ticks }`)
			c.wantData("1", "ticks", number("0"))
			c.stop("1")
			c.until("complete", "1")
		},
	},
	{
		"flow-terminate", `When client done with executing GraphQL, it should close the connection and terminate the session using GQL_CONNECTION_TERMINATE message.`, must,
		"what still runs ends with it", func(c *client) {
			legacyRunning(c)
			c.send(`{"type":"connection_terminate"}`)
			c.untilClose(1000)
			c.another(func(other *client) {
				other.connectLegacy()
				other.start("idle", c.subscribers(0))
				other.wantData("idle", "subscribers", true)
			})
		},
	},

	// What the document leaves open
	{
		"open-document-node", "A parsed document instead of a string, which the document allows?", open,
		"fails for its id: the executor takes text", legacyFails(`{"id":"1","type":"start","payload":{"query":{"kind":"Document","definitions":[]}}}`),
	},
	{
		"open-no-data", "A stream without events has no data, against the letter of \"at least one\"?", open,
		"it is completed without any", func(c *client) {
			c.connectLegacy()
			c.start("1", `subscription { count(n: 0) }`)
			c.wantComplete("1")
		},
	},
	{
		"open-complete-after-error", "Is an error followed by a complete?", open,
		"no: an error ends its operation, as it does in that package's server", func(c *client) {
			c.connectLegacy()
			c.start("1", `{ nonsense }`)
			c.wantKind("error", "1")
			c.wantAlive()
		},
	},
	{"open-id-after-error", "Can an id be used again after an error?", open, "yes", func(c *client) {
		c.connectLegacy()
		c.start("1", `{ nonsense }`)
		c.until("error", "1")
		c.ask("2", `{ hello }`)
		c.start("1", `{ hello }`)
		c.wantData("1", "hello", "world")
		c.wantComplete("1")
	}},
	{"open-id-after-complete", "Can an id be used again after a complete?", open, "yes", func(c *client) {
		c.connectLegacy()
		for range 3 {
			c.start("1", `{ hello }`)
			c.wantData("1", "hello", "world")
			c.wantComplete("1")
		}
	}},
	{
		"open-id-after-stop", "Can an id be used again right after a stop?", open,
		"yes, and the stop's complete comes before what the new operation says", func(c *client) {
			legacyRunning(c)
			c.stop("1")
			c.start("1", c.slow())
			c.wantComplete("1")
			c.ask("ready", c.subscribers(1))
			c.start("2", c.open())
			c.until("data", "1")
			c.until("complete", "1")
		},
	},
	{
		"open-error-of-stream", "How does a stream end that breaks?", open,
		"with data that carries the error, then a complete: that is where clients of this protocol look", func(c *client) {
			c.connectLegacy()
			c.start("1", `subscription { breaks(after: 1) }`)
			c.wantData("1", "breaks", number("0"))
			c.wantFailedData("1")
			c.wantComplete("1")
		},
	},
	{
		"open-duplicate", "A start with an id that is in use?", open,
		"replaces the operation, as in that package's server", func(c *client) {
			legacyRunning(c)
			c.start("1", `{ hello }`)
			c.wantData("1", "hello", "world")
			c.wantComplete("1")
			c.ask("idle", c.subscribers(0))
		},
	},
	{
		"open-start-before-init", "A start before connection_init?", open,
		"fails for its id, and the socket stays", func(c *client) {
			c.dial(legacy)
			c.start("1", `{ hello }`)
			c.wantError("1")
			c.send(`{"type":"connection_init"}`)
			c.want(`{"type":"connection_ack"}`)
		},
	},
	{"open-stop-before-init", "A stop before connection_init?", open, "is ignored", func(c *client) {
		c.dial(legacy)
		c.stop("1")
		c.send(`{"type":"connection_init"}`)
		c.want(`{"type":"connection_ack"}`)
	}},
	{"open-terminate-before-init", "A connection_terminate before connection_init?", open, "closes with 1000", func(c *client) {
		c.dial(legacy)
		c.send(`{"type":"connection_terminate"}`)
		c.wantClose(1000, "")
	}},
	{"open-stop-unknown", "A stop for an id that is not known?", open, "is ignored", func(c *client) {
		c.connectLegacy()
		c.stop("never seen")
		c.wantAlive()
	}},
	{"open-stop-twice", "Two stops for one id?", open, "one complete", func(c *client) {
		legacyRunning(c)
		c.stop("1")
		c.stop("1")
		c.wantComplete("1")
		c.wantAlive()
	}},
	{"open-stop-after-complete", "A stop that comes after the server's complete?", open, "is ignored", func(c *client) {
		c.connectLegacy()
		c.start("1", `{ hello }`)
		c.wantData("1", "hello", "world")
		c.wantComplete("1")
		c.stop("1")
		c.wantAlive()
	}},
	{
		"open-stop-crossing", "A stop that crosses the server's complete?", open,
		"there is one complete all the same", func(c *client) {
			c.connectLegacy()
			for range 4 {
				for i := range 50 {
					c.start(itoa(i), `subscription { count(n: 0) }`)
					c.stop(itoa(i))
				}
				c.wantEach(50, "complete")
			}
			c.wantAlive()
		},
	},
	{
		"open-stop-query", "A stop while a query runs?", open,
		"its complete comes at once and its result never", func(c *client) {
			legacyRunningQuery(c)
			c.stop("1")
			c.start("2", `{ hello }`)
			c.wantComplete("1")
			c.forbid("", "1")
			c.ask("3", c.open())
			c.listen(silence)
		},
	},
	{
		"open-init-twice", "A second connection_init?", open,
		"is acknowledged again, for clients that repeat it", func(c *client) {
			c.connectLegacy()
			c.send(`{"type":"connection_init"}`)
			c.want(`{"type":"connection_ack"}`)
			c.want(`{"type":"ka"}`)
			c.wantAlive()
		},
	},
	{"open-init-timeout", "No connection_init at all?", open, "4408, as in the newer protocol", func(c *client) {
		c.dialPath(impatient, legacy)
		c.untilClose(4408)
	}},
	{
		"open-refused-close", "Does the socket stay after a connection_error for connection_init?", open,
		"no: 4403", func(c *client) {
			c.dial(legacy)
			c.send(`{"type":"connection_init","payload":{"token":"refuse"}}`)
			c.wantConnectionError()
			c.wantClose(4403, "no entry")
		},
	},
	{
		"open-pipelined", "A start right behind connection_init, before the acknowledgement has come?", open,
		"messages are taken in order, so it is acknowledged by then", func(c *client) {
			c.dial(legacy)
			c.send(`{"type":"connection_init"}`)
			c.start("1", `{ hello }`)
			c.want(`{"type":"connection_ack"}`)
			c.want(`{"type":"ka"}`)
			c.wantData("1", "hello", "world")
			c.wantComplete("1")
		},
	},
	{
		"open-unknown-type", "An unknown type?", open,
		"fails for its id, and the socket stays", func(c *client) {
			c.connectLegacy()
			c.send(`{"id":"1","type":"nonsense"}`)
			c.wantError("1")
			c.wantAlive()
		},
	},
	{
		"open-modern-type", "A subscribe of the newer protocol?", open,
		"fails for its id: it is an unknown type here", func(c *client) {
			c.connectLegacy()
			c.subscribe("1", `{ hello }`)
			c.wantError("1")
			c.wantAlive()
		},
	},
	{
		"open-modern-ping", "A ping of the newer protocol?", open,
		"is an unknown type and fails, without an id", func(c *client) {
			c.connectLegacy()
			c.send(`{"type":"ping"}`)
			c.wantError("")
			c.wantAlive()
		},
	},
	{
		"open-no-type", "A message without a type?", open, "is told by a connection_error and ignored",
		parsingError(`{"id":"1"}`),
	},
	{
		"open-id-absent", "A start without an id?", open, "is told by a connection_error and ignored",
		parsingError(`{"type":"start","payload":{"query":"{ hello }"}}`),
	},
	{
		"open-id-null", "A start with a null id?", open, "is told by a connection_error and ignored",
		parsingError(`{"id":null,"type":"start","payload":{"query":"{ hello }"}}`),
	},
	{
		"open-id-number", "A start whose id is a number?", open, "is told by a connection_error and ignored",
		parsingError(`{"id":1,"type":"start","payload":{"query":"{ hello }"}}`),
	},
	{"open-id-long", "An id of 300 bytes?", open, "comes back whole", legacyCarries(strings.Repeat("x", 300))},
	{"open-id-quotes", "An id with quotes and control characters?", open, "comes back whole", legacyCarries("quo\"te\\ \n\x00 <&>")},
	{"open-id-emoji", "An id beyond ASCII?", open, "comes back whole", legacyCarries("🙂 ключ \u2028")},
	{
		"open-deep", "JSON that nests 20,000 deep?", open, "is a parsing error",
		parsingError(`{"type":"start","id":"1","payload":{"a":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}}`),
	},
	{
		"open-query-null", "A start whose query is null?", open, "fails for its id",
		legacyFails(`{"id":"1","type":"start","payload":{"query":null}}`),
	},
	{"open-burst", "Fifty operations at once?", open, "each gets its one result and its one complete", func(c *client) {
		c.connectLegacy()
		for i := range 50 {
			c.start(itoa(i), `{ hello }`)
		}
		c.wantEach(50, "data", "complete")
	}},
	{
		"open-terminate-pending", "Operations that were started right before connection_terminate?", open,
		"end without another message or with their own; the close is the last", func(c *client) {
			legacyRunningQuery(c)
			c.start("2", c.words())
			c.send(`{"type":"connection_terminate"}`)
			c.untilClose(1000)
		},
	},
}
