/** Functions of the host's own: how they are declared, and what several of them need. */

import { CallError } from "../engine/errors.mjs";
import { answerSyscall } from "../engine/syscalls/index.mjs";
import { compileValidator } from "../engine/validators.mjs";

/**
 * @typedef {import("../engine/call.mjs").Call} Call
 * @typedef {import("../engine/functions.mjs").FunctionEntry} FunctionEntry
 * @typedef {import("../engine/validators.mjs").ValidatorJson} ValidatorJson
 * @typedef {(call: Call, args: any) => string} Native  answers with JSON text
 */

/** Convex's: below its limits, since a page must never fail. */
export const PAGE_LIMITS = { maximumRowsRead: 10_000, maximumBytesRead: 5_000_000 };

export const ANY = { type: "any" };
export const STRING = { type: "string" };

const UNCAUGHT = "Uncaught ";

/**
 * @param {string} name  below `_system/`
 * @param {Record<string, ValidatorJson>} args
 * @param {Native} run  what it throws is told as if code had thrown it, as Convex's own are code
 * @param {{ kind?: "query" | "mutation", optional?: string[] }} [options]  optional: arguments that may be left out
 * @returns {FunctionEntry}
 */
export function native(name, args, run, { kind = "query", optional = [] } = {}) {
  return {
    path: `_system/${name}`,
    kind,
    visibility: "internal",
    args: compileValidator(objectOf(args, optional)),
    returns: null,
    native(call, given) {
      try {
        return run(call, given);
      } catch (error) {
        if (!(error instanceof CallError) || error.message.startsWith(UNCAUGHT)) throw error;
        throw new CallError(`${UNCAUGHT}Error: ${error.message}\n`);
      }
    },
  };
}

/**
 * @param {Record<string, ValidatorJson>} fields
 * @param {string[]} [optional]
 * @returns {ValidatorJson}
 */
export function objectOf(fields, optional = []) {
  const value = Object.entries(fields).map(([field, fieldType]) => [
    field,
    { fieldType, optional: optional.includes(field) },
  ]);
  return { type: "object", value: Object.fromEntries(value) };
}

/**
 * Run what writes documents; what is wrong with them reaches the client as data, which no deployment hides.
 *
 * @template T
 * @param {() => T} write
 * @returns {T}
 * @throws {CallError} a ConvexError whose data is the text
 */
export function tellingClient(write) {
  try {
    return write();
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    throw new CallError(`${UNCAUGHT}ConvexError: ${error.message}\n`, JSON.stringify(error.message));
  }
}

/**
 * @param {Call} call
 * @param {string} op
 * @param {object} args
 * @returns {string} JSON text
 */
export function syscall(call, op, args) {
  return answerSyscall(call, op, JSON.stringify(args));
}

/**
 * @typedef {object} Page
 * @property {string | null} [cursor]
 * @property {string | null} [endCursor]
 * @property {number} numItems
 * @property {number} [maximumRowsRead]
 * @property {number} [maximumBytesRead]
 */

/**
 * @param {Call} call
 * @param {{ source: object, operators: object[] }} query
 * @param {Page} page
 * @returns {string} JSON text of `{ page, isDone, continueCursor, ... }`
 */
export function readPage(call, query, { cursor = null, endCursor = null, numItems, ...limits }) {
  const request = { query, cursor, endCursor, pageSize: numItems, ...limits, version: null };
  return syscall(call, "1.0/queryPage", request);
}

/**
 * @param {Call} call
 * @param {Page & { table: string, order: string, operators?: object[] }} page
 * @returns {string} as of `readPage`
 */
export function readTablePage(call, { table: tableName, order, operators = [], ...page }) {
  return readPage(call, { source: { type: "FullTableScan", tableName, order }, operators }, page);
}

/** @param {Call} call @param {string} table @returns {string} JSON text of a number */
export function countTable(call, table) {
  return syscall(call, "1.0/count", { table });
}
