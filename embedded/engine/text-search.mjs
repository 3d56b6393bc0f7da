/** Reads the documents that answer a search in texts, best first. */

import { CallError } from "./errors.mjs";
import { isUndefined } from "./filters.mjs";
import { filterTerm } from "./filter-terms.mjs";
import { TextIndex } from "./text-index.mjs";
import { tokenize } from "./tokenizer.mjs";
import { encodeIndexKey } from "./values.mjs";

/**
 * @typedef {import("./reads.mjs").Reads} Reads
 * @typedef {import("./store.mjs").Row} Row
 * @typedef {import("./store.mjs").Store} Store
 * @typedef {import("./tables.mjs").Table} Table
 * @typedef {{ type: "Search", fieldPath: string, value: string } | { type: "Eq", fieldPath: string, value: any }} SearchFilter
 *
 * @typedef {object} Search
 * @property {Table} table
 * @property {TextIndex} textIndex
 * @property {import("./text-index.mjs").TextQuery} query
 * @property {Buffer} low  of the matches' keys, inclusive: they rise with the order of reading
 * @property {Buffer | null} high  exclusive; null: to the end
 * @property {false} descending
 */

const MAX_WORDS = 16; // of the text that is looked for; the others are passed over
const MAX_FILTERS = 8;
export const MAX_MATCHES = 1024; // documents that one search looks at

/**
 * @param {Table} table
 * @param {string} indexName  "table.index"
 * @param {readonly SearchFilter[]} filters
 * @returns {Search}
 * @throws {CallError}
 */
export function compileSearch(table, indexName, filters) {
  const name = indexName.slice(table.name.length + 1);
  const side = table.sides.find(({ definition }) => definition.name === name);
  if (side === undefined) {
    const isOther = table.indexes.some((index) => index.name === name);
    throw new CallError(
      isOther ? `Index ${indexName} is not a search index` : `Index ${indexName} not found.`,
    );
  }
  if (side.definition.staged) {
    throw new CallError(
      `Index ${indexName} is currently staged and not available to query until it is enabled.`,
    );
  }
  if (!(side instanceof TextIndex)) throw new CallError(`Index ${indexName} is not a search index`);
  const query = compileQuery(indexName, side.definition, filters);
  return { table, textIndex: side, query, low: Buffer.alloc(0), high: null, descending: false };
}

/**
 * @param {string} indexName
 * @param {import("./schema.mjs").SearchIndexDefinition} definition
 * @param {readonly SearchFilter[]} filters
 */
function compileQuery(indexName, { searchField, filterFields }, filters) {
  /** @type {string | undefined} */
  let text;
  /** @type {Buffer[]} */
  const terms = [];
  for (const { type, fieldPath, value } of filters) {
    if (type === "Eq") {
      const place = filterFields.indexOf(fieldPath);
      if (place < 0) {
        throw new CallError(
          `Search query against ${indexName} contains an equality filter on "${fieldPath}" but that field isn't indexed for filtering in \`filterFields\`.`,
        );
      }
      terms.push(filterTerm(place, isUndefined(value) ? undefined : value));
    } else if (fieldPath !== searchField) {
      throw new CallError(
        `Search query against ${indexName} contains a search filter against "${fieldPath}", which doesn't match the indexed \`searchField\` "${searchField}".`,
      );
    } else if (text !== undefined) {
      throw new CallError(
        `Search query against ${indexName} contains multiple search filters against "${fieldPath}". Only one is allowed.`,
      );
    } else text = value;
  }
  if (text === undefined) {
    throw new CallError(
      `Search query against ${indexName} does not contain any search filters. You must include a search filter like \`q.search("field", searchText)\`.`,
    );
  }
  if (terms.length > MAX_FILTERS) {
    throw new CallError(
      `Search query against ${indexName} has too many filter conditions. Max: ${MAX_FILTERS} Actual: ${terms.length}`,
    );
  }
  return { words: tokenize(text).slice(0, MAX_WORDS), filters: terms };
}

/** The matches of a search, which is made when the first one is asked for. */
export class SearchRows {
  /**
   * @param {Store} store
   * @param {Search} search
   */
  constructor(store, search) {
    this.#store = store;
    this.#search = search;
  }

  #store;
  #search;
  /** @type {{ pk: number, key: Buffer }[] | null} */
  #matches = null;
  #position = 0;
  /** @type {Map<number, Buffer>} */
  #keys = new Map();

  /** @returns {Row | null} null at the end */
  next() {
    this.#matches ??= this.#find();
    for (;;) {
      if (this.#position === MAX_MATCHES) {
        throw new CallError(
          `Search query scanned too many documents (fetched ${MAX_MATCHES}). Consider using a smaller limit, paginating the query, or using a filter field to limit the number of documents pulled from the search index.`,
        );
      }
      const match = this.#matches[this.#position];
      if (match === undefined) return null;
      this.#position += 1;
      const row = this.#store.rowAt(match.pk);
      if (row === undefined) continue; // the same mutation has deleted it since
      this.#keys.set(row.pk, match.key);
      return row;
    }
  }

  #find() {
    const { textIndex, query, low, high } = this.#search;
    if (query.words.length === 0) return [];
    return textIndex
      .search(query)
      .sort((a, b) => b.score - a.score || b.pk - a.pk)
      .slice(0, MAX_MATCHES)
      .map(({ pk, score }) => ({ pk, key: encodeIndexKey([-score, -pk]) }))
      .filter(({ key }) => Buffer.compare(key, low) >= 0 && (high === null || Buffer.compare(key, high) < 0));
  }

  /** @param {Row} row @returns {Buffer} */
  keyOf(row) {
    return /** @type {Buffer} */ (this.#keys.get(row.pk));
  }

  /** Tell what has been read: all of the search, since any new document could come before the others. @param {Reads | null} reads */
  note(reads) {
    if (this.#matches !== null) reads?.addSearch(this.#search);
  }
}
