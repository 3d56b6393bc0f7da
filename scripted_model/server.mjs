/** Starts the scripted model server: `node scripted_model/server.mjs --port 3230`. */

import { parseArgs } from "node:util";
import { createScriptedModelServer, NAME } from "./http.mjs";
import { MODELS } from "./script.mjs";

const BACKLOG = 1024; // hundreds of streams may be opened in one instant

/**
 * @param {number} code
 * @param {string} line
 * @returns {never}
 */
function exitWith(code, line) {
  process.stderr.write(`${NAME}: ${line}\n`);
  process.exit(code);
}

/** @returns {{ host: string, port: number }} */
function readOptions() {
  try {
    const { values } = parseArgs({
      options: { host: { type: "string", default: "127.0.0.1" }, port: { type: "string", default: "3230" } },
    });
    const port = /^\d{1,5}$/.test(values.port) ? Number(values.port) : NaN;
    if (!(port <= 65535)) exitWith(2, `--port takes a number from 0 to 65535, not '${values.port}'`);
    return { host: values.host, port };
  } catch (error) {
    const [line = ""] = /** @type {Error} */ (error).message.split("\n");
    return exitWith(2, `${line} (flags: --port, --host)`);
  }
}

const { host, port } = readOptions();
const server = createScriptedModelServer();

server.on("error", (/** @type {NodeJS.ErrnoException} */ error) => {
  if (error.code === "EADDRINUSE")
    exitWith(1, `port ${port} is in use; give another with --port, or 0 for a free one`);
  exitWith(1, error.message);
});

for (const signal of /** @type {const} */ (["SIGTERM", "SIGINT"])) {
  process.once(signal, () => {
    server.close(() => process.exit(0));
    server.closeAllConnections();
  });
}

server.listen({ host, port, backlog: BACKLOG }, () => {
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  const name = address.family === "IPv6" ? `[${address.address}]` : address.address;
  const url = `http://${name}:${address.port}`;
  const ready = { ready: true, server: NAME, url, baseUrl: `${url}/v1`, models: MODELS, pid: process.pid };
  process.stdout.write(`${JSON.stringify(ready)}\n`);
});
