// What every client is promised: one table, run for each of them by
// behaviours(name) against real brokers and a gateway of its own.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { connect, established } from "./clients.mjs";
import { Environment, freePort, until, withoutBrokers } from "./harness.mjs";

const MQTT = `subscription ($topic: String!, $qos: QoS! = AT_MOST_ONCE) {
  mqttMessages(topic: $topic, qos: $qos) { topic payload encoding json qos retained receivedAt }
}`;
const REDIS = `subscription ($channel: String!) {
  redisMessages(channel: $channel) { channel pattern payload encoding json receivedAt }
}`;
const PATTERN = `subscription ($pattern: String!) {
  redisPatternMessages(pattern: $pattern) { channel pattern payload encoding json receivedAt }
}`;
const ROOM = `subscription ($room: ID!) { messageUpdates(room: $room) { id room author content timestamp } }`;
const SEND = `mutation ($input: SendMessageInput!) { sendMessage(input: $input) { id room author content timestamp } }`;
const CREATE_ROOM = `mutation { createRoom { id } }`;

const rfc3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const notUTF8 = Buffer.from([0xff, 0xfe, 0x00, 0x80, 0x41]);

const codes = (errors) => errors.map((error) => error.extensions?.code);
const mqtt = (result) => result.data?.mqttMessages;
const redis = (result) => result.data?.redisMessages;
const patterned = (result) => result.data?.redisPatternMessages;
const room = (result) => result.data?.messageUpdates;

// A first message says that a subscription is in place; the tests are about
// those that follow.
const ready = "ready?";
const isReady = (message) => (result) => message(result)?.payload === ready;

async function subscribeMQTT({ env, client }, filter, { topic = filter, ...variables } = {}) {
  const stream = client.subscribe({ query: MQTT, variables: { topic: filter, ...variables } });
  await established(stream, () => env.mosquittoPub(topic, ready), isReady(mqtt));
  return stream;
}

async function subscribeRedis({ env, client }, channel) {
  const stream = client.subscribe({ query: REDIS, variables: { channel } });
  await established(stream, () => env.redisPublish(channel, ready), isReady(redis));
  return stream;
}

async function subscribeRoom(client, id) {
  const stream = client.subscribe({ query: ROOM, variables: { room: id } });
  const ask = () => client.execute({ query: SEND, variables: { input: { room: id, content: ready } } });
  await established(stream, ask, (result) => room(result)?.content === ready);
  return stream;
}

// after a subscription is in place: the messages that are not about that.
const messages = (stream, message) =>
  stream.results.map(message).filter((m) => m && m.payload !== ready && m.content !== ready);

async function arrived(stream, message, n) {
  await until(
    `${n} messages have come (there are ${JSON.stringify(stream.results).slice(0, 500)})`,
    () => messages(stream, message).length >= n,
  );
  return messages(stream, message);
}

async function refused(stream, code) {
  const { errors } = await stream.ending();
  assert.ok(errors, `ended without an error instead of ${code}`);
  assert.deepEqual(codes(errors), [code]);
  assert.match(errors[0].message, /\w+ \w+/, "a sentence for people");
  return errors[0].message;
}

