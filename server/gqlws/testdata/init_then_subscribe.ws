# The ordinary life of a subscription.
protocol graphql-transport-ws
send {"type":"connection_init"}
want {"type":"connection_ack"}
send {"id":"1","type":"subscribe","payload":{"query":"subscription { ticks }"}}
start 1 subscription { ticks }
send {"id":"1","type":"complete"}
stop 1
