/** One running query: the rows of its range in order, through its filters and limits. */

import { compileFilter } from "./filters.mjs";
import { rowKey } from "./index-keys.mjs";
import { upTo } from "./index-range.mjs";

/**
 * @typedef {import("./store.mjs").Store} Store
 * @typedef {import("./store.mjs").Row} Row
 * @typedef {import("./index-range.mjs").Range} Range
 *
 * @typedef {{ source: any, operators: ({ filter: any } | { limit: number })[] }} QueryJson
 * @typedef {object} Reader  who reads, and is told what
 * @property {Store} store
 * @property {bigint} ts  what an unresolved commit timestamp stands for
 * @property {(json: string) => void} onRow  before the filters see it
 * @property {(range: Range) => void} onRange  what has been read, once
 */

const FIRST_READ_AHEAD = 32;
const MAX_READ_AHEAD = 256;

/** One running query. */
export class Query {
  /**
   * @param {Reader} reader
   * @param {Range | null} range  null: the table does not exist
   * @param {QueryJson["operators"]} operators
   */
  constructor(reader, range, operators) {
    this.#reader = reader;
    this.#range = range;
    this.#operators = operators.map((operator) =>
      "filter" in operator
        ? { matches: compileFilter(operator.filter), left: 0 }
        : { matches: null, left: operator.limit },
    );
    const [first] = this.#operators;
    this.#readAhead = first?.matches === null ? Math.min(first.left, MAX_READ_AHEAD) : FIRST_READ_AHEAD;
  }

  #reader;
  #range;
  #operators;
  #readAhead;
  /** @type {Row[]} */
  #rows = [];
  #position = 0;
  #version = -1;
  #closed = false;
  #fetchedAll = false;
  #exhausted = false;
  /** The last row that was looked at. @type {Row | undefined} */
  last;

  /** @returns {string | null} the next document that passes, as JSON text; null at the end */
  next() {
    while (!this.#limitReached()) {
      const row = this.#nextRow();
      if (row === null) break;
      const { store } = this.#reader;
      const json = store.visible.size === 0 ? row.json : (store.visible.get(row.id) ?? row.json);
      this.#reader.onRow(json);
      if (this.#passes(json)) return json;
    }
    this.close();
    return null;
  }

  /** Report what was read. Nothing can be read afterwards. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    const range = this.#range;
    if (range === null) return;
    if (this.#exhausted) this.#reader.onRange(range);
    else if (this.last !== undefined) this.#reader.onRange(upTo(range, rowKey(range.index, this.last)));
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

  /** @returns {Row | null} */
  #nextRow() {
    const { store } = this.#reader;
    if (this.#position === this.#rows.length || this.#version !== store.version) {
      if (this.#range === null || (this.#fetchedAll && this.#version === store.version)) return this.#end();
      const { table, index, low, high, descending } = this.#range;
      this.#rows = store.scan(table, index, low, high, descending, this.#readAhead, this.last);
      this.#fetchedAll = this.#rows.length < this.#readAhead;
      this.#position = 0;
      this.#version = store.version;
      this.#readAhead = Math.min(this.#readAhead * 2, MAX_READ_AHEAD);
      if (this.#rows.length === 0) return this.#end();
    }
    const row = /** @type {Row} */ (this.#rows[this.#position++]);
    this.last = row;
    return row;
  }

  #end() {
    this.#exhausted = true;
    return null;
  }
}
