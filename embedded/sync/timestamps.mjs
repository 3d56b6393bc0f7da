/** Timestamps on the wire: base64 of an unsigned 64-bit little-endian number of nanoseconds. */

/** @param {string} ts  decimal nanoseconds */
export function encodeTs(ts) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(ts));
  return bytes.toString("base64");
}

/**
 * @param {unknown} text
 * @returns {bigint | null} nanoseconds; null if it is no timestamp
 */
export function decodeTs(text) {
  if (typeof text !== "string") return null;
  const bytes = Buffer.from(text, "base64");
  return bytes.length === 8 ? bytes.readBigUInt64LE() : null;
}
