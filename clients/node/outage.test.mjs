// Brokers come and go, and so does the gateway. Clients need do nothing about
// the first, and are told about the second.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { connect, established } from "./clients.mjs";
import { Environment, accepts, freePort, run, until, withoutBrokers } from "./harness.mjs";
import { open, request } from "./raw.mjs";

const kinds = {
  mqtt: {
    broker: (env) => env.mosquitto,
    subscription: `subscription { mqttMessages(topic: "demo/outage/#") { payload } }`,
    told: (result) => result.data?.mqttMessages?.payload,
    send: (env, payload) => env.mosquittoPub("demo/outage/a", payload),
    mutation: `mutation { publishMQTT(input: { topic: "demo/outage/a", payload: "from graphql" }) { acknowledgedAt } }`,
  },
  redis: {
    broker: (env) => env.redis,
    subscription: `subscription { redisMessages(channel: "demo:outage") { payload } }`,
    told: (result) => result.data?.redisMessages?.payload,
    send: (env, payload) => env.redisPublish("demo:outage", payload),
    mutation: `mutation { publishRedis(input: { channel: "demo:outage", payload: "from graphql" }) { acknowledgedAt } }`,
  },
};

const ready = async (gateway) => JSON.parse((await request(`${gateway.url}/readyz`)).body);
const gapOf = (result) => result.extensions?.sluice?.gap;

// publishFails publishes while the broker is away. The gateway gives up after 3 s;
// its other time-outs are of 5 s and more.
async function publishFails(client, mutation) {
  const begin = Date.now();
  const { errors } = await client.execute({ query: mutation });
  const took = Date.now() - begin;
  assert.equal(errors?.[0].extensions.code, "UPSTREAM_UNAVAILABLE", JSON.stringify(errors));
  assert.ok(took < 4_500, `the error took ${took} ms`);
}

