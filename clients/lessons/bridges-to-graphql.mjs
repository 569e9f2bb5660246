// What ticks the steps of the lesson bridges-to-graphql, and what nearly does.

import { connected, say, subscribe, until } from "./harness/graphql.mjs";

const topic = (lab, rest = "door") => `lab/${lab.name}/${rest}`;
const channel = (lab, rest = "door") => `lab:${lab.name}:${rest}`;

const mqttMessages = (name, { qos = "AT_MOST_ONCE", select = "topic payload qos" } = {}) =>
  `subscription { mqttMessages(topic: "${name}", qos: ${qos}) { ${select} } }`;
const redisMessages = (name, select = "channel payload") =>
  `subscription { redisMessages(channel: "${name}") { ${select} } }`;
const publishMQTT = (name, qos = "AT_LEAST_ONCE") =>
  `mutation { publishMQTT(input: { topic: "${name}", payload: "open", qos: ${qos} }) { acknowledgedAt } }`;
const publishRedis = (name) =>
  `mutation { publishRedis(input: { channel: "${name}", payload: "open" }) { receivers } }`;
const publishAny = `mutation ($input: PublishMQTTInput!) { publishMQTT(input: $input) { acknowledgedAt } }`;

// answered runs a mutation or a query and returns its data.
async function answered(lab, ws, id, query, variables) {
  say(ws, subscribe(id, query, variables));
  const { payload } = await until(lab, ws, "next", id);
  await until(lab, ws, "complete", id);
  return payload.data;
}

const comes = (lab, ws, id = "1") => until(lab, ws, "next", id);
const refused = (lab, ws, id = "1") => until(lab, ws, "error", id);

// established subscribes once for each id, and waits until the gateway says of
// all of them that from here on no message is missed.
async function established(lab, ws, query, ...ids) {
  for (const id of ids) {
    const message = subscribe(id, query);
    message.payload.extensions = { sluice: { ready: true } };
    say(ws, message);
  }
  for (const open = new Set(ids); open.size > 0;) open.delete((await until(lab, ws, "next")).id);
}

// watch opens a socket that is subscribed.
async function watch(lab, query) {
  const ws = await connected(lab);
  await established(lab, ws, query, "1");
  return ws;
}

// post runs a mutation over HTTP, where the grader does not see it.
async function post(lab, query) {
  const response = await fetch(lab.url("/graphql").replace(/^ws/, "http"), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ query }),
  });
  const { errors } = await response.json();
  if (errors) throw new Error(errors[0].message);
}

// publishQoS publishes to the session's topic by MQTT.
async function publishQoS(lab, qos) {
  const ws = await lab.open("/mqtt", "mqtt");
  ws.send(Buffer.from("100c00044d5154540402003c0000", "hex"));
  await lab.next(ws);
  const name = Buffer.from(topic(lab));
  ws.send(
    Buffer.from([
      0x30 | (qos << 1),
      name.length + 8,
      name.length >> 8,
      name.length,
      ...name,
      0,
      7,
      ...Buffer.from("open"),
    ]),
  );
  await lab.next(ws);
  if (qos < 2) return;
  ws.send(Buffer.from([0x62, 2, 0, 7])); // a broker may deliver at PUBREL only
  await lab.next(ws);
}

// missThree subscribes, goes away for three messages and comes back.
async function missThree(lab) {
  const leaving = await watch(lab, redisMessages(channel(lab)));
  const staying = await connected(lab);
  leaving.close(1000);
  await lab.closed(leaving);
  for (const id of ["1", "2", "3"]) await answered(lab, staying, id, publishRedis(channel(lab)));
  await watch(lab, redisMessages(channel(lab)));
}

// halfWay subscribes at a QoS and publishes at QoS 2; it returns the qos that came.
// The first message ticks S1, so only a second one can be a near miss.
async function halfWay(lab, qos, times = 1) {
  const ws = await watch(lab, mqttMessages(topic(lab), { qos }));
  let message;
  for (let i = 0; i < times; i++) {
    await publishQoS(lab, 2);
    message = await comes(lab, ws);
  }
  return message.payload.data.mqttMessages.qos;
}

