import assert from "node:assert/strict";
import { test } from "node:test";
import { Tally } from "./tally.js";

for (const [what, numbers, total, counted] of [
  ["a whole run", [1, 2, 3], 3, { received: 3, lost: 0, doubled: 0, reordered: 0, last: 3 }],
  ["a hole", [1, 4], 0, { received: 2, lost: 2, doubled: 0, reordered: 0, last: 4 }],
  ["a hole that is filled later", [1, 3, 2], 3, { received: 3, lost: 0, doubled: 0, reordered: 1, last: 3 }],
  ["a message that comes twice", [1, 2, 2, 1], 2, { received: 2, lost: 0, doubled: 2, reordered: 0, last: 2 }],
  ["a beginning and an end that are missing", [3], 5, { received: 1, lost: 4, doubled: 0, reordered: 0, last: 3 }],
]) {
  test(`the tally of ${what}`, () => {
    const tally = new Tally();
    for (const number of numbers) tally.take(number, 0);
    tally.total = total;
    const { received, lost, doubled, reordered, last } = tally;
    assert.deepEqual({ received, lost, doubled, reordered, last }, counted);
  });
}
