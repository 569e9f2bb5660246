// Nothing is lost, doubled or reordered, whatever happens to the connection. The
// seed is printed: SEED=… npm test cuts at the same bytes.
import assert from "node:assert/strict";
import { createClient } from "graphql-ws";
import { createClient as createClient5 } from "graphql-ws-5";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Environment, atEnd, freePort, until, withoutBrokers } from "../../node/harness.mjs";
import { Numbers, Proxy, Room, clients, connected, opening, random, startGateway, whole } from "./parts.mjs";

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const versions = {
  "graphql-ws": { subscribing: clients["graphql-ws"], create: createClient },
  "graphql-ws 5": { subscribing: clients["graphql-ws"], create: createClient5 },
  "Apollo Client": { subscribing: clients["Apollo Client"], create: createClient },
  urql: { subscribing: clients.urql, create: createClient },
};

// flow sends messages until done() says so; no more wait than are kept.
async function flow(room, sink, done) {
  while (!done()) {
    await until("the subscriber keeps up", () => sink.ended || room.sent - sink.got.length < 200, { within: 20_000 });
    assert.equal(sink.ended, null, `the subscription ended: ${sink.ended?.error}`);
    await room.send();
  }
  await room.sendAll(20);
  await sink.count(room.sent);
  assert.equal(sink.tally(room.sent), whole);
  assert.equal(sink.got.length, room.sent);
}

// cutAtRandom cuts 50 connections to gateways that share a room.
async function cutAtRandom(t, subscribing, create, gateways) {
  t.diagnostic(`SEED=${seed}`);
  const room = await Room.open(gateways[0]);
  const proxy = await Proxy.start(t, ...gateways.map(({ addr }) => addr));
  const client = connected(t, proxy.socket, { create });
  const open = opening(client);
  const sink = new Numbers();
  subscribing(client)(room.subscription, sink);
  await open;

  const chance = random(seed);
  // A client sends some 700 bytes until it is subscribed; then it only hears.
  const budget = () => ({
    down: Math.floor(chance() ** 2 * 6000),
    up: chance() < 0.2 ? Math.floor(chance() * 700) : undefined,
    reset: chance() < 0.5,
  });
  proxy.budget = () => (proxy.cuts < 50 ? budget() : {});
  proxy.cut();
  await flow(room, sink, () => proxy.cuts >= 50);
  t.diagnostic(`${proxy.cuts} cuts, ${room.sent} messages: ${sink.tally(room.sent)}`);
}

describe("messages of a room are neither lost, doubled nor reordered", { timeout: 240_000 }, () => {
  for (const [name, { subscribing, create }] of Object.entries(versions)) {
    test(`${name}: 50 cuts at any byte`, { timeout: 60_000 }, async (t) => {
      await cutAtRandom(t, subscribing, create, [await startGateway(t)]);
    });

    test(`${name}: a gateway that is killed and comes back`, { timeout: 60_000 }, async (t) => {
      const dataDir = mkdtempSync(join(tmpdir(), "graphql-ws-resume-"));
      atEnd(t, () => rmSync(dataDir, { recursive: true, force: true }));
      const gateway = await startGateway(t, { dataDir, port: await freePort() });
      const room = await Room.open(gateway);
      const client = connected(t, gateway.socket, { create });
      const open = opening(client);
      const sink = new Numbers();
      subscribing(client)(room.subscription, sink);
      await open;

      let kills = 0;
      const killing = (async () => {
        for (; kills < 5; kills++) {
          const before = sink.got.length;
          await until("messages flow", () => sink.got.length > before + 30, { within: 20_000 });
          await gateway.kill();
          await gateway.start();
        }
      })();
      await flow(room, sink, () => kills >= 5);
      await killing;
      t.diagnostic(`${kills} kills, ${room.sent} messages: ${sink.tally(room.sent)}`);
    });
  }

  test(
    "each connection ends up at another gateway of the same Redis",
    { skip: withoutBrokers, timeout: 60_000 },
    async (t) => {
      const env = new Environment(t);
      await env.startBrokers();
      const shared = {
        redisURL: env.redis.url,
        mqttURL: env.mosquitto.url,
        args: ["--secret", "the same one at all of them"],
      };
      const gateways = await Promise.all([startGateway(t, shared), startGateway(t, shared)]);
      await cutAtRandom(t, clients["graphql-ws"], createClient, gateways);
    },
  );
});
