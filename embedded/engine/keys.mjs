/**
 * Byte keys that sort as Convex sorts values: undefined < null < int64 < float64 < boolean < string < bytes < array < object.
 *
 * Every value's key ends itself (no key is the beginning of another), so keys of several fields can be written one after the
 * other, and all keys that begin with the same fields form one range, from the prefix to its `keySuccessor`.
 */

/** @typedef {import("./values.mjs").Encoded} Encoded */

// A container ends with 0, below every tag: a shorter one sorts before its continuations.
const END = 0x00;
const TAG = {
  undefined: 0x01,
  null: 0x03,
  int64: 0x04,
  float64: 0x0d,
  false: 0x0e,
  true: 0x0f,
  string: 0x10,
  bytes: 0x11,
  array: 0x12,
  object: 0x15,
};
// Inside text and bytes 0 is the end, so 0 and 1 are written as the pairs 1 1 and 1 2.
const ESCAPE = 0x01;

const SHORT_STRING = 48; // up to here a loop over the characters beats the call into native code
const KEPT_SCRATCH_BYTES = 64 * 1024; // one rare huge key must not hold its memory for ever

let scratch = Buffer.allocUnsafeSlow(4096);
let end = 0;

const float = new Float64Array(1);
const floatBytes = new Uint8Array(float.buffer); // little endian on every platform that Node runs on

/**
 * @param {Encoded | undefined} value  a value that passed `checkValue`; undefined: a missing field
 * @returns {Buffer}
 */
export function encodeKey(value) {
  end = 0;
  writeValue(value);
  return takeScratch();
}

/**
 * @param {readonly (Encoded | undefined)[]} values
 * @returns {Buffer} the keys of all values, one after the other
 */
export function encodeIndexKey(values) {
  end = 0;
  for (let i = 0; i < values.length; i++) writeValue(values[i]);
  return takeScratch();
}

/**
 * @param {Uint8Array} prefix
 * @returns {Buffer | null} the smallest key greater than every key that begins with `prefix`; null: there is none
 */
export function keySuccessor(prefix) {
  let length = prefix.length;
  while (length > 0 && prefix[length - 1] === 0xff) length--;
  if (length === 0) return null;
  const successor = Buffer.from(prefix.subarray(0, length));
  successor[length - 1] = /** @type {number} */ (successor[length - 1]) + 1;
  return successor;
}

/**
 * @param {Encoded | undefined} a
 * @param {Encoded | undefined} b
 * @returns {number} negative, 0 or positive; the order of their keys
 */
export function compareValues(a, b) {
  if (typeof a === "number" && typeof b === "number") {
    if (a < b) return -1;
    if (a > b) return 1;
    return Number(Object.is(b, -0)) - Number(Object.is(a, -0));
  }
  if (a === b) return 0;
  if (typeof a === "string" && typeof b === "string") return compareStrings(a, b);
  const keyOfA = encodeKey(a);
  return Buffer.compare(keyOfA, encodeKey(b));
}

/**
 * By code points, as their UTF-8 bytes sort: UTF-16 alone would put U+10000 and above before U+E000 to U+FFFF.
 *
 * @param {string} a
 * @param {string} b
 */
function compareStrings(a, b) {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) {
    const unitOfA = a.charCodeAt(i);
    const unitOfB = b.charCodeAt(i);
    if (unitOfA === unitOfB) continue;
    const surrogates = Number(isSurrogate(unitOfA)) - Number(isSurrogate(unitOfB));
    return surrogates === 0 ? unitOfA - unitOfB : surrogates;
  }
  return a.length - b.length;
}

/** @param {number} unit */
function isSurrogate(unit) {
  return unit >= 0xd800 && unit <= 0xdfff;
}

/** @returns {Buffer} a copy of what was written */
function takeScratch() {
  const key = Buffer.allocUnsafe(end);
  scratch.copy(key, 0, 0, end);
  if (scratch.length > KEPT_SCRATCH_BYTES) scratch = Buffer.allocUnsafeSlow(4096);
  return key;
}

/** @param {number} bytes  that will be written next at most */
function reserve(bytes) {
  if (end + bytes <= scratch.length) return;
  const larger = Buffer.allocUnsafeSlow(Math.max(scratch.length * 2, end + bytes));
  scratch.copy(larger, 0, 0, end);
  scratch = larger;
}

