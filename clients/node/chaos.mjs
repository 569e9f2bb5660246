// `sluice chaos` as a program of a test: an echo, or a proxy before a server.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Program, atEnd, sluice } from "./harness.mjs";

// startChaos starts it with these flags; it ends with the test. `url` is where it
// is, events() lists the faults so far, summary() is what it says at its end.
export async function startChaos(t, ...flags) {
  const dir = mkdtempSync(join(tmpdir(), "sluice-chaos-"));
  atEnd(t, () => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, "addr");
  const chaos = new Program(
    "sluice chaos",
    () => [sluice, ["chaos", "--json", "--addr", "127.0.0.1:0", "--addr-file", file, ...flags], {}],
    () => existsSync(file) && chaos.said("start").length > 0,
  );
  chaos.said = (kind) =>
    chaos.output
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line))
      .filter((object) => object.kind === kind);
  chaos.events = () => chaos.said("fault");
  chaos.summary = () => chaos.said("summary")[0];
  await chaos.start();
  atEnd(t, () => chaos.stop());
  chaos.addr = readFileSync(file, "utf8").trim();
  chaos.url = chaos.said("start")[0].url;
  return chaos;
}
