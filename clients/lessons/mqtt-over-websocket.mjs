// What ticks the steps of the lesson mqtt-over-websocket, and what nearly does. The
// packets are made by hand, so that each is what the lesson says and no other.

const text = (s) => {
  const bytes = Buffer.from(s);
  return [bytes.length >> 8, bytes.length & 0xff, ...bytes];
};

// packet puts the fixed header before a body of at most 16,383 bytes.
const packet = (first, ...body) => {
  const rest = body.flat();
  const length = rest.length < 128 ? [rest.length] : [(rest.length & 0x7f) | 0x80, rest.length >> 7];
  return Buffer.from([first, ...length, ...rest]);
};

const CONNECT = ({ level = 4, will } = {}) =>
  packet(
    0x10,
    text("MQTT"),
    level,
    will ? 0x06 : 0x02, // clean session
    [0, 60],
    level === 5 ? [0] : [], // no properties
    text(""),
    will ? [...text(will), ...text("gone")] : [],
  );
const PUBLISH = (topic, payload, { qos = 0, id, retain = false } = {}) =>
  packet(0x30 | (qos << 1) | Number(retain), text(topic), qos ? [0, id] : [], [...Buffer.from(payload)]);
const SUBSCRIBE = (id, ...filters) =>
  packet(
    0x82,
    [0, id],
    filters.flatMap((filter) => [...text(filter), 1]),
  );
const PUBREL = (id) => packet(0x62, [0, id]);
const DISCONNECT = packet(0xe0);

const topic = (lab, rest) => `lab/${lab.name}/${rest}`;

// join opens a connection and has its CONNECT accepted.
async function join(lab, options) {
  const ws = await lab.open("/mqtt", "mqtt");
  await ask(lab, ws, CONNECT(options));
  return ws;
}

// ask sends a packet and waits for what comes next.
async function ask(lab, ws, bytes) {
  ws.send(bytes);
  return (await lab.next(ws)).bytes;
}

async function hundred(lab, ws, qos, payload = "0123456789") {
  for (let id = 1; id <= 100; id++) {
    const message = PUBLISH(topic(lab, "load"), payload, { qos, id });
    if (qos === 0) ws.send(message);
    else await ask(lab, ws, message);
    if (qos === 2) await ask(lab, ws, PUBREL(id));
  }
}

async function threeHundred(lab) {
  const ws = await join(lab);
  for (const qos of [0, 1, 2]) await hundred(lab, ws, qos);
  return ws;
}

