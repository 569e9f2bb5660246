// Prints the messages of the lobby, each once, however often the connection is
// lost: node examples/apollo.mjs [URL [ROOM]]
import { ApolloClient, InMemoryCache, gql } from "@apollo/client/core";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { createClient } from "graphql-ws";
import { resuming } from "graphql-ws-resume";
import WebSocket from "ws";

const [url = "ws://127.0.0.1:8080/graphql", room = "lobby"] = process.argv.slice(2);
globalThis.WebSocket ??= WebSocket; // browsers, and Node from 22 on, have one

const client = new ApolloClient({
  link: new GraphQLWsLink(resuming(createClient({ url, shouldRetry: () => true, retryAttempts: Infinity }))),
  cache: new InMemoryCache(),
});

const query = gql`
  subscription ($room: ID!) {
    messageUpdates(room: $room) {
      author
      content
    }
  }
`;
client.subscribe({ query, variables: { room } }).subscribe(({ data, error }) => {
  if (error) throw error;
  console.log(`${data.messageUpdates.author}: ${data.messageUpdates.content}`);
});
