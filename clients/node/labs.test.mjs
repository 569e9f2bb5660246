// Two test suites at one gateway, each in a lab session of its own: what one does
// to its servers is nothing that the other, or anybody without a session, meets.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, afterEach, before, describe, test } from "node:test";
import WebSocket from "ws";
import { atEnd, Environment, until, withoutBrokers, within } from "./harness.mjs";
import { ask, watch } from "./raw.mjs";

const connections = 20; // of each suite to each of its servers, all at once
const messages = 3; // over each

// client connects, sends its messages once it is told to, and says how it went.
async function client(t, url, name, { greeted = false } = {}) {
  const ws = new WebSocket(url);
  atEnd(t, () => ws.terminate());
  const got = [];
  ws.on("message", (data) => got.push(String(data)));
  const closed = once(ws, "close").then(([code]) => code);
  ws.on("error", () => {}); // a cut is told by close, too
  await within(10_000, `the socket to ${url}`, once(ws, "open"));
  const sent = Array.from({ length: messages }, (_, n) => `${name} ${n}`);
  for (const message of sent) ws.send(message);
  return {
    sent,
    got,
    answered: () => until(`${name} is answered`, () => got.length === messages + (greeted ? 1 : 0), { within: 15_000 }),
    closed: () => within(15_000, `the end of ${name}`, closed),
    async leave() {
      ws.close(1000);
      assert.equal(await this.closed(), 1000);
    },
  };
}

const many = (make) => Promise.all(Array.from({ length: connections }, (_, i) => make(i)));

