// What ticks the steps of the lesson what-is-websocket, and what nearly does.

/** Every step: a run that ticks it, and runs that nearly do. */
export const runs = [
  {
    name: "s1-opens",
    ticks: ["S1"],
    async play(lab) {
      await lab.open("/echo");
    },
  },
  {
    name: "s1-plain-get",
    misses: {
      step: "S1",
      en: "That was a plain GET, answered 400: nothing in it asked for a WebSocket. An address that starts with `ws://` makes a client send `Upgrade: websocket`.",
      ja: "これは普通のGETで、応答は400でした。WebSocketへの切り替えを求めるヘッダーがありません。`ws://`で始まるURLを開くと、クライアントが`Upgrade: websocket`を送ります。",
    },
    async play(lab) {
      await fetch(lab.url("/echo").replace(/^ws/, "http"));
    },
  },
  {
    name: "s2-word",
    ticks: ["S1", "S2"],
    async play(lab) {
      const ws = await lab.open("/echo");
      ws.send(lab.nonce);
      await lab.next(ws);
    },
  },
  {
    name: "s2-binary",
    misses: {
      step: "S2",
      en: "Frame 1 is binary, 8 bytes. Wanted: text. `send` makes text of a string, and binary of an ArrayBuffer, a typed array or a Blob.",
      ja: "フレーム1は8 バイトのバイナリです。必要なのはテキストです。`send`に文字列を渡すとテキスト、ArrayBufferや型付き配列、Blobを渡すとバイナリになります。",
    },
    async play(lab) {
      const ws = await lab.open("/echo");
      ws.send(Buffer.from(lab.nonce));
      await lab.next(ws);
    },
  },
  {
    name: "s2-json",
    misses: {
      step: "S2",
      en: (lab) =>
        `Frame 1 carries 10 bytes: \`"${lab.nonce}"\`. What your program put around the word is part of the message, too: send the string itself, without \`JSON.stringify\`.`,
      ja: (lab) =>
        `フレーム1の中身は10 バイトで、\`"${lab.nonce}"\`です。プログラムが言葉の周りに付けたものも、メッセージの一部になります。\`JSON.stringify\`を通さず、文字列をそのまま送ってください。`,
    },
    async play(lab) {
      const ws = await lab.open("/echo");
      ws.send(JSON.stringify(lab.nonce));
      await lab.next(ws);
    },
  },
  {
    name: "s2-other-text",
    misses: {
      step: "S2",
      en: (lab) =>
        `Frame 1 of connection 1: the text \`hello\`. Wanted: your session's word \`${lab.nonce}\` and nothing else.`,
      ja: (lab) =>
        `コネクション1のフレーム1は、テキスト\`hello\`でした。必要なのは、合い言葉\`${lab.nonce}\`だけです。`,
    },
    async play(lab) {
      const ws = await lab.open("/echo");
      ws.send("hello");
      await lab.next(ws);
    },
  },
  {
    name: "s3-second-later",
    ticks: ["S1", "S3"],
    async play(lab) {
      const ws = await lab.open("/echo");
      ws.send("hello");
      await lab.next(ws);
      await lab.sleep(1200);
      ws.send("still here");
      await lab.next(ws);
    },
  },
  {
    name: "s3-other-connection",
    misses: {
      step: "S3",
      en: "Frame 1 of connection 2: another connection. Wanted: that of frame 1 of connection 1.",
      ja: "コネクション2のフレーム1は、別のコネクションでした。必要なのは、コネクション1のフレーム1と同じコネクションです。",
    },
    async play(lab) {
      const first = await lab.open("/echo");
      first.send("hello");
      await lab.next(first);
      first.close(1000);
      await lab.closed(first);
      await lab.sleep(1200);
      const second = await lab.open("/echo");
      second.send("still here");
      await lab.next(second);
    },
  },
];
