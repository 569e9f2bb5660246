// Prints the messages of the lobby, each once, however often the connection is
// lost: node examples/graphql-ws.mjs [URL [ROOM]]
import { createClient } from "graphql-ws";
import { resuming } from "graphql-ws-resume";
import WebSocket from "ws"; // browsers, and Node from 22 on, have one

const [url = "ws://127.0.0.1:8080/graphql", room = "lobby"] = process.argv.slice(2);

const client = resuming(
  createClient({ url, webSocketImpl: WebSocket, shouldRetry: () => true, retryAttempts: Infinity }),
);

const query = `subscription ($room: ID!) { messageUpdates(room: $room) { author content } }`;
for await (const { data } of client.iterate({ query, variables: { room } })) {
  console.log(`${data.messageUpdates.author}: ${data.messageUpdates.content}`);
}
