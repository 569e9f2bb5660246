// The two kinds of clients of an event stream, made to look the same.
//
// connect.name(url, { query, variables }) returns a stream: its results so far,
// ended (a promise that is fulfilled by the event "complete" and rejected by
// anything else), and close().
import { EventSource } from "eventsource";
import { createClient } from "graphql-sse";
import { until } from "./gateway.mjs";

export const connect = {
  // POST; the subscription ends with the client's abort.
  "graphql-sse": (url, request) => {
    const client = createClient({ url, retryAttempts: 0 });
    return stream(({ next, complete, fail }) => {
      client.subscribe(request, { next, complete, error: fail });
      return () => client.dispose();
    });
  },

  // GET, as a page does it.
  EventSource: (url, { query, variables, operationName }) => {
    const address = new URL(url);
    address.searchParams.set("query", query);
    if (variables) address.searchParams.set("variables", JSON.stringify(variables));
    if (operationName) address.searchParams.set("operationName", operationName);
    return stream(({ next, complete, fail }) => {
      const source = new EventSource(address);
      source.addEventListener("next", ({ data }) => next(JSON.parse(data)));
      source.addEventListener("complete", () => {
        source.close(); // or it would subscribe again
        complete();
      });
      source.addEventListener("error", (event) => {
        source.close();
        fail(Object.assign(new Error(event.message), { code: event.code }));
      });
      return () => source.close();
    });
  },
};

function stream(open) {
  const results = [];
  let close;
  const ended = new Promise((resolved, rejected) => {
    close = open({ next: (result) => results.push(result), complete: () => resolved(), fail: rejected });
  });
  ended.catch(() => {}); // who waits for it is told
  return {
    results,
    ended,
    close,
    async count(n) {
      await until(`${n} results have come; there are ${JSON.stringify(results)}`, () => results.length >= n);
      return results;
    },
  };
}
