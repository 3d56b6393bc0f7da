/** Byte keys that sort as Convex sorts values. */

/** @typedef {import("./values.mjs").Encoded} Encoded */

/** @param {Encoded | undefined} value @returns {Buffer} */
export function encodeKey(value) { return Buffer.alloc(0); }
/** @param {readonly (Encoded | undefined)[]} values @returns {Buffer} */
export function encodeIndexKey(values) { return Buffer.alloc(0); }
/** @param {Buffer} prefix @returns {Buffer | null} smallest key greater than every key with this prefix; null: there is none */
export function keySuccessor(prefix) { return null; }
/** @param {Encoded | undefined} a @param {Encoded | undefined} b @returns {number} negative, 0 or positive */
export function compareValues(a, b) { return 0; }
