// Runs the show once and prints its account; exits 1 if it shows something else
// than it is to show.
//
//   node run.mjs [--short] [--headed] [--record]
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Film } from "./film.mjs";
import { Show, plans, table, wrong } from "./show.mjs";

const { values: options } = parseArgs({
  options: {
    short: { type: "boolean" }, // one kill
    headed: { type: "boolean" }, // in a window
    record: { type: "boolean" }, // into docs/nothing-lost.png and .gif
  },
});

const pictures = fileURLToPath(new URL("../../docs/nothing-lost", import.meta.url));
const endings = [];
const show = new Show({ after: (end) => endings.push(end) });
let film;
try {
  await show.start({
    headless: !options.headed,
    ...(options.record ? Film.context : { viewport: { width: 1280, height: 720 } }),
  });
  if (options.record) film = new Film(show.page);
  const account = await show.run(options.short ? plans.short : plans.full);
  console.log(table(account));
  const fault = wrong(account);
  if (fault) console.error(fault);
  else await film?.write(pictures);
  process.exitCode = fault ? 1 : 0;
} finally {
  await film?.stop();
  for (const end of endings) await end();
}
