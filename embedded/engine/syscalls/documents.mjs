/** Finds the document that a syscall is about. */

import { CallError } from "../errors.mjs";

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
 * @returns {{ table: Table, row: Row | undefined } | null} null when no such table exists here
 * @throws {CallError} `id` is no id, or not one of that table
 */
export function findDocument(call, method, id, tableName) {
  const { store } = call.app;
  const invalid = (/** @type {string} */ reason) =>
    new CallError(`Invalid argument \`id\` for \`db.${method}\`: ${reason}`);
  if (typeof id !== "string") throw invalid(`Expected an ID, but got ${JSON.stringify(id)}`);
  const place = store.locate(id);
  if (place === null) {
    if (store.isId(id)) return null;
    throw invalid(`Unable to decode ID: ${JSON.stringify(id)} is not the ID of a document`);
  }
  const { table } = place;
  if (tableName !== undefined && tableName !== table.name) {
    throw invalid(
      `Expected an ID of table "${tableName}", but ${JSON.stringify(id)} is of table "${table.name}"`,
    );
  }
  call.frame.reads?.addDocument(table.name, id);
  return { table, row: store.get(place, id) };
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
