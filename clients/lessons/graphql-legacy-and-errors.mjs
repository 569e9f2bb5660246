// What ticks the steps of the lesson graphql-legacy-and-errors, and what nearly does.

import { connected, init, NEW, OLD, say, subscribe, TIME, until } from "./harness/graphql.mjs";

const start = (id, query = TIME) => ({ id, type: "start", payload: { query } });

/** Every step: a run that ticks it, and runs that nearly do. */
export const runs = [
  {
    name: "s1-start-data-stop",
    ticks: ["S1", "S2"],
    async play(lab) {
      const ws = await connected(lab, OLD);
      say(ws, start("1"));
      for (let i = 0; i < 2; i++) await until(lab, ws, "data", "1");
      say(ws, { id: "1", type: "stop" });
      await until(lab, ws, "complete", "1");
    },
  },
  {
    name: "s1-one-data",
    misses: {
      step: "S1",
      en: "Frame 5 of connection 1: 1 so far. Wanted: 2 in a row.",
      ja: "コネクション1のフレーム5は、ここまでで1 件でした。必要なのは、続けて2 件です。",
    },
    async play(lab) {
      const ws = await connected(lab, OLD);
      say(ws, start("1"));
      await until(lab, ws, "data", "1");
      say(ws, { id: "1", type: "stop" });
      await until(lab, ws, "complete", "1");
    },
  },
  {
    name: "s1-new-words",
    misses: {
      step: "S1",
      en: "Frame 4 of connection 1 is `subscribe`, a message of the newer protocol. This connection agreed on `graphql-ws`: there an operation begins with `start`, and the client ends it with `stop`.",
      ja: "コネクション1のフレーム4は`subscribe`で、新しいプロトコルのメッセージです。このコネクションが決めたのは`graphql-ws`なので、操作は`start`で始め、クライアントからは`stop`で終えます。",
    },
    async play(lab) {
      const ws = await connected(lab, OLD);
      say(ws, subscribe("1"));
      await until(lab, ws, "error", "1");
    },
  },
  {
    name: "s1-complete",
    misses: {
      step: "S1",
      en: "Frame 7 of connection 1 is `complete`, a message of the newer protocol. This connection agreed on `graphql-ws`: there an operation begins with `start`, and the client ends it with `stop`.",
      ja: "コネクション1のフレーム7は`complete`で、新しいプロトコルのメッセージです。このコネクションが決めたのは`graphql-ws`なので、操作は`start`で始め、クライアントからは`stop`で終えます。",
    },
    async play(lab) {
      const ws = await connected(lab, OLD);
      say(ws, start("1"));
      for (let i = 0; i < 2; i++) await until(lab, ws, "data", "1");
      say(ws, { id: "1", type: "complete" });
      await until(lab, ws, "error", "1");
    },
  },
  {
    name: "s1-refused",
    misses: {
      step: "S1",
      en: "Frame 5 of connection 1 is an `error` with the code GRAPHQL_VALIDATION_FAILED: the query was refused, and was not executed. Look at `payload.message`.",
      ja: "コネクション1のフレーム5は、コードがGRAPHQL_VALIDATION_FAILEDの`error`です。queryが断られ、操作は実行されませんでした。`payload.message`を見てください。",
    },
    async play(lab) {
      const ws = await connected(lab, OLD);
      say(ws, start("1", "subscription { tiemUpdates }"));
      await until(lab, ws, "error", "1");
    },
  },
  {
    name: "s1-too-early",
    misses: {
      step: "S1",
      en: "Frame 2 of connection 1 is an `error`: `start` came before `connection_init`. Wait for `connection_ack`, then start.",
      ja: "コネクション1のフレーム2は`error`です。`connection_init`より先に`start`が届いたためです。`connection_ack`を待ってから始めてください。",
    },
    async play(lab) {
      const ws = await lab.open("/graphql", [OLD]);
      say(ws, start("1"));
      await until(lab, ws, "error", "1");
    },
  },
  {
    name: "s1-newer-token",
    misses: {
      step: "S1",
      en: "Frame 3 of connection 1: subprotocol `graphql-transport-ws`. Wanted: subprotocol `graphql-ws`.",
      ja: "コネクション1のフレーム3は、サブプロトコル`graphql-transport-ws`でした。必要なのは、サブプロトコル`graphql-ws`です。",
    },
    async play(lab) {
      const ws = await connected(lab);
      say(ws, start("1"));
      await lab.closed(ws);
    },
  },
  {
    name: "s2-ka",
    ticks: ["S2"],
    async play(lab) {
      const ws = await connected(lab, OLD);
      await until(lab, ws, "ka");
    },
  },
  {
    name: "s2-newer",
    misses: {
      step: "S2",
      en: "Connection 1 was acknowledged, but it speaks `graphql-transport-ws`, which has no `ka`: there either side sends `ping`, and hears `pong`.",
      ja: "コネクション1は認められましたが、話しているのは`graphql-transport-ws`で、これに`ka`はありません。代わりに、どちらの側からでも`ping`を送り、`pong`を受け取ります。",
    },
    async play(lab) {
      await connected(lab);
    },
  },
  {
    name: "s3-4401",
    ticks: ["S3"],
    async play(lab) {
      const ws = await lab.open("/graphql", [NEW]);
      say(ws, subscribe("1", "{ hello }"));
      await lab.closed(ws);
    },
  },
  {
    name: "s3-older",
    misses: {
      step: "S3",
      en: "Frame 2 of connection 1 is an `error`, and the socket lives on: this connection speaks `graphql-ws`, where a `start` that comes too early fails for its id alone. The close codes are those of `graphql-transport-ws`.",
      ja: "コネクション1のフレーム2は`error`で、ソケットは開いたままです。`graphql-ws`では、早すぎた`start`は、そのidの操作が失敗するだけです。クローズコードがあるのは`graphql-transport-ws`です。",
    },
    async play(lab) {
      const ws = await lab.open("/graphql", [OLD]);
      say(ws, start("1", "{ hello }"));
      await until(lab, ws, "error", "1");
    },
  },
  {
    name: "s3-not-whole",
    misses: {
      step: "S3",
      en: "Frame 2 of connection 1: close code 4400. Wanted: close code 4401.",
      ja: "コネクション1のフレーム2は、クローズコード4400でした。必要なのは、クローズコード4401です。",
    },
    async play(lab) {
      const ws = await lab.open("/graphql", [NEW]);
      say(ws, { id: "1", type: "subscribe" });
      await lab.closed(ws);
    },
  },
  {
    name: "s4-4409",
    ticks: ["S4"],
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("1"));
      await until(lab, ws, "next", "1");
      say(ws, subscribe("1"));
      await lab.closed(ws);
    },
  },
  {
    name: "s4-already-over",
    misses: {
      step: "S4",
      en: "Frame 8 of connection 1 ends the operation `1`, and with that its id is free. For 4409 the first operation has to be running still: take one that does not end by itself.",
      ja: "コネクション1のフレーム8で操作`1`が終わり、idは空きました。4409を見るには、1つ目がまだ動いていなければなりません。自分からは終わらない操作を選んでください。",
    },
    async play(lab) {
      const ws = await connected(lab);
      for (let i = 0; i < 2; i++) {
        say(ws, subscribe("1", "{ hello }"));
        await until(lab, ws, "complete", "1");
      }
    },
  },
  {
    name: "s4-two-sockets",
    misses: {
      step: "S4",
      en: "Frame 3 of connection 2: another connection. Wanted: that of frame 3 of connection 1.",
      ja: "コネクション2のフレーム3は、別のコネクションでした。必要なのは、コネクション1のフレーム3と同じコネクションです。",
    },
    async play(lab) {
      for (let i = 0; i < 2; i++) {
        const ws = await connected(lab);
        say(ws, subscribe("1"));
        await until(lab, ws, "next", "1");
      }
    },
  },
  {
    name: "s4-other-id",
    misses: {
      step: "S4",
      en: "Frame 5 of connection 1: id `2`. Wanted: id `1`, as in frame 3 of connection 1.",
      ja: "コネクション1のフレーム5は、idが`2`でした。必要なのは、コネクション1のフレーム3と同じid`1`です。",
    },
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("1"));
      await until(lab, ws, "next", "1");
      say(ws, subscribe("2"));
      await until(lab, ws, "next", "2");
    },
  },
  {
    name: "s5-4429",
    ticks: ["S5"],
    async play(lab) {
      const ws = await lab.open("/graphql", [NEW]);
      say(ws, init);
      say(ws, init);
      await lab.closed(ws);
    },
  },
  {
    name: "s5-two-sockets",
    misses: {
      step: "S5",
      en: "Frame 1 of connection 2: another connection. Wanted: that of frame 1 of connection 1.",
      ja: "コネクション2のフレーム1は、別のコネクションでした。必要なのは、コネクション1のフレーム1と同じコネクションです。",
    },
    async play(lab) {
      await connected(lab);
      await connected(lab);
    },
  },
  {
    name: "s6-not-json",
    ticks: ["S6"],
    async play(lab) {
      const ws = await lab.open("/graphql", [NEW]);
      ws.send("hello");
      await lab.closed(ws);
    },
  },
  {
    name: "s6-unknown-type",
    ticks: ["S6"],
    async play(lab) {
      const ws = await lab.open("/graphql", [NEW]);
      say(ws, { id: "1", type: "stop" });
      await lab.closed(ws);
    },
  },
  {
    name: "s6-no-id",
    misses: {
      step: "S6",
      en: "Connection 1 was closed with 4400 for something else: `Message of type \"complete\" needs an \"id\" that is a string of…`. Its text was JSON, and its type is missing or is one that the protocol has. Wanted: text that is not JSON, or a `type` that the protocol does not have.",
      ja: "コネクション1は4400で閉じましたが、理由は別のもの(`Message of type \"complete\" needs an \"id\" that is a string of…`)です。テキストはJSONで、typeがないか、プロトコルにあるtypeでした。必要なのは、JSONでないテキストか、プロトコルにない`type`です。",
    },
    async play(lab) {
      const ws = await lab.open("/graphql", [NEW]);
      say(ws, { type: "complete" });
      await lab.closed(ws);
    },
  },
  {
    name: "s6-older",
    misses: {
      step: "S6",
      en: "Frame 2 of connection 1 is a `connection_error`, and the socket lives on: the older protocol only reports what it cannot read. Send the same on `graphql-transport-ws`.",
      ja: "コネクション1のフレーム2は`connection_error`で、ソケットは開いたままです。旧プロトコルは、読めないものを知らせるだけです。同じものを`graphql-transport-ws`で送ってください。",
    },
    async play(lab) {
      const ws = await lab.open("/graphql", [OLD]);
      ws.send("hello");
      await until(lab, ws, "connection_error");
    },
  },
  {
    name: "s6-binary",
    misses: {
      step: "S6",
      en: "Connection 1 was closed with 1003, because a message came as binary. That is WebSocket's code for a kind of data that is not accepted; for 4400 send text.",
      ja: "コネクション1は1003で閉じました。バイナリのメッセージが届いたからです。1003は、受け付けない種類のデータに対するWebSocketのコードです。4400を見るには、テキストを送ってください。",
    },
    async play(lab) {
      const ws = await lab.open("/graphql", [NEW]);
      ws.send(new TextEncoder().encode(JSON.stringify(init)));
      await lab.closed(ws);
    },
  },
  {
    name: "s7-4408",
    ticks: ["S7"],
    async play(lab) {
      await lab.closed(await lab.open("/graphql", [NEW]));
    },
  },
  {
    name: "s7-older",
    misses: {
      step: "S7",
      en: "4408 it is, but connection 1 speaks `graphql-ws`, whose document knows no such code: this gateway borrows it. Wanted: the same on `graphql-transport-ws`.",
      ja: "4408ですが、コネクション1が話しているのは`graphql-ws`です。旧プロトコルの仕様にこのコードはなく、このゲートウェイが借りて使っています。同じことを`graphql-transport-ws`で試してください。",
    },
    async play(lab) {
      await lab.closed(await lab.open("/graphql", [OLD]));
    },
  },
  {
    name: "s7-init",
    misses: {
      step: "S7",
      en: "Frame 1 of connection 1 is the `connection_init` that the server was waiting for. For 4408 open a socket and send none.",
      ja: "コネクション1のフレーム1は、サーバーが待っていた`connection_init`です。4408を見るには、ソケットを開いたまま、これを送らずにいてください。",
    },
    async play(lab) {
      const ws = await connected(lab);
      await lab.sleep(3500);
      say(ws, subscribe("1", "{ hello }"));
      await until(lab, ws, "complete", "1"); // the time for connection_init is over, and nothing was closed
    },
  },
  {
    name: "s7-impatient",
    misses: {
      step: "S7",
      en: "The client closed connection 1 before the server lost its patience. For 4408 open a socket, send nothing, and wait.",
      ja: "サーバーが待ちきれなくなる前に、クライアントがコネクション1を閉じました。4408を見るには、ソケットを開き、何も送らずに待ちます。",
    },
    async play(lab) {
      const ws = await lab.open("/graphql", [NEW]);
      ws.close(1000);
      await lab.closed(ws);
    },
  },
];
