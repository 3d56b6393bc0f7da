/** The tables of a file: their names, numbers and indexes. */

import { OperatorError } from "./errors.mjs";
import { indexKey, makeIndex, sameFields } from "./index-keys.mjs";
import { sideIndex } from "./side-indexes.mjs";

/**
 * @typedef {import("./layout.mjs").Statements} Statements
 * @typedef {import("./schema.mjs").IndexDefinition} IndexDefinition
 * @typedef {import("./side-indexes.mjs").SideIndex} SideIndex
 * @typedef {import("./side-indexes.mjs").SideDefinition} SideDefinition
 * @typedef {import("./store.mjs").Row} Row
 *
 * @typedef {object} Index
 * @property {number} id  negative for the two indexes without rows
 * @property {string} name
 * @property {string[]} fields  with the implicit `_creationTime` at the end
 * @property {string[][]} paths  the declared fields, split at dots
 * @property {boolean} staged  kept up to date, refused in queries
 *
 * @typedef {object} Table
 * @property {number} number  as ids carry it
 * @property {string} name
 * @property {number} nextPlace
 * @property {Index} byCreationTime
 * @property {Index} byId
 * @property {Index[]} indexes  those with rows
 * @property {SideIndex[]} sides  for search in texts and among vectors
 */

export const PLACES = 2 ** 38; // documents that a table can ever have; with a table number it stays below 2^53
const FIRST_USER_TABLE = 10_001;
const LAST_TABLE = 2 ** 15 - 1;

export class Tables {
  /**
   * @param {Statements} statements
   * @param {{ beginWrite: () => void, rows: (table: Table) => Iterable<Row> }} store
   */
  constructor(statements, { beginWrite, rows }) {
    this.#statements = statements;
    this.#beginWrite = beginWrite;
    this.#rows = rows;
    this.reload();
  }

  #statements;
  #beginWrite;
  #rows;
  /** @type {Map<string, Table>} */
  #byName = new Map();
  /** @type {Map<number, Table>} */
  #byNumber = new Map();
  /** Since it was last set to false, so that a rollback must read the tables again. */
  changed = false;

  /** @param {string} name @returns {Table | undefined} */
  get(name) {
    return this.#byName.get(name);
  }

  /** @param {number} number @returns {Table | undefined} */
  numbered(number) {
    return this.#byNumber.get(number);
  }

