// `sluice load`, the real binary: it agrees with a server of another make that
// counts for itself, speaks to the gateway, and its exit status says what held.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { WebSocketServer } from "ws";
import { Environment, Program, sluice, until, within, withoutBrokers } from "./harness.mjs";

const dir = mkdtempSync(join(tmpdir(), "sluice-load-"));
after(() => rmSync(dir, { recursive: true, force: true }));
let runs = 0;

// start starts a run. ended is { code, output, result }, the last from its JSON.
function start(t, url, ...args) {
  const json = join(dir, `${++runs}.json`);
  const program = new Program("sluice load", () => [sluice, ["load", url, "--json", json, ...args]]).launch();
  t.after(() => program.kill());
  program.ended = program.exited.then(({ code }) => ({
    code,
    output: program.output,
    result: code === 0 || code === 2 ? JSON.parse(readFileSync(json, "utf8")) : undefined,
  }));
  return program;
}

const load = (t, ...args) => within(60_000, "the end of the run", start(t, ...args).ended);

// echo is a server that counts for itself. Its messages pass through answer.
async function echo(t, answer = (socket, data, binary) => socket.send(data, { binary })) {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  t.after(() => {
    for (const socket of server.clients) socket.terminate();
    server.close();
  });
  const counted = { connections: 0, open: 0, most: 0, bytes: 0, at: [], codes: {} };
  server.on("connection", (socket) => {
    counted.connections++;
    counted.most = Math.max(counted.most, ++counted.open);
    socket.on("message", (data, binary) => {
      counted.bytes += data.length;
      counted.at.push(performance.timeOrigin + performance.now());
      answer(socket, data, binary);
    });
    socket.on("close", (code) => {
      counted.open--;
      counted.codes[code] = (counted.codes[code] ?? 0) + 1;
    });
  });
  await until("the server listens", () => server.address());
  return { url: `ws://127.0.0.1:${server.address().port}`, counted };
}

// close says whether two numbers are within 2 % of each other.
const close = (got, want) => Math.abs(got - want) <= 0.02 * want;

const brief = ["--ramp", "500ms", "--warm-up", "500ms"];

for (const loop of ["open", "closed"]) {
  test(`${loop} loop: the generator and ws count the same`, { timeout: 30_000 }, async (t) => {
    const { url, counted } = await echo(t);
    const args = ["--connections", 20, "--rate", "50/s", "--hold", "4s", "--loop", loop, "--size", 200, ...brief];
    const { code, output, result } = await load(t, url, ...args, "--assert", "no-loss", "--assert", "abnormal<1%");
    assert.equal(code, 0, output);
    const { messages, connections, plan } = result;
    const begin = Date.parse(result.startedAt) + 1000 * (plan.rampSeconds + plan.warmUpSeconds);
    const held = counted.at.filter((at) => at >= begin && at < begin + 1000 * result.heldSeconds).length;
    assert.ok(close(messages.answered, held), `${messages.answered} answered, ws counted ${held} in the hold`);
    assert.ok(close(messages.answeredPerSecond, held / 4), `${messages.answeredPerSecond}/s`);
    assert.deepEqual(
      [messages.sentInAll, messages.bytesSent, connections.opened, connections.closeCodes],
      [counted.at.length, counted.bytes, counted.connections, counted.codes],
    );
    assert.equal(counted.most, 20);
    assert.match(output, /hold .* 20 open .*p99/);
  });
}

test("assertions set the exit status", { timeout: 30_000 }, async (t) => {
  let n = 0;
  const { url } = await echo(t, (socket, data) => ++n % 10 && socket.send(data, { binary: false }));
  const args = [url, "--connections", 5, "--rate", "20/s", "--hold", "1s", "--timeout", "300ms", ...brief];
  const broken = await load(t, ...args, "--assert", "no-loss", "--assert", "p50<10s");
  assert.equal(broken.code, 2, broken.output);
  assert.deepEqual(
    broken.result.verdicts.map((v) => v.holds),
    [false, true],
  );
  assert.match(broken.output, /DOES NOT HOLD no-loss/);
  const whole = await load(t, ...args, "--assert", "lost<50%", "--assert", "rate>50/s");
  assert.equal(whole.code, 0, whole.output);
  const wrong = await load(t, ...args, "--assert", "p98<1ms");
  assert.equal(wrong.code, 1);
  assert.match(wrong.output, /p98, which is not measured: abnormal, errors/);
});

