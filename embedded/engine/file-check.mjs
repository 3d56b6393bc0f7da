/** Says whether a host's file is whole: SQLite's own check, and documents, ids, times, index rows and pushed code that agree. */

import { existsSync } from "node:fs";
import { OperatorError } from "./errors.mjs";
import { decodeId } from "./ids.mjs";
import { indexKey, makeIndex } from "./index-keys.mjs";
import { PUSHED } from "../push/ops.mjs";
import { FILE_FORMAT, openDatabase } from "./sqlite.mjs";
import { rowNumber } from "./documents.mjs";
import { SideIndexCheck } from "./side-index-check.mjs";
import { PLACES } from "./tables.mjs";

const MAX_PROBLEMS = 20; // a broken file would say the same a million times

/**
 * @typedef {import("node:sqlite").DatabaseSync} DatabaseSync
 * @typedef {import("./store.mjs").Index} Index
 * @typedef {object} Health
 * @property {number} documents
 * @property {number} indexRows  those of search and vector indexes too
 * @property {string[]} problems  one line each, at most 20; none: the file is whole
 */

/**
 * Check a file that no host has open. What a crash left in the log beside it is brought into it, as a start would do.
 *
 * @param {string} file
 * @returns {Health}
 * @throws {OperatorError} there is no such file, it is in use, or it is not a host's
 */
export function checkFile(file) {
  if (!existsSync(file)) throw new OperatorError(`${file} is not there`);
  const { database, format } = openDatabase(file, "normal");
  try {
    if (format !== FILE_FORMAT)
      throw new OperatorError(`${file} is not a host's file of format ${FILE_FORMAT}`);
    return new Check(database).run();
  } finally {
    database.close();
  }
}

class Check {
  /** @param {DatabaseSync} database */
  constructor(database) {
    this.#database = database;
  }

  /** @type {DatabaseSync} */
  #database;
  /** @type {string[]} */
  #problems = [];

  /** @returns {Health} */
  run() {
    const health = { documents: 0, indexRows: 0, problems: this.#problems };
    try {
      for (const row of this.#rows("PRAGMA integrity_check")) {
        for (const line of String(row.integrity_check).split("\n")) {
          if (line !== "ok" && !line.startsWith("***")) this.#report(`SQLite: ${line}`);
        }
      }
      health.documents = this.#number("SELECT count(*) AS n FROM docs");
      const indexes = this.#indexes();
      const sides = new SideIndexCheck(this.#database, (problem) => this.#report(problem));
      this.#checkDocuments(indexes, sides);
      health.indexRows = this.#checkIndexRows(indexes) + sides.finish();
      this.#checkPushed();
    } catch (error) {
      if (/** @type {{ code?: string }} */ (error).code !== "ERR_SQLITE_ERROR") throw error;
      this.#report(`SQLite: ${/** @type {Error} */ (error).message}`);
    }
    return health;
  }

  /** What the CLI pushed can be taken up by the next start. */
  #checkPushed() {
    for (const { value } of this.#rows(`SELECT value FROM meta WHERE key = '${PUSHED}'`)) {
      if (typeof parse(value)?.bundle?.code !== "string") this.#report("the pushed code cannot be read");
    }
  }

  /** @returns {Map<number, Index[]>} by table number; every table is there */
  #indexes() {
    /** @type {Map<number, Index[]>} */
    const byTable = new Map();
    for (const { number } of this.#rows("SELECT number FROM tables")) byTable.set(Number(number), []);
    for (const { id, number, name, fields } of this.#rows("SELECT id, number, name, fields FROM indexes")) {
      const paths = parse(fields);
      if (!Array.isArray(paths)) this.#report(`index ${name} has no fields that can be read`);
      const index = makeIndex(Number(id), String(name), Array.isArray(paths) ? paths : [], false);
      const indexes = byTable.get(Number(number));
      if (indexes === undefined) this.#report(`index ${name} belongs to table ${number}, which is not there`);
      else indexes.push(index);
    }
    return byTable;
  }

  /**
   * Each document is what its row says, is newer than the one before it, and stands in every index of its table.
   *
   * @param {Map<number, Index[]>} indexes
   * @param {SideIndexCheck} sides
   */
  #checkDocuments(indexes, sides) {
    const findRow = this.#database.prepare("SELECT pk FROM ix WHERE i = ? AND k = ?");
    const newestAllowed = this.#newestCreationTime();
    let last = { table: 0, ct: 0 };
    for (const { pk, id, ct, json } of this.#rows("SELECT pk, id, ct, json FROM docs ORDER BY pk")) {
      const table = Math.floor(Number(pk) / PLACES);
      const decoded = decodeId(String(id));
      const document = parse(json);
      if (typeof document !== "object" || document === null) {
        this.#report(`document ${id} cannot be read`);
        continue;
      }
      if (decoded === null || rowNumber(decoded.tableNumber, decoded.internal) !== pk)
        this.#report(`row ${pk} holds the document ${id}, whose place is another`);
      if (document._id !== id || document._creationTime !== ct)
        this.#report(`document ${id} differs from its row in its id or creation time`);
      if (table === last.table && Number(ct) <= last.ct)
        this.#report(`document ${id} was created at ${ct}, not after the one before it (${last.ct})`);
      if (Number(ct) > newestAllowed)
        this.#report(`document ${id} was created at ${ct}, after the newest time of the file`);
      last = { table, ct: Number(ct) };
      if (!indexes.has(table)) this.#report(`document ${id} belongs to table ${table}, which is not there`);
      for (const index of indexes.get(table) ?? []) {
        const found = findRow.get(index.id, indexKey(index, document));
        if (found?.pk !== pk) this.#report(`document ${id} is missing in index ${index.name}`);
      }
      sides.checkDocument(table, Number(pk), document);
    }
  }

