// The course's own servers listened on ports of their own: 8080 an echo, 8081
// GraphQL over the legacy graphql-ws, 8082 MQTT, 9999 a mock, 9998 load, 9997
// chaos. What its clients do must work unchanged: these are their code and their
// messages, byte for byte where they are short.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, afterEach, before, describe, test } from "node:test";
import mqtt from "mqtt";
import WebSocket from "ws";
import { accepts, atEnd, Environment, requireBrokers, until, withoutBrokers, within } from "./harness.mjs";
import { ask, open, watch } from "./raw.mjs";

// The variables that the course's front end reads its addresses from.
const env = {
  VITE_WS_BASIC_URL: "ws://localhost:8080",
  VITE_WS_GRAPHQL_URL: "ws://localhost:8081",
  VITE_WS_MQTT_URL: "ws://localhost:8082",
};

// The course's client of its first phase, but for its types and its list of
// services, which are others'.
const PUBLIC_WEBSOCKET_SERVICES = [
  { name: "Nobody", url: "ws://localhost:1" },
  { name: "Echo WebSocket", url: env.VITE_WS_BASIC_URL },
];

class Phase1WebSocketManager {
  socket = null;

  async connectToService(serviceName) {
    const service = PUBLIC_WEBSOCKET_SERVICES.find((s) => s.name === serviceName);
    if (!service) {
      throw new Error(`Service ${serviceName} not found`);
    }

    return this.connectWithFallback(service);
  }

  async connectWithFallback(service, attempt = 0) {
    try {
      return await this.createConnection(service.url);
    } catch {
      if (attempt < PUBLIC_WEBSOCKET_SERVICES.length - 1) {
        const fallbackService = PUBLIC_WEBSOCKET_SERVICES[attempt + 1];
        return this.connectWithFallback(fallbackService, attempt + 1);
      }
      throw new Error("All public WebSocket services unavailable");
    }
  }

  createConnection(url) {
    return new Promise((resolve, reject) => {
      const ws = new WebSocket(url);
      const timeout = setTimeout(() => {
        ws.close();
        reject(new Error("Connection timeout"));
      }, 10000);

      ws.onopen = () => {
        clearTimeout(timeout);
        this.socket = ws;
        resolve(ws);
      };

      ws.onerror = () => {
        clearTimeout(timeout);
        reject(new Error("Connection failed"));
      };
    });
  }
}

// The settings of the course's chaos server.
const chaosConfig = {
  disconnectionRate: 0.05, // 5% chance of random disconnection
  messageCorruptionRate: 0.02, // 2% chance of message corruption
  latencyInjection: { enabled: true, minDelay: 100, maxDelay: 2000, probability: 0.1 },
  networkPartition: { enabled: false, duration: 5000 },
};

