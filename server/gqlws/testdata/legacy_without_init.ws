# Without connection_init an operation is refused; the socket stays.
protocol graphql-ws
send {"id":"1","type":"start","payload":{"query":"{ hello }"}}
want {"id":"1","type":"error","payload":{"message":"Send connection_init first."}}
send {"type":"connection_init"}
want {"type":"connection_ack"}
want {"type":"ka"}
