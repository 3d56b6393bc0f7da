/** The process of a host, from its command line to its end; `main.mjs` loads it, as it was built or as it stands here. */

import { openCore, StartError } from "./core.mjs";
import { operatorLine } from "./log-lines.mjs";
import { keepSmall } from "./memory.mjs";
import { parseOptions, UsageError } from "./options.mjs";

const STOP_LIMIT_MS = 8_000; // a supervisor sends SIGKILL after 10 s

/** @param {string} line */
function log(line) {
  process.stderr.write(`signalbox host: ${operatorLine(line)}\n`);
}

/**
 * @param {number} code
 * @param {unknown} error
 * @returns {never}
 */
function exitWith(code, error) {
  log(error instanceof Error ? error.message : String(error));
  process.exit(code);
}

async function main() {
  process.env.TZ = "UTC"; // as Convex's runtime has it, on every thread
  const options = parseOptions(process.argv.slice(2), process.cwd());
  const operator = { log, onFatal: (/** @type {Error} */ error) => exitWith(1, error) };
  const core = openCore(options, operator);
  // The engine's thread and the bundler start while the rest is loaded.
  const { beginToServe } = await import("./bundle.mjs");
  const building = beginToServe(options);
  await building?.begun;
  const { startHost } = await import("./host.mjs");
  const host = await startHost(options, operator, core, building);
  let stopping = false;
  for (const signal of /** @type {const} */ (["SIGTERM", "SIGINT"])) {
    process.on(signal, () => {
      if (stopping) process.exit(1);
      stopping = true;
      setTimeout(() => exitWith(1, "could not stop in time"), STOP_LIMIT_MS).unref();
      host.stop().then(
        () => process.exit(0),
        (error) => exitWith(1, error),
      );
    });
  }
  keepSmall();
  process.stdout.write(`${JSON.stringify(host.ready)}\n`);
}

main().catch((error) => {
  if (error instanceof UsageError) exitWith(2, error);
  if (error instanceof StartError) exitWith(1, error);
  exitWith(1, error instanceof Error ? error.stack : error);
});
