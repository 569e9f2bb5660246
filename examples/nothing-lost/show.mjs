// The show: a page counts numbered messages while both servers and their broker
// are killed. Everything is real, runs on free ports of this machine, and ends
// with the scope given.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { build, preview } from "vite";
import { Program, accepts, atEnd, freePort, newGateway, until } from "../../clients/node/harness.mjs";

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const stock = at("../../bin/stock");
export const chromiumPath = process.env.CHROMIUM || "/usr/bin/chromium";

const rate = 50; // messages in a second
const pause = 1_000; // milliseconds from a kill to the start

// When, in seconds, what is killed; at the earliest when both columns receive
// again after what came before.
export const plans = {
  full: {
    seconds: 42,
    kills: [
      [3, "servers"],
      [14, "servers"],
      [25, "broker"],
      [31, "servers"],
    ],
  },
  short: { seconds: 6, kills: [[2, "servers"]] },
};

// Show is the brokers, servers and page of a scope.
export class Show {
  sent = 0; // the highest number that the room has acknowledged
  repeats = 0; // how often a message was sent again
  faults = []; // requests of the page to other machines, and its exceptions

  constructor(scope) {
    this.scope = scope;
  }

  async start({ headless = true, ...context } = {}) {
    for (const path of [stock, chromiumPath]) {
      if (!existsSync(path))
        throw new Error(`${path} is missing: "make show-nothing-lost" builds it, or CHROMIUM names it`);
    }
    const dir = mkdtempSync(join(tmpdir(), "sluice-nothing-lost-"));
    atEnd(this.scope, () => rmSync(dir, { recursive: true, force: true }));
    const ports = {
      redis: await freePort(),
      gateway: await freePort(),
      stock: await freePort(),
      page: await freePort(),
    };
    const redisURL = `redis://127.0.0.1:${ports.redis}`;

    // What it has acknowledged is on disk.
    const durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""];
    const redisArgs = ["--port", ports.redis, "--bind", "127.0.0.1", "--dir", dir, ...durable];
    const unlimited = ["publish", "publish-burst"].flatMap((name) => ["--limit", `${name}=10000`]); // the sender is one address
    const stockArgs = ["-addr", `127.0.0.1:${ports.stock}`, "-redis-url", redisURL];
    this.broker = new Program(
      "redis-server",
      () => ["redis-server", redisArgs],
      () => accepts(ports.redis),
    );
    this.gateway = newGateway({ port: ports.gateway, redisURL, args: unlimited });
    this.stock = new Program(
      "stock",
      () => [stock, stockArgs],
      () => accepts(ports.stock),
    );
    for (const program of [this.broker, this.gateway, this.stock]) {
      atEnd(this.scope, () => program.runs && program.kill());
      await program.start();
    }
    const { createRoom } = await this.#ask("mutation { createRoom { id } }");
    this.room = createRoom.id;

    const url = new URL(await this.#servePage(ports.page));
    url.searchParams.set("room", this.room);
    url.searchParams.set("sluice", this.gateway.socket);
    url.searchParams.set("stock", `ws://127.0.0.1:${ports.stock}/graphql`);
    const browser = await chromium.launch({
      executablePath: chromiumPath,
      headless,
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    });
    atEnd(this.scope, () => browser.close());
    this.page = await browser.newPage(context);
    this.page.on("pageerror", (error) => this.faults.push(String(error)));
    this.page.on("request", (request) => {
      if (new URL(request.url()).hostname !== "127.0.0.1") this.faults.push(`asks for ${request.url()}`);
    });
    await this.page.goto(url.href);
    for (let i = 0; !(await this.#receive(0)); i++) await this.#send(`ready-${i}`, "ready");
  }

  // run keeps to a plan and returns the account.
  async run({ seconds, kills }) {
    const begin = Date.now();
    const past = async (second) => sleep(begin + second * 1000 - Date.now());
    await this.#tell("expect", seconds * rate);
    await this.#tell("say", "Sending", "open");
    let over = false;
    const sending = this.#sendAll(begin, () => over && this.sent >= seconds * rate);
    const killing = (async () => {
      const times = kills.filter(([, what]) => what === "servers").length;
      let count = 0;
      for (const [second, what] of kills) {
        await past(second);
        if (what === "broker") await this.#kill([this.broker], "Broker", "broker");
        else await this.#kill([this.gateway, this.stock], "Both servers", `kill ${++count}`, ` (${count} of ${times})`);
        await this.#bothReceive(this.sent);
        await this.#tell("say", "Sending", "open");
      }
      await past(seconds);
    })().finally(() => (over = true));
    for (const { reason } of await Promise.allSettled([sending, killing])) {
      if (reason) throw reason;
    }
    await this.#bothReceive(this.sent);
    await this.#tell("end", this.sent);
    await this.#tell("say", `Done: ${this.sent.toLocaleString("en")} messages sent`, "open");
    return {
      sent: this.sent,
      repeats: this.repeats,
      faults: this.faults,
      sluice: await this.#counters("sluice"),
      stock: await this.#counters("stock"),
    };
  }

  // kill ends programs without a warning and starts them again after a pause.
  async #kill(programs, name, label, count = "") {
    await Promise.all(programs.map((program) => program.kill()));
    await this.#tell("sent", this.sent);
    await this.#tell("mark", label, this.sent);
    await this.#tell("say", `${name} killed${count}`, "away");
    await sleep(pause);
    await Promise.all(programs.map((program) => program.start()));
    await this.#tell("say", `${name} back${count}`, "open");
  }

  // sendAll sends a message when it is due, or as soon after it as it can.
  async #sendAll(begin, over) {
    while (!over()) {
      const number = this.sent + 1;
      await sleep(begin + (number / rate) * 1000 - Date.now());
      await this.#send(String(number), String(number));
      this.sent = number;
      if (number % 10 === 0) await this.#tell("sent", number);
    }
  }