// share subscribes twice to one topic and returns by how many upstreams the
// gateway has more.
async function share(lab) {
  const ws = await connected(lab);
  const name = topic(lab, `shared/${Date.now()}`);
  const upstreams = async (id) =>
    (await answered(lab, ws, id, "{ gatewayStats { upstreams } }")).gatewayStats.upstreams;
  const before = await upstreams("before");
  await established(lab, ws, mqttMessages(name), "1", "2");
  const after = await upstreams("after");
  say(ws, subscribe("3", publishMQTT(name)));
  const open = new Set(["1", "2", "3"]); // the answer to the mutation, too: behind the learner's it would be a near miss
  while (open.size > 0) open.delete((await until(lab, ws, "next")).id);
  return after - before;
}

/** Every step: a run that ticks it, and runs that nearly do. */
export const runs = [
  {
    name: "s1-delivered",
    ticks: ["S1"],
    async play(lab) {
      const ws = await watch(lab, mqttMessages(topic(lab)));
      say(ws, subscribe("2", publishMQTT(topic(lab))));
      await comes(lab, ws);
    },
  },
  {
    name: "s1-forbidden",
    misses: {
      step: "S1",
      en: "Frame 4 is an `error` with TOPIC_FORBIDDEN: this topic or channel is not open to you. MQTT topics of your session begin with `lab/<name>/`, Redis channels with `lab:<name>:`; `<name>` is written out, and the address is that of your session.",
      ja: "フレーム4は、TOPIC_FORBIDDENの`error`です。このトピックやチャンネルは、あなたには開いていません。MQTTのトピックは`lab/<name>/`、Redisのチャンネルは`lab:<name>:`で始まります。`<name>`は略さずに書き、接続先はセッションのURLにします。",
    },
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("1", mqttMessages("lab/other/door")));
      await refused(lab, ws);
    },
  },
  {
    name: "s1-no-topic",
    misses: {
      step: "S1",
      en: "Frame 5 is a message, but it does not say of which topic. Select `topic`, too, and `qos` for later.",
      ja: "フレーム5はメッセージですが、どのトピックのものかが入っていません。`topic`も選んでください。あとで使う`qos`も選んでおくとよいでしょう。",
    },
    async play(lab) {
      const ws = await watch(lab, mqttMessages(topic(lab), { select: "payload" }));
      await publishQoS(lab, 1);
      await comes(lab, ws);
    },
  },
  {
    name: "s1-shared",
    misses: {
      step: "S1",
      en: "Frame 5 is a message of `demo/door`, which everybody shares. Wanted: one of your own session, whose topics begin with `lab/<name>/`.",
      ja: "フレーム5は`demo/door`のメッセージで、これはみんなのものです。必要なのは、`lab/<name>/`で始まる、自分のセッションのトピックです。",
    },
    async play(lab) {
      const ws = await watch(lab, mqttMessages("demo/door"));
      await lab.gql(publishMQTT("demo/door"));
      await comes(lab, ws);
    },
  },
  {
    name: "s2-delivered",
    ticks: ["S2"],
    async play(lab) {
      const ws = await watch(lab, redisMessages(channel(lab)));
      say(ws, subscribe("2", publishRedis(channel(lab))));
      await comes(lab, ws);
    },
  },
  {
    name: "s2-slashes",
    misses: {
      step: "S2",
      en: "Frame 4 is an `error` with TOPIC_FORBIDDEN. Redis channels of your session are written with colons, `lab:<name>:…`; the slashes are those of MQTT.",
      ja: "フレーム4は、TOPIC_FORBIDDENの`error`です。セッションのRedisチャンネルは、`lab:<name>:…`とコロンで書きます。スラッシュはMQTTのトピックです。",
    },
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("1", redisMessages(topic(lab))));
      await refused(lab, ws);
    },
  },
  {
    name: "s2-pattern",
    misses: {
      step: "S2",
      en: "Frame 3 subscribes by pattern. Wanted: `redisMessages`, one channel by its name. Redis knows the two apart, too: PSUBSCRIBE and SUBSCRIBE.",
      ja: "フレーム3は、パターンによる購読です。必要なのは、チャンネルを名前で指定する`redisMessages`です。RedisでもPSUBSCRIBEとSUBSCRIBEは別のコマンドです。",
    },
    async play(lab) {
      const ws = await connected(lab);
      say(ws, subscribe("1", `subscription { redisPatternMessages(pattern: "${channel(lab, "*")}") { channel payload } }`));
    },
  },
  {
    name: "s2-no-channel",
    misses: {
      step: "S2",
      en: "Frame 5 is a message, but it does not say of which channel. Select `channel`, too.",
      ja: "フレーム5はメッセージですが、どのチャンネルのものかが入っていません。`channel`も選んでください。",
    },
    async play(lab) {
      const ws = await watch(lab, redisMessages(channel(lab), "payload"));
      await post(lab, publishRedis(channel(lab)));
      await comes(lab, ws);
    },
  },
  {
    name: "s2-nobody-there",
    misses: {
      step: "S2",
      en: "Frame 4 answers your mutation. The message itself comes as a `next` with the id of the subscription, which has to be there first.",
      ja: "フレーム4は、ミューテーションへの応答です。メッセージそのものは、購読のidが付いた`next`で届きます。先に購読しておいてください。",
    },
    async play(lab) {
      await answered(lab, await connected(lab), "1", publishRedis(channel(lab)));
    },
  },
  {
    name: "s3-none",
    ticks: ["S3"],
    async play(lab) {
      await missThree(lab);
      await lab.answer("S3", "value", 0);
    },
  },
  {
    name: "s3-three",
    misses: {
      step: "S3",
      en: "You answered 3. Count the `next` frames of the new subscription that carry what was published while you were away: look at their payloads and at the connection's number.",
      ja: "3と答えています。離れている間に発行したものを運ぶ`next`が、新しい購読にいくつ届いたかを数えてください。ペイロードと、コネクションの番号を見ます。",
    },
    async play(lab) {
      await missThree(lab);
      await lab.answer("S3", "value", 3);
    },
  },
  {
    name: "s3-one",
    misses: {
      step: "S3",
      en: "You answered 1. Wanted is one number: of the three messages, how many came after the reconnect. A message that you published afterwards does not count; wait for the three answers before you come back.",
      ja: "1と答えています。必要なのは1つの数です。3件のうち、再接続のあとに届いた数を答えてください。戻ってから発行したものは数えません。3件の応答がそろってから戻ります。",
    },
    async play(lab) {
      await missThree(lab);
      await lab.answer("S3", "value", 1);
    },
  },
  {
    name: "s3-by-post",
    misses: {
      step: "S3",
      en: "A POST to `/graphql` was seen, but not what it asked: only WebSocket frames are taken apart here. Publish over a WebSocket of your session.",
      ja: "`/graphql`へのPOSTは見えましたが、中身までは見ていません。ここで分解するのはWebSocketのフレームだけです。セッションのWebSocketから発行してください。",
    },
    async play(lab) {
      const leaving = await watch(lab, redisMessages(channel(lab)));
      leaving.close(1000);
      await lab.closed(leaving);
      await post(lab, publishRedis(channel(lab)));
    },
  },
  {
    name: "s3-not-away",
    misses: {
      step: "S3",
      en: "Your answer: too early. Wanted: end of a connection before it.",
      ja: "回答は、早すぎるタイミングでした。必要なのは、その前のコネクションの終わりです。",
    },
    async play(lab) {
      await watch(lab, redisMessages(channel(lab)));
      const other = await connected(lab);
      for (const id of ["1", "2", "3"]) await answered(lab, other, id, publishRedis(channel(lab)));
      await lab.answer("S3", "value", 0);
    },
  },
  {
    name: "s4-lower",
    ticks: ["S1", "S4"],
    async play(lab) {
      await lab.answer("S4", "value", await halfWay(lab, "AT_LEAST_ONCE"));
    },
  },
  {
    name: "s4-by-graphql",
    ticks: ["S1", "S4"],
    async play(lab) {
      const ws = await watch(lab, mqttMessages(topic(lab), { qos: "AT_LEAST_ONCE" }));
      say(ws, subscribe("2", publishMQTT(topic(lab), "EXACTLY_ONCE")));
      const { payload } = await comes(lab, ws);
      await lab.answer("S4", "value", payload.data.mqttMessages.qos);
    },
  },
  {
    name: "s4-by-variables",
    ticks: ["S1", "S4"],
    async play(lab) {
      const ws = await watch(lab, mqttMessages(topic(lab), { qos: "AT_LEAST_ONCE" }));
      say(ws, subscribe("2", publishAny, { input: { topic: topic(lab), payload: "open", qos: "EXACTLY_ONCE" } }));
      const { payload } = await comes(lab, ws);
      await lab.answer("S4", "value", payload.data.mqttMessages.qos);
    },
  },
  {
    name: "s4-published-1",
    misses: {
      step: "S4",
      en: "Frame 3 is a PUBLISH at QoS 1. Wanted: QoS 2, so that the publication and the subscription differ.",
      ja: "フレーム3は、QoS 1のPUBLISHです。必要なのはQoS 2です。発行と購読のQoSを違えてください。",
    },
    async play(lab) {
      await watch(lab, mqttMessages(topic(lab), { qos: "AT_LEAST_ONCE", select: "topic" }));
      await publishQoS(lab, 1);
    },
  },
  {
    name: "s4-asked-2",
    misses: {
      step: "S4",
      en: "Frame 6 says EXACTLY_ONCE: this subscription had asked for that. Wanted: one with `qos: AT_LEAST_ONCE`.",
      ja: "フレーム6は、EXACTLY_ONCEを伝えています。この購読がそれを求めたからです。必要なのは、`qos: AT_LEAST_ONCE`の購読です。",
    },
    async play(lab) {
      await halfWay(lab, "EXACTLY_ONCE", 2);
    },
  },
  {
    name: "s4-asked-none",
    misses: {
      step: "S4",
      en: "Frame 6 says AT_MOST_ONCE. Either the subscription asked for no more, as one without `qos` does, or the message was published at QoS 0.",
      ja: "フレーム6は、AT_MOST_ONCEを伝えています。購読がそれより上を求めていないか(`qos`を書かなければそうなります)、QoS 0で発行したかのどちらかです。",
    },
    async play(lab) {
      await halfWay(lab, "AT_MOST_ONCE", 2);
    },
  },
  {
    name: "s4-answered-2",
    misses: {
      step: "S4",
      en: "That is the QoS of the publication. Look at the field `qos` of the message that arrived.",
      ja: "それは発行のQoSです。届いたメッセージのフィールド`qos`を見てください。",
    },
    async play(lab) {
      await halfWay(lab, "AT_LEAST_ONCE");
      await lab.answer("S4", "value", "EXACTLY_ONCE");
    },
  },
  {
    name: "s4-answered-number",
    misses: {
      step: "S4",
      en: "You answered `1`. Wanted is what stands in the field `qos` of the message, letter for letter.",
      ja: "`1`と答えています。メッセージのフィールド`qos`にある文字を、そのまま答えてください。",
    },
    async play(lab) {
      await halfWay(lab, "AT_LEAST_ONCE");
      await lab.answer("S4", "value", 1);
    },
  },
  {
    name: "s5-one",
    ticks: ["S1", "S5"],
    async play(lab) {
      await share(lab);
      await lab.answer("S5", "value", 1);
    },
  },
  {
    name: "s5-two",
    misses: {
      step: "S5",
      en: "You answered 2, which is how many subscriptions you hold at the gateway. Compare `upstreams` of `gatewayStats` before the first of them, with one, and with both.",
      ja: "2と答えています。それは、あなたがゲートウェイに持つ購読の数です。`gatewayStats`の`upstreams`を、購読の前、1つのとき、2つのときで比べてください。",
    },
    async play(lab) {
      await share(lab);
      await lab.answer("S5", "value", 2);
    },
  },
  {
    name: "s5-whole-gateway",
    misses: {
      step: "S5",
      en: "You answered 7. `upstreams` counts for the whole gateway, other people's topics, too: take the difference that your two subscriptions make. Somebody's coming or going may disturb it; then measure again.",
      ja: "7と答えています。`upstreams`は、ほかの人のトピックも含む、ゲートウェイ全体の数です。自分の2つの購読で増えた差を取ってください。ほかの人の出入りで狂うこともあるので、そのときは測り直します。",
    },
    async play(lab) {
      await share(lab);
      await lab.answer("S5", "value", 7);
    },
  },
  {
    name: "s5-before",
    misses: {
      step: "S5",
      en: "Your answer: too early. Wanted: GraphQL message (from the client, type `subscribe` or `start`, fields with `mqttMessages`) before it.",
      ja: "回答は、早すぎるタイミングでした。必要なのは、その前のGraphQLのメッセージ(クライアントから、typeが`subscribe`か`start`、`mqttMessages`を含むフィールド)です。",
    },
    async play(lab) {
      await watch(lab, mqttMessages(topic(lab)));
      await lab.answer("S5", "value", 1);
    },
  },
];
