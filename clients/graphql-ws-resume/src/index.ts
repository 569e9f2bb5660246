// A client of graphql-ws whose subscriptions go on where they were.
//
// graphql-ws connects again by itself and then sends the "subscribe" message of
// each running operation anew, as JSON.stringify writes its payload at that
// moment. So the payload that it is given here has one member that changes:
// `extensions.sluice.resume` is always the cursor of the last event that was
// handed on. When to try again, how long to wait and when to give up all stay
// with graphql-ws and its options, which a client that cancelled and subscribed
// anew would have to do a second time.
import { getOperationAST, parse } from "graphql";
import type { Client, SubscribePayload } from "graphql-ws";

/** What is missing before a result, as it stands in its `extensions.sluice.gap`. */
export interface Gap {
  /**
   * `OUTAGE`: the server had no connection to its source. `OVERFLOW`: a queue was
   * full. The `code` of a {@link Loss}: the stream could not be resumed and was
   * restarted.
   */
  reason: string;
  /** How many events are missing; absent when nobody knows. */
  missed?: number;
  /** When the stream was last known to be whole, RFC 3339; absent when it never was. */
  lastGood?: string;
}

/** Why a stream cannot go on behind the last event. */
export interface Loss {
  /**
   * `CURSOR_TOO_OLD`: what comes next is no longer kept. `CURSOR_INVALID`: the
   * server does not know the cursor, as after it lost its events.
   * `RESUME_UNSUPPORTED`: the server no longer keeps the events of this field.
   */
  code: "CURSOR_TOO_OLD" | "CURSOR_INVALID" | "RESUME_UNSUPPORTED";
  /** The server's sentence about it. */
  message: string;
  /** From where all that is left can be had; absent: only what is yet to come. */
  cursor?: string;
}

export interface ResumeOptions {
  /**
   * Called with each gap, before the result that carries it goes to the sink.
   */
  onGap?: (gap: Gap, payload: SubscribePayload) => void;
  /**
   * Decides how a stream that cannot be resumed continues. `"restart"`, or
   * nothing: with all that is left; the first result then carries a gap. `"fail"`:
   * the sink gets the server's error.
   *
   * @default restart
   */
  onLost?: (loss: Loss, payload: SubscribePayload) => "restart" | "fail" | void;
  /**
   * Says whether an operation is one to resume. All others go through untouched.
   *
   * @default whether its document is a subscription
   */
  resumes?: (payload: SubscribePayload) => boolean;
  /**
   * Waits before a stream is asked for again that the server refused for the
   * moment (`LOG_UNAVAILABLE`), or whose loss follows another without an event in
   * between. `retries` counts from 0, anew after each event. The sink gets the
   * error with which it rejects.
   *
   * @default 0.5 to 1 second, doubled with each retry up to 30 seconds
   */
  retryWait?: (retries: number) => Promise<void>;
}

/**
 * Makes subscriptions of a client resume after a lost connection. The client
 * that it returns has the same shape and is used instead of the one given.
 *
 * graphql-ws has to be told to come back: by default it gives up when a first
 * attempt fails without a Close event, as it does while a server restarts. So
 * create the client with `shouldRetry: () => true` and `retryAttempts: Infinity`.
 */
