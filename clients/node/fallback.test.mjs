// The pages' connectWithFallback over real sockets: one server refuses, one
// hangs, one answers.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { WebSocket, WebSocketServer } from "ws";
import { connectWithFallback, NoServiceError } from "../../web/services/connectWithFallback.js";

async function listening(t, server) {
  const sockets = new Set(); // an HTTP server forgets those that were upgraded
  server.on("connection", (socket) => sockets.add(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `ws://127.0.0.1:${server.address().port}/`;
}

test("connectWithFallback finds the server that answers", { timeout: 20_000 }, async (t) => {
  const refusing = createServer();
  refusing.on("upgrade", (_request, socket) => socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"));

  const hanging = createServer();
  const leaving = new Promise((resolve) =>
    hanging.on("upgrade", (_request, socket) => socket.on("end", resolve).on("error", resolve).resume()),
  );

  const answering = createServer();
  const echo = new WebSocketServer({ server: answering });
  echo.on("connection", (socket) => socket.on("message", (data) => socket.send(String(data))));

  const services = [
    { name: "answers", url: await listening(t, answering) },
    { name: "refuses", url: await listening(t, refusing) },
    { name: "hangs", url: await listening(t, hanging) },
  ];
  const options = { WebSocket, first: "refuses", timeout: 1_500 };
  const { socket, service, tries } = await connectWithFallback(services, options);
  assert.equal(service.name, "answers");
  assert.deepEqual(
    tries.map(({ service, outcome, code }) => [service.name, outcome, code]),
    [
      ["refuses", "refused", 1006],
      ["hangs", "timeout", null],
      ["answers", "open", null],
    ],
  );
  assert.ok(tries[1].milliseconds >= 1_450 && tries[1].milliseconds < 5_000, `${tries[1].milliseconds} ms`);
  await leaving; // the socket to the server that hangs was closed

  const answered = new Promise((resolve) => (socket.onmessage = ({ data }) => resolve(data)));
  socket.send("hello");
  assert.equal(await answered, "hello");
  assert.equal(echo.clients.size, 1, "only one socket is open");
  const closed = new Promise((resolve) => (socket.onclose = resolve));
  socket.close();
  await closed;

  await assert.rejects(connectWithFallback(services.slice(1), { WebSocket, timeout: 200 }), NoServiceError);
});
