/** Convex values in their JSON encoding: what may be one, how big it is, and the other forms it is written in. */

import { formatSize, formatValue } from "./format.mjs";

export { formatValue } from "./format.mjs";
export { compareValues, encodeIndexKey, encodeKey, keySuccessor } from "./keys.mjs";

/**
 * A Convex value as parsed JSON: `{"$integer": b64}`, `{"$float": b64}` (NaN, infinities, -0), `{"$bytes": b64}`, all else plain.
 * @typedef {null | boolean | number | string | EncodedArray | EncodedObject} Encoded
 * @typedef {Encoded[]} EncodedArray
 * @typedef {{ [field: string]: Encoded }} EncodedObject
 */

/** A value that Convex refuses; the message is Convex's text. */
export class ValueError extends Error {}

const MAX_DEPTH = 64;
export const MAX_DOCUMENT_DEPTH = 16;
const MAX_FIELDS = 1024;
const MAX_ARRAY_LENGTH = 8192;
const MAX_FIELD_NAME = 1024;
const MAX_VALUE_BYTES = 32 * 1024 * 1024;
export const MAX_DOCUMENT_BYTES = 1024 * 1024;
const NUMBER_BYTES = 9; // with its type marker
const DOLLAR = 0x24;
const UNDERSCORE = 0x5f;

