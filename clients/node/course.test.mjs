// The servers of the lessons through ws, another implementation than the servers' own.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import WebSocket from "ws";
import { start } from "../course/server.mjs";
import { atEnd, until, within } from "./harness.mjs";
import { request, upgrade } from "./raw.mjs";

describe("the lessons' servers", { timeout: 60_000 }, () => {
  let course;
  before(async () => (course = await start()));
  after(() => course.stop());

  // open opens a socket that remembers what it hears.
  async function open(t, path, protocols, options) {
    const ws = new WebSocket(`ws://${course.addr}${path}`, protocols, options);
    const heard = { ws, messages: [], pings: [] };
    ws.on("message", (data, binary) => heard.messages.push(binary ? data : String(data)));
    ws.on("ping", (data) => heard.pings.push(String(data)));
    heard.closed = once(ws, "close").then(([code, reason]) => ({ code, reason: String(reason) }));
    ws.on("error", () => {}); // a cut is told by close, too
    atEnd(t, () => ws.terminate());
    heard.next = async () => {
      await until("a message has come", () => heard.messages.length > 0);
      return heard.messages.shift();
    };
    heard.json = async () => JSON.parse(await heard.next());
    await within(5_000, path, once(ws, "open"));
    return heard;
  }

  for (const [path, code, reason] of [
    ["/going-away", 1001, "the server goes away"],
    ["/banned", 1008, "you may not be here, now or later"],
    ["/busy", 1013, "too much to do: come back in two seconds"],
    ["/cut", 1006, ""],
  ]) {
    test(`${path} ends with ${code}`, async (t) => {
      const { closed } = await open(t, path);
      assert.deepEqual(await within(5_000, "the end", closed), { code, reason });
    });
  }

  test("five connections of /unsteady are cut, the sixth stays", async (t) => {
    for (let n = 1; n <= 5; n++) {
      const socket = await open(t, "/unsteady");
      assert.equal((await socket.json()).cut, n);
      assert.equal((await within(5_000, "the cut", socket.closed)).code, 1006);
    }
    assert.equal((await (await open(t, "/unsteady")).json()).stays, true);
  });

  test("/feed goes on behind the event that the client names", async (t) => {
    const first = await open(t, "/feed");
    first.ws.send(JSON.stringify({ type: "start" }));
    assert.equal((await within(5_000, "the cut", first.closed)).code, 1006);
    const last = first.messages.length; // what was on its way is lost with the connection
    const back = await open(t, "/feed");
    back.ws.send(JSON.stringify({ type: "resume", after: last }));
    assert.deepEqual(await back.json(), { type: "event", n: last + 1 });
  });

  test("/number", async (t) => {
    const socket = await open(t, "/number");
    const number = (await socket.next()).readDoubleBE();
    assert.equal(number, Number(course.vars.float));
    socket.ws.send(String(number));
    assert.deepEqual(await socket.json(), { type: "right", number });
  });

  test("/hunt hides three words", async (t) => {
    const socket = await open(t, "/hunt");
    const bytes = await socket.next();
    assert.equal(bytes.subarray(4, 4 + bytes[3]).toString(), course.vars.wordBinary);
    await until("a ping has come", () => socket.pings[0] === course.vars.wordPing);
    socket.ws.send("bye");
    assert.deepEqual(await within(5_000, "the end", socket.closed), { code: 1000, reason: course.vars.wordClose });
  });

  test("/chat speaks chat.v1 to who offers it, and opens without a subprotocol for others", async (t) => {
    const chat = await open(t, "/chat", ["chat.v2", "chat.v1"]);
    assert.equal(chat.ws.protocol, "chat.v1");
    chat.ws.send(JSON.stringify({ type: "dance" }));
    assert.equal((await chat.json()).type, "error");
    chat.ws.send(JSON.stringify({ type: "join", id: "1", room: "lobby", name: "Aki" }));
    assert.deepEqual(await chat.json(), { type: "ack", id: "1" });
    chat.ws.send(JSON.stringify({ type: "bye", id: "2" }));
    assert.deepEqual(await chat.json(), { type: "ack", id: "2" });
    assert.equal((await within(5_000, "the end", chat.closed)).code, 1000);
    // ws fails a connection when it offered and nothing was chosen, so it offers nothing.
    assert.equal((await open(t, "/chat")).ws.protocol, "");
    await assert.rejects(upgrade(`ws://${course.addr}/chat`, ["chat.v2"]), /Server sent no subprotocol/);
  });

  test("/upload acknowledges chunks and tells the sum of the file", async (t) => {
    const socket = await open(t, "/upload");
    const file = Buffer.alloc(16 * 16_384, "Sluice ");
    let acknowledged = 0;
    for (let sent = 0; acknowledged < 16;) {
      for (; sent < 16 && sent - acknowledged < 4; sent++) {
        const header = Buffer.alloc(8);
        header.writeUInt32BE(sent + 1, 0);
        header.writeUInt32BE(16, 4);
        socket.ws.send(Buffer.concat([header, file.subarray(sent * 16_384, (sent + 1) * 16_384)]));
      }
      assert.deepEqual(await socket.json(), { type: "ack", sequence: ++acknowledged, bytes: acknowledged * 16_384 });
    }
    const { sha256, inFlight } = await socket.json();
    assert.equal(sha256, createHash("sha256").update(file).digest("hex"));
    assert.ok(inFlight <= 65_536, `${inFlight} bytes in flight`);
  });

  test("/deflate agrees on permessage-deflate", async (t) => {
    const { ws, next } = await open(t, "/deflate", [], { perMessageDeflate: { threshold: 0 } });
    assert.match(ws.extensions, /^permessage-deflate/);
    ws.send("a".repeat(10_000));
    assert.equal(await next(), "a".repeat(10_000));
  });

  test("/via/good opens, /via/broken is refused by the echo server", async () => {
    assert.equal((await upgrade(`ws://${course.addr}/via/good`)).status, 101);
    const { status, body } = await upgrade(`ws://${course.addr}/via/broken`);
    assert.equal(status, 400);
    assert.match(body, /it lacks \["Upgrade: websocket" "Connection: Upgrade"\]/);
  });

  test("/flood disconnects a client that does not read, and tells what it had for it", async (t) => {
    const { ws, messages, closed } = await open(t, "/flood");
    ws.pause();
    const report = await until(
      "it is over",
      async () => {
        const told = JSON.parse((await request(`http://${course.addr}/flood`)).body);
        return told.made > 0 && told;
      },
      { within: 30_000 },
    );
    assert.equal(report.slow, true);
    assert.ok(report.queued >= 64 && report.dropped > 0, JSON.stringify(report));
    assert.equal(report.made, report.sent + report.queued + report.dropped);
    ws.resume();
    assert.equal((await within(10_000, "the end", closed)).code, 1006);
    assert.ok(messages.length <= report.sent, `${messages.length} messages came`);
  });
});
