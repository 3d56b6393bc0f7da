/** The tables of the SQLite file, and every statement that the store runs on them. */

import { FILE_FORMAT } from "./sqlite.mjs";

/** Tables of the host itself, by number. Clients can read those that Convex has. */
export const SYSTEM_TABLES = Object.freeze({
  _scheduled_functions: 1,
  _cron_jobs: 2,
  _storage: 3,
  _environment_variables: 4,
});

const READABLE_SYSTEM_TABLES = new Set(["_scheduled_functions", "_storage"]);

/** @param {string} table @returns {boolean} whether functions see no such table, though the host has one */
export function isHidden(table) {
  return table.startsWith("_") && !READABLE_SYSTEM_TABLES.has(table);
}

const SIDE_INDEXES = `
  CREATE TABLE side_indexes (id INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER NOT NULL, definition TEXT NOT NULL,
    staged INTEGER NOT NULL, documents INTEGER NOT NULL DEFAULT 0, tokens INTEGER NOT NULL DEFAULT 0);
  CREATE TABLE postings (i INTEGER NOT NULL, term BLOB NOT NULL, pk INTEGER NOT NULL, n INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (i, term, pk)) WITHOUT ROWID;
  CREATE TABLE vectors (i INTEGER NOT NULL, pk INTEGER NOT NULL, v BLOB NOT NULL, PRIMARY KEY (i, pk)) WITHOUT ROWID;
`;

const LAYOUT = `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE tables (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, validated TEXT);
  CREATE TABLE indexes (id INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER NOT NULL, name TEXT NOT NULL, fields TEXT NOT NULL,
    staged INTEGER NOT NULL, UNIQUE (number, name));
  CREATE TABLE docs (pk INTEGER PRIMARY KEY, id TEXT NOT NULL, ct REAL NOT NULL, json TEXT NOT NULL);
  CREATE TABLE ix (i INTEGER NOT NULL, k BLOB NOT NULL, pk INTEGER NOT NULL, PRIMARY KEY (i, k)) WITHOUT ROWID;
  CREATE TABLE outcomes (n INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL, request INTEGER NOT NULL, at INTEGER NOT NULL,
    outcome TEXT NOT NULL, UNIQUE (session, request));
  ${SIDE_INDEXES}
`;

/** What brings a file to a format from the one before. @type {Record<number, string>} */
const UPGRADES = { 2: SIDE_INDEXES };

/**
 * Bring a file to the layout of this host.
 *
 * @param {import("node:sqlite").DatabaseSync} database
 * @param {number} format  of the file as it is; 0: it is new
 */
export function createLayout(database, format) {
  database.exec("BEGIN IMMEDIATE");
  if (format === 0) database.exec(LAYOUT);
  for (let next = format + 1; format > 0 && next <= FILE_FORMAT; next++) database.exec(UPGRADES[next] ?? "");
  const insert = database.prepare("INSERT OR IGNORE INTO tables (number, name) VALUES (?, ?)");
  for (const [name, number] of Object.entries(SYSTEM_TABLES)) insert.run(number, name); // a newer host may have more of them
  if (format !== FILE_FORMAT) database.exec(`PRAGMA user_version = ${FILE_FORMAT}`);
  database.exec("COMMIT");
}

const MAX_SAVEPOINTS = 32; // nested calls end long before
const COUNT = "(? + 0)"; // SQLite plans by a bare parameter's value, and so prepares the statement anew for each that is bound

/** @typedef {ReturnType<typeof prepareAll>} Statements */

