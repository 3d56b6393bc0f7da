/**
 * Compiles validators from their JSON into checkers that fail with Convex's texts.
 *
 * A check walks closures made once for each validator. A failure is a small record that gathers its path on the way out; its text
 * is written only when it is the answer, because a union tries members that are meant to fail.
 */

import { formatFloat64, formatValue } from "./format.mjs";
import { fieldNameError, identifierError } from "./identifiers.mjs";
import { tableNumberOf } from "./ids.mjs";
import { checkValue, isSpecial } from "./values.mjs";

/**
 * @typedef {import("./values.mjs").Encoded} Encoded
 * @typedef {import("./values.mjs").EncodedObject} EncodedObject
 * @typedef {{ type: string, [key: string]: any }} ValidatorJson  as `exportArgs()` and `schema.export()` write it
 * @typedef {object} TableNumbers  tables as `v.id()` knows them, system tables included
 * @property {(name: string) => number | null} tableNumberOf
 * @property {(number: number) => string | null} tableNameOf
 * @typedef {object} Validator
 * @property {(value: Encoded, tables: TableNumbers) => string | null} check  Convex's error text; null when the value fits
 * @property {string} text  as errors print it
 * @property {ValidatorJson} json
 *
 * @typedef {{ path: string[], text: (path: string) => string }} Failure  path: innermost part first
 * @typedef {(value: Encoded, tables: TableNumbers) => Failure | null} Check
 * @typedef {{ fieldType: ValidatorJson, optional: boolean }} FieldJson
 */

const BAD_RECORD = "InvalidRecordType";

/** Validator JSON that Convex refuses; the message is one line, Convex's. */
export class ValidatorError extends Error {
  /**
   * @param {string} message
   * @param {string} [code]  of a schema that has it
   */
  constructor(message, code = "InvalidSchema") {
    super(message);
    this.code = code;
  }
}

/**
 * @param {ValidatorJson} json
 * @param {{ document?: boolean }} [options]  document: the values are stored documents, whose system fields the validator does not name
 * @returns {Validator}
 * @throws {ValidatorError}
 */
export function compileValidator(json, { document = false } = {}) {
  const validator = document ? withoutSystemFields(json) : json;
  const check = compile(validator, document);
  return {
    check(value, tables) {
      const failure = check(value, tables);
      if (failure === null) return null;
      return document ? explainDocument(check, value, tables) : explain(failure);
    },
    get text() {
      return printValidator(validator);
    },
    json,
  };
}

/** @param {Failure} failure */
function explain({ path, text }) {
  return text(path.length === 0 ? "" : `Path: ${path.reverse().join("")}`);
}

/**
 * @param {Check} check
 * @param {Encoded} value
 * @param {TableNumbers} tables
 */
function explainDocument(check, value, tables) {
  const fields = Object.entries(/** @type {EncodedObject} */ (value)).filter(
    ([field]) => !isSystemField(field),
  );
  return explain(/** @type {Failure} */ (check(Object.fromEntries(fields), tables)));
}

/** @param {string} field */
function isSystemField(field) {
  return field.charCodeAt(0) === 0x5f;
}

/**
 * @param {ValidatorJson} json
 * @returns {ValidatorJson} for documents: the objects at the top without fields that start with `_`
 */
function withoutSystemFields(json) {
  if (json.type === "union") return { ...json, value: json.value.map(withoutSystemFields) };
  if (json.type !== "object") return json;
  const fields = Object.entries(json.value).filter(([field]) => !isSystemField(field));
  return { ...json, value: Object.fromEntries(fields) };
}

/**
 * @param {ValidatorJson} json
 * @returns {string} such as `v.object({a: v.string(), b: v.optional(v.float64())})`
 */
export function printValidator(json) {
  switch (json.type) {
    case "number":
      return "v.float64()";
    case "bigint":
      return "v.int64()";
    case "id":
      return `v.id("${json.tableName}")`;
    case "literal":
      return `v.literal(${printLiteral(json.value)})`;
    case "array":
      return `v.array(${printValidator(json.value)})`;
    case "record":
      return `v.record(${printValidator(json.keys)}, ${printValidator(json.values.fieldType)})`;
    case "union":
      return `v.union(${json.value.map(printValidator).join(", ")})`;
    case "object":
      return `v.object({${sortedFields(json).map(printField).join(", ")}})`;
    default:
      return `v.${json.type}()`;
  }
}

/** @param {[string, FieldJson]} field */
function printField([name, { fieldType, optional }]) {
  const printed = printValidator(fieldType);
  return `${name}: ${optional ? `v.optional(${printed})` : printed}`;
}

/** @param {Encoded} literal */
function printLiteral(literal) {
  if (typeof literal === "number") return formatFloat64(literal);
  if (typeof literal !== "object" || literal === null) return JSON.stringify(literal);
  return "$integer" in literal ? "<bigint>" : "<number>";
}