/** @param {Encoded | undefined} value */
function writeValue(value) {
  switch (typeof value) {
    case "string":
      writeString(value);
      break;
    case "number":
      float[0] = value;
      writeFloat();
      break;
    case "boolean":
      writeByte(value ? TAG.true : TAG.false);
      break;
    case "undefined":
      writeByte(TAG.undefined);
      break;
    default:
      if (value === null) writeByte(TAG.null);
      else if (Array.isArray(value)) writeArray(value);
      else writeObject(value);
  }
}

/** @param {number} byte */
function writeByte(byte) {
  reserve(1);
  scratch[end++] = byte;
}

/** IEEE 754's total order: of negative numbers all bits are flipped, of the others the sign. */
function writeFloat() {
  reserve(9);
  scratch[end++] = TAG.float64;
  const top = /** @type {number} */ (floatBytes[7]);
  const negative = top & 0x80;
  scratch[end++] = negative ? ~top : top | 0x80;
  for (let i = 6; i >= 0; i--) {
    const byte = /** @type {number} */ (floatBytes[i]);
    scratch[end++] = negative ? ~byte : byte;
  }
}

/** @param {string} text */
function writeString(text) {
  reserve(2 + text.length * 3);
  scratch[end++] = TAG.string;
  const start = end;
  if (text.length <= SHORT_STRING) {
    let i = 0;
    for (; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      if (unit <= ESCAPE || unit >= 0x80) break;
      scratch[end++] = unit;
    }
    if (i === text.length) {
      scratch[end++] = END;
      return;
    }
  }
  writeEscaped(start, scratch.write(text, start, "utf8"));
}

/**
 * Escapes and ends what lies raw in the scratch buffer.
 *
 * @param {number} start
 * @param {number} length
 */
function writeEscaped(start, length) {
  end = start + length;
  let extra = 0;
  for (let i = start; i < end; i++) if (/** @type {number} */ (scratch[i]) <= ESCAPE) extra++;
  if (extra > 0) {
    reserve(extra + 1);
    let to = end + extra;
    for (let from = end - 1; to > from + 1; from--) {
      const byte = /** @type {number} */ (scratch[from]);
      if (byte <= ESCAPE) {
        scratch[--to] = byte + 1;
        scratch[--to] = ESCAPE;
      } else {
        scratch[--to] = byte;
      }
    }
    end += extra;
  }
  writeByte(END);
}

/** @param {Encoded[]} values */
function writeArray(values) {
  writeByte(TAG.array);
  for (let i = 0; i < values.length; i++) writeValue(values[i]);
  writeByte(END);
}

/** @param {{ [field: string]: Encoded }} object */
function writeObject(object) {
  const fields = Object.keys(object);
  const first = fields[0];
  if (first !== undefined && first.charCodeAt(0) === 0x24) {
    writeSpecial(first, object[first]);
    return;
  }
  if (fields.length > 1) fields.sort();
  writeByte(TAG.object);
  for (const field of fields) {
    writeString(field);
    writeValue(object[field]);
  }
  writeByte(END);
}

/**
 * @param {string} kind  "$integer", "$float", "$bytes" or "$commitTs"
 * @param {Encoded | undefined} payload
 */
function writeSpecial(kind, payload) {
  if (kind === "$bytes" && typeof payload === "string") {
    reserve(2 + payload.length);
    scratch[end++] = TAG.bytes;
    writeEscaped(end, scratch.write(payload, end, "base64"));
  } else if (kind === "$integer" && typeof payload === "string") {
    reserve(9);
    readEightBytes(payload);
    scratch[end++] = TAG.int64;
    scratch[end++] = /** @type {number} */ (floatBytes[7]) ^ 0x80;
    for (let i = 6; i >= 0; i--) scratch[end++] = /** @type {number} */ (floatBytes[i]);
  } else if (kind === "$float" && typeof payload === "string") {
    readEightBytes(payload);
    writeFloat();
  } else if (kind === "$commitTs") {
    // Unknown until the commit: it sorts as the largest int64, after every timestamp there is.
    reserve(9);
    scratch[end++] = TAG.int64;
    scratch.fill(0xff, end, end + 8);
    end += 8;
  } else {
    throw new TypeError(`${kind} is not an encoded value`);
  }
}

/** @param {string} base64  of 8 bytes, left in `floatBytes` */
function readEightBytes(base64) {
  reserve(base64.length);
  const length = scratch.write(base64, end, "base64");
  if (length !== 8) throw new TypeError(`an encoded number of ${length} bytes`);
  for (let i = 0; i < 8; i++) floatBytes[i] = /** @type {number} */ (scratch[end + i]);
}
