// The course's own GraphQL server listened on port 8081, on every path, and
// spoke the legacy graphql-ws. What its clients send must work unchanged: these
// are their messages, byte for byte where they are short.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { Environment, requireBrokers, until, withoutBrokers } from "./harness.mjs";
import { open } from "./raw.mjs";

describe("the course's messages on ws://localhost:8081", { skip: withoutBrokers, timeout: 60_000 }, () => {
  const env = new Environment({ after });
  let taken = false;
  before(
    async () => {
      await env.start({ coursePorts: true });
      const said = await until("the gateway says which ports it has", () =>
        env.gateway.output.match(/Course +ws:.*:8081|8081 .*taken.*/),
      );
      taken = said[0].includes("taken") && said[0];
      if (taken && requireBrokers) throw new Error(`REQUIRE_BROKERS=1, but ${taken}`);
    },
    { timeout: 20_000 },
  );
  afterEach((t) => env.report(t));

  const promise = (name, run) => test(name, { timeout: 10_000 }, (t) => (taken ? t.skip(taken) : run(t)));

  async function initialised(t, path = "/") {
    const socket = await open(t, `ws://localhost:8081${path}`, "graphql-ws");
    socket.send(`{"type":"connection_init"}`);
    await socket.next("connection_ack");
    return socket;
  }

  promise("connection_init is acknowledged, with a keep-alive as old clients expect it", async (t) => {
    const socket = await open(t, "ws://localhost:8081", "graphql-ws");
    assert.equal(socket.ws.protocol, "graphql-ws");
    socket.send(`{"type":"connection_init"}`);
    await socket.next("ka");
    assert.deepEqual(socket.messages, [{ type: "connection_ack" }, { type: "ka" }]);
  });

  promise("start with { hello } brings data, then complete", async (t) => {
    const socket = await initialised(t);
    socket.send(`{"id":"1","type":"start","payload":{"query":"{ hello }"}}`);
    await socket.next("complete", { id: "1" });
    assert.deepEqual(socket.of("1"), [
      { id: "1", type: "data", payload: { data: { hello: "Hello from GraphQL-WS!" } } },
      { id: "1", type: "complete" },
    ]);
  });

  promise("variables and operationName choose what is executed", async (t) => {
    const socket = await initialised(t);
    const query = `query A { hello } query B($text: String!) { echo(text: $text) }`;
    socket.send({ id: "q", type: "start", payload: { query, variables: { text: "x" }, operationName: "B" } });
    assert.deepEqual((await socket.next("data", { id: "q" })).payload.data, { echo: "x" });
  });

  promise("start with timeUpdates brings data again and again until stop", async (t) => {
    const socket = await initialised(t);
    socket.send(`{"id":"2","type":"start","payload":{"query":"subscription { timeUpdates }"}}`);
    await socket.next("data", { id: "2", n: 2 });
    for (const { payload } of socket.of("2", "data")) assert.ok(Date.parse(payload.data.timeUpdates));
    socket.send(`{"id":"2","type":"stop"}`);
    socket.send(`{"id":"3","type":"start","payload":{"query":"{ slow(ms: 1200) }"}}`);
    const before = socket.of("2", "data").length;
    await socket.next("complete", { id: "3" }); // more than an interval later
    assert.ok(socket.of("2", "data").length <= before + 1, "silent but for what was on its way");
  });

  promise("start with messageUpdates brings the demo's numbered messages", async (t) => {
    const socket = await initialised(t);
    socket.send(
      `{"id":"m","type":"start","payload":{"query":"subscription { messageUpdates { id content timestamp } }"}}`,
    );
    const { payload } = await socket.next("data", { id: "m" });
    const { id, content, timestamp } = payload.data.messageUpdates;
    const n = Number(/^msg_(\d+)$/.exec(id)?.[1]);
    assert.equal(content, `Message ${n + 1}`);
    assert.ok(Date.parse(timestamp));
  });

  promise("connection_terminate closes the socket", async (t) => {
    const socket = await initialised(t);
    socket.send(`{"id":"2","type":"start","payload":{"query":"subscription { timeUpdates }"}}`);
    await socket.next("data");
    socket.send(`{"type":"connection_terminate"}`);
    assert.equal((await socket.close()).code, 1000);
  });

  promise("connection_init and start may be sent at once, without waiting for the acknowledgement", async (t) => {
    const socket = await open(t, "ws://localhost:8081", "graphql-ws");
    socket.send(`{"type":"connection_init"}`);
    socket.send(`{"id":"1","type":"start","payload":{"query":"{ hello }"}}`);
    socket.send(`{"id":"2","type":"start","payload":{"query":"subscription { timeUpdates }"}}`);
    await socket.next("complete", { id: "1" });
    await socket.next("data", { id: "2" });
    assert.equal(socket.messages[0].type, "connection_ack", "the acknowledgement comes first");
    assert.equal(socket.of("1", "data")[0].payload.data.hello, "Hello from GraphQL-WS!");
  });

  for (const path of ["/", "/graphql", "/subscriptions", "/any/where?token=x", "/healthz"]) {
    promise(`the path does not matter: ${path}`, async (t) => {
      const socket = await initialised(t, path);
      socket.send(`{"id":"1","type":"start","payload":{"query":"{ hello }"}}`);
      assert.equal((await socket.next("data")).payload.data.hello, "Hello from GraphQL-WS!");
    });
  }

  promise("text that is not JSON and unknown types are answered, and the socket stays", async (t) => {
    const socket = await initialised(t);
    socket.send(`{"type":`);
    await socket.next("connection_error");
    socket.send(`{"id":"9","type":"begin"}`);
    assert.match((await socket.next("error", { id: "9" })).payload.message, /connection_init, start, stop/);
    socket.send(`{"id":"1","type":"start","payload":{"query":"{ hallo }"}}`);
    assert.match((await socket.next("error", { id: "1" })).payload.message, /hallo/);
    socket.send(`{"id":"1","type":"start","payload":{"query":"{ hello }"}}`);
    await socket.next("complete", { id: "1" });
  });

  promise("the course's front end on port 5173 may connect, another site's page may not", async (t) => {
    const origin = (from) => open(t, "ws://localhost:8081", "graphql-ws", { origin: from });
    await origin("http://localhost:5173");
    await assert.rejects(origin("https://evil.example"), /403/);
  });

  promise("new clients are served on this port too", async (t) => {
    const socket = await open(t, "ws://localhost:8081", ["graphql-transport-ws", "graphql-ws"]);
    assert.equal(socket.ws.protocol, "graphql-transport-ws");
    socket.send({ type: "connection_init" });
    await socket.next("connection_ack");
    socket.send({ id: "1", type: "subscribe", payload: { query: "{ hello }" } });
    assert.equal((await socket.next("next", { id: "1" })).payload.data.hello, "Hello from GraphQL-WS!");
  });
});