export const table = [
  {
    promise: "a query goes over the socket",
    async run({ client }) {
      const { data, errors } = await client.execute({
        query: `query ($text: String!) { hello echo(text: $text) }`,
        variables: { text: "grüß 世界 \u0000 \u2028" },
      });
      assert.equal(errors, undefined);
      assert.deepEqual(data, { hello: "Hello from GraphQL-WS!", echo: "grüß 世界 \u0000 \u2028" });
      assert.equal(client.sockets.length, 1);
    },
  },
  {
    promise: "a mutation goes over the socket",
    async run({ client }) {
      const { data } = await client.execute({ query: CREATE_ROOM });
      assert.match(data.createRoom.id, /^[0-9a-f]{32}$/);
      const input = { room: data.createRoom.id, author: "Ada", content: "first" };
      const sent = await client.execute({ query: SEND, variables: { input } });
      assert.equal(sent.errors, undefined);
      const { id, timestamp, ...message } = sent.data.sendMessage;
      assert.ok(id);
      assert.match(timestamp, rfc3339);
      assert.deepEqual(message, input);
      assert.equal(client.sockets.length, 1);
    },
  },
  {
    promise: "a field that fails is told in errors, with its code, next to the fields that did not",
    async run({ client }) {
      const { data, errors } = await client.execute({ query: `{ hello fail(code: "TEAPOT") }` });
      assert.deepEqual(codes(errors), ["TEAPOT"]);
      assert.deepEqual(data, { hello: "Hello from GraphQL-WS!", fail: null });
    },
  },
  {
    promise: "timeUpdates ticks: the first at once, then one per interval, never backwards",
    async run({ client }) {
      const slow = client.subscribe({ query: `subscription { timeUpdates(intervalMs: 60000) }` });
      await slow.count(1); // long before an interval is over
      slow.unsubscribe();
      const begin = Date.now();
      const stream = client.subscribe({ query: `subscription { timeUpdates }` });
      const times = (await stream.count(3)).map(({ data }) => data.timeUpdates);
      for (const time of times) assert.match(time, rfc3339);
      assert.deepEqual(times, [...times].sort());
      assert.ok(Date.now() - begin > 1_900, "three events take two intervals");
      stream.unsubscribe();
    },
  },
  {
    promise: "countdown counts to 0 and completes by itself",
    async run({ client }) {
      const stream = client.subscribe({ query: `subscription { countdown(from: 3, intervalMs: 100) }` });
      assert.deepEqual(await stream.ending(), { errors: null });
      assert.deepEqual(
        stream.results.map(({ data }) => data.countdown),
        [3, 2, 1, 0],
      );
    },
  },
  {
    promise: "failing ends with an error that carries extensions.code DEMO_FAILURE",
    async run({ client }) {
      const stream = client.subscribe({ query: `subscription { failing(after: 2) }` });
      await refused(stream, "DEMO_FAILURE");
      assert.deepEqual(
        stream.results.map(({ data }) => data.failing),
        [1, 2],
      );
    },
  },
  {
    promise: "a document that does not fit the schema is an error that names the field",
    async run({ client }) {
      const asked = await client.execute({ query: `{ hallo }` });
      assert.match(asked.errors[0].message, /hallo/);
      const subscribed = client.subscribe({ query: `subscription { tick(every: 1) }` });
      const { errors } = await subscribed.ending();
      assert.match(errors[0].message, /tick/);
      const { data } = await client.execute({ query: `{ hello }` });
      assert.equal(data.hello, "Hello from GraphQL-WS!", "the socket lives on");
      assert.equal(client.sockets.length, 1);
    },
  },
  {
    promise: "an argument out of range is an error with its code",
    async run({ client }) {
      await refused(
        client.subscribe({ query: `subscription { timeUpdates(intervalMs: 1) }` }),
        "ARGUMENT_OUT_OF_RANGE",
      );
    },
  },
  {
    promise: "mqttMessages brings what mosquitto_pub sends: text, JSON, and other bytes as base64",
    async run({ env, client }) {
      const stream = await subscribeMQTT({ env, client }, "demo/payloads", { qos: "AT_LEAST_ONCE" });
      await env.mosquittoPub("demo/payloads", "grüß 世界");
      await env.mosquittoPub("demo/payloads", `{"celsius":21.5,"big":12345678901234567890}`);
      await env.mosquittoPub("demo/payloads", notUTF8);
      await env.mosquittoPub("demo/payloads", "");
      await env.mosquittoPub("demo/payloads", "null", { qos: 0 });
      const [text, json, bytes, nothing, none] = await arrived(stream, mqtt, 5);
      const { receivedAt, ...rest } = text;
      assert.match(receivedAt, rfc3339);
      assert.deepEqual(rest, {
        topic: "demo/payloads",
        payload: "grüß 世界",
        encoding: "UTF8",
        json: null,
        qos: "AT_LEAST_ONCE",
        retained: false,
      });
      assert.equal(json.payload, `{"celsius":21.5,"big":12345678901234567890}`);
      assert.equal(json.json.celsius, 21.5);
      assert.deepEqual([bytes.payload, bytes.encoding, bytes.json], [notUTF8.toString("base64"), "BASE64", null]);
      assert.deepEqual([nothing.payload, nothing.encoding], ["", "UTF8"]);
      assert.deepEqual([none.json, none.qos], [null, "AT_MOST_ONCE"]);
    },
  },
  {
    promise: "a retained message goes to every new subscriber, once, flagged, as it is now",
    async run({ env, client, another }) {
      const topic = "demo/retained/state";
      const ask = { query: MQTT, variables: { topic } };
      await env.mosquittoPub(topic, "old", { retain: true });
      const early = client.subscribe(ask);
      assert.deepEqual(pick(await early.count(1)), [["old", true]]);
      await env.mosquittoPub(topic, "new", { retain: true });
      assert.deepEqual(pick(await early.count(2)).at(-1), ["new", false], "live, hence not flagged");
      const late = another().subscribe(ask);
      assert.deepEqual(pick(await late.count(1)), [["new", true]], "the present value, not the first one");
      await env.mosquittoPub(topic, "last");
      await late.find("the last message", (result) => mqtt(result).payload === "last");
      await early.find("the last message", (result) => mqtt(result).payload === "last");
      assert.deepEqual(pick(late.results), [
        ["new", true],
        ["last", false],
      ]);
      assert.deepEqual(pick(early.results), [
        ["old", true],
        ["new", false],
        ["last", false],
      ]);

      function pick(results) {
        return results.map(mqtt).map(({ payload, retained }) => [payload, retained]);
      }
    },
  },
  {
    promise: "wildcards: + stands for one level, # for all that follow",
    async run({ env, client }) {
      const plus = await subscribeMQTT({ env, client }, "demo/house/+/celsius", { topic: "demo/house/attic/celsius" });
      const hash = await subscribeMQTT({ env, client }, "demo/house/#", { topic: "demo/house/attic/celsius" });
      const topics = [
        "demo/house/kitchen/celsius",
        "demo/house/kitchen/lux",
        "demo/house",
        "demo/house/a/b/c",
        "demo/house/end/celsius",
      ];
      for (const topic of topics) await env.mosquittoPub(topic, "x");
      const seen = async (stream, n) => (await arrived(stream, mqtt, n)).map(({ topic }) => topic);
      assert.deepEqual(await seen(hash, 5), topics);
      assert.deepEqual(await seen(plus, 2), [topics[0], topics[4]]);
    },
  },
  {
    promise: "one message comes once to a subscription, and to each of those that overlap",
    async run({ env, client }) {
      const streams = [];
      for (const filter of ["demo/overlap/a", "demo/overlap/+", "demo/overlap/#"]) {
        streams.push(await subscribeMQTT({ env, client }, filter, { topic: "demo/overlap/a" }));
      }
      await env.mosquittoPub("demo/overlap/a", "one");
      await env.mosquittoPub("demo/overlap/a", "two");
      for (const stream of streams) {
        const payloads = (await arrived(stream, mqtt, 2)).map(({ payload }) => payload);
        assert.deepEqual(payloads, ["one", "two"]);
      }
    },
  },
  {
    promise: "redisMessages brings what redis-cli publishes: text, JSON, and other bytes as base64",
    async run({ env, client }) {
      const stream = await subscribeRedis({ env, client }, "demo:payloads");
      await env.redisPublish("demo:payloads", "grüß 世界");
      await env.redisPublish("demo:payloads", `[1,{"a":null}]`);
      await env.redisPublish("demo:payloads", notUTF8);
      const [text, json, bytes] = await arrived(stream, redis, 3);
      const { receivedAt, ...rest } = text;
      assert.match(receivedAt, rfc3339);
      assert.deepEqual(rest, {
        channel: "demo:payloads",
        pattern: null,
        payload: "grüß 世界",
        encoding: "UTF8",
        json: null,
      });
      assert.deepEqual(json.json, [1, { a: null }]);
      assert.deepEqual([bytes.payload, bytes.encoding, bytes.json], [notUTF8.toString("base64"), "BASE64", null]);
    },
  },
  {
    promise: "redisPatternMessages brings the channels that match, and says by which pattern",
    async run({ env, client }) {
      const stream = client.subscribe({ query: PATTERN, variables: { pattern: "demo:news:*" } });
      await established(stream, () => env.redisPublish("demo:news:a", ready), isReady(patterned));
      await env.redisPublish("demo:news:sport", "goal");
      await env.redisPublish("demo:weather", "rain");
      await env.redisPublish("demo:news:", "end");
      const told = (await arrived(stream, patterned, 2)).map(({ channel, pattern, payload }) => [
        channel,
        pattern,
        payload,
      ]);
      assert.deepEqual(told, [
        ["demo:news:sport", "demo:news:*", "goal"],
        ["demo:news:", "demo:news:*", "end"],
      ]);
    },
  },
  {
    promise: "publishing through GraphQL reaches the real brokers, with a receipt",
    async run({ env, client }) {
      const onMQTT = await subscribeMQTT({ env, client }, "demo/published");
      const onRedis = await subscribeRedis({ env, client }, "demo:published");
      const publish = async (field, input, type) => {
        const query = `mutation ($input: ${type}!) { ${field}(input: $input) { acknowledgedAt receivers } }`;
        const { data, errors } = await client.execute({ query, variables: { input } });
        assert.equal(errors, undefined, JSON.stringify(errors));
        assert.match(data[field].acknowledgedAt, rfc3339);
        return data[field].receivers;
      };
      const payload = notUTF8.toString("base64");
      assert.equal(await publish("publishMQTT", { topic: "demo/published", payload: "hi" }, "PublishMQTTInput"), null);
      await publish(
        "publishMQTT",
        { topic: "demo/published", payload, encoding: "BASE64", qos: "EXACTLY_ONCE" },
        "PublishMQTTInput",
      );
      assert.equal(await publish("publishRedis", { channel: "demo:published", payload: "hi" }, "PublishRedisInput"), 1);
      await publish("publishRedis", { channel: "demo:published", payload, encoding: "BASE64" }, "PublishRedisInput");
      const told = ({ payload, encoding }) => [payload, encoding];
      const both = [
        ["hi", "UTF8"],
        [payload, "BASE64"],
      ];
      assert.deepEqual((await arrived(onMQTT, mqtt, 2)).map(told), both);
      assert.deepEqual((await arrived(onRedis, redis, 2)).map(told), both);
    },
  },
  {
    promise: "two clients in one room: a message reaches both, in the same order",
    async run({ client, another }) {
      const clients = [client, another()];
      const created = await client.execute({ query: CREATE_ROOM });
      const id = created.data.createRoom.id;
      const streams = await Promise.all(clients.map((c) => subscribeRoom(c, id)));
      const sent = await Promise.all(
        clients.flatMap((c, who) =>
          ["one", "two"].map((content) =>
            c.execute({ query: SEND, variables: { input: { room: id, author: `client ${who}`, content } } }),
          ),
        ),
      );
      const [here, there] = await Promise.all(streams.map((stream) => arrived(stream, room, 4)));
      const last = (list) => list.slice(-4);
      assert.deepEqual(last(here), last(there));
      assert.deepEqual(
        new Set(last(here).map((m) => m.id)),
        new Set(sent.map(({ data }) => data.sendMessage.id)),
        "the very messages that were sent",
      );
    },
  },
  {
    promise: "a room's id is its key: other rooms stay silent, and a made-up name is ROOM_INVALID",
    async run({ client }) {
      const one = (await client.execute({ query: CREATE_ROOM })).data.createRoom.id;
      const two = (await client.execute({ query: CREATE_ROOM })).data.createRoom.id;
      const inOne = await subscribeRoom(client, one);
      const inTwo = await subscribeRoom(client, two);
      await client.execute({ query: SEND, variables: { input: { room: two, content: "for two" } } });
      await arrived(inTwo, room, 1);
      await client.execute({ query: SEND, variables: { input: { room: one, content: "for one" } } });
      assert.deepEqual(
        (await arrived(inOne, room, 1)).map((m) => m.content),
        ["for one"],
      );
      await refused(client.subscribe({ query: ROOM, variables: { room: "kitchen" } }), "ROOM_INVALID");
    },
  },
  {
    promise: "a topic or channel outside the allow list is TOPIC_FORBIDDEN",
    async run({ client }) {
      for (const topic of ["secret/plans", "#", "+/sensors", "$SYS/#", "demo2/x"]) {
        await refused(client.subscribe({ query: MQTT, variables: { topic } }), "TOPIC_FORBIDDEN");
      }
      for (const channel of ["secret", "__keyspace@0__:x", "sluice:log", "demo"]) {
        await refused(client.subscribe({ query: REDIS, variables: { channel } }), "TOPIC_FORBIDDEN");
      }
      for (const pattern of ["*", "d*", "[d]emo:*", "sluice:*"]) {
        const stream = client.subscribe({ query: PATTERN, variables: { pattern } });
        if (pattern === "[d]emo:*")
          stream.unsubscribe(); // the same set in other words: either answer is right
        else await refused(stream, "TOPIC_FORBIDDEN");
      }
      const input = { topic: "secret/plans", payload: "x" };
      const query = `mutation ($input: PublishMQTTInput!) { publishMQTT(input: $input) { acknowledgedAt } }`;
      const { errors } = await client.execute({ query, variables: { input } });
      assert.deepEqual(codes(errors), ["TOPIC_FORBIDDEN"]);
      assert.equal(client.sockets.length, 1);
    },
  },
  {
    promise: "an ill-formed filter or channel is TOPIC_INVALID, and everything else on the socket goes on",
    async run({ env, client }) {
      const onMQTT = await subscribeMQTT({ env, client }, "demo/undisturbed");
      const onRedis = await subscribeRedis({ env, client }, "demo:undisturbed");
      const long = "demo/" + "x".repeat(70_000);
      for (const topic of ["+x", "a/#/b", "demo/#x", "demo/a+", "", long, "demo/a\u0000b", "$share/g/demo/#"]) {
        const message = await refused(client.subscribe({ query: MQTT, variables: { topic } }), "TOPIC_INVALID");
        assert.ok(message.length < 500, "does not send 70 KB back");
      }
      for (const channel of ["demo:a\r\nPUBLISH demo:b c\r\n", "", "demo:" + "x".repeat(70_000)]) {
        await refused(client.subscribe({ query: REDIS, variables: { channel } }), "TOPIC_INVALID");
        await refused(client.subscribe({ query: PATTERN, variables: { pattern: channel } }), "TOPIC_INVALID");
      }
      await env.mosquittoPub("demo/undisturbed", "after");
      await env.redisPublish("demo:undisturbed", "after");
      const [a] = await arrived(onMQTT, mqtt, 1);
      const [b] = await arrived(onRedis, redis, 1);
      assert.deepEqual([a.payload, b.payload], ["after", "after"]);
      assert.equal(client.sockets.length, 1, "the same socket");
      for (const { extensions } of [...onMQTT.results, ...onRedis.results]) {
        assert.equal(extensions?.sluice, undefined, "the gateway's connections to the brokers were not cut");
      }
    },
  },
  {
    promise: "unsubscribing stops delivery at the gateway, and other subscribers go on",
    async run({ env, client, another }) {
      const other = another();
      const leaving = await subscribeMQTT({ env, client }, "demo/leaving");
      const staying = await subscribeMQTT({ env, client: other }, "demo/leaving");
      leaving.unsubscribe();
      await client.execute({ query: `{ hello }` }); // the gateway has read what was sent before
      const before = client.sockets[0].received.length;
      await env.mosquittoPub("demo/leaving", "anyone?");
      await arrived(staying, mqtt, 1);
      await client.execute({ query: `{ hello }` });
      const after = client.sockets[0].received.slice(before);
      assert.ok(!after.some((text) => text.includes("anyone?")), `still delivered: ${after}`);
      assert.deepEqual(messages(leaving, mqtt), []);
    },
  },
  {
    promise: "sixty subscriptions and thirty queries share one socket without mixing",
    seconds: 20,
    async run({ env, client }) {
      const streams = Array.from({ length: 60 }, (_, i) =>
        client.subscribe({ query: MQTT, variables: { topic: `demo/many/${i}` } }),
      );
      const watch = await subscribeMQTT({ env, client }, "demo/many/#", { topic: "demo/many/0" });
      const echo = (text) =>
        client.execute({ query: `query ($text: String!) { echo(text: $text) }`, variables: { text } });
      const texts = Array.from({ length: 30 }, (_, i) => `text ${i}`);
      assert.deepEqual(
        (await Promise.all(texts.map(echo))).map(({ data }) => data.echo),
        texts,
      );
      for (const i of [59, 7, 0, 33, 58]) {
        const publish = () => env.mosquittoPub(`demo/many/${i}`, `for ${i}`);
        await established(streams[i], publish, (result) => mqtt(result)?.payload === `for ${i}`);
      }
      await watch.find("all of them", (result) => mqtt(result).payload === "for 58");
      for (const [i, stream] of streams.entries()) {
        for (const result of stream.results) assert.equal(mqtt(result).topic, `demo/many/${i}`);
      }
      assert.equal(client.sockets.length, 1);
    },
  },
  {
    promise: "after a restart of the gateway the client is back by itself and receives again",
    seconds: 40,
    async run({ t, env, connectTo }) {
      const gateway = await env.startGateway(t, { port: await freePort() });
      const client = connectTo(gateway.socket);
      const topic = "demo/restart";
      const stream = await subscribeMQTT({ env, client }, topic);
      for (const [signal, code] of [
        ["SIGTERM", 1012],
        ["SIGKILL", 1006],
      ]) {
        const socket = client.sockets.at(-1);
        await gateway.restart(signal);
        assert.equal((await socket.closed).code, code);
        const fits = (result) => mqtt(result)?.payload === signal;
        await established(stream, () => env.mosquittoPub(topic, signal), fits);
        assert.notEqual(client.sockets.at(-1), socket);
      }
    },
  },
];

// behaviours runs the table for one client.
export function behaviours(name) {
  describe(name, { skip: withoutBrokers, timeout: 120_000 }, () => {
    const env = new Environment({ after });
    before(() => env.start(), { timeout: 20_000 });
    afterEach((t) => env.report(t));

    for (const { promise, seconds = 10, run } of table) {
      test(promise, { timeout: seconds * 1_000 }, (t) => {
        const connectTo = (url) => connect(t, name, url);
        const another = () => connectTo(env.gateway.socket);
        return run({ t, env, connectTo, another, client: another() });
      });
    }
  });
}
