/** Evaluates bundled functions in this thread's realm. */

import { compileFunction } from "node:vm";
import { StackMapper } from "../engine/errors.mjs";
import { SHADOWS } from "./globals.mjs";

const BUNDLE_NAME = "functions.js";

/** The functions of one load; evaluated when the first action wants them, which is the one to be told if that fails. */
export class Functions {
  /**
   * @param {import("../bundle.mjs").Bundle} bundle
   * @param {Record<string, string>} env  what functions see as `process.env`
   */
  constructor({ code, map }, env) {
    this.#code = code;
    this.#process = { env: environment(env) };
    this.mapper = new StackMapper(BUNDLE_NAME, map);
  }

  #code;
  #process;
  /** @type {Record<string, Record<string, any>> | null} */
  #modules = null;

  /** Exports by module path. @throws {unknown} what a module throws */
  get modules() {
    if (this.#modules !== null) return this.#modules;
    const text = `${this.#code}\nreturn globalThis.__modules;`;
    const run = compileFunction(text, ["process", ...Object.keys(SHADOWS)], { filename: BUNDLE_NAME });
    Object.defineProperty(globalThis, "process", { value: this.#process, configurable: true });
    return (this.#modules = run(this.#process, ...Object.values(SHADOWS)));
  }
}

/**
 * @param {Record<string, string>} env
 * @returns {object} variables are read by name and are not listed, as in Convex
 */
function environment(env) {
  return new Proxy(/** @type {Record<PropertyKey, unknown>} */ ({}), {
    get: (target, name) =>
      typeof name === "string" && Object.hasOwn(env, name) ? env[name] : Reflect.get(target, name),
  });
}
