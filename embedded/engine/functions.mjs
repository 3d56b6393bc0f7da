/** The table of loaded functions: which there are, of what kind, for whom, and what they take and give. */

import { functionNotFound, modulePath, wrongKind } from "../paths.mjs";
import { CallError } from "./errors.mjs";
import { compileValidator, ValidatorError } from "./validators.mjs";

/**
 * @typedef {import("./validators.mjs").Validator} Validator
 * @typedef {object} FunctionEntry
 * @property {string} path  canonical
 * @property {"query" | "mutation" | "action"} kind
 * @property {"public" | "internal"} visibility
 * @property {Validator | null} args  null: anything
 * @property {Validator | null} returns
 * @property {import("../system/native.mjs").Native} [native]  answers in place of code of the app
 */

export class FunctionTable {
  /**
   * @param {import("./runtime.mjs").Declared["functions"]} declared
   * @param {readonly FunctionEntry[]} [system]  called as the app's own, and described to nobody
   * @throws {import("./validators.mjs").ValidatorError}
   */
  constructor(declared, system = []) {
    for (const entry of system) this.#system.set(entry.path, entry);
    for (const { path, kind, visibility, args, returns } of declared) {
      this.#entries.set(path, {
        ...{ path, kind, visibility },
        args: compile(args, path, "exportArgs"),
        returns: compile(returns, path, "exportReturns"),
      });
    }
  }

  /** @type {Map<string, FunctionEntry>} */
  #entries = new Map();
  /** @type {Map<string, FunctionEntry>} */
  #system = new Map();

  /** @param {string} path @returns {FunctionEntry | undefined} */
  get(path) {
    return this.#entries.get(path) ?? this.#system.get(path);
  }

  /** @param {string} module  path without extension @returns {boolean} whether it has functions */
  hasModule(module) {
    for (const path of this.#entries.keys()) if (path.slice(0, path.lastIndexOf(":")) === module) return true;
    return false;
  }

  /**
   * @param {string} path
   * @param {"query" | "mutation" | "any"} kind  any: a query or a mutation
   * @param {boolean} admin  may call internal functions
   * @returns {FunctionEntry & { kind: "query" | "mutation" }}
   * @throws {CallError}
   */
  find(path, kind, admin) {
    const entry = this.get(path);
    if (entry === undefined || (entry.visibility === "internal" && !admin)) {
      throw new CallError(functionNotFound(path, { any: kind === "any" && admin }));
    }
    if (entry.kind === "action" || (kind !== "any" && entry.kind !== kind)) {
      throw new CallError(wrongKind(path, kind === "any" ? "query" : kind, entry.kind));
    }
    return /** @type {FunctionEntry & { kind: "query" | "mutation" }} */ (entry);
  }

  /** @returns {Record<string, { kind: FunctionEntry["kind"], visibility: FunctionEntry["visibility"] }>} by path */
  describe() {
    return Object.fromEntries(
      [...this.#entries.values()].map(({ path, kind, visibility }) => [path, { kind, visibility }]),
    );
  }
}

/**
 * @param {any} json
 * @param {string} path
 * @param {"exportArgs" | "exportReturns"} method  of the function, that tells it
 */
function compile(json, path, method) {
  if (json === null || json.type === "any") return null;
  try {
    return compileValidator(json);
  } catch (error) {
    if (!(error instanceof ValidatorError)) throw error;
    throw new ValidatorError(`Invalid JSON returned from ${modulePath(path)}.${method}(): ${error.message}`);
  }
}
