/** Syscalls that write documents. */

import { CallError } from "../errors.mjs";
import { isUndefined } from "../filters.mjs";
import { checkDocument } from "../schema.mjs";
import { checkValue, containsCommitTs, resolveCommitTs } from "../values.mjs";
import { findDocument, visibleText } from "./documents.mjs";

/**
 * @typedef {import("./index.mjs").Syscall} Syscall
 * @typedef {import("../call.mjs").Call} Call
 * @typedef {import("../store.mjs").Document} Document
 * @typedef {import("../store.mjs").Row} Row
 * @typedef {import("../store.mjs").Table} Table
 */

const TABLE_NAME = /^[A-Za-z][A-Za-z0-9_]{0,63}$/;
const WRITTEN = "null"; // npm convex throws the answer away, so no document is printed for it
const SYSTEM_FIELDS = /** @type {const} */ (["_id", "_creationTime"]);

/** @type {Record<string, Syscall>} */
export const WRITE_SYSCALLS = {
  "1.0/insert": (call, { table: name, value }) => {
    refuseSystemTable(name);
    if (!TABLE_NAME.test(name)) {
      throw new CallError(
        `Invalid table name ${JSON.stringify(name)}: it must start with a letter, and hold at most 64 letters, digits and underscores`,
      );
    }
    for (const field of SYSTEM_FIELDS) {
      if (field in value) throw new CallError(`A new document cannot bring the system field \`${field}\``);
    }
    const { store } = call.app;
    const table = store.ensureTable(name);
    const document = store.newDocument(table, value);
    const { stored, visible } = admit(call, table, document);
    store.insert(table, stored, visible);
    return `{"_id":"${document._id}"}`;
  },

  "1.0/shallowMerge": (call, { id, value, table: tableName }) => {
    const { table, row } = existing(call, "patch", "Update", id, tableName);
    const document = JSON.parse(visibleText(call, row));
    refuseSystemFields(document, value);
    for (const [field, member] of Object.entries(value)) {
      if (isUndefined(member)) delete document[field];
      else document[field] = member;
    }
    return write(call, table, row, document);
  },

  "1.0/replace": (call, { id, value, table: tableName }) => {
    const { table, row } = existing(call, "replace", "Replace", id, tableName);
    const system = { _creationTime: row.ct, _id: row.id };
    refuseSystemFields(system, value);
    return write(call, table, row, { ...value, ...system });
  },

  "1.0/remove": (call, { id, table: tableName }) => {
    const { table, row } = existing(call, "delete", "Delete", id, tableName);
    call.frame.usage.writeDocument(row.json.length);
    call.app.store.replace(table, row, null);
    return WRITTEN;
  },
};

/**
 * @param {Call} call
 * @param {string} method
 * @param {string} verb
 * @param {unknown} id
 * @param {string | undefined} tableName
 * @returns {{ table: Table, row: Row }}
 */
function existing(call, method, verb, id, tableName) {
  call.frame.usage.query();
  const found = findDocument(call, method, id, tableName);
  if (found?.row === undefined) throw new CallError(`${verb} on nonexistent document ID ${String(id)}`);
  refuseSystemTable(found.table.name);
  call.frame.usage.readDocument(found.row.json.length);
  return { table: found.table, row: found.row };
}

/**
 * @param {Call} call
 * @param {Table} table
 * @param {Row} row
 * @param {Document} document
 */
function write(call, table, row, document) {
  const { stored, visible } = admit(call, table, document);
  call.app.store.replace(table, row, stored, visible);
  return WRITTEN;
}

/**
 * Check a document that is about to be stored, and fill in the commit timestamp.
 *
 * @param {Call} call
 * @param {Table} table
 * @param {Document} document
 * @returns {{ stored: Document, visible: string | undefined }} visible: as this mutation will read it, if that differs
 */
function admit(call, table, document) {
  const { store, schema } = call.app;
  const bytes = checkValue(document, { document: true, commitTs: true });
  const error = checkDocument(schema, table.name, document, store);
  if (error !== null) throw new CallError(error);
  call.frame.usage.writeDocument(bytes);
  if (!containsCommitTs(document)) return { stored: document, visible: undefined };
  return {
    stored: /** @type {Document} */ (resolveCommitTs(document, call.ts)),
    visible: JSON.stringify(document),
  };
}

/** @param {string} table */
function refuseSystemTable(table) {
  if (table.startsWith("_")) throw new CallError("System tables (prefixed with `_`) are read-only.");
}

/**
 * @param {{ [field: string]: unknown }} document
 * @param {{ [field: string]: unknown }} value
 */
function refuseSystemFields(document, value) {
  for (const field of SYSTEM_FIELDS) {
    if (field in value && value[field] !== document[field]) {
      throw new CallError(
        `The system field \`${field}\` of document ${String(document._id)} cannot be changed`,
      );
    }
  }
}
