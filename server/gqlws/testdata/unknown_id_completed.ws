# Completes may cross: one for an id that is over, or never was, is ignored.
protocol graphql-transport-ws
send {"type":"connection_init"}
want {"type":"connection_ack"}
send {"id":"nobody","type":"complete"}
stop nobody
