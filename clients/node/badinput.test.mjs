// What is wrong is refused: at once, with a code or a status, and in a sentence
// that says what would be right. Secrets are not repeated.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { connect } from "./clients.mjs";
import { Environment, Program, atEnd, sluice, withoutBrokers, within } from "./harness.mjs";
import { open, post, request, upgrade } from "./raw.mjs";

// Nothing listens on these, and nothing is dialled before the refusal.
const brokers = { REDIS_URL: "redis://127.0.0.1:1", MQTT_BROKER_URL: "mqtt://127.0.0.1:1" };

// refusedStart starts the gateway, which must end by itself, soon, with a
// status that is not 0; returns what it said.
async function refusedStart(t, args, env = {}) {
  const settings = { ...brokers, ...env };
  const program = new Program("sluice", () => [sluice, args, settings]).launch();
  atEnd(t, () => program.kill());
  const { code } = await within(5_000, `the refusal of ${args.join(" ")}`, program.exited);
  assert.ok(code > 0, `status ${code}: ${program.output}`);
  assert.doesNotMatch(program.output, /panic|goroutine/);
  return program.output;
}

const serve = ["serve", "--addr", "127.0.0.1:0", "--no-course-ports", "--data-dir", ":memory:"];

describe("a start that cannot work is refused", { timeout: 60_000 }, () => {
  const limit = { timeout: 10_000 };

  test("a main port that is taken", limit, async (t) => {
    const server = createServer().listen(0, "127.0.0.1");
    atEnd(t, () => once(server.close(), "close"));
    await once(server, "listening");
    const addr = `127.0.0.1:${server.address().port}`;
    const said = await refusedStart(t, ["serve", "--addr", addr, "--no-course-ports"]);
    assert.ok(said.includes(addr), said);
    assert.match(said, /--addr/);
  });

  for (const [variable, flag, accepted, urls] of [
    [
      "REDIS_URL",
      "--redis-url",
      /rediss?:\/\//,
      [
        "redis://:s3cret@host:port",
        "http://:s3cret@host:6379",
        "u:s3cret@host:6379",
        "://s3cret",
        "redis://u:s3cret@h:6379/%zz",
        "redis://u:s3cret@h/notanumber",
        "redis://u:s3cret @h",
        "redis://u:s3cret@h:99999",
        "redis://u:s3cret@h:1:2",
      ],
    ],
    [
      "MQTT_BROKER_URL",
      "--mqtt-url",
      /mqtt:\/\//,
      [
        "mqtt://u:s3cret@host:port",
        "http://u:s3cret@host:1883",
        "u:s3cret@host:1883",
        "://s3cret",
        "mqtt://u:s3cret@",
        "mqtt://u:s3cret@h:1883:1",
        "mqtt://u:s3cret @h",
        "mqtt://u:s3cret@h:99999",
      ],
    ],
  ]) {
    for (const url of urls) {
      test(`${variable}=${url}, without printing the password`, limit, async (t) => {
        const said = await refusedStart(t, serve, { [variable]: url });
        assert.ok(said.includes(variable) || said.includes(flag), said);
        assert.match(said, accepted);
        assert.doesNotMatch(said, /s3cret/);
      });
    }
  }

  const values = [
    ["an unknown flag", ["--colour"], /--colour[^]*--help/],
    ["an unknown level", ["--log-level", "loud"], /--log-level.*debug.*info.*warn.*error.*loud/],
    ["an unknown log format", ["--log-format", "xml"], /--log-format.*auto.*text.*json.*xml/],
    ["an unknown limit", ["--limit", "nope=1"], /nope[^]*http-body[^]*drain/],
    ["a limit without a value", ["--limit", "queue"], /queue[^]*NAME=VALUE/],
    ["a limit that is no size", ["--limit", "queue=many"], /queue=many[^]*64KiB/],
    ["a limit that is no time", ["--limit", "drain=-1s"], /drain=-1s[^]*10s/],
    ["a switch that is neither on nor off", ["--introspection=maybe"], /--introspection.*maybe|--introspection.*true/],
    ["an origin with a path", ["--origin", "https://app.example/x"], /https:\/\/app\.example\/x[^]*https:\/\/name/],
    ["a host with a scheme", ["--host", "https://app.example"], /https:\/\/app\.example[^]*name/],
    ["an MQTT pattern that is none", ["--mqtt-allow", "a/#/b"], /--mqtt-allow[^]*a\/#\/b/],
    ["an MQTT pattern to publish that is none", ["--mqtt-allow-publish", "+x"], /--mqtt-allow-publish[^]*\+x/],
    ["an address without a port", ["--addr", "localhost"], /localhost[^]*host:port/],
    ["a debug address that others can reach", ["--debug-addr", "0.0.0.0:6060"], /--debug-addr[^]*loopback/],
    ["a file that is not there", ["--config", "/nowhere.yaml"], /nowhere\.yaml/],
    ["a word too many", ["quickly"], /quickly/],
  ];
  for (const [what, args, said] of values) {
    test(`${what}: ${args.join(" ")}`, limit, async (t) => {
      assert.match(await refusedStart(t, [...serve, ...args]), said);
    });
  }

  test("a limit in the environment that is no size", limit, async (t) => {
    const said = await refusedStart(t, serve, { SLUICE_LIMIT_QUEUE: "many" });
    assert.match(said, /SLUICE_LIMIT_QUEUE=many[^]*64KiB/);
  });

  test("an unknown limit in the environment", limit, async (t) => {
    const said = await refusedStart(t, serve, { SLUICE_LIMIT_QUEU: "1MiB" });
    assert.match(said, /SLUICE_LIMIT_QUEU is not known[^]*SLUICE_LIMIT_QUEUE\?/);
  });

  test("an unknown name in the configuration file", limit, async (t) => {
    const dir = mkdtempSync(join(tmpdir(), "sluice-config-"));
    atEnd(t, () => rmSync(dir, { recursive: true }));
    writeFileSync(join(dir, "sluice.yaml"), "log-level: info\ncolour: blue\n");
    assert.match(await refusedStart(t, [...serve, "--config", join(dir, "sluice.yaml")]), /colour/);
  });

  for (const addr of ["0.0.0.0:0", "[::]:0", ":0"]) {
    for (const args of [[], ["--origin", "https://app.example"], ["--anonymous"]]) {
      test(`${["--addr", addr, ...args].join(" ")}: others could come`, limit, async (t) => {
        const said = await refusedStart(t, ["serve", "--addr", addr, ...args]);
        assert.match(said, /--origin/);
        assert.match(said, /--anonymous/);
        assert.match(said, /demo\/#/, "says what anonymous clients could then read");
      });
    }
  }

  for (const missing of ["REDIS_URL", "MQTT_BROKER_URL"]) {
    test(`--production without ${missing}`, limit, async (t) => {
      const said = await refusedStart(t, [...serve, "--production"], { [missing]: "" });
      assert.match(said, /--production/);
      assert.ok(said.includes(missing), said);
    });
  }
});

describe("a request that is not right is refused", { skip: withoutBrokers, timeout: 60_000 }, () => {
  const limit = { timeout: 10_000 };
  const env = new Environment({ after });
  before(() => env.start(), { timeout: 20_000 });
  afterEach((t) => env.report(t));

  for (const [what, protocols] of [
    ["no subprotocol", []],
    ["an unknown subprotocol", ["graphql-sse"]],
    ["two unknown subprotocols", ["mqtt", "wamp"]],
    ["a subprotocol in capitals", ["GRAPHQL-WS"]],
  ]) {
    test(`${what} is 400 before the upgrade, with a sentence`, limit, async () => {
      const { status, body } = await upgrade(env.gateway.socket, protocols);
      assert.equal(status, 400);
      assert.match(body, /graphql-transport-ws.*graphql-ws/);
    });
  }

  for (const origin of [
    "https://evil.example",
    "null",
    "http://localhost.evil.example",
    "file://",
    "http://127.0.0.1@evil.example",
    "chrome-extension://abc",
  ]) {
    test(`a socket from Origin: ${origin} is 403`, limit, async () => {
      const { status, body } = await upgrade(env.gateway.socket, "graphql-transport-ws", { origin });
      assert.equal(status, 403);
      assert.match(body, /ORIGIN_FORBIDDEN/);
      assert.match(body, /--origin/);
    });
    test(`a POST from Origin: ${origin} is 403`, limit, async () => {
      const { status, headers } = await post(env.gateway.graphql, `{"query":"{ hello }"}`, {
        headers: { Origin: origin },
      });
      assert.equal(status, 403);
      assert.equal(headers["access-control-allow-origin"], undefined);
    });
  }

  for (const origin of ["http://localhost:5173", "https://127.0.0.1", "http://[::1]:8080"]) {
    test(`pages of this machine may come: Origin: ${origin}`, limit, async () => {
      assert.equal((await upgrade(env.gateway.socket, "graphql-ws", { origin })).status, 101);
    });
  }

  for (const Host of ["evil.example", "127.0.0.1.evil.example:80", "localhost.", "0.0.0.0"]) {
    test(`Host: ${Host} is 403, over HTTP and for a socket`, limit, async () => {
      const { status, body } = await post(env.gateway.graphql, `{"query":"{ hello }"}`, { headers: { Host } });
      assert.equal(status, 403);
      assert.match(body, /HOST_FORBIDDEN/);
      assert.match(body, /--host/);
      const socket = await upgrade(env.gateway.socket, "graphql-ws", { headers: { Host } });
      assert.equal(socket.status, 403);
    });
  }

  test("a POST that is not JSON is 400 and not repeated", limit, async () => {
    for (const body of [
      `{"query":"{ hello }", s3cret`,
      `s3cret`,
      ``,
      `["s3cret"]`,
      `{"query":7,"s3cret":1}`,
      `{"query":"{ hello }"} s3cret`,
      `null`,
      `{}`,
    ]) {
      const answer = await post(env.gateway.graphql, body);
      assert.equal(answer.status, 400, body);
      assert.doesNotMatch(answer.body, /s3cret/);
      assert.match(JSON.parse(answer.body).errors[0].message, /query/);
    }
  });

  test("a POST larger than 256 KiB is 413", limit, async () => {
    const query = `{ hello } # ${"x".repeat(300_000)}`;
    const answer = await post(env.gateway.graphql, JSON.stringify({ query }));
    assert.equal(answer.status, 413);
    assert.equal(JSON.parse(answer.body).errors[0].extensions.code, "PAYLOAD_TOO_LARGE");
  });

  test("a POST that is no JSON by its type is 415", limit, async () => {
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]) {
      const answer = await post(env.gateway.graphql, `{"query":"{ hello }"}`, { headers: { "Content-Type": type } });
      assert.equal(answer.status, 415, type);
    }
  });

  test("a mutation by GET is 405, a subscription by POST says where it belongs", limit, async () => {
    const mutation = await request(
      `${env.gateway.graphql}?query=${encodeURIComponent("mutation { createRoom { id } }")}`,
    );
    assert.equal(mutation.status, 405);
    const subscription = await post(env.gateway.graphql, `{"query":"subscription { timeUpdates }"}`);
    assert.equal(subscription.status, 400);
    assert.match(subscription.body, /graphql-transport-ws/);
  });

  test("a document of more than 2,000 words and signs is an error, over HTTP and over a socket", limit, async (t) => {
    const query = `{ ${"hello ".repeat(3_000)} }`;
    const answer = await post(env.gateway.graphql, JSON.stringify({ query }));
    assert.match(JSON.parse(answer.body).errors[0].message, /2,?000|token/i);
    const { execute } = connect(t, "graphql-ws", env.gateway.socket);
    const { errors } = await execute({ query });
    assert.match(errors[0].message, /2,?000|token/i);
  });

  test("bytes that are not UTF-8 in a POST do not come back", limit, async () => {
    const body = Buffer.concat([
      Buffer.from(`{"query":"{ echo(text: \\"`),
      Buffer.from([0xff, 0xc0]),
      Buffer.from(`\\") }"}`),
    ]);
    const response = await fetch(env.gateway.graphql, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body,
    });
    new TextDecoder("utf-8", { fatal: true }).decode(await response.arrayBuffer());
    assert.ok([200, 400].includes(response.status));
  });

  for (const [protocol, kind] of [
    ["graphql-transport-ws", "subscribe"],
    ["graphql-ws", "start"],
  ]) {
    const initialised = async (t) => {
      const socket = await open(t, env.gateway.socket, protocol);
      socket.send({ type: "connection_init" });
      await socket.next("connection_ack");
      return socket;
    };

    test(`${protocol}: text that is not UTF-8 closes with 1007`, limit, async (t) => {
      const socket = await initialised(t);
      socket.send(Buffer.from([0x7b, 0xff, 0xfe, 0x7d]), { binary: false });
      assert.equal((await socket.close()).code, 1007);
    });

    test(`${protocol}: a binary message closes with 1003`, limit, async (t) => {
      const socket = await initialised(t);
      socket.send(Buffer.from(`{"type":"ping"}`), { binary: true });
      assert.equal((await socket.close()).code, 1003);
    });

    test(`${protocol}: a message larger than 256 KiB closes with 1009`, limit, async (t) => {
      const socket = await initialised(t);
      socket.send({ id: "1", type: kind, payload: { query: "{ hello }", variables: { x: "x".repeat(300_000) } } });
      assert.equal((await socket.close()).code, 1009);
    });

    test(`${protocol}: operation 101 of a socket is refused, the others go on`, limit, async (t) => {
      const socket = await initialised(t);
      const query = `subscription { timeUpdates(intervalMs: 60000) }`;
      for (let id = 1; id <= 101; id++) socket.send({ id: String(id), type: kind, payload: { query } });
      await socket.next("error", { id: "101" });
      const event = kind === "start" ? "data" : "next";
      await socket.next(event, { n: 100 });
      assert.equal(socket.messages.filter(({ type }) => type === "error").length, 1);
    });
  }

  test("graphql-transport-ws: what the protocol forbids closes with its codes", limit, async (t) => {
    const init = { type: "connection_init" };
    const hello = { id: "1", type: "subscribe", payload: { query: "{ slow(ms: 5000) }" } };
    for (const [code, ...messages] of [
      [4400, "{"],
      [4400, `{"type":"bogus"}`],
      [4400, init, { type: "subscribe", payload: { query: "{ hello }" } }],
      [4401, hello],
      [4409, init, hello, hello],
      [4429, init, init],
    ]) {
      const socket = await open(t, env.gateway.socket, "graphql-transport-ws");
      for (const message of messages) socket.send(message);
      assert.equal((await socket.close()).code, code, JSON.stringify(messages));
    }
  });

  test("graphql-transport-ws: without connection_init the socket closes with 4408 after 3 s", limit, async (t) => {
    const begin = Date.now();
    const socket = await open(t, env.gateway.socket, "graphql-transport-ws");
    assert.equal((await socket.close()).code, 4408);
    assert.ok(Date.now() - begin > 2_500, "not earlier");
  });

  describe("publishing", { timeout: 30_000 }, () => {
    const publishing = {
      publishMQTT: ["PublishMQTTInput", "topic", "demo/x", "secret/x"],
      publishRedis: ["PublishRedisInput", "channel", "demo:x", "secret"],
    };
    for (const [field, [type, member, allowed, forbidden]] of Object.entries(publishing)) {
      const query = `mutation ($input: ${type}!) { ${field}(input: $input) { acknowledgedAt } }`;
      const codeOf = async (gateway, input) => {
        const answer = await post(gateway.graphql, JSON.stringify({ query, variables: { input } }));
        return JSON.parse(answer.body).errors?.[0].extensions.code;
      };

      test(`${field} outside the list is TOPIC_FORBIDDEN`, limit, async () => {
        assert.equal(await codeOf(env.gateway, { [member]: forbidden, payload: "x" }), "TOPIC_FORBIDDEN");
        assert.equal(await codeOf(env.gateway, { [member]: allowed, payload: "x" }), undefined);
      });

      test(
        `${field} is TOPIC_FORBIDDEN everywhere on brokers that are not ours, unless it is allowed`,
        limit,
        async (t) => {
          const gateway = await env.startGateway(t, { publish: false });
          assert.equal(await codeOf(gateway, { [member]: allowed, payload: "x" }), "TOPIC_FORBIDDEN");
        },
      );

      test(`${field} of a payload that is not what encoding says is PAYLOAD_INVALID`, limit, async () => {
        for (const payload of ["***", "YQ", "YQ==YQ==", "Y Q=="]) {
          const code = await codeOf(env.gateway, { [member]: allowed, payload, encoding: "BASE64" });
          assert.equal(code, "PAYLOAD_INVALID", payload);
        }
      });

      test(`${field} of more than 64 KiB is PAYLOAD_TOO_LARGE, of 64 KiB is not`, limit, async () => {
        assert.equal(
          await codeOf(env.gateway, { [member]: allowed, payload: "x".repeat(65_537) }),
          "PAYLOAD_TOO_LARGE",
        );
        assert.equal(await codeOf(env.gateway, { [member]: allowed, payload: "x".repeat(65_536) }), undefined);
        const bytes = Buffer.alloc(65_536, 0xff).toString("base64");
        assert.equal(await codeOf(env.gateway, { [member]: allowed, payload: bytes, encoding: "BASE64" }), undefined);
      });

      test(`${field} with wildcards or control characters is TOPIC_INVALID`, limit, async () => {
        const ill = field === "publishMQTT" ? ["demo/+", "demo/#", "$SYS/x"] : [];
        for (const name of [...ill, "", allowed + "\r\nx", allowed + "\u0000", "demo/" + "x".repeat(70_000)]) {
          assert.equal(await codeOf(env.gateway, { [member]: name, payload: "x" }), "TOPIC_INVALID");
        }
      });
    }
  });
});
