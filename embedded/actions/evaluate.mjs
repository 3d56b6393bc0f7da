/** Evaluates bundled functions in this thread's realm. */

import { compileFunction } from "node:vm";
import { StackMapper } from "../engine/errors.mjs";
import { importedIn } from "./clock.mjs";
import { SHADOWS } from "./globals.mjs";

const BUNDLE_NAME = "functions.js";

/** The functions of one load; evaluated when the first action wants them, which is the one to be told if that fails. */
export class Functions {
  /**
   * @param {import("../bundle.mjs").Bundle} bundle
   * @param {Record<string, string>} env  what functions see as `process.env`
   * @param {boolean} strict  each run gets modules of its own, as in Convex; else what they hold lives on
   * @param {import("../engine/import-phase.mjs").ImportPhase | null} [imported]  what modules see of time and chance while they are evaluated
   */
  constructor({ code, map }, env, strict, imported = null) {
    this.#code = code;
    this.#strict = strict;
    this.#imported = imported;
    this.#process = { env: environment(env) };
    this.mapper = new StackMapper(BUNDLE_NAME, map);
  }

  #code;
  #strict;
  #imported;
  #process;
  /** @type {Function | null} */
  #compiled = null;
  /** @type {Record<string, Record<string, any>> | null} */
  #modules = null;

  /**
   * To be called once for a run, inside of it.
   *
   * @returns {Record<string, Record<string, any>>} exports by module path
   * @throws {unknown} what a module throws
   */
  modules() {
    if (this.#modules !== null && !this.#strict) return this.#modules;
    this.#compiled ??= compileFunction(
      `${this.#code}\nreturn globalThis.__modules;`,
      ["process", ...Object.keys(SHADOWS)],
      { filename: BUNDLE_NAME },
    );
    Object.defineProperty(globalThis, "process", { value: this.#process, configurable: true });
    const compiled = this.#compiled;
    this.#modules = importedIn(this.#imported, () => compiled(this.#process, ...Object.values(SHADOWS)));
    return /** @type {Record<string, Record<string, any>>} */ (this.#modules);
  }
}

/** What there is before the first load: a host may wait for a push. */
export const NO_FUNCTIONS = new Functions(
  { code: "globalThis.__modules = {};", map: "{}", modules: [] },
  {},
  false,
);

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
