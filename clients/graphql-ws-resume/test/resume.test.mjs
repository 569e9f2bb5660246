// What a resumed stream promises besides: how it begins, ends and is refused.
import assert from "node:assert/strict";
import { createClient } from "graphql-ws";
import { once } from "node:events";
import { describe, test } from "node:test";
import { until, within } from "../../node/harness.mjs";
import {
  Numbers,
  Proxy,
  Room,
  connected,
  event,
  notice,
  opening,
  refusal,
  scripted,
  settings,
  startGateway,
} from "./parts.mjs";

const gaps = (sink) => sink.results.map((result) => result.extensions?.sluice?.gap?.reason);
const resumes = (server) => server.heard.map(({ payload }) => payload.extensions.sluice.resume);
const operation = { query: "subscription { messageUpdates { content } }" };

describe("with the gateway", { timeout: 120_000 }, () => {
  const limit = { timeout: 30_000 };

  test("a connection that is lost before the first event loses nothing", limit, async (t) => {
    const gateway = await startGateway(t);
    const room = await Room.open(gateway);
    const proxy = await Proxy.start(t, gateway.addr);
    const client = connected(t, proxy.socket);
    const sink = new Numbers();
    const open = opening(client);
    client.subscribe(room.subscription, sink);
    await open;
    proxy.open = false;
    proxy.cut();
    await room.sendAll(3);
    proxy.open = true;
    await sink.count(3);
    assert.deepEqual(sink.got, [0, 1, 2]);
    assert.ok(
      sink.results.every(({ data }) => data),
      "the notice is not shown",
    );
  });

  test("a cursor that is too old is told, and the stream restarts with all that is left", limit, async (t) => {
    const gateway = await startGateway(t);
    const room = await Room.open(gateway);
    const proxy = await Proxy.start(t, gateway.addr);
    const told = [];
    const client = connected(t, proxy.socket, {
      options: { onLost: (loss) => void told.push(loss), onGap: (gap) => told.push(gap) },
    });
    const sink = new Numbers();
    const open = opening(client);
    client.subscribe(room.subscription, sink);
    await open;
    await room.send();
    await sink.count(1);
    proxy.open = false;
    proxy.cut();
    for (let i = 0; i < 11; i++) await Promise.all(await sendMany(room, 100));
    proxy.open = true;
    await sink.count(1001);
    await room.send();
    await sink.count(1002);
    assert.deepEqual([...new Set(sink.got)].length, 1002, "nothing comes twice");
    assert.equal(sink.got.at(-1), 1101);
    const [loss, gap, ...more] = told;
    assert.equal(loss.code, "CURSOR_TOO_OLD");
    assert.ok(loss.cursor, "it says from where all that is left can be had");
    assert.deepEqual([gap, ...more], [{ reason: "CURSOR_TOO_OLD" }]);
    assert.deepEqual(gaps(sink).slice(0, 3), [undefined, "CURSOR_TOO_OLD", undefined]);
  });

  test("onLost may have the stream fail instead", limit, async (t) => {
    const gateway = await startGateway(t);
    const room = await Room.open(gateway);
    const client = connected(t, gateway.socket, { options: { onLost: () => "fail" } });
    const sink = new Numbers();
    client.subscribe({ ...room.subscription, extensions: { sluice: { resume: "not a cursor" } } }, sink);
    await until("it fails", () => sink.ended);
    assert.equal(sink.ended.error[0].extensions.code, "CURSOR_INVALID");
  });

  test("who unsubscribes while disconnected gets nothing more, and nobody comes back", limit, async (t) => {
    const gateway = await startGateway(t);
    const room = await Room.open(gateway);
    const proxy = await Proxy.start(t, gateway.addr);
    const client = connected(t, proxy.socket);
    const [sink, other] = [new Numbers(), new Numbers()];
    const open = opening(client);
    const unsubscribe = client.subscribe(room.subscription, sink);
    await open;
    await room.send();
    await sink.count(1);
    proxy.open = false;
    const closed = new Promise((resolve) => client.on("closed", resolve));
    proxy.cut();
    await closed;
    unsubscribe();
    await room.send();
    proxy.open = true;
    await until("it has ended", () => sink.ended);
    assert.equal(sink.ended.error, undefined);
    const again = opening(client);
    client.subscribe(room.subscription, other);
    await again;
    await room.send();
    await until("another stream has an event", () => other.got.length > 0);
    assert.deepEqual(sink.got, [0]);
  });

  test("iterate() resumes, too", limit, async (t) => {
    const gateway = await startGateway(t);
    const room = await Room.open(gateway);
    const proxy = await Proxy.start(t, gateway.addr);
    const client = connected(t, proxy.socket);
    const open = opening(client);
    const events = client.iterate(room.subscription);
    await open;
    const got = [];
    await room.sendAll(2);
    for await (const { data } of events) {
      got.push(Number(data.messageUpdates.content));
      if (got.length === 2) {
        proxy.cut();
        await room.sendAll(2);
      }
      if (got.length === 4) break;
    }
    assert.deepEqual(got, [0, 1, 2, 3]);
  });

  test("fields whose events are not kept, queries and mutations are as with graphql-ws alone", limit, async (t) => {
    const gateway = await startGateway(t);
    const proxy = await Proxy.start(t, gateway.addr);
    const client = connected(t, proxy.socket);
    const results = async (query) => {
      const all = [];
      for await (const { data } of client.iterate({ query })) all.push(data);
      return all;
    };
    assert.deepEqual(await results("{ hello }"), [{ hello: "Hello from GraphQL-WS!" }]);
    assert.equal((await results("mutation { createRoom { id } }"))[0].createRoom.id.length, 32);
    assert.deepEqual(
      await results("subscription { countdown(from: 2) }"),
      [2, 1, 0].map((countdown) => ({ countdown })),
    );
    await assert.rejects(results("subscription { failing(after: 0) }"), (errors) => {
      return errors[0].extensions.code === "DEMO_FAILURE";
    });

    const ticks = client.iterate({ query: "subscription { timeUpdates }" });
    await ticks.next();
    proxy.cut();
    await ticks.next();
    await ticks.next();
    await ticks.return();
  });
});

