// What the tests run against: a real redis-server, a real mosquitto and the
// real gateway, each on a port of its own, logging into memory and gone when
// the scope that started it ends. A scope is whatever has an `after` method: a
// test's context, or { after } of node:test within a suite.
//
// A broker that is not installed skips the tests, or fails them where
// REQUIRE_BROKERS=1 is set, so that a green run there means that every test ran.
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export const sluice = resolve(process.env.SLUICE_BIN || fileURLToPath(new URL("../../bin/sluice", import.meta.url)));
export const requireBrokers = process.env.REQUIRE_BROKERS === "1";

// What the developer's own shell tells a gateway must not decide.
const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("SLUICE_")));

// Debian keeps servers in sbin, which is not on every user's PATH.
const searched = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"];

function lookUp(name) {
  for (const dir of searched) {
    try {
      const path = join(dir, name);
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // the next one may have it
    }
  }
  return "";
}

// Tests that need brokers say { skip: withoutBrokers }: false, or why not.
export const withoutBrokers = (() => {
  const absent = ["redis-server", "redis-cli", "mosquitto", "mosquitto_pub"].filter((name) => !lookUp(name));
  if (absent.length === 0) return false;
  if (requireBrokers) throw new Error(`REQUIRE_BROKERS=1, but not installed here: ${absent.join(", ")}`);
  return `not installed here: ${absent.join(", ")}`;
})();

// until asks again and again and returns the first answer that is true.
export async function until(what, ask, { within = 5_000, every = 20 } = {}) {
  for (const end = Date.now() + within; ; await delay(every)) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`waited ${within / 1000} s in vain until ${what}`);
  }
}

// within rejects when a promise takes longer; what says what it stands for.
export async function within(ms, what, promise) {
  const late = new AbortController();
  try {
    return await Promise.race([
      promise,
      delay(ms, undefined, { signal: late.signal }).then(() => {
        throw new Error(`waited ${ms / 1000} s in vain for ${what}`);
      }),
    ]);
  } finally {
    late.abort();
  }
}

// atEnd has something done when the test ends: what was made later ends
// earlier, while t.after keeps to the order of its calls.
export function atEnd(t, end) {
  let ends = endings.get(t);
  if (!ends) {
    endings.set(t, (ends = []));
    t.after(async () => {
      for (const next of ends.reverse()) await next();
    });
  }
  ends.push(end);
}
const endings = new WeakMap();

const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));
for (const [signal, number] of Object.entries({ SIGINT: 2, SIGTERM: 15, SIGHUP: 1 })) {
  process.on(signal, () => process.exit(128 + number)); // an unhandled signal would skip the line above
}

// mortal starts a program that the kernel ends when this process ends without
// cleaning up, as it does when it is killed; where there is no setpriv it lives on.
const mortal = lookUp("setpriv") ? [lookUp("setpriv"), "--pdeathsig", "KILL", "--"] : [];

// Program is one started program: start, stop, kill and restart it at will.
export class Program {
  output = ""; // of all its runs
  #child;
  #command;
  #ready;
  #reported = 0;

  // command() returns [path, arguments, environment]; ready() says whether it is up.
  constructor(name, command, ready) {
    this.name = name;
    this.#command = command;
    this.#ready = ready;
  }

  get pid() {
    return this.#child?.pid;
  }

