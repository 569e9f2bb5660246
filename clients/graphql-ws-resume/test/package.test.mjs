// What is published: npm packs what `npm test` has built, and others install it
// and compile against it.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const here = fileURLToPath(new URL("..", import.meta.url));
const run = async (dir, program, ...args) => (await promisify(execFile)(program, args, { cwd: dir })).stdout;
const dependency = (name) => join(here, "node_modules", name);

const sample = `
import { createClient, type Client } from "graphql-ws";
import { resuming, type Gap, type Loss, type ResumeOptions } from "graphql-ws-resume";

const options: ResumeOptions = {
  onGap: (gap: Gap, payload) => console.log(gap.reason, gap.missed, payload.query),
  onLost: (loss: Loss) => (loss.code === "CURSOR_INVALID" ? "fail" : "restart"),
};
export const client: Client = resuming(createClient({ url: "ws://127.0.0.1:1" }), options);
export const stop: () => void = client.subscribe<{ hello: string }>(
  { query: "{ hello }" },
  { next: ({ data }) => console.log(data?.hello.length), error() {}, complete() {} },
);
// @ts-expect-error: there are two answers
resuming(client, { onLost: () => "perhaps" });
`;

describe("the package", { timeout: 120_000 }, () => {
  const dir = mkdtempSync(join(tmpdir(), "graphql-ws-resume-"));
  after(() => rmSync(dir, { recursive: true, force: true }));
  let packed;
  before(
    async () =>
      ([packed] = JSON.parse(await run(here, "npm", "pack", "--ignore-scripts", "--json", "--pack-destination", dir))),
  );

  test("holds what is needed, and nothing else", () => {
    assert.deepEqual(packed.files.map(({ path }) => path).sort(), [
      "LICENSE",
      "README.md",
      "dist/index.d.ts",
      "dist/index.js",
      "package.json",
    ]);
  });

  for (const version of ["graphql-ws", "graphql-ws-5"]) {
    test(`is imported and type-checked beside ${version}`, { timeout: 60_000 }, async () => {
      const app = mkdtempSync(join(dir, "app-"));
      writeFileSync(join(app, "package.json"), `{ "type": "module" }`);
      const installed = [join(dir, packed.filename), dependency(version), dependency("graphql")];
      await run(app, "npm", "install", "--offline", "--ignore-scripts", "--no-audit", "--no-fund", ...installed);

      writeFileSync(join(app, "sample.ts"), sample);
      const strict = ["--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom", "--noEmit"];
      await run(app, dependency(".bin/tsc"), ...strict, "sample.ts").catch(({ stdout }) => assert.fail(stdout));

      const script = `import { resuming } from "graphql-ws-resume"; console.log(typeof resuming)`;
      assert.equal(await run(app, process.execPath, "--input-type=module", "--eval", script), "function\n");
    });
  }
});
