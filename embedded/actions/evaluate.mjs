/** Evaluates bundled functions in this thread's realm, with the globals of Convex's runtime in place of Node's. */

import { compileFunction } from "node:vm";
import { logger } from "./console.mjs";

/** Node's globals that Convex's runtime does not have; as parameters they hide the real ones from the functions. */
const HIDDEN = [
  "Buffer",
  "global",
  "setImmediate",
  "clearImmediate",
  "require",
  "module",
  "exports",
  "__dirname",
  "__filename",
];

/**
 * @param {import("../engine-client.mjs").Bundle} bundle
 * @param {Record<string, string>} env  what functions see as `process.env`
 * @param {object} convex  the `Convex` global with the syscalls
 * @returns {Record<string, Record<string, any>>} exports by module path
 */
export function evaluate(bundle, env, convex) {
  const code = compileFunction(
    `${bundle.code}\nreturn globalThis.__modules;`,
    ["Convex", "process", "console", ...HIDDEN],
    {
      filename: "functions.js",
    },
  );
  return code(convex, { env: { ...env } }, logger);
}
