// What happens in a lesson, at everybody who listens: those who know the session,
// the public, and the brokers.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { atEnd } from "../../node/harness.mjs";
import { eventsQuery } from "./checker.mjs";
import { connect, startGateway } from "./gateway.mjs";
import { startLab } from "./lab.mjs";

const slug = "what-is-websocket";

describe("what happens in a lesson", { timeout: 60_000 }, () => {
  let gateway;
  before(async () => (gateway = await startGateway()));
  after(() => gateway?.stop());

  async function newLab(t) {
    const lab = await startLab(gateway, slug);
    atEnd(t, () => lab.forget());
    return lab;
  }

  async function listen(t, query, variables, on = gateway) {
    const feed = await on.subscribe(query, variables);
    atEnd(t, () => feed.close());
    return feed;
  }

  // comes waits for so many events and returns them.
  const comes = (feed, count) => feed.until((events) => events.length >= count && events, AbortSignal.timeout(5_000));

  // opens ticks S1, says makes a near miss of S2 and ticks it.
  const opens = (lab) => lab.open("/echo");
  async function says(lab, ws, text) {
    ws.send(text);
    await lab.next(ws);
  }
  const kinds = (events) => events.map(({ __typename, step }) => `${__typename} ${step?.id}`);

  // First, since the public hears of every session.
  test("is told in public without ids and payloads, here and at the brokers", async (t) => {
    const lab = await newLab(t);
    const feeds = {
      all: await listen(t, eventsQuery, {}),
      lesson: await listen(t, eventsQuery, { lesson: slug }),
      mqtt: await listen(t, `subscription { mqttMessages(topic: "lessons/${slug}/events") { topic payload } }`),
      redis: await listen(t, `subscription { redisMessages(channel: "lessons:${slug}") { channel payload } }`),
    };
    const ws = await opens(lab);
    await says(lab, ws, "hello"); // a near miss is nobody else's business
    await says(lab, ws, lab.nonce);
    for (const feed of [feeds.all, feeds.lesson]) {
      const events = await comes(feed, 2);
      assert.deepEqual(kinds(events), ["StepTicked S1", "StepTicked S2"]);
      for (const { en, ja, places, lesson } of events)
        assert.deepEqual({ en, ja, places, lesson }, { en: "", ja: "", places: [], lesson: { slug } });
    }
    const ticks = (await comes(feeds.all, 2)).map(({ at, step }) => ({
      kind: "step-ticked",
      lesson: slug,
      step: step.id,
      at: Date.parse(at),
    }));
    for (const feed of [feeds.mqtt, feeds.redis]) {
      const told = (await comes(feed, 2)).map(({ payload }) => JSON.parse(payload));
      assert.deepEqual(
        told.map(({ at, ...rest }) => ({ ...rest, at: Date.parse(at) })),
        ticks,
      );
    }
    const everything = JSON.stringify(Object.values(feeds).map(({ events }) => events));
    for (const secret of [lab.id, lab.name, lab.nonce]) assert.ok(!everything.includes(secret), everything);
  });

  test("is the same at two subscribers of a session, and nothing of another", async (t) => {
    const lab = await newLab(t);
    const other = await newLab(t);
    const elsewhere = connect(gateway.addr);
    atEnd(t, () => elsewhere.close());
    const [first, second] = [
      await listen(t, eventsQuery, { session: lab.id }),
      await listen(t, eventsQuery, { session: lab.id }, elsewhere),
    ];
    await opens(other);
    const ws = await opens(lab);
    await says(lab, ws, "hello");
    await comes(first, 2); // near misses are not told in one batch with what comes later
    await says(lab, ws, lab.nonce);
    const events = await comes(first, 3);
    assert.deepEqual(kinds(events), ["StepTicked S1", "NearMiss S2", "StepTicked S2"]);
    assert.deepEqual(await comes(second, 3), events);
    assert.equal(new Set(events.map(({ cursor }) => cursor)).size, 3);
  });

  test("is told to who comes back, once and in order, even when the session has ended", async (t) => {
    const lab = await newLab(t);
    const before = connect(gateway.addr);
    const first = await before.subscribe(eventsQuery, { session: lab.id });
    const ws = await opens(lab);
    const [{ cursor }] = await comes(first, 1);
    await before.close();
    await says(lab, ws, "hello");
    const meanwhile = await listen(t, eventsQuery, { session: lab.id, after: cursor });
    await comes(meanwhile, 1);
    await says(lab, ws, lab.nonce);
    const missed = await comes(meanwhile, 2);
    assert.deepEqual(kinds(missed), ["NearMiss S2", "StepTicked S2"]);

    const back = connect(gateway.addr);
    atEnd(t, () => back.close());
    const late = await listen(t, eventsQuery, { session: lab.id, after: cursor }, back);
    assert.deepEqual(await comes(late, 2), missed);
    await lab.gql(`mutation ($input: SubmitAnswerInput!) { submitAnswer(input: $input) { right } }`, {
      input: { session: lab.id, question: "Q1", choices: ["get"] },
    });
    assert.deepEqual(kinds(await comes(late, 3)).slice(2), ["QuestionAnswered undefined"]);
    assert.deepEqual(await comes(meanwhile, 3), late.events);

    await lab.forget();
    const last = await listen(t, eventsQuery, { session: lab.id, after: cursor });
    assert.deepEqual(await comes(last, 3), late.events);
  });

  test("is nobody's who guesses, or has another session's cursor", async (t) => {
    const [lab, other] = [await newLab(t), await newLab(t)];
    const feed = await listen(t, eventsQuery, { session: lab.id });
    await opens(lab);
    const [{ cursor }] = await comes(feed, 1);
    await assert.rejects(gateway.subscribe(eventsQuery, { session: other.id, after: cursor }), /cursor/i);
    const byName = await listen(t, eventsQuery, { session: lab.name });
    const ws = await opens(lab);
    await says(lab, ws, lab.nonce);
    await comes(feed, 2);
    assert.deepEqual(byName.events, []);
  });
});
