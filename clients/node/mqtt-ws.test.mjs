// MQTT over WebSocket with mqtt.js: to the embedded broker, and relayed to a real
// Mosquitto. What is published there reaches GraphQL clients through the bridge.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, afterEach, before, describe, test } from "node:test";
import mqtt from "mqtt";
import WebSocket from "ws";
import { connect, established } from "./clients.mjs";
import { post } from "./raw.mjs";
import { atEnd, Environment, newGateway, until, withoutBrokers, within } from "./harness.mjs";

// Each broker, and how to start a gateway in front of it.
const brokers = {
  "the embedded broker": () => newGateway().start(),
  "the relay to Mosquitto": async (env) => {
    await env.start();
    return env.gateway;
  },
};

for (const [broker, start] of Object.entries(brokers)) {
  describe(`MQTT over WebSocket, ${broker}`, { skip: withoutBrokers, timeout: 60_000 }, () => {
    const env = new Environment({ after });
    let gateway;
    before(async () => (gateway = await start(env)), { timeout: 15_000 });
    after(() => gateway?.stop());
    afterEach((t) => env.report(t));

    // join connects mqtt.js; what it receives is in messages.
    async function join(t, { path = "/mqtt", ...options } = {}) {
      let ws;
      const client = await mqtt.connectAsync(`ws://${gateway.addr}${path}`, {
        reconnectPeriod: 0,
        connectTimeout: 5_000,
        createWebsocket: (url, protocols) => (ws = new WebSocket(url, protocols)),
        ...options,
      });
      atEnd(t, () => client.endAsync(true));
      const messages = [];
      client.on("message", (topic, payload, packet) =>
        messages.push({ topic, payload: String(payload), qos: packet.qos, retain: packet.retain }),
      );
      return Object.assign(client, { messages, ws });
    }
    const next = (client) => until("a message has come", () => client.messages.shift());

    test("every QoS, as the lower of publication and subscription", async (t) => {
      const client = await join(t);
      for (const qos of [0, 1, 2]) {
        const [granted] = await client.subscribeAsync(`demo/qos/${qos}`, { qos });
        assert.equal(granted.qos, qos);
        for (const sent of [0, 1, 2]) {
          await client.publishAsync(`demo/qos/${qos}`, `${sent}`, { qos: sent });
          const { payload, qos: got } = await next(client);
          assert.deepEqual({ payload, got }, { payload: `${sent}`, got: Math.min(sent, qos) });
        }
      }
    });

    test("a retained message comes with RETAIN=1 to a new subscription, and to nobody else", async (t) => {
      const client = await join(t);
      await client.subscribeAsync("demo/retained");
      await client.publishAsync("demo/retained", "kept", { qos: 1, retain: true });
      assert.equal((await next(client)).retain, false);
      const newcomer = await join(t);
      await newcomer.subscribeAsync("demo/retained");
      assert.deepEqual(await next(newcomer), { topic: "demo/retained", payload: "kept", qos: 0, retain: true });
      await client.publishAsync("demo/retained", "", { qos: 1, retain: true });
    });

    test("a will is published after a cut without DISCONNECT", async (t) => {
      const watcher = await join(t);
      await watcher.subscribeAsync("demo/will/#");
      const polite = await join(t, { will: { topic: "demo/will/polite", payload: "not to be seen" } });
      const dying = await join(t, { will: { topic: "demo/will/dying", payload: "gone", qos: 0, retain: false } });
      dying.on("error", () => {});
      await polite.endAsync();
      dying.ws.terminate();
      assert.deepEqual(await next(watcher), { topic: "demo/will/dying", payload: "gone", qos: 0, retain: false });
    });

    test("a client with the same identifier throws the first one out", async (t) => {
      const first = await join(t, { clientId: "twin" });
      const closed = once(first.ws, "close");
      await join(t, { clientId: "twin" });
      const [code] = await within(5_000, "the end of the first one", closed);
      assert.equal(code, 1000);
    });

    test("a client that says nothing is dropped after 1.5 times its keep alive", { timeout: 20_000 }, async (t) => {
      const client = await join(t, { keepalive: 2 });
      client.on("error", () => {});
      client.ws.send = (data, ...rest) => rest.at(-1)?.(); // mqtt.js believes that it pings
      const began = Date.now();
      await within(15_000, "the end of the connection", once(client.ws, "close"));
      const took = Date.now() - began;
      assert.ok(took > 2_800 && took < 12_000, `${took} ms`);
    });

    test("what is not open is refused, and nothing else with it", async (t) => {
      const client = await join(t);
      const filters = { "demo/rules/#": { qos: 1 }, "private/#": { qos: 1 }, "#": { qos: 1 }, "lab/+/x": { qos: 1 } };
      const refusal = await client.subscribeAsync(filters).then(assert.fail, (error) => error);
      assert.deepEqual([...refusal.packet.granted], [1, 128, 128, 128]);
      for (const qos of [0, 1, 2]) await client.publishAsync("private/x", "dropped", { qos }); // acknowledged
      await client.publishAsync("demo/rules/x", "passed", { qos: 2 });
      assert.equal((await next(client)).payload, "passed");
      await assert.rejects(join(t, { will: { topic: "private/will", payload: "x" } }), /Not authorized/);
    });

    test("mqtt.js reaches mqttMessages at a graphql-ws client", async (t) => {
      const client = await join(t);
      const { subscribe } = connect(t, "graphql-ws", gateway.socket);
      const query = `subscription { mqttMessages(topic: "demo/bridge/+", qos: EXACTLY_ONCE) { topic payload qos retained } }`;
      const first = await established(
        subscribe({ query }),
        () => client.publishAsync("demo/bridge/kitchen", "21.5", { qos: 2 }),
        (result) => result.data.mqttMessages.topic === "demo/bridge/kitchen",
      );
      assert.deepEqual(first.data.mqttMessages, {
        topic: "demo/bridge/kitchen",
        payload: "21.5",
        qos: "EXACTLY_ONCE",
        retained: false,
      });
    });

    test("topics and channels of a lab session are its own", async (t) => {
      const start = async () => {
        const { body } = await post(gateway.graphql, JSON.stringify({ query: "mutation { startLab { id name } }" }));
        const { id, name } = JSON.parse(body).data.startLab;
        const graphql = connect(t, "graphql-ws", `ws://${gateway.addr}/lab/${id}/graphql`);
        return { id, name, mqtt: await join(t, { path: `/lab/${id}/mqtt`, clientId: "learner" }), ...graphql };
      };
      const [own, other] = [await start(), await start()];

      for (const { mqtt } of [own, other]) {
        const filters = { [`lab/${own.name}/#`]: { qos: 1 }, "demo/#": { qos: 1 }, "lab/#": { qos: 1 } };
        const refusal = await mqtt.subscribeAsync(filters).then(assert.fail, (error) => error);
        assert.deepEqual([...refusal.packet.granted], mqtt === own.mqtt ? [1, 1, 128] : [128, 1, 128]);
      }

      const query = `subscription { mqttMessages(topic: "lab/${own.name}/x") { payload } }`;
      const patterns = ["lab:*", "*", `lab:${own.name}:*`].map(
        (pattern) => `subscription { redisPatternMessages(pattern: "${pattern}") { payload } }`,
      );
      const stream = own.subscribe({ query });
      await established(
        stream,
        () => own.mqtt.publishAsync(`lab/${own.name}/x`, "by mqtt.js", { qos: 1 }),
        (result) => result.data.mqttMessages.payload === "by mqtt.js",
      );
      for (const [client, document] of [
        [other, query],
        [other, patterns[2]],
        [own, patterns[0]],
        [own, patterns[1]],
        [connect(t, "graphql-ws", gateway.socket), query],
      ]) {
        const { errors } = await client.subscribe({ query: document }).ending();
        assert.equal(errors[0].extensions.code, "TOPIC_FORBIDDEN", document);
      }

      await other.mqtt.publishAsync(`lab/${own.name}/x`, "forged", { qos: 2 });
      const publish = `mutation { publishMQTT(input: { topic: "lab/${own.name}/y", payload: "by GraphQL" }) { acknowledgedAt } }`;
      assert.equal((await own.execute({ query: publish })).errors, undefined);
      // The demo sensor speaks in between, below demo/#.
      const published = () => own.mqtt.messages.find(({ topic }) => topic === `lab/${own.name}/y`);
      assert.equal((await until("it is published", published)).payload, "by GraphQL");
      const redis = own.subscribe({ query: patterns[2] });
      const shout = `mutation { publishRedis(input: { channel: "lab:${own.name}:x", payload: "by Redis" }) { acknowledgedAt } }`;
      await established(
        redis,
        () => own.execute({ query: shout }),
        (result) => result.data.redisPatternMessages.payload === "by Redis",
      );

      assert.ok(!stream.results.some(({ data }) => data.mqttMessages.payload === "forged"));
      assert.deepEqual(
        other.mqtt.messages.filter(({ topic }) => topic.startsWith("lab/")),
        [],
      );
      for (const { name, output } of [gateway, env.mosquitto].filter(Boolean))
        for (const { id } of [own, other]) assert.ok(!output.includes(id), `${name} tells the id of a session`);
    });

    test("MQTT 5 is spoken, or refused in its own words", async (t) => {
      if (broker === "the embedded broker") {
        const client = await join(t, { protocolVersion: 5 });
        await client.subscribeAsync("demo/five");
        await client.publishAsync("demo/five", "5", { qos: 2 });
        assert.equal((await next(client)).payload, "5");
        await assert.rejects(client.publishAsync("private/x", "x", { qos: 1 }), /Not authorized/i);
        return;
      }
      await assert.rejects(join(t, { protocolVersion: 5 }), /Unsupported Protocol Version/i);
    });
  });
}
