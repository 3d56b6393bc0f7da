/** The range of an index, or the search, that a query reads. */

import { CallError } from "./errors.mjs";
import { isUndefined } from "./filters.mjs";
import { formatValue } from "./format.mjs";
import { isHidden } from "./layout.mjs";
import { compileSearch } from "./text-search.mjs";
import { compareValues, encodeIndexKey, keySuccessor, resolveCommitTs } from "./values.mjs";

/**
 * @typedef {import("./values.mjs").Encoded} Encoded
 * @typedef {import("./store.mjs").Store} Store
 * @typedef {import("./tables.mjs").Table} Table
 * @typedef {import("./tables.mjs").Index} Index
 *
 * @typedef {object} Range
 * @property {Table} table
 * @property {Index} index
 * @property {Buffer} low  inclusive
 * @property {Buffer | null} high  exclusive; null: to the end
 * @property {boolean} descending
 * @property {(id: string) => boolean} [idMatches]  bounds on `_id` behind all other fields, which keys do not hold
 */

/**
 * @param {Store} store
 * @param {bigint} ts  what an unresolved commit timestamp stands for
 * @param {any} source  as the query builder serializes it
 * @returns {Range | import("./text-search.mjs").Search | null} null when the table does not exist
 * @throws {CallError} there is no such index, or the range does not follow its fields
 */
export function compileSource(store, ts, source) {
  const descending = isDescending(source.order);
  switch (source.type) {
    case "FullTableScan": {
      const table = readableTable(store, source.tableName);
      if (table === undefined) return null;
      return { table, index: table.byCreationTime, low: Buffer.alloc(0), high: null, descending };
    }
    case "IndexRange": {
      const { table, index } = findIndex(store, source.indexName);
      return { table, index, descending, ...compileRange(source.indexName, index, source.range, ts) };
    }
    case "Search": {
      const table = readableTable(store, source.indexName.split(".", 1)[0]);
      if (table === undefined) throw new CallError(`Index ${source.indexName} not found.`);
      return compileSearch(table, source.indexName, source.filters);
    }
    default:
      throw new CallError(`Unknown query source ${JSON.stringify(source.type)}`);
  }
}

/** @param {unknown} order */
function isDescending(order) {
  if (order === "desc") return true;
  if (order === undefined || order === null || order === "asc") return false;
  throw new CallError('Invalid argument `query` for `queryStream`: expected "asc" or "desc"');
}

/**
 * @param {Store} store
 * @param {string} name
 */
function readableTable(store, name) {
  return isHidden(name) ? undefined : store.table(name);
}

/**
 * @param {Store} store
 * @param {string} name  "table.index"
 * @returns {{ table: Table, index: Index }}
 */
function findIndex(store, name) {
  const [tableName = "", indexName = ""] = name.split(".");
  const table = readableTable(store, tableName);
  const index = table === undefined ? undefined : indexOf(table, indexName);
  if (table === undefined || index === undefined) {
    const isOther = table?.sides.some(({ definition }) => definition.name === indexName) ?? false;
    throw new CallError(isOther ? `Index ${name} is not a database index` : `Index ${name} not found.`);
  }
  if (index.staged) {
    throw new CallError(`Index ${name} is currently staged and not available to query until it is enabled.`);
  }
  return { table, index };
}

/**
 * @param {Table} table
 * @param {string} name
 */
function indexOf(table, name) {
  if (name === "by_creation_time") return table.byCreationTime;
  if (name === "by_id") return table.byId;
  return table.indexes.find((index) => index.name === name);
}

/**
 * @typedef {{ type: "Eq" | "Gt" | "Gte" | "Lt" | "Lte", fieldPath: string, value: any }} Bound
 */

/**
 * Equalities on the first fields in any order of writing, then at most one bound on each side of the next field.
 *
 * @param {string} indexName
 * @param {Index} index
 * @param {Bound[]} bounds
 * @param {bigint} ts
 * @returns {Pick<Range, "low" | "high" | "idMatches">}
 */
function compileRange(indexName, index, bounds, ts) {
  const { equal, lower, upper } = splitBounds(indexName, bounds, ts);
  const uneven = lower ?? upper;
  checkFields(indexName, index, [...equal.keys()], uneven?.fieldPath);

  const onId = bounds.filter(({ fieldPath }) => fieldPath === "_id" && index.fields[0] !== "_id");
  if (onId.length > 0) {
    const prefix = encodeIndexKey(index.fields.map((field) => equal.get(field)));
    const tests = onId.map((bound) => idTest(bound.type, boundValue(bound, ts)));
    return { low: prefix, high: keySuccessor(prefix), idMatches: (id) => tests.every((test) => test(id)) };
  }
  const prefix = index.fields.slice(0, equal.size).map((field) => equal.get(field));
  const all = encodeIndexKey(prefix);
  const edge = (/** @type {Bound} */ bound) => encodeIndexKey([...prefix, boundValue(bound, ts)]);
  const behind = (/** @type {Buffer} */ key) => keySuccessor(key) ?? key; // keys begin with a tag, far below 0xff
  let low = all;
  if (lower !== undefined) low = lower.type === "Gte" ? edge(lower) : behind(edge(lower));
  let high = all.length === 0 ? null : keySuccessor(all);
  if (upper !== undefined) high = upper.type === "Lt" ? edge(upper) : keySuccessor(edge(upper));
  return { low, high };
}

