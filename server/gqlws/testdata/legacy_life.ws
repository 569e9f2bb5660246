# The ordinary life of a subscription in the older protocol.
protocol graphql-ws
send {"type":"connection_init","payload":{}}
want {"type":"connection_ack"}
want {"type":"ka"}
send {"id":"1","type":"start","payload":{"query":"subscription { ticks }"}}
start 1 subscription { ticks }
send {"id":"1","type":"stop"}
stop 1
want {"id":"1","type":"complete"}
send {"type":"connection_terminate"}
close 1000 Normal closure