/** Every step: a run that ticks it, and runs that nearly do. */
export const runs = [
  {
    name: "s1-connected",
    ticks: ["S1"],
    async play(lab) {
      await join(lab);
    },
  },
  {
    name: "s1-no-subprotocol",
    misses: {
      step: "S1",
      en: 'The handshake offered no subprotocol and was answered 400. Wanted: `mqtt`. It is the second argument of `new WebSocket(url, "mqtt")`; MQTT libraries offer it by themselves.',
      ja: 'ハンドシェイクでサブプロトコルを提案しなかったので、応答は400でした。必要なのは`mqtt`です。`new WebSocket(url, "mqtt")`の2番目の引数に書きます。MQTTのライブラリなら、自動で提案します。',
    },
    async play(lab) {
      await lab.open("/mqtt").catch(() => {}); // refused, as it should be
    },
  },
  {
    name: "s1-old-subprotocol",
    misses: {
      step: "S1",
      en: "The handshake offered `mqttv3.1` and was answered 400. Wanted among the subprotocols: `mqtt`. `mqttv3.1` is the name from before the standard.",
      ja: "ハンドシェイクで`mqttv3.1`を提案したので、応答は400でした。サブプロトコルに`mqtt`が必要です。`mqttv3.1`は、標準になる前の名前です。",
    },
    async play(lab) {
      await lab.open("/mqtt", "mqttv3.1").catch(() => {}); // refused, as it should be
    },
  },
  {
    name: "s1-text",
    misses: {
      step: "S1",
      en: "Frame 1 is text, 7 bytes. MQTT packets travel in binary messages; a text message ends the connection, here with 1003. In a browser, send a `Uint8Array`.",
      ja: "フレーム1は7 バイトのテキストです。MQTTのパケットは、バイナリのメッセージで運びます。テキストを送れば接続は終わり、ここではコード1003で閉じます。ブラウザでは`Uint8Array`を送ってください。",
    },
    async play(lab) {
      const ws = await lab.open("/mqtt", "mqtt");
      ws.send("CONNECT");
      const { code } = await lab.closed(ws);
      if (code !== 1003) throw new Error(`closed with ${code}`);
    },
  },
  {
    name: "s1-level-5",
    misses: {
      step: "S1",
      en: "Frame 1 is a CONNECT of protocol level 5. Wanted: level 4, which is MQTT 3.1.1 (5 is MQTT 5). Libraries have an option for it, such as `protocolVersion: 4` in mqtt.js.",
      ja: "フレーム1は、プロトコルレベル5のCONNECTです。必要なのはレベル4、つまりMQTT 3.1.1です(5はMQTT 5)。mqtt.jsの`protocolVersion: 4`のように、ライブラリのオプションで選べます。",
    },
    async play(lab) {
      await join(lab, { level: 5 });
    },
  },
  {
    name: "s1-refused",
    misses: {
      step: "S1",
      en: "Frame 2 is a CONNACK with return code 5: the broker refuses, and ends the connection. 1 is a protocol level that it does not speak, 3 a broker that is away, 5 something that you may not do, here a will outside `lab/<name>/`. Wanted: 0.",
      ja: "フレーム2は、リターンコード5のCONNACKです。ブローカーは拒否し、接続を終えます。1は話せないプロトコルレベル、3はブローカーの不在、5は許されていないことで、ここでは`lab/<name>/`の外への遺言です。必要なのは0です。",
    },
    async play(lab) {
      await join(lab, { will: "lab/other/will" });
    },
  },
  {
    name: "s2-wildcards",
    ticks: ["S1", "S2"],
    async play(lab) {
      const ws = await join(lab);
      await ask(lab, ws, SUBSCRIBE(1, topic(lab, "+/temp")));
      await ask(lab, ws, SUBSCRIBE(2, topic(lab, "#")));
    },
  },
  {
    name: "s2-refused",
    misses: {
      step: "S2",
      en: "Frame 4 is a SUBACK with the codes 128, 128. 128 (0x80) is a refusal of the filter in that place. Your session may read `lab/<name>/…`, with `<name>` written out: no wildcard spans sessions.",
      ja: "フレーム4は、コードが128、128のSUBACKです。128(0x80)は、その位置のフィルターの拒否を表します。このセッションで読めるのは`lab/<name>/…`で、`<name>`は略さずに書きます。ワイルドカードはセッションをまたげません。",
    },
    async play(lab) {
      const ws = await join(lab);
      await ask(lab, ws, SUBSCRIBE(1, "lab/+/temp", "#"));
    },
  },
  {
    name: "s2-plain",
    misses: {
      step: "S2",
      en: (lab) =>
        `Frame 3 subscribes to lab/${lab.name}/kitchen/temp. Wanted: a filter in which a whole level is \`+\`, and one that ends in \`#\`.`,
      ja: (lab) =>
        `フレーム3は、lab/${lab.name}/kitchen/tempの購読です。必要なのは、1つの階層がまるごと\`+\`のフィルターと、\`#\`で終わるフィルターです。`,
    },
    async play(lab) {
      const ws = await join(lab);
      await ask(lab, ws, SUBSCRIBE(1, topic(lab, "kitchen/temp")));
    },
  },
  {
    name: "s3-acknowledged",
    ticks: ["S1", "S3"],
    async play(lab) {
      const ws = await join(lab);
      await ask(lab, ws, PUBLISH(topic(lab, "kitchen/temp"), "21.5", { qos: 1, id: 7 }));
    },
  },
  {
    name: "s3-qos-0",
    misses: {
      step: "S3",
      en: "Frame 3 is a PUBLISH at QoS 0: it has no packet id, and no answer will ever name it. Wanted: QoS 1. In mqtt.js it is the option `qos: 1`; in the bytes, `32` in place of `30`.",
      ja: "フレーム3は、QoS 0のPUBLISHです。パケットIDがなく、応答も来ません。必要なのはQoS 1です。mqtt.jsではオプション`qos: 1`、バイトでは`30`ではなく`32`です。",
    },
    async play(lab) {
      const ws = await join(lab);
      ws.send(PUBLISH(topic(lab, "kitchen/temp"), "21.5"));
    },
  },
  {
    name: "s4-four-packets",
    ticks: ["S1", "S4"],
    async play(lab) {
      const ws = await join(lab);
      await ask(lab, ws, PUBLISH(topic(lab, "kitchen/temp"), "21.5", { qos: 2, id: 7 }));
      await ask(lab, ws, PUBREL(7));
    },
  },
  {
    name: "s4-qos-1",
    misses: {
      step: "S4",
      en: "Frame 5 is a PUBLISH at QoS 1, which one PUBACK completes. Wanted: QoS 2, the option `qos: 2`, or `34` as the first byte.",
      ja: "フレーム5は、QoS 1のPUBLISHです。PUBACK 1つで終わります。必要なのはQoS 2、つまりオプション`qos: 2`か、最初のバイト`34`です。",
    },
    async play(lab) {
      const ws = await join(lab);
      for (const id of [6, 7])
        // the first one ticks S3, and so is no miss
        await ask(lab, ws, PUBLISH(topic(lab, "kitchen/temp"), "21.5", { qos: 1, id }));
    },
  },
  {
    name: "s4-other-id",
    misses: {
      step: "S4",
      en: "Frame 5 of connection 1: packet id 8. Wanted: packet id 7, as in frame 3 of connection 1.",
      ja: "コネクション1のフレーム5は、パケットID8でした。必要なのは、コネクション1のフレーム3と同じパケットID7です。",
    },
    async play(lab) {
      const ws = await join(lab);
      await ask(lab, ws, PUBLISH(topic(lab, "kitchen/temp"), "21.5", { qos: 2, id: 7 }));
      ws.send(PUBREL(8));
    },
  },
  {
    name: "s5-kept",
    ticks: ["S1", "S5"],
    also: ["S3"],
    async play(lab) {
      const ws = await join(lab);
      await ask(lab, ws, PUBLISH(topic(lab, "kitchen/light"), "on", { qos: 1, id: 1, retain: true }));
      await ask(lab, ws, SUBSCRIBE(1, topic(lab, "kitchen/light")));
      const [first] = (await lab.next(ws)).bytes;
      if ((first & 1) !== 1) throw new Error(`the first byte is ${first.toString(16)}`);
    },
  },
  {
    name: "s5-live",
    misses: {
      step: "S5",
      en: (lab) =>
        `Frame 6 delivers \`lab/${lab.name}/kitchen/light\` with RETAIN 0: you were subscribed when it was published, so it came live, kept or not. Wanted: RETAIN 1, which a subscription gets that begins after the publication.`,
      ja: (lab) =>
        `フレーム6は、\`lab/${lab.name}/kitchen/light\`の配信で、RETAINは0です。発行のときに購読中だったので、保持されていてもいなくても、いまの出来事として届きました。必要なのはRETAIN 1です。発行のあとに始めた購読に付きます。`,
    },
    async play(lab) {
      const ws = await join(lab);
      await ask(lab, ws, SUBSCRIBE(1, topic(lab, "kitchen/light")));
      await ask(lab, ws, PUBLISH(topic(lab, "kitchen/light"), "on", { retain: true }));
    },
  },
  {
    name: "s6-will",
    ticks: ["S1", "S6"],
    async play(lab) {
      const watcher = await join(lab);
      await ask(lab, watcher, SUBSCRIBE(1, topic(lab, "status")));
      const dying = await join(lab, { will: topic(lab, "status") });
      dying.terminate();
      await lab.next(watcher);
    },
  },
  {
    name: "s6-close-frame",
    ticks: ["S1", "S6"],
    async play(lab) {
      const watcher = await join(lab);
      await ask(lab, watcher, SUBSCRIBE(1, topic(lab, "status")));
      const leaving = await join(lab, { will: topic(lab, "status") });
      leaving.close(1000); // a goodbye of the WebSocket, and none of MQTT
      await lab.next(watcher);
    },
  },
  {
    name: "s6-polite",
    misses: {
      step: "S6",
      en: "Frame 3 is a DISCONNECT. Who says goodbye leaves no will: the broker throws it away. Wanted: a connection with a will that ends without this packet.",
      ja: "フレーム3はDISCONNECTです。別れを告げた相手の遺言を、ブローカーは破棄します。必要なのは、遺言を預けた接続が、このパケットなしで終わることです。",
    },
    async play(lab) {
      const watcher = await join(lab);
      await ask(lab, watcher, SUBSCRIBE(1, topic(lab, "status")));
      const polite = await join(lab, { will: topic(lab, "status") });
      polite.send(DISCONNECT);
      await lab.closed(polite);
    },
  },
  {
    name: "s6-no-will",
    misses: {
      step: "S6",
      en: "Frame 1 of connection 1: no will. Wanted: a will.",
      ja: "コネクション1のフレーム1は、遺言なしでした。必要なのは、遺言ありです。",
    },
    async play(lab) {
      (await join(lab)).terminate();
    },
  },
  {
    name: "s7-counted",
    ticks: ["S1", "S3", "S4", "S7"],
    async play(lab) {
      await threeHundred(lab);
      await lab.answer("S7", "packets", [100, 200, 400]);
      await lab.answer("S7", "bytes", [4900, 5500, 6300]);
    },
  },
  {
    name: "s7-one-way",
    misses: {
      step: "S7",
      en: "At QoS 1 you counted 100 packets. Count both directions: each message, and what the broker answers to it.",
      ja: "QoS 1を100個と数えています。両方向を数えてください。メッセージと、それに対するブローカーの応答です。",
    },
    async play(lab) {
      await threeHundred(lab);
      await lab.answer("S7", "packets", [100, 100, 200]);
    },
  },
  {
    name: "s7-with-frames",
    misses: {
      step: "S7",
      en: "At QoS 0 you counted 5500 bytes. Count MQTT bytes, without the headers of the WebSocket frames: in `wireEvents` the `size` of one PUBLISH, or the sum if your client spreads it over several WebSocket messages, times 100. The topic is `lab/<name>/load`.",
      ja: "QoS 0を5500 バイトと数えています。数えるのはMQTTのバイトで、WebSocketのフレームのヘッダーは入れません。`wireEvents`でPUBLISH1つの`size`を見て、100倍してください。クライアントが1つのパケットをいくつかのWebSocketメッセージに分けていれば、合計します。トピックは`lab/<name>/load`です。",
    },
    async play(lab) {
      await threeHundred(lab);
      await lab.answer("S7", "packets", [100, 200, 400]);
      await lab.answer("S7", "bytes", [5500, 6300, 7900]);
    },
  },
  {
    name: "s7-longer-payload",
    misses: {
      step: "S7",
      en: "Frame 3 has a payload of 12 bytes. Wanted: 10 bytes, such as `0123456789`, so that everybody counts the same.",
      ja: "フレーム3のペイロードは12 バイトです。誰が数えても同じになるように、`0123456789`のような10 バイトにしてください。",
    },
    async play(lab) {
      const ws = await join(lab);
      ws.send(PUBLISH(topic(lab, "load"), "hello, world"));
    },
  },
  {
    name: "s7-no-list",
    misses: {
      step: "S7",
      en: "The answer `packets` is no list of three numbers. Wanted is one such as `[1, 2, 3]`: for QoS 0, QoS 1, QoS 2.",
      ja: "回答`packets`が、3つの数の並びになっていません。`[1, 2, 3]`のように、QoS 0、QoS 1、QoS 2の順に並べてください。",
    },
    async play(lab) {
      await threeHundred(lab);
      await lab.answer("S7", "packets", 700);
    },
  },
  {
    name: "s7-before",
    misses: {
      step: "S7",
      en: "Your answer: too early. Wanted: MQTT packet (from the client, packet `PUBLISH`, QoS 2, topic matching `^lab/[a-z2-7]{26}/load$`, payload of 10 bytes) before it.",
      ja: "回答は、早すぎるタイミングでした。必要なのは、その前のMQTTパケット(クライアントから、パケット`PUBLISH`、QoS 2、`^lab/[a-z2-7]{26}/load$`に合うトピック、ペイロードの長さ10 バイト)です。",
    },
    async play(lab) {
      const ws = await join(lab);
      for (const qos of [0, 1]) await hundred(lab, ws, qos);
      await lab.answer("S7", "packets", [100, 200, 400]);
    },
  },
];
