// Connects to the first of several WebSocket servers that answers.

/**
 * @typedef {{ name: string, url: string }} Service
 *
 * One try. While it runs its outcome is "connecting"; it ends as
 * "open"     the connection stands
 * "refused"  it was closed before it stood
 * "timeout"  it neither stood nor was closed in time
 * "aborted"  the caller's signal came first
 * @typedef {object} Try
 * @property {Service} service
 * @property {"connecting" | "open" | "refused" | "timeout" | "aborted"} outcome
 * @property {number} milliseconds since the try began
 * @property {number | null} code of the Close event of a refused try, 1006 as a rule; null: there was none
 */

/** Every service was tried, once, and none stands. `tries` says how each ended. */
export class NoServiceError extends Error {
  /** @param {Try[]} tries */
  constructor(tries) {
    super(`None of ${tries.length} services could be reached`);
    this.name = "NoServiceError";
    this.tries = tries;
  }
}

/**
 * Tries every service once, from the one named `first` on and round, each for
 * `timeout` milliseconds. When the promise has settled, no timer runs, and no
 * socket but the one that is returned is open or will be: one that opens late is
 * closed. The returned socket has no handlers; set them at once.
 *
 * @param {Service[]} services
 * @param {object} [options]
 * @param {string} [options.first] the name of the service to begin with [the list's first]
 * @param {number} [options.timeout] milliseconds for each try [10,000]
 * @param {(attempt: Try) => void} [options.onTry] is told when a try begins and how it ends
 * @param {AbortSignal} [options.signal] ends it: the promise rejects with the signal's reason
 * @param {typeof WebSocket} [options.WebSocket] [the global one]
 * @param {() => number} [options.now] milliseconds that never go backwards [performance.now]
 * @returns {Promise<{ socket: WebSocket, service: Service, tries: Try[] }>} rejects with a NoServiceError
 */
export async function connectWithFallback(services, options = {}) {
  const { first, timeout = 10_000, onTry = () => {}, signal, now = () => performance.now() } = options;
  const Socket = options.WebSocket ?? globalThis.WebSocket;
  const start = first === undefined ? 0 : services.findIndex(({ name }) => name === first);
  if (start < 0) throw new RangeError(`There is no service named "${first}"`);

  const tries = [];
  for (const service of [...services.slice(start), ...services.slice(0, start)]) {
    signal?.throwIfAborted();
    onTry({ service, outcome: "connecting", milliseconds: 0, code: null });
    const began = now();
    const { socket, ...ending } = await tryOnce(Socket, service.url, timeout, signal);
    const attempt = { service, ...ending, milliseconds: Math.round(now() - began) };
    tries.push(attempt);
    try {
      onTry(attempt);
    } catch (error) {
      socket?.close(); // nobody will get it
      throw error;
    }
    if (attempt.outcome === "open") return { socket, service, tries };
    if (attempt.outcome === "aborted") throw signal.reason;
  }
  throw new NoServiceError(tries);
}

/** Resolves when one try has ended; with a socket only if it is open. */
function tryOnce(Socket, url, timeout, signal) {
  return new Promise((resolve) => {
    let socket;
    try {
      socket = new Socket(url);
    } catch {
      resolve({ outcome: "refused", code: null }); // the page may not connect there
      return;
    }
    const settle = (result) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      socket.onopen = socket.onerror = socket.onclose = null;
      resolve(result);
    };
    const giveUp = (outcome) => {
      settle({ outcome, code: null });
      socket.onopen = () => socket.close(); // too late
      socket.onerror = () => {}; // so is this
      socket.close();
    };
    const abort = () => giveUp("aborted");
    const timer = setTimeout(() => giveUp("timeout"), timeout);
    signal?.addEventListener("abort", abort);
    socket.onopen = () => settle({ outcome: "open", code: null, socket });
    socket.onerror = () => {}; // the Close event follows and has the code
    socket.onclose = ({ code }) => settle({ outcome: "refused", code });
  });
}
