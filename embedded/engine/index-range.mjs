/** The range of an index that a query reads. */

import { CallError } from "./errors.mjs";
import { isUndefined } from "./filters.mjs";
import { encodeIndexKey, keySuccessor, resolveCommitTs } from "./values.mjs";

/**
 * @typedef {import("./values.mjs").Encoded} Encoded
 * @typedef {import("./store.mjs").Store} Store
 * @typedef {import("./store.mjs").Table} Table
 * @typedef {import("./store.mjs").Index} Index
 *
 * @typedef {object} Range
 * @property {Table} table
 * @property {Index} index
 * @property {Buffer} low  inclusive
 * @property {Buffer | null} high  exclusive; null: to the end
 * @property {boolean} descending
 */

/**
 * @param {Store} store
 * @param {bigint} ts  what an unresolved commit timestamp stands for
 * @param {any} source  as the query builder serializes it
 * @returns {Range | null} null when the table does not exist
 * @throws {CallError} there is no such index, or the range does not follow its fields
 */
export function compileSource(store, ts, source) {
  const descending = source.order === "desc";
  switch (source.type) {
    case "FullTableScan": {
      const table = store.table(source.tableName);
      if (table === undefined) return null;
      return { table, index: table.byCreationTime, low: Buffer.alloc(0), high: null, descending };
    }
    case "IndexRange": {
      const [tableName = "", indexName = ""] = String(source.indexName).split(".");
      const table = store.table(tableName);
      if (table === undefined && (indexName === "by_id" || indexName === "by_creation_time")) return null;
      const index = table === undefined ? undefined : findIndex(table, indexName);
      if (table === undefined || index === undefined)
        throw new CallError(`Index ${source.indexName} not found.`);
      if (index.staged) {
        throw new CallError(
          `Index ${source.indexName} is staged: it cannot be queried before it is enabled.`,
        );
      }
      return { table, index, descending, ...compileRange(source.indexName, index, source.range, ts) };
    }
    case "Search":
      throw new CallError(
        `Search index ${source.indexName} cannot be queried: this host has no text search.`,
      );
    default:
      throw new CallError(`Unknown query source ${JSON.stringify(source.type)}`);
  }
}

/**
 * @param {Table} table
 * @param {string} name
 */
function findIndex(table, name) {
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
 * @returns {{ low: Buffer, high: Buffer | null }}
 */
function compileRange(indexName, index, bounds, ts) {
  /** @type {Map<string, Bound>} */
  const equal = new Map();
  /** @type {Bound[]} */
  const uneven = [];
  for (const bound of bounds) {
    if (bound.type !== "Eq") uneven.push(bound);
    else if (equal.has(bound.fieldPath))
      refuse(indexName, index, bounds, `"${bound.fieldPath}" has two equalities`);
    else equal.set(bound.fieldPath, bound);
  }
  /** @type {(Encoded | undefined)[]} */
  const prefix = [];
  for (const field of index.fields) {
    const bound = equal.get(field);
    if (bound === undefined) break;
    prefix.push(boundValue(bound, ts));
  }
  if (prefix.length < equal.size) {
    refuse(indexName, index, bounds, "equalities must cover the first fields of the index without a gap");
  }
  const next = index.fields[prefix.length];
  const wrong = uneven.find(({ fieldPath }) => fieldPath !== next);
  if (wrong !== undefined) {
    refuse(
      indexName,
      index,
      bounds,
      `a bound must be on the field behind the equalities, not on "${wrong.fieldPath}"`,
    );
  }
  const lower = onlyBound(uneven, "Gt", "Gte", () =>
    refuse(indexName, index, bounds, "there are two lower bounds"),
  );
  const upper = onlyBound(uneven, "Lt", "Lte", () =>
    refuse(indexName, index, bounds, "there are two upper bounds"),
  );
  const all = encodeIndexKey(prefix);
  const edge = (/** @type {Bound} */ bound) => encodeIndexKey([...prefix, boundValue(bound, ts)]);
  return {
    low:
      lower === undefined
        ? all
        : lower.type === "Gte"
          ? edge(lower)
          : (keySuccessor(edge(lower)) ?? edge(lower)),
    high:
      upper === undefined
        ? all.length === 0
          ? null
          : keySuccessor(all)
        : upper.type === "Lt"
          ? edge(upper)
          : keySuccessor(edge(upper)),
  };
}

/**
 * @param {Bound[]} bounds
 * @param {Bound["type"]} open
 * @param {Bound["type"]} closed
 * @param {() => never} refuseSecond
 */
function onlyBound(bounds, open, closed, refuseSecond) {
  const found = bounds.filter(({ type }) => type === open || type === closed);
  return found.length > 1 ? refuseSecond() : found[0];
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
 * @param {string} indexName
 * @param {Index} index
 * @param {Bound[]} bounds
 * @param {string} reason
 * @returns {never}
 */
function refuse(indexName, index, bounds, reason) {
  throw new CallError(
    `Tried to query index ${indexName} but the query didn't use the index fields in order: ${reason}.\n` +
      `Index fields: ${JSON.stringify(index.fields)}\n` +
      `Query fields: ${JSON.stringify(bounds.map(({ fieldPath }) => fieldPath))}\n` +
      "For more information see https://docs.convex.dev/using/indexes.",
  );
}

/**
 * The part of a range from its beginning, in reading order, to one key.
 *
 * @param {Range} range
 * @param {Buffer} key
 * @returns {Range}
 */
export function upTo(range, key) {
  return range.descending ? { ...range, low: key } : { ...range, high: after(key) };
}

/**
 * The part of a range behind one key.
 *
 * @param {Range} range
 * @param {Buffer} key
 * @returns {Range}
 */
export function behind(range, key) {
  return range.descending ? { ...range, high: key } : { ...range, low: after(key) };
}

/** @param {Buffer} key @returns {Buffer} the smallest key above it */
function after(key) {
  return Buffer.concat([key, Buffer.of(0)]);
}
