/** How Convex's dashboard reads and edits documents: what its functions do, through the syscalls that apps use. */

import { CallError } from "../engine/errors.mjs";
import { jsonType } from "../engine/syscalls/arguments.mjs";
import { readFilters, UNSET } from "./dashboard-filters.mjs";
import { countTable, PAGE_LIMITS, readTablePage, syscall, tellingClient } from "./native.mjs";

/**
 * @typedef {import("./native.mjs").Call} Call
 * @typedef {import("./native.mjs").Native} Native
 */

// Convex's own numbers.
const MAX_IMPORTED = 4096; // documents
const MAX_DELETED = 4096; // documents
const CLEARED_PAGE = { numItems: 4000, maximumBytesRead: 3_000_000 };

const SUCCESS = '{"success":true}';
const DONE_AFTER = ',"done":false}'; // as `queryStreamNext` ends its answer
const VALUE_BEFORE = '{"value":';

/** What the dashboard calls the system tables that it shows. */
export const SHOWN_AS = new Map([
  ["_scheduled_functions", "_scheduled_jobs"],
  ["_storage", "_file_storage"],
]);
const READ_AS = new Map(Array.from(SHOWN_AS, ([name, shown]) => [shown, name]));

/** @type {Native} */
export function addDocuments(call, { table, documents }) {
  if (documents.length > MAX_IMPORTED) {
    return refusal(`Can’t import more than ${MAX_IMPORTED} documents at once.`);
  }
  tellingClient(() => {
    for (const value of documents) insert(call, table, value);
  });
  return SUCCESS;
}

/**
 * @param {Call} call
 * @param {string} table
 * @param {unknown} value
 * @returns {string} its id
 */
function insert(call, table, value) {
  if (table.startsWith("_")) throw new CallError("System tables (prefixed with `_`) are read-only.");
  return JSON.parse(syscall(call, "1.0/insert", { table, value }))._id;
}

/** There is a table from the first document on that was in it. @type {Native} */
export function createTable(call, { table }) {
  const id = insert(call, table, {});
  syscall(call, "1.0/remove", { id });
  return "null";
}

/** @type {Native} */
export function deleteDocuments(call, { toDelete }) {
  if (toDelete.length > MAX_DELETED) {
    return refusal(`You can't delete more than ${MAX_DELETED}. Try selecting fewer documents instead..`);
  }
  for (const { id } of toDelete) syscall(call, "1.0/remove", { id });
  return SUCCESS;
}

/** @type {Native} */
export function replaceDocument(call, { id, document }) {
  if (get(call, id) === "null") return refusal("Document does not exist.");
  tellingClient(() => syscall(call, "1.0/replace", { id, value: document }));
  return SUCCESS;
}

/** Set and unset fields of some documents, or of all in a table. @type {Native} */
export function patchDocuments(call, { table, fields, ids }) {
  const documents =
    ids === undefined ? readWhole(call, table) : ids.map((/** @type {string} */ id) => get(call, id));
  tellingClient(() => {
    const entries = Object.entries(fields ?? {});
    const value = Object.fromEntries(
      entries.map(([field, given]) => [field, given === UNSET ? { $undefined: null } : given]),
    );
    for (const text of documents) {
      const document = JSON.parse(text);
      if (document === null) throw new CallError("Cannot read properties of null (reading '_id')"); // Convex's own, as it has no other
      syscall(call, "1.0/shallowMerge", { id: document._id, value });
    }
  });
  return SUCCESS;
}

/** @type {Native} */
export function clearPage(call, { tableName: table, cursor }) {
  refuseSystemTable(table);
  const answer = readTablePage(call, { table, order: "asc", cursor, ...CLEARED_PAGE });
  const { page, continueCursor, isDone } = JSON.parse(answer);
  for (const { _id: id } of page) syscall(call, "1.0/remove", { id });
  return JSON.stringify({ continueCursor, deleted: page.length, hasMore: !isDone });
}