/** @type {Record<Bound["type"], string>} */
const SIGNS = { Eq: "==", Gt: ">", Gte: ">=", Lt: "<", Lte: "<=" };

/**
 * @param {string} indexName
 * @param {Bound[]} bounds
 * @param {bigint} ts
 * @returns {{ equal: Map<string, Encoded | undefined>, lower: Bound | undefined, upper: Bound | undefined }} equal: by field
 */
function splitBounds(indexName, bounds, ts) {
  /** @type {Map<string, Encoded | undefined>} */
  const equal = new Map();
  /** @type {{ lower?: Bound, upper?: Bound }} */
  const sides = {};
  for (const bound of bounds) {
    const { type, fieldPath } = bound;
    if (type === "Eq") {
      if (equal.has(fieldPath)) throw alreadyDefined("equality", fieldPath, "==", equal.get(fieldPath));
      equal.set(fieldPath, boundValue(bound, ts));
      continue;
    }
    const side = type === "Lt" || type === "Lte" ? "upper" : "lower";
    if (sides[side] !== undefined) throw alreadyDefined(side, fieldPath, SIGNS[type], boundValue(bound, ts));
    const first = (sides.lower ?? sides.upper)?.fieldPath;
    if (first !== undefined && first !== fieldPath) {
      throw new CallError(
        `Upper and lower bounds in \`range\` can only be applied to a single index field. This query against index ${indexName} attempted to set a range bound on both "${first}" and "${fieldPath}". Consider using \`filter\` instead. See https://docs.convex.dev/using/indexes for more info.`,
      );
    }
    sides[side] = bound;
  }
  const uneven = (sides.lower ?? sides.upper)?.fieldPath;
  if (uneven !== undefined && equal.has(uneven)) {
    throw alreadyDefined("inequality", uneven, "==", equal.get(uneven));
  }
  return { equal, lower: sides.lower, upper: sides.upper };
}

/**
 * @param {string} kind
 * @param {string} field
 * @param {string} sign
 * @param {Encoded | undefined} value
 */
function alreadyDefined(kind, field, sign, value) {
  const printed = value === undefined ? "undefined" : formatValue(value);
  return new CallError(
    `Already defined ${kind} bound in index range. Can't add "${field}" ${sign} ${printed}.`,
  );
}

/**
 * @param {string} indexName
 * @param {Index} index
 * @param {string[]} equal  fields
 * @param {string | undefined} uneven  field of the bounds that are no equalities
 */
function checkFields(indexName, index, equal, uneven) {
  const declared = index.fields[0] === "_id" ? [] : index.fields;
  const usable = [...declared, "_id"];
  const used = equal.sort((a, b) => usable.indexOf(a) - usable.indexOf(b));
  if (uneven !== undefined) used.push(uneven);
  const unknown = used.toSorted().find((field) => !usable.includes(field));
  if (unknown !== undefined) {
    throw new CallError(
      `The index range included a comparison with "${unknown}", but ${indexName} with fields ${quotedList(declared)} doesn't index this field. For more information see https://docs.convex.dev/using/indexes.`,
    );
  }
  const wrong = used.find((field, i) => field !== usable[i]);
  if (wrong === undefined) return;
  throw new CallError(
    `Tried to query index ${indexName} but the query didn't use the index fields in order.\n` +
      `Index fields: ${quotedList(declared)}\n` +
      `Query fields: ${quotedList(used)}\n` +
      `First incorrect field: "${wrong}"\n` +
      "For more information see https://docs.convex.dev/using/indexes.",
  );
}

/** @param {readonly string[]} names */
function quotedList(names) {
  return `[${names.map((name) => `"${name}"`).join(", ")}]`;
}

/**
 * @param {Bound["type"]} type
 * @param {Encoded | undefined} value
 * @returns {(id: string) => boolean}
 */
function idTest(type, value) {
  switch (type) {
    case "Eq":
      return (id) => id === value;
    case "Gt":
      return (id) => compareValues(id, value) > 0;
    case "Gte":
      return (id) => compareValues(id, value) >= 0;
    case "Lt":
      return (id) => compareValues(id, value) < 0;
    case "Lte":
      return (id) => compareValues(id, value) <= 0;
  }
}

/**
 * @param {Bound} bound
 * @param {bigint} ts
 * @returns {Encoded | undefined}
 */
function boundValue({ value }, ts) {
  return isUndefined(value) ? undefined : resolveCommitTs(value, ts);
}

/**
 * The part of a range from its beginning, in reading order, to one key.
 *
 * @template {{ low: Buffer, high: Buffer | null, descending: boolean }} T
 * @param {T} range
 * @param {Buffer} key
 * @returns {T}
 */
export function upTo(range, key) {
  return range.descending ? { ...range, low: key } : { ...range, high: after(key) };
}

/**
 * The part of a range behind one key.
 *
 * @template {{ low: Buffer, high: Buffer | null, descending: boolean }} T
 * @param {T} range
 * @param {Buffer} key
 * @returns {T}
 */
export function behind(range, key) {
  return range.descending ? { ...range, high: key } : { ...range, low: after(key) };
}

/** @param {Buffer} key @returns {Buffer} the smallest key above it */
function after(key) {
  return Buffer.concat([key, Buffer.of(0)]);
}
