// Builds both IDEs into dist/graphiql and dist/playground. A bundle is built
// aside and put in place when it is complete, so a gateway that serves dist from
// disk never shows half of one.
import { copyFileSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";
import { playgroundPackage } from "./playground/package.js";

const playground = await playgroundPackage();
const at = (path) => fileURLToPath(new URL(path, import.meta.url));

for (const name of ["playground", "graphiql"]) {
  const aside = at(`node_modules/.cache/sluice/${name}`);
  await build({
    configFile: false,
    root: at(name),
    base: "./", // the gateway may be behind a prefix
    resolve: { alias: { "playground-bundle": join(playground, "build/static") } },
    oxc: { jsx: { runtime: "automatic" } },
    build: {
      outDir: aside,
      emptyOutDir: true,
      assetsInlineLimit: 0, // data: URLs would need a wider Content-Security-Policy
      chunkSizeWarningLimit: 8000,
      license: { fileName: "licenses.md" },
      reportCompressedSize: false,
      rolldownOptions: {
        onLog(level, log, next) {
          // "use client" and the like, hundreds of times: they mean nothing outside a server.
          if (log.code !== "MODULE_LEVEL_DIRECTIVE") next(level, log);
        },
      },
    },
    logLevel: "warn",
  });
  if (name === "playground") {
    copyFileSync(join(playground, "LICENSE"), join(aside, "licenses.md"));
  }
  mkdirSync(at("dist"), { recursive: true });
  rmSync(at(`dist/${name}`), { recursive: true, force: true });
  renameSync(aside, at(`dist/${name}`));
  console.log(`dist/${name}`);
}
