# Messages that cannot be read disconnect nobody in the older protocol.
protocol graphql-ws
send not json
want {"type":"connection_error","payload":{"message":"Message is not a JSON object"}}
send {"id":"7","type":"subscribe"}
want {"id":"7","type":"error","payload":{"message":"Invalid message type! Sent may be connection_init, start, stop, connection_terminate."}}
send {"id":"9","type":"stop"}
