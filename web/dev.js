// Serves GraphiQL on port 5173 from its sources, which show as soon as they are
// saved. The gateway runs elsewhere: the variables VITE_WS_… say where.
import { fileURLToPath } from "node:url";
import { createServer } from "vite";

const at = (path) => fileURLToPath(new URL(path, import.meta.url));

const server = await createServer({
  configFile: false,
  root: at("graphiql"),
  oxc: { jsx: { runtime: "automatic" } },
  optimizeDeps: { exclude: ["graphiql/setup-workers/vite", "@graphiql/react/setup-workers/vite"] }, // its workers are not to be bundled
  server: { host: process.env.HOST ?? "127.0.0.1", port: 5173, strictPort: true, fs: { allow: [at(".")] } },
});
await server.listen();
server.printUrls();
