// The gateway as the checks talk to it: GraphQL over HTTP, and what it tells over
// graphql-transport-ws.
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { newGateway } from "../../node/harness.mjs";

/** Starts the built gateway with embedded brokers and without the bounds of a shared host. */
export async function startGateway() {
  const program = newGateway({
    publish: false,
    args: ["--limit", "publish=100000", "--limit", "publish-burst=100000", "--limit", "operations=1000"],
  });
  await program.start();
  const gateway = connect(program.addr);
  return {
    ...gateway,
    async stop() {
      await gateway.close();
      await program.stop();
    },
  };
}

/** A running gateway: gql asks it, subscribe opens a Feed, close hangs up. */
export function connect(addr) {
  const socket = createClient({ url: `ws://${addr}/graphql`, webSocketImpl: WebSocket, retryAttempts: 0 });
  return {
    addr,
    gql: (query, variables, signal) => post(`http://${addr}/graphql`, query, variables, signal),
    subscribe: (query, variables) => subscribe(socket, query, variables),
    close: () => socket.dispose(),
  };
}

// post returns the data, or throws what the errors say.
async function post(url, query, variables, signal) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify({ query, variables }),
    signal,
  });
  const { data, errors } = await response.json();
  if (errors) throw new Error(errors.map(({ message }) => message).join("; "));
  return data;
}

// subscribe returns a Feed once the gateway says that nothing will be missed.
async function subscribe(socket, query, variables) {
  const feed = new Feed();
  await new Promise((ready, failed) => {
    const end = (error) => {
      feed.end(error);
      failed(error);
    };
    feed.close = socket.subscribe(
      { query, variables, extensions: { sluice: { ready: true } } },
      {
        next({ data, errors, extensions }) {
          if (errors) end(new Error(errors.map(({ message }) => message).join("; ")));
          else if (extensions?.sluice?.ready) ready();
          else feed.add(Object.values(data)[0]);
        },
        error: (error) => end(readable(error)),
        complete: () => end(new Error("the subscription has ended")),
      },
    );
  });
  return feed;
}

// readable makes an Error of what graphql-ws reports: GraphQL errors, or how the
// socket was closed.
function readable(error) {
  if (error instanceof Error) return error;
  if (Array.isArray(error)) return new Error(error.map(({ message }) => message).join("; "));
  return new Error(`the socket was closed: ${error.code} ${error.reason}`);
}

/** What a subscription has told so far. */
export class Feed {
  events = [];
  #ended;
  #looks = new Set();

  add(event) {
    this.events.push(event);
    for (const look of this.#looks) look();
  }

  end(error) {
    this.#ended ??= error;
    for (const look of this.#looks) look();
  }

  /** Resolves with the first true answer of pick(events), which is asked again after each event. */
  until(pick, signal) {
    return new Promise((resolved, rejected) => {
      const done = (settle, value) => {
        this.#looks.delete(look);
        signal?.removeEventListener("abort", late);
        settle(value);
      };
      const late = () => done(rejected, signal.reason);
      const look = () => {
        const answer = pick(this.events);
        if (answer) done(resolved, answer);
        else if (this.#ended) done(rejected, this.#ended);
      };
      this.#looks.add(look);
      signal?.addEventListener("abort", late);
      if (signal?.aborted) late();
      else look();
    });
  }
}
