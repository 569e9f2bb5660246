// A lab session as the reference clients have it.
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import WebSocket from "ws";

const started = `mutation ($lesson: ID) { startLab(lesson: $lesson) { id name nonce } }`;
const forgotten = `mutation ($id: ID!) { forgetLab(id: $id) }`;
const rawAnswer = `{ status closed answer { kept text(first: 65536) hex(first: 65536) } }`;
const framesSent = `mutation ($input: SendRawFramesInput!) { sendRawFrames(input: $input) ${rawAnswer} }`;
const requestSent = `mutation ($input: SendRawRequestInput!) { sendRawRequest(input: $input) ${rawAnswer} }`;
const answered = `mutation ($input: SubmitAnswerInput!) { submitAnswer(input: $input) { right why } }`;

/** Starts a session for a lesson. What waits in it is given up when the signal says so. */
export async function startLab(gateway, lesson, signal) {
  const { startLab } = await gateway.gql(started, { lesson }, signal);
  return new Lab(gateway, startLab, signal);
}

class Lab {
  WebSocket = WebSocket;
  #gateway;
  #signal;
  #sockets = new Map(); // to what is known of each

  constructor(gateway, { id, name, nonce }, signal) {
    Object.assign(this, { id, name, nonce });
    this.#gateway = gateway;
    this.#signal = signal;
  }

  /** The address of a path below the session: "/echo". */
  url(path) {
    return `ws://${this.#gateway.addr}/lab/${this.id}${path}`;
  }

  /** Opens a socket of the package ws; rejects when the handshake is refused. */
  async open(path, protocols = [], options = {}) {
    const ws = new WebSocket(this.url(path), protocols, options);
    this.#about(ws);
    await once(ws, "open", { signal: this.#signal });
    return ws;
  }

  /** The next message of a socket, in the order of their coming: { text } or { bytes }. */
  async next(ws) {
    const about = this.#about(ws);
    while (about.messages.length === 0) {
      if (about.end) throw new Error(`the connection closed with ${about.end.code} before a message came`);
      await new Promise((news) => about.waiting.push(news));
    }
    return about.messages.shift();
  }

  /** How a socket has ended: { code, reason }. */
  async closed(ws) {
    const about = this.#about(ws);
    while (!about.end) await new Promise((news) => about.waiting.push(news));
    return about.end;
  }

  #about(ws) {
    let about = this.#sockets.get(ws);
    if (about) return about;
    this.#sockets.set(ws, (about = { messages: [], waiting: [], end: undefined }));
    const news = () => about.waiting.splice(0).forEach((tell) => tell());
    ws.on("message", (data, binary) => {
      about.messages.push(binary ? { bytes: data } : { text: String(data) });
      news();
    });
    ws.on("close", (code, reason) => {
      about.end = { code, reason: String(reason) };
      news();
    });
    ws.on("error", () => {}); // it is told by the end, too
    return about;
  }

  /** Has the gateway play frames to the session; options are the other fields of SendRawFramesInput. */
  async raw(path, frames, options = {}) {
    const input = { session: this.id, path: path.replace(/^\//, ""), frames, ...options };
    return (await this.gql(framesSent, { input })).sendRawFrames;
  }

  /** Has the gateway play a request to the session, as it is written. */
  async rawRequest(head, waitMs = 500) {
    return (await this.gql(requestSent, { input: { session: this.id, head, waitMs } })).sendRawRequest;
  }

  /** Asks the gateway's own /graphql; throws what its errors say. */
  gql(query, variables) {
    return this.#gateway.gql(query, variables, this.#signal);
  }

  /** Submits an answer to a step. */
  async answer(step, name, value) {
    return (await this.gql(answered, { input: { session: this.id, step, name, value } })).submitAnswer;
  }

  sleep(ms) {
    return delay(ms, undefined, { signal: this.#signal });
  }

  /** Drops all sockets. */
  hangUp() {
    for (const ws of this.#sockets.keys()) ws.terminate();
    this.#sockets.clear();
  }

  /** Ends the session. */
  async forget() {
    this.hangUp();
    await this.#gateway.gql(forgotten, { id: this.id });
  }
}
