// GraphQL over server-sent events with the clients that people use.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { createClient } from "graphql-sse";
import { Gateway, until } from "./gateway.mjs";
import { connect } from "./streams.mjs";

const PUBLISH = `mutation ($input: PublishMQTTInput!) { publishMQTT(input: $input) { acknowledgedAt } }`;
const MQTT = `subscription ($topic: String!) { mqttMessages(topic: $topic) { topic payload json } }`;

const codes = ({ errors }) => errors?.map((error) => error.extensions?.code);

for (const client of Object.keys(connect)) {
  describe(`${client} over server-sent events`, { timeout: 60_000 }, () => {
    const gateway = new Gateway({ after });
    const open = [];
    before(() => gateway.start());
    afterEach((t) => {
      for (const stream of open.splice(0)) stream.close();
      gateway.report(t);
    });

    function subscribe(query, variables) {
      const stream = connect[client](gateway.graphql, { query, variables });
      open.push(stream);
      return stream;
    }

    const upstreams = async () => (await gateway.query(`{ gatewayStats { upstreams } }`)).gatewayStats.upstreams;

    test("timeUpdates ticks: the first at once, then one per interval", async () => {
      const begin = Date.now();
      const stream = subscribe(`subscription { timeUpdates(intervalMs: 200) }`);
      const times = (await stream.count(3)).map(({ data }) => data.timeUpdates);
      assert.deepEqual(times, [...times].sort());
      assert.ok(Date.now() - begin > 350, "three events take two intervals");
    });

    test("countdown counts to 0 and completes by itself", async () => {
      const stream = subscribe(`subscription ($from: Int!) { countdown(from: $from, intervalMs: 100) }`, { from: 3 });
      await stream.ended;
      assert.deepEqual(
        stream.results,
        [3, 2, 1, 0].map((countdown) => ({ data: { countdown } })),
      );
    });

    test("failing ends with its error", async () => {
      const stream = subscribe(`subscription { failing(after: 1) }`);
      await stream.ended;
      assert.equal(stream.results.length, 2);
      assert.deepEqual(stream.results[0], { data: { failing: 1 } });
      assert.deepEqual(codes(stream.results[1]), ["DEMO_FAILURE"]);
      assert.ok(!("data" in stream.results[1]), "nothing was executed for the error");
    });

    test("closing a stream ends its upstream", async () => {
      const stream = subscribe(MQTT, { topic: "demo/sse/left" });
      await until("the gateway has an upstream", async () => (await upstreams()) === 1);
      stream.close();
      await until("the gateway has no upstream", async () => (await upstreams()) === 0);
    });

    test("what a mutation publishes over MQTT reaches mqttMessages", async () => {
      const topic = "demo/sse/kitchen";
      const stream = subscribe(MQTT, { topic: "demo/sse/+" });
      const payload = '{"celsius":21.5,\n"line":"break"}';
      // What was published before the subscription was in place is lost.
      await until("the first message has come", async () => {
        await gateway.query(PUBLISH, { input: { topic, payload } });
        return stream.results.length > 0;
      });
      assert.deepEqual(stream.results[0].data.mqttMessages, { topic, payload, json: { celsius: 21.5, line: "break" } });
    });

    test("ten streams at a time", async () => {
      const streams = Array.from({ length: 10 }, (_, i) => subscribe(`subscription { countdown(from: ${i}, intervalMs: 100) }`));
      await Promise.all(streams.map((stream) => stream.ended));
      assert.deepEqual(
        streams.map(({ results }) => results.length),
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
      );
    });

    test("a query is answered with one result", async () => {
      const stream = subscribe(`query ($text: String!) { echo(text: $text) }`, { text: "grüß 世界 \u2028\n" });
      await stream.ended;
      assert.deepEqual(stream.results, [{ data: { echo: "grüß 世界 \u2028\n" } }]);
    });

    test("an invalid document and a refused subscription are told as results", async () => {
      for (const [query, expected] of [
        [`subscription { nothing }`, [undefined]],
        [`subscription { mqttMessages(topic: "#") { topic } }`, ["TOPIC_FORBIDDEN"]],
      ]) {
        const stream = subscribe(query);
        await stream.ended;
        assert.equal(stream.results.length, 1);
        assert.ok(stream.results[0].errors[0].message.length > 10);
        if (expected[0]) assert.deepEqual(codes(stream.results[0]), expected);
      }
    });
  });
}

describe("methods and endings of event streams", { timeout: 60_000 }, () => {
  test("a mutation is answered to graphql-sse and refused to EventSource", async (t) => {
    const gateway = await new Gateway(t).start();
    const request = { query: `mutation { createRoom { id } }` };
    const posted = connect["graphql-sse"](gateway.graphql, request);
    await posted.ended;
    assert.match(posted.results[0].data.createRoom.id, /^[0-9a-f]{32}$/);
    await assert.rejects(connect.EventSource(gateway.graphql, request).ended, { code: 405 });
  });

  test("graphql-sse comes back when the gateway stops", async (t) => {
    const first = await new Gateway(t).start();
    const second = await new Gateway(t).start();
    let gateway = first;
    let retries = 0;
    const client = createClient({
      url: () => gateway.graphql,
      retry: async () => {
        retries++;
        gateway = second;
      },
    });
    t.after(() => client.dispose());
    const results = client.iterate({ query: `subscription { timeUpdates }` });
    assert.ok((await results.next()).value.data.timeUpdates);
    const begin = Date.now();
    assert.deepEqual(await first.stop(), { code: 0, signal: null });
    assert.ok(Date.now() - begin < 5_000, "a stream does not hold up the stop");
    assert.ok((await results.next()).value.data.timeUpdates);
    assert.equal(retries, 1);
  });
});
