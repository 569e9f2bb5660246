// The promise in one page: what is published with a broker's own tools arrives
// at GraphQL clients of both subprotocols.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { connect, established } from "./clients.mjs";
import { Environment, withoutBrokers } from "./harness.mjs";

describe("smoke", { skip: withoutBrokers, timeout: 15_000 }, () => {
  const env = new Environment({ after });
  before(() => env.start(), { timeout: 10_000 });
  afterEach((t) => env.report(t));

  for (const [client, subprotocol] of [
    ["graphql-ws", "graphql-transport-ws"],
    ["subscriptions-transport-ws", "graphql-ws"],
  ]) {
    test(`mosquitto_pub reaches ${client} over ${subprotocol}`, { timeout: 8_000 }, async (t) => {
      const { subscribe, sockets } = connect(t, client, env.gateway.socket);
      const query = `subscription { mqttMessages(topic: "demo/smoke/+") { topic payload encoding json } }`;
      const stream = subscribe({ query });
      const first = await established(
        stream,
        () => env.mosquittoPub("demo/smoke/kitchen", `{"celsius":21.5}`),
        (result) => result.data.mqttMessages.topic === "demo/smoke/kitchen",
      );
      assert.deepEqual(first.data.mqttMessages, {
        topic: "demo/smoke/kitchen",
        payload: `{"celsius":21.5}`,
        encoding: "UTF8",
        json: { celsius: 21.5 },
      });
      assert.equal(sockets[0].protocol, subprotocol);
    });

    test(`redis-cli PUBLISH reaches ${client} over ${subprotocol}`, { timeout: 8_000 }, async (t) => {
      const { subscribe, sockets } = connect(t, client, env.gateway.socket);
      const query = `subscription { redisMessages(channel: "demo:smoke") { channel payload encoding json } }`;
      const stream = subscribe({ query });
      const first = await established(
        stream,
        () => env.redisPublish("demo:smoke", "hello"),
        (result) => result.data.redisMessages.payload === "hello",
      );
      assert.deepEqual(first.data.redisMessages, {
        channel: "demo:smoke",
        payload: "hello",
        encoding: "UTF8",
        json: null,
      });
      assert.equal(sockets[0].protocol, subprotocol);
    });
  }
});