export function resuming<C extends Client>(client: C, options: ResumeOptions = {}): C {
  const { onGap, onLost, resumes = isSubscription, retryWait = backoff } = options;
  const paused = new Set<() => void>(); // ends the streams that wait to be asked for again

  // terminate() goes on without waiting for the old socket, which still hands on
  // what arrives. That comes through the new one, too.
  let socket: { onmessage?: unknown } | undefined;
  client.on("connected", (connected) => (socket = connected as typeof socket));
  client.on("closed", (event) => {
    if ((event as { code?: number } | undefined)?.code === 4499 && socket) socket.onmessage = null;
  });

  function subscribe(payload: SubscribePayload, sink: ResultSink): () => void {
    if (!resumes(payload)) return client.subscribe(payload, sink as Parameters<Client["subscribe"]>[1]);

    const asked = (payload.extensions?.sluice ?? {}) as Asked;
    let cursor = asked.resume; // behind which the stream goes on; undefined: with what is yet to come
    let lost: Gap | undefined; // what the next result has to tell
    let open = false; // whether anything has come since the message last went out
    let retries = 0;
    let left = false;
    let stop: () => void;

    const resumable = {
      ...payload,
      extensions: {
        ...payload.extensions,
        sluice: {
          ...asked,
          ready: true,
          cursor: true,
          get resume() {
            open = false;
            return cursor;
          },
        },
      },
    };

    const start = () => {
      stop = client.subscribe(resumable, { next, error, complete: () => sink.complete() } as Parameters<
        Client["subscribe"]
      >[1]);
    };

    function next(result: Result): void {
      const { ready, cursor: at } = notesOf(result);
      if (cursor !== undefined && (ready ? at !== cursor : !open)) {
        lost = { reason: "RESUME_UNSUPPORTED" }; // by a server that took no notice of the cursor
        cursor = undefined;
      } else if (!ready && at !== undefined && at === cursor) {
        return; // it was handed on before
      }
      cursor = at ?? cursor;
      open = true;
      if (!ready) retries = 0;
      if (ready && !asked.ready) return;
      if (lost && !ready) {
        result = withGap(result, lost);
        lost = undefined;
      }
      const { gap } = notesOf(result);
      if (gap) onGap?.(gap, payload);
      sink.next(result);
    }

    function error(error: unknown): void {
      const begun = cursor !== undefined || lost !== undefined;
      const refusal = begun ? refusalOf(error) : undefined;
      if (!refusal) return sink.error(error);
      if (refusal.code === "LOG_UNAVAILABLE") return again();
      if (onLost?.(refusal as Loss, payload) === "fail") return sink.error(error);
      if (left) return sink.complete(); // onLost has unsubscribed
      lost = { reason: refusal.code };
      cursor = refusal.cursor;
      if (retries++ === 0) start();
      else again();
    }

    function again(): void {
      const end = () => {
        if (paused.delete(end)) sink.complete();
      };
      paused.add((stop = end));
      retryWait(retries++).then(
        () => paused.delete(end) && start(),
        (error: unknown) => paused.delete(end) && sink.error(error),
      );
    }

    start();
    return () => {
      left = true;
      stop();
    };
  }

  return {
    ...client,
    subscribe,
    iterate: (payload: SubscribePayload) => iterate((sink) => subscribe(payload, sink)),
    dispose() {
      for (const end of paused) end();
      return client.dispose();
    },
  };
}

/** What the server says of a result: docs/protocol.md of Sluice. */
interface Notes {
  ready?: boolean;
  cursor?: string;
  gap?: Gap;
}

/** What a client asks for in the extensions of its request. */
interface Asked {
  resume?: string;
  ready?: boolean;
}

interface Result {
  extensions?: Record<string, unknown>;
}

interface ResultSink {
  next(result: Result): void;
  error(error: unknown): void;
  complete(): void;
}

function notesOf(result: Result): Notes {
  return (result.extensions?.sluice ?? {}) as Notes;
}

function withGap(result: Result, gap: Gap): Result {
  return { ...result, extensions: { ...result.extensions, sluice: { gap, ...notesOf(result) } } };
}

const refusals = ["CURSOR_TOO_OLD", "CURSOR_INVALID", "RESUME_UNSUPPORTED", "LOG_UNAVAILABLE"];

/** Finds in what ended an operation the refusal to go on behind a cursor. */
function refusalOf(error: unknown): { code: string; message: string; cursor?: string } | undefined {
  if (!Array.isArray(error)) return undefined;
  for (const { message, extensions } of error) {
    if (refusals.includes(extensions?.code)) return { code: extensions.code, message, cursor: extensions.cursor };
  }
  return undefined;
}

function isSubscription({ query, operationName }: SubscribePayload): boolean {
  try {
    return getOperationAST(parse(query), operationName)?.operation === "subscription";
  } catch {
    return false; // the server says what is wrong with it
  }
}

function backoff(retries: number): Promise<void> {
  const longest = Math.min(1_000 * 2 ** retries, 30_000);
  return new Promise((resolve) => setTimeout(resolve, longest * (0.5 + Math.random() / 2)));
}

/** Makes of a subscription an iterator, with the ways of graphql-ws. */
function iterate(subscribe: (sink: ResultSink) => () => void): AsyncIterableIterator<any> {
  const results: Result[] = [];
  let ended: { error?: unknown } | undefined;
  let wake = () => {};
  const end = (how: { error?: unknown }) => {
    ended ??= how;
    wake();
  };
  const stop = subscribe({
    next(result) {
      results.push(result);
      wake();
    },
    error: (error) => end({ error }),
    complete: () => end({}),
  });
  const iterator = (async function* () {
    for (;;) {
      if (results.length === 0 && !ended) await new Promise<void>((resolve) => (wake = resolve));
      while (results.length > 0) yield results.shift();
      if (ended && "error" in ended) throw ended.error;
      if (ended) return;
    }
  })();
  // A generator that waits for a result would not hear of its end before one came.
  const leave = async (how: { error?: unknown }) => {
    stop();
    results.length = 0;
    end(how);
    return { done: true as const, value: undefined };
  };
  return Object.assign(iterator, { return: () => leave({}), throw: (error: unknown) => leave({ error }) });
}
