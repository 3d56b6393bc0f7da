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
  if (format === "convex_encoded_json" || !text.includes('"$')) return text;
  return JSON.stringify(clean(JSON.parse(text)));
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

/** @param {number} float  one that JSON cannot hold */
function floatName(float) {
  return Object.is(float, -0) ? "-0" : String(float);
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
