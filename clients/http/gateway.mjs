// The real gateway with its embedded brokers, on a port of its own.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const sluice = resolve(process.env.SLUICE_BIN || fileURLToPath(new URL("../../bin/sluice", import.meta.url)));

// until asks again and again and returns the first answer that is true.
export async function until(what, ask, { within = 10_000, every = 20 } = {}) {
  for (const end = Date.now() + within; ; await delay(every)) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`waited ${within / 1000} s in vain until ${what}`);
  }
}

// Gateway is one run of the program. In a suite:
//
//   const gateway = new Gateway({ after });
//   before(() => gateway.start());
//   afterEach((t) => gateway.report(t));
export class Gateway {
  output = "";
  #child;
  #exited;
  #dir;

  constructor(scope) {
    scope.after(() => this.stop());
  }

  async start() {
    if (!existsSync(sluice)) throw new Error(`${sluice} is missing: build it first, or name it in SLUICE_BIN`);
    this.#dir = mkdtempSync(join(tmpdir(), "sluice-http-"));
    const file = join(this.#dir, "addr");
    const { SLUICE_BIN, REDIS_URL, MQTT_BROKER_URL, ...env } = process.env; // without the URLs the embedded brokers start
    const args = ["serve", "--addr", "127.0.0.1:0", "--data-dir", ":memory:", "--addr-file", file, "--no-course-ports", "--log-level", "debug"];
    const child = spawn(sluice, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    this.#exited = new Promise((resolved, rejected) => {
      child.once("error", rejected);
      child.once("close", (code, signal) => resolved({ code, signal }));
    });
    this.#exited.catch((error) => (this.output += error));
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (this.output += data));
    process.once("exit", () => child.kill("SIGKILL"));
    await until("the gateway is ready", () => this.#isReady(file));
    return this;
  }

  async #isReady(file) {
    const child = this.#child;
    if (child.exitCode !== null || child.pid === undefined) throw new Error(`the gateway ended at once:\n${this.output}`);
    if (!existsSync(file)) return false;
    this.url = `http://${readFileSync(file, "utf8").trim()}`;
    this.graphql = `${this.url}/graphql`;
    const response = await fetch(`${this.url}/readyz`);
    await response.arrayBuffer();
    return response.ok;
  }

  // query posts an operation and returns its data.
  async query(query, variables) {
    const response = await fetch(this.graphql, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/graphql-response+json" },
      body: JSON.stringify({ query, variables }),
    });
    const { data, errors } = await response.json();
    if (errors) throw new Error(`${response.status}: ${JSON.stringify(errors)}`);
    return data;
  }

  // stop asks it to end and returns { code, signal }.
  async stop() {
    if (!this.#child) return undefined;
    this.#child.kill("SIGTERM");
    const late = setTimeout(() => this.#child.kill("SIGKILL"), 12_000);
    try {
      return await this.#exited;
    } finally {
      clearTimeout(late);
      rmSync(this.#dir, { recursive: true, force: true });
    }
  }

  // report prints what the gateway said, after a test that failed.
  report(t) {
    if (!t.passed) console.error(`--- the gateway, up to the end of "${t.name}":\n${this.output}`);
  }
}