  // send sends a message until the room has acknowledged it. It has an id, so
  // that the room knows it when it comes again.
  async #send(id, content) {
    const mutation = "mutation ($input: SendMessageInput!) { sendMessage(input: $input) { id } }";
    const input = { id, room: this.room, author: "show", content };
    for (const end = Date.now() + 30_000; ; this.repeats++, await sleep(50)) {
      try {
        return await this.#ask(mutation, { input });
      } catch (error) {
        if (!error.away || Date.now() > end) throw error;
      }
    }
  }

  async #ask(query, variables) {
    let answer;
    try {
      const response = await fetch(this.gateway.graphql, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ query, variables }),
        signal: AbortSignal.timeout(5_000),
      });
      answer = await response.json();
    } catch (cause) {
      throw Object.assign(new Error("the gateway does not answer", { cause }), { away: true });
    }
    const [error] = answer.errors ?? [];
    if (!error) return answer.data;
    throw Object.assign(new Error(error.message), { away: error.extensions?.code === "LOG_UNAVAILABLE" });
  }

  async #servePage(port) {
    const config = {
      configFile: false,
      root: at("page"),
      logLevel: "warn",
      // The package as it stands in this repository.
      resolve: {
        alias: { "graphql-ws-resume": at("../../clients/graphql-ws-resume/src/index.ts") },
        dedupe: ["graphql"],
      },
      build: { outDir: at("node_modules/.cache/page"), emptyOutDir: true, assetsInlineLimit: 0, modulePreload: false },
      preview: { host: "127.0.0.1", port, strictPort: true },
    };
    await build(config);
    const server = await preview(config);
    atEnd(this.scope, () => server.close());
    return server.resolvedUrls.local[0];
  }

  // The page's own words and numbers are what counts.
  #tell(name, ...args) {
    return this.page.evaluate(([name, args]) => window.show[name](...args), [name, args]);
  }

  #receive(number) {
    return this.#tell("receive", number);
  }

  #bothReceive(number) {
    return until(`both columns receive what follows ${number}`, () => this.#receive(number), { within: 30_000 });
  }

  async #counters(column) {
    const counters = this.page.locator(`#${column} [data-counter]`);
    return Object.fromEntries(
      await counters.evaluateAll((all) => all.map(({ dataset }) => [dataset.counter, Number(dataset.value)])),
    );
  }
}

// wrong says why an account does not show what it is to show; empty: it does.
export function wrong({ sent, faults, sluice, stock }) {
  if (faults.length > 0) return `The page: ${faults.join("; ")}`;
  const whole = sluice.received === sent && sluice.last === sent;
  if (!whole || sluice.lost || sluice.doubled || sluice.reordered)
    return "Sluice did not deliver each message once and in order.";
  if (stock.lost === 0) return "The stock transport lost nothing, so this run compares nothing.";
  return "";
}

export function table({ sent, repeats, sluice, stock }) {
  const names = ["received", "lost", "doubled", "reordered"];
  const row = (title, cells) => title.padEnd(26) + cells.map((cell) => String(cell).padStart(10)).join("");
  const numbers = (counters) => names.map((name) => counters[name]);
  return [
    row("", ["sent", ...names]),
    row("Sluice, resuming", [sent, ...numbers(sluice)]),
    row("gqlgen's stock transport", [sent, ...numbers(stock)]),
    `The sender sent messages again ${repeats} times, until the room had acknowledged each.`,
  ].join("\n");
}
