import { rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, expect, test } from "vitest";
import { SYSTEM_TABLES } from "./layout.mjs";
import { FILE_FORMAT } from "./sqlite.mjs";
import { Store, versionOf } from "./store.mjs";
import { temporaryFolder } from "./testing.mjs";

/** @type {string} */
let root;
/** @type {string} */
let file;
beforeEach(() => {
  root = temporaryFolder();
  file = path.join(root, "store.sqlite");
});
afterEach(() => rmSync(root, { recursive: true }));

const open = () => new Store({ file, synchronous: "full" });

/** @param {Store} store @param {string} table @param {any} fields */
function insert(store, table, fields) {
  const made = store.ensureTable(table);
  const document = store.newDocument(made, fields);
  store.insert(made, versionOf(document));
  return document._id;
}

/** @param {Store} store @param {string} id */
function read(store, id) {
  const place = store.locate(id);
  const row = place === null ? undefined : store.get(place, id);
  return row === undefined ? null : JSON.parse(row.json);
}

test("a file serves one host at a time", () => {
  const store = open();
  expect(open).toThrow(`${file} is in use by another host`);
  store.close();
  open().close();
});

test("a file of a newer host is refused, and left as it is", () => {
  const database = new DatabaseSync(file);
  database.exec(`PRAGMA user_version = ${FILE_FORMAT + 1}; CREATE TABLE later (x)`);
  database.close();
  expect(open).toThrow(
    `${file} was written by a newer host (file format ${FILE_FORMAT + 1}, this host reads ${FILE_FORMAT})`,
  );
  const again = new DatabaseSync(file);
  expect(again.prepare("SELECT name FROM sqlite_schema").all()).toMatchObject([{ name: "later" }]);
  again.close();
});

test("a file of format 1, without search and vector indexes, is brought to this format", () => {
  const store = open();
  const id = insert(store, "a", { text: "tea" });
  store.settle();
  store.commit();
  store.close();
  const database = new DatabaseSync(file);
  database.exec(
    "DROP TABLE side_indexes; DROP TABLE postings; DROP TABLE vectors; PRAGMA user_version = 1; PRAGMA journal_mode = DELETE",
  );
  database.close();
  const again = open();
  const table = /** @type {any} */ (again.table("a"));
  again.setSideIndexes(table, [{ name: "by_text", searchField: "text", filterFields: [], staged: false }]);
  expect(read(again, id)).toMatchObject({ text: "tea" });
  expect(table.sides[0].search({ words: ["tea"], filters: [] })).toHaveLength(1);
  again.close();
});

test("a file of a host with fewer system tables gets the others", () => {
  open().close();
  const database = new DatabaseSync(file);
  database.exec("DELETE FROM tables WHERE name = '_storage'; PRAGMA journal_mode = DELETE");
  database.close();
  const again = open();
  expect(again.tableNumberOf("_storage")).toBe(SYSTEM_TABLES._storage);
  again.close();
});

test("what is no database is refused in one line", () => {
  writeFileSync(file, "these are notes, and more than a hundred bytes of them".repeat(10));
  expect(open).toThrow(`${file} is not a database of this host`);
});

test("a file that cannot be made is named", () => {
  file = path.join(root, "no", "such", "folder", "x.sqlite");
  expect(open).toThrow(/^.*x\.sqlite cannot be opened/);
});

test("what was not committed is gone", () => {
  const store = open();
  const kept = insert(store, "a", { n: 1 });
  store.settle();
  store.commit();
  const lost = insert(store, "b", { n: 2 });
  store.close();
  const again = open();
  expect([read(again, kept)?.n, read(again, lost)]).toEqual([1, null]);
  expect(again.table("b")).toBeUndefined();
  again.close();
});

test("savepoints nest: the inner one is undone alone, tables included", () => {
  const store = open();
  store.savepoint();
  const outer = insert(store, "a", { n: 1 });
  const mark = store.savepoint();
  const inner = insert(store, "b", { n: 2 });
  store.rollback(mark);
  store.release();
  expect([read(store, outer)?.n, read(store, inner), store.table("b")]).toEqual([1, null, undefined]);
  expect(store.log).toHaveLength(1);
  store.close();
});

test("a row that was read is read as it stands: after a write, a rollback, an abort, as of a moment, and when it is gone", () => {
  const store = open();
  const table = store.ensureTable("a");
  const id = insert(store, "a", { x: 1 });
  store.settle();
  store.commit();
  const write = (/** @type {any} */ fields) => {
    const row = store.get(/** @type {any} */ (store.locate(id)), id);
    const after = fields === null ? null : versionOf({ ...read(store, id), ...fields });
    store.replace(table, /** @type {any} */ (row), after);
  };
  for (const fields of [{ x: 2 }, { x: "long".repeat(2000) }, null]) {
    const mark = store.savepoint();
    write(fields);
    expect(read(store, id)).toEqual(fields === null ? null : expect.objectContaining(fields));
    expect(store.without(0, () => read(store, id))).toMatchObject({ x: 1 });
    store.rollback(mark);
    expect(read(store, id)).toMatchObject({ x: 1 });
    write(fields);
    store.abort();
    expect(read(store, id)).toMatchObject({ x: 1 });
  }
  const { ts } = store;
  write({ x: 3 });
  store.settle();
  store.commit();
  expect(store.asOf(ts, () => read(store, id))).toMatchObject({ x: 1 });
  expect(read(store, id)).toMatchObject({ x: 3 });
  store.close();
});

test("only index rows whose key changes are touched", () => {
  const store = open();
  const table = store.ensureTable("a");
  store.setIndexes(table, [
    { name: "by_x", fields: ["x"] },
    { name: "by_y", fields: ["y"] },
  ]);
  const id = insert(store, "a", { x: 1, y: 1 });
  store.settle();
  store.commit();
  const before = store.totalChanges();
  const row = store.get(/** @type {any} */ (store.locate(id)), id);
  store.replace(table, /** @type {any} */ (row), versionOf({ ...read(store, id), y: 2 }));
  expect(store.totalChanges() - before).toBe(2); // the document, and its one row that moves
  store.close();
});
