// What the tests are made of: the real gateway, a proxy that cuts connections,
// a server that says what a test tells it to, and the clients under test.
import { ApolloClient, InMemoryCache, gql } from "@apollo/client/core";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { Client as UrqlClient, subscriptionExchange } from "@urql/core";
import { createClient } from "graphql-ws";
import { resuming } from "graphql-ws-resume";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import WebSocket, { WebSocketServer } from "ws";
import { atEnd, newGateway, until } from "../../node/harness.mjs";

// Apollo's GraphQLWsLink compares with WebSocket.CLOSED, which Node 20 lacks.
globalThis.WebSocket ??= WebSocket;

// startGateway starts a gateway, on embedded brokers unless it is told others; it ends with the test.
export async function startGateway(t, { args = [], ...options } = {}) {
  const limits = ["publish", "publish-burst", "operations", "operations-burst"];
  const gateway = newGateway({
    args: [...limits.flatMap((name) => ["--limit", `${name}=100000`]), ...args],
    ...options,
  });
  atEnd(t, () => gateway.kill());
  return gateway.start();
}

// ask answers a query or mutation over plain HTTP.
export async function ask(gateway, query, variables) {
  const body = JSON.stringify({ query, variables });
  const response = await fetch(gateway.graphql, {
    method: "POST",
    headers: { "Content-Type": "application/json", Connection: "close" },
    body,
  });
  const { data, errors } = await response.json();
  if (errors) throw new Error(errors[0].message);
  return data;
}

// Room is a room with numbered messages: 0, 1, 2 and so on.
export class Room {
  sent = 0;

  static async open(gateway) {
    const { createRoom } = await ask(gateway, `mutation { createRoom { id } }`);
    return new Room(gateway, createRoom.id);
  }

  constructor(gateway, id) {
    this.gateway = gateway;
    this.id = id;
  }

  get subscription() {
    return {
      query: `subscription Messages($room: ID!) { messageUpdates(room: $room) { content } }`,
      variables: { room: this.id },
    };
  }

  // send sends the next message, again and again while the gateway is away: with
  // the same id it is stored once.
  async send() {
    const input = { room: this.id, id: `m${this.sent}`, content: String(this.sent) };
    const mutation = `mutation ($input: SendMessageInput!) { sendMessage(input: $input) { id } }`;
    await until(`message ${this.sent} is stored`, () => ask(this.gateway, mutation, { input }).catch(() => false), {
      within: 20_000,
    });
    this.sent++;
  }

  async sendAll(n) {
    for (let i = 0; i < n; i++) await this.send();
  }
}

// Numbers is the sink of a subscription to a room.
export class Numbers {
  got = [];
  results = [];
  ended = null; // then { error }: undefined after a completion

  next(result) {
    this.results.push(result);
    if (result.data) this.got.push(Number(result.data.messageUpdates.content));
  }

  error(error) {
    this.ended ??= { error };
  }

  complete() {
    this.ended ??= {};
  }

  // count waits for the first n numbers.
  async count(n, options = { within: 20_000 }) {
    await until(
      `${n} messages have come`,
      () => {
        if (this.ended) throw new Error("the subscription ended", { cause: this.ended.error });
        return this.got.length >= n;
      },
      options,
    ).catch((error) => {
      error.message += `\n${this.got.length} of ${n} came: ${this.tally(n)}`;
      throw error;
    });
  }

  // tally says in words what is wrong with the first n numbers.
  tally(n) {
    const unique = new Set(this.got);
    const lost = Array.from({ length: n }, (_, i) => i).filter((i) => !unique.has(i));
    const reordered = this.got.filter((number, i) => i > 0 && number < this.got[i - 1]).length;
    return `lost ${lost.length}, doubled ${this.got.length - unique.size}, reordered ${reordered}`;
  }
}

export const whole = "lost 0, doubled 0, reordered 0";

// random is mulberry32: the same numbers for the same seed.
export function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let x = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

// Proxy passes connections on, to one of its targets after the other. `budget()` says for each new one after how many
// bytes, { down } from the server or { up } to it, it is cut, and whether by a
// reset; what is missing never cuts.
export class Proxy {
  budget = () => ({});
  cuts = 0;
  open = true; // else connections are refused as soon as they come
  heard = ""; // what came from the server
  #pairs = new Set();

