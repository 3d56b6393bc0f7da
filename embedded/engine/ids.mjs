/** Document ids: a table number and 16 bytes, as text. */

/** @param {number} tableNumber @param {Uint8Array} internal 16 bytes @returns {string} */
export function encodeId(tableNumber, internal) { return ""; }
/** @param {string} id @returns {{ tableNumber: number, internal: Uint8Array } | null} null when it is not an id */
export function decodeId(id) { return null; }
/** @param {string} id @returns {number | null} the table number of a well-formed id, cheaper than decodeId */
export function tableNumberOf(id) { return null; }
/** @param {Uint8Array} random 16 bytes, of which 14 are used @param {number} nowMs @returns {Uint8Array} */
export function newInternalId(random, nowMs) { return random; }
