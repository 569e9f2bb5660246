import assert from "node:assert/strict";
import { test } from "node:test";
import { connectWithFallback, NoServiceError } from "./connectWithFallback.js";
import { publicServices } from "./publicServices.js";

const services = ["a", "b", "c"].map((name) => ({ name, url: `wss://${name}.example/` }));

// world is a fake network and a fake clock. What a server does is a function of
// its socket; it is called when the socket is made.
function world(t, servers) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let time = 0;
  const sockets = [];
  class FakeWebSocket {
    constructor(url) {
      if (servers[url[6]] === "forbidden") throw new SyntaxError("not allowed");
      Object.assign(this, { url, state: "connecting", onopen: null, onerror: null, onclose: null });
      sockets.push(this);
      servers[url[6]]?.(this);
    }
    opens() {
      this.state = "open";
      this.onopen?.({});
    }
    fails(code = 1006) {
      this.state = "closed";
      this.onerror?.({});
      this.onclose?.({ code });
    }
    // A real socket that is closed while it connects ends with an error and 1006.
    close() {
      this.state = "closed";
    }
  }
  const told = [];
  return {
    sockets,
    told,
    options: {
      WebSocket: FakeWebSocket,
      now: () => time,
      onTry: ({ service, outcome, milliseconds, code }) => told.push([service.name, outcome, milliseconds, code]),
    },
    async pass(milliseconds) {
      await new Promise(setImmediate);
      time += milliseconds;
      t.mock.timers.tick(milliseconds);
      await new Promise(setImmediate);
    },
  };
}

const opens = (socket) => queueMicrotask(() => socket.opens());
const refuses = (socket) => queueMicrotask(() => socket.fails());
const hangs = () => {};

test("the first service that answers is used, and no other is asked", async (t) => {
  const w = world(t, { a: opens, b: opens, c: opens });
  const { socket, service, tries } = await connectWithFallback(services, w.options);
  assert.equal(service, services[0]);
  assert.equal(socket, w.sockets[0]);
  assert.equal(w.sockets.length, 1);
  assert.deepEqual([socket.onopen, socket.onerror, socket.onclose, socket.state], [null, null, null, "open"]);
  assert.deepEqual(tries, [{ service: services[0], outcome: "open", milliseconds: 0, code: null }]);
  assert.deepEqual(w.told, [
    ["a", "connecting", 0, null],
    ["a", "open", 0, null],
  ]);
  await w.pass(60_000);
  assert.equal(socket.state, "open", "a timer was left running");
});

test("every service is tried once, from the chosen one on and round", async (t) => {
  const w = world(t, { a: refuses, b: (socket) => queueMicrotask(() => socket.fails(4000)), c: refuses });
  const error = await connectWithFallback(services, { ...w.options, first: "b" }).catch((error) => error);
  assert.ok(error instanceof NoServiceError);
  assert.deepEqual(
    error.tries.map(({ service, outcome, code }) => [service.name, outcome, code]),
    [
      ["b", "refused", 4000],
      ["c", "refused", 1006],
      ["a", "refused", 1006],
    ],
  );
  assert.equal(w.sockets.length, 3);
});

test("a service that hangs has ten seconds", async (t) => {
  const w = world(t, { a: opens, b: opens, c: hangs });
  const connected = connectWithFallback(services, { ...w.options, first: "c" });
  await w.pass(9_999);
  assert.equal(w.sockets.length, 1);
  await w.pass(1);
  const { service, tries } = await connected;
  assert.equal(service.name, "a");
  assert.deepEqual(tries[0], { service: services[2], outcome: "timeout", milliseconds: 10_000, code: null });
  assert.equal(w.sockets[0].state, "closed");
});

test("a socket that opens after its time is closed", async (t) => {
  const w = world(t, { a: hangs, b: hangs, c: hangs });
  const connected = connectWithFallback(services, w.options).catch((error) => error);
  for (let i = 0; i < 3; i++) await w.pass(10_000);
  const { tries } = await connected;
  assert.deepEqual(
    tries.map(({ outcome }) => outcome),
    ["timeout", "timeout", "timeout"],
  );
  for (const socket of w.sockets) {
    socket.opens();
    assert.equal(socket.state, "closed");
    socket.fails(); // which nobody minds any more
  }
  assert.equal(w.told.length, 6);
});

test("each try has a timer of its own, which ends with it", async (t) => {
  const w = world(t, { a: (socket) => setTimeout(() => socket.fails(), 9_000), b: hangs, c: opens });
  const connected = connectWithFallback(services, w.options);
  await w.pass(9_000); // a has failed: its timer would go off in a second
  await w.pass(9_999);
  assert.equal(w.sockets.length, 2, "the timer of the first try ended the second");
  await w.pass(1);
  const { tries } = await connected;
  assert.deepEqual(
    tries.map(({ outcome, milliseconds }) => [outcome, milliseconds]),
    [
      ["refused", 9_000],
      ["timeout", 10_000],
      ["open", 0],
    ],
  );
});

test("an address that may not be used is refused, and the next one tried", async (t) => {
  const w = world(t, { a: "forbidden", b: opens });
  const { tries } = await connectWithFallback(services, w.options);
  assert.deepEqual(
    tries.map(({ outcome, code }) => [outcome, code]),
    [
      ["refused", null],
      ["open", null],
    ],
  );
});

test("the signal ends the try that runs, and no other begins", async (t) => {
  const w = world(t, { a: refuses, b: hangs, c: opens });
  const stop = new AbortController();
  const connected = connectWithFallback(services, { ...w.options, signal: stop.signal });
  await w.pass(300);
  stop.abort(new Error("the learner went away"));
  await assert.rejects(connected, /the learner went away/);
  assert.deepEqual(w.told.at(-1), ["b", "aborted", 300, null]);
  assert.deepEqual([w.sockets.length, w.sockets[1].state], [2, "closed"]);
  w.sockets[1].opens();
  assert.equal(w.sockets[1].state, "closed");
});

test("a signal that came before means that nothing is tried", async (t) => {
  const w = world(t, { a: opens });
  await assert.rejects(connectWithFallback(services, { ...w.options, signal: AbortSignal.abort() }), {
    name: "AbortError",
  });
  assert.equal(w.sockets.length, 0);
});

test("a signal that comes afterwards changes nothing", async (t) => {
  const w = world(t, { a: opens });
  const stop = new AbortController();
  const { socket } = await connectWithFallback(services, { ...w.options, signal: stop.signal });
  stop.abort();
  assert.equal(socket.state, "open");
});

test("a listener that throws leaves no socket behind", async (t) => {
  const w = world(t, { a: opens });
  const onTry = ({ outcome }) => {
    if (outcome === "open") throw new Error("oops");
  };
  await assert.rejects(connectWithFallback(services, { ...w.options, onTry }), /oops/);
  assert.equal(w.sockets[0].state, "closed");
});

test("a name that is not in the list is an error", async () => {
  await assert.rejects(connectWithFallback(services, { first: "d" }), RangeError);
  await assert.rejects(connectWithFallback([], {}), NoServiceError);
});

test("the list of public services is one that can be tried", async (t) => {
  const w = world(t, {});
  const connected = connectWithFallback(publicServices, { ...w.options, first: "SocketsBay Demo" }).catch(
    (error) => error,
  );
  for (let i = 0; i < 3; i++) await w.pass(10_000);
  const { tries } = await connected;
  assert.deepEqual(
    tries.map(({ service }) => service.name),
    ["SocketsBay Demo", "Echo WebSocket", "Postman Echo"],
  );
});
