// What ticks the steps of the lesson frame-anatomy, and what nearly does.

/** Sends messages of these sizes to the echo server, one after the other. */
async function send(lab, ...sizes) {
  const ws = await lab.open("/echo", [], { perMessageDeflate: false });
  for (const size of sizes) {
    ws.send("a".repeat(size));
    await lab.next(ws);
  }
}

/** Sends one frame with the length in that form, which is not the shortest: the server closes with 1002. */
async function sendIn(lab, lengthForm, size) {
  await lab.raw("echo", [{ text: "a".repeat(size), lengthForm }]);
}

/** Every step: a run that ticks it, and runs that nearly do. */
export const runs = [
  {
    name: "s1-short",
    ticks: ["S1"],
    async play(lab) {
      await send(lab, 125);
    },
  },
  {
    name: "s1-not-the-shortest",
    misses: {
      step: "S1",
      en: "Frame 1 writes the length of 5 bytes in 16 bits, although it would fit into 7. The RFC allows the shortest form only, and the server answered with 1002.",
      ja: "フレーム1は、5 バイトという長さを16 ビットで書いています。7 ビットに入る長さです。RFCが許すのは最短の形だけなので、サーバーは1002を返しました。",
    },
    async play(lab) {
      await sendIn(lab, 16, 5);
    },
  },
  {
    name: "s1-only-long-ones",
    misses: {
      step: "S1",
      en: "Frame 3 of connection 1: a length in 16 bits. Wanted: a length in 7 bits.",
      ja: "コネクション1のフレーム3は、16 ビットの長さ表記でした。必要なのは、7 ビットの長さ表記です。",
    },
    async play(lab) {
      await send(lab, 300, 300);
    },
  },
  {
    name: "s2-middle",
    ticks: ["S2"],
    async play(lab) {
      await send(lab, 126);
    },
  },
  {
    name: "s2-125",
    misses: {
      step: "S2",
      en: "Frame 3 of connection 1: a length in 7 bits, a payload of 125 bytes. Wanted: a length in 16 bits, a payload of at least 126 bytes.",
      ja: "コネクション1のフレーム3は、7 ビットの長さ表記、125 バイトのペイロードでした。必要なのは、16 ビットの長さ表記、126 バイト以上のペイロードです。",
    },
    async play(lab) {
      await send(lab, 5, 125);
    },
  },
  {
    name: "s2-not-needed",
    misses: {
      step: "S2",
      en: "Frame 1 has the 16-bit form, but its 125 bytes fit into the 7 bits, and the server answered with 1002. Wanted: a payload that needs this form.",
      ja: "フレーム1は16 ビットの形ですが、125 バイトなら7 ビットに入ります。サーバーは1002を返しました。必要なのは、この形でなければ書けない長さです。",
    },
    async play(lab) {
      await sendIn(lab, 16, 125);
    },
  },
  {
    name: "s3-long",
    ticks: ["S3"],
    async play(lab) {
      await send(lab, 65_536);
    },
  },
  {
    name: "s3-one-byte-short",
    misses: {
      step: "S3",
      en: "Frame 3 of connection 1: a length in 16 bits, a payload of 65535 bytes. Wanted: a length in 64 bits, a payload of at least 65536 bytes.",
      ja: "コネクション1のフレーム3は、16 ビットの長さ表記、65535 バイトのペイロードでした。必要なのは、64 ビットの長さ表記、65536 バイト以上のペイロードです。",
    },
    async play(lab) {
      await send(lab, 126, 65_535);
    },
  },
  {
    name: "s3-not-needed",
    misses: {
      step: "S3",
      en: "Frame 1 has the 64-bit form for 300 bytes, which a shorter form could write; the server answered with 1002. Wanted: a payload that needs this form.",
      ja: "フレーム1は、300 バイトを64 ビットの形で書いています。もっと短い形で書けるので、サーバーは1002を返しました。必要なのは、この形でなければ書けない長さです。",
    },
    async play(lab) {
      await sendIn(lab, 64, 300);
    },
  },
  {
    name: "s4-three-headers",
    ticks: ["S4"],
    async play(lab) {
      await lab.answer("S4", "first", "82 7e 01 2c");
      await lab.answer("S4", "second", "89 84 a1 b2 c3 d4");
      await lab.answer("S4", "third", "81 ff 00 00 00 00 00 01 11 70 0f 1e 2d 3c");
    },
  },
  {
    name: "s4-length-backwards",
    misses: {
      step: "S4",
      en: "`82 7e 2c 01`: the first two bytes are right; the length is written with the least significant byte first, and a receiver would wait for 11,265 bytes.",
      ja: "`82 7e 2c 01`：はじめの2 バイトは正解です。長さが下位のバイトから書かれているので、受け取る側は11,265 バイトを待つことになります。",
    },
    async play(lab) {
      await lab.answer("S4", "first", "82 7e 2c 01");
    },
  },
  {
    name: "s4-no-key",
    misses: {
      step: "S4",
      en: "`8984`: both bytes are right. The mask bit is set, so the key follows, and it belongs to the header.",
      ja: "`8984`：2 バイトとも正解です。マスクのビットが1なので、後ろに鍵が続きます。鍵もヘッダーに含めてください。",
    },
    async play(lab) {
      await lab.answer("S4", "first", "827e012c");
      await lab.answer("S4", "second", "8984");
    },
  },
  {
    name: "s4-16-bits-for-70000",
    misses: {
      step: "S4",
      en: "`81 fe 11 70 0f 1e 2d 3c`: 126 announces two bytes of length. 70,000 is more than 65,535 and does not fit into them.",
      ja: "`81 fe 11 70 0f 1e 2d 3c`：126は、長さが2 バイトで続くという合図です。70,000は65,535より大きく、2 バイトには入りません。",
    },
    async play(lab) {
      await lab.answer("S4", "third", "81 fe 11 70 0f 1e 2d 3c");
    },
  },
  {
    name: "s5-computed",
    ticks: ["S5"],
    async play(lab) {
      const header = 1000 * (2 + 4);
      await lab.answer("S5", "bytes", header);
      await lab.answer("S5", "percent", (100 * header) / (header + 1000 * 20));
    },
  },
  {
    name: "s5-of-the-payload",
    misses: {
      step: "S5",
      en: "30 % compares the header with the payload. Asked is which part of all bytes sent is header: divide by header and payload together.",
      ja: "30 %は、ヘッダーをペイロードと比べた値です。聞いているのは、送る全バイトのうちヘッダーが占める割合です。ヘッダーとペイロードの合計で割ってください。",
    },
    async play(lab) {
      await lab.answer("S5", "bytes", 6000);
      await lab.answer("S5", "percent", 30);
    },
  },
  {
    name: "s5-without-the-key",
    misses: {
      step: "S5",
      en: "2,000 is what a server's headers take. A client's frames carry a key, too.",
      ja: "2,000は、サーバーが送る場合のヘッダーです。クライアントのフレームには、鍵も入ります。",
    },
    async play(lab) {
      await lab.answer("S5", "bytes", 2000);
    },
  },
];
