// Every audit of GraphQL over HTTP that the npm package graphql-http has, those
// that a server SHOULD or MAY pass among them.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { serverAudits } from "graphql-http";
import { Gateway } from "./gateway.mjs";

describe("audits of graphql-http", { timeout: 60_000 }, () => {
  const gateway = new Gateway({ after });
  before(() => gateway.start());
  afterEach((t) => gateway.report(t));

  for (const audit of serverAudits({ url: () => gateway.graphql })) {
    test(`${audit.id} ${audit.name}`, async () => {
      const result = await audit.fn();
      // A result that is not ok holds the response, unread.
      const body = result.response ? `\n${result.response.status} ${await result.response.text()}` : "";
      assert.equal(result.status, "ok", `${result.reason}${body}`);
    });
  }
});
