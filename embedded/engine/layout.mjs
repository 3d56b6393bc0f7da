/** The tables of the SQLite file, and every statement that the store runs on them. */

import { FILE_FORMAT } from "./sqlite.mjs";

/** Tables of the host itself, by number. Clients can read those that Convex has. */
export const SYSTEM_TABLES = Object.freeze({ _scheduled_functions: 1, _cron_jobs: 2, _storage: 3 });

const READABLE_SYSTEM_TABLES = new Set(["_scheduled_functions", "_storage"]);

/** @param {string} table @returns {boolean} whether functions see no such table, though the host has one */
export function isHidden(table) {
  return table.startsWith("_") && !READABLE_SYSTEM_TABLES.has(table);
}

export const LAYOUT = `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE tables (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, validated TEXT);
  CREATE TABLE indexes (id INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER NOT NULL, name TEXT NOT NULL, fields TEXT NOT NULL,
    staged INTEGER NOT NULL, UNIQUE (number, name));
  CREATE TABLE docs (pk INTEGER PRIMARY KEY, id TEXT NOT NULL, ct REAL NOT NULL, json TEXT NOT NULL);
  CREATE TABLE ix (i INTEGER NOT NULL, k BLOB NOT NULL, pk INTEGER NOT NULL, PRIMARY KEY (i, k)) WITHOUT ROWID;
  CREATE TABLE outcomes (n INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL, request INTEGER NOT NULL, at INTEGER NOT NULL,
    outcome TEXT NOT NULL, UNIQUE (session, request));
  PRAGMA user_version = ${FILE_FORMAT};
`;

const MAX_SAVEPOINTS = 32; // nested calls end long before

/** @param {import("node:sqlite").DatabaseSync} database  with the tables in it */
export function prepareAll(database) {
  const sql = (/** @type {string} */ text) => database.prepare(text);
  const depths = Array.from({ length: MAX_SAVEPOINTS }, (_, depth) => `s${depth}`);
  const scanned =
    "SELECT ix.k, docs.pk, docs.id, docs.ct, docs.json FROM ix CROSS JOIN docs ON docs.pk = ix.pk";
  return {
    begin: sql("BEGIN IMMEDIATE"),
    commit: sql("COMMIT"),
    savepoint: depths.map((name) => sql(`SAVEPOINT ${name}`)),
    release: depths.map((name) => sql(`RELEASE ${name}`)),
    rollbackTo: depths.map((name) => sql(`ROLLBACK TO ${name}`)),
    totalChanges: sql("SELECT total_changes() AS n"),
    getMeta: sql("SELECT value FROM meta WHERE key = ?"),
    setMeta: sql(
      "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    ),
    allTables: sql("SELECT number, name FROM tables ORDER BY number"),
    lastTable: sql("SELECT max(number) AS last FROM tables"),
    insertTable: sql("INSERT INTO tables (number, name) VALUES (?, ?)"),
    getValidated: sql("SELECT validated FROM tables WHERE number = ?"),
    setValidated: sql("UPDATE tables SET validated = ? WHERE number = ?"),
    allIndexes: sql("SELECT id, number, name, fields, staged FROM indexes ORDER BY id"),
    insertIndex: sql("INSERT INTO indexes (number, name, fields, staged) VALUES (?, ?, ?, ?)"),
    setStaged: sql("UPDATE indexes SET staged = ? WHERE id = ?"),
    dropIndex: sql("DELETE FROM indexes WHERE id = ?"),
    dropIndexRows: sql("DELETE FROM ix WHERE i = ?"),
    getDoc: sql("SELECT pk, id, ct, json FROM docs WHERE pk = ?"),
    insertDoc: sql("INSERT INTO docs (pk, id, ct, json) VALUES (?, ?, ?, ?)"),
    updateDoc: sql("UPDATE docs SET json = ? WHERE pk = ?"),
    deleteDoc: sql("DELETE FROM docs WHERE pk = ?"),
    lastDoc: sql("SELECT pk FROM docs WHERE pk >= ? AND pk < ? ORDER BY pk DESC LIMIT 1"),
    countDocs: sql("SELECT count(*) AS n FROM docs WHERE pk >= ? AND pk < ?"),
    docsFrom: sql("SELECT pk, id, ct, json FROM docs WHERE pk >= ? AND pk < ? ORDER BY pk LIMIT 1"),
    docsUp: sql("SELECT pk, id, ct, json FROM docs WHERE pk >= ? AND pk < ? ORDER BY pk LIMIT ?"),
    docsDown: sql("SELECT pk, id, ct, json FROM docs WHERE pk >= ? AND pk < ? ORDER BY pk DESC LIMIT ?"),
    insertKey: sql("INSERT INTO ix (i, k, pk) VALUES (?, ?, ?)"),
    deleteKey: sql("DELETE FROM ix WHERE i = ? AND k = ?"),
    scanUp: sql(`${scanned} WHERE ix.i = ? AND ix.k >= ? AND ix.k < ? ORDER BY ix.k LIMIT ?`),
    scanUpAfter: sql(`${scanned} WHERE ix.i = ? AND ix.k > ? AND ix.k < ? ORDER BY ix.k LIMIT ?`),
    scanDown: sql(`${scanned} WHERE ix.i = ? AND ix.k >= ? AND ix.k < ? ORDER BY ix.k DESC LIMIT ?`),
    getOutcome: sql("SELECT outcome FROM outcomes WHERE session = ? AND request = ?"),
    setOutcome: sql("INSERT INTO outcomes (session, request, at, outcome) VALUES (?, ?, ?, ?)"),
    oldestOutcome: sql("SELECT at FROM outcomes ORDER BY n LIMIT 1"),
    pruneOutcomes: sql(
      "DELETE FROM outcomes WHERE n IN (SELECT n FROM outcomes ORDER BY n LIMIT 256) AND at < ?",
    ),
  };
}
