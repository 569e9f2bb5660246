// GraphQL over a session's sockets, message by message.

export const NEW = "graphql-transport-ws";
export const OLD = "graphql-ws";
export const TIME = "subscription { timeUpdates }";

export const init = { type: "connection_init" };

/** What begins an operation in the newer protocol. */
export const subscribe = (id, query = TIME, variables) => ({ id, type: "subscribe", payload: { query, variables } });

export const say = (ws, message) => ws.send(JSON.stringify(message));

/** Waits for a message of a type, and of an id if one is given. */
export async function until(lab, ws, type, id) {
  for (;;) {
    const message = JSON.parse((await lab.next(ws)).text);
    if (message.type === type && (id === undefined || message.id === id)) return message;
  }
}

/** A socket whose connection_init has been acknowledged. */
export async function connected(lab, token = NEW) {
  const ws = await lab.open("/graphql", [token]);
  say(ws, init);
  await until(lab, ws, "connection_ack");
  return ws;
}
