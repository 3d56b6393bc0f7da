/** Finds the document that a syscall is about. */

import { CallError } from "../errors.mjs";
import { idProblem } from "../ids.mjs";
import { isHidden } from "../layout.mjs";
import { jsonType } from "./arguments.mjs";

/**
 * @typedef {import("../call.mjs").Call} Call
 * @typedef {import("../store.mjs").Row} Row
 * @typedef {import("../store.mjs").Table} Table
 */

/**
 * @param {Call} call
 * @param {string} method  of `db`, for messages
 * @param {unknown} id
 * @param {string | undefined} tableName  given by the caller
 * @param {boolean} [isSystem]  the kind of table that must be; not looked at when it is left out
 * @returns {{ table: Table, row: Row | undefined } | null} null when no such table exists here
 * @throws {CallError} `id` is no id, or not one of that table
 */
export function findDocument(call, method, id, tableName, isSystem) {
  const { store } = call.app;
  const invalid = (/** @type {string} */ reason) =>
    new CallError(`Invalid argument \`id\` for \`db.${method}\`: ${reason}`);
  if (typeof id !== "string") {
    throw new CallError(
      `Invalid arguments for \`db.${method}\`: invalid type: ${jsonType(id)}, expected a string`,
    );
  }
  const place = store.locate(id);
  if (place === null || isHidden(place.table.name)) {
    const problem = idProblem(id);
    if (problem === null) return null;
    throw invalid(`Unable to decode ID: ${problem}`);
  }
  const { table } = place;
  if (isSystem !== undefined) checkKind(table, isSystem);
  if (tableName !== undefined && tableName !== table.name) {
    throw invalid(`expected to be an Id<"${tableName}">, got Id<"${table.name}"> instead.`);
  }
  call.frame.reads?.addDocument(table.name, id);
  return { table, row: store.get(place, id) };
}

/**
 * Keep apart what `db` and what `db.system` may touch.
 *
 * @param {{ name: string }} table
 * @param {boolean} expectSystem
 * @throws {CallError}
 */
export function checkKind({ name }, expectSystem) {
  if (name.startsWith("_") === expectSystem) return;
  throw new CallError(
    expectSystem
      ? "User tables cannot be accessed with db.system."
      : "System tables can only be accessed with db.system.",
  );
}

/**
 * A row as the running mutation sees it.
 *
 * @param {Call} call
 * @param {Row} row
 * @returns {string} JSON text
 */
export function visibleText(call, row) {
  return call.app.store.visible.get(row.id) ?? row.json;
}
