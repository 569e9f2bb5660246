// The wire without a GraphQL client: plain WebSockets and plain HTTP requests.
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import WebSocket from "ws";
import { atEnd, until, within } from "./harness.mjs";

// open opens a socket that remembers its messages; it is gone when the test ends.
export async function open(t, url, protocols, options) {
  const socket = new RawSocket(url, protocols, options);
  atEnd(t, () => socket.ws.terminate());
  await within(5_000, `the socket to ${url}`, once(socket.ws, "open"));
  return socket;
}

class RawSocket {
  messages = [];

  constructor(url, protocols, options) {
    this.ws = new WebSocket(url, protocols, options);
    this.ws.on("message", (data) => this.messages.push(JSON.parse(data)));
    this.closed = new Promise((resolved) =>
      this.ws.once("close", (code, reason) => resolved({ code, reason: String(reason) })),
    );
  }

  // send sends a message: a string as it is, a Buffer as bytes, else JSON.
  send(message, options) {
    this.ws.send(typeof message === "string" || Buffer.isBuffer(message) ? message : JSON.stringify(message), options);
  }

  of(id, type) {
    return this.messages.filter((message) => message.id === id && (!type || message.type === type));
  }

  // next waits for the nth message of a type (of an id).
  next(type, { id, n = 1, ...options } = {}) {
    const fitting = () => this.messages.filter((m) => m.type === type && (id === undefined || m.id === id))[n - 1];
    return until(`message ${n} of type ${type} has come`, fitting, options).catch((error) => {
      error.message += `\nmessages: ${JSON.stringify(this.messages).slice(0, 2000)}`;
      throw error;
    });
  }

  close() {
    return within(5_000, "the end of the socket", this.closed);
  }
}

// upgrade tries to open a socket and returns what the server says instead:
// { status, body }. A socket that opens is { status: 101 }.
export function upgrade(url, protocols, options) {
  const ws = new WebSocket(url, protocols, { handshakeTimeout: 5_000, ...options });
  return new Promise((resolved, rejected) => {
    ws.once("open", () => resolved({ status: 101, protocol: ws.protocol }));
    ws.once("unexpected-response", async (request, response) => {
      resolved({ status: response.statusCode, body: await text(response) });
      request.destroy();
    });
    ws.once("error", rejected);
  }).finally(() => ws.on("error", () => {}).terminate());
}

// request makes one HTTP request on a connection of its own and returns
// { status, headers, body }. Unlike fetch it sends any Host and any Origin.
export async function request(url, { body, ...options } = {}) {
  const sent = httpRequest(url, { agent: false, timeout: 5_000, ...options });
  sent.on("timeout", () => sent.destroy(new Error(`no answer from ${url} in 5 s`)));
  const answered = once(sent, "response");
  sent.end(body);
  const [response] = await answered;
  sent.on("error", () => {}); // a server that refuses a body need not read it
  return { status: response.statusCode, headers: response.headers, body: await text(response) };
}

export const post = (url, body, { headers, ...options } = {}) =>
  request(url, { method: "POST", body, headers: { "Content-Type": "application/json", ...headers }, ...options });

// ask runs an operation by POST and returns its data.
export async function ask(url, query, variables) {
  const { body } = await post(url, JSON.stringify({ query, variables }));
  const { data, errors } = JSON.parse(body);
  if (errors) throw new Error(body);
  return data;
}

// watch runs a subscription to a field, and returns the list that its events
// come to once the stream is open.
export async function watch(t, url, field, query, variables) {
  const socket = await open(t, url, "graphql-transport-ws");
  const events = [];
  socket.ws.on("message", (data) => {
    const { type, payload } = JSON.parse(data);
    if (type === "next" && payload.data) events.push(payload.data[field]);
    if (type === "error") events.push(payload);
  });
  socket.send({ type: "connection_init" });
  await socket.next("connection_ack");
  const extensions = { sluice: { ready: true } };
  socket.send({ id: "1", type: "subscribe", payload: { query, variables, extensions } });
  await socket.next("next");
  return events;
}

async function text(stream) {
  let all = "";
  for await (const chunk of stream.setEncoding("utf8")) all += chunk;
  return all;
}
