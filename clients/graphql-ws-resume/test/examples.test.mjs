// The examples print every message once, though the connection is cut.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Program, atEnd, until } from "../../node/harness.mjs";
import { Proxy, Room, ask, startGateway } from "./parts.mjs";

const examples = fileURLToPath(new URL("../examples/", import.meta.url));

describe("examples", { concurrency: true, timeout: 90_000 }, () => {
  for (const name of readdirSync(examples)) {
    test(name, { timeout: 30_000 }, async (t) => {
      const gateway = await startGateway(t);
      const room = await Room.open(gateway);
      const proxy = await Proxy.start(t, gateway.addr);
      const messages = 4;
      const example = new Program(name, () => [process.execPath, [examples + name, proxy.socket, room.id]]).launch();
      atEnd(t, () => example.stop());
      const lines = () => example.output.split("\n").slice(0, -1);
      await until("it is subscribed", () => members(gateway, room).then(({ length }) => length > 0));
      for (let n = 1; n < messages; n++) {
        await room.send();
        await until(`line ${n}`, () => lines().length >= n, { within: 10_000 });
        proxy.cut();
      }
      await room.send();
      await until("the last line", () => lines().length >= messages, { within: 10_000 });
      assert.deepEqual(lines(), ["anonymous: 0", "anonymous: 1", "anonymous: 2", "anonymous: 3"]);
    });
  }
});

async function members(gateway, room) {
  const { presence } = await ask(gateway, `query ($room: ID!) { presence(room: $room) { id } }`, { room: room.id });
  return presence;
}
