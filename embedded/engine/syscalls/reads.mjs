/** Syscalls that read documents. */

import { CallError } from "../errors.mjs";
import { compileSource } from "../index-range.mjs";
import { isHidden } from "../layout.mjs";
import { readPage } from "../pages.mjs";
import { Query } from "../query.mjs";
import { argument, jsonType, tableName } from "./arguments.mjs";
import { findDocument, visibleText } from "./documents.mjs";

/** @typedef {import("./index.mjs").Syscall} Syscall */

const DONE = '{"value":null,"done":true}';
const MAX_OPERATORS = 256; // as many as npm convex lets a query have
let lastQueryId = 0;

/** @type {Record<string, Syscall>} */
export const READ_SYSCALLS = {
  "1.0/get": (call, { id, isSystem = false, table }) => {
    call.frame.usage.query();
    const found = findDocument(call, isSystem ? "system.get" : "get", id, table, isSystem);
    if (found?.row === undefined) return "null";
    const text = visibleText(call, found.row);
    call.frame.usage.readDocument(text.length);
    return text;
  },

  "1.0/queryStream": (call, { query }) => {
    checkOperators(query, "queryStream");
    call.frame.usage.query();
    const range = compileSource(call.app.store, call.ts, query.source);
    if (range === null) noteMissingTable(call, query.source, "queryStream");
    const queryId = ++lastQueryId;
    const running = argument("query", "queryStream", () => new Query(call.reader(), range, query.operators));
    call.frame.queries.set(queryId, running);
    return `{"queryId":${queryId}}`;
  },

  "1.0/queryStreamNext": (call, { queryId }) => {
    const query = call.frame.queries.get(queryId);
    if (query === undefined) throw new CallError("in-progress query not found");
    const json = query.next();
    if (json !== null) return `{"value":${json},"done":false}`;
    call.frame.queries.delete(queryId);
    return DONE;
  },

  "1.0/queryCleanup": (call, { queryId }) => {
    const query = call.frame.queries.get(queryId);
    query?.close();
    return String(call.frame.queries.delete(queryId));
  },

  "1.0/queryPage": (call, args) => {
    const { frame } = call;
    const { limits } = frame.usage;
    checkPage(args, limits.documentsRead);
    const { query, cursor = null, endCursor = null, pageSize, maximumRowsRead, maximumBytesRead } = args;
    checkOperators(query, "queryPage");
    if (frame.paginated) {
      throw new CallError(
        "This query or mutation function ran multiple paginated queries. Convex only supports a single paginated query in each function.",
      );
    }
    frame.paginated = true;
    frame.usage.query();
    if (compileSource(call.app.store, call.ts, query.source) === null)
      noteMissingTable(call, query.source, "queryPage");
    const journal = frame.journaled ? call.journal : null;
    const request = {
      query,
      cursor,
      endCursor,
      journal,
      pageSize,
      maximumRowsRead,
      maximumBytesRead,
      limits,
    };
    const { json, endCursor: end } = argument("query", "queryPage", () => readPage(call.reader(), request));
    if (frame.journaled) call.journal = end;
    return json;
  },

  "1.0/db/normalizeId": (call, { table, idString }) => {
    if (typeof idString !== "string") {
      throw new CallError(
        `Invalid arguments for \`db.normalizeId\`: invalid type: ${jsonType(idString)}, expected a string`,
      );
    }
    argument("table", "db.normalizeId", () => tableName(table));
    const id = !isHidden(table) && call.app.store.locate(idString)?.table.name === table ? idString : null;
    return JSON.stringify({ id });
  },

  "1.0/count": (call, { table: name }) => {
    call.frame.usage.query();
    const table = isHidden(name) ? undefined : call.app.store.table(name);
    if (table === undefined) {
      call.frame.reads?.addMissingTable(name);
      return "0";
    }
    const whole = { table, index: table.byCreationTime, low: Buffer.alloc(0), high: null, descending: false };
    call.frame.reads?.addRange(whole);
    return String(call.app.store.count(table));
  },
};

/**
 * @param {import("../query.mjs").QueryJson} query
 * @param {string} syscall  for the message
 */
function checkOperators({ operators }, syscall) {
  if (operators.length <= MAX_OPERATORS) return;
  throw new CallError(
    `Invalid argument \`query\` for \`${syscall}\`: Query has too many operators: ${operators.length}`,
  );
}

/**
 * @param {any} args  of `queryPage`
 * @param {number} most  documents that a call may read
 * @throws {CallError}
 */
function checkPage({ cursor, endCursor, pageSize, maximumRowsRead, maximumBytesRead }, most) {
  for (const one of [cursor ?? "", endCursor ?? ""]) {
    if (typeof one !== "string") throw wrongType(one, "a string");
  }
  for (const size of [pageSize, maximumRowsRead ?? 0, maximumBytesRead ?? 0]) {
    if (!Number.isSafeInteger(size) || size < 0) throw wrongType(size, "usize");
  }
  if (pageSize === 0) throw new CallError("Must request at least 1 document while paginating");
  if (pageSize > most) throw new CallError(`Requested too many items: ${pageSize}`);
  if (maximumRowsRead === 0 || maximumBytesRead === 0) {
    throw new CallError("maximumRowsRead and maximumBytesRead must be greater than 0");
  }
}

/**
 * @param {unknown} value
 * @param {string} expected
 */
function wrongType(value, expected) {
  const what = Number.isSafeInteger(value) && expected === "usize" ? "value" : "type";
  return new CallError(
    `Invalid arguments for \`queryPage\`: invalid ${what}: ${jsonType(value)}, expected ${expected}`,
  );
}

/**
 * @param {import("../call.mjs").Call} call
 * @param {{ tableName?: string, indexName?: string }} source  of a table that does not exist
 * @param {string} syscall  for the message
 * @throws {CallError} there can be no such table
 */
function noteMissingTable(call, { tableName: table, indexName = "" }, syscall) {
  const name = table ?? indexName.split(".", 1)[0] ?? "";
  argument("query", syscall, () => tableName(name));
  call.frame.reads?.addMissingTable(name);
}
