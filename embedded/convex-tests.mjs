/** Lets the tests of `convex/` run on the engine, in their own process: functions from the folder, a file for each test. */

import { cpSync, mkdtempSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { bundleFunctions } from "./bundle.mjs";
export { touchedTables } from "./conflict-matrix.mjs";
import { prepareDeployment } from "./engine/deployment.mjs";
import { Engine } from "./engine/engine.mjs";
import { GUARD_BYTES } from "./guard.mjs";

const PROJECT = fileURLToPath(new URL("..", import.meta.url));

/** @returns {Promise<import("./bundle.mjs").Bundle>} the project's functions, with the probe and the callbacks of its tests */
export async function bundleProject() {
  const folder = mkdtempSync(path.join(tmpdir(), "signalbox-functions-"));
  try {
    const functions = path.join(folder, "convex");
    cpSync(path.join(PROJECT, "convex"), functions, { recursive: true });
    for (const name of ["probe", "callbacks"]) {
      renameSync(path.join(functions, `${name}.testing.ts`), path.join(functions, `${name}.ts`));
    }
    symlinkSync(path.join(PROJECT, "node_modules"), path.join(folder, "node_modules"));
    return await bundleFunctions(functions);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What a bundle declares and runs in, evaluated once for all tests of a process, as a deployment does once for all calls. @type {WeakMap<object, ReturnType<typeof prepareDeployment>>} */
const evaluated = new WeakMap();
/** Of the newest engine: a test has ended when the next one opens its own. @type {import("./engine/runtime.mjs").Handlers} */
let newest;
const forwarded = {
  syscall: (/** @type {string} */ op, /** @type {string} */ args) => newest.syscall(op, args),
  log: (/** @type {string} */ line) => newest.log(line),
};

/** @type {typeof prepareDeployment} */
function prepareOnce(bundle, environment, handlers, ...rest) {
  newest = handlers;
  let deployment = evaluated.get(bundle);
  if (deployment === undefined) {
    deployment = prepareDeployment(bundle, environment, forwarded, ...rest);
    evaluated.set(bundle, deployment);
  }
  return deployment;
}

/** @returns {{ engine: Engine, remove: () => void }} an engine on a new file, whose clock is the process's */
export function openEngine() {
  const folder = mkdtempSync(path.join(tmpdir(), "signalbox-engine-"));
  const engine = new Engine({
    file: path.join(folder, "host.sqlite"),
    synchronous: "normal",
    guard: new SharedArrayBuffer(GUARD_BYTES),
    now: () => Date.now(),
    record: true,
    prepare: prepareOnce,
  });
  return { engine, remove: () => rmSync(folder, { recursive: true }) };
}
