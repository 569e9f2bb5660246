// What ticks the steps of the lesson graphql-subscriptions, and what nearly does.

import { connected, init, say, subscribe, until } from "./harness/graphql.mjs";

const complete = (id) => ({ id, type: "complete" });

/** Every step: a run that ticks it, and runs that nearly do. */
export const runs = [
  {
    name: "s1-token",
    ticks: ["S1"],
    async play(lab) {
      const ws = await lab.open("/graphql", ["graphql-transport-ws"]);
      ws.close(1000);
    },
  },
  {
    name: "s1-legacy",
    misses: {
      step: "S1",
      en: "Connection 1 speaks `graphql-ws`. That token is the older protocol's; the npm package of the same name speaks `graphql-transport-ws`. Offer that one.",
      ja: "コネクション1は`graphql-ws`を話しています。これは旧プロトコルのトークンです。同じ名前のnpmパッケージが話すのは`graphql-transport-ws`なので、こちらを提案してください。",
    },
    async play(lab) {
      const ws = await lab.open("/graphql", ["graphql-ws"]);
      ws.close(1000);
    },
  },
  {
    name: "s1-none",
    misses: {
      step: "S1",
      en: "The handshake was answered 400: it offered no subprotocol that this server speaks. A client offers them in `Sec-WebSocket-Protocol`; in a browser that is the second argument of `new WebSocket`.",
      ja: "ハンドシェイクの応答は400でした。このサーバーが話せるサブプロトコルの提案がありません。提案は`Sec-WebSocket-Protocol`に入ります。ブラウザでは`new WebSocket`の第2引数です。",
    },
    async play(lab) {
      await lab.open("/graphql").catch(() => {}); // refused, as it should be
    },
  },
  {
    name: "s2-acknowledged",
    ticks: ["S1", "S2"],
    async play(lab) {
      await connected(lab);
    },
  },
  {
    name: "s2-legacy",
    misses: {
      step: "S2",
      en: "Frame 2 of connection 1: subprotocol `graphql-ws`. Wanted: subprotocol `graphql-transport-ws`.",
      ja: "コネクション1のフレーム2は、サブプロトコル`graphql-ws`でした。必要なのは、サブプロトコル`graphql-transport-ws`です。",
    },
    async play(lab) {
      await connected(lab, "graphql-ws");
    },
  },
  {
    name: "s2-too-late",
    misses: {
      step: "S2",
      en: "The server closed connection 1 with 4408: its time for `connection_init` was over. Send it as soon as the `open` event comes.",
      ja: "サーバーがコネクション1を4408で閉じました。`connection_init`を待つ時間が過ぎたからです。`open`イベントが来たら、すぐに送ってください。",
    },
    async play(lab) {
      await lab.closed(await lab.open("/graphql", ["graphql-transport-ws"]));
    },
  },
  {
    name: "s3-three",
    ticks: ["S1", "S2", "S3"],
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("1"));
      for (let i = 0; i < 3; i++) await until(lab, ws, "next", "1");
    },
  },
  {
    name: "s3-other-field",
    misses: {
      step: "S3",
      en: "Frame 3 of connection 1: fields `countdown`. Wanted: fields with `timeUpdates`.",
      ja: "コネクション1のフレーム3は、フィールド`countdown`でした。必要なのは、`timeUpdates`を含むフィールドです。",
    },
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("c", "subscription { countdown(from: 3, intervalMs: 100) }"));
      await until(lab, ws, "complete", "c");
    },
  },
  {
    name: "s3-two",
    misses: {
      step: "S3",
      en: "Frame 5 of connection 1: 2 so far. Wanted: 3 in a row.",
      ja: "コネクション1のフレーム5は、ここまでで2 件でした。必要なのは、続けて3 件です。",
    },
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("1"));
      for (let i = 0; i < 2; i++) await until(lab, ws, "next", "1");
      ws.close(1000);
    },
  },
  {
    name: "s4-two-ids",
    ticks: ["S1", "S2", "S4"],
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("1"));
      await until(lab, ws, "next", "1");
      say(ws, subscribe("2", "subscription { countdown(from: 3) }"));
      await until(lab, ws, "next", "2");
      await until(lab, ws, "next", "1");
    },
  },
  {
    name: "s4-two-sockets",
    misses: {
      step: "S4",
      en: "Frame 4 of connection 2 is a result of the operation `2`. Wanted: two operations on one connection, each with an id of its own, and results of both after the second has begun.",
      ja: "コネクション2のフレーム4は、操作`2`の結果です。必要なのは、1本のコネクションで別々のidを持つ操作が2つ動き、2つ目が始まったあとに両方の結果が届くことです。",
    },
    async play(lab) {
      const first = await connected(lab);
      say(first, subscribe("1", "subscription { countdown(from: 0) }"));
      await until(lab, first, "complete", "1");
      const second = await connected(lab);
      say(second, subscribe("2", "subscription { countdown(from: 0) }"));
      await until(lab, second, "complete", "2");
    },
  },
  {
    name: "s4-one-after-the-other",
    misses: {
      step: "S4",
      en: "Frame 7 of connection 1 is a result of the operation `2`. Wanted: two operations on one connection, each with an id of its own, and results of both after the second has begun.",
      ja: "コネクション1のフレーム7は、操作`2`の結果です。必要なのは、1本のコネクションで別々のidを持つ操作が2つ動き、2つ目が始まったあとに両方の結果が届くことです。",
    },
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("1"));
      await until(lab, ws, "next", "1");
      say(ws, complete("1"));
      say(ws, subscribe("2", "subscription { countdown(from: 0) }"));
      await until(lab, ws, "complete", "2");
    },
  },
  {
    name: "s5-stopped",
    ticks: ["S1", "S2", "S5"],
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("1"));
      await until(lab, ws, "next", "1");
      say(ws, complete("1"));
      await lab.sleep(2200);
    },
  },
  {
    name: "s5-other-id",
    misses: {
      step: "S5",
      en: "Frame 5 of connection 1: id `2`. Wanted: id `1`, as in frame 3 of connection 1.",
      ja: "コネクション1のフレーム5は、idが`2`でした。必要なのは、コネクション1のフレーム3と同じid`1`です。",
    },
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("1"));
      await until(lab, ws, "next", "1");
      say(ws, complete("2"));
      await until(lab, ws, "next", "1");
    },
  },
  {
    name: "s5-closed",
    misses: {
      step: "S5",
      en: "The client closed connection 1. That ends every operation on it at once; this step wants `complete` for one id, with the socket open.",
      ja: "クライアントがコネクション1を閉じました。これでは、その上の操作がすべて終わります。ソケットを開けたまま、1つのidに`complete`を送ってください。",
    },
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("1"));
      await until(lab, ws, "next", "1");
      ws.close(1000);
      await lab.closed(ws);
    },
  },
  {
    name: "s5-stop",
    misses: {
      step: "S5",
      en: "Frame 5 of connection 1 is `stop`, which belongs to the older protocol. Here the client ends an operation with `complete`.",
      ja: "コネクション1のフレーム5は`stop`です。これは旧プロトコルのもので、ここではクライアントも`complete`で操作を終えます。",
    },
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("1"));
      await until(lab, ws, "next", "1");
      say(ws, { id: "1", type: "stop" });
      await lab.closed(ws);
    },
  },
  {
    name: "s6-ping",
    ticks: ["S1", "S2", "S6"],
    async play(lab) {
      const ws = await connected(lab);
      say(ws, { type: "ping", payload: { sent: 1 } });
      await until(lab, ws, "pong");
    },
  },
  {
    name: "s6-control-frame",
    misses: {
      step: "S6",
      en: "Frame 3 of connection 1 is a WebSocket ping, opcode 9: the subprotocol does not see it. Its own ping is a text message with the type `ping`.",
      ja: "コネクション1のフレーム3は、opcodeが9のWebSocketのpingです。サブプロトコルからは見えません。サブプロトコルのpingは、typeが`ping`のテキストメッセージです。",
    },
    async play(lab) {
      const ws = await connected(lab);
      const pong = new Promise((heard) => ws.once("pong", heard));
      ws.ping("1");
      await pong;
    },
  },
  {
    name: "s6-unasked-pong",
    misses: {
      step: "S6",
      en: "Frame 3 of connection 1 is a `pong` that nobody asked for. It is allowed, and is not answered. Ask with `ping`.",
      ja: "コネクション1のフレーム3は、誰も求めていない`pong`です。送ってもかまいませんが、応答はありません。`ping`で尋ねてください。",
    },
    async play(lab) {
      const ws = await connected(lab);
      say(ws, { type: "pong" });
      say(ws, subscribe("1", "{ hello }"));
      await until(lab, ws, "complete", "1");
    },
  },
  {
    name: "s7-no-such-field",
    ticks: ["S1", "S2", "S7"],
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("1", "subscription { tiemUpdates }"));
      await until(lab, ws, "error", "1");
      await lab.sleep(1200);
    },
  },
  {
    name: "s7-resolver-failed",
    misses: {
      step: "S7",
      en: "Frame 4 of connection 1 is a `next` with `errors` in its payload: the operation was executed, and one of its fields failed. Wanted: one that is refused before it runs, because the schema has no such field.",
      ja: "コネクション1のフレーム4は、payloadに`errors`を含む`next`です。操作は実行され、フィールドの1つが失敗しました。必要なのは、スキーマにないフィールドを求めて、実行前に断られる操作です。",
    },
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("1", "{ fail }"));
      await until(lab, ws, "complete", "1");
    },
  },
  {
    name: "s7-syntax",
    misses: {
      step: "S7",
      en: "Frame 4 of connection 1 is an `error` because the text is no GraphQL: a bracket or a name is missing. Wanted: a query that parses and names a field that the schema does not have.",
      ja: "コネクション1のフレーム4の`error`は、構文の誤りによるものです。かっこや名前が足りません。必要なのは、構文は正しく、スキーマにないフィールドを求めるqueryです。",
    },
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("1", "subscription {"));
      await until(lab, ws, "error", "1");
    },
  },
];
