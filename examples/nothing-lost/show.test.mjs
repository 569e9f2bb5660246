import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { requireBrokers, withoutBrokers } from "../../clients/node/harness.mjs";
import { Show, chromiumPath, plans, table, wrong } from "./show.mjs";

const absent = withoutBrokers || (existsSync(chromiumPath) ? false : `not installed here: ${chromiumPath}`);
if (absent && requireBrokers) throw new Error(`REQUIRE_BROKERS=1, but ${absent}`);

test("both servers are killed once: one side loses nothing", { skip: absent, timeout: 100_000 }, async (t) => {
  const show = new Show(t);
  await show.start({ viewport: { width: 1280, height: 720 } });
  const account = await show.run(plans.short);
  t.diagnostic(table(account));
  assert.equal(wrong(account), "");

  const pictures = fileURLToPath(new URL("../../test-results/nothing-lost/", import.meta.url));
  mkdirSync(pictures, { recursive: true });
  for (const colorScheme of ["light", "dark"]) {
    await show.page.emulateMedia({ colorScheme });
    for (const [width, height] of [
      [1280, 720],
      [960, 540],
      [360, 740],
    ]) {
      await show.page.setViewportSize({ width, height });
      const sideways = await show.page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      assert.ok(!sideways, `${width} pixels wide, ${colorScheme}: it scrolls sideways`);
      await show.page.evaluate(() => window.show.draw());
      await show.page.screenshot({ path: `${pictures}${colorScheme}-${width}.png`, fullPage: true });
    }
  }
});
