// What the tests run against: real brokers, the real gateway, a real Chromium,
// all started here on free ports and stopped at the end.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../../", import.meta.url));
const chromiumPath = process.env.CHROMIUM || "/usr/bin/chromium";
const sluice = process.env.SLUICE_BIN || join(root, "bin", "sluice");
process.env.PATH += ":/usr/sbin"; // where Debian keeps mosquitto

export const screenshots = join(root, "test-results", "browser");

// missing names what is not installed here; empty: all is there.
export function missing() {
  const found = (command) => spawnSync("sh", ["-c", `command -v ${command}`]).status === 0;
  const names = ["mosquitto", "mosquitto_pub", "redis-server", "redis-cli"].filter((name) => !found(name));
  if (!existsSync(chromiumPath)) names.push(`${chromiumPath} (or another path in CHROMIUM)`);
  return names.join(", ");
}

export class Env {
  #children = [];
  #dir = mkdtempSync(join(tmpdir(), "sluice-browser-"));

  async start() {
    if (!existsSync(sluice)) throw new Error(`${sluice} is missing: build it first, or name it in SLUICE_BIN`);
    mkdirSync(screenshots, { recursive: true });
    [this.mqttPort, this.redisPort] = await freePorts(2);
    // Without a configuration file mosquitto listens on loopback and asks for no password.
    const mosquitto = this.#spawn("mosquitto", ["-p", this.mqttPort]);
    const redis = this.#spawn("redis-server", [
      "--port",
      this.redisPort,
      "--bind",
      "127.0.0.1",
      "--save",
      "",
      "--dir",
      this.#dir,
    ]);
    await Promise.all([accepts(mosquitto, this.mqttPort), accepts(redis, this.redisPort)]);
    await this.startGateway();
    this.browser = await chromium.launch({
      executablePath: chromiumPath,
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
  }

  async startGateway(addr = "127.0.0.1:0") {
    const file = join(this.#dir, "addr");
    rmSync(file, { force: true });
    const args = ["serve", "--addr", addr, "--data-dir", ":memory:", "--addr-file", file, "--course-ports=false"];
    this.gateway = this.#spawn(sluice, args, {
      MQTT_BROKER_URL: `mqtt://127.0.0.1:${this.mqttPort}`,
      REDIS_URL: `redis://127.0.0.1:${this.redisPort}`,
    });
    await until("the gateway is ready", () => {
      assertRuns(this.gateway);
      return existsSync(file) && readFileSync(file, "utf8").trim() !== "";
    });
    this.addr = readFileSync(file, "utf8").trim();
  }

  async stopGateway() {
    await stop(this.gateway);
  }

  mqttPublish(topic, payload) {
    run("mosquitto_pub", ["-h", "127.0.0.1", "-p", this.mqttPort, "-t", topic, "-m", payload]);
  }

  redisPublish(channel, payload) {
    run("redis-cli", ["-h", "127.0.0.1", "-p", this.redisPort, "publish", channel, payload]);
  }

  // open returns a page that watches itself; see Watch.
  async open(path, options = {}) {
    const context = await this.browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    const page = await context.newPage();
    const watch = new Watch(page, this.addr);
    const answer = await page.goto(`http://${this.addr}${path}`);
    if (answer.status() === 503)
      throw new Error(`${path} is not built into the gateway: run "make web", then build it`);
    return { page, watch };
  }

  async stop() {
    await this.browser?.close();
    await Promise.all(this.#children.map(stop));
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #spawn(command, args, env = {}) {
    const { SLUICE_BIN, ...inherited } = process.env;
    const child = spawn(command, args.map(String), {
      env: { ...inherited, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    child.output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (child.output += data));
    this.#children.push(child);
    return child;
  }
}

// Watch notes what a page must not do (ask another host, write an error to the
// console) and the WebSocket messages that it exchanges.
export class Watch {
  foreign = [];
  errors = [];
  sent = [];
  received = [];

  constructor(page, addr) {
    const own = (url) => url.host === addr || url.protocol === "data:" || url.protocol === `blob:`;
    const check = (address) => {
      if (!own(new URL(address))) this.foreign.push(address.slice(0, 200));
    };
    page.on("request", (request) => check(request.url()));
    page.on("websocket", (socket) => {
      check(socket.url());
      socket.on("framesent", ({ payload }) => this.sent.push(JSON.parse(payload)));
      socket.on("framereceived", ({ payload }) => this.received.push(JSON.parse(payload)));
    });
    page.on("console", (message) => {
      if (message.type() === "error") this.errors.push(message.text());
    });
    page.on("pageerror", (error) => this.errors.push(String(error)));
  }
}

// until asks again and again, for at most 15 seconds.
export async function until(what, ask, every = 100) {
  for (const end = Date.now() + 15_000; Date.now() < end; await sleep(every)) {
    if (await ask()) return;
  }
  throw new Error(`waited 15 s in vain until ${what}`);
}

function run(command, args) {
  const { status, stderr } = spawnSync(command, args.map(String), { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
}

async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const late = setTimeout(() => child.kill("SIGKILL"), 5000);
  await ended;
  clearTimeout(late);
}

// All are held until the last one is found, so that they differ.
async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return ports;
}

function accepts(child, port) {
  return until(`port ${port} accepts`, () => {
    assertRuns(child);
    return new Promise((resolve) => {
      const socket = connect(port, "127.0.0.1");
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
  });
}

function assertRuns(child) {
  if (child.exitCode !== null) throw new Error(`${child.spawnfile} has ended:\n${child.output}`);
}
