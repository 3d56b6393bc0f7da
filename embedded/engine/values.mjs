/** Convex values in their JSON encoding: what may be one, how big it is, and how it is written. */

export { compareValues, encodeIndexKey, encodeKey, keySuccessor } from "./keys.mjs";

/**
 * A Convex value as parsed JSON: `{"$integer": b64}`, `{"$float": b64}`, `{"$bytes": b64}`, everything else plain.
 * @typedef {null | boolean | number | string | EncodedArray | EncodedObject} Encoded
 * @typedef {Encoded[]} EncodedArray
 * @typedef {{ [field: string]: Encoded }} EncodedObject
 */

/** A value that Convex refuses; the message is Convex's text. */
export class ValueError extends Error {}

/**
 * @param {unknown} value
 * @param {{ path?: string, document?: boolean }} [options]  document: nesting 16, no top-level field that starts with `_` but
 *   `_id` and `_creationTime`, at most 1 MiB; else nesting 64
 * @returns {asserts value is Encoded}
 * @throws {ValueError}
 */
export function checkValue(value, options) {}
/** @param {Encoded | undefined} value @returns {number} bytes */
export function valueSize(value) { return 0; }
/** @param {Encoded} value @returns {string} JSON with sorted object keys */
export function canonicalJson(value) { return ""; }
/** @param {Encoded} value @returns {unknown} HTTP format "json" */
export function toCleanJson(value) { return null; }
/** @param {unknown} value @returns {Encoded} @throws {ValueError} */
export function fromCleanJson(value) { return null; }
/** @param {Encoded} value @returns {string} as Convex prints it in errors */
export function formatValue(value) { return ""; }
/** @param {Encoded} value @returns {boolean} */
export function containsCommitTs(value) { return false; }
/** @param {Encoded} value @param {bigint} ts nanoseconds @returns {Encoded} a copy with the placeholders filled in */
export function resolveCommitTs(value, ts) { return value; }
/** @param {bigint} value @returns {{ $integer: string }} */
export function encodeInt64(value) { return { $integer: "" }; }
/** @param {{ $integer: string }} encoded @returns {bigint} */
export function decodeInt64(encoded) { return 0n; }
/** @param {number} value @returns {number | { $float: string }} */
export function encodeFloat64(value) { return value; }
/** @param {number | { $float: string }} encoded @returns {number} */
export function decodeFloat64(encoded) { return 0; }
