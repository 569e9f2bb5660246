// Provides the ready-made bundle of graphql-playground-react. As an ordinary
// dependency it would install 420 further packages of its time that nothing here
// uses; so the npm client fetches this one package and its content is compared
// with the hash below.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const name = "graphql-playground-react";
const version = "1.7.28";
const integrity = "sha512-YPR33Ph9kuKlFOMpc8mKGsL/fOiX0ltgzV1BokXYNsBLtTVQnhdCSKQuZg80CcxWKD8syNuWXDkGZSAdFkwmRg==";

// playgroundPackage returns the folder of the unpacked package.
export async function playgroundPackage() {
  const cache = fileURLToPath(new URL("../node_modules/.cache/", import.meta.url));
  const unpacked = join(cache, `${name}-${version}`);
  if (!existsSync(unpacked)) {
    const aside = `${unpacked}.part`;
    rmSync(aside, { recursive: true, force: true });
    mkdirSync(aside, { recursive: true });
    const pack = ["pack", `${name}@${version}`, "--silent", "--pack-destination", aside];
    execFileSync("npm", pack, { stdio: ["ignore", "ignore", "inherit"], shell: process.platform === "win32" });
    const archive = join(aside, `${name}-${version}.tgz`);
    const got = `sha512-${createHash("sha512").update(readFileSync(archive)).digest("base64")}`;
    if (got !== integrity) {
      throw new Error(`${name} ${version} is not the package that was reviewed: its hash is ${got}`);
    }
    execFileSync("tar", ["-xzf", archive, "-C", aside]);
    renameSync(join(aside, "package"), unpacked);
    rmSync(aside, { recursive: true });
  }
  return unpacked;
}
