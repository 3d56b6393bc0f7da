/** The environment variables that are kept in the file: what may be set, and what functions see. */

import { OperatorError } from "../engine/errors.mjs";
import { versionOf } from "../engine/store.mjs";
import { OWN_NAMES } from "../env.mjs";

/**
 * @typedef {import("../engine/store.mjs").Store} Store
 * @typedef {import("../engine/store.mjs").Row} Row
 * @typedef {{ name: string, value: string | null }} Change  null: unset
 */

export const ENVIRONMENT_TABLE = "_environment_variables";

// Convex's own numbers and texts.
const MAX_VARIABLES = 512;
const MAX_TOTAL_BYTES = 512 * 1024;
const MAX_NAME_LENGTH = 256;
const MAX_VALUE_BYTES = 8 * 1024;
const NAME = /^[a-zA-Z_]+[a-zA-Z0-9_]*$/;

/**
 * @param {Store} store
 * @returns {Record<string, string>} values by name, in the order of the names
 */
export function readEnvironment(store) {
  const variables = [...storedVariables(store)].map(([name, { value }]) => [name, value]);
  return Object.fromEntries(variables.sort(([one = ""], [other = ""]) => (one < other ? -1 : 1)));
}

/**
 * @param {Store} store  inside a savepoint that is rolled back when this throws
 * @param {readonly Change[]} changes
 * @param {readonly string[]} required  names that the served functions cannot do without
 * @throws {OperatorError} with Convex's code and text
 */
export function changeEnvironment(store, changes, required) {
  const table = store.ensureTable(ENVIRONMENT_TABLE);
  const unset = changes.filter(({ name, value }) => value === null && required.includes(name));
  if (unset.length > 0) {
    throw refusal(
      "RequiredEnvironmentVariable",
      `Cannot delete required environment variables: ${unset.map(({ name }) => name).join(", ")}. These are declared as required in the app definition.`,
    );
  }
  for (const change of changes) checkChange(change);
  for (const { name, value } of changes) {
    const known = storedVariables(store).get(name);
    if (known !== undefined) store.replace(table, known.row, null);
    if (value !== null) store.insert(table, versionOf(store.newDocument(table, { name, value })));
  }
  checkTotal(readEnvironment(store));
}

/**
 * @param {Store} store
 * @param {Record<string, string>} expected
 * @throws {OperatorError} the variables have been changed since they were read
 */
export function expectEnvironment(store, expected) {
  const now = readEnvironment(store);
  const names = Object.keys(now);
  const same =
    names.length === Object.keys(expected).length && names.every((name) => now[name] === expected[name]);
  if (!same) throw refusal("RaceDetected", "Environment variables have changed during push");
}

/** @param {Change} change */
function checkChange({ name, value }) {
  if (!NAME.test(name)) {
    throw refusal(
      "EnvironmentVariableNameInvalid",
      `The environment variable name ${name} is invalid. Environment variable names must begin with a letter and may only include characters a-z, A-Z, 0-9, and underscores.`,
    );
  }
  if (name.length > MAX_NAME_LENGTH) {
    throw refusal(
      "EnvironmentVariableNameTooLong",
      `The environment variable name ${name} is too long. Environment variable names must be less than ${MAX_NAME_LENGTH}.`,
    );
  }
  if (value === null) return;
  if (OWN_NAMES.includes(name)) {
    throw refusal(
      "EnvVarNameForbidden",
      `Environment variable with name "${name}" is built-in and cannot be overridden`,
    );
  }
  const bytes = Buffer.byteLength(value);
  if (bytes > MAX_VALUE_BYTES) {
    throw refusal(
      "EnvironmentVariableValueTooLarge",
      `The environment variable value is ${bytes} bytes, which is too large. (max size: ${MAX_VALUE_BYTES}`,
    );
  }
}

/** @param {Record<string, string>} variables */
function checkTotal(variables) {
  const entries = Object.entries(variables);
  if (entries.length > MAX_VARIABLES) {
    throw refusal("EnvVarLimitMet", `The environment variable limit (${MAX_VARIABLES}) has been met.`);
  }
  const bytes = entries.reduce((sum, [name, value]) => sum + name.length + Buffer.byteLength(value), 0);
  if (bytes > MAX_TOTAL_BYTES) {
    throw refusal(
      "EnvVarTotalSizeLimitMet",
      `The total size of all environment variables (${bytes} bytes) exceeds the limit (${MAX_TOTAL_BYTES} bytes).`,
    );
  }
}

/**
 * @param {Store} store
 * @returns {Map<string, { value: string, row: Row }>}
 */
function storedVariables(store) {
  const table = store.table(ENVIRONMENT_TABLE);
  if (table === undefined) return new Map();
  return new Map(
    [...store.rows(table)].map((row) => {
      const { name, value } = JSON.parse(row.json);
      return [name, { value, row }];
    }),
  );
}

/** @param {string} code @param {string} text */
function refusal(code, text) {
  return new OperatorError(text, { code, text });
}
