/** Answers `ctx.vectorSearch` of actions. */

import { CallError } from "./errors.mjs";
import { isUndefined } from "./filters.mjs";
import { filterTerm } from "./filter-terms.mjs";
import { isHidden } from "./layout.mjs";
import { VectorIndex } from "./vector-index.mjs";

/**
 * @typedef {import("./store.mjs").Store} Store
 * @typedef {import("./values.mjs").Encoded} Encoded
 * @typedef {{ indexName: string, limit?: number | null, vector: number[], expressions?: any }} VectorQuery  expressions: the filter
 */

const DEFAULT_LIMIT = 10;
const MAX_LIMIT = 256; // results
const MAX_CONDITIONS = 64; // values in a filter

/**
 * @param {Store} store
 * @param {VectorQuery} query  as npm convex writes it
 * @returns {string} JSON text of `{ results: { _id, _score }[] }`, the nearest first
 * @throws {CallError}
 */
export function vectorSearch(store, { indexName, limit, vector, expressions }) {
  const conditions = filterConditions(expressions ?? null);
  const [tableName = "", name = ""] = indexName.split(".");
  const table = isHidden(tableName) ? undefined : store.table(tableName);
  if (table === undefined) return '{"results":[]}';
  const side = table.sides.find(({ definition }) => definition.name === name);
  if (side === undefined) {
    const isOther = table.indexes.some((index) => index.name === name);
    throw new CallError(
      isOther ? `Index ${indexName} is not a vector index` : `Index ${indexName} not found.`,
    );
  }
  if (side.definition.staged) {
    throw new CallError(
      `Index ${indexName} is currently staged and not available to query until it is enabled.`,
    );
  }
  if (!(side instanceof VectorIndex)) throw new CallError(`Index ${indexName} is not a vector index`);
  const terms = compile(indexName, side.definition, limit ?? DEFAULT_LIMIT, vector, conditions);
  const results = side.search(vector, limit ?? DEFAULT_LIMIT, terms);
  return JSON.stringify({
    results: results.map(({ pk, score }) => ({ _id: store.rowAt(pk)?.id, _score: Math.fround(score) })),
  });
}

/**
 * @param {string} indexName
 * @param {import("./schema.mjs").VectorIndexDefinition} definition
 * @param {number} limit
 * @param {unknown} vector
 * @param {[field: string, value: Encoded | undefined][]} conditions
 * @returns {Buffer[]}
 */
function compile(indexName, { filterFields, dimensions }, limit, vector, conditions) {
  if (!Number.isInteger(limit) || limit < 0) {
    throw new CallError(`Invalid arguments for \`vectorSearch\`: invalid value: ${limit}, expected u32`);
  }
  if (!Array.isArray(vector) || !vector.every((element) => typeof element === "number")) {
    throw new CallError("Invalid arguments for `vectorSearch`: `vector` must be an array of numbers");
  }
  if (limit > MAX_LIMIT) {
    throw new CallError(`Vector queries can fetch at most ${MAX_LIMIT} results, requested ${limit}.`);
  }
  const terms = conditions.map(([field, value]) => {
    const place = filterFields.indexOf(field);
    if (place >= 0) return filterTerm(place, value);
    throw new CallError(
      `Vector query against ${indexName} contains a filter on "${field}" but that field isn't indexed for filtering in \`filterFields\`.`,
    );
  });
  const distinct = [...new Map(terms.map((term) => [term.toString("latin1"), term])).values()];
  if (distinct.length > MAX_CONDITIONS) {
    throw new CallError(
      `Vector query against ${indexName} has too many conditions. Max: ${MAX_CONDITIONS} Actual: ${distinct.length}`,
    );
  }
  if (vector.length !== dimensions) {
    throw new CallError(`Expected a vector with dimensions ${dimensions}, received ${vector.length}.`);
  }
  return distinct;
}

/**
 * @param {any} expression  `$eq` of a field and a value, or an `$or` of such
 * @returns {[field: string, value: Encoded | undefined][]}
 * @throws {CallError}
 */
function filterConditions(expression) {
  if (expression === null) return [];
  if (Array.isArray(expression.$or)) return expression.$or.flatMap(filterConditions);
  if (!Array.isArray(expression.$eq)) {
    throw new CallError("Filters should be a combination of `q.eq` and `q.or`.");
  }
  const [left, right] = expression.$eq;
  if (typeof left?.$field !== "string" || right === null || !Object.hasOwn(right, "$literal")) {
    throw new CallError("`q.eq` must take a field path as its first argument and a value as its second");
  }
  return [[left.$field, isUndefined(right.$literal) ? undefined : right.$literal]];
}
