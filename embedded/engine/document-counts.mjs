/**
 * How many documents each table has, for the metrics: counted once, a bounded part at a time, and kept up to date from then on.
 *
 * Row numbers rise, so what comes is above all that is there: rows below the mark are counted and followed, those above not yet.
 */

import { PLACES } from "./tables.mjs";

const PLACES_AT_ONCE = 100_000; // about 50 ms of reading

/** @typedef {import("./store.mjs").Table} Table */

export class DocumentCounts {
  /** @param {{ count: (table: Table, from: number, to: number) => number }} store  documents by place in their table; `to` is exclusive */
  constructor(store) {
    this.#store = store;
  }

  #store;
  /** Documents of a table whose place is below `mark`. @type {Map<number, { documents: number, mark: number }>} */
  #tables = new Map();

  /** @param {readonly import("./store.mjs").Write[]} writes  that were committed */
  follow(writes) {
    for (const { table, pk, before, after } of writes) {
      const known = this.#tables.get(table.number);
      if (known === undefined || pk % PLACES >= known.mark) continue;
      if (before === null) known.documents += 1;
      if (after === null) known.documents -= 1;
    }
  }

  /**
   * Count on, up to the bound, and tell what is known.
   *
   * @param {readonly Table[]} tables
   * @param {number} [atOnce]  places
   * @returns {{ table: string, documents: number | null }[]} null: not counted to the end yet
   */
  read(tables, atOnce = PLACES_AT_ONCE) {
    let left = atOnce;
    return tables.map((table) => {
      const known = this.#tables.get(table.number) ?? { documents: 0, mark: 0 };
      this.#tables.set(table.number, known);
      if (known.mark !== Infinity) {
        const end = Math.min(table.nextPlace, known.mark + left);
        if (end > known.mark) known.documents += this.#store.count(table, known.mark, end);
        left -= end - known.mark;
        known.mark = end === table.nextPlace ? Infinity : end;
      }
      return { table: table.name, documents: known.mark === Infinity ? known.documents : null };
    });
  }
}
