/** Syscalls that read documents. */

import { CallError } from "../errors.mjs";
import { compileSource } from "../index-range.mjs";
import { readPage } from "../pages.mjs";
import { Query } from "../query.mjs";
import { findDocument, visibleText } from "./documents.mjs";

/** @typedef {import("./index.mjs").Syscall} Syscall */

const DONE = '{"value":null,"done":true}';
let lastQueryId = 0;

/** @type {Record<string, Syscall>} */
export const READ_SYSCALLS = {
  "1.0/get": (call, { id, isSystem, table }) => {
    call.frame.usage.query();
    const found = findDocument(call, isSystem ? "system.get" : "get", id, table);
    if (found === null) return "null";
    const isSystemTable = found.table.name.startsWith("_");
    if (isSystemTable !== isSystem) {
      const [kind, path] = isSystemTable ? ["System", "system."] : ["User", ""];
      throw new CallError(`${kind} tables can only be accessed from db.${path}get().`);
    }
    refuseHidden(found.table.name);
    if (found.row === undefined) return "null";
    const text = visibleText(call, found.row);
    call.frame.usage.readDocument(text.length);
    return text;
  },

  "1.0/queryStream": (call, { query }) => {
    call.frame.usage.query();
    const queryId = ++lastQueryId;
    const reader = call.reader();
    const range = compileSource(call.app.store, call.ts, query.source);
    noteTable(call, range, query.source);
    call.frame.queries.set(queryId, new Query(reader, range, query.operators));
    return `{"queryId":${queryId}}`;
  },

  "1.0/queryStreamNext": (call, { queryId }) => {
    const query = call.frame.queries.get(queryId);
    if (query === undefined) throw new CallError("This query is closed and can't emit any more values.");
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
    const { query, cursor, endCursor, pageSize, maximumRowsRead, maximumBytesRead } = args;
    for (const [name, value] of Object.entries({ numItems: pageSize, maximumRowsRead, maximumBytesRead })) {
      if (value === 0) throw new CallError(`\`options.${name}\` must be greater than 0`);
    }
    if (frame.paginated) {
      throw new CallError(
        "This query or mutation function ran multiple paginated queries. Convex only supports a single paginated query in each function.",
      );
    }
    frame.paginated = true;
    frame.usage.query();
    const reader = call.reader();
    noteTable(call, compileSource(call.app.store, call.ts, query.source), query.source);
    const journal = frame.journaled ? call.journal : null;
    const request = { query, cursor, endCursor, journal, pageSize, maximumRowsRead, maximumBytesRead };
    const { json, endCursor: end } = readPage(reader, request);
    if (frame.journaled) call.journal = end;
    return json;
  },

  "1.0/db/normalizeId": (call, { table, idString }) => {
    const id = call.app.store.locate(idString)?.table.name === table ? idString : null;
    return JSON.stringify({ id });
  },

  "1.0/count": (call, { table: name }) => {
    call.frame.usage.query();
    const table = call.app.store.table(name);
    if (table === undefined) return "0";
    call
      .reader()
      .onRange({ table, index: table.byCreationTime, low: Buffer.alloc(0), high: null, descending: false });
    return String(call.app.store.count(table));
  },
};

/**
 * @param {import("../call.mjs").Call} call
 * @param {import("../index-range.mjs").Range | null} range
 * @param {{ tableName?: string, indexName?: string }} source
 */
function noteTable(call, range, { tableName, indexName = "" }) {
  const name = tableName ?? indexName.split(".", 1)[0] ?? "";
  refuseHidden(name);
  if (range === null) call.frame.reads?.addMissingTable(name);
}

/** @param {string} table */
function refuseHidden(table) {
  if (table === "_cron_jobs") throw new CallError(`Table ${table} cannot be read by functions`);
}
