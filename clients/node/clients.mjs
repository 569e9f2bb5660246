// The clients under test, all behind one face:
//
//   client.execute({ query, variables })    one query or mutation -> { data, errors, extensions }
//   client.subscribe({ query, variables })  -> Stream
//   client.sockets                          every WebSocket that the client has opened
//   client.close()
//
// Each is set up as its own documentation shows, with reconnection, and with
// `ws` as the WebSocket of Node.
import { ApolloClient, InMemoryCache, gql } from "@apollo/client/core";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { WebSocketLink } from "@apollo/client/link/ws";
import { Client as UrqlClient, subscriptionExchange } from "@urql/core";
import { createClient } from "graphql-ws";
import { SubscriptionClient } from "subscriptions-transport-ws";
import WebSocket from "ws";
import { atEnd, until } from "./harness.mjs";

// Apollo's GraphQLWsLink compares with WebSocket.CLOSED, which Node 20 lacks.
globalThis.WebSocket ??= WebSocket;

// Stream is what one subscription has brought.
export class Stream {
  results = []; // { data, errors, extensions }, as they came
  ended = null; // then { errors }: null after a completion

  push({ data, errors, extensions }) {
    this.results.push({ data, errors, extensions });
  }

  end(errors = null) {
    this.ended ??= { errors };
  }

  // count waits for the first n results.
  async count(n, options) {
    await this.#until(`${n} results have come`, () => this.results.length >= n, options);
    return this.results.slice(0, n);
  }

  // find waits for a result that fits.
  find(what, fits, options) {
    return this.#until(`${what} has come`, () => this.results.find(fits), options);
  }

  // ending waits for the end.
  ending(options) {
    return until("the subscription has ended", () => this.ended, options).catch((error) => this.#explain(error));
  }

  #until(what, ask, options) {
    const asking = () => {
      const answer = ask();
      if (!answer && this.ended) throw new Error(`the subscription ended before ${what}`);
      return answer;
    };
    return until(what, asking, options).catch((error) => this.#explain(error));
  }

  #explain(error) {
    const told = (_, value) => {
      if (value instanceof Error) return String(value);
      return value?.type === "close" ? { code: value.code, reason: value.reason } : value;
    };
    error.message += `\nresults: ${JSON.stringify(this.results).slice(0, 2000)}\nended: ${JSON.stringify(this.ended, told)}`;
    throw error;
  }
}

// recorder is a WebSocket class that remembers its sockets: what each received,
// and in `closed` the code and reason with which it ended.
function recorder() {
  const sockets = [];
  class Recorded extends WebSocket {
    received = [];
    constructor(...args) {
      super(...args);
      this.on("message", (data) => this.received.push(String(data)));
      this.closed = new Promise((resolved) =>
        this.once("close", (code, reason) => resolved({ code, reason: String(reason) })),
      );
      sockets.push(this);
    }
  }
  return { sockets, Recorded };
}

// Try again for 10 s instead of backing off; keep the socket between operations.
const settings = {
  retryAttempts: 100,
  shouldRetry: () => true, // also where a connection fails without a Close event
  retryWait: () => new Promise((resolved) => setTimeout(resolved, 100)),
  lazy: false,
  onNonLazyError: () => {}, // the operations are told
};

function graphqlWs(url, options) {
  const { sockets, Recorded } = recorder();
  const client = createClient({ url, webSocketImpl: Recorded, ...settings, ...options });
  return { sockets, client };
}

function transportWs(url) {
  const { sockets, Recorded } = recorder();
  const client = new SubscriptionClient(url, { reconnect: true, lazy: true }, Recorded);
  client.onError(() => {}); // a failed attempt is not the last one
  return { sockets, client };
}

// errorsOf makes of what clients throw a list of GraphQL errors.
function errorsOf(error) {
  if (Array.isArray(error)) return error;
  if (error?.graphQLErrors?.length) return error.graphQLErrors; // urql
  if (Array.isArray(error?.errors)) return error.errors; // Apollo
  // Apollo wraps what is no Error; subscriptions-transport-ws throws plain objects.
  if (error?.name === "UnconventionalError") return [error.cause];
  return [error];
}

// first makes of a stream's first result an answer.
async function first(stream) {
  await until("there is an answer", () => stream.ended, { within: 10_000 });
  return stream.results[0] ?? { data: null, errors: stream.ended.errors };
}

