/** Refuses the arguments of a syscall in Convex's words. */

import { CallError } from "../errors.mjs";
import { formatValue } from "../format.mjs";
import { ValueError } from "../values.mjs";

const MAX_IDENTIFIER = 64;
const IDENTIFIER = /^(?=.*[A-Za-z0-9])[A-Za-z_][A-Za-z0-9_]{0,63}$/;

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
  if (typeof name !== "string") throw new ValueError("Identifier cannot be empty");
  if (IDENTIFIER.test(name)) return name;
  const [first] = name;
  if (first === undefined) throw new ValueError("Identifier cannot be empty");
  if (!/[A-Za-z_]/.test(first)) {
    throw new ValueError(
      `Invalid first character ${quoted(first)} in ${name}: Identifiers must start with an alphabetic character or underscore`,
    );
  }
  const [bad] = /[^A-Za-z0-9_]/u.exec(name) ?? [];
  if (bad !== undefined) {
    throw new ValueError(
      `Identifier ${name} has invalid character ${quoted(bad)}: Identifiers can only contain alphanumeric characters or underscores`,
    );
  }
  if (name.length > MAX_IDENTIFIER) {
    throw new ValueError(`Identifier is too long (${name.length} > maximum ${MAX_IDENTIFIER})`);
  }
  throw new ValueError(`Identifier ${name} cannot have exclusively underscores`);
}

/** @param {string} character */
function quoted(character) {
  return `'${character === "'" ? "\\'" : formatValue(character).slice(1, -1).replace('\\"', '"')}'`;
}
