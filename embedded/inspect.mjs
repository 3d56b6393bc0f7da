/** Prints values for log lines as Convex does: strings in quotes, `[ 1, 2 ]` on one line, the fields of an object on lines of their own. */

import { types } from "node:util";

const MAX_DEPTH = 5; // containers that lie deeper are "[Object]" or "[Array]"
const MAX_STRING = 32_768; // a log line is no longer anyway
const INDENT = "  ";
const BARE_KEY = /^[\w$]*$/;
const ESCAPES = new Map([
  ["\b", "\\b"],
  ["\t", "\\t"],
  ["\n", "\\n"],
  ["\f", "\\f"],
  ["\r", "\\r"],
  ["'", "\\'"],
  ["\\", "\\\\"],
]);

/**
 * @param {unknown} value  of any realm
 * @returns {string}
 */
export function inspect(value) {
  return print(value, { depth: 0, outer: [], lines: true });
}

/**
 * @typedef {object} Place  where a value is printed
 * @property {number} depth  of the containers around it
 * @property {unknown[]} outer  those containers
 * @property {boolean} lines  whether fields get lines of their own; not inside the keys of a Map
 */

/**
 * @param {unknown} value
 * @param {Place} place
 * @returns {string}
 */
function print(value, place) {
  switch (typeof value) {
    case "string":
      return printString(value, place.lines ? MAX_STRING : Infinity);
    case "number":
      return Object.is(value, -0) ? "-0" : String(value);
    case "bigint":
      return `${value}n`;
    case "function":
      return place.outer.includes(value) ? "[Circular]" : printFunction(value, place);
    case "object":
      return value === null ? "null" : printObject(value, place);
    default:
      return String(value);
  }
}

/**
 * @param {string} text
 * @param {number} most  characters
 */
function printString(text, most) {
  const rest = text.length - most;
  const shown = rest > 0 ? text.slice(0, most) : text;
  const escaped = shown.replace(
    // eslint-disable-next-line no-control-regex -- these are what Convex escapes
    /['\\\u0000-\u001f]/g,
    (character) =>
      ESCAPES.get(character) ?? `\\x${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
  );
  return `'${escaped}'${rest > 0 ? `... ${rest} more character${rest > 1 ? "s" : ""}` : ""}`;
}

/**
 * @param {Function} value
 * @param {Place} place
 */
function printFunction(value, place) {
  const name = typeof value.name === "string" && value.name !== "" ? `: ${value.name}` : " (anonymous)";
  const own = members(value, place);
  return `[Function${name}]${own.length > 0 ? ` { ${own.join(", ")} }` : ""}`;
}

/**
 * @param {any} value
 * @param {Place} place
 * @returns {string}
 */
function printObject(value, place) {
  if (place.depth >= MAX_DEPTH) return Array.isArray(value) ? "[Array]" : "[Object]";
  if (place.outer.includes(value)) return "[Circular]";
  const inner = within(value, place);
  if (Array.isArray(value)) {
    const all = members(value, place);
    if (all.length === 0) return "[]";
    const broken = place.lines && all.some((text) => text.includes("\n"));
    return broken ? `[${onLines(all, place)}]` : `[ ${all.join(", ")} ]`;
  }
  if (types.isNativeError(value)) return printError(value, place);
  if (typeof value.inspect === "function") return String(value.inspect());
  if (types.isMap(value)) {
    const entries = [...value].map(
      ([key, member]) => `${print(key, { ...inner, lines: false })} => ${print(member, inner)}`,
    );
    return `Map (${value.size}) {${joined(entries, place)}}`;
  }
  if (types.isSet(value)) {
    return `Set (${value.size}) {${joined(
      [...value].map((member) => print(member, inner)),
      place,
    )}}`;
  }
  if (types.isWeakMap(value)) return "WeakMap { ? }";
  if (types.isWeakSet(value)) return "WeakSet { ? }";
  if (Object.prototype.toString.call(value) === "[object WeakRef]") return "WeakRef { ? }";
  if (types.isBoxedPrimitive(value)) return `Object(${print(value.valueOf(), place)})`;
  if (types.isDate(value) || types.isRegExp(value)) return String(value);
  const tag = objectTag(value);
  const all = members(value, place);
  if (all.length === 0) return `${tag}{}`;
  return place.lines ? `${tag}{${onLines(all, place)}}` : `${tag}{ ${all.join(", ")} }`;
}

/**
 * @param {Error} error
 * @param {Place} place
 */
function printError(error, place) {
  const hidden = "cause" in error && !Object.prototype.propertyIsEnumerable.call(error, "cause");
  const cause = hidden ? [`[cause]: ${print(error.cause, within(null, place))}`] : [];
  const all = [...cause, ...members(error, place)];
  return all.length === 0 ? `[${String(error)}]` : `{ [${String(error)}] ${all.join(", ")} }`;
}

/** @param {any} value @returns {string} what is said before the fields of an object that is not plain */
function objectTag(value) {
  const prototype = Object.getPrototypeOf(value);
  if (
    prototype !== null &&
    Object.getPrototypeOf(prototype) === null &&
    Object.hasOwn(prototype, "valueOf")
  ) {
    return "";
  }
  const bare = prototype === null;
  const name =
    typeof value.constructor === "function" && value.constructor.name ? `${value.constructor.name} ` : "";
  const kind = Symbol.toStringTag in value ? Object.prototype.toString.call(value).slice(8, -1) : "";
  const parts = [kind || (bare ? "Object" : ""), bare ? "null prototype" : ""].filter((part) => part !== "");
  return name + (parts.length > 0 ? `[${parts.join(": ")}] ` : "");
}

/**
 * @param {any} value
 * @param {Place} place
 * @returns {string[]} its elements and its own enumerable fields
 */
function members(value, place) {
  const inner = within(value, place);
  /** @type {string[]} */
  const printed = [];
  const elements = Array.isArray(value) ? value.length : 0;
  for (let i = 0; i < elements; i++) printed.push(Object.hasOwn(value, i) ? print(value[i], inner) : "");
  for (const key of Object.keys(value)) {
    if (elements > 0 && String(Number(key)) === key && Number(key) < elements) continue;
    printed.push(`${BARE_KEY.test(key) ? key : print(key, inner)}: ${print(value[key], inner)}`);
  }
  for (const symbol of Object.getOwnPropertySymbols(value)) {
    if (!Object.prototype.propertyIsEnumerable.call(value, symbol)) continue;
    printed.push(`[${String(symbol)}]: ${print(value[symbol], inner)}`);
  }
  return printed;
}

/**
 * @param {unknown} container  null: none that a value could circle back to
 * @param {Place} place  of it
 * @returns {Place}
 */
function within(container, { depth, outer, lines }) {
  return { depth: depth + 1, outer: container === null ? outer : [...outer, container], lines };
}

/**
 * @param {string[]} parts
 * @param {Place} place
 */
function joined(parts, place) {
  return place.lines ? onLines(parts, place) : parts.join(", ");
}

/**
 * @param {string[]} parts
 * @param {Place} place  of their container
 */
function onLines(parts, { depth }) {
  if (parts.length === 0) return "";
  const end = `\n${INDENT.repeat(depth)}`;
  return `${end}${INDENT}${parts.join(`,${end}${INDENT}`)}${end}`;
}