  get runs() {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  launch() {
    if (this.runs) throw new Error(`${this.name} runs already`);
    const [path, args, env] = this.#command();
    const [program, ...rest] = [...mortal, path, ...args.map(String)];
    const child = spawn(program, rest, {
      env: { ...inherited, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (this.output += data));
    running.add(child);
    // "close" comes after "exit", when the output is complete.
    this.exited = new Promise((resolved, rejected) => {
      child.once("error", rejected);
      child.once("close", (code, signal) => {
        running.delete(child);
        resolved({ code, signal });
      });
    });
    this.exited.catch(() => running.delete(child));
    return this;
  }

  async start() {
    this.launch();
    let failed;
    this.exited.catch((error) => (failed = error));
    await until(
      `${this.name} is up`,
      () => {
        if (failed) throw failed;
        if (!this.runs) throw new Error(`${this.name} ended at once:\n${this.output}`);
        return this.#ready();
      },
      { within: 15_000 },
    );
    return this;
  }

  // stop asks it to end and returns { code, signal }.
  async stop(signal = "SIGTERM") {
    if (!this.runs) return this.exited; // undefined if it never ran
    this.#child.kill(signal);
    try {
      return await within(12_000, `the end of ${this.name} after ${signal}`, this.exited);
    } finally {
      if (this.runs) this.#child.kill("SIGKILL");
    }
  }

  kill() {
    return this.stop("SIGKILL");
  }

  async restart(signal) {
    await this.stop(signal);
    await this.start();
  }

  // news is the output that no report has had yet.
  news() {
    const text = this.output.slice(this.#reported);
    this.#reported = this.output.length;
    return text;
  }
}

// Environment is the brokers of a scope and the gateways started on them. In a
// suite:
//
//   const env = new Environment({ after });
//   before(() => env.start());
//   afterEach((t) => env.report(t));
export class Environment {
  #programs = [];
  #dir;

  constructor(scope) {
    scope.after(() => this.stop());
  }

  // start starts both brokers and a gateway that may publish to demo topics.
  async start(options) {
    await this.startBrokers();
    this.gateway = await this.#startGateway(options);
  }

  async startBrokers() {
    this.#dir = mkdtempSync(join(tmpdir(), "sluice-clients-"));
    [this.redis, this.mosquitto] = await Promise.all([
      onFreePort((port) => this.#newRedis(port)),
      onFreePort((port) => this.#newMosquitto(port)),
    ]);
    this.#programs.push(this.redis, this.mosquitto);
  }

  #newRedis(port) {
    const dir = mkdtempSync(join(this.#dir, "redis-"));
    const args = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir];
    const redis = new Program(
      "redis-server",
      () => [lookUp("redis-server"), args],
      async () => (await answer(port, "PING\r\n")).startsWith("+PONG"),
    );
    return Object.assign(redis, { port, url: `redis://127.0.0.1:${port}` });
  }

  #newMosquitto(port) {
    const config = join(mkdtempSync(join(this.#dir, "mosquitto-")), "mosquitto.conf");
    // user: mosquitto would give up root, and with it what ends it with its parent.
    const lines = [
      `listener ${port} 127.0.0.1`,
      "allow_anonymous true",
      "persistence false",
      "log_dest stderr",
      "user root",
    ];
    writeFileSync(config, lines.join("\n") + "\n");
    const mosquitto = new Program(
      "mosquitto",
      () => [lookUp("mosquitto"), ["-c", config]],
      () => accepts(port),
    );
    return Object.assign(mosquitto, { port, url: `mqtt://127.0.0.1:${port}` });
  }

  // startGateway starts another gateway on these brokers; it ends with the test.
  async startGateway(t, options) {
    return this.#startGateway(options, (gateway) => atEnd(t, () => gateway.stop()));
  }

  async #startGateway(options = {}, made = () => {}) {
    const gateway = newGateway({ redisURL: this.redis.url, mqttURL: this.mosquitto.url, ...options });
    this.#programs.push(gateway);
    made(gateway);
    return gateway.start();
  }

  // mosquittoPub publishes with the real mosquitto_pub. By default it returns
  // when the broker has acknowledged the message. An empty payload is sent as such.
  async mosquittoPub(topic, payload, { qos = 1, retain = false } = {}) {
    const args = ["-h", "127.0.0.1", "-p", this.mosquitto.port, "-t", topic, "-q", qos];
    if (retain) args.push("-r");
    const bytes = Buffer.from(payload);
    args.push(bytes.length === 0 ? "-n" : "-s"); // -s: the payload comes on standard input
    await run("mosquitto_pub", args, bytes);
  }

  // redisPublish publishes with the real redis-cli and returns the number of
  // subscribers that Redis delivered to.
  async redisPublish(channel, payload) {
    const args = ["-h", "127.0.0.1", "-p", this.redis.port, "-x", "PUBLISH", channel];
    return Number(await run("redis-cli", args, Buffer.from(payload))); // -x: the last argument comes on standard input
  }

  // report prints what the programs said during a test that failed. Use it as
  // `afterEach((t) => env.report(t))`.
  report(t) {
    for (const program of this.#programs) {
      const news = program.news();
      if (!t.passed && news) console.error(`--- ${program.name}, during "${t.name}":\n${news}`);
    }
  }

  async stop() {
    await Promise.all(this.#programs.map((program) => program.runs && program.stop()));
    if (this.#dir) rmSync(this.#dir, { recursive: true, force: true });
  }
}

// newGateway describes a gateway; start() starts it. `ready: false` waits only
// until it lives, for a start without brokers. `port` fixes the port.
// `publish: false` leaves what may be published to the gateway's own default.
export function newGateway({ redisURL, mqttURL, args = [], env = {}, port = 0, ...options } = {}) {
  const { coursePorts = false, publish = true, ready = true, dataDir = ":memory:" } = options;
  if (!existsSync(sluice)) throw new Error(`${sluice} is missing: build it first, or name it in SLUICE_BIN`);
  const dir = mkdtempSync(join(tmpdir(), "sluice-gateway-"));
  process.once("exit", () => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, "addr");
  const gateway = new Program(
    "sluice",
    () => {
      rmSync(file, { force: true });
      return [
        sluice,
        [
          ...["serve", "--addr", `127.0.0.1:${port}`, "--addr-file", file, "--data-dir", dataDir],
          coursePorts ? "--course-ports" : "--no-course-ports",
          ...(publish ? ["--mqtt-allow-publish", "demo/#", "--redis-allow-publish", "demo:*"] : []),
          ...["--log-level", "debug"],
          ...args,
        ],
        { REDIS_URL: redisURL ?? "", MQTT_BROKER_URL: mqttURL ?? "", ...env },
      ];
    },
    async () => {
      if (!existsSync(file)) return false;
      gateway.addr = readFileSync(file, "utf8").trim();
      gateway.url = `http://${gateway.addr}`;
      gateway.graphql = `${gateway.url}/graphql`;
      gateway.socket = `ws://${gateway.addr}/graphql`;
      return (await status(`${gateway.url}${ready ? "/readyz" : "/healthz"}`)) === 200;
    },
  );
  return gateway;
}

async function status(url) {
  try {
    const response = await fetch(url, { headers: { Connection: "close" } });
    await response.arrayBuffer();
    return response.status;
  } catch {
    return 0;
  }
}

// Ports for programs that come back to theirs lie below those that the system
// gives to outgoing connections, or a client that tries again might get one.
const firstPort = 15_000;
const lastPort = 31_999;

export async function freePort() {
  for (;;) {
    const port = firstPort + Math.floor(Math.random() * (lastPort - firstPort));
    const server = createServer();
    try {
      await once(server.listen(port, "127.0.0.1"), "listening");
      return port;
    } catch {
      // taken: try another
    } finally {
      if (server.listening) await once(server.close(), "close");
    }
  }
}

// onFreePort starts what make(port) describes, elsewhere if somebody was faster.
async function onFreePort(make) {
  for (let attempt = 1; ; attempt++) {
    const program = make(await freePort());
    try {
      return await program.start();
    } catch (error) {
      if (program.runs) await program.kill();
      if (attempt === 3) throw error;
    }
  }
}

export function accepts(port) {
  return new Promise((resolved) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolved(true)).once("error", () => resolved(false));
    socket.once("connect", () => socket.destroy());
  });
}

// answer sends a line to a port and returns the first bytes that come back.
function answer(port, line) {
  return new Promise((resolved) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(line));
    socket.setTimeout(1_000, () => socket.destroy());
    socket.once("data", (data) => (resolved(String(data)), socket.destroy()));
    socket.once("error", () => {}).once("close", () => resolved(""));
  });
}

// run runs a program to its end and returns what it printed.
export async function run(name, args, input = "") {
  const child = spawn(lookUp(name), args.map(String), { stdio: ["pipe", "pipe", "pipe"] });
  let out = "";
  let err = "";
  child.stdout.on("data", (data) => (out += data));
  child.stderr.on("data", (data) => (err += data));
  child.stdin.on("error", () => {}); // it may end without reading
  child.stdin.end(input);
  const [code] = await within(10_000, `the end of ${name}`, once(child, "close")).finally(() => child.kill("SIGKILL"));
  if (code !== 0) throw new Error(`${name} ended with status ${code}: ${err}${out}`);
  return out.trim();
}
