/** The order of an object's fields: Convex's objects are sorted maps, so functions, clients and the file see fields by name. */

/**
 * @typedef {import("./values.mjs").Encoded} Encoded
 * @typedef {import("./values.mjs").EncodedObject} EncodedObject
 */

/**
 * @template {Encoded} T
 * @param {T} value  that passed `checkValue`
 * @returns {T} the same value with every object's fields in order of their names; `value` itself when they are
 */
export function inFieldOrder(value) {
  return isInOrder(value) ? value : /** @type {T} */ (sorted(value));
}

/**
 * @param {string} json  of a value that passed `checkValue`
 * @param {Encoded} value  the same, parsed
 * @returns {string} `json` itself when its fields are in order, else the text in which they are
 */
export function textInFieldOrder(json, value) {
  if (isInOrder(value)) return json;
  return hasNumber(value) ? written(value) : JSON.stringify(sorted(value));
}

/** @param {Encoded} value @returns {boolean} whether a field's name may be an integer, which JavaScript puts first, by value */
function hasNumber(value) {
  if (typeof value !== "object" || value === null) return false;
  if (Array.isArray(value)) return value.some(hasNumber);
  for (const field in value) {
    if (/^\d/.test(field) || hasNumber(/** @type {Encoded} */ (value[field]))) return true;
  }
  return false;
}

/** @param {Encoded} value @returns {string} its text, in an order that no object of JavaScript can have */
function written(value) {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(written).join(",")}]`;
  const fields = Object.keys(value).sort();
  return `{${fields.map((field) => `${JSON.stringify(field)}:${written(/** @type {Encoded} */ (value[field]))}`).join(",")}}`;
}

/** @param {Encoded} value @returns {boolean} */
function isInOrder(value) {
  if (typeof value !== "object" || value === null) return true;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      if (!isInOrder(/** @type {Encoded} */ (value[i]))) return false;
    }
    return true;
  }
  let last = "";
  for (const field in value) {
    // Names are ASCII, so the order of UTF-16 is that of bytes.
    if (field < last || !isInOrder(/** @type {Encoded} */ (value[field]))) return false;
    last = field;
  }
  return true;
}

/** @param {Encoded} value @returns {Encoded} */
function sorted(value) {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(sorted);
  /** @type {EncodedObject} */
  const object = {};
  for (const field of Object.keys(value).sort()) {
    const member = sorted(/** @type {Encoded} */ (value[field]));
    if (field === "__proto__") define(object, field, member);
    else object[field] = member; // much faster than Object.fromEntries
  }
  return object;
}

/**
 * @param {EncodedObject} object
 * @param {string} field  that cannot be assigned
 * @param {Encoded} value
 */
function define(object, field, value) {
  Object.defineProperty(object, field, { value, enumerable: true, writable: true, configurable: true });
}
