/**
 * Document ids: base32 (Crockford, lower case) of the table's number as a VInt, 16 bytes of its own, and a Fletcher-16 checksum.
 *
 * A text is an id only in its one canonical spelling, so ids can be compared as text.
 */

const INTERNAL_BYTES = 16;
const CHECKSUM_BYTES = 2;

const ALPHABET = Buffer.from("0123456789abcdefghjkmnpqrstvwxyz", "latin1");
const DIGIT_OF = new Int8Array(128).fill(-1);
ALPHABET.forEach((code, digit) => (DIGIT_OF[code] = digit));

/** Bytes of an id by the length of its text; no other length is an id. */
const BYTES_OF_LENGTH = new Map([
  [31, 19],
  [32, 20],
  [34, 21],
  [36, 22],
  [37, 23],
]);

const SHORTEST = 31;
const LONGEST = 37;

const binary = new Uint8Array(23);
const text = Buffer.alloc(37);

/**
 * @param {number} tableNumber  1 to 2^32 - 1
 * @param {Uint8Array} internal  16 bytes
 * @returns {string} 31 to 37 characters
 */
export function encodeId(tableNumber, internal) {
  let length = writeVInt(tableNumber);
  for (let i = 0; i < INTERNAL_BYTES; i++) binary[length++] = /** @type {number} */ (internal[i]);
  const checksum = fletcher16(length);
  binary[length++] = checksum & 0xff;
  binary[length++] = checksum >> 8;
  return base32(length);
}

/**
 * @param {string} id
 * @returns {{ tableNumber: number, internal: Uint8Array } | null} null when `id` is not an id
 */
export function decodeId(id) {
  const tableNumber = tableNumberOf(id);
  if (tableNumber === null) return null;
  const start = vIntLength(tableNumber);
  return { tableNumber, internal: binary.slice(start, start + INTERNAL_BYTES) };
}

/**
 * As `decodeId`, without making anything.
 *
 * @param {string} id
 * @returns {number | null}
 */
export function tableNumberOf(id) {
  const length = BYTES_OF_LENGTH.get(id.length);
  if (length === undefined || !readBase32(id)) return null;
  const body = length - CHECKSUM_BYTES;
  const tableNumber = readVInt(body - INTERNAL_BYTES);
  if (tableNumber === null) return null;
  const checksum = fletcher16(body);
  return binary[body] === (checksum & 0xff) && binary[body + 1] === checksum >> 8 ? tableNumber : null;
}

/**
 * @param {string} id
 * @returns {string | null} why it is no id, in Convex's words; null when it is one
 */
export function idProblem(id) {
  if (id.length < SHORTEST || id.length > LONGEST) return `Invalid ID length ${Buffer.byteLength(id)}`;
  if (!/^[0-9a-hjkmnp-tv-z]*$/.test(id)) return "ID wasn't valid base32";
  const length = BYTES_OF_LENGTH.get(id.length);
  if (length === undefined || !readBase32(id)) return `Invalid ID length ${id.length}`;
  const body = length - CHECKSUM_BYTES;
  if (readVInt(body - INTERNAL_BYTES) === null) return "Invalid table number";
  const expected = fletcher16(body);
  const found = Buffer.from(binary.buffer).readUInt16LE(body);
  return found === expected ? null : `Invalid ID version ${found} (expected ${expected})`;
}

/**
 * @param {number} n
 * @returns {number} bytes written to the start of `binary`
 */
function writeVInt(n) {
  let length = 0;
  while (n >= 0x80) {
    binary[length++] = (n & 0x7f) | 0x80;
    n >>>= 7;
  }
  binary[length++] = n;
  return length;
}

/**
 * @param {number} length  that the number must have
 * @returns {number | null} null unless its canonical form fills `length` bytes of `binary` and fits 32 bits
 */
function readVInt(length) {
  let n = 0;
  for (let i = 0; i < length; i++) {
    const byte = /** @type {number} */ (binary[i]);
    if (byte >= 0x80 !== i < length - 1) return null;
    n += (byte & 0x7f) * 2 ** (7 * i);
  }
  return n > 0 && n <= 0xffff_ffff && binary[length - 1] !== 0 ? n : null;
}

/** @param {number} n */
function vIntLength(n) {
  let length = 1;
  while (n >= 0x80) {
    n >>>= 7;
    length++;
  }
  return length;
}

/** @param {number} length  bytes of `binary` to sum */
function fletcher16(length) {
  let low = 0;
  let high = 0;
  for (let i = 0; i < length; i++) {
    low = (low + /** @type {number} */ (binary[i])) & 0xff;
    high = (high + low) & 0xff;
  }
  return (high << 8) | low;
}

/** @param {number} length  bytes of `binary` to spell */
function base32(length) {
  let characters = 0;
  let bits = 0;
  let pending = 0;
  for (let i = 0; i < length; i++) {
    pending = ((pending << 8) | /** @type {number} */ (binary[i])) & 0xfff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text[characters++] = /** @type {number} */ (ALPHABET[(pending >> bits) & 31]);
    }
  }
  if (bits > 0) text[characters++] = /** @type {number} */ (ALPHABET[(pending << (5 - bits)) & 31]);
  return text.toString("latin1", 0, characters);
}

/**
 * @param {string} id
 * @returns {boolean} whether it is base32 with no bits left over; its bytes are in `binary`
 */
function readBase32(id) {
  let length = 0;
  let bits = 0;
  let pending = 0;
  for (let i = 0; i < id.length; i++) {
    const code = id.charCodeAt(i);
    const digit = code < 128 ? /** @type {number} */ (DIGIT_OF[code]) : -1;
    if (digit < 0) return false;
    pending = ((pending << 5) | digit) & 0xfff;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      binary[length++] = pending >> bits;
    }
  }
  return (pending & ((1 << bits) - 1)) === 0;
}
