/** Writes values in the two formats of the HTTP API without parsing what can be forwarded as text. */

import { HttpError, systemError } from "./errors.mjs";

/** @typedef {"json" | "convex_encoded_json"} Format */

/** @type {Map<unknown, Format>} */
const FORMATS = new Map([
  ["json", "json"],
  ["convex_clean_json", "json"],
  ["convex_encoded_json", "convex_encoded_json"],
  ["convex_json", "convex_encoded_json"],
]);

/**
 * @param {unknown} name
 * @param {Format} fallback  for a request that names none
 * @returns {Format}
 * @throws {HttpError} 400
 */
export function readFormat(name, fallback) {
  if (name === undefined || name === null) return fallback;
  const format = FORMATS.get(name);
  if (format === undefined)
    throw new HttpError(400, "BadFormat", `format param must be one of [\`json\`]. Got ${String(name)}`);
  return format;
}

/**
 * @param {string} text  a value as JSON in Convex's encoding
 * @param {Format} format
 * @returns {string} JSON text
 */
export function formatValue(text, format) {
  // Every encoded value is an object whose key starts with "$", so text without `"$` is already plain.
  const plain = format === "convex_encoded_json" || !text.includes('"$');
  return floatsWritten(plain ? text : JSON.stringify(clean(JSON.parse(text))));
}

const NEXT = /["\d]/g; // where a string or a number begins, its sign left out
const NUMBER = /[\d.eE+-]+/y;
const BACKSLASH = 0x5c;

/**
 * Convex writes every number as a float, `3.0`, and clients of languages that tell these from integers rely on it.
 *
 * @param {string} text  JSON
 * @returns {string} the same, with a fraction or an exponent in each number
 */
function floatsWritten(text) {
  let written = "";
  let kept = 0;
  NEXT.lastIndex = 0;
  for (let found = NEXT.exec(text); found !== null; found = NEXT.exec(text)) {
    if (found[0] === '"') {
      NEXT.lastIndex = stringEnd(text, found.index);
      continue;
    }
    NUMBER.lastIndex = found.index;
    const [number = ""] = NUMBER.exec(text) ?? [];
    NEXT.lastIndex = NUMBER.lastIndex;
    if (/[.e]/i.test(number)) continue;
    written += `${text.slice(kept, NUMBER.lastIndex)}.0`;
    kept = NUMBER.lastIndex;
  }
  return kept === 0 ? text : written + text.slice(kept);
}

/**
 * @param {string} text  JSON
 * @param {number} begin  of a string
 * @returns {number} behind it
 */
function stringEnd(text, begin) {
  for (let end = text.indexOf('"', begin + 1); ; end = text.indexOf('"', end + 1)) {
    let escapes = 0;
    while (text.charCodeAt(end - 1 - escapes) === BACKSLASH) escapes++;
    if (escapes % 2 === 0) return end + 1;
  }
}

/** @param {any} value @returns {unknown} */
function clean(value) {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(clean);
  if (typeof value.$integer === "string")
    return Buffer.from(value.$integer, "base64").readBigInt64LE().toString();
  if (typeof value.$bytes === "string") return value.$bytes;
  if (typeof value.$float === "string") return floatName(Buffer.from(value.$float, "base64").readDoubleLE());
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, clean(inner)]));
}

/** @param {number} float  one that JavaScript's JSON cannot hold */
function floatName(float) {
  // @ts-expect-error not in the types yet
  return Object.is(float, -0) ? JSON.rawJSON("-0.0") : String(float);
}

/**
 * The answer to a call of a function.
 *
 * @param {import("../engine-client.mjs").Reply} reply
 * @param {Format} format
 * @returns {string} JSON text
 * @throws {HttpError} a failure of the system
 */
export function formatReply(reply, format) {
  const logLines = reply.logLines.length === 0 ? "" : `,"logLines":${JSON.stringify(reply.logLines)}`;
  if (reply.ok) return `{"status":"success","value":${formatValue(reply.value, format)}${logLines}}`;
  if (reply.code !== undefined) throw systemError({ ...reply, code: reply.code });
  const data = reply.data === undefined ? "" : `,"errorData":${formatValue(reply.data, format)}`;
  return `{"status":"error","errorMessage":${JSON.stringify(reply.message)}${data}${logLines}}`;
}
