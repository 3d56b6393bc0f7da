/** Prints values as Convex prints them in its error texts. */

/** @typedef {import("./values.mjs").Encoded} Encoded */

// What Convex does not print as it is: quotes, backslash, and what shows nothing or changes its neighbour.
const ESCAPED = /["\\]|(?! )[\p{C}\p{Z}\p{Grapheme_Extend}]/gu;
const SHORT_ESCAPES = new Map([
  ["\0", "\\0"],
  ["\t", "\\t"],
  ["\n", "\\n"],
  ["\r", "\\r"],
  ['"', '\\"'],
  ["\\", "\\\\"],
]);

/**
 * @param {Encoded} value
 * @returns {string} such as `{a: 1.0, b: "x", c: [null, true], d: 7}`, where 7 is an int64
 */
export function formatValue(value) {
  if (typeof value === "string") return formatString(value);
  if (typeof value === "number") return formatFloat64(value);
  if (typeof value !== "object" || value === null) return String(value);
  if (Array.isArray(value)) return `[${value.map(formatValue).join(", ")}]`;
  const fields = Object.keys(value).sort();
  if (fields[0]?.startsWith("$")) return formatSpecial(/** @type {{ [kind: string]: string }} */ (value));
  const members = fields.map((field) => `${field}: ${formatValue(/** @type {Encoded} */ (value[field]))}`);
  return `{${members.join(", ")}}`;
}

/** @param {{ [kind: string]: string }} value */
function formatSpecial(value) {
  if (value.$bytes !== undefined) return `b"${value.$bytes}"`;
  if (value.$integer !== undefined) return String(Buffer.from(value.$integer, "base64").readBigInt64LE());
  if (value.$float !== undefined) return formatFloat64(Buffer.from(value.$float, "base64").readDoubleLE());
  return "[unresolved commit timestamp]";
}

/**
 * @param {number} value
 * @returns {string} always to be told from an int64: "1.0", "1e16", "NaN", "inf"
 */
export function formatFloat64(value) {
  if (Number.isNaN(value)) return "NaN";
  const sign = value < 0 || Object.is(value, -0) ? "-" : "";
  const size = Math.abs(value);
  if (size === Infinity) return `${sign}inf`;
  if (size !== 0 && (size < 1e-5 || size >= 1e16)) return sign + size.toExponential().replace("+", "");
  return sign + (Number.isInteger(size) ? `${size}.0` : String(size));
}

/** @param {string} text */
function formatString(text) {
  const escaped = text.replace(
    ESCAPED,
    (character) =>
      SHORT_ESCAPES.get(character) ?? `\\u{${/** @type {number} */ (character.codePointAt(0)).toString(16)}}`,
  );
  return `"${escaped}"`;
}

const SIZE_UNITS = ["B", "KiB", "MiB", "GiB"];
/** @type {[bytes: number, name: string][]} */
const BYTE_UNITS = [
  [1 << 30, "GiB"],
  [1e9, "GB"],
  [1 << 20, "MiB"],
  [1e6, "MB"],
  [1 << 10, "KiB"],
  [1e3, "KB"],
];

/** @param {number} bytes @returns {string} such as "22 B", "1.50 KiB", "16 MiB" */
export function formatSize(bytes) {
  let size = bytes;
  let unit = 0;
  while (size >= 1024 && unit < SIZE_UNITS.length - 1) {
    size /= 1024;
    unit++;
  }
  return `${Number.isInteger(size) ? size : size.toFixed(2)} ${SIZE_UNITS[unit]}`;
}

/** @param {number} bytes @returns {string} as Convex writes some limits: "16 MiB" and "1.5 KB", but "1234 bytes" */
export function formatUnits(bytes) {
  for (const [size, name] of BYTE_UNITS) {
    if (bytes >= size && (bytes * 10) % size === 0) return `${bytes / size} ${name}`;
  }
  return `${bytes} bytes`;
}
