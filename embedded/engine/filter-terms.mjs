/** The values of an index's filter fields, as terms among its postings. */

import { createHash } from "node:crypto";
import { fieldAt } from "./index-keys.mjs";
import { encodeKey } from "./values.mjs";

/**
 * @typedef {import("./values.mjs").Encoded} Encoded
 * @typedef {import("./values.mjs").EncodedObject} EncodedObject
 */

const FILTER_TERM = 0x01; // first byte; words begin with 0x00
const LONGEST_KEY = 32; // bytes; longer ones are hashed, since postings are only compared for equality

/**
 * @param {number} field  its place among the filter fields
 * @param {Encoded | undefined} value
 * @returns {Buffer}
 */
export function filterTerm(field, value) {
  const key = encodeKey(value);
  const short = key.length < LONGEST_KEY ? key : createHash("sha256").update(key).digest();
  return Buffer.concat([Buffer.of(FILTER_TERM, field), short]);
}

/**
 * @param {readonly string[][]} paths  of the filter fields
 * @param {EncodedObject} document
 * @returns {Buffer[]} one for each field, missing ones too
 */
export function filterTerms(paths, document) {
  return paths.map((path, field) => filterTerm(field, fieldAt(document, path)));
}