  /**
   * No index has more rows than its table has documents; since each document has its own, there is none too many.
   *
   * @param {Map<number, Index[]>} indexes
   * @returns {number} rows in all
   */
  #checkIndexRows(indexes) {
    const rows = new Map(
      [...this.#rows("SELECT i, count(*) AS n FROM ix GROUP BY i")].map(({ i, n }) => [Number(i), Number(n)]),
    );
    let all = 0;
    for (const n of rows.values()) all += n;
    for (const [table, ofTable] of indexes) {
      const from = table * PLACES;
      const documents = this.#number(
        "SELECT count(*) AS n FROM docs WHERE pk >= ? AND pk < ?",
        from,
        from + PLACES,
      );
      for (const { id, name } of ofTable) {
        const n = rows.get(id) ?? 0;
        rows.delete(id);
        if (n !== documents)
          this.#report(`index ${name} of table ${table} has ${n} rows for ${documents} documents`);
      }
    }
    for (const [id, n] of rows) this.#report(`${n} index rows belong to index ${id}, which is not there`);
    return all;
  }

  /** Of all that the file has ever acknowledged: what comes later is above it. */
  #newestCreationTime() {
    const [clocks] = this.#rows("SELECT value FROM meta WHERE key = 'clocks'");
    return Number(String(clocks?.value ?? "0 0").split(" ")[1]);
  }

  /** @param {string} sql */
  #rows(sql) {
    return this.#database.prepare(sql).iterate();
  }

  /** @param {string} sql @param {number[]} parameters */
  #number(sql, ...parameters) {
    return Number(this.#database.prepare(sql).get(...parameters)?.n);
  }

  /** @param {string} problem */
  #report(problem) {
    if (this.#problems.length < MAX_PROBLEMS) this.#problems.push(problem);
  }
}

/** @param {unknown} text @returns {any} undefined: it is not JSON */
function parse(text) {
  try {
    return JSON.parse(String(text));
  } catch {
    return undefined;
  }
}