describe("a broker that goes away", { skip: withoutBrokers, timeout: 120_000 }, () => {
  const env = new Environment({ after });
  before(() => env.start(), { timeout: 20_000 });
  afterEach((t) => env.report(t));

  for (const [name, kind] of Object.entries(kinds)) {
    const { subscription, told, mutation } = kind;
    const subscribe = async (client) => {
      const stream = client.subscribe({ query: subscription });
      await established(
        stream,
        () => kind.send(env, "before"),
        (result) => told(result) === "before",
      );
      return stream;
    };
    // deliversAgain: within 5 s of the broker's return, the loss told on the first event alone.
    const deliversAgain = async (stream) => {
      const begin = Date.now();
      const first = await established(
        stream,
        () => kind.send(env, "after"),
        (result) => told(result) === "after",
      );
      assert.ok(Date.now() - begin < 5_000, `delivers again after ${Date.now() - begin} ms`);
      // What was sent to see whether the subscription is in place may have come twice.
      const between = stream.results.slice(0, stream.results.indexOf(first)).map(told);
      assert.deepEqual(new Set(between), new Set(["before"]), "nothing comes between");
      assert.ok(gapOf(first)?.reason, `tells of the gap: ${JSON.stringify(first.extensions)}`);
      await kind.send(env, "and on");
      const second = await stream.find("an event after the first", (result) => told(result) === "and on");
      assert.equal(gapOf(second), undefined, "tells of the gap once");
    };

    for (const signal of ["SIGKILL", "SIGTERM"]) {
      test(
        `${name}, ${signal}: subscriptions stay, publishing says so, delivery resumes`,
        { timeout: 25_000 },
        async (t) => {
          const broker = kind.broker(env);
          const client = connect(t, "graphql-ws", env.gateway.socket);
          const stream = await subscribe(client);
          await broker.stop(signal);
          await until("readyz says 503", async () => (await request(`${env.gateway.url}/readyz`)).status === 503);
          assert.equal((await ready(env.gateway)).bridges[name], "CONNECTING");
          assert.equal((await request(`${env.gateway.url}/healthz`)).status, 200, "alive all the same");
          await publishFails(client, mutation);
          assert.equal(stream.ended, null, "the subscription stays");

          const during = client.subscribe({ query: subscription });
          await broker.start();
          await deliversAgain(stream);
          await during.find("delivery to one that came during the outage", (result) => told(result));
          await until("readyz says 200", async () => (await request(`${env.gateway.url}/readyz`)).status === 200);
          assert.equal((await client.execute({ query: mutation })).errors, undefined, "publishing works again");
          assert.equal(client.sockets.length, 1);
        },
      );
    }

    test(
      `${name} that hangs: publishing fails in time, others are served, and all is well afterwards`,
      { timeout: 40_000 },
      async (t) => {
        const broker = kind.broker(env);
        const client = connect(t, "graphql-ws", env.gateway.socket);
        const stream = await subscribe(client);
        process.kill(broker.pid, "SIGSTOP");
        try {
          await Promise.all([publishFails(client, mutation), publishFails(client, mutation)]);
          assert.equal((await client.execute({ query: `{ hello }` })).data.hello, "Hello from GraphQL-WS!");
        } finally {
          process.kill(broker.pid, "SIGCONT");
        }
        const begin = Date.now();
        await established(
          stream,
          () => kind.send(env, "after"),
          (result) => told(result) === "after",
        );
        assert.ok(Date.now() - begin < 5_000, `delivers again after ${Date.now() - begin} ms`);
        await until("publishing works again", async () => !(await client.execute({ query: mutation })).errors);
        assert.equal(client.sockets.length, 1);
      },
    );
  }

  test("the last unsubscriber ends the subscription at the broker, within 10 s", { timeout: 20_000 }, async (t) => {
    const subscribers = async () =>
      Number((await run("redis-cli", ["-p", env.redis.port, "PUBSUB", "NUMSUB", "demo:outage"])).split("\n")[1]);
    const clients = [1, 2].map(() => connect(t, "graphql-ws", env.gateway.socket));
    const streams = clients.map((client) => client.subscribe({ query: kinds.redis.subscription }));
    for (const stream of streams) await established(stream, () => kinds.redis.send(env, "x"), kinds.redis.told);
    assert.equal(await subscribers(), 1, "one for all");
    streams[0].unsubscribe();
    clients[1].sockets[0].terminate(); // without a word
    await clients[1].close();
    await until("Redis has no subscriber", async () => (await subscribers()) === 0, { within: 10_000, every: 200 });
  });
});

describe("brokers that are away when the gateway starts", { skip: withoutBrokers, timeout: 60_000 }, () => {
  const env = new Environment({ after });
  before(() => env.startBrokers(), { timeout: 20_000 });
  afterEach((t) => env.report(t));

  test("it starts, is not ready, says why, and delivers once they are there", { timeout: 40_000 }, async (t) => {
    await Promise.all([env.redis.stop(), env.mosquitto.stop()]);
    const gateway = await env.startGateway(t, { ready: false });
    assert.equal((await request(`${gateway.url}/readyz`)).status, 503);
    assert.deepEqual((await ready(gateway)).bridges, { mqtt: "CONNECTING", redis: "CONNECTING" });

    const client = connect(t, "graphql-ws", gateway.socket);
    assert.equal((await client.execute({ query: `{ hello }` })).data.hello, "Hello from GraphQL-WS!");
    const streams = Object.values(kinds).map((kind) => [kind, client.subscribe({ query: kind.subscription })]);
    for (const kind of Object.values(kinds)) await publishFails(client, kind.mutation);

    await Promise.all([env.redis.start(), env.mosquitto.start()]);
    const begin = Date.now();
    await Promise.all(
      streams.map(([kind, stream]) =>
        established(
          stream,
          () => kind.send(env, "hello"),
          (result) => kind.told(result) === "hello",
        ),
      ),
    );
    assert.ok(Date.now() - begin < 5_000, `delivers after ${Date.now() - begin} ms`);
    await until("it is ready", async () => (await request(`${gateway.url}/readyz`)).status === 200);
    assert.equal(client.sockets.length, 1);
  });

  test("their passwords are not in its log, however long they are away", { timeout: 20_000 }, async (t) => {
    const [redisPort, mqttPort] = [await freePort(), await freePort()];
    const gateway = await env.startGateway(t, {
      ready: false,
      redisURL: `redis://user:s3cret@127.0.0.1:${redisPort}`,
      mqttURL: `mqtt://user:s3cret@127.0.0.1:${mqttPort}`,
    });
    const client = connect(t, "graphql-ws", gateway.socket);
    for (const { mutation } of Object.values(kinds)) {
      const { errors } = await client.execute({ query: mutation });
      assert.doesNotMatch(JSON.stringify(errors), /s3cret|127\.0\.0\.1/);
    }
    await gateway.stop();
    assert.match(gateway.output, new RegExp(String(redisPort)), "says what it cannot reach");
    assert.match(gateway.output, new RegExp(String(mqttPort)), "says what it cannot reach");
    assert.doesNotMatch(gateway.output, /s3cret/);
  });
});

