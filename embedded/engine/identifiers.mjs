/** What Convex takes as the name of a table and of a field that a query or validator names, and its words for what it does not take. */

import { formatValue } from "./format.mjs";

const MAX_IDENTIFIER = 64;
const MAX_FIELD_NAME = 1024;

/**
 * @param {string} name  of a table
 * @returns {string | null} what is wrong with it
 */
export function identifierError(name) {
  const [first] = name;
  if (first === undefined) return "Identifier cannot be empty";
  if (!/[A-Za-z_]/.test(first)) {
    return `Invalid first character ${quoted(first)} in ${name}: Identifiers must start with an alphabetic character or underscore`;
  }
  const stranger = /[^A-Za-z0-9_]/u.exec(name);
  if (stranger !== null) {
    return `Identifier ${name} has invalid character ${quoted(stranger[0])}: Identifiers can only contain alphanumeric characters or underscores`;
  }
  if (name.length > MAX_IDENTIFIER) {
    return `Identifier is too long (${name.length} > maximum ${MAX_IDENTIFIER})`;
  }
  return /[^_]/.test(name) ? null : `Identifier ${name} cannot have exclusively underscores`;
}

/**
 * Documents may have fields that no validator and no filter can name.
 *
 * @param {string} name
 * @returns {string | null} what is wrong with it
 */
export function fieldNameError(name) {
  if (name.startsWith("$")) return `Field name ${name} starts with '$', which is reserved.`;
  const stranger = /[^ -~]/u.exec(name);
  if (stranger !== null) {
    const [char] = stranger;
    return `Field name ${name} has invalid character ${quoted(char)}: Field names can only contain non-control ASCII characters`;
  }
  if (name.length > MAX_FIELD_NAME) {
    return `Field name is too long (${name.length} > maximum ${MAX_FIELD_NAME})`;
  }
  return identifierError(name);
}

/**
 * @param {string} path  of a field in a filter
 * @returns {string | null} what is wrong with it
 */
export function fieldPathError(path) {
  const trimmed = path.replace(/^\.+|\.+$/g, "");
  if (trimmed === "") return `Empty path ${path}`;
  for (const name of trimmed.split(".")) {
    const error = fieldNameError(name);
    if (error !== null) return error;
  }
  return null;
}

/** @param {string} character */
function quoted(character) {
  return `'${character === "'" ? "\\'" : formatValue(character).slice(1, -1).replace('\\"', '"')}'`;
}
