# In the older protocol a second start under one id replaces the first.
protocol graphql-ws
send {"type":"connection_init"}
want {"type":"connection_ack"}
want {"type":"ka"}
send {"id":"1","type":"start","payload":{"query":"subscription { ticks }"}}
start 1 subscription { ticks }
send {"id":"1","type":"start","payload":{"query":"{ hello }"}}
stop 1
start 1 { hello }
