// What ticks the steps of the lesson browser-api, and what nearly does.

// open is how many connections of the session are open at the gateway.
const open = async (lab) =>
  (await lab.gql("query ($id: ID!) { labSession(id: $id) { counts { open } } }", { id: lab.id })).labSession.counts.open;

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
      en: "That was a plain GET, answered 400. `fetch` and the address bar speak HTTP; the handshake is sent by `new WebSocket(url)`.",
      ja: "これは普通のGETで、応答は400でした。`fetch`やアドレス欄はHTTPを話します。ハンドシェイクを送るのは`new WebSocket(url)`です。",
    },
    async play(lab) {
      await fetch(lab.url("/echo").replace(/^ws/, "http"));
    },
  },
  {
    name: "s1-no-server-there",
    misses: {
      step: "S1",
      en: "The handshake asked for `/numbers` and was answered 404: your session has no server there. Your page sees 1006 and nothing more. This lesson has `/echo` and `/number`.",
      ja: "ハンドシェイクは`/numbers`に宛てたもので、応答は404でした。あなたのセッションに、そのサーバーはありません。ページから見えるのは1006だけです。このレッスンで使うのは`/echo`と`/number`です。",
    },
    async play(lab) {
      await lab.open("/numbers").catch(() => {}); // refused, as it should be
    },
  },
  {
    name: "s2-text",
    ticks: ["S1", "S2"],
    async play(lab) {
      const ws = await lab.open("/echo");
      ws.send("日本語");
      await lab.next(ws);
    },
  },
  {
    name: "s2-binary",
    misses: {
      step: "S2",
      en: "Frame 1 is binary, 2 bytes. Wanted: text. What you gave to `send` decides: a string becomes text; a typed array, an `ArrayBuffer`, a `Blob`, or bytes in other languages, become binary.",
      ja: "フレーム1は2 バイトのバイナリでした。必要なのはテキストです。決めるのは`send`に渡した値の型です。文字列ならテキスト、型付き配列、`ArrayBuffer`、`Blob`や、ほかの言語のバイト列ならバイナリになります。",
    },
    async play(lab) {
      const ws = await lab.open("/echo");
      ws.send(new TextEncoder().encode("hi"));
      await lab.next(ws);
    },
  },
  {
    name: "s3-bytes",
    ticks: ["S1", "S3"],
    async play(lab) {
      const ws = await lab.open("/echo");
      ws.send(new Uint8Array([0xde, 0xad, 0xbe, 0xef]));
      await lab.next(ws);
    },
  },
  {
    name: "s3-as-text",
    misses: {
      step: "S3",
      en: "Frame 3 is text, 8 bytes (`DEADBEEF`). Wanted: binary, 4 bytes. Text is what you typed; binary is what the bytes are.",
      ja: "フレーム3は8 バイトのテキスト(`DEADBEEF`)でした。必要なのは4 バイトのバイナリです。テキストは打ったとおりの文字、バイナリはバイトそのものです。",
    },
    async play(lab) {
      const ws = await lab.open("/echo");
      ws.send("hello");
      await lab.next(ws);
      ws.send("DEADBEEF");
      await lab.next(ws);
    },
  },
  {
    name: "s3-backwards",
    misses: {
      step: "S3",
      en: "Frame 1 has the four bytes backwards: `EF BE AD DE`. A `Uint32Array` keeps a number in the order of your machine, the least significant byte first. Write the bytes one by one, or use `DataView`.",
      ja: "フレーム1の4 バイトは、`EF BE AD DE`と逆順でした。`Uint32Array`は、数をそのマシンの順(下位のバイトが先)で持ちます。バイトを1つずつ書くか、`DataView`を使ってください。",
    },
    async play(lab) {
      const ws = await lab.open("/echo");
      const view = new DataView(new ArrayBuffer(4));
      view.setUint32(0, 0xdeadbeef, true); // as a Uint32Array does on most machines
      ws.send(view);
      await lab.next(ws);
    },
  },
  {
    name: "s4-number",
    ticks: ["S1", "S2", "S4"],
    async play(lab) {
      const ws = await lab.open("/number");
      const { bytes } = await lab.next(ws);
      ws.send(String(new DataView(bytes.buffer, bytes.byteOffset).getFloat64(0)));
      const { text } = await lab.next(ws);
      if (JSON.parse(text).type !== "right") throw new Error(text);
    },
  },
  {
    name: "s4-blob-as-text",
    misses: {
      step: "S4",
      en: "Frame 4 is the text `[object Blob]`: that is what a `Blob` or an `ArrayBuffer` looks like as a string. Its bytes have to be read first, with `DataView`.",
      ja: "フレーム4はテキスト`[object Blob]`でした。`Blob`や`ArrayBuffer`を文字列にすると、こうなります。先に`DataView`でバイトを読んでください。",
    },
    async play(lab) {
      const ws = await lab.open("/number");
      const { bytes } = await lab.next(ws);
      ws.send("What number?"); // ticks S2, so that the next one is about S4 alone
      await lab.next(ws);
      ws.send(String(new Blob([bytes])));
      await lab.next(ws);
    },
  },
  {
    name: "s4-bytes-back",
    misses: {
      step: "S4",
      en: "Frame 2 is binary, 8 bytes. Wanted is text: the number in decimal digits, such as `-1.5`.",
      ja: "フレーム2は8 バイトのバイナリでした。必要なのはテキストです。`-1.5`のように、数を10進で書いてください。",
    },
    async play(lab) {
      const ws = await lab.open("/number");
      const { bytes } = await lab.next(ws);
      ws.send(bytes);
      await lab.next(ws);
    },
  },
  {
    name: "s5-two-at-once",
    ticks: ["S1", "S5"],
    async play(lab) {
      await lab.open("/echo");
      await lab.open("/echo");
    },
  },
  {
    name: "s5-one-after-the-other",
    misses: {
      step: "S5",
      en: "The opening of connection 2: connections open at once: 1. Wanted: connections open at once: at least 2.",
      ja: "コネクション2の開始は、同時に1 本のコネクションでした。必要なのは、同時に2 本以上のコネクションです。",
    },
    async play(lab) {
      const first = await lab.open("/echo");
      first.close(1000);
      await lab.closed(first);
      while ((await open(lab)) > 0) await lab.sleep(20); // the server is done with it, too
      await lab.open("/echo");
    },
  },
];
