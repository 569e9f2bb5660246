# A ping may come before connection_init; a pong may come unasked.
protocol graphql-transport-ws
send {"type":"ping"}
want {"type":"pong"}
send {"type":"ping","payload":null}
want {"type":"pong"}
send {"type":"ping","payload":{"at":1}}
want {"type":"pong","payload":{"at":1}}
send {"type":"pong","payload":{}}
send {"type":"connection_init","payload":null}
want {"type":"connection_ack"}