/**
 * @param {ValidatorJson} json  of type "object"
 * @returns {[string, FieldJson][]} in the order Convex looks at them
 */
function sortedFields(json) {
  return /** @type {[string, FieldJson][]} */ (Object.entries(json.value)).sort(([a], [b]) =>
    a < b ? -1 : 1,
  );
}

/**
 * @param {ValidatorJson} json
 * @param {boolean} document  whether system fields are passed over, here and in the members of a union
 * @returns {Check}
 */
function compile(json, document) {
  switch (json?.type) {
    case "null":
      return scalar(json, (value) => value === null);
    case "boolean":
      return scalar(json, (value) => typeof value === "boolean");
    case "string":
      return scalar(json, (value) => typeof value === "string");
    case "number":
      return scalar(json, (value) => typeof value === "number" || isEncodedAs("$float", value));
    case "bigint":
    case "commitTs":
      // An unresolved commit timestamp will be an int64 once it is committed.
      return scalar(json, (value) => isEncodedAs("$integer", value) || isEncodedAs("$commitTs", value));
    case "bytes":
      return scalar(json, (value) => isEncodedAs("$bytes", value));
    case "any":
    case "map": // schemas of before Convex dropped these two
    case "set":
      return () => null;
    case "literal":
      return compileLiteral(json);
    case "id":
      return compileId(json);
    case "array":
      return compileArray(json);
    case "record":
      return compileRecord(json);
    case "object":
      return compileObject(json, document);
    case "union":
      return compileUnion(json, document);
    default:
      throw new ValidatorError(`Unknown validator type ${JSON.stringify(json?.type)}`);
  }
}

/**
 * @param {string} kind
 * @param {Encoded} value
 */
function isEncodedAs(kind, value) {
  return typeof value === "object" && value !== null && kind in value;
}

/**
 * @param {ValidatorJson} json
 * @param {(value: Encoded) => boolean} accepts
 * @returns {Check}
 */
function scalar(json, accepts) {
  const mismatch = compileMismatch(json);
  return (value) => (accepts(value) ? null : mismatch(value));
}

/**
 * @param {ValidatorJson} json
 * @returns {(value: Encoded) => Failure}
 */
function compileMismatch(json) {
  return (value) => ({
    path: [],
    text: (path) =>
      `Value does not match validator.\n${path}\nValue: ${formatValue(value)}\nValidator: ${printValidator(json)}`,
  });
}

/** @param {ValidatorJson} json @returns {Check} */
function compileLiteral(json) {
  const literal = /** @type {Encoded} */ (json.value);
  checkLiteral(literal);
  const equals = compileEquals(literal);
  return (value) => {
    if (equals(value)) return null;
    const text = (/** @type {string} */ path) =>
      `\`${formatValue(value)}\` does not match literal validator \`${printValidator(json)}\`.${path}`;
    return { path: [], text };
  };
}

/** @param {Encoded} literal */
function checkLiteral(literal) {
  checkValue(literal);
  const number = isEncodedAs("$integer", literal) || isEncodedAs("$float", literal);
  if (!number && !["string", "number", "boolean"].includes(typeof literal)) {
    throw new ValidatorError(`Value ${formatValue(literal)} is not a valid literal.`);
  }
}

/**
 * @param {Encoded} literal  a scalar
 * @returns {(value: Encoded) => boolean}
 */
function compileEquals(literal) {
  if (typeof literal !== "object" || literal === null) return (value) => value === literal;
  const text = JSON.stringify(literal);
  return (value) => typeof value === "object" && JSON.stringify(value) === text;
}

/** @param {ValidatorJson} json @returns {Check} */
function compileId(json) {
  /** @type {string} */
  const wanted = json.tableName;
  refuse(identifierError(wanted));
  const mismatch = compileMismatch(json);
  return (value, tables) => {
    const number = typeof value === "string" ? tableNumberOf(value) : null;
    const found = number === null ? null : tables.tableNameOf(number);
    if (found === wanted) return null;
    if (found === null) return mismatch(value);
    const origin = isSystemField(found) ? "a system table" : `table \`${found}\``;
    const text = (/** @type {string} */ path) =>
      `Found ID "${String(value)}" from ${origin}, which does not match the table name in validator \`${printValidator(json)}\`.${path}`;
    return { path: [], text };
  };
}

/** @param {ValidatorJson} json @returns {Check} */
function compileArray(json) {
  const element = compile(json.value, false);
  const mismatch = compileMismatch(json);
  return (value, tables) => {
    if (!Array.isArray(value)) return mismatch(value);
    for (let i = 0; i < value.length; i++) {
      const failure = element(/** @type {Encoded} */ (value[i]), tables);
      if (failure !== null) return within(`[${i}]`, failure);
    }
    return null;
  };
}

