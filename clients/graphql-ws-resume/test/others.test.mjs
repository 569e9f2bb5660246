// A server that knows nothing of resuming: graphql-ws's own.
import assert from "node:assert/strict";
import { GraphQLInt, GraphQLObjectType, GraphQLSchema } from "graphql";
import { createClient } from "graphql-ws";
import { useServer } from "graphql-ws/use/ws";
import { once } from "node:events";
import { describe, test } from "node:test";
import { WebSocketServer } from "ws";
import { atEnd, until } from "../../node/harness.mjs";
import { Proxy, connected, settings } from "./parts.mjs";

async function* three() {
  yield* [1, 2, 3];
}

async function* endless() {
  yield 1;
  await new Promise(() => {});
}

function broken() {
  throw new Error("broken on purpose");
}

const field = (subscribe) => ({ type: GraphQLInt, subscribe, resolve: (value) => value });
const schema = new GraphQLSchema({
  query: new GraphQLObjectType({ name: "Query", fields: { seven: { type: GraphQLInt, resolve: () => 7 } } }),
  subscription: new GraphQLObjectType({
    name: "Subscription",
    fields: { three: field(three), endless: field(endless), broken: field(broken) },
  }),
});

async function start(t) {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  useServer({ schema }, server);
  await once(server, "listening");
  atEnd(t, () => (server.clients.forEach((socket) => socket.terminate()), server.close()));
  return Proxy.start(t, `127.0.0.1:${server.address().port}`);
}

// record subscribes and cuts the connection after each of the first two results
// of a stream that does not end by itself.
async function record(client, proxy, query) {
  const heard = [];
  const unsubscribe = client.subscribe(
    { query },
    {
      next: ({ data, extensions }) => {
        heard.push({ ...data, extensions });
        if (query.includes("endless") && heard.length < 3) proxy.cut();
        if (query.includes("endless") && heard.length === 3) unsubscribe();
      },
      error: (error) => heard.push(JSON.parse(JSON.stringify(error))),
      complete: () => heard.push("complete"),
    },
  );
  await until("it has ended", () => heard.at(-1) === "complete" || Array.isArray(heard.at(-1)));
  return heard;
}

describe("graphql-ws's own server", { timeout: 60_000 }, () => {
  for (const query of ["{ seven }", "subscription { three }", "subscription { endless }", "subscription { broken }"]) {
    test(`${query} is as without this package`, { timeout: 10_000 }, async (t) => {
      const proxy = await start(t);
      const plain = createClient({ url: proxy.socket, ...settings });
      atEnd(t, () => plain.dispose());
      const want = await record(plain, proxy, query);
      assert.ok(want.length > 0);
      assert.deepEqual(await record(connected(t, proxy.socket), proxy, query), want);
    });
  }
});
