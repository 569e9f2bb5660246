// The examples print every message once, though the connection is cut.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Program, atEnd, until } from "../../node/harness.mjs";
import { Proxy, Room, startGateway } from "./parts.mjs";

const examples = fileURLToPath(new URL("../examples/", import.meta.url));

describe("examples", { concurrency: true, timeout: 90_000 }, () => {
  for (const name of readdirSync(examples)) {
    test(name, { timeout: 60_000 }, async (t) => {
      const gateway = await startGateway(t);
      const room = await Room.open(gateway);
      const proxy = await Proxy.start(t, gateway.addr);
      const messages = 4;
      const example = new Program(name, () => [process.execPath, [examples + name, proxy.socket, room.id]]).launch();
      atEnd(t, () => example.stop());
      const lines = () => example.output.split("\n").slice(0, -1);
      await until("it is subscribed", () => proxy.heard.includes(`"ready":true`), { within: 20_000 });
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
