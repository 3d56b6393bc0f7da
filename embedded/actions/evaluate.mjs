/** Evaluates bundled functions in this thread's realm, with the globals of Convex's runtime in place of Node's. */

import { compileFunction } from "node:vm";
import { StackMapper } from "../engine/errors.mjs";
import { logger } from "./console.mjs";

const BUNDLE_NAME = "functions.js";

/** Node's globals that Convex's runtime does not have; as parameters they hide the real ones from the functions. */
const HIDDEN = ["Buffer", "global", "setImmediate", "clearImmediate", "require"];

/**
 * @typedef {object} Functions
 * @property {Record<string, Record<string, any>>} modules  exports by module path
 * @property {StackMapper} mapper
 */

/**
 * @param {import("../bundle.mjs").Bundle} bundle
 * @param {Record<string, string>} env  what functions see as `process.env`
 * @param {object} convex  the `Convex` global with the syscalls
 * @returns {Functions}
 */
export function evaluate({ code, map }, env, convex) {
  const params = ["Convex", "process", "console", ...HIDDEN];
  const run = compileFunction(`${code}\nreturn globalThis.__modules;`, params, { filename: BUNDLE_NAME });
  return { modules: run(convex, { env: { ...env } }, logger), mapper: new StackMapper(BUNDLE_NAME, map) };
}