describe("two suites in parallel", { skip: withoutBrokers, timeout: 60_000 }, () => {
  const env = new Environment({ after });
  const args = ["--limit", `lab-connections=${2 * connections}`, "--limit", "lab-rate=1000"];
  before(() => env.start({ args }), { timeout: 20_000 });
  afterEach((t) => env.report(t));

  const run = (query, variables) => ask(env.gateway.graphql, query, variables);

  // suite is a session with its script, and what there is to see of it.
  async function suite(t, script) {
    const { startLab } = await run("mutation { startLab { id servers { name url } } }");
    const { id, servers } = startLab;
    if (script)
      await run("mutation ($id: ID, $script: String!) { setMockScript(session: $id, script: $script) { name } }", {
        id,
        script,
      });
    return {
      ...(await feeds(t, id)),
      id,
      url: (name) => servers.find((server) => server.name === name).url,
      wire: await watch(
        t,
        env.gateway.socket,
        "wireEvents",
        `subscription ($id: ID!) { wireEvents(session: $id) {
          __typename cursor number connection
          ... on WireRequest { uri } ... on WireMessage { direction payload { text } } ... on WireClose { code }
        } }`,
        { id },
      ),
    };
  }

  // feeds is what can be seen with a session and without one, which is null.
  const feeds = async (t, id = null) => ({
    chaos: await watch(
      t,
      env.gateway.socket,
      "chaosEvents",
      "subscription ($id: ID) { chaosEvents(session: $id) { fault connection } }",
      { id },
    ),
    verdict: async () =>
      (
        await run(
          "query ($id: ID) { mockVerdict(session: $id) { state script passed failed text connections { received } } }",
          {
            id,
          },
        )
      ).mockVerdict,
    counts: async () =>
      (await run("query ($id: ID) { chaos(session: $id) { connections counts { fault times } } }", { id })).chaos,
  });

  test("never meet each other's faults, scripts or frames", { timeout: 45_000 }, async (t) => {
    const a = await suite(
      t,
      `
name: refuses
rules: [ { on: message, do: [ { close: { code: 4001, reason: "suite A" } } ] } ]
expect: { messages: [ { text: never } ] }
`,
    );
    const b = await suite(
      t,
      `
name: repeats
rules: [ { on: message, do: [ { send: "suite B: {{text}}" } ] } ]
expect: { strict: true, messages: [ { text: { contains: "B mock" }, count: ${messages} } ] }
`,
    );
    const everybody = await feeds(t);
    await run(
      "mutation ($a: ID, $b: ID) { a: stopChaos(session: $a) { seed } b: stopChaos(session: $b) { seed } stopChaos { seed } }",
      {
        a: a.id,
        b: b.id,
      },
    );
    await run(
      "mutation ($id: ID) { configureChaos(session: $id, input: { cut: { rate: 1, minMs: 100, maxMs: 500 } }) { seed } }",
      { id: a.id },
    );

    const open = `ws://${env.gateway.addr}`;
    await Promise.all([
      many(async (i) => {
        const one = await client(t, a.url("chaos"), `A chaos ${i}`);
        assert.equal(await one.closed(), 1006);
      }),
      many(async (i) => {
        const one = await client(t, a.url("mock"), `A mock ${i}`);
        assert.equal(await one.closed(), 4001);
        assert.deepEqual(one.got, []);
      }),
      ...[b.url("chaos"), `${open}/chaos`].map((url, n) =>
        many(async (i) => {
          const one = await client(t, url, `${n === 0 ? "B" : "public"} chaos ${i}`);
          await one.answered();
          assert.deepEqual(one.got, one.sent);
          await until("suite A has been cut off", () => a.chaos.length === connections, { within: 15_000 });
          await one.leave();
        }),
      ),
      many(async (i) => {
        const one = await client(t, b.url("mock"), `B mock ${i}`);
        await one.answered();
        assert.deepEqual(
          one.got,
          one.sent.map((text) => `suite B: ${text}`),
        );
        await one.leave();
      }),
      many(async (i) => {
        const one = await client(t, `${open}/mock`, `public mock ${i}`, { greeted: true });
        await one.answered();
        assert.equal(JSON.parse(one.got[0]).type, "hello");
        assert.deepEqual(one.got.slice(1), one.sent);
        await one.leave();
      }),
    ]);

    // Faults: each of suite A's connections was cut, and nobody else's.
    assert.deepEqual(new Set(a.chaos.map(({ fault }) => fault)), new Set(["CUT"]));
    assert.deepEqual(await a.counts(), { connections, counts: [{ fault: "CUT", times: connections }] });
    for (const { chaos, counts } of [b, everybody]) {
      assert.deepEqual(chaos, []);
      assert.deepEqual(await counts(), { connections, counts: [] });
    }

    // Verdicts: each is about its own script and its own clients.
    const [ofA, ofB, ofAll] = await Promise.all([a, b, everybody].map(({ verdict }) => verdict()));
    assert.deepEqual([ofA.state, ofA.script, ofA.passed, ofA.failed], ["FAILED", "refuses", 0, connections]);
    assert.deepEqual([ofB.state, ofB.script, ofB.passed, ofB.failed], ["PASSED", "repeats", connections, 0]);
    assert.deepEqual([ofAll.state, ofAll.script], ["NONE", "greeting and echo"]);
    for (const { connections: listed } of [ofA, ofB]) assert.equal(listed.length, connections);
    assert.deepEqual(ofAll.connections, [], "a script that expects nothing lists nobody");
    assert.doesNotMatch(ofA.text, /B mock|public/);
    assert.doesNotMatch(ofB.text, /A mock|public/);

    // Frames: each session saw all of its own, numbered without a hole.
    for (const [own, suite] of [
      ["A", a],
      ["B", b],
    ]) {
      const ended = () => suite.wire.filter((event) => event.__typename === "WireEnd").length === 2 * connections;
      await until(`the end of suite ${own}'s connections is seen`, ended);
      suite.wire.forEach((event, i) => assert.equal(event.number, i + 1));
      assert.equal(Math.max(...suite.wire.map(({ connection }) => connection)), 2 * connections);
      for (const { __typename, uri, direction, payload } of suite.wire) {
        if (__typename === "WireRequest") assert.ok(uri.startsWith(`/lab/${suite.id}/`), uri);
        if (direction === "TO_SERVER") assert.match(payload.text, new RegExp(`^${own} (chaos|mock) `));
      }
    }
  });

  test("a cursor of one session opens nothing of another", { timeout: 20_000 }, async (t) => {
    const [a, b] = [await suite(t), await suite(t)];
    const one = await client(t, a.url("echo"), "A echo");
    await one.answered();
    await until("the session has seen it", () => a.wire.length > 0);
    const query = "subscription ($id: ID!, $after: Cursor) { wireEvents(session: $id, after: $after) { number } }";
    await assert.rejects(
      watch(t, env.gateway.socket, "wireEvents", query, { id: b.id, after: a.wire[0].cursor }),
      /CURSOR_INVALID/,
    );
    assert.deepEqual(b.wire, []);
  });
});