describe("a gateway that is asked to end", { skip: withoutBrokers, timeout: 60_000 }, () => {
  const env = new Environment({ after });
  before(() => env.startBrokers(), { timeout: 20_000 });
  afterEach((t) => env.report(t));

  for (const signal of ["SIGTERM", "SIGINT"]) {
    test(
      `${signal}: every socket is closed with 1012, the status is 0, nothing is left behind`,
      { timeout: 25_000 },
      async (t) => {
        const gateway = await env.startGateway(t);
        const sockets = [];
        for (const [protocol, kind, event] of [
          ["graphql-transport-ws", "subscribe", "next"],
          ["graphql-ws", "start", "data"],
        ]) {
          for (const query of [
            `subscription { timeUpdates }`,
            `subscription { mqttMessages(topic: "demo/#") { payload } }`,
          ]) {
            const socket = await open(t, gateway.socket, protocol);
            socket.send({ type: "connection_init" });
            await socket.next("connection_ack");
            socket.send({ id: "1", type: kind, payload: { query } });
            if (query.includes("timeUpdates")) await socket.next(event);
            sockets.push(socket);
          }
        }
        sockets.push(await open(t, gateway.socket, "graphql-ws")); // has said nothing yet
        const pid = gateway.pid;
        const begin = Date.now();
        assert.deepEqual(await gateway.stop(signal), { code: 0, signal: null });
        assert.ok(Date.now() - begin < 10_000, "within the drain time");
        for (const socket of sockets) assert.equal((await socket.close()).code, 1012);
        assert.equal(await accepts(Number(gateway.addr.split(":").at(-1))), false, "its port is free");
        assert.throws(() => process.kill(pid, 0), { code: "ESRCH" });
        assert.doesNotMatch(gateway.output, /panic|goroutine \d+|"level":"ERROR"/);
      },
    );
  }

  test(
    "SIGTERM while both brokers are away, with a query under way: status 0 in time",
    { timeout: 30_000 },
    async (t) => {
      await Promise.all([env.redis.stop(), env.mosquitto.stop()]);
      const gateway = await env.startGateway(t, { ready: false });
      const socket = await open(t, gateway.socket, "graphql-transport-ws");
      socket.send({ type: "connection_init" });
      await socket.next("connection_ack");
      for (const [id, query] of [
        `{ slow(ms: 10000) }`,
        kinds.mqtt.subscription,
        kinds.redis.mutation,
        kinds.mqtt.mutation,
      ].entries()) {
        socket.send({ id: String(id), type: "subscribe", payload: { query } });
      }
      socket.send({ id: "last", type: "subscribe", payload: { query: `{ hello }` } });
      await socket.next("complete", { id: "last" });
      const begin = Date.now();
      assert.deepEqual(await gateway.stop(), { code: 0, signal: null });
      assert.ok(Date.now() - begin < 10_000, "within the drain time");
      assert.equal((await socket.close()).code, 1012);
      await Promise.all([env.redis.start(), env.mosquitto.start()]);
    },
  );
});
