# A second connection_init is an error, not a repetition.
protocol graphql-transport-ws
send {"type":"connection_init"}
want {"type":"connection_ack"}
send {"type":"connection_init"}
close 4429 Too many initialisation requests
