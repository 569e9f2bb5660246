# An id belongs to one active operation.
protocol graphql-transport-ws
send {"type":"connection_init"}
want {"type":"connection_ack"}
send {"id":"a","type":"subscribe","payload":{"query":"subscription { ticks }"}}
start a subscription { ticks }
send {"id":"a","type":"subscribe","payload":{"query":"subscription { ticks }"}}
close 4409 Subscriber for a already exists