async function sendMany(room, n) {
  return Array.from({ length: n }, () => new Room(room.gateway, room.id)).map((one) => {
    one.sent = room.sent++;
    return one.send();
  });
}

describe("with a server that says what the test wants", { timeout: 60_000 }, () => {
  const limit = { timeout: 10_000 };

  test("the document decides what is resumed; all else goes out as it came in", limit, async (t) => {
    const server = await scripted(t, (_, reply) => reply("complete"));
    const client = connected(t, server.url);
    const extensions = { tracing: 1, sluice: { mine: 2 } };
    const two = "query A { a } subscription B { b }";
    for (const payload of [
      { query: "{ a }", extensions },
      { query: "mutation { subscription }" },
      { query: two, operationName: "A" },
      { query: "not a document" },
      { query: "", extensions: { persisted: "abc" } },
    ]) {
      await client.iterate(payload).next();
      assert.deepEqual(server.heard.at(-1).payload, payload);
    }
    await client.iterate({ query: two, operationName: "B", extensions }).next();
    assert.deepEqual(server.heard.at(-1).payload.extensions, {
      tracing: 1,
      sluice: { mine: 2, ready: true, cursor: true },
    });

    const all = connected(t, server.url, { options: { resumes: () => true } });
    await all.iterate({ query: "", extensions: { persisted: "abc" } }).next();
    assert.deepEqual(server.heard.at(-1).payload.extensions.sluice, { ready: true, cursor: true });
  });

  test("results keep what the server says of them", limit, async (t) => {
    const server = await scripted(t, (_, reply) => {
      reply("next", notice("c0"));
      reply("next", event(0, { cursor: "c1", gap: { reason: "OUTAGE", missed: 2 } }));
    });
    const told = [];
    const client = connected(t, server.url, { options: { onGap: (gap) => told.push(gap) } });
    const { value } = await client.iterate(operation).next();
    assert.deepEqual(value, event(0, { cursor: "c1", gap: { reason: "OUTAGE", missed: 2 } }));
    assert.deepEqual(told, [{ reason: "OUTAGE", missed: 2 }]);
  });

  test("a client that asks for the notice itself gets it", limit, async (t) => {
    const server = await scripted(t, (_, reply) => reply("next", notice("c0")));
    const client = connected(t, server.url);
    const stream = client.iterate({ ...operation, extensions: { sluice: { ready: true } } });
    assert.deepEqual((await stream.next()).value, notice("c0"));
  });

  test("an event that comes again is not handed on again", limit, async (t) => {
    const server = await scripted(t, (_, reply, n, socket) => {
      reply("next", notice(`c${n}`));
      reply("next", event(0, { cursor: "c1" }));
      if (n === 0) return socket.close(1012);
      reply("next", event(1, { cursor: "c2" }));
    });
    const sink = new Numbers();
    connected(t, server.url).subscribe(operation, sink);
    await sink.count(2);
    assert.deepEqual(sink.got, [0, 1]);
    assert.deepEqual(resumes(server), [undefined, "c1"]);
  });

  test("after terminate() nothing that the old socket still brings is handed on", limit, async (t) => {
    let old;
    const server = await scripted(t, (_, reply, n, socket) => {
      reply("next", notice("c0"));
      if (n === 0) {
        socket.pause(); // it does not hear that it is closed
        old = { socket, reply };
      } else {
        [1, 2, 3].forEach((number) => reply("next", event(number, { cursor: `c${number}` })));
      }
    });
    const client = connected(t, server.url);
    const sockets = [];
    client.on("connected", (socket) => sockets.push(socket));
    const open = opening(client);
    const sink = new Numbers();
    client.subscribe(operation, sink);
    await open;
    const closed = once(sockets[0], "close");
    client.terminate();
    await sink.count(3);
    [1, 2].forEach((number) => old.reply("next", event(number, { cursor: `c${number}` })));
    old.socket.resume();
    await closed;
    assert.deepEqual(sink.got, [1, 2, 3]);
  });

  test("a log that is away is asked again, from the same place", limit, async (t) => {
    const server = await scripted(t, (_, reply, n) => {
      if (n === 0) {
        reply("next", notice("c0"));
        reply("next", event(0, { cursor: "c1" }));
        return reply("error", refusal("LOG_UNAVAILABLE"));
      }
      if (n < 4) return reply("error", refusal("LOG_UNAVAILABLE"));
      reply("next", notice("c1"));
      reply("next", event(1, { cursor: "c2" }));
    });
    const waits = [];
    const retryWait = async (retries) => void waits.push(retries);
    const sink = new Numbers();
    connected(t, server.url, { options: { retryWait } }).subscribe(operation, sink);
    await sink.count(2);
    assert.deepEqual(resumes(server), [undefined, "c1", "c1", "c1", "c1"]);
    assert.deepEqual(waits, [0, 1, 2, 3]);
    assert.deepEqual(gaps(sink), [undefined, undefined]);
  });

  test("who unsubscribes or disposes of the client while the log is away is not waited for", limit, async (t) => {
    for (const leave of [(unsubscribe) => unsubscribe(), (_, client) => client.dispose()]) {
      const server = await scripted(t, (_, reply) => {
        reply("next", notice("c0"));
        reply("error", refusal("LOG_UNAVAILABLE"));
      });
      let goOn;
      const waiting = new Promise((resolve) => (goOn = resolve));
      let waits = false;
      const retryWait = () => ((waits = true), waiting);
      const client = connected(t, server.url, { options: { retryWait } });
      const sink = new Numbers();
      const unsubscribe = client.subscribe(operation, sink);
      await until("it waits", () => waits);
      leave(unsubscribe, client);
      assert.deepEqual(sink.ended, {});
      goOn();
      await waiting;
      unsubscribe();
      assert.equal(server.heard.length, 1);
    }
  });

  test("an error with which retryWait gives up goes to the sink", limit, async (t) => {
    const server = await scripted(t, (_, reply) => {
      reply("next", notice("c0"));
      reply("error", refusal("LOG_UNAVAILABLE"));
    });
    const retryWait = () => Promise.reject(new Error("enough"));
    await assert.rejects(connected(t, server.url, { options: { retryWait } }).iterate(operation).next(), /enough/);
  });

  test("without a cursor a refusal is the answer, as with graphql-ws alone", limit, async (t) => {
    for (const code of ["LOG_UNAVAILABLE", "CURSOR_TOO_OLD", "CURSOR_INVALID", "ROOM_INVALID"]) {
      const server = await scripted(t, (_, reply) => reply("error", refusal(code)));
      await assert.rejects(
        connected(t, server.url).iterate(operation).next(),
        (errors) => errors[0].extensions.code === code,
      );
    }
  });

  for (const code of ["CURSOR_TOO_OLD", "CURSOR_INVALID", "RESUME_UNSUPPORTED"]) {
    test(`${code} without a cursor: it restarts with what is yet to come`, limit, async (t) => {
      const server = await scripted(t, ({ payload }, reply, n, socket) => {
        if (payload.extensions.sluice.resume) return reply("error", refusal(code));
        reply("next", notice(n === 0 ? "c0" : "c7"));
        if (n === 0) return socket.close(1012);
        reply("next", event(8, { cursor: "c8" }));
        reply("next", event(9, { cursor: "c9" }));
      });
      const sink = new Numbers();
      connected(t, server.url).subscribe(operation, sink);
      await sink.count(2);
      assert.deepEqual(resumes(server), [undefined, "c0", undefined]);
      assert.deepEqual(gaps(sink), [code, undefined]);
      assert.equal(sink.results[0].extensions.sluice.cursor, "c8");
    });
  }

  test("who unsubscribes when told of the loss is not subscribed again", limit, async (t) => {
    const server = await scripted(t, (_, reply) => {
      reply("next", notice("c0"));
      reply("error", refusal("CURSOR_TOO_OLD"));
    });
    const client = connected(t, server.url, { options: { onLost: () => unsubscribe() } });
    const closed = new Promise((resolve) => client.on("closed", resolve));
    const sink = new Numbers();
    const unsubscribe = client.subscribe(operation, sink);
    await closed;
    assert.deepEqual(sink.ended, {});
    assert.equal(server.heard.length, 1);
  });

  test("losses that follow each other are not asked about in a hurry", limit, async (t) => {
    const server = await scripted(t, (_, reply, n, socket) => {
      reply("next", notice("c0"));
      if (n === 0) return socket.close(1012);
      reply("error", refusal("CURSOR_TOO_OLD", { cursor: "c1" }));
    });
    let waits = 0;
    const retryWait = async () => {
      if (++waits === 3) throw new Error("enough");
    };
    const sink = new Numbers();
    connected(t, server.url, { options: { retryWait } }).subscribe(operation, sink);
    await until("it gives up", () => sink.ended);
    assert.equal(server.heard.length, 5, "the first, the one that resumes, one at once, two that waited");
  });

  for (const [what, answers] of [
    ["goes on elsewhere", [notice("c5"), event(6, { cursor: "c6" })]],
    ["knows no cursors", [event(6)]],
  ]) {
    test(`a server that ${what} after the connection was lost is found out`, limit, async (t) => {
      const server = await scripted(t, (_, reply, n, socket) => {
        if (n > 0) return answers.forEach((answer) => reply("next", answer));
        reply("next", notice("c0"));
        reply("next", event(1, { cursor: "c1" }));
        socket.close(1012);
      });
      const sink = new Numbers();
      connected(t, server.url).subscribe(operation, sink);
      await sink.count(2);
      assert.deepEqual(gaps(sink), [undefined, "RESUME_UNSUPPORTED"]);
    });
  }

  test("a result without a cursor does not lose the place", limit, async (t) => {
    const server = await scripted(t, (_, reply, n, socket) => {
      reply("next", notice(`c${n}`));
      if (n > 0) return reply("next", event(3, { cursor: "c2" }));
      reply("next", event(1, { cursor: "c1" }));
      reply("next", event(2));
      socket.close(1012);
    });
    const sink = new Numbers();
    connected(t, server.url).subscribe(operation, sink);
    await sink.count(3);
    assert.deepEqual(resumes(server), [undefined, "c1"]);
    assert.deepEqual(gaps(sink), [undefined, undefined, undefined]);
  });

  test("return() ends an iterator that waits; dispose() and on() are the client's", limit, async (t) => {
    const server = await scripted(t, (_, reply) => reply("next", notice("c0")));
    const client = connected(t, server.url);
    const closed = new Promise((resolve) => client.on("closed", resolve));
    const stream = client.iterate(operation);
    const next = stream.next();
    await until("it is subscribed", () => server.heard.length > 0);
    await stream.return();
    assert.deepEqual(await within(1_000, "the end", next), { done: true, value: undefined });
    assert.equal((await closed).code, 1000);
    const plain = createClient({ url: server.url, ...settings });
    assert.deepEqual(Object.keys(client).sort(), Object.keys(plain).sort());
  });
});
