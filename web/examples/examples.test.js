// The examples are the first thing that a visitor runs: each must be a valid
// document of the schema that the gateway serves.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { buildSchema, parse, validate } from "graphql";

const here = new URL(".", import.meta.url);
const schemaDir = new URL("../../graph/", here);

const sdl = readdirSync(schemaDir)
  .filter((name) => name.endsWith(".graphqls"))
  .map((name) => readFileSync(new URL(name, schemaDir), "utf8"))
  .join("\n");
const schema = buildSchema(sdl);

const files = readdirSync(here).filter((name) => name.endsWith(".graphql"));

test("there are examples", () => assert.ok(files.length >= 5));

for (const file of files) {
  test(`${file} is valid`, () => {
    const document = parse(readFileSync(new URL(file, here), "utf8"));
    assert.deepEqual(
      validate(schema, document).map((error) => error.message),
      [],
    );
    for (const operation of document.definitions) {
      // Without a name the IDEs could neither title the tab nor offer a choice.
      assert.ok(operation.name, "an operation without a name");
    }
  });
}