// A text this short cannot nest too deeply, and without "$", "\\" and characters outside of ASCII all its names are good.
const SHORT_TEXT = 128;
const PLAIN_TEXT = /^[ -#%-[\]-~]*$/;
const ESCAPES = /\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\./g;
const PAIR_LENGTH = 12;

const LONG_STRING = 128; // above, native code counts UTF-8 bytes faster than a loop over the characters

/** What the walk over one value has seen; one walk at a time. */
let deepest = 0;
let commitTsAllowed = false;

/**
 * @param {unknown} value  parsed JSON
 * @param {{ commitTs?: boolean }} [options]  commitTs: its placeholder may occur
 * @returns {number} the value's size in bytes, as `valueSize` counts
 * @throws {ValueError}
 */
export function checkValue(value, { commitTs = false } = {}) {
  deepest = 0;
  commitTsAllowed = commitTs;
  const bytes = measure(value, 1);
  refuseLargerThan(bytes, MAX_VALUE_BYTES);
  return bytes;
}

/**
 * As `checkValue`, with the limits of a stored document: an object, nesting 16, 1 MiB, no top-level field that starts with `_` but `_id`
 * and `_creationTime`.
 *
 * @param {unknown} document  with its system fields; commit timestamps need not be resolved
 * @returns {number} its size in bytes
 * @throws {ValueError}
 */
export function checkStored(document) {
  const bytes = checkValue(document, { commitTs: true });
  checkDocumentShape(document);
  refuseLargerThan(bytes, MAX_DOCUMENT_BYTES);
  return bytes;
}

/** @returns {number} levels of nesting of the value that was checked last */
export function checkedDepth() {
  return deepest;
}

/**
 * @param {string} json  of one value
 * @param {number} limit  of its size in bytes
 * @returns {boolean} whether it is so short and simple that it is within all bounds
 */
export function isPlain(json, limit) {
  return json.length <= SHORT_TEXT && limit > NUMBER_BYTES * SHORT_TEXT && PLAIN_TEXT.test(json);
}

/**
 * @param {string} json  well-formed but for surrogates, which `JSON.stringify` writes as escapes when they are alone
 * @throws {ValueError} one of them is alone, so the text is no Unicode
 */
export function refuseLoneSurrogates(json) {
  if (!json.includes("\\ud")) return;
  for (const { 0: escape, index } of json.matchAll(ESCAPES)) {
    if (!/^\\u[dD][89a-fA-F]/.test(escape) || escape.length === PAIR_LENGTH) continue;
    const first = Number.parseInt(escape.slice(2), 16) < 0xdc00;
    const [reason, column] = first
      ? ["unexpected end of hex escape", index + escape.length + 1]
      : ["lone leading surrogate in hex escape", index + escape.length];
    throw new ValueError(`${reason} at line 1 column ${Buffer.byteLength(json.slice(0, column))}`);
  }
}

/** @param {unknown} value  already a value */
function checkDocumentShape(value) {
  if (typeof value !== "object" || value === null || Array.isArray(value) || isSpecial(value)) {
    throw new ValueError("Documents must be objects");
  }
  const violations = [];
  if (deepest > MAX_DOCUMENT_DEPTH) {
    violations.push(
      `Document is too nested (nested ${deepest} levels deep > maximum nesting ${MAX_DOCUMENT_DEPTH})`,
    );
  }
  for (const field in value) {
    if (field.charCodeAt(0) === UNDERSCORE && field !== "_id" && field !== "_creationTime") {
      violations.push(
        `Field '${field}' starts with an underscore, which is only allowed for system fields like '_id'`,
      );
    }
  }
  if (violations.length > 0) {
    const printed = formatValue(/** @type {EncodedObject} */ (value));
    throw new ValueError(`${printed} isn't a valid document: ${violations.join("\n ")}`);
  }
}

/**
 * @param {unknown} value
 * @param {number} depth  of a container at this place; the outermost has 1
 * @returns {number} bytes
 */
function measure(value, depth) {
  switch (typeof value) {
    case "string":
      return 2 + utf8Length(value);
    case "number":
      return NUMBER_BYTES;
    case "boolean":
      return 1;
    case "object":
      if (value === null) return 1;
      return Array.isArray(value)
        ? measureArray(value, depth)
        : measureObject(/** @type {{ [field: string]: unknown }} */ (value), depth);
    default:
      throw new ValueError(`${String(value)} is not a supported Convex type`);
  }
}

/**
 * @param {unknown[]} values
 * @param {number} depth
 */
function measureArray(values, depth) {
  enter(depth);
  if (values.length > MAX_ARRAY_LENGTH) {
    throw new ValueError(`Array length is too long (${values.length} > maximum length ${MAX_ARRAY_LENGTH})`);
  }
  let bytes = 2;
  for (let i = 0; i < values.length; i++) bytes += measure(values[i], depth + 1);
  return bytes;
}

/**
 * @param {{ [field: string]: unknown }} object
 * @param {number} depth
 */
function measureObject(object, depth) {
  let bytes = 2;
  let fields = 0;
  for (const field in object) {
    if (field.charCodeAt(0) === DOLLAR) return measureSpecial(object, field);
    if (fields++ === 0) enter(depth);
    checkFieldName(field);
    bytes += field.length + 1 + measure(object[field], depth + 1);
  }
  if (fields === 0) enter(depth);
  if (fields > MAX_FIELDS) {
    throw new ValueError(`Object has too many fields (${fields} > maximum number ${MAX_FIELDS})`);
  }
  return bytes;
}

/** @param {number} depth */
function enter(depth) {
  if (depth > MAX_DEPTH) {
    throw new ValueError(`Value is too nested (nested ${depth} levels deep > maximum nesting ${MAX_DEPTH})`);
  }
  if (depth > deepest) deepest = depth;
}

/** @param {string} field */
function checkFieldName(field) {
  for (let i = 0; i < field.length; i++) {
    const code = field.charCodeAt(i);
    if (code < 0x20 || code > 0x7e) {
      const character = formatValue(String.fromCodePoint(/** @type {number} */ (field.codePointAt(i))));
      throw new ValueError(
        `Field name ${field} has invalid character '${character.slice(1, -1)}': Field names can only contain non-control ASCII characters`,
      );
    }
  }
  if (field.length > MAX_FIELD_NAME) {
    throw new ValueError(`Field name is too long (${field.length} > maximum ${MAX_FIELD_NAME})`);
  }
}

/**
 * @param {{ [field: string]: unknown }} object
 * @param {string} field  of it, that starts with "$"
 */
function measureSpecial(object, field) {
  const payload = object[field];
  const alone = Object.keys(object).length === 1;
  if (alone && field === "$integer") {
    if (base64Length(field, payload) !== 8) throw new ValueError("Int64 must be exactly eight bytes");
    return NUMBER_BYTES;
  }
  if (alone && field === "$float") {
    if (base64Length(field, payload) !== 8) throw new ValueError("Float64 must be exactly eight bytes");
    const number = decodeFloat64(/** @type {{ $float: string }} */ (object));
    if (Number.isFinite(number) && !Object.is(number, -0)) {
      throw new ValueError(`Float64 ${number} should be encoded as a number`);
    }
    return NUMBER_BYTES;
  }
  if (alone && field === "$bytes") return 2 + base64Length(field, payload);
  if (alone && field === "$commitTs" && payload === null && commitTsAllowed) return NUMBER_BYTES;
  throw new ValueError(`Field name ${field} starts with '$', which is reserved.`);
}

/**
 * @param {string} field
 * @param {unknown} payload
 * @returns {number} bytes that well-formed, padded base64 stands for
 */
function base64Length(field, payload) {
  if (typeof payload !== "string" || !isBase64(payload)) throw new ValueError(`Malformed ${field} field`);
  const padding = payload.endsWith("==") ? 2 : payload.endsWith("=") ? 1 : 0;
  return (payload.length / 4) * 3 - padding;
}

/** @param {string} text */
function isBase64(text) {
  return text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text);
}

