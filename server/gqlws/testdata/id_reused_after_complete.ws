# Once a client completes an operation, it is free to reuse that id.
protocol graphql-transport-ws
send {"type":"connection_init"}
want {"type":"connection_ack"}
send {"id":"a","type":"subscribe","payload":{"query":"subscription { ticks }"}}
start a subscription { ticks }
send {"id":"a","type":"complete"}
stop a
send {"id":"a","type":"subscribe","payload":{"query":"{ hello }","operationName":null,"variables":null,"extensions":null}}
start a { hello }
