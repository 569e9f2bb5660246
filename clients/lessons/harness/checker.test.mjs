// The checker sees what is broken, and who cheats: lessons and clients with one
// thing wrong each, against the real gateway.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { check, eventsQuery } from "./checker.mjs";
import { courseOf } from "./course.mjs";
import { startGateway } from "./gateway.mjs";
import { startLab } from "./lab.mjs";

const slug = "what-is-websocket";
const course = courseOf();
const honest = await course.runs(slug);
const run = (name) => honest.find((one) => one.name === name);
const plus = (...runs) => [...honest, ...runs];
const opens = (lab) => lab.open("/echo");

describe("the checker", { timeout: 240_000 }, () => {
  let gateway;
  before(async () => (gateway = await startGateway()));
  after(() => gateway?.stop());

  // faultsOf checks the model lesson with one thing changed.
  async function faultsOf({ lesson = (one) => one, lessons = (all) => all, ...client }) {
    const runs = "runs" in client ? client.runs : honest;
    const spoiled = {
      ...gateway,
      async gql(...asked) {
        const data = await gateway.gql(...asked);
        data.lessons?.nodes.filter((one) => one.slug === slug).forEach(lesson);
        if (data.lessons) data.lessons.nodes = lessons(data.lessons.nodes);
        return data;
      },
    };
    const fake = { ...course, runs: async () => runs };
    const report = await check(spoiled, fake, { only: [slug], patience: 6_000, limit: 10_000 });
    return [...report.faults, ...report.lessons.flatMap(({ faults }) => faults)];
  }

  test("finds nothing wrong with the model", async () => {
    assert.deepEqual(await faultsOf({}), []);
  });

  describe("sees a client that", { concurrency: 8 }, () => {
    const plainGet = run("s1-plain-get");
    for (const [what, runs, want] of [
      ["is not there", undefined, "there is no client clients/lessons/what-is-websocket.mjs"],
      ["leaves out a step", honest.filter(({ ticks }) => !ticks?.includes("S3")), "S3: no run ticks it"],
      ["has no near miss", honest.filter(({ misses }) => misses?.step !== "S1"), "S1: no run nearly does it"],
      [
        "names a step that there is not",
        plus({ name: "s9", ticks: ["S9"], play: opens }),
        "s9: the lesson has no step S9",
      ],
      ["has two runs of a name", plus(honest[0]), "s1-opens: there are two runs of that name"],
      ["claims nothing", plus({ name: "idle", play: opens }), "idle: it says neither what it ticks nor what it misses"],
      ["ticks nothing", plus({ name: "idle", ticks: ["S1"], async play() {} }), "idle: not ticked: S1"],
      [
        "nearly ticks",
        plus({ name: "get", ticks: ["S1"], play: plainGet.play }),
        /^get: not ticked: S1; nearest came: That was a plain GET, answered 400/,
      ],
      [
        "claims a tick of another session",
        plus({
          name: "elsewhere",
          ticks: ["S1"],
          async play(lab) {
            const other = await startLab(gateway, slug);
            const feed = await gateway.subscribe(eventsQuery, { session: other.id });
            await other.open("/echo");
            await feed.until((events) => events.some(({ __typename }) => __typename === "StepTicked"));
            feed.close();
            await other.forget();
            await lab.answer("S1", "value", true);
          },
        }),
        "elsewhere: not ticked: S1",
      ],
      [
        "ticks more than it says",
        plus({ name: "word", ticks: ["S2"], play: run("s2-word").play }),
        "word: ticked, too, which the run does not say: S1",
      ],
      [
        "does what it should nearly do",
        plus({
          ...run("s2-binary"),
          name: "both",
          async play(lab) {
            await run("s2-binary").play(lab);
            await lab.sleep(300); // near misses are told four times a second
            await run("s2-word").play(lab);
          },
        }),
        "both: S2 was ticked, but should only nearly be done",
      ],
      [
        "knows another sentence",
        plus({ ...plainGet, name: "wrong", misses: { ...plainGet.misses, ja: "違います。" } }),
        /^wrong: S1: no near miss with this sentence:\n.*\n.*told in en: {3}That was a plain GET.*\n {2}wanted in ja: 違います。\n {2}told in ja: {3}これは普通のGETで/,
      ],
      [
        "has no sentence in a language",
        plus({ name: "mute", misses: { step: "S1", en: "No." }, async play() {} }),
        "mute: the near miss of S1 has no sentence in ja",
      ],
      ["throws", plus({ name: "broken", ticks: ["S1"], play: (lab) => lab.open("/nowhere") }), /^broken: .*404/],
      [
        "does not end",
        plus({ name: "endless", ticks: ["S1"], play: async (lab) => lab.next(await lab.open("/echo")) }),
        "endless: it took longer than 10 s",
      ],
      [
        "waits on a connection that is gone",
        plus({
          name: "gone",
          ticks: ["S1"],
          async play(lab) {
            const ws = await lab.open("/echo");
            ws.terminate();
            await lab.next(ws);
          },
        }),
        "gone: the connection closed with 1006 before a message came",
      ],
    ]) {
      test(what, async () => {
        const faults = await faultsOf({ runs });
        assert.ok(
          faults.some((fault) => (want instanceof RegExp ? want.test(fault) : fault === want)),
          `wanted ${want}, got:\n${faults.join("\n")}`,
        );
      });
    }

    test("does a step only where nothing was done before", async () => {
      const states = `query ($id: ID!) { labSession(id: $id) { steps { ticked } } }`;
      const shy = {
        ...run("s3-second-later"),
        async play(lab) {
          const { steps } = (await lab.gql(states, { id: lab.id })).labSession;
          if (!steps.some(({ ticked }) => ticked)) await run("s3-second-later").play(lab);
        },
      };
      const runs = honest.map((one) => (one.name === shy.name ? shy : one));
      assert.deepEqual(await faultsOf({ runs }), ["the whole lesson: s3-second-later: not ticked: S3"]);
    });
  });

  describe("sees a lesson", { concurrency: 8 }, () => {
    for (const [what, changed, want] of [
      ["without a title", { lesson: (one) => (one.jaTitle = "") }, ["the title is missing in ja"]],
      ["without text", { lesson: (one) => (one.enHtml = " ") }, ["the text is missing in en"]],
      ["whose Japanese is English", { lesson: (one) => (one.jaHtml = one.enHtml) }, ["the text in ja is not Japanese"]],
      ["without hints", { lesson: (one) => (one.steps[1].jaHints = []) }, ["S2: a hint is missing in ja"]],
      ["with half a prompt", { lesson: (one) => (one.questions[0].en = "") }, ["Q1: the prompt is missing in en"]],
      [
        "with half a choice",
        { lesson: (one) => (one.questions[0].choices[1].ja = "") },
        ["Q1: choice get is missing in ja"],
      ],
      [
        "with half a unit",
        { lesson: (one) => (one.questions[0].enUnit = "%") },
        ["Q1: the unit is missing in a language"],
      ],
      [
        "that has lost a question",
        { lesson: (one) => one.questions.pop() },
        ["the gateway has the questions Q1, Q2, Q3, lesson.json has Q1, Q2, Q3, Q4"],
      ],
      [
        "that the gateway has not",
        { lessons: (all) => all.filter((one) => one.slug !== slug) },
        [`${slug} is on disk, but not in the gateway: build it`, `${slug}: the gateway has no such lesson`],
      ],
    ]) {
      test(what, async () => assert.deepEqual(await faultsOf(changed), want));
    }
  });

  // The gateway's answers, one of them changed.
  describe("sees a quiz that", { concurrency: 8 }, () => {
    for (const [what, change, want] of [
      ["finds everything right", (said) => (said.right = true), /^Q1, choice frame: it is said to be right$/],
      ["finds everything wrong", (said) => (said.right = false), /^Q1, the right answer: it is said to be wrong$/],
      [
        "has a reason in one language",
        (said) => said.reasons.forEach((r) => (r.ja = "")),
        /^Q1, choice frame: it is not told why in both languages/,
      ],
      ["does not say why", (said) => (said.reasons = []), /^Q3, choice order: it is not told why in both languages/],
      [
        "explains another answer",
        (said) => (said.en = "Because."),
        /^Q1, the right answer: it is not told why in both languages/,
      ],
    ]) {
      test(what, async () => {
        const lying = {
          ...gateway,
          async gql(...asked) {
            const data = await gateway.gql(...asked);
            if (data.submitAnswer) change(data.submitAnswer);
            return data;
          },
        };
        const { lessons } = await check(lying, course, { only: [slug] });
        assert.ok(
          lessons[0].faults.some((fault) => want.test(fault)),
          lessons[0].faults.join("\n"),
        );
        assert.ok(lessons[0].answers.passed < lessons[0].answers.of);
      });
    }
  });

  // A gateway that tells something else than what was.
  describe("sees a gateway that", { concurrency: 8 }, () => {
    const lies = (change) => ({
      ...gateway,
      async subscribe(...asked) {
        const feed = await gateway.subscribe(...asked);
        const add = feed.add.bind(feed);
        feed.add = (event) => change(event, add);
        return feed;
      },
    });
    for (const [what, change, want] of [
      [
        "ticks twice",
        (event, add) => (add(event), event.__typename === "StepTicked" && add(event)),
        /^s1-opens: S1 was told as ticked twice$/,
      ],
      [
        "does not say why it ticks",
        (event, add) => add(event.__typename === "StepTicked" ? { ...event, ja: "" } : event),
        /^s1-opens: the tick of S1 does not say why in both languages$/,
      ],
      [
        "tells no completion",
        (event, add) => event.__typename !== "LessonCompleted" && add(event),
        /^the whole lesson: LessonCompleted was not told$/,
      ],
      [
        "tells of completion too soon",
        (event, add) => (add(event), event.__typename === "StepTicked" && add({ __typename: "LessonCompleted" })),
        /^the whole lesson: LessonCompleted was told before all was done$/,
      ],
      [
        "swaps right and wrong",
        (event, add) => add({ ...event, right: !event.right }),
        /^the quiz: answer 1 was told as Q1 false, and was Q1 true$/,
      ],
    ]) {
      test(what, async () => {
        const { lessons } = await check(lies(change), course, { only: [slug], patience: 3_000 });
        assert.ok(
          lessons[0].faults.some((fault) => want.test(fault)),
          lessons[0].faults.join("\n"),
        );
      });
    }
  });

  test("counts runs and ends with a status", async (t) => {
    const clients = mkdtempSync(join(tmpdir(), "sluice-lesson-clients-"));
    t.after(() => rmSync(clients, { recursive: true }));
    const command = (...args) =>
      new Promise((resolved) => {
        const path = fileURLToPath(new URL("../check.mjs", import.meta.url));
        execFile(process.execPath, [path, "--gateway", gateway.addr, ...args, slug], (error, out) =>
          resolved({ status: error?.code ?? 0, out }),
        );
      });

    const good = await command("--json");
    assert.equal(good.status, 0, good.out);
    const report = JSON.parse(good.out);
    assert.equal(report.passed, true);
    const { references, nearMisses, answers, ...rest } = report.lessons[0];
    assert.deepEqual(rest, { slug, steps: 3, questions: 4, languages: ["en", "ja"], completed: true, faults: [] });
    const misses = honest.filter((run) => run.misses).length;
    assert.deepEqual(references, { passed: honest.length - misses, of: honest.length - misses });
    assert.deepEqual(nearMisses, { passed: misses, of: misses });
    assert.equal(answers.passed, answers.of);

    const none = await command("--clients", clients);
    assert.equal(none.status, 1);
    assert.match(none.out, /^what-is-websocket +3 +4 +en ja +0\/0 +0\/0 +\d+\/\d+ +no$/m);
    assert.match(none.out, /^✗ what-is-websocket: there is no client clients\/lessons\/what-is-websocket\.mjs$/m);

    cpSync(fileURLToPath(new URL(`../${slug}.mjs`, import.meta.url)), join(clients, `${slug}.mjs`));
    assert.equal((await command("--clients", clients)).status, 0);
    writeFileSync(join(clients, `${slug}.mjs`), "export const runs = [");
    const torn = await command("--clients", clients);
    assert.equal(torn.status, 1);
    assert.match(torn.out, /^✗ what-is-websocket: the client cannot be loaded: /m);
  });
});