/**
 * @param {number} bytes
 * @param {number} limit
 */
function refuseLargerThan(bytes, limit) {
  if (bytes > limit) {
    throw new ValueError(`Value is too large (${formatSize(bytes)} > maximum size ${formatSize(limit)})`);
  }
}

/**
 * @param {Encoded | undefined} value  a value that passed `checkValue`
 * @returns {number} bytes as Convex counts them for its limits; 0 for a missing value
 */
export function valueSize(value) {
  if (value === undefined) return 0;
  if (typeof value === "string") return 2 + utf8Length(value);
  if (typeof value === "number") return NUMBER_BYTES;
  if (typeof value !== "object" || value === null) return 1;
  let bytes = 2;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) bytes += valueSize(value[i]);
    return bytes;
  }
  for (const field in value) {
    if (field.charCodeAt(0) === DOLLAR) {
      return field === "$bytes" ? 2 + base64Length(field, value[field]) : NUMBER_BYTES;
    }
    bytes += field.length + 1 + valueSize(value[field]);
  }
  return bytes;
}

/** @param {string} text */
function utf8Length(text) {
  if (text.length > LONG_STRING) return Buffer.byteLength(text);
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    // A surrogate pair is 4 bytes, so each of its two units adds one.
    if (unit >= 0x80) bytes += unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff) ? 1 : 2;
  }
  return bytes;
}

/** A placeholder in JSON text. No text inside a string can look like this: its quotes would be escaped. */
const COMMIT_TS = '{"$commitTs":null}';

/** @param {string} json  of a value @returns {boolean} whether a commit timestamp's placeholder is in it */
export function textContainsCommitTs(json) {
  return json.includes(COMMIT_TS);
}

/**
 * @param {string} json  of a value
 * @param {bigint} ts  nanoseconds since the epoch
 * @returns {string} with the timestamp in place of each placeholder
 */
export function resolveCommitTsInText(json, ts) {
  return json.replaceAll(COMMIT_TS, JSON.stringify(encodeInt64(ts)));
}

/**
 * @param {Encoded} value
 * @returns {boolean} whether a commit timestamp's placeholder is in it
 */
export function containsCommitTs(value) {
  if (typeof value !== "object" || value === null) return false;
  if (Array.isArray(value)) return value.some(containsCommitTs);
  for (const field in value) {
    if (field === "$commitTs" || containsCommitTs(/** @type {Encoded} */ (value[field]))) return true;
  }
  return false;
}

/**
 * @param {Encoded} value
 * @param {bigint} ts  nanoseconds since the epoch
 * @returns {Encoded} with the timestamp in place of each placeholder: a copy as far as they reach, `value` itself where there is none
 */
export function resolveCommitTs(value, ts) {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) {
    const members = value.map((member) => resolveCommitTs(member, ts));
    return members.every((member, i) => member === value[i]) ? value : members;
  }
  /** @type {EncodedObject | null} */
  let copy = null;
  for (const field in value) {
    if (field === "$commitTs") return encodeInt64(ts);
    const member = /** @type {Encoded} */ (value[field]);
    if (typeof member !== "object" || member === null) continue;
    const resolved = resolveCommitTs(member, ts);
    if (resolved === member) continue;
    copy ??= { ...value };
    // Assigned, a field of that name would become the prototype.
    if (field === "__proto__") Object.defineProperty(copy, field, { value: resolved });
    else copy[field] = resolved;
  }
  return copy ?? value;
}

/** @param {object} value @returns {boolean} whether it encodes a scalar */
export function isSpecial(value) {
  for (const field in value) return field.charCodeAt(0) === DOLLAR;
  return false;
}

/**
 * @param {bigint} value  in the range of int64
 * @returns {{ $integer: string }}
 */
export function encodeInt64(value) {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigInt64LE(value);
  return { $integer: bytes.toString("base64") };
}

/** @param {{ $integer: string }} encoded @returns {bigint} */
export function decodeInt64(encoded) {
  return Buffer.from(encoded.$integer, "base64").readBigInt64LE();
}

/** @param {number} value @returns {number | { $float: string }} */
export function encodeFloat64(value) {
  if (Number.isFinite(value) && !Object.is(value, -0)) return value;
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeDoubleLE(value);
  return { $float: bytes.toString("base64") };
}

/** @param {number | { $float: string }} encoded @returns {number} */
export function decodeFloat64(encoded) {
  return typeof encoded === "number" ? encoded : Buffer.from(encoded.$float, "base64").readDoubleLE();
}
