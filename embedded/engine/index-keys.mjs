/** The keys under which documents lie in indexes. */

import { encodeIndexKey } from "./values.mjs";

/**
 * @typedef {import("./values.mjs").Encoded} Encoded
 * @typedef {import("./values.mjs").EncodedObject} EncodedObject
 * @typedef {import("./store.mjs").Document} Document
 * @typedef {import("./store.mjs").Index} Index
 * @typedef {import("./store.mjs").Row} Row
 */

/**
 * @param {number} id
 * @param {string} name
 * @param {string[]} fields  as declared
 * @param {boolean} staged
 * @returns {Index}
 */
export function makeIndex(id, name, fields, staged) {
  return {
    id,
    name,
    fields: [...fields, "_creationTime"],
    paths: fields.map((field) => field.split(".")),
    staged,
  };
}

/**
 * @param {string[]} declared
 * @param {Index} index
 */
export function sameFields(declared, index) {
  return JSON.stringify(declared) === JSON.stringify(index.fields.slice(0, -1));
}

/**
 * @param {EncodedObject} document
 * @param {readonly string[]} path
 * @returns {Encoded | undefined}
 */
export function fieldAt(document, path) {
  /** @type {any} */
  let value = document;
  for (const part of path) {
    if (value === null || typeof value !== "object" || Array.isArray(value) || !Object.hasOwn(value, part))
      return undefined;
    value = value[part];
  }
  return value;
}

/**
 * @param {Index} index  one with rows
 * @param {Document} document
 * @returns {Buffer}
 */
export function indexKey(index, document) {
  const values = index.paths.map((path) => fieldAt(document, path));
  values.push(document._creationTime);
  return encodeIndexKey(values);
}

/**
 * The key of a row that a scan gave.
 *
 * @param {Index} index
 * @param {Row} row
 * @returns {Buffer}
 */
export function rowKey(index, row) {
  if (row.k !== undefined) return Buffer.from(row.k.buffer, row.k.byteOffset, row.k.byteLength);
  return encodeIndexKey([index.fields[0] === "_id" ? row.id : row.ct]);
}

/**
 * @param {Index} index
 * @param {Document} a
 * @param {Document} b
 */
export function sameKey(index, a, b) {
  for (const path of index.paths) {
    const left = fieldAt(a, path);
    const right = fieldAt(b, path);
    if (left === right) continue;
    if (typeof left !== "object" || typeof right !== "object") return false;
    if (JSON.stringify(left) !== JSON.stringify(right)) return false;
  }
  return true;
}
