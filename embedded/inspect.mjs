/** Prints values for log lines as Convex does, on one line: strings in quotes, `{ a: 1 }`, `[ 1, 2 ]`, `Map (1) {'a' => 1}`. */

const MAX_DEPTH = 5; // what lies deeper is "[Object]"
const MAX_STRING = 32_768; // a line is no longer anyway
const IDENTIFIER = /^[A-Za-z_$][\w$]*$/;
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
  return print(value, 0, []);
}

/**
 * @param {unknown} value
 * @param {number} depth
 * @param {unknown[]} outer  the containers that it is in
 * @returns {string}
 */
function print(value, depth, outer) {
  switch (typeof value) {
    case "string":
      return printString(value);
    case "number":
      return Object.is(value, -0) ? "-0" : String(value);
    case "bigint":
      return `${value}n`;
    case "symbol":
      return String(value);
    case "function":
      return printFunction(value);
    case "object":
      return value === null ? "null" : printObject(value, depth, outer);
    default:
      return String(value);
  }
}

/** @param {string} text */
function printString(text) {
  const rest = text.length - MAX_STRING;
  const shown = rest > 0 ? text.slice(0, MAX_STRING) : text;
  const escaped = shown.replace(
    /['\\]|\p{Cc}/gu,
    (character) =>
      ESCAPES.get(character) ?? `\\x${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
  );
  return `'${escaped}'${rest > 0 ? `... ${rest} more character${rest > 1 ? "s" : ""}` : ""}`;
}

/** @param {Function} value */
function printFunction(value) {
  const name = typeof value.name === "string" && value.name !== "" ? `: ${value.name}` : " (anonymous)";
  const own = Object.keys(value).map((key) => `${printKey(key)}: [Function]`);
  return `[Function${name}]${own.length > 0 ? ` { ${own.join(", ")} }` : ""}`;
}

/**
 * @param {any} value
 * @param {number} depth
 * @param {unknown[]} outer
 * @returns {string}
 */
function printObject(value, depth, outer) {
  if (outer.includes(value)) return "[Circular]";
  const kind = Object.prototype.toString.call(value).slice("[object ".length, -1);
  if (depth > MAX_DEPTH) return Array.isArray(value) ? "[Array]" : "[Object]";
  if (typeof value.inspect === "function") return String(value.inspect(MAX_DEPTH - depth));
  const inner = (/** @type {unknown} */ member) => print(member, depth + 1, [...outer, value]);
  const fields = () =>
    Object.keys(value)
      .filter((key) => !Array.isArray(value) || !/^\d+$/.test(key))
      .map((key) => `${printKey(key)}: ${inner(value[key])}`);
  switch (kind) {
    case "Array": {
      const members = Array.from({ length: value.length }, (_, i) => (i in value ? inner(value[i]) : ""));
      const all = [...members, ...fields()];
      return all.length === 0 ? "[]" : `[ ${all.join(", ")} ]`;
    }
    case "Error":
    case "DOMException": {
      const cause = "cause" in value ? [`[cause]: ${inner(value.cause)}`] : [];
      const all = [...cause, ...fields()];
      const text = `[${describeError(value)}]`;
      return all.length === 0 ? text : `{ ${text} ${all.join(", ")} }`;
    }
    case "Map":
      return `Map (${value.size}) {${[...value].map(([key, member]) => `${inner(key)} => ${inner(member)}`).join(", ")}}`;
    case "Set":
      return `Set (${value.size}) {${[...value].map(inner).join(", ")}}`;
    case "WeakMap":
    case "WeakSet":
    case "WeakRef":
      return `${kind} { ? }`;
    case "Number":
    case "BigInt":
    case "Boolean":
    case "String":
    case "Symbol":
      return `Object(${print(value.valueOf(), depth, outer)})`;
    case "Date":
      return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
    case "RegExp":
      return String(value);
    default: {
      const own = fields();
      const prototype = Object.getPrototypeOf(value);
      const plain = prototype === null || Object.getPrototypeOf(prototype) === null;
      const name = plain ? "" : (prototype.constructor?.name ?? "");
      const tag = kind === "Object" ? "" : kind;
      const label = [name, tag !== name ? tag : ""].filter((part) => part !== "").join(": ");
      const start = prototype === null ? "[Object: null prototype] " : label === "" ? "" : `${label} `;
      return own.length === 0 ? `${start}{}` : `${start}{ ${own.join(", ")} }`;
    }
  }
}

/** @param {any} error */
function describeError({ name, message }) {
  return message === "" || message === undefined ? String(name) : `${String(name)}: ${String(message)}`;
}

/** @param {string} key */
function printKey(key) {
  return IDENTIFIER.test(key) ? key : printString(key);
}
