// What a page sees of the lessons' servers: close events, floats, EventSource.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { chromium } from "playwright-core";
import { start } from "../course/server.mjs";

const executablePath = process.env.CHROMIUM || "/usr/bin/chromium";
const absent = existsSync(executablePath) ? false : `not installed here: ${executablePath}`;
if (absent && process.env.REQUIRE_BROKERS === "1") throw new Error(`REQUIRE_BROKERS=1, but ${absent}`);

describe("the lessons' servers", { skip: absent, timeout: 120_000 }, () => {
  let course, browser, page;
  before(async () => {
    course = await start();
    browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
    page = await browser.newPage();
    await page.goto(`http://${course.addr}/`);
  });
  after(async () => {
    await browser?.close();
    await course?.stop();
  });

  // life opens a socket and tells its events until it is closed.
  const life = (path, protocols = []) =>
    page.evaluate(
      ([path, protocols]) =>
        new Promise((resolve) => {
          const events = [];
          const socket = new WebSocket(`ws://${location.host}${path}`, protocols);
          for (const type of ["open", "message", "error"]) socket.addEventListener(type, () => events.push(type));
          socket.addEventListener("close", ({ code, reason, wasClean }) =>
            resolve({ events, code, reason, wasClean, readyState: socket.readyState }),
          );
        }),
      [path, protocols],
    );

  for (const [name, path, want] of [
    [
      "1001 is clean",
      "/going-away",
      { events: ["open", "message"], code: 1001, reason: "the server goes away", wasClean: true },
    ],
    [
      "1008 is clean",
      "/banned",
      { events: ["open"], code: 1008, reason: "you may not be here, now or later", wasClean: true },
    ],
    [
      "1013 is clean",
      "/busy",
      { events: ["open"], code: 1013, reason: "too much to do: come back in two seconds", wasClean: true },
    ],
    // Some browsers tell an error first; Chromium does not, once a socket was open.
    ["a cut is 1006 and not clean", "/cut", { events: ["open", "message"], code: 1006, reason: "", wasClean: false }],
    [
      "a refused handshake is 1006, and nothing more is told",
      "/via/broken",
      { events: ["error"], code: 1006, reason: "", wasClean: false },
    ],
  ]) {
    test(name, async () => assert.deepEqual(await life(path), { ...want, readyState: 3 }));
  }

  test("the browser itself gives up when none of the subprotocols that it offered is chosen", async () => {
    assert.deepEqual(await life("/chat", ["chat.v2"]), {
      events: ["error"],
      code: 1006,
      reason: "",
      wasClean: false,
      readyState: 3,
    });
  });

  test("a float of eight bytes is read by DataView", async () => {
    const answer = await page.evaluate(
      () =>
        new Promise((resolve) => {
          const socket = new WebSocket(`ws://${location.host}/number`);
          socket.binaryType = "arraybuffer";
          socket.onmessage = ({ data }) => {
            if (typeof data === "string") resolve(JSON.parse(data));
            else socket.send(String(new DataView(data).getFloat64(0)));
          };
        }),
    );
    assert.deepEqual(answer, { type: "right", number: Number(course.vars.float) });
  });

  test("an upload of 16 chunks", async () => {
    const { stored, text } = await page.evaluate(
      () =>
        new Promise((resolve) => {
          const text = "Sluice さくら ".repeat(16_000);
          const file = new TextEncoder().encode(text).subarray(0, 16 * 16_384);
          const socket = new WebSocket(`ws://${location.host}/upload`);
          let sent = 0;
          const sendNext = () => {
            if (sent === 16) return;
            const data = file.subarray(sent * 16_384, ++sent * 16_384);
            const header = new DataView(new ArrayBuffer(8));
            header.setUint32(0, sent);
            header.setUint32(4, 16);
            socket.send(new Blob([header, data]));
          };
          socket.onopen = () => [1, 2, 3, 4].forEach(sendNext);
          socket.onmessage = ({ data }) => {
            const message = JSON.parse(data);
            if (message.type === "ack") sendNext();
            else resolve({ stored: message, text });
          };
        }),
    );
    const file = Buffer.from(text).subarray(0, 16 * 16_384);
    assert.equal(stored.sha256, createHash("sha256").update(file).digest("hex"));
    assert.ok(stored.inFlight <= 65_536, JSON.stringify(stored));
  });

  test("an EventSource hears the feed that a WebSocket hears, and resumes by itself", async () => {
    const { ids, same, resumed } = await page.evaluate(
      () =>
        new Promise((resolve) => {
          const heard = { socket: [], source: [] };
          const ids = [];
          const socket = new WebSocket(`ws://${location.host}/compare?every=200ms&after=0`);
          const source = new EventSource("/compare/events?every=200ms&after=0");
          const check = async () => {
            if (heard.source.length < 3 || heard.socket.length < 3) return;
            source.close();
            socket.close();
            const back = await fetch("/compare/events?every=200ms&after=0", { headers: { "Last-Event-ID": ids[1] } });
            const { value } = await back.body.getReader().read();
            const same = heard.source.slice(0, 3).join() === heard.socket.slice(0, 3).join();
            resolve({ ids, same, resumed: new TextDecoder().decode(value) });
          };
          socket.onmessage = ({ data }) => (heard.socket.push(data), check());
          source.onmessage = ({ data, lastEventId }) => (heard.source.push(data), ids.push(lastEventId), check());
        }),
    );
    assert.deepEqual(ids.slice(0, 3), ["1", "2", "3"]);
    assert.ok(same, "both hear the same");
    assert.match(resumed, /^id: 3\n/);
  });
});
