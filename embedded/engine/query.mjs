/** One running query: the rows of its source in order, through its filters and limits. */

import { compileFilter } from "./filters.mjs";
import { RangeRows } from "./range-rows.mjs";
import { SearchRows } from "./text-search.mjs";

/**
 * @typedef {import("./store.mjs").Store} Store
 * @typedef {import("./store.mjs").Row} Row
 * @typedef {import("./index-range.mjs").Range} Range
 * @typedef {import("./text-search.mjs").Search} Search
 * @typedef {import("./reads.mjs").Reads} Reads
 *
 * @typedef {{ source: any, operators: ({ filter: any } | { limit: number })[] }} QueryJson
 * @typedef {object} Reader  who reads, and is told what
 * @property {Store} store
 * @property {bigint} ts  what an unresolved commit timestamp stands for
 * @property {(json: string, row: Row) => void} onRow  before the filters see it
 * @property {Reads | null} reads
 * @property {() => boolean} [isFull]  asked before each row, whether none may be read any more
 *
 * @typedef {object} Rows  where a query's rows come from
 * @property {() => Row | null} next  null at the end
 * @property {(row: Row) => Buffer} keyOf  its place in the order of reading, for cursors
 * @property {(reads: Reads | null) => void} note  tells what has been read so far
 *
 * @typedef {{ matches: ((document: any) => boolean) | null, left: number }} Operator  a limit when `matches` is null
 */

/** One running query. */
export class Query {
  /**
   * @param {Reader} reader
   * @param {Range | Search | null} source  null: the table does not exist
   * @param {QueryJson["operators"]} operators
   */
  constructor(reader, source, operators) {
    this.#reader = reader;
    this.#operators = operators.map(toOperator);
    if (source === null) this.#rows = null;
    else if ("textIndex" in source) this.#rows = new SearchRows(reader.store, source);
    else this.#rows = this.#rangeRows(source);
  }

  #reader;
  #operators;
  /** @type {Rows | null} */
  #rows;
  #closed = false;
  /** The last row that was looked at. @type {Row | undefined} */
  last;
  /** Whether the source had no more rows, rather than a limit ending the query. */
  exhausted = false;
  /** Whether the reader wanted no more rows. */
  cut = false;

  /** @param {Range} range */
  #rangeRows(range) {
    const { idMatches } = range;
    if (idMatches !== undefined) {
      this.#operators.unshift({ matches: (document) => idMatches(document._id), left: 0 });
    }
    const [first] = this.#operators;
    return new RangeRows(this.#reader.store, range, first?.matches === null ? first.left : Infinity);
  }

  /** @returns {string | null} the next document that passes, as JSON text; null at the end */
  next() {
    while (!this.#limitReached()) {
      if (this.#reader.isFull?.() === true) {
        this.cut = true;
        break;
      }
      const row = this.#rows?.next() ?? null;
      if (row === null) {
        this.exhausted = true;
        break;
      }
      this.last = row;
      const { store } = this.#reader;
      const json = store.visible.size === 0 ? row.json : (store.visible.get(row.id) ?? row.json);
      this.#reader.onRow(json, row);
      if (this.#passes(json)) return json;
    }
    this.close();
    return null;
  }

  /** Report what was read. Nothing can be read afterwards. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.#rows?.note(this.#reader.reads);
  }

  #limitReached() {
    return this.#closed || this.#operators.some(({ matches, left }) => matches === null && left === 0);
  }

  /** @param {string} json */
  #passes(json) {
    let document;
    for (const operator of this.#operators) {
      if (operator.matches === null) operator.left -= 1;
      else if (!operator.matches((document ??= JSON.parse(json)))) return false;
    }
    return true;
  }

  /** @param {Row} row @returns {Buffer} its place in the order of reading */
  keyOf(row) {
    return /** @type {Rows} */ (this.#rows).keyOf(row);
  }
}

/** @param {QueryJson["operators"][number]} operator @returns {Operator} */
function toOperator(operator) {
  return "filter" in operator
    ? { matches: compileFilter(operator.filter), left: 0 }
    : { matches: null, left: operator.limit };
}