test("Ctrl-C ends a run early and prints its results", { timeout: 30_000 }, async (t) => {
  const { url, counted } = await echo(t);
  const program = start(t, url, "--connections", 5, "--rate", "20/s", "--hold", "1h", "--csv", join(dir, "early.csv"), ...brief);
  await until("it holds", () => program.output.includes("hold "));
  await program.stop("SIGINT");
  const { code, output, result } = await program.ended;
  assert.equal(code, 0, output);
  assert.equal(result.endedEarly, true);
  assert.equal(result.messages.lost + result.messages.unsent, 0);
  assert.deepEqual(result.connections.closeCodes, { 1000: 5 });
  assert.match(output, /Ended early/);
  const [head, ...lines] = readFileSync(join(dir, "early.csv"), "utf8").trim().split("\n");
  assert.match(head, /^elapsed_s,phase,/);
  assert.equal(Number(lines.at(-1).split(",")[5]), counted.at.length); // sent
});

test("nobody there: status 1, and why", { timeout: 30_000 }, async (t) => {
  const { code, output } = await load(t, "ws://127.0.0.1:1/", "--hold", "1m");
  assert.equal(code, 1);
  assert.match(output, /lets nobody in: connect: connection refused/);
});

describe("against the gateway", { skip: withoutBrokers, timeout: 60_000 }, () => {
  const env = new Environment({ after });
  before(() => env.start(), { timeout: 10_000 });
  afterEach((t) => env.report(t));

  test("200 connections are held for 10 s", { timeout: 30_000 }, async (t) => {
    const url = env.gateway.socket.replace("/graphql", "/echo");
    const args = ["--connections", 200, "--rate", 0, "--hold", "10s", "--assert", "abnormal<=1%"];
    const { code, output, result } = await load(t, url, ...args);
    assert.equal(code, 0, output);
    assert.deepEqual(result.connections.closeCodes, { 1000: 200 });
  });

  for (const protocol of ["graphql-transport-ws", "graphql-ws"]) {
    test(`subscriptions over ${protocol}`, { timeout: 30_000 }, async (t) => {
      const operation = "subscription { timeUpdates(intervalMs: 200) }";
      const args = ["--connections", 100, "--operation", operation, "--expect", "5/s", "--hold", "3s", ...brief];
      const asserted = ["--assert", "no-loss", "--assert", "p99<1s", "--assert", "errors<=0%"];
      const { code, output, result } = await load(t, env.gateway.socket, "--protocol", protocol, ...args, ...asserted);
      assert.equal(code, 0, output);
      assert.ok(close(result.messages.answeredPerSecond, 500), output);
    });

    test(`queries over ${protocol}`, { timeout: 30_000 }, async (t) => {
      const operation = "query($text: String!) { echo(text: $text) }";
      const args = ["--connections", 20, "--operation", operation, "--variables", `{"text":"a"}`, "--rate", "20/s"];
      const asserted = ["--assert", "no-loss", "--assert", "errors<=0%", "--assert", "in-order"];
      const { code, output, result } = await load(
        t,
        ...[env.gateway.socket, "--protocol", protocol, ...args, "--hold", "2s", ...brief, ...asserted],
      );
      assert.equal(code, 0, output);
      assert.equal(result.messages.answered, 800);
    });
  }

  test("messages to a room come back to all who are in it", { timeout: 30_000 }, async (t) => {
    const created = await fetch(env.gateway.graphql, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ query: "mutation { createRoom { id } }" }),
    });
    const { id } = (await created.json()).data.createRoom;
    const spoken = [env.gateway.socket, "--protocol", "graphql-transport-ws", ...brief];
    const listening = start(
      t,
      ...[...spoken, "--connections", 50, "--hold", "4s"],
      ...["--operation", `subscription { messageUpdates(room: "${id}") { id content timestamp } }`],
    );
    await until("it holds", () => listening.output.includes("hold "));
    const operation = `mutation { sendMessage(input: { room: "${id}", author: "load", content: "hi" }) { id } }`;
    const sending = await load(
      t,
      ...[...spoken, "--connections", 1, "--rate", "2/s", "--hold", "1s"],
      ...["--operation", operation, "--assert", "errors<=0%"],
    );
    assert.equal(sending.code, 0, sending.output);
    const { result, output } = await listening.ended;
    const sent = sending.result.messages.sentInAll;
    assert.equal(result.messages.answered, 50 * sent, output);
    assert.equal(result.latency.count, 50 * sent);
  });
});