/** @param {ValidatorJson} json @returns {Check} */
function compileRecord(json) {
  checkRecordKeys(json.keys);
  if (json.values.optional) throw new ValidatorError("Records cannot have optional values", BAD_RECORD);
  const key = compile(json.keys, false);
  const member = compile(json.values.fieldType, false);
  const mismatch = compileMismatch(json);
  return (value, tables) => {
    if (!isObject(value)) return mismatch(value);
    for (const field in value) {
      const badKey = key(field, tables);
      if (badKey !== null) return within(".keys()", badKey);
      const badMember = member(/** @type {Encoded} */ (value[field]), tables);
      if (badMember !== null) return within(".values()", badMember);
    }
    return null;
  };
}

/** @param {ValidatorJson} keys */
function checkRecordKeys(keys) {
  const cases = keys.type === "union" ? keys.value : [keys];
  for (const one of cases) {
    if (one.type === "union") {
      checkRecordKeys(one);
    } else if (one.type === "literal" && typeof one.value === "string") {
      throw new ValidatorError("Records cannot have string literal keys", BAD_RECORD);
    } else if (one.type !== "string" && one.type !== "id") {
      throw new ValidatorError(
        `Records can only have string keys. Your validator contains a record with key typed as \`${printValidator(keys)}\`, which is not a subtype of \`v.string()\``,
        BAD_RECORD,
      );
    }
  }
}

/**
 * @param {ValidatorJson} json
 * @param {boolean} document
 * @returns {Check}
 */
function compileObject(json, document) {
  const known = new Set(Object.keys(json.value));
  const fields = sortedFields(json).map(([name, { fieldType, optional }]) => ({
    name,
    optional,
    inherited: name in Object.prototype, // such a name must not find what every object inherits
    check: compileField(name, fieldType),
  }));
  const mismatch = compileMismatch(json);

  return (value, tables) => {
    if (!isObject(value)) return mismatch(value);
    let present = 0;
    for (const field of fields) {
      const member = field.inherited && !Object.hasOwn(value, field.name) ? undefined : value[field.name];
      if (member !== undefined) {
        present++;
        const failure = field.check(member, tables);
        if (failure !== null) return within(`.${field.name}`, failure);
      } else if (!field.optional) {
        return missingField(value, field.name, json);
      }
    }
    for (const field in value) {
      if (document && isSystemField(field)) continue;
      if (--present < 0) return extraField(value, known, document, json);
    }
    return null;
  };
}

/**
 * @param {string} name
 * @param {ValidatorJson} type
 */
function compileField(name, type) {
  refuse(fieldNameError(name));
  try {
    return compile(type, false);
  } catch (error) {
    if (!(error instanceof ValidatorError)) throw error;
    throw new ValidatorError(`Invalid validator for key \`${name}\`: ${error.message}`, error.code);
  }
}

/** @param {string | null} reason */
function refuse(reason) {
  if (reason !== null) throw new ValidatorError(reason);
}

/**
 * @param {EncodedObject} object
 * @param {string} field
 * @param {ValidatorJson} validator
 * @returns {Failure}
 */
function missingField(object, field, validator) {
  const text = (/** @type {string} */ path) =>
    `Object is missing the required field \`${field}\`. Consider wrapping the field validator in \`v.optional(...)\` if this is expected.\n` +
    `${path}\nObject: ${formatValue(object)}\nValidator: ${printValidator(validator)}`;
  return { path: [], text };
}

/**
 * @param {EncodedObject} object  with at least one field that is not known
 * @param {Set<string>} known
 * @param {boolean} document
 * @param {ValidatorJson} validator
 * @returns {Failure}
 */
function extraField(object, known, document, validator) {
  const text = (/** @type {string} */ path) => {
    const fields = Object.keys(object).sort();
    const extra = fields.find((field) => !known.has(field) && !(document && isSystemField(field)));
    return (
      `Object contains extra field \`${extra}\` that is not in the validator.\n` +
      `${path}\nObject: ${formatValue(object)}\nValidator: ${printValidator(validator)}`
    );
  };
  return { path: [], text };
}

/**
 * @param {ValidatorJson} json
 * @param {boolean} document
 * @returns {Check}
 */
function compileUnion(json, document) {
  const members = /** @type {ValidatorJson[]} */ (json.value).map((member) => compile(member, document));
  const [first] = members;
  if (members.length === 1 && first !== undefined) return first;
  const mismatch = compileMismatch(json);
  return (value, tables) => {
    for (const member of members) if (member(value, tables) === null) return null;
    return mismatch(value);
  };
}

/**
 * @param {Encoded} value
 * @returns {value is EncodedObject} whether it is an object of fields
 */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !isSpecial(value);
}

/**
 * @param {string} place
 * @param {Failure} failure
 */
function within(place, failure) {
  failure.path.push(place);
  return failure;
}
