/** Evaluates the expressions of `.filter()`. */

import { CallError } from "./errors.mjs";
import { formatValue } from "./format.mjs";
import { fieldAt } from "./index-keys.mjs";
import { fieldPathError } from "./identifiers.mjs";
import {
  compareValues,
  decodeFloat64,
  decodeInt64,
  encodeFloat64,
  encodeInt64,
  ValueError,
} from "./values.mjs";

/**
 * @typedef {import("./values.mjs").Encoded} Encoded
 * @typedef {import("./values.mjs").EncodedObject} EncodedObject
 * @typedef {(document: EncodedObject) => Encoded | undefined} Expression
 */

const INT64_BITS = 64;

/** @type {Record<string, (order: number) => boolean>} */
const COMPARISONS = {
  $eq: (order) => order === 0,
  $neq: (order) => order !== 0,
  $lt: (order) => order < 0,
  $lte: (order) => order <= 0,
  $gt: (order) => order > 0,
  $gte: (order) => order >= 0,
};

/** @type {Record<string, { verb: string, float: (a: number, b: number) => number, int: (a: bigint, b: bigint) => bigint }>} */
const ARITHMETIC = {
  $add: { verb: "add", float: (a, b) => a + b, int: (a, b) => a + b },
  $sub: { verb: "subtract", float: (a, b) => a - b, int: (a, b) => a - b },
  $mul: { verb: "multiply", float: (a, b) => a * b, int: (a, b) => a * b },
  $div: { verb: "divide", float: (a, b) => a / b, int: (a, b) => a / b },
  $mod: { verb: "mod", float: (a, b) => a % b, int: (a, b) => a % b },
};

/**
 * @param {any} json  as `.filter()` serializes it
 * @returns {(document: EncodedObject) => boolean}
 * @throws {CallError | ValueError} there is no such operator; no field can have such a name
 */
export function compileFilter(json) {
  const expression = compile(json);
  return (document) => truth(expression(document));
}

/** @param {any} json @returns {Expression} */
function compile(json) {
  const [operator] = typeof json === "object" && json !== null ? Object.keys(json) : [];
  const operand = operator === undefined ? undefined : json[operator];
  if (operator === "$literal") {
    const value = isUndefined(operand) ? undefined : operand;
    return () => value;
  }
  if (operator === "$field") {
    const error = fieldPathError(String(operand));
    if (error !== null) throw new ValueError(error);
    const path = String(operand)
      .replace(/^\.+|\.+$/g, "")
      .split(".");
    return (document) => fieldAt(document, path);
  }
  if (operator === "$not") {
    const inner = compile(operand);
    return (document) => !truth(inner(document));
  }
  if (operator === "$neg") return compileNegation(compile(operand));
  if (operator === "$and" || operator === "$or") {
    const inner = operand.map(compile);
    return operator === "$and"
      ? (document) => inner.every((/** @type {Expression} */ part) => truth(part(document)))
      : (document) => inner.some((/** @type {Expression} */ part) => truth(part(document)));
  }
  return compileBinary(operator, operand);
}

/**
 * @param {string | undefined} operator
 * @param {any} operands
 * @returns {Expression}
 */
function compileBinary(operator, operands) {
  const comparison = COMPARISONS[operator ?? ""];
  const arithmetic = ARITHMETIC[operator ?? ""];
  if (operator === undefined || (comparison === undefined && arithmetic === undefined)) {
    throw new CallError(`Unknown filter expression: ${JSON.stringify(operator ?? operands)}`);
  }
  const [left, right] = [compile(operands[0]), compile(operands[1])];
  if (comparison !== undefined) {
    return (document) => comparison(compareValues(left(document), right(document)));
  }
  return (document) => calculate(operator, left(document), right(document));
}

/** @param {Expression} inner @returns {Expression} */
function compileNegation(inner) {
  return (document) => {
    const value = inner(document);
    if (isFloat64(value)) return encodeFloat64(-decodeFloat64(value));
    if (!isInt64(value)) throw new CallError(`Cannot negate ${print(value)} (type ${typeName(value)})`);
    const negative = -decodeInt64(value);
    if (isOutOfRange(negative)) {
      throw new CallError(`Cannot negate ${print(value)}: the result is out of range for Int64`);
    }
    return encodeInt64(negative);
  };
}

/**
 * @param {string} operator
 * @param {Encoded | undefined} left
 * @param {Encoded | undefined} right
 * @returns {Encoded}
 */
function calculate(operator, left, right) {
  const { verb, float, int } = /** @type {(typeof ARITHMETIC)[string]} */ (ARITHMETIC[operator]);
  if (isInt64(left) && isInt64(right)) {
    const [a, b] = [decodeInt64(left), decodeInt64(right)];
    if (b === 0n && (verb === "divide" || verb === "mod")) {
      throw new CallError(`Cannot ${verb} ${a} by zero`);
    }
    const result = int(a, b);
    if (isOutOfRange(result) || (verb === "mod" && isOutOfRange(a / b))) {
      throw new CallError(`Cannot ${verb} ${a} and ${b}: the result is out of range for Int64`);
    }
    return encodeInt64(result);
  }
  if (isFloat64(left) && isFloat64(right))
    return encodeFloat64(float(decodeFloat64(left), decodeFloat64(right)));
  throw new CallError(
    `Cannot ${verb} ${print(left)} (type ${typeName(left)}) and ${print(right)} (type ${typeName(right)})`,
  );
}

/** @param {bigint} value */
function isOutOfRange(value) {
  return BigInt.asIntN(INT64_BITS, value) !== value;
}

/** @param {Encoded | undefined} value */
function truth(value) {
  if (typeof value === "boolean") return value;
  throw new CallError(`Cannot use value ${print(value)} (type ${typeName(value)}) as a Boolean`);
}

/** @param {Encoded | undefined} value */
function print(value) {
  return value === undefined ? "undefined" : formatValue(value);
}

/** @param {Encoded | undefined} value @returns {string} Convex's name of its type */
function typeName(value) {
  if (value === undefined) return "undefined";
  if (value === null) return "Null";
  if (isInt64(value)) return "Int64";
  if (isFloat64(value)) return "Float64";
  if (typeof value === "boolean") return "Boolean";
  if (typeof value === "string") return "String";
  if (Array.isArray(value)) return "Array";
  return "$bytes" in value ? "Bytes" : "Object";
}

/** @param {unknown} value @returns {value is { $integer: string }} */
function isInt64(value) {
  return typeof value === "object" && value !== null && "$integer" in value;
}

/** @param {unknown} value @returns {value is number | { $float: string }} */
function isFloat64(value) {
  return typeof value === "number" || (typeof value === "object" && value !== null && "$float" in value);
}

/** @param {unknown} value */
export function isUndefined(value) {
  return typeof value === "object" && value !== null && "$undefined" in value;
}
