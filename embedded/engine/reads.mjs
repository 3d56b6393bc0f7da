/** Notes what one run of a query has read, for its subscription. */

import { ReadSet } from "./read-set.mjs";

/** A pretended table, noted as missing by what depends on which tables there are. */
export const TABLE_OF_TABLES = "_tables";

export class Reads {
  readSet = new ReadSet();
  /** Names of the tables that were read, also of those that do not exist yet. @type {Set<string>} */
  tables = new Set();

  /** @param {import("./index-range.mjs").Range} range */
  addRange({ table, index, low, high }) {
    this.tables.add(table.name);
    this.readSet.addRange(index.id, low, high);
  }

  /** @param {import("./text-search.mjs").Search} search */
  addSearch({ table, textIndex, query }) {
    this.tables.add(table.name);
    for (const { low, high } of textIndex.readRanges(query)) {
      this.readSet.addRange(textIndex.readSetId, low, high);
    }
  }

  /**
   * @param {string} table
   * @param {string} id
   */
  addDocument(table, id) {
    this.tables.add(table);
    this.readSet.addDocument(id);
  }

  /** @param {string} table  that does not exist */
  addMissingTable(table) {
    this.tables.add(table);
  }
}
