# Operations are for connections that have been acknowledged.
protocol graphql-transport-ws
send {"id":"1","type":"subscribe","payload":{"query":"{ hello }"}}
close 4401 Unauthorized
