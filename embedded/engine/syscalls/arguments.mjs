/** Refuses the arguments of a syscall in Convex's words. */

import { CallError } from "../errors.mjs";
import { identifierError } from "../identifiers.mjs";
import { ValueError } from "../values.mjs";

/**
 * @template T
 * @param {string} name  of the argument
 * @param {string} method  as functions call it, such as "db.insert"
 * @param {() => T} read
 * @returns {T}
 * @throws {CallError} for each ValueError of `read`
 */
export function argument(name, method, read) {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof ValueError)) throw error;
    throw new CallError(`Invalid argument \`${name}\` for \`${method}\`: ${error.message}`);
  }
}

/**
 * @param {unknown} name
 * @returns {string}
 * @throws {ValueError} it is no name for a table
 */
export function tableName(name) {
  const error = identifierError(typeof name === "string" ? name : "");
  if (error !== null) throw new ValueError(error);
  return /** @type {string} */ (name);
}

/**
 * @param {unknown} value  of an argument that a syscall cannot take
 * @returns {string} what it is, in the words of Convex's parser
 */
export function jsonType(value) {
  if (value === null || value === undefined) return "null";
  if (typeof value === "boolean") return `boolean \`${value}\``;
  if (typeof value === "string") return `string ${JSON.stringify(value)}`;
  if (typeof value === "number")
    return `${Number.isInteger(value) ? "integer" : "floating point"} \`${value}\``;
  return Array.isArray(value) ? "sequence" : "map";
}