describe("the course's clients on its ports", { skip: withoutBrokers, timeout: 120_000 }, () => {
  const brokers = new Environment({ after });
  let taken = "";
  before(
    async () => {
      const busy = await accepts(8080);
      await brokers.start({ coursePorts: true, port: busy ? 0 : 8080 });
      await until("the gateway is up", () => brokers.gateway.output.includes("Ctrl-C stops it."));
      taken = [busy ? "8080 echo" : [], /not opened: (.*)/.exec(brokers.gateway.output)?.[1] ?? []].flat().join(", ");
      if (taken && requireBrokers)
        throw new Error(`REQUIRE_BROKERS=1, but ports are taken by other programs: ${taken}`);
    },
    { timeout: 20_000 },
  );
  afterEach((t) => brokers.report(t));

  // on makes the tests of a port. They are skipped while another program has it.
  const on = (port) => (name, run) =>
    test(`${port}: ${name}`, { timeout: 20_000 }, (t) =>
      taken.includes(port) ? t.skip(`ports are taken by other programs: ${taken}`) : run(t),
    );

  // connected opens a socket of ours and remembers what comes.
  async function connected(t, url, options) {
    const ws = new WebSocket(url, options);
    atEnd(t, () => ws.terminate());
    return listening(ws);
  }

  async function listening(ws) {
    const got = [];
    ws.on("message", (data, binary) => got.push(binary ? data : String(data)));
    if (ws.readyState !== WebSocket.OPEN) await within(5_000, `the socket to ${ws.url}`, once(ws, "open"));
    return { ws, got, came: (n) => until(`${n} messages have come`, () => got.length >= n, { within: 15_000 }) };
  }

  // answer runs an operation on the gateway, from this machine and without a session.
  const answer = (query, variables) => ask(brokers.gateway.graphql, query, variables);

  for (const port of [8080, 8081, 8082, 9999, 9998, 9997]) {
    on(port)("the course's front end on port 5173 may connect, another site's page may not", async (t) => {
      const protocols = { 8081: "graphql-ws", 8082: "mqtt" }[port];
      const origin = (from) => open(t, `ws://localhost:${port}`, protocols, { origin: from });
      await origin("http://localhost:5173");
      await assert.rejects(origin("https://evil.example"), /403/);
    });
  }

  on(8080)("the client of the first phase connects and gets its text and its bytes back", async (t) => {
    const socket = await new Phase1WebSocketManager().connectToService("Echo WebSocket");
    atEnd(t, () => socket.terminate());
    const { got, came } = await listening(socket);
    socket.send("こんにちは");
    socket.send(Buffer.from([0, 255, 128]));
    await came(2);
    assert.deepEqual(got, ["こんにちは", Buffer.from([0, 255, 128])]);
    const closed = once(socket, "close");
    socket.close(1000, "done");
    assert.equal((await within(5_000, "the end", closed))[0], 1000);
  });

  on(8080)("the client of the first phase falls back to it when a service is away", async (t) => {
    const manager = new Phase1WebSocketManager();
    const socket = await manager.connectToService("Nobody");
    atEnd(t, () => socket.terminate());
    assert.equal(manager.socket, socket);
    assert.equal(new URL(socket.url).port, "8080");
  });

  on(8082)("MQTT goes both ways through the course's broker", async (t) => {
    const client = await mqtt.connectAsync(env.VITE_WS_MQTT_URL);
    atEnd(t, () => client.endAsync(true));
    const got = [];
    client.on("message", (topic, payload, { qos }) => got.push(`${topic} ${payload} ${qos}`));
    await client.subscribeAsync("demo/course/#", { qos: 2 });
    await client.publishAsync("demo/course/a", "from the page", { qos: 2 });
    await brokers.mosquittoPub("demo/course/b", "from the broker");
    await until("both have come", () => got.length === 2);
    assert.deepEqual(got, ["demo/course/a from the page 2", "demo/course/b from the broker 1"]);
  });

  on(9999)("the mock answers as told, fails on purpose, and takes its time", async (t) => {
    const script = `
rules:
  - { on: { json: { type: order } }, do: [ { send: { json: { type: accepted, id: "{{json.id}}" } } } ] }
  - { on: message, do: [ { error: "orders only" } ] }
expect: { messages: [ { json: { type: order } } ] }
`;
    await answer("mutation ($script: String!) { setMockScript(script: $script) { name } }", { script });
    const { ws, got, came } = await connected(t, "ws://localhost:9999");
    ws.send(`{"type":"order","id":7}`);
    ws.send("tea");
    await came(2);
    assert.deepEqual(got.map(JSON.parse), [
      { type: "accepted", id: 7 },
      { type: "error", message: "orders only" },
    ]);
    await answer("mutation { setMockKnobs(knobs: { latencyMs: 300, errorRate: 1 }) { name } }");
    const sent = performance.now();
    ws.send(`{"type":"order","id":8}`);
    await came(3);
    assert.equal(JSON.parse(got[2]).type, "error");
    assert.ok(performance.now() - sent > 290, "it came before its time");
    ws.close();
    await until(
      "the verdict stands",
      async () => (await answer("{ mockVerdict { state } }")).mockVerdict.state === "PASSED",
    );
  });

  on(9998)("fifty connections at once get what they send, and the server counts them", async (t) => {
    const before = (await answer("{ loadReport { opened } }")).loadReport;
    const sockets = await Promise.all(Array.from({ length: 50 }, () => connected(t, "ws://localhost:9998")));
    await Promise.all(
      sockets.map(async ({ ws, came, got }, i) => {
        for (let n = 0; n < 20; n++) ws.send(`${i}/${n}`);
        await came(20);
        assert.deepEqual(
          got,
          Array.from({ length: 20 }, (_, n) => `${i}/${n}`),
        );
      }),
    );
    const report = await until("all fifty are counted", async () => {
      const { loadReport } = await answer("{ loadReport { open opened } }");
      return loadReport.open === 50 && loadReport;
    });
    assert.equal(report.opened - before.opened, 50);
  });

  on(9997)("chaos begins with the course's settings", async () => {
    const { faults } = (
      await answer(`{ chaos { faults {
        cut { rate minMs maxMs } corruption { rate } latency { rate minMs maxMs } partition { durationMs }
        duplication { rate } reordering { rate } throttling { bytesPerSecond } halfOpen { rate } closeCode { rate }
      } silentUntil } }`)
    ).chaos;
    const { latencyInjection, networkPartition } = chaosConfig;
    assert.deepEqual(faults, {
      cut: { rate: chaosConfig.disconnectionRate, minMs: 5_000, maxMs: 35_000 },
      corruption: { rate: chaosConfig.messageCorruptionRate },
      latency: {
        rate: latencyInjection.probability,
        minMs: latencyInjection.minDelay,
        maxMs: latencyInjection.maxDelay,
      },
      partition: { durationMs: networkPartition.duration },
      duplication: { rate: 0 },
      reordering: { rate: 0 },
      throttling: { bytesPerSecond: 0 },
      halfOpen: { rate: 0 },
      closeCode: { rate: 0 },
    });
  });

  on(9997)("chaos holds and changes messages as it tells, and loses none", async (t) => {
    const { run } = (await answer("mutation { replayChaos(seed: 4711) { run } }")).replayChaos;
    const events = await watch(
      t,
      brokers.gateway.socket,
      "chaosEvents",
      "subscription { chaosEvents { run fault message byte { at from to } } }",
    );
    const { ws, got, came } = await connected(t, "ws://localhost:9997");
    const sent = Array.from({ length: 40 }, (_, i) => `message ${i + 1} of a course`);
    for (const message of sent) ws.send(message);
    await came(sent.length);
    await until("a message was changed, and one held", () =>
      ["CORRUPTION", "LATENCY"].every((fault) => events.some((event) => event.fault === fault)),
    );
    for (const event of events) assert.equal(event.run, run);
    sent.forEach((message, i) => {
      const bytes = Buffer.from(message);
      const told = events.find(({ fault, message: n }) => fault === "CORRUPTION" && n === i + 1);
      if (told) bytes[told.byte.at] = told.byte.to;
      assert.equal(got[i], String(bytes));
    });
  });

  on(9997)("a partition loses what is sent in it, and the connection outlives it", async (t) => {
    await answer("mutation { stopChaos { seed } }");
    const { ws, got, came } = await connected(t, "ws://localhost:9997");
    ws.send("before");
    await came(1);
    await answer("mutation { startPartition(durationMs: 1000) { silentUntil } }");
    ws.send("lost");
    await until("the partition is over", async () => !(await answer("{ chaos { silentUntil } }")).chaos.silentUntil);
    ws.send("after");
    await came(2);
    assert.deepEqual(got, ["before", "after"]);
  });

  async function initialised(t, path = "/") {
    const socket = await open(t, `${env.VITE_WS_GRAPHQL_URL}${path}`, "graphql-ws");
    socket.send(`{"type":"connection_init"}`);
    await socket.next("connection_ack");
    return socket;
  }

  on(8081)("connection_init is acknowledged, with a keep-alive as old clients expect it", async (t) => {
    const socket = await open(t, env.VITE_WS_GRAPHQL_URL, "graphql-ws");
    assert.equal(socket.ws.protocol, "graphql-ws");
    socket.send(`{"type":"connection_init"}`);
    await socket.next("ka");
    assert.deepEqual(socket.messages, [{ type: "connection_ack" }, { type: "ka" }]);
  });

  on(8081)("start with { hello } brings data, then complete", async (t) => {
    const socket = await initialised(t);
    socket.send(`{"id":"1","type":"start","payload":{"query":"{ hello }"}}`);
    await socket.next("complete", { id: "1" });
    assert.deepEqual(socket.of("1"), [
      { id: "1", type: "data", payload: { data: { hello: "Hello from GraphQL-WS!" } } },
      { id: "1", type: "complete" },
    ]);
  });

  on(8081)("variables and operationName choose what is executed", async (t) => {
    const socket = await initialised(t);
    const query = `query A { hello } query B($text: String!) { echo(text: $text) }`;
    socket.send({ id: "q", type: "start", payload: { query, variables: { text: "x" }, operationName: "B" } });
    assert.deepEqual((await socket.next("data", { id: "q" })).payload.data, { echo: "x" });
  });

  on(8081)("start with timeUpdates brings data again and again until stop", async (t) => {
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

  on(8081)("start with messageUpdates brings the demo's numbered messages", async (t) => {
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

  on(8081)("connection_terminate closes the socket", async (t) => {
    const socket = await initialised(t);
    socket.send(`{"id":"2","type":"start","payload":{"query":"subscription { timeUpdates }"}}`);
    await socket.next("data");
    socket.send(`{"type":"connection_terminate"}`);
    assert.equal((await socket.close()).code, 1000);
  });

  on(8081)("connection_init and start may be sent at once, without waiting for the acknowledgement", async (t) => {
    const socket = await open(t, env.VITE_WS_GRAPHQL_URL, "graphql-ws");
    socket.send(`{"type":"connection_init"}`);
    socket.send(`{"id":"1","type":"start","payload":{"query":"{ hello }"}}`);
    socket.send(`{"id":"2","type":"start","payload":{"query":"subscription { timeUpdates }"}}`);
    await socket.next("complete", { id: "1" });
    await socket.next("data", { id: "2" });
    assert.equal(socket.messages[0].type, "connection_ack", "the acknowledgement comes first");
    assert.equal(socket.of("1", "data")[0].payload.data.hello, "Hello from GraphQL-WS!");
  });

  for (const path of ["/", "/graphql", "/subscriptions", "/any/where?token=x", "/healthz"]) {
    on(8081)(`the path does not matter: ${path}`, async (t) => {
      const socket = await initialised(t, path);
      socket.send(`{"id":"1","type":"start","payload":{"query":"{ hello }"}}`);
      assert.equal((await socket.next("data")).payload.data.hello, "Hello from GraphQL-WS!");
    });
  }

  on(8081)("text that is not JSON and unknown types are answered, and the socket stays", async (t) => {
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

  on(8081)("new clients are served on this port too", async (t) => {
    const socket = await open(t, env.VITE_WS_GRAPHQL_URL, ["graphql-transport-ws", "graphql-ws"]);
    assert.equal(socket.ws.protocol, "graphql-transport-ws");
    socket.send({ type: "connection_init" });
    await socket.next("connection_ack");
    socket.send({ id: "1", type: "subscribe", payload: { query: "{ hello }" } });
    assert.equal((await socket.next("next", { id: "1" })).payload.data.hello, "Hello from GraphQL-WS!");
  });
});
