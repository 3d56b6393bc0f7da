/** What may go into a function and come out of it: Convex's bounds of values, then the function's own validators. */

import { modulePath } from "../paths.mjs";
import { CallError } from "./errors.mjs";
import { formatSize } from "./format.mjs";
import { checkText, refuseLoneSurrogates, ValueError } from "./values.mjs";

/**
 * @typedef {Pick<import("./call.mjs").App, "store" | "limits">} App
 * @typedef {import("./functions.mjs").FunctionEntry} FunctionEntry
 */

/**
 * @param {App} app
 * @param {Pick<FunctionEntry, "path" | "args">} entry
 * @param {string} args  JSON text of a one-element array
 * @param {{ commitTs?: boolean }} [options]  commitTs: its placeholder may occur
 * @returns {number} their size in bytes; 0 when it is small
 * @throws {CallError} the function does not take these
 */
export function checkArgs({ store, limits }, entry, args, options = {}) {
  const path = modulePath(entry.path);
  const bytes = saying(`Invalid arguments for ${path}: `, () => {
    refuseLoneSurrogates(args);
    return checkText(args, { ...options, limit: limits.argsBytes });
  });
  if (bytes > limits.argsBytes) {
    throw new CallError(
      `Arguments for ${path} are too large (actual: ${formatSize(bytes)}, limit: ${formatSize(limits.argsBytes)})`,
    );
  }
  if (entry.args !== null) {
    const error = entry.args.check(JSON.parse(args)[0], store);
    if (error !== null) throw new CallError(`ArgumentValidationError: ${error}`);
  }
  return bytes;
}

/**
 * @param {App} app
 * @param {Pick<FunctionEntry, "path" | "returns">} entry
 * @param {string} value  JSON text
 * @param {{ commitTs?: boolean }} [options]  commitTs: its placeholder may occur
 * @returns {number} its size in bytes; 0 when it is small
 * @throws {CallError} the function must not return this
 */
export function checkReturns({ store, limits }, entry, value, options = {}) {
  const path = modulePath(entry.path);
  saying(`Function ${path} failed. Could not parse return value as json: `, () =>
    refuseLoneSurrogates(value),
  );
  const bytes = saying(`Function ${path} return value invalid: `, () =>
    checkText(value, { ...options, limit: limits.resultBytes }),
  );
  if (bytes > limits.resultBytes) {
    throw new CallError(
      `Function ${path} return value is too large (actual: ${formatSize(bytes)}, limit: ${formatSize(limits.resultBytes)})`,
    );
  }
  if (entry.returns !== null) {
    const error = entry.returns.check(JSON.parse(value), store);
    if (error !== null) throw new CallError(`ReturnsValidationError: ${error}`);
  }
  return bytes;
}

/**
 * @template T
 * @param {string} prefix  of what is said about a value that Convex refuses
 * @param {() => T} check
 * @returns {T}
 * @throws {CallError}
 */
function saying(prefix, check) {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof ValueError)) throw error;
    throw new CallError(prefix + error.message);
  }
}
