// What ticks the steps of the lesson ready-states-and-close, and what nearly does.

/** Opens a connection to the echo server, closes it as `close` says, and waits for its end. */
async function closing(lab, close) {
  const ws = await lab.open("/echo");
  close(ws);
  await lab.closed(ws);
}

/** Waits until `/cut` has dropped TCP, and returns what the client was told. */
async function cut(lab) {
  const ws = await lab.open("/cut");
  return lab.closed(ws);
}

/** Every step: a run that ticks it, and runs that nearly do. */
export const runs = [
  {
    name: "s1-planned",
    ticks: ["S1"],
    async play(lab) {
      await closing(lab, (ws) => ws.close(1000));
    },
  },
  {
    name: "s1-gone",
    misses: {
      step: "S1",
      en: "Connection 1 ended without a Close frame: TCP was gone. A program that exits, or a library's `terminate` or `destroy`, does that. Wanted: a Close frame of yours, with 1000.",
      ja: "コネクション1は、CloseフレームがないままTCPが終わりました。プログラムを終了したり、ライブラリーの`terminate`や`destroy`を呼んだりすると、こうなります。必要なのは、1000を入れたあなたのCloseフレームです。",
    },
    async play(lab) {
      await closing(lab, (ws) => ws.terminate());
    },
  },
  {
    name: "s1-page-left",
    misses: {
      step: "S1",
      en: "Frame 1 closes with 1001: that is what a browser sends when its page is left or reloaded. Call `close` yourself while the page is there.",
      ja: "フレーム1は1001で閉じています。ページから移動したり読み込み直したりすると、ブラウザがこれを送ります。ページを開いたまま、自分で`close`を呼んでください。",
    },
    async play(lab) {
      await closing(lab, (ws) => ws.close(1001));
    },
  },
  {
    name: "s2-own-code",
    ticks: ["S2"],
    async play(lab) {
      await closing(lab, (ws) => ws.close(4001, "done for today"));
    },
  },
  {
    name: "s2-no-reason",
    misses: {
      step: "S2",
      en: "Frame 1 closes with 4001 and no reason: its body is the two bytes of the code. The reason is the second argument of `close`.",
      ja: "フレーム1は4001で閉じていますが、理由がありません。中身はコードの2 バイトだけです。理由は`close`の第2引数に渡します。",
    },
    async play(lab) {
      await closing(lab, (ws) => ws.close(4001));
    },
  },
  {
    name: "s2-registered-code",
    misses: {
      step: "S2",
      en: "Frame 1 closes with 3000. 3000 to 3999 are registered with IANA, for libraries and frameworks; codes of your own begin at 4000.",
      ja: "フレーム1は3000で閉じています。3000から3999は、ライブラリーやフレームワークがIANAに登録して使う番号です。自分で決める番号は4000からです。",
    },
    async play(lab) {
      await closing(lab, (ws) => ws.close(3000, "done"));
    },
  },
  {
    name: "s3-empty",
    ticks: ["S3"],
    async play(lab) {
      await closing(lab, (ws) => ws.close());
    },
  },
  {
    name: "s3-with-a-code",
    misses: {
      step: "S3",
      en: "Frame 1 is a Close frame with a body of 2 bytes: the code 1000 is in it. Wanted: no body at all, neither code nor reason.",
      ja: "フレーム1は、中身が2 バイトのCloseフレームです。コード1000が入っています。必要なのは、コードも理由もない、空のフレームです。",
    },
    async play(lab) {
      await closing(lab, (ws) => ws.close(1000));
    },
  },
  {
    name: "s3-written-1005",
    misses: {
      step: "S3",
      en: "Frame 1 has 1005 written in it, as `03 ED`. That code must not be sent: it is the word for a body that is not there. Wanted: a Close frame of length 0.",
      ja: "フレーム1には`03 ED`、つまり1005が書かれています。送ってはならないコードです。「中身がない」ことを指す番号だからです。必要なのは長さ0のCloseフレームです。",
    },
    async play(lab) {
      await lab.raw("echo", [{ opcode: 8, hex: "03 ED" }]);
    },
  },
  {
    name: "s4-server-leaves",
    ticks: ["S4"],
    async play(lab) {
      const ws = await lab.open("/going-away");
      const { code } = await lab.closed(ws);
      if (code !== 1001) throw new Error(`closed with ${code}`);
    },
  },
  {
    name: "s4-no-answer",
    misses: {
      step: "S4",
      en: "The server's Close with 1001 is frame 2, and no Close came back: your client ended TCP, or never answered. A WebSocket library answers by itself, if it is left alone until its `close` event.",
      ja: "フレーム2でサーバーが1001のCloseを送りましたが、Closeが返ってきません。クライアントがTCPを終えたか、応えなかったかです。WebSocketのライブラリーなら、`close`イベントまで待てばひとりでに返します。",
    },
    async play(lab) {
      await lab.raw("going-away", [], { waitMs: 1500 }); // it answers no Close
    },
  },
  {
    name: "s4-script-ended",
    misses: {
      step: "S4",
      en: "TCP was gone before the server's Close frame, which comes a second after its greeting. A script that ends takes its connections with it: keep it running until the `close` event.",
      ja: "サーバーのCloseフレームは挨拶の1秒後に来ますが、その前にTCPが終わりました。スクリプトが終われば、コネクションも道連れです。`close`イベントまで動かしておいてください。",
    },
    async play(lab) {
      const ws = await lab.open("/going-away");
      await lab.next(ws);
      ws.terminate();
      await lab.closed(ws);
    },
  },
  {
    name: "s5-cut-and-told",
    ticks: ["S5"],
    async play(lab) {
      const { code } = await cut(lab);
      await lab.answer("S5", "code", code);
      await lab.answer("S5", "wasClean", false);
    },
  },
  {
    name: "s5-says-1005",
    misses: {
      step: "S5",
      en: "1005 is for a Close frame with an empty body. Here no Close frame came at all: run `/cut` once more and read `event.code`.",
      ja: "1005は、中身が空のCloseフレームが来たときの番号です。ここではCloseフレームそのものが来ていません。もう一度`/cut`につなぎ、`event.code`を読んでください。",
    },
    async play(lab) {
      await cut(lab);
      await lab.answer("S5", "code", 1005);
    },
  },
  {
    name: "s5-says-clean",
    misses: {
      step: "S5",
      en: "Clean means that two Close frames were exchanged before TCP ended. On the connection to `/cut` there was none.",
      ja: "`wasClean`がtrueになるのは、TCPが終わる前にCloseフレームを互いに送ったときです。`/cut`とのコネクションには、1つもありませんでした。",
    },
    async play(lab) {
      const { code } = await cut(lab);
      await lab.answer("S5", "code", code);
      await lab.answer("S5", "wasClean", true);
    },
  },
  {
    name: "s5-before-the-cut",
    misses: {
      step: "S5",
      en: "Your answer: too early. Wanted: end of a connection (path `/cut`, ended by the server, by a reset (RST)) before it.",
      ja: "回答は、早すぎるタイミングでした。必要なのは、その前のコネクションの終わり(パス`/cut`、サーバーから、リセット(RST)による終わり)です。",
    },
    async play(lab) {
      await lab.answer("S5", "code", 1006);
    },
  },
];