  /** @returns {Table[]} */
  all() {
    return [...this.#byName.values()];
  }

  /** @param {string} name @returns {Table} the table, made if there was none */
  ensure(name) {
    const known = this.#byName.get(name);
    if (known !== undefined) return known;
    this.#beginChange();
    const last = Number(this.#statements.lastTable.get()?.last ?? 0);
    const number = Math.max(last + 1, FIRST_USER_TABLE);
    if (number > LAST_TABLE) throw new OperatorError("There are no table numbers left in this file");
    this.#statements.insertTable.run(number, name);
    return this.#register(number, name);
  }

  /** Read the tables and their indexes from the file. */
  reload() {
    this.#byName.clear();
    this.#byNumber.clear();
    for (const row of this.#statements.allTables.all()) this.#register(Number(row.number), String(row.name));
    for (const { id, number, name, fields, staged } of this.#statements.allIndexes.all()) {
      const index = makeIndex(Number(id), String(name), JSON.parse(String(fields)), staged === 1);
      this.#byNumber.get(Number(number))?.indexes.push(index);
    }
    for (const { id, number, definition, staged } of this.#statements.allSideIndexes.all()) {
      const declared = { ...JSON.parse(String(definition)), staged: staged === 1 };
      this.#byNumber.get(Number(number))?.sides.push(sideIndex(this.#statements, Number(id), declared));
    }
  }

  /**
   * @param {number} number
   * @param {string} name
   */
  #register(number, name) {
    const base = number * PLACES;
    const last = this.#statements.lastDoc.get(base, base + PLACES);
    const rowless = { paths: [], staged: false };
    /** @type {Table} */
    const table = {
      number,
      name,
      nextPlace: last === undefined ? 1 : Number(last.pk) - base + 1,
      byCreationTime: { id: -2 * number, name: "by_creation_time", fields: ["_creationTime"], ...rowless },
      byId: { id: -2 * number - 1, name: "by_id", fields: ["_id"], ...rowless },
      indexes: [],
      sides: [],
    };
    this.#byName.set(name, table);
    this.#byNumber.set(number, table);
    return table;
  }

  /**
   * Make a table's indexes the given ones: rows of new ones are written, rows of removed and changed ones are deleted.
   *
   * @param {Table} table
   * @param {readonly (IndexDefinition & { staged?: boolean })[]} wanted
   */
  setIndexes(table, wanted) {
    const kept = [];
    for (const index of table.indexes) {
      const same = wanted.find(({ name, fields }) => name === index.name && sameFields(fields, index));
      if (same === undefined) this.#dropIndex(index);
      else kept.push(this.#setStaged(index, same.staged ?? false));
    }
    table.indexes = kept;
    for (const { name, fields, staged = false } of wanted) {
      if (kept.some((index) => index.name === name)) continue;
      table.indexes.push(this.#addIndex(table, name, fields, staged));
    }
  }

  /** @param {Index} index */
  #dropIndex(index) {
    this.#beginChange();
    this.#statements.dropIndex.run(index.id);
    this.#statements.dropIndexRows.run(index.id);
  }

  /**
   * @param {Index} index
   * @param {boolean} staged
   */
  #setStaged(index, staged) {
    if (index.staged === staged) return index;
    this.#beginChange();
    this.#statements.setStaged.run(Number(staged), index.id);
    return { ...index, staged };
  }

  /**
   * @param {Table} table
   * @param {string} name
   * @param {string[]} fields
   * @param {boolean} staged
   */
  #addIndex(table, name, fields, staged) {
    this.#beginChange();
    const { insertIndex, insertKey } = this.#statements;
    const { lastInsertRowid } = insertIndex.run(table.number, name, JSON.stringify(fields), Number(staged));
    const index = makeIndex(Number(lastInsertRowid), name, fields, staged);
    for (const row of this.#rows(table)) {
      insertKey.run(index.id, indexKey(index, JSON.parse(row.json)), row.pk);
    }
    return index;
  }

  /**
   * As `setIndexes`, for the indexes of texts and vectors.
   *
   * @param {Table} table
   * @param {readonly SideDefinition[]} wanted
   */
  setSideIndexes(table, wanted) {
    const sides = wanted.map((definition) => {
      const text = storedText(definition);
      const same = table.sides.find((side) => storedText(side.definition) === text);
      if (same === undefined) return null;
      if (same.definition.staged === definition.staged) return same;
      this.#beginChange();
      this.#statements.setSideStaged.run(Number(definition.staged), same.id);
      return sideIndex(this.#statements, same.id, definition);
    });
    for (const side of table.sides) {
      if (sides.some((kept) => kept?.id === side.id)) continue;
      this.#beginChange();
      side.drop();
      this.#statements.dropSideIndex.run(side.id);
    }
    table.sides = wanted.map((definition, i) => sides[i] ?? this.#addSideIndex(table, definition));
  }

  /**
   * @param {Table} table
   * @param {SideDefinition} definition
   * @returns {SideIndex}
   */
  #addSideIndex(table, definition) {
    this.#beginChange();
    const { insertSideIndex } = this.#statements;
    const { lastInsertRowid } = insertSideIndex.run(
      table.number,
      storedText(definition),
      Number(definition.staged),
    );
    const side = sideIndex(this.#statements, Number(lastInsertRowid), definition);
    for (const row of this.#rows(table)) side.update(row.pk, null, JSON.parse(row.json));
    return side;
  }

  /** Which validator all documents of the table are known to fit, as text. @param {Table} table @returns {string | null} */
  validatedAs(table) {
    const text = this.#statements.getValidated.get(table.number)?.validated;
    return typeof text === "string" ? text : null;
  }

  /**
   * @param {Table} table
   * @param {string | null} validator
   */
  setValidatedAs(table, validator) {
    this.#beginWrite();
    this.#statements.setValidated.run(validator, table.number);
  }

  #beginChange() {
    this.#beginWrite();
    this.changed = true;
  }
}

/** @param {SideDefinition} definition @returns {string} all of it that its rows depend on */
function storedText(definition) {
  return JSON.stringify({ ...definition, staged: undefined });
}
