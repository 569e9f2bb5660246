// Starts the servers of the lessons for a test file; see main.go.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const command = process.env.COURSE_BIN || fileURLToPath(new URL("../../bin/course", import.meta.url));

// start returns { addr, vars, stop }.
export async function start() {
  if (!existsSync(command))
    throw new Error(`${command} is missing: build it first (make bin/course), or name it in COURSE_BIN`);
  const child = spawn(command, { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = await once(createInterface({ input: child.stdout }), "line");
  const stop = async () => {
    const ended = once(child, "exit");
    child.stdin.end();
    await ended;
  };
  return { ...JSON.parse(line), stop };
}
