// Prints the messages of the lobby, each once, however often the connection is
// lost: node examples/urql.mjs [URL [ROOM]]
import { Client, fetchExchange, subscriptionExchange } from "@urql/core";
import { createClient } from "graphql-ws";
import { resuming } from "graphql-ws-resume";
import WebSocket from "ws"; // browsers, and Node from 22 on, have one

const [url = "ws://127.0.0.1:8080/graphql", room = "lobby"] = process.argv.slice(2);

const sockets = resuming(
  createClient({ url, webSocketImpl: WebSocket, shouldRetry: () => true, retryAttempts: Infinity }),
);
const client = new Client({
  url: url.replace(/^ws/, "http"),
  preferGetMethod: false,
  exchanges: [
    fetchExchange,
    subscriptionExchange({
      forwardSubscription: ({ query = "", variables }) => ({
        subscribe: (sink) => ({ unsubscribe: sockets.subscribe({ query, variables }, sink) }),
      }),
    }),
  ],
});

const query = `subscription ($room: ID!) { messageUpdates(room: $room) { author content } }`;
client.subscription(query, { room }).subscribe(({ data, error }) => {
  if (error) throw error;
  console.log(`${data.messageUpdates.author}: ${data.messageUpdates.content}`);
});