  static async start(t, ...addrs) {
    const proxy = new Proxy();
    let connections = 0;
    const server = createServer((near) => {
      const [host, port] = addrs[connections++ % addrs.length].split(":");
      proxy.#join(near, connect(Number(port), host));
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    atEnd(t, () => (proxy.cut(), server.close()));
    proxy.socket = `ws://127.0.0.1:${server.address().port}/graphql`;
    return proxy;
  }

  #join(near, far) {
    for (const end of [near, far]) end.on("error", () => {});
    if (!this.open) return (near.destroy(), far.destroy());
    const pair = { near, far };
    this.#pairs.add(pair);
    const { down = Infinity, up = Infinity, reset = false } = this.budget();
    const pass = (from, to, left) =>
      from.on("data", (data) => {
        if (left > data.length) {
          left -= data.length;
          to.write(data);
        } else if (left >= 0) {
          to.write(data.subarray(0, left), () => this.#end(pair, reset));
          left = -1;
        }
      });
    far.on("data", (data) => (this.heard += data));
    pass(far, near, down);
    pass(near, far, up);
    for (const end of [near, far]) end.on("close", () => this.#end(pair));
  }

  #end(pair, reset) {
    if (!this.#pairs.delete(pair)) return;
    if (reset !== undefined) this.cuts++;
    if (reset) pair.near.resetAndDestroy();
    else pair.near.destroy();
    pair.far.destroy();
  }

  // cut cuts all connections.
  cut() {
    for (const pair of this.#pairs) this.#end(pair, false);
  }
}

// scripted starts a server of graphql-transport-ws: told(message, reply, n, socket)
// hears of each "subscribe", the nth from 0, and answers with reply(type, payload).
// It returns the URL and what it heard.
export async function scripted(t, told) {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: () => "graphql-transport-ws" });
  const heard = [];
  server.on("connection", (socket) =>
    socket.on("message", (data) => {
      const message = JSON.parse(data);
      if (message.type === "connection_init") return socket.send(`{"type":"connection_ack"}`);
      if (message.type !== "subscribe") return;
      const n = heard.push(message) - 1;
      told(message, (type, payload) => socket.send(JSON.stringify({ id: message.id, type, payload })), n, socket);
    }),
  );
  await once(server, "listening");
  atEnd(t, () => (server.clients.forEach((socket) => socket.terminate()), server.close()));
  return { url: `ws://127.0.0.1:${server.address().port}`, heard };
}

// event is a result of a scripted server.
export const event = (number, sluice) => ({
  data: { messageUpdates: { content: String(number) } },
  ...(sluice && { extensions: { sluice } }),
});
export const notice = (cursor) => ({ data: null, extensions: { sluice: { ready: true, cursor } } });
export const refusal = (code, more) => [{ message: `Refused. (${code})`, extensions: { code, ...more } }];

// settings come back at once, for ever.
export const settings = {
  webSocketImpl: WebSocket,
  shouldRetry: () => true,
  retryAttempts: Infinity,
  retryWait: () => new Promise((resolve) => setTimeout(resolve, 5)),
};

// connected makes a graphql-ws client that is gone when the test ends.
export function connected(t, url, { options, create = createClient, ...more } = {}) {
  const client = resuming(create({ url, ...settings, ...more }), { retryWait: settings.retryWait, ...options });
  atEnd(t, () => Promise.resolve(client.dispose()).catch(() => {})); // its server may have gone before it
  return client;
}

// opening resolves with the next notice that a stream is open.
export function opening(client) {
  return new Promise((resolve) => {
    const forget = client.on("message", (message) => {
      const { sluice } = message.payload?.extensions ?? {};
      if (!sluice?.ready) return;
      forget();
      resolve(sluice);
    });
  });
}

// clients subscribe through one library each, and return how to unsubscribe.
export const clients = {
  "graphql-ws": (client) => (operation, sink) => client.subscribe(operation, sink),

  "Apollo Client": (client) => {
    const apollo = new ApolloClient({ link: new GraphQLWsLink(client), cache: new InMemoryCache() });
    return ({ query, variables }, sink) => {
      const subscription = apollo.subscribe({ query: gql(query), variables, fetchPolicy: "no-cache" }).subscribe({
        next: (result) => (result.error ? sink.error(result.error) : sink.next(result)),
        error: (error) => sink.error(error),
        complete: () => sink.complete(),
      });
      return () => subscription.unsubscribe();
    };
  },

  urql: (client) => {
    const urql = new UrqlClient({
      url: "http://unused.invalid",
      preferGetMethod: false,
      exchanges: [
        subscriptionExchange({
          forwardSubscription: ({ query = "", variables }) => ({
            subscribe: (sink) => ({ unsubscribe: client.subscribe({ query, variables }, sink) }),
          }),
        }),
      ],
    });
    return ({ query, variables }, sink) => {
      const subscription = urql.subscription(query, variables).subscribe((result) => {
        if (result.error) sink.error(result.error);
        else if (!result.hasNext) sink.complete();
        else sink.next(result);
      });
      return () => subscription.unsubscribe();
    };
  },
};
