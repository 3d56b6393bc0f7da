/** Reads the rows of an index range in order, a page ahead. */

import { rowKey } from "./index-keys.mjs";
import { upTo } from "./index-range.mjs";

/**
 * @typedef {import("./index-range.mjs").Range} Range
 * @typedef {import("./reads.mjs").Reads} Reads
 * @typedef {import("./store.mjs").Row} Row
 * @typedef {import("./store.mjs").Store} Store
 */

const FIRST_READ_AHEAD = 32;
const MAX_READ_AHEAD = 256;

export class RangeRows {
  /**
   * @param {Store} store
   * @param {Range} range
   * @param {number} wanted  rows that will be read at most; Infinity: not known
   */
  constructor(store, range, wanted) {
    this.#store = store;
    this.#range = range;
    this.#readAhead = wanted === Infinity ? FIRST_READ_AHEAD : Math.min(wanted, MAX_READ_AHEAD);
  }

  #store;
  #range;
  #readAhead;
  /** @type {Row[]} */
  #rows = [];
  #position = 0;
  #version = -1;
  #fetchedAll = false;
  #exhausted = false;
  /** @type {Row | undefined} */
  #last;

  /** @returns {Row | null} null at the end */
  next() {
    const row = this.#fetch();
    if (row === null) {
      this.#exhausted = true;
      return null;
    }
    this.#last = row;
    return row;
  }

  /** @returns {Row | null} */
  #fetch() {
    const store = this.#store;
    const stale = this.#version !== store.version; // a write of the same mutation may have changed what lies ahead
    if (this.#position === this.#rows.length || stale) {
      if (this.#fetchedAll && !stale) return null;
      const { table, index, low, high, descending } = this.#range;
      this.#rows = store.scan(table, index, low, high, descending, this.#readAhead, this.#last);
      this.#fetchedAll = this.#rows.length < this.#readAhead;
      this.#position = 0;
      this.#version = store.version;
      this.#readAhead = Math.min(this.#readAhead * 2, MAX_READ_AHEAD);
    }
    return this.#rows[this.#position++] ?? null;
  }

  /** @param {Row} row @returns {Buffer} where it lies in the range */
  keyOf(row) {
    return rowKey(this.#range.index, row);
  }

  /** Tell what has been read so far. @param {Reads | null} reads */
  note(reads) {
    if (this.#exhausted) reads?.addRange(this.#range);
    else if (this.#last !== undefined) reads?.addRange(upTo(this.#range, this.keyOf(this.#last)));
  }
}
