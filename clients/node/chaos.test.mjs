// What a client in Node sees of the faults of `sluice chaos`, compared with what
// the program says that it did.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, test } from "node:test";
import WebSocket, { WebSocketServer } from "ws";
import { startChaos } from "./chaos.mjs";
import { atEnd, sluice, until, within } from "./harness.mjs";

const calm = ["--cut", "0", "--corrupt", "0", "--latency", "0"];

// open opens a socket that remembers what it got, and how it ended.
async function open(t, url, ...more) {
  const socket = new WebSocket(url, ...more);
  atEnd(t, () => socket.terminate());
  socket.got = [];
  socket.on("message", (data, binary) => socket.got.push(binary ? data : String(data)));
  socket.on("error", (error) => (socket.failed = error));
  socket.closed = new Promise((resolved) => socket.once("close", (code) => resolved(code)));
  await within(5_000, `the socket to ${url}`, once(socket, "open"));
  return socket;
}

describe("sluice chaos", { timeout: 60_000 }, () => {
  test("a cut is 1006 to ws, and no Close frame", { timeout: 10_000 }, async (t) => {
    const chaos = await startChaos(t, ...calm, "--cut", "100%", "--cut-after", "1s", "--seed", "1");
    const socket = await open(t, chaos.url);
    socket.send("hello");
    await until("the echo is back", () => socket.got.length === 1);
    assert.equal(await within(5_000, "the cut", socket.closed), 1006);
    await until("the cut is told", () => chaos.events().length === 1);
    const { fault, connection, what } = chaos.events()[0];
    assert.deepEqual({ fault, connection, what }, { fault: "cut", connection: 1, what: "reset after 1s" });
  });

  test("corrupted bytes are really changed, those that are told and no others", { timeout: 20_000 }, async (t) => {
    const chaos = await startChaos(t, ...calm, "--corrupt", "20%", "--seed", "4711");
    const socket = await open(t, chaos.url);
    const sent = Array.from({ length: 300 }, (_, i) => (i % 2 ? `メッセージ ${i}` : Buffer.from([i & 255, 0, 255, 7])));
    for (const message of sent) socket.send(message);
    await until("all is back", () => socket.got.length === sent.length);
    const changes = new Map(chaos.events().map(({ message, byte }) => [message, byte]));
    assert.ok(changes.size > 30 && changes.size < 90, `${changes.size} of 300 at a rate of 20 %`);
    sent.forEach((message, i) => {
      const [want, got] = [Buffer.from(message), Buffer.from(socket.got[i])];
      const byte = changes.get(i + 1);
      if (byte) {
        assert.equal(want[byte.at], byte.from);
        assert.notEqual(byte.to, byte.from);
        want[byte.at] = byte.to;
      }
      assert.deepEqual(got, want, `message ${i + 1}`);
    });
  });

  test("text that is made invalid is closed by ws with 1007", { timeout: 10_000 }, async (t) => {
    const chaos = await startChaos(t, ...calm, "--corrupt", "100%", "--break-utf8");
    const socket = await open(t, chaos.url);
    socket.send("hello");
    await within(5_000, "the end", socket.closed);
    assert.equal(socket.failed?.code, "WS_ERR_INVALID_UTF8");
  });

  test("the same seed and the same messages have the same faults", { timeout: 20_000 }, async (t) => {
    const rates = [
      "--corrupt",
      "10%",
      "--duplicate",
      "10%",
      "--reorder",
      "10%",
      "--latency",
      "10%",
      "--latency-time",
      "1ms..5ms",
    ];
    const run = async (seed) => {
      const chaos = await startChaos(t, "--cut", "0", ...rates, "--seed", seed);
      const socket = await open(t, chaos.url);
      for (let i = 0; i < 200; i++) socket.send(`message ${i}`);
      socket.close();
      await within(10_000, "the end", socket.closed);
      await chaos.stop();
      const events = chaos.events().map(({ at, ...event }) => event);
      assert.equal(
        Object.values(chaos.summary().faults).reduce((a, b) => a + b, 0),
        events.length,
      );
      return { events, got: socket.got };
    };
    const first = await run(4711);
    assert.ok(first.events.length > 40, `${first.events.length} faults`);
    assert.deepEqual(await run(4711), first);
    assert.notDeepEqual((await run(4712)).events, first.events);
  });

  test("the proxy passes subprotocols, path and messages to the test's own server", { timeout: 10_000 }, async (t) => {
    const server = new WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate: true });
    atEnd(t, () => (server.clients.forEach((socket) => socket.terminate()), server.close()));
    server.on("connection", (socket, request) =>
      socket.on("message", (data) => socket.send(`${request.url} ${socket.protocol} ${socket.extensions} ${data}`)),
    );
    await once(server, "listening");
    const chaos = await startChaos(t, ...calm, "--upstream", `ws://127.0.0.1:${server.address().port}/socket`);
    const socket = await open(t, `${chaos.url}?a=1`, ["v2", "v1"], { perMessageDeflate: true });
    socket.send("hello");
    await until("the answer is there", () => socket.got.length === 1);
    assert.equal(socket.got[0], "/socket?a=1 v2  hello");
    socket.close(1000);
    assert.equal(await within(5_000, "the end", socket.closed), 1000);
  });

  test("it wraps a command, and ends with its status", { timeout: 10_000 }, async () => {
    const script = `
      const socket = new (require("ws"))(process.env.CHAOS_URL);
      socket.on("error", () => {}).on("close", (code) => process.exit(code === 1006 ? 42 : 1));`;
    const flags = ["--addr", "127.0.0.1:0", "--cut", "100%", "--cut-after", "50ms"];
    const child = spawn(sluice, ["chaos", ...flags, "--", process.execPath, "-e", script], {
      cwd: import.meta.dirname,
    });
    let said = "";
    child.stderr.on("data", (data) => (said += data));
    const [status] = await within(8_000, "the end of the command", once(child, "close"));
    assert.equal(status, 42, said);
    assert.match(said, /cut +connection 1: reset after 50ms/);
    assert.match(said, /Connections: 1\. Faults: cut 1\. Again with --seed \d+/);
  });
});
