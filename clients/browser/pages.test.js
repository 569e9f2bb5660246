import assert from "node:assert/strict";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Env, missing, screenshots, until } from "./env.js";

const absent = missing();
if (absent && process.env.REQUIRE_BROKERS === "1") throw new Error(`REQUIRE_BROKERS=1, but missing: ${absent}`);

describe("pages", { skip: absent ? `not installed here: ${absent}` : false, timeout: 240_000 }, () => {
  const env = new Env();
  const open = [];
  before(() => env.start());
  after(() => env.stop());
  afterEach(async () => {
    for (const { page } of open.splice(0)) await page.context().close();
  });

  async function visit(path, options) {
    const visited = await env.open(path, options);
    open.push(visited);
    return visited;
  }

  function assertClean({ foreign, errors }) {
    assert.deepEqual(foreign, [], "requests to other hosts");
    assert.deepEqual(errors, [], "errors in the console");
  }

  const shot = (page, name) => page.screenshot({ path: join(screenshots, `${name}.png`) });

  // A broker does not tell when a subscription of somebody else is in place, so
  // the same payload is published until the page shows it.
  function appears(page, payload, publish) {
    return until(`"${payload}" appears on the page`, async () => {
      publish(payload);
      return (await text(page)).includes(payload);
    });
  }

  // What can be read on the page. Monaco writes its spaces as no-break spaces.
  const text = async (page) => (await page.locator("body").innerText()).replaceAll("\u00a0", " ");

  // GraphiQL takes a moment to load its editor, and shows the tabs before it.
  async function openTab(page, ide, name) {
    await until("the first example is shown", async () => (await text(page)).includes("subscription LessonEvents"));
    if (name === "LessonEvents") return;
    await ide.tab(page, name).click();
    await until(`tab ${name} is shown`, async () => (await text(page)).includes(`subscription ${name}`));
  }

  // echoed sends a message to an echo server, from a page of its own, and waits
  // for it to come back.
  async function echoed(url, message) {
    const page = await env.browser.newPage();
    open.push({ page });
    await page.goto(`http://${env.addr}/healthz`);
    const echo = await page.evaluate(
      ([url, message]) =>
        new Promise((resolve, reject) => {
          const socket = new WebSocket(url);
          socket.onopen = () => socket.send(message);
          socket.onmessage = ({ data }) => resolve(data);
          socket.onerror = () => reject(new Error(`no connection to ${url}`));
        }),
      [url, message],
    );
    assert.equal(echo, message);
  }

  const eventsIn = (watch, type) => watch.received.filter((message) => message.type === type).length;

  for (const ide of [
    {
      name: "GraphiQL",
      path: "/graphiql",
      starts: "subscribe", // graphql-transport-ws
      event: "next",
      tab: (page, name) => page.getByRole("button", { name, exact: true }),
      // The brace stays: a new one would get a second one that closes it.
      async useLab(page, field, session) {
        await page.locator(".graphiql-query-editor .view-line", { hasText: new RegExp(`^\\s*${field}\\(`) }).click();
        for (const key of ["End", "ArrowLeft", "Shift+Home"]) await page.keyboard.press(key);
        await page.keyboard.insertText(`  ${field}(session: "${session}") `);
        await page.keyboard.press("Home");
      },
      // Until it has read the tab's document GraphiQL does not know of a second
      // operation, and runs the first one without offering the choice; and a click
      // before the tab is ready does nothing.
      async run(page, name) {
        const choice = page.getByRole("menuitem", { name, exact: true });
        const taken = choice.or(page.getByRole("button", { name: /^Stop/ })).first();
        await until("the click is taken", async () => {
          await page.locator(".graphiql-execute-button").click();
          return taken.waitFor({ timeout: 3000 }).then(
            () => true,
            () => false,
          );
        });
        if (await choice.isVisible()) await choice.click();
      },
    },
    {
      name: "Playground",
      path: "/playground",
      starts: "start", // the legacy graphql-ws
      event: "data",
      tab: (page, name) => page.getByText(name, { exact: true }).first(),
      useLab: (page, field, session) =>
        page.evaluate(
          ([field, session]) => {
            const editor = document.querySelector(".CodeMirror").CodeMirror;
            const text = editor.getValue();
            editor.setValue(text.replace(new RegExp(`${field}\\(.*\\)`), `${field}(session: "${session}")`));
          },
          [field, session],
        ),
      // The keys run the operation under the cursor, once the page has found out
      // which there are.
      async run(page, name) {
        await page.mouse.move(200, 300);
        await sleep(1000);
        await page.evaluate((name) => {
          const editor = document.querySelector(".CodeMirror").CodeMirror;
          const lines = editor.getValue().split("\n");
          editor.focus();
          editor.setCursor({ line: lines.findIndex((line) => line.includes(` ${name} {`)), ch: 0 });
        }, name);
        await page.keyboard.press("Control+Enter");
      },
    },
  ]) {
    describe(ide.name, () => {
      test("opens with a lesson, starts a lab and shows what its client does", async () => {
        const { page, watch } = await visit(ide.path);
        await openTab(page, ide, "LessonEvents");
        const answer = page.waitForResponse((response) => response.request().postData()?.includes('"StartLab"'));
        await ide.run(page, "StartLab");
        const lab = (await (await answer).json()).data.startLab;
        await until("the lab is shown", async () => (await text(page)).includes(lab.nonce));
        await shot(page, `${ide.name.toLowerCase()}-lab`);

        await ide.useLab(page, "lessonEvents", lab.id);
        await ide.run(page, "LessonEvents");
        await until("it is subscribed", () => watch.sent.some(({ type }) => type === ide.starts));
        const { url } = lab.servers[0];
        await echoed(url, lab.nonce);
        await until("the tick is shown", async () => (await text(page)).includes("One text message with your word"));
        await shot(page, `${ide.name.toLowerCase()}-lesson`);

        await ide.tab(page, "Wire").click();
        await until("tab Wire is shown", async () => (await text(page)).includes("subscription Wire"));
        await ide.useLab(page, "wireEvents", lab.id);
        await ide.run(page, "Wire");
        await until("it is subscribed", () => watch.sent.some(({ payload }) => payload?.query?.includes("wireEvents")));
        await echoed(url, `a frame for ${ide.name}`);
        await until("the echo is shown", async () => (await text(page)).includes(`a frame for ${ide.name}`));
        await shot(page, `${ide.name.toLowerCase()}-wire`);
        assertClean(watch);
      });

      test("has the examples in tabs and shows timeUpdates", async () => {
        const { page, watch } = await visit(ide.path);
        assert.equal(new URL(page.url()).pathname, `${ide.path}/`);
        for (const name of ["LessonEvents", "Clock", "Room", "MQTT", "Redis", "Stream", "Wire"]) {
          await ide.tab(page, name).waitFor();
        }
        await openTab(page, ide, "Clock");
        await ide.run(page, "Clock");
        await until("three events have come", () => eventsIn(watch, ide.event) >= 3);
        assert.match(await text(page), /"timeUpdates": ?"\d{4}-\d\d-\d\dT/);
        assert.ok(
          watch.sent.some((message) => message.type === ide.starts),
          `no ${ide.starts} was sent`,
        );
        await shot(page, `${ide.name.toLowerCase()}-clock`);
        assertClean(watch);
      });

      test("shows what mosquitto_pub publishes", async () => {
        const { page, watch } = await visit(ide.path);
        await openTab(page, ide, "MQTT");
        await ide.run(page, "MQTT");
        await appears(page, `mqtt for ${ide.name}`, (payload) => env.mqttPublish("demo/hello", payload));
        await shot(page, `${ide.name.toLowerCase()}-mqtt`);
        assertClean(watch);
      });

      test("shows what redis-cli publishes", async () => {
        const { page, watch } = await visit(ide.path);
        await openTab(page, ide, "Redis");
        await ide.run(page, "Redis");
        await appears(page, `redis for ${ide.name}`, (payload) => env.redisPublish("demo:hello", payload));
        await shot(page, `${ide.name.toLowerCase()}-redis`);
        assertClean(watch);
      });
    });
  }

  describe("home page", () => {
    const state = (page) => page.locator("#state-text");
    const rows = (page) => page.locator("#frames tr");

    test("shows the messages of its connection, and pauses", async () => {
      const { page, watch } = await visit("/");
      await until("the clock runs", async () => /^\d{4}-/.test(await page.locator("#clock").innerText()));
      assert.equal(await state(page).innerText(), "Connected");
      await until("the list is full", async () => (await rows(page).count()) === 8);
      await sleep(1500);
      assert.equal(await rows(page).count(), 8, "the list grows");
      assert.match(await rows(page).first().innerText(), /received[^]*"type":"next"[^]*\d+ B/);
      await shot(page, "home-light");

      await page.getByRole("button", { name: "Pause" }).press("Enter");
      assert.equal(await state(page).innerText(), "Paused");
      await until("complete is sent", () => watch.sent.some(({ type }) => type === "complete"));
      // An event may have been on its way. While the clock runs nothing stands still that long.
      await until("it stands still", async () => {
        const paused = await page.locator("#frames").innerText();
        await sleep(2500);
        return (await page.locator("#frames").innerText()) === paused;
      });

      const before = eventsIn(watch, "next");
      await page.getByRole("button", { name: "Resume" }).press("Enter");
      await until("events come again", () => eventsIn(watch, "next") > before + 1);
      assert.equal(await state(page).innerText(), "Connected");
      assertClean(watch);
    });

    test("has commands to copy", async () => {
      const { page, watch } = await visit("/");
      const shown = await text(page);
      // Where brokers of one's own are is not told to every visitor.
      for (const command of [
        "mosquitto_pub -h YOUR_MQTT_HOST -p 1883",
        "redis-cli -h YOUR_REDIS_HOST -p 6379",
        `curl http://${env.addr}/graphql`,
      ]) {
        assert.ok(shown.includes(command), `no ${command}`);
      }
      await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
      await page.getByRole("button", { name: "Copy the mosquitto_pub command" }).click();
      const announced = page.locator("#announce");
      await until("it says so", async () => (await announced.textContent()) === "Copied");
      const copied = await page.evaluate(() => navigator.clipboard.readText());
      assert.match(copied, /^mosquitto_pub -h YOUR_MQTT_HOST -p 1883 \\\n {2}-t demo\/hello -m hi$/);
      assertClean(watch);
    });

    for (const colorScheme of ["light", "dark"]) {
      for (const width of [320, 360, 768]) {
        test(`fits ${width} pixels, ${colorScheme}`, async () => {
          const { page, watch } = await visit("/", { colorScheme, viewport: { width, height: 740 } });
          await until("the clock runs", async () => /^\d{4}-/.test(await page.locator("#clock").innerText()));
          assert.ok(
            await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth),
            "it scrolls sideways",
          );
          await shot(page, `home-${colorScheme}-${width}`);
          assertClean(watch);
        });
      }
    }

    // The last one: it takes the gateway away.
    test("says when the gateway is away, and comes back", async () => {
      const { page, watch } = await visit("/");
      await until("it is connected", async () => (await state(page).innerText()) === "Connected");
      const addr = env.addr;
      await env.stopGateway();
      await until("it says so", async () => (await state(page).innerText()) === "Not connected");
      // The page tries by itself, too: what follows has to be done before it does.
      await until("it counts down", async () => /Next try in [78] s/.test(await page.locator("#away-text").innerText()));
      assert.ok(await page.getByRole("button", { name: "Pause" }).isDisabled());
      await shot(page, "home-away");
      await env.startGateway(addr);
      await page.getByRole("button", { name: "Try now" }).click();
      await until("it is connected again", async () => (await state(page).innerText()) === "Connected");
      assert.equal(await page.locator("#away").isVisible(), false);
      assert.deepEqual(watch.foreign, [], "requests to other hosts");
    });
  });
});
