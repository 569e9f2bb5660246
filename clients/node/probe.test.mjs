// `sluice probe` against an echo server of the ws package, and the row of
// docs/practice.md that says what it finds. UPDATE=1 writes that row.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { WebSocketServer } from "ws";
import { sluice } from "./harness.mjs";

const page = new URL("../../docs/practice.md", import.meta.url);
const { version } = JSON.parse(readFileSync(new URL("node_modules/ws/package.json", import.meta.url), "utf8"));

test("the practice page says what a plain ws server fails", async (t) => {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, maxPayload: 1 << 20 });
  t.after(() => server.close());
  server.on("connection", (socket) => {
    socket.on("error", () => {}); // it closes by itself
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  await once(server, "listening");

  const args = ["probe", `ws://127.0.0.1:${server.address().port}/`, "--json", "--too-large", String((1 << 20) + 1)];
  const { code, stdout } = await new Promise((resolve) =>
    execFile(sluice, args, (error, stdout) => resolve({ code: error?.code ?? 0, stdout })),
  );
  const failed = JSON.parse(stdout).checks.filter((check) => check.status === "failed");
  assert.equal(code, failed.length > 0 ? 1 : 0);

  const row = `| Node ws ${version} | ${failed.map((check) => `\`${check.id}\``).join(", ") || "nothing"} |`;
  let text = readFileSync(page, "utf8");
  if (process.env.UPDATE === "1") {
    text = text.replace(/^\| Node ws .*$/m, row);
    writeFileSync(page, text);
  }
  assert.ok(text.includes(row), `docs/practice.md lacks the row\n${row}`);
});
