// `sluice mock` with ws as its client: the scripted server of the real binary,
// and a test suite that it wraps.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import WebSocket from "ws";
import { atEnd, Program, sluice, within } from "./harness.mjs";

const chat = `
name: chat
seed: 7
vars: { word: amber }
paths:
  /chat:
    subprotocols: [chat.v1]
    rules:
      - { on: { json: { type: join } }, do: [ { send: { json: { type: ack, id: "{{json.id}}" } } } ] }
      - { on: { binary: [ { u32: 1 } ] }, do: [ { send: { binary: [ { text: "{{word}}" }, "00 ff" ], fragments: 3 } } ] }
      - { on: { text: leave }, do: [ { close: { code: 4001, reason: "as you like" } } ] }
      - { on: { text: cut }, do: [ cut ] }
      - { on: { text: ping }, do: [ { ping: "{{word}}" } ] }
      - { on: pong, do: [ { send: "{{text}}" } ] }
      - { on: { text: broken }, do: [ { raw: "c1 01 41" } ] }
    expect:
      messages: [ { json: { type: join, id: { $type: number } } } ]
`;

function folder(t) {
  const dir = mkdtempSync(join(tmpdir(), "sluice-mock-"));
  atEnd(t, () => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

// startMock starts the server with a script; it has a url and ends with the test.
async function startMock(t, script, ...args) {
  const file = join(folder(t), "script.yaml");
  writeFileSync(file, script);
  const mock = new Program(
    "sluice mock",
    () => [sluice, ["mock", file, "--addr", "127.0.0.1:0", ...args], {}],
    () => (mock.url = /is on (ws:\S+)/.exec(mock.output)?.[1]) !== undefined,
  );
  atEnd(t, () => mock.stop());
  return mock.start();
}

async function open(t, url) {
  const ws = new WebSocket(url, ["chat.v2", "chat.v1"]);
  atEnd(t, () => ws.terminate());
  ws.heard = [];
  ws.on("message", (data, binary) => ws.heard.push(binary ? data : String(data)));
  ws.on("error", (error) => (ws.failed = error));
  await within(5_000, "the open socket", once(ws, "open"));
  return ws;
}

const ended = (ws) =>
  within(
    5_000,
    "the end of the socket",
    new Promise((resolved) => ws.once("close", (code, reason) => resolved([code, String(reason)]))),
  );

describe("sluice mock", { timeout: 60_000 }, () => {
  test("a script answers ws in text, JSON, bytes, pings and closes", { timeout: 15_000 }, async (t) => {
    const mock = await startMock(t, chat);
    const ws = await open(t, `${mock.url}/chat`);
    assert.equal(ws.protocol, "chat.v1");
    const answer = async (message) => {
      ws.send(message);
      await within(5_000, "an answer", once(ws, "message"));
      return ws.heard.at(-1);
    };
    assert.equal(await answer(`{"type":"join","id":1}`), `{"type":"ack","id":1}`);
    assert.deepEqual(await answer(Buffer.from([0, 0, 0, 1])), Buffer.from("amber\0\xff", "latin1"));
    assert.equal(await answer("ping"), "amber", "ws answered the ping");
    ws.send("leave");
    assert.deepEqual(await ended(ws), [4001, "as you like"]);

    const lost = await open(t, `${mock.url}/chat`);
    lost.send("cut");
    assert.equal((await ended(lost))[0], 1006);

    const broken = await open(t, `${mock.url}/chat`);
    broken.send("broken");
    await ended(broken);
    assert.match(broken.failed.message, /RSV1/);

    const { code } = await mock.stop("SIGINT");
    assert.equal(code, 1, "two connections did not join");
    assert.match(mock.output, /connection 1 on \/chat: passed/);
    assert.match(mock.output, /connection 2 on \/chat: failed/);
    assert.match(mock.output, /saw message 1, text "cut"/);
  });

  test("a test suite runs behind --, and the verdict decides", { timeout: 15_000 }, async (t) => {
    const dir = folder(t);
    const client = join(dir, "client.mjs");
    writeFileSync(
      client,
      `import WebSocket from ${JSON.stringify(import.meta.resolve("ws"))};
       const ws = new WebSocket(process.env.MOCK_URL + "/chat", "chat.v1");
       ws.on("open", () => ws.send(process.argv[2]));
       ws.on("message", () => ws.close(1000));
       setTimeout(() => ws.terminate(), 5000).unref();
       ws.on("close", () => process.exit(0));`,
    );
    const script = join(dir, "script.yaml");
    writeFileSync(script, chat);
    const verdict = join(dir, "verdict.json");
    for (const [message, status, state] of [
      [`{"type":"join","id":1}`, 0, "PASSED"],
      [`{"type":"join","id":"1"}`, 1, "FAILED"],
    ]) {
      const args = ["--addr", "127.0.0.1:0", "--verdict-json", verdict, "--", process.execPath, client, message];
      const run = new Program("sluice mock", () => [sluice, ["mock", script, ...args], {}]);
      run.launch();
      const { code } = await within(10_000, "the end of the wrapped client", run.exited);
      assert.equal(code, status, run.output);
      const { state: got, seed, connections } = JSON.parse(readFileSync(verdict, "utf8"));
      assert.deepEqual([got, seed, connections.length], [state, "7", 1]);
    }
  });
});
