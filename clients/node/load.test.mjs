// `sluice load`, the real binary: it agrees with a server of another make that
// counts for itself, speaks to the gateway, and its exit status says what held.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { WebSocketServer } from "ws";
import { connect } from "./clients.mjs";
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

// dueOf is when a message was due, in milliseconds; it says so itself.
const dueOf = (data) => Number(data.subarray(21, 41)) / 1e6;

// echo is a server that counts for itself. Its messages pass through answer.
async function echo(t, answer = (socket, data, binary) => socket.send(data, { binary })) {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  t.after(() => {
    for (const socket of server.clients) socket.terminate();
    server.close();
  });
  const counted = { connections: 0, open: 0, most: 0, bytes: 0, due: [], codes: {} };
  server.on("connection", (socket) => {
    counted.connections++;
    counted.most = Math.max(counted.most, ++counted.open);
    socket.on("message", (data, binary) => {
      counted.bytes += data.length;
      counted.due.push(dueOf(data));
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
    await until("ws has seen all of them go", () => counted.open === 0);
    const begin = Date.parse(result.startedAt) + 1000 * (plan.rampSeconds + plan.warmUpSeconds);
    const held = counted.due.filter((at) => at >= begin && at < begin + 1000 * result.heldSeconds).length;
    assert.ok(close(messages.answered, held), `${messages.answered} answered, ws counted ${held} in the hold`);
    assert.ok(close(messages.answeredPerSecond, held / 4), `${messages.answeredPerSecond}/s`);
    assert.deepEqual(
      [messages.sentInAll, messages.bytesSent, connections.opened, connections.closeCodes],
      [counted.due.length, counted.bytes, counted.connections, counted.codes],
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
  const program = start(
    t,
    url,
    "--connections",
    5,
    "--rate",
    "20/s",
    "--hold",
    "1h",
    "--csv",
    join(dir, "early.csv"),
    ...brief,
  );
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
  assert.equal(Number(lines.at(-1).split(",")[5]), counted.due.length); // sent
});

test("nobody there: status 1, and why", { timeout: 30_000 }, async (t) => {
  const { code, output } = await load(t, "ws://127.0.0.1:1/", "--hold", "1m");
  assert.equal(code, 1);
  assert.match(output, /lets nobody in: connect: connection refused/);
});

describe("against the gateway", { skip: withoutBrokers, timeout: 180_000 }, () => {
  const env = new Environment({ after });
  before(() => env.start(), { timeout: 20_000 });
  afterEach((t) => env.report(t));

  async function ask(query, variables) {
    const response = await fetch(env.gateway.graphql, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ query, variables }),
    });
    return response.json();
  }

  test("200 connections are held for 10 s", { timeout: 30_000 }, async (t) => {
    const url = env.gateway.socket.replace("/graphql", "/load");
    const args = ["--connections", 200, "--rate", 0, "--hold", "10s", "--assert", "abnormal<=1%"];
    const { code, output, result } = await load(t, url, ...args);
    assert.equal(code, 0, output);
    assert.deepEqual(result.connections.closeCodes, { 1000: 200 });
  });

  for (const protocol of ["graphql-transport-ws", "graphql-ws"]) {
    test(`subscriptions over ${protocol}`, { timeout: 30_000 }, async (t) => {
      // All connections hear the same clock: a tick that is late at an end of the hold
      // is on its other side for all of them. Of 15, two may be.
      const operation = "subscription { timeUpdates(intervalMs: 200) }";
      const args = ["--connections", 100, "--operation", operation, "--expect", "4.4/s", "--hold", "3s", ...brief];
      const asserted = ["--assert", "no-loss", "--assert", "p99<1s", "--assert", "errors<=0%"];
      const { code, output, result } = await load(t, env.gateway.socket, "--protocol", protocol, ...args, ...asserted);
      assert.equal(code, 0, output);
      assert.ok(Math.abs(result.messages.answeredPerSecond - 500) < 70, output);
    });

    test(`queries over ${protocol}`, { timeout: 30_000 }, async (t) => {
      const operation = "query($text: String!) { echo(text: $text) }";
      const args = ["--connections", 20, "--operation", operation, "--variables", `{"text":"a"}`, "--rate", "20/s"];
      const asserted = ["--assert", "no-loss", "--assert", "errors<=0%"];
      const { code, output, result } = await load(
        t,
        ...[env.gateway.socket, "--protocol", protocol, ...args, "--hold", "2s", ...brief, ...asserted],
      );
      assert.equal(code, 0, output);
      assert.equal(result.messages.answered, 800);
    });
  }

  test("messages to a room come back to all who are in it", { timeout: 30_000 }, async (t) => {
    const { id } = (await ask("mutation { createRoom { id } }")).data.createRoom;
    const spoken = [env.gateway.socket, "--protocol", "graphql-transport-ws", ...brief];
    const listening = start(
      t,
      ...[...spoken, "--connections", 50, "--hold", "8s"],
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

  const startRun = `mutation($session: ID, $input: LoadRunInput!) {
    startLoadRun(session: $session, input: $input) { id plan progress { phase } result { due } failure }
  }`;
  const latency = "{ count p50Ms p99Ms maxMs }";
  const resultOf = `query($id: ID!) { loadRun(id: $id) { failure result {
    endedEarly heldMs opened failed abnormal closeCodes { code count } reasons { text count }
    due sent answered lost unsent doubled reordered foreign graphqlErrors receivedPerSecond
    latency ${latency} service ${latency} connect ${latency} lag ${latency} cpus behind verdicts { assertion holds measured }
  } } }`;
  const refusal = ({ errors }) => errors?.[0].extensions.code;

  // watch waits for the end of a run and returns its progress and its result.
  async function watch(t, id) {
    const { subscribe } = connect(t, "graphql-ws", env.gateway.socket);
    const query = `subscription($id: ID!) { loadRunProgress(id: $id) { phase connections sent received latency { p99Ms } } }`;
    const stream = subscribe({ query, variables: { id } });
    assert.deepEqual(await stream.ending({ within: 20_000 }), { errors: null });
    const { data, errors } = await ask(resultOf, { id });
    assert.equal(errors, undefined, JSON.stringify(errors));
    return { progress: stream.results.map(({ data }) => data.loadRunProgress), ...data.loadRun };
  }

  test("a run that GraphQL starts agrees with the report of the load server", { timeout: 30_000 }, async (t) => {
    const report = `{ loadReport { open peak opened closed closeCodes { code count } in { messages bytes } out { messages }
      roundTrip ${latency} age ${latency} cpus memoryBytes descriptors descriptorLimit } }`;
    const before = (await ask(report)).data.loadReport;
    const input = {
      connections: 20,
      rate: 25,
      rampMs: 300,
      warmUpMs: 300,
      holdMs: 2000,
      assertions: ["no-loss", "p50<0ms"],
    };
    const started = await ask(startRun, { input });
    assert.equal(started.errors, undefined, JSON.stringify(started.errors));
    const { id, plan, progress: first, result: none } = started.data.startLoadRun;
    assert.match(plan, /^20 connections, open loop, 25\/s each, 500\/s in all; 300ms ramp/);
    assert.deepEqual([first.phase, none], ["RAMP", null]);
    assert.equal(refusal(await ask(startRun, { input })), "LOAD_RUN_BUSY");
    const { progress, result } = await watch(t, id);
    assert.ok(progress.length >= 3, JSON.stringify(progress));
    assert.equal(progress.at(-1).phase, "DONE");
    assert.ok(progress.some((p) => p.phase === "HOLD" && p.connections === 20 && p.latency.p99Ms > 0));
    assert.deepEqual(
      [result.due, result.answered, result.lost, result.unsent, result.closeCodes, result.latency.count],
      [1000, 1000, 0, 0, [{ code: 1000, count: 20 }], 1000],
    );
    assert.deepEqual(
      result.verdicts.map((v) => v.holds),
      [true, false],
    );
    const after = (await ask(report)).data.loadReport;
    assert.equal(after.in.messages - before.in.messages, progress.at(-1).sent);
    assert.equal(after.out.messages - before.out.messages, progress.at(-1).received);
    assert.equal(after.opened - before.opened, 20);
    assert.ok(after.descriptors > 0 && after.memoryBytes > 1e6 && after.age.count > 0, JSON.stringify(after));
  });

  test("runs against every server of the gateway, and a session's", { timeout: 40_000 }, async (t) => {
    const brief = { connections: 2, rampMs: 0, warmUpMs: 0, holdMs: 500, rate: 10 };
    const { data } = await ask("mutation { startLab { id } }");
    const session = data.startLab.id;
    for (const [on, target] of [
      [null, { target: "ECHO" }],
      [null, { target: "GRAPHQL", operation: "query($text: String!) { echo(text: $text) }", variables: { text: "a" } }],
      [null, { target: "LOAD", loop: "LISTEN", rate: null, query: "mode=broadcast&rate=20/s", expect: 20 }],
      [session, { target: "LOAD", loop: "CLOSED" }],
      [
        session,
        {
          target: "GRAPHQL",
          operation: "subscription { timeUpdates(intervalMs: 100) }",
          rate: null,
          protocol: "GRAPHQL_WS",
        },
      ],
    ]) {
      const started = await ask(startRun, { session: on, input: { ...brief, ...target } });
      assert.equal(started.errors, undefined, JSON.stringify([target, started.errors]));
      const { result, failure } = await watch(t, started.data.startLoadRun.id);
      assert.equal(failure, null);
      assert.ok(
        result.answered >= 4 && result.graphqlErrors === 0 && result.abnormal === 0,
        JSON.stringify([target, result]),
      );
    }
    const own = await ask(`query($session: ID) { loadReport(session: $session) { opened in { messages } } }`, {
      session,
    });
    assert.equal(own.data.loadReport.opened, 2);
    const crowd = await ask(startRun, { session, input: { ...brief, connections: 9 } });
    const { result } = await watch(t, crowd.data.startLoadRun.id);
    assert.ok(result.failed > 0 && /503/.test(JSON.stringify(result.reasons)), "a session keeps to its limits");
  });

  test("what a run may not be", { timeout: 20_000 }, async (t) => {
    for (const [input, says] of [
      [{ connections: 501 }, /connections is 501: 1 to 500/],
      [{ holdMs: 60_001 }, /hold/],
      [{ connections: 500, rate: 11 }, /rate/],
      [{ size: 65_537 }, /size/],
      [{ target: "GRAPHQL" }, /operation is missing/],
      [{ target: "GRAPHQL", operation: "mutation { startLab { id } }" }, /operation is a mutation/],
      [{ query: "%zz" }, /query/],
      [{ assertions: ["fast"] }, /"fast" is no assertion/],
      [{ rampMs: -1 }, /ramp/],
    ]) {
      const refused = await ask(startRun, { input });
      assert.equal(refusal(refused), "ARGUMENT_OUT_OF_RANGE", JSON.stringify([input, refused]));
      assert.match(refused.errors[0].message, says);
    }
    assert.equal(refusal(await ask(startRun, { session: "nobody", input: {} })), "LAB_UNKNOWN");
    assert.equal(refusal(await ask(resultOf, { id: "nobody" })), "LOAD_RUN_UNKNOWN");

    const { data } = await ask(startRun, { input: { holdMs: 50_000 } });
    const { id } = data.startLoadRun;
    const stopped = await ask("mutation($id: ID!) { stopLoadRun(id: $id) { id } }", { id });
    assert.equal(stopped.errors, undefined, JSON.stringify(stopped.errors));
    const { result } = await watch(t, id);
    assert.equal(result.endedEarly, true);
  });

  test("a gateway without load has none", { timeout: 20_000 }, async (t) => {
    const gateway = await env.startGateway(t, { args: ["--no-load"] });
    const response = await fetch(gateway.graphql, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ query: "{ loadReport { open } }" }),
    });
    assert.equal(refusal(await response.json()), "LOAD_OFF");
    assert.notEqual((await fetch(gateway.url + "/load")).status, 400);
    const { code, output } = await load(t, gateway.socket.replace("/graphql", "/load"), "--hold", "1s");
    assert.equal(code, 1, output);
  });
});
