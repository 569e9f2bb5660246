#!/usr/bin/env node
// Plays the reference clients of all lessons, or of those that are named, against
// the built gateway. It ends with status 1 when something is wrong.
//
//   node check.mjs [--json] [--clients FOLDER] [--gateway HOST:PORT] [SLUG…]
import { parseArgs } from "node:util";
import { check } from "./harness/checker.mjs";
import { courseOf } from "./harness/course.mjs";
import { connect, startGateway } from "./harness/gateway.mjs";

const { values, positionals: only } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "boolean" }, clients: { type: "string" }, gateway: { type: "string" } },
});

const begun = performance.now();
const gateway = values.gateway ? { ...connect(values.gateway), stop() {} } : await startGateway();
const report = await check(gateway, courseOf({ clients: values.clients }), { only });
await gateway.stop();

const seconds = Math.round((performance.now() - begun) / 100) / 10;
const faults = [
  ...report.faults,
  ...report.lessons.flatMap((one) => one.faults.map((fault) => `${one.slug}: ${fault}`)),
];

if (values.json) {
  console.log(JSON.stringify({ ...report, seconds, passed: faults.length === 0 }, undefined, 2));
} else {
  console.log(table(report.lessons));
  for (const fault of faults) console.log(`✗ ${fault}`);
  console.log(`${report.lessons.length} lessons, ${faults.length} faults, ${seconds} s`);
}
process.exitCode = faults.length === 0 && report.lessons.length > 0 ? 0 : 1;

function table(lessons) {
  const share = ({ passed, of }) => `${passed}/${of}`;
  const rows = [
    ["lesson", "steps", "questions", "languages", "reference runs", "near misses", "answers", "completed"],
    ...lessons.map((one) => [
      one.slug,
      one.steps,
      one.questions,
      one.languages.join(" "),
      share(one.references),
      share(one.nearMisses),
      share(one.answers),
      one.completed ? "yes" : "no",
    ]),
  ].map((row) => row.map(String));
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
