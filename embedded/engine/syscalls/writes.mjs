/** Syscalls that write documents. */

import { CallError } from "../errors.mjs";
import { inFieldOrder } from "../field-order.mjs";
import { isUndefined } from "../filters.mjs";
import { formatFloat64, formatValue } from "../format.mjs";
import { checkDocument } from "../schema.mjs";
import {
  checkedDepth,
  checkStored,
  checkValue,
  isSpecial,
  resolveCommitTs,
  resolveCommitTsInText,
  textContainsCommitTs,
  ValueError,
} from "../values.mjs";
import { argument, tableName } from "./arguments.mjs";
import { checkKind, findDocument, visibleText } from "./documents.mjs";

/**
 * @typedef {import("./index.mjs").Syscall} Syscall
 * @typedef {import("../call.mjs").Call} Call
 * @typedef {import("../store.mjs").Document} Document
 * @typedef {import("../store.mjs").Row} Row
 * @typedef {import("../store.mjs").Table} Table
 */

const WRITTEN = "null"; // npm convex throws the answer away, so no document is printed for it

/** @type {Record<string, Syscall>} */
export const WRITE_SYSCALLS = {
  "1.0/insert": (call, { table: name, value }) => {
    checkFields("db.insert", value);
    argument("table", "db.insert", () => tableName(name));
    checkKind({ name }, false);
    const { store } = call.app;
    const table = store.ensureTable(name);
    const document = store.newDocument(table, value);
    matchSystemFields(document, value);
    store.insert(table, admit(call, table, document, JSON.stringify(document)));
    return `{"_id":"${document._id}"}`;
  },

  "1.0/shallowMerge": (call, { id, value, table: tableName }) => {
    const { table, row } = existing(call, "patch", "Update", id, tableName, () => checkPatch(value));
    const text = visibleText(call, row);
    const before = JSON.parse(text);
    const document = { ...before, ...value };
    for (const field in value) if (isUndefined(value[field])) delete document[field];
    const { _id, _creationTime } = before;
    matchSystemFields({ _id, _creationTime }, document);
    document._id = _id;
    document._creationTime = _creationTime;
    return write(call, table, row, document, text, text === row.json ? before : undefined);
  },

  "1.0/replace": (call, { id, value, table: tableName }) => {
    const { table, row } = existing(call, "replace", "Replace", id, tableName, () =>
      checkFields("db.replace", value),
    );
    const system = { _creationTime: row.ct, _id: row.id };
    matchSystemFields(system, value);
    return write(call, table, row, { ...value, ...system }, visibleText(call, row));
  },

  "1.0/remove": (call, { id, table: tableName }) => {
    const { table, row } = existing(call, "delete", "Delete", id, tableName, () => {});
    call.frame.usage.writeDocument(0, String(id));
    call.app.store.replace(table, row, null);
    return WRITTEN;
  },
};

/**
 * @param {Call} call
 * @param {string} name  of the method of `db`
 * @param {string} verb
 * @param {unknown} id
 * @param {string | undefined} tableName
 * @param {() => void} checkRest  of the arguments
 * @returns {{ table: Table, row: Row }}
 */
function existing(call, name, verb, id, tableName, checkRest) {
  const found = findDocument(call, name, id, tableName);
  if (found === null) {
    throw new CallError(`Invalid argument \`id\` for \`db.${name}\`: Table for ID "${String(id)}" not found`);
  }
  checkRest();
  const { table, row } = found;
  checkKind(table, false);
  call.frame.usage.query();
  if (row === undefined) throw new CallError(`${verb} on nonexistent document ID ${String(id)}`);
  call.frame.usage.readDocument(row.json.length);
  return { table, row };
}

/**
 * @param {Call} call
 * @param {Table} table
 * @param {Row} row
 * @param {Document} value  whole
 * @param {string} seen  the document's text as this mutation saw it
 * @param {Document} [before]  what is in `row`, if it is known
 */
function write(call, table, row, value, seen, before) {
  const document = inFieldOrder(value);
  const json = JSON.stringify(document);
  if (seen === json) return WRITTEN; // also when it was asked for what is there
  call.app.store.replace(table, row, admit(call, table, document, json), before);
  return WRITTEN;
}

/**
 * Check a document that is about to be stored, and fill in the commit timestamp.
 *
 * @param {Call} call
 * @param {Table} table
 * @param {Document} document
 * @param {string} json  its text
 * @returns {import("../store.mjs").Version}
 */
function admit(call, table, document, json) {
  const { store, schema } = call.app;
  const bytes = checkStored(document);
  const depth = checkedDepth();
  const error = checkDocument(schema, table.name, document, store);
  if (error !== null) throw new CallError(error);
  call.frame.usage.writeDocument(bytes, document._id, depth);
  if (!textContainsCommitTs(json)) return { document, json };
  return {
    document: /** @type {Document} */ (resolveCommitTs(document, call.ts)),
    json: resolveCommitTsInText(json, call.ts),
    visible: json,
  };
}

/**
 * @param {string} method
 * @param {unknown} value  of a whole document
 */
function checkFields(method, value) {
  argument("value", method, () => {
    checkValue(value, { commitTs: true });
    requireObject(value);
  });
}

/** @param {unknown} value */
function checkPatch(value) {
  argument("value", "db.patch", () => {
    requireObject(value);
    const set = Object.entries(/** @type {object} */ (value)).filter(([, member]) => !isUndefined(member));
    checkValue(Object.fromEntries(set), { commitTs: true });
  });
}

/** @param {unknown} value */
function requireObject(value) {
  if (typeof value !== "object" || value === null || Array.isArray(value) || isSpecial(value)) {
    throw new ValueError("Value must be an Object");
  }
}

/**
 * @param {{ _id: string, _creationTime: number }} document
 * @param {{ [field: string]: any }} value  that may bring its system fields, if they are the right ones
 */
function matchSystemFields({ _id, _creationTime }, value) {
  if ("_id" in value && value._id !== _id) {
    throw new CallError(
      `Provided document ID ${formatValue(_id)} doesn't match '_id' field ${formatValue(value._id)}`,
    );
  }
  if ("_creationTime" in value && value._creationTime !== _creationTime) {
    throw new CallError(
      `Provided creation time ${formatFloat64(_creationTime).replace(/\.0$/, "")} doesn't match '_creationTime' field in ${formatValue({ ...value, _id })}`,
    );
  }
}