export const clients = {
  // graphql-ws over graphql-transport-ws: the client that new projects take.
  "graphql-ws": (url, options) => {
    const { sockets, client } = graphqlWs(url, options);
    const start = (operation) => {
      const stream = new Stream();
      stream.unsubscribe = client.subscribe(operation, {
        next: (result) => stream.push(result),
        error: (error) => stream.end(errorsOf(error)),
        complete: () => stream.end(),
      });
      return stream;
    };
    return { sockets, subscribe: start, execute: (o) => first(start(o)), close: () => client.dispose() };
  },

  // subscriptions-transport-ws over the legacy graphql-ws: what old projects still have.
  "subscriptions-transport-ws": (url) => {
    const { sockets, client } = transportWs(url);
    const start = (operation) => {
      const stream = new Stream();
      const subscription = client.request(operation).subscribe({
        // What a resolver refuses comes as a last result in this protocol.
        next: (result) => (result.data ? stream.push(result) : stream.end(result.errors)),
        error: (error) => stream.end(errorsOf(error)),
        complete: () => stream.end(),
      });
      stream.unsubscribe = () => subscription.unsubscribe();
      return stream;
    };
    return { sockets, subscribe: start, execute: (o) => first(start(o)), close: () => client.close() };
  },

  "Apollo Client over graphql-ws": (url) => {
    const { sockets, client } = graphqlWs(url);
    return apollo(sockets, new GraphQLWsLink(client), () => client.dispose());
  },

  "Apollo Client over subscriptions-transport-ws": (url) => {
    const { sockets, client } = transportWs(url);
    const warn = console.warn;
    console.warn = () => {}; // WebSocketLink says that it is deprecated
    try {
      return apollo(sockets, new WebSocketLink(client), () => client.close());
    } finally {
      console.warn = warn;
    }
  },

  "urql over graphql-ws": (url) => {
    const { sockets, client: socket } = graphqlWs(url);
    const client = new UrqlClient({
      url: url.replace(/^ws/, "http"),
      preferGetMethod: false,
      exchanges: [
        subscriptionExchange({
          enableAllOperations: true,
          forwardSubscription: ({ query, variables }) => ({
            subscribe: (sink) => ({ unsubscribe: socket.subscribe({ query: query ?? "", variables }, sink) }),
          }),
        }),
      ],
    });
    const told = ({ data, error, extensions }) => ({ data, errors: error && errorsOf(error), extensions });
    return {
      sockets,
      subscribe: ({ query, variables = {} }) => {
        const stream = new Stream();
        const subscription = client.subscription(query, variables).subscribe((result) => {
          // urql tells an error, and the end, as one more result with the data
          // of the last one; after an error it does not even end the stream.
          if (result.error) stream.end(errorsOf(result.error));
          else if (!result.hasNext) stream.end();
          else stream.push(told(result));
        });
        stream.unsubscribe = () => subscription.unsubscribe();
        return stream;
      },
      execute: async ({ query, variables = {} }) =>
        told(await (query.startsWith("mutation") ? client.mutation(query, variables) : client.query(query, variables))),
      close: () => socket.dispose(),
    };
  },
};

function apollo(sockets, link, close) {
  const client = new ApolloClient({
    link,
    cache: new InMemoryCache(),
    defaultOptions: {
      query: { fetchPolicy: "no-cache", errorPolicy: "all" },
      mutate: { fetchPolicy: "no-cache", errorPolicy: "all" },
    },
  });
  const told = ({ data, error, extensions }) => ({
    data: withoutTypenames(data),
    errors: error && errorsOf(error),
    extensions,
  });
  return {
    sockets,
    subscribe: ({ query, variables }) => {
      const stream = new Stream();
      let failed = null;
      const subscription = client.subscribe({ query: gql(query), variables, fetchPolicy: "no-cache" }).subscribe({
        // Apollo tells an error as a result without data, then completes.
        next: (result) => (result.data ? stream.push(told(result)) : (failed = errorsOf(result.error))),
        error: (error) => stream.end(errorsOf(error)),
        complete: () => stream.end(failed),
      });
      stream.unsubscribe = () => subscription.unsubscribe();
      return stream;
    },
    execute: async ({ query, variables }) =>
      told(
        await (query.startsWith("mutation")
          ? client.mutate({ mutation: gql(query), variables })
          : client.query({ query: gql(query), variables })),
      ),
    close: () => {
      client.stop();
      return close();
    },
  };
}

// Apollo asks for __typename everywhere, which the tests do not expect.
function withoutTypenames(data) {
  return data && JSON.parse(JSON.stringify(data, (name, value) => (name === "__typename" ? undefined : value)));
}

// connect makes a client that is closed when the test ends.
export function connect(t, name, url, options) {
  const client = clients[name](url, options);
  atEnd(t, async () => {
    try {
      await client.close();
    } catch {
      // its gateway has gone before it
    }
  });
  return client;
}

// established waits until a subscription is in place. Nobody tells a client
// when that is so, hence publish() is called until one of its messages arrives;
// fits recognises them.
export async function established(stream, publish, fits) {
  for (const end = Date.now() + 10_000; Date.now() < end;) {
    await publish();
    try {
      return await stream.find("a first message", fits, { within: 50 });
    } catch (error) {
      if (stream.ended) throw error;
    }
  }
  throw new Error("the subscription has brought nothing in 10 s");
}