/** @param {import("node:sqlite").DatabaseSync} database  with the tables in it */
export function prepareAll(database) {
  const sql = (/** @type {string} */ text) => database.prepare(text);
  const bySize = (/** @type {(size: number) => string} */ text) => {
    /** @type {Map<number, import("node:sqlite").StatementSync>} */
    const prepared = new Map();
    return (/** @type {number} */ size) => {
      const known = prepared.get(size) ?? sql(text(size));
      prepared.set(size, known);
      return known;
    };
  };
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
    sizeOfDocs: sql("SELECT total(length(json)) AS n FROM docs WHERE pk >= ? AND pk < ?"),
    countDocs: sql("SELECT count(*) AS n FROM docs WHERE pk >= ? AND pk < ?"),
    countKeys: sql(
      `SELECT count(*) AS n FROM (SELECT 1 FROM ix WHERE i = ? AND k >= ? AND k < ? LIMIT ${COUNT})`,
    ),
    docsFrom: sql("SELECT pk, id, ct, json FROM docs WHERE pk >= ? AND pk < ? ORDER BY pk LIMIT 1"),
    docsUp: sql(`SELECT pk, id, ct, json FROM docs WHERE pk >= ? AND pk < ? ORDER BY pk LIMIT ${COUNT}`),
    docsDown: sql(
      `SELECT pk, id, ct, json FROM docs WHERE pk >= ? AND pk < ? ORDER BY pk DESC LIMIT ${COUNT}`,
    ),
    insertKey: sql("INSERT INTO ix (i, k, pk) VALUES (?, ?, ?)"),
    moveKey: sql("UPDATE ix SET k = ? WHERE i = ? AND k = ?"),
    deleteKey: sql("DELETE FROM ix WHERE i = ? AND k = ?"),
    scanUp: sql(`${scanned} WHERE ix.i = ? AND ix.k >= ? AND ix.k < ? ORDER BY ix.k LIMIT ${COUNT}`),
    scanUpAfter: sql(`${scanned} WHERE ix.i = ? AND ix.k > ? AND ix.k < ? ORDER BY ix.k LIMIT ${COUNT}`),
    scanDown: sql(`${scanned} WHERE ix.i = ? AND ix.k >= ? AND ix.k < ? ORDER BY ix.k DESC LIMIT ${COUNT}`),
    allSideIndexes: sql("SELECT id, number, definition, staged FROM side_indexes ORDER BY id"),
    insertSideIndex: sql("INSERT INTO side_indexes (number, definition, staged) VALUES (?, ?, ?)"),
    setSideStaged: sql("UPDATE side_indexes SET staged = ? WHERE id = ?"),
    getSideIndex: sql("SELECT documents, tokens FROM side_indexes WHERE id = ?"),
    addToSideIndex: sql(
      "UPDATE side_indexes SET documents = documents + ?, tokens = tokens + ? WHERE id = ?",
    ),
    dropSideIndex: sql("DELETE FROM side_indexes WHERE id = ?"),
    insertPosting: sql("INSERT INTO postings (i, term, pk, n, length) VALUES (?, ?, ?, ?, ?)"),
    deletePosting: sql("DELETE FROM postings WHERE i = ? AND term = ? AND pk = ?"),
    dropPostings: sql("DELETE FROM postings WHERE i = ?"),
    countPostings: sql("SELECT count(*) AS n FROM postings WHERE i = ? AND term = ?"),
    nextTerm: sql("SELECT term FROM postings WHERE i = ? AND term > ? AND term < ? ORDER BY term LIMIT 1"),
    /** A term's postings in documents that have each of so many other terms, given first. */
    postings: bySize((size) => {
      const joins = Array.from(
        { length: size },
        (_, n) => `CROSS JOIN postings f${n} ON f${n}.i = p.i AND f${n}.term = ? AND f${n}.pk = p.pk`,
      );
      return `SELECT p.pk, p.n, p.length FROM postings p ${joins.join(" ")} WHERE p.i = ? AND p.term = ?`;
    }),
    insertVector: sql("INSERT INTO vectors (i, pk, v) VALUES (?, ?, ?)"),
    deleteVector: sql("DELETE FROM vectors WHERE i = ? AND pk = ?"),
    dropVectors: sql("DELETE FROM vectors WHERE i = ?"),
    allVectors: sql("SELECT pk, v FROM vectors WHERE i = ?"),
    /** Vectors of documents that have one of so many terms. */
    filteredVectors: bySize((size) => {
      const terms = Array.from({ length: size }, () => "?").join(", ");
      return `SELECT pk, v FROM vectors WHERE i = ? AND pk IN (SELECT pk FROM postings WHERE i = ? AND term IN (${terms}))`;
    }),
    getOutcome: sql("SELECT outcome FROM outcomes WHERE session = ? AND request = ?"),
    setOutcome: sql("INSERT INTO outcomes (session, request, at, outcome) VALUES (?, ?, ?, ?)"),
    oldestOutcome: sql("SELECT at FROM outcomes ORDER BY n LIMIT 1"),
    pruneOutcomes: sql(
      "DELETE FROM outcomes WHERE n IN (SELECT n FROM outcomes ORDER BY n LIMIT 256) AND at < ?",
    ),
  };
}
