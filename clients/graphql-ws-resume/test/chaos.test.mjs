// Through `sluice chaos`, which resets every connection and delays messages,
// nothing is lost either. SEED=… npm test has the same faults again.
import assert from "node:assert/strict";
import { test } from "node:test";
import { startChaos } from "../../node/chaos.mjs";
import { until } from "../../node/harness.mjs";
import { Numbers, Room, clients, connected, opening, startGateway, whole } from "./parts.mjs";

const seed = process.env.SEED ?? String(1 + Math.floor(Math.random() * (2 ** 31 - 1)));

test("nothing is lost across the cuts of sluice chaos", { timeout: 60_000 }, async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const gateway = await startGateway(t);
  const faults = [
    "--cut",
    "100%",
    "--cut-after",
    "500ms..1500ms",
    "--corrupt",
    "0",
    "--latency",
    "10%",
    "--latency-time",
    "5ms..50ms",
  ];
  const chaos = await startChaos(t, "--upstream", gateway.socket, "--direction", "both", "--seed", seed, ...faults);
  const cuts = () => chaos.events().filter(({ fault }) => fault === "cut").length;

  const room = await Room.open(gateway);
  const client = connected(t, chaos.url);
  const open = opening(client);
  const sink = new Numbers();
  clients["graphql-ws"](client)(room.subscription, sink);
  await open;

  while (cuts() < 3) {
    await until("the subscriber keeps up", () => sink.ended || room.sent - sink.got.length < 200, { within: 20_000 });
    assert.equal(sink.ended, null, `the subscription ended: ${sink.ended?.error}`);
    await room.send();
  }
  await room.sendAll(20);
  await sink.count(room.sent);
  assert.equal(sink.tally(room.sent), whole);
  assert.equal(sink.got.length, room.sent);
  t.diagnostic(`${cuts()} cuts, ${room.sent} messages: ${sink.tally(room.sent)}`);
});
