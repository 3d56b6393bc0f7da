/** What may go into a function and come out of it: Convex's bounds of values, then the function's own validators. */

import { modulePath } from "../paths.mjs";
import { CallError } from "./errors.mjs";
import { textInFieldOrder } from "./field-order.mjs";
import { formatSize, formatValue } from "./format.mjs";
import { checkValue, isPlain, isSpecial, refuseLoneSurrogates, ValueError } from "./values.mjs";

/**
 * @typedef {Pick<import("./call.mjs").App, "store" | "limits">} App
 * @typedef {import("./functions.mjs").FunctionEntry} FunctionEntry
 */

const NO_ARGS = "[{}]";

/**
 * @param {App} app
 * @param {Pick<FunctionEntry, "path" | "args">} entry
 * @param {string} args  JSON text of a one-element array
 * @param {{ commitTs?: boolean }} [options]  commitTs: its placeholder may occur
 * @returns {{ bytes: number, args: string }} their size in bytes, 0 when it is small, and the text with fields in order
 * @throws {CallError} the function does not take these
 */
export function checkArgs({ store, limits }, entry, args, options = {}) {
  const path = modulePath(entry.path);
  const plain = isPlain(args, limits.argsBytes);
  if (args === NO_ARGS && entry.args === null) return { bytes: 0, args };
  const parsed = JSON.parse(args);
  const bytes = plain
    ? 0
    : saying(`Invalid arguments for ${path}: `, () => {
        refuseLoneSurrogates(args);
        return checkValue(parsed, options);
      });
  if (bytes > limits.argsBytes) {
    throw new CallError(
      `Arguments for ${path} are too large (actual: ${formatSize(bytes)}, limit: ${formatSize(limits.argsBytes)})`,
    );
  }
  if (entry.args !== null) {
    const error = checkOnly(entry.args, parsed, store);
    if (error !== null) throw new CallError(`ArgumentValidationError: ${error}`);
  }
  return { bytes, args: textInFieldOrder(args, parsed) };
}

/**
 * @param {import("./validators.mjs").Validator} validator
 * @param {import("./values.mjs").EncodedArray} args  of which a function takes one, an object
 * @param {App["store"]} store
 */
function checkOnly(validator, args, store) {
  const [arg] = args;
  if (arg === undefined || args.length > 1) {
    return `Expected to receive a single object as the function's argument. Instead received ${args.length} arguments: ${formatValue(args)}`;
  }
  if (typeof arg !== "object" || arg === null || Array.isArray(arg) || isSpecial(arg)) {
    return `Expected to receive an object as the function's argument. Instead received: ${formatValue(arg)}`;
  }
  return validator.check(arg, store);
}

/**
 * @param {App} app
 * @param {Pick<FunctionEntry, "path" | "returns">} entry
 * @param {string} value  JSON text
 * @param {{ commitTs?: boolean }} [options]  commitTs: its placeholder may occur
 * @returns {{ bytes: number, value: string }} its size in bytes, 0 when it is small, and the text with fields in order
 * @throws {CallError} the function must not return this
 */
export function checkReturns({ store, limits }, entry, value, options = {}) {
  const path = modulePath(entry.path);
  const plain = isPlain(value, limits.resultBytes);
  if (plain && entry.returns === null && !value.includes("{")) return { bytes: 0, value };
  saying(`Function ${path} failed. Could not parse return value as json: `, () =>
    refuseLoneSurrogates(value),
  );
  const parsed = JSON.parse(value);
  const bytes = plain
    ? 0
    : saying(`Function ${path} return value invalid: `, () => checkValue(parsed, options));
  if (bytes > limits.resultBytes) {
    throw new CallError(
      `Function ${path} return value is too large (actual: ${formatSize(bytes)}, limit: ${formatSize(limits.resultBytes)})`,
    );
  }
  if (entry.returns !== null) {
    const error = entry.returns.check(parsed, store);
    if (error !== null) throw new CallError(`ReturnsValidationError: ${error}`);
  }
  return { bytes, value: textInFieldOrder(value, parsed) };
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