/** @type {Native} */
export function scanTable(call, { table, limit }) {
  if (table === "") return "[]";
  refuseSystemTable(table);
  checkLimit(limit);
  return `[${readTable(call, table, "desc", [{ limit }]).join(",")}]`;
}

/**
 * @param {Call} call
 * @param {string} tableName
 * @param {"asc" | "desc"} order
 * @param {object[]} operators
 * @returns {string[]} JSON texts of documents: parsed and printed again, fields named by numbers would change places
 */
function readTable(call, tableName, order, operators) {
  const source = { type: "FullTableScan", tableName, order };
  const opened = syscall(call, "1.0/queryStream", { query: { source, operators }, version: null });
  const { queryId } = JSON.parse(opened);
  const documents = [];
  for (;;) {
    const answer = syscall(call, "1.0/queryStreamNext", { queryId });
    if (!answer.endsWith(DONE_AFTER)) return documents;
    documents.push(answer.slice(VALUE_BEFORE.length, -DONE_AFTER.length));
  }
}

/** @param {unknown} limit */
function checkLimit(limit) {
  if (Number.isSafeInteger(limit) && Number(limit) >= 0) return;
  const problem = `invalid ${Number.isSafeInteger(limit) ? "value" : "type"}: ${jsonType(limit)}, expected usize`;
  throw new CallError(`Invalid argument \`query\` for \`queryStream\`: ${problem}`);
}

/** @param {string} table */
function refuseSystemTable(table) {
  if (!table.startsWith("_")) return;
  throw new CallError("System tables can only be accessed from db.system.query().");
}

/** @type {Native} */
export function tableSize(call, { tableName }) {
  if (tableName === "") return "0";
  refuseSystemTable(tableName);
  return countTable(call, tableName);
}

/** @type {Native} */
export function getById(call, { id }) {
  try {
    return get(call, id);
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
  }
  try {
    return get(call, id, true);
  } catch (error) {
    if (error instanceof CallError) return "null"; // it is no id at all
    throw error;
  }
}

/** @type {Native} */
export function listById(call, { ids }) {
  const texts = ids.map((/** @type {{ id: string, tableName: string }} */ { id, tableName }) => {
    const table = READ_AS.get(tableName) ?? tableName;
    const normalized = normalize(call, table, id);
    return normalized === null ? "null" : get(call, normalized, table.startsWith("_"));
  });
  return `[${texts.join(",")}]`;
}

/** @type {Native} */
export function pageOfTable(call, { table, filters, paginationOpts: { cursor, endCursor, numItems } }) {
  refuseSystemTable(table);
  const { id, ...query } = readFilters(filters);
  if (id !== undefined) return pageOfOne(call, table, id);
  return readTablePage(call, { table, ...query, cursor, endCursor, numItems, ...PAGE_LIMITS });
}

/**
 * @param {Call} call
 * @param {string} table
 * @param {unknown} id
 */
function pageOfOne(call, table, id) {
  const isOfTable = typeof id === "string" && normalize(call, table, id) !== null;
  const text = isOfTable ? get(call, id) : "null";
  return `{"continueCursor":"","isDone":true,"page":[${text === "null" ? "" : text}]}`;
}

/**
 * @param {Call} call
 * @param {string} table
 * @param {string} idString
 * @returns {string | null}
 */
function normalize(call, table, idString) {
  return JSON.parse(syscall(call, "1.0/db/normalizeId", { table, idString })).id;
}

/**
 * @param {Call} call
 * @param {string} table
 * @returns {string[]} JSON texts
 */
function readWhole(call, table) {
  refuseSystemTable(table);
  return readTable(call, table, "asc", []);
}

/**
 * @param {Call} call
 * @param {string} id
 * @param {boolean} [isSystem]
 * @returns {string} JSON text of the document, or of null
 */
function get(call, id, isSystem = false) {
  return syscall(call, "1.0/get", { id, isSystem });
}

/** @param {string} error */
function refusal(error) {
  return JSON.stringify({ error, success: false });
}
