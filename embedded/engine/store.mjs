/**
 * Documents and index rows in SQLite: scans, writes that can be undone, and the clocks that never go backwards.
 *
 * A document's row number holds its table and its place in that table, rising with `_creationTime`. So rows of a table lie
 * together in the order of `by_creation_time` and of `by_id`, and neither index needs rows of its own.
 */

import { randomFillSync } from "node:crypto";
import { History } from "./history.mjs";
import { decodeId, encodeId, tableNumberOf } from "./ids.mjs";
import { indexKey, rowKey, sameKey } from "./index-keys.mjs";
import { createLayout, prepareAll } from "./layout.mjs";
import { openDatabase } from "./sqlite.mjs";
import { PLACES, Tables } from "./tables.mjs";

/**
 * @typedef {import("./values.mjs").Encoded} Encoded
 * @typedef {import("./values.mjs").EncodedObject} EncodedObject
 * @typedef {EncodedObject & { _id: string, _creationTime: number }} Document
 *
 * @typedef {import("./tables.mjs").Index} Index
 * @typedef {import("./tables.mjs").Table} Table
 *
 * @typedef {object} Row  one stored document
 * @property {number} pk
 * @property {string} id
 * @property {number} ct  its `_creationTime`
 * @property {string} json
 * @property {Uint8Array} [k]  its key in the scanned index; those of the indexes without rows are made when asked for
 *
 * @typedef {object} Write  one change of a document, in the order of writing
 * @property {Table} table
 * @property {number} pk
 * @property {string} id
 * @property {number} ct
 * @property {Document | null} before
 * @property {Document | null} after
 * @property {string | null} jsonBefore
 * @property {string | null} jsonAfter
 * @property {string | undefined} visibleBefore  see `Store.visible`
 */

const PLACE_BYTES = 5;
const CREATION_TIME_STEP = 1 / 4096; // ms; between documents that are made within one ms
const NS_PER_MS = 1_000_000n;
const CLOCKS = "clocks"; // "<newest timestamp> <newest creation time>"

export class Store {
  /**
   * @param {{ file: string, synchronous: "full" | "normal", now?: () => number }} options  now: ms since the epoch
   * @throws {OperatorError}
   */
  constructor({ file, synchronous, now = Date.now }) {
    const { database, format } = openDatabase(file, synchronous);
    this.#database = database;
    this.#now = now;
    createLayout(database, format);
    this.#statements = prepareAll(database);
    this.#tables = new Tables(this.#statements, {
      beginWrite: () => this.#beginWrite(),
      rows: (table) => this.rows(table),
    });
    this.#readClocks();
    this.#history = new History(this.ts);
  }

  /** Newest committed timestamp in nanoseconds. */
  ts = 0n;
  /** What was written since the writer last took it, in order. @type {Write[]} */
  log = [];
  /**
   * Texts of documents with an unresolved commit timestamp, as the mutation that wrote them sees them, by id.
   * The store holds the resolved text from the start, since the next timestamp is known.
   * @type {Map<string, string>}
   */
  visible = new Map();
  /** Grows with each write, so that a scan knows when what it has read ahead is stale. */
  version = 0;

  #database;
  #now;
  #statements;
  #tables;
  #history;
  #lastCreationTime = 0;
  #open = false;
  #savepoints = 0;
  /** How many of them, from the outermost, SQLite has been told of. */
  #knownSavepoints = 0;
  /* ---- transactions ---- */

  /** The timestamp that the next commit will have: above all before, at or above the clock. */
  nextTs() {
    const clock = BigInt(Math.max(this.#now(), Math.ceil(this.#lastCreationTime))) * NS_PER_MS;
    return clock > this.ts ? clock : this.ts + 1n;
  }

  /** Open a savepoint; SQLite hears of it at the first write, so readers pay nothing. @returns {{ log: number }} for `rollback` */
  savepoint() {
    this.#savepoints += 1;
    return { log: this.log.length };
  }

  /** Keep what was written since the innermost savepoint. */
  release() {
    this.#savepoints -= 1;
    if (this.#knownSavepoints > this.#savepoints) this.#forgetSavepoint();
  }

  /**
   * Undo what was written since the innermost savepoint.
   *
   * @param {{ log: number }} mark
   */
  rollback(mark) {
    this.#savepoints -= 1;
    if (this.#knownSavepoints <= this.#savepoints) return; // nothing was written
    this.#statements.rollbackTo[this.#savepoints]?.run();
    this.#forgetSavepoint();
    for (const write of this.log.splice(mark.log).reverse()) this.#restoreVisible(write);
    if (this.#tables.changed) this.#tables.reload();
    this.version += 1;
  }

  #forgetSavepoint() {
    this.#knownSavepoints -= 1;
    this.#statements.release[this.#knownSavepoints]?.run();
  }

  /**
   * Count what the log holds as one commit.
   *
   * @param {bigint} [ts]  at which it was made, from `nextTs`
   * @returns {Write[]} what was written
   */
  settle(ts) {
    const writes = this.log;
    if (writes.length === 0) return writes;
    this.ts = ts ?? this.nextTs();
    this.#history.add(this.ts, this.#now(), writes);
    this.log = [];
    this.visible.clear();
    return writes;
  }

  /** Make everything written so far durable. */
  commit() {
    if (!this.#open) return;
    this.#statements.setMeta.run(CLOCKS, `${this.ts} ${this.#lastCreationTime}`);
    this.#statements.commit.run();
    this.#open = false;
    this.#tables.changed = false;
  }

  /** Drop everything since the last commit. */
  abort() {
    if (this.#open) orIgnore(() => this.#database.exec("ROLLBACK")); // a full disk may have made SQLite roll back by itself
    this.#open = false;
    this.#tables.changed = false;
    this.#savepoints = this.#knownSavepoints = 0;
    this.log = [];
    this.visible.clear();
    this.version += 1;
    this.#readClocks();
    this.#history.truncate(this.ts);
    this.#tables.reload();
  }

  /** Take up the newest timestamp and creation time of the file: all that come are above them. */
  #readClocks() {
    const [ts = "0", creationTime = "0"] = (this.meta(CLOCKS) ?? "0 0").split(" ");
    this.ts = BigInt(ts);
    this.#lastCreationTime = Number(creationTime);
  }

  close() {
    this.abort();
    this.#database.close();
  }

  /** Before each write: let SQLite know of the batch and of the open savepoints. */
  #beginWrite() {
    if (!this.#open) {
      this.#statements.begin.run();
      this.#open = true;
    }
    while (this.#knownSavepoints < this.#savepoints)
      this.#statements.savepoint[this.#knownSavepoints++]?.run();
    this.version += 1;
  }

  /* ---- tables ---- */

  /** @param {string} name @returns {Table | undefined} */
  table(name) {
    return this.#tables.get(name);
  }

  /** @returns {Table[]} */
  tables() {
    return this.#tables.all();
  }

  /** @param {string} name @returns {number | null} */
  tableNumberOf = (name) => this.#tables.get(name)?.number ?? null;

  /** @param {number} number @returns {string | null} */
  tableNameOf = (number) => this.#tables.numbered(number)?.name ?? null;

  /** @param {string} name @returns {Table} the table, made if there was none */
  ensureTable(name) {
    return this.#tables.ensure(name);
  }

  /** @type {Tables["setIndexes"]} */
  setIndexes(table, wanted) {
    this.#tables.setIndexes(table, wanted);
  }

  /** @type {Tables["setSideIndexes"]} */
  setSideIndexes(table, wanted) {
    this.#tables.setSideIndexes(table, wanted);
  }

  /** @type {Tables["validatedAs"]} */
  validatedAs(table) {
    return this.#tables.validatedAs(table);
  }

  /** @type {Tables["setValidatedAs"]} */
  setValidatedAs(table, validator) {
    this.#tables.setValidatedAs(table, validator);
  }

  /**
   * Every document of a table.
   *
   * @param {Table} table
   * @returns {Generator<Row>}
   */
  *rows(table) {
    const page = 256;
    for (let after; ;) {
      const rows = this.scan(table, table.byCreationTime, EMPTY_KEY, null, false, page, after);
      yield* rows;
      if (rows.length < page) return;
      after = rows.at(-1);
    }
  }

  /* ---- documents ---- */

  /** @param {string} id @returns {{ table: Table, pk: number } | null} null for what is no id of a table here; the document may be gone */
  locate(id) {
    const decoded = decodeId(id);
    if (decoded === null) return null;
    const table = this.#tables.numbered(decoded.tableNumber);
    if (table === undefined) return null;
    return { table, pk: rowNumber(table.number, decoded.internal) };
  }

  /** @param {string} id @returns {boolean} whether it is a well-formed id, of whichever table */
  isId(id) {
    return tableNumberOf(id) !== null;
  }

  /**
   * @param {{ pk: number }} place  from `locate`
   * @param {string} id
   * @returns {Row | undefined}
   */
  get({ pk }, id) {
    const row = this.rowAt(pk);
    return row?.id === id ? row : undefined;
  }

  /** @param {number} pk @returns {Row | undefined} */
  rowAt(pk) {
    return /** @type {Row | undefined} */ (/** @type {unknown} */ (this.#statements.getDoc.get(pk)));
  }

  /**
   * The next documents of an index, in order.
   *
   * @param {Table} table
   * @param {Index} index
   * @param {Buffer} low  inclusive
   * @param {Buffer | null} high  exclusive; null: to the end
   * @param {boolean} descending
   * @param {number} limit
   * @param {Row} [after]  the last one read
   * @returns {Row[]}
   */
  scan(table, index, low, high, descending, limit, after) {
    if (index.id < 0) return this.#scanDocs(table, index, low, high, descending, limit, after);
    const { scanUp, scanUpAfter, scanDown } = this.#statements;
    const end = high ?? LAST_KEY;
    const rows = descending
      ? scanDown.all(index.id, low, after?.k ?? end, limit)
      : (after === undefined ? scanUp : scanUpAfter).all(index.id, after?.k ?? low, end, limit);
    return /** @type {Row[]} */ (/** @type {unknown} */ (rows));
  }

  /** As `scan`, for the indexes that are the order of the rows. @param {Table} table @param {Index} index @param {Buffer} low @param {Buffer | null} high @param {boolean} descending @param {number} limit @param {Row} [after] @returns {Row[]} */
  #scanDocs(table, index, low, high, descending, limit, after) {
    const base = table.number * PLACES;
    let first = low.length === 0 ? base : this.#firstAtOrAbove(table, index, low);
    let end = high === null ? base + PLACES : this.#firstAtOrAbove(table, index, high);
    if (after !== undefined && descending) end = after.pk;
    else if (after !== undefined) first = after.pk + 1;
    const { docsUp, docsDown } = this.#statements;
    const rows = (descending ? docsDown : docsUp).all(first, end, limit);
    return /** @type {Row[]} */ (/** @type {unknown} */ (rows));
  }

  /**
   * The first row number of a table whose key is not below `key`: by bisection, since keys rise with row numbers.
   *
   * @param {Table} table
   * @param {Index} index
   * @param {Buffer} key
   */
  #firstAtOrAbove(table, index, key) {
    const base = table.number * PLACES;
    let low = base;
    let high = base + table.nextPlace;
    while (low < high) {
      const middle = low + Math.floor((high - low) / 2);
      const row = /** @type {Row | undefined} */ (
        /** @type {unknown} */ (this.#statements.docsFrom.get(middle, high))
      );
      if (row === undefined) high = middle;
      else if (Buffer.compare(rowKey(index, row), key) < 0) low = row.pk + 1;
      else high = middle;
    }
    return low;
  }

  /**
   * @param {Table} table
   * @param {number} [from]  place in the table
   * @param {number} [to]  exclusive
   * @returns {number} of documents
   */
  count(table, from = 0, to = PLACES) {
    const base = table.number * PLACES;
    return Number(this.#statements.countDocs.get(base + from, base + to)?.n);
  }

  /**
   * @param {Index} index  one with rows
   * @param {Buffer} low  inclusive
   * @param {Buffer} high  exclusive
   * @param {number} most
   * @returns {number} of rows, `most` if there are more
   */
  countKeys(index, low, high, most) {
    return Number(this.#statements.countKeys.get(index.id, low, high, most)?.n);
  }

  /** @param {Table} table @returns {number} characters of its documents as they are stored */
  sizeOf(table) {
    const base = table.number * PLACES;
    return Number(this.#statements.sizeOfDocs.get(base, base + PLACES)?.n);
  }

  /**
   * @param {Table} table
   * @param {EncodedObject} value  without system fields
   * @returns {Document} with them; nothing is written yet
   */
  newDocument(table, value) {
    const internal = randomBytes16();
    const place = table.nextPlace++;
    for (let i = PLACE_BYTES - 1, rest = place; i >= 0; i--, rest = Math.floor(rest / 256))
      internal[i] = rest % 256;
    this.#lastCreationTime = Math.max(this.#now(), this.#lastCreationTime + CREATION_TIME_STEP);
    return { ...value, _creationTime: this.#lastCreationTime, _id: encodeId(table.number, internal) };
  }

  /**
   * @param {Table} table
   * @param {Document} after  from `newDocument`, with resolved timestamps
   * @param {string} [visible]  its text as the writing mutation sees it, if that differs
   */
  insert(table, after, visible) {
    const place = /** @type {{ pk: number }} */ (this.locate(after._id));
    this.#write(
      {
        table,
        pk: place.pk,
        id: after._id,
        ct: after._creationTime,
        before: null,
        after,
        jsonBefore: null,
        jsonAfter: JSON.stringify(after),
        visibleBefore: undefined,
      },
      visible,
    );
  }

  /**
   * @param {Table} table
   * @param {Row} row  as it is stored now
   * @param {Document | null} after  null: delete
   * @param {string} [visible]
   */
  replace(table, row, after, visible) {
    this.#write(
      {
        table,
        pk: row.pk,
        id: row.id,
        ct: row.ct,
        before: JSON.parse(row.json),
        after,
        jsonBefore: row.json,
        jsonAfter: after === null ? null : JSON.stringify(after),
        visibleBefore: this.visible.get(row.id),
      },
      visible,
    );
  }

  /**
   * @param {Write} write
   * @param {string | undefined} visible
   */
  #write(write, visible) {
    this.#beginWrite();
    this.#apply(write, write.before, write.after, write.jsonAfter);
    this.log.push(write);
    if (visible !== undefined) this.visible.set(write.id, visible);
    else if (write.visibleBefore !== undefined) this.visible.delete(write.id);
  }

  /**
   * Store one version of a document in place of another; only index rows whose key differs are touched.
   *
   * @param {Pick<Write, "table" | "pk" | "id" | "ct">} document
   * @param {Document | null} from
   * @param {Document | null} to
   * @param {string | null} json  of `to`
   */
  #apply({ table, pk, id, ct }, from, to, json) {
    const { insertDoc, updateDoc, deleteDoc, insertKey, deleteKey } = this.#statements;
    if (json === null) deleteDoc.run(pk);
    else if (from === null) insertDoc.run(pk, id, ct, json);
    else updateDoc.run(json, pk);
    for (const index of table.indexes) {
      if (from !== null && to !== null && sameKey(index, from, to)) continue;
      if (from !== null) deleteKey.run(index.id, indexKey(index, from));
      if (to !== null) insertKey.run(index.id, indexKey(index, to), pk);
    }
    for (const side of table.sides) side.update(pk, from, to);
  }

  /** @param {Write} write */
  #restoreVisible({ id, visibleBefore }) {
    if (visibleBefore === undefined) this.visible.delete(id);
    else this.visible.set(id, visibleBefore);
  }

  /**
   * Run `read` on the documents as they were before the writes in the log since `from`.
   *
   * @template T
   * @param {number} from  position in the log
   * @param {() => T} read  writes nothing
   * @returns {T}
   */
  without(from, read) {
    const writes = this.log.slice(from);
    if (writes.length === 0) return read();
    const visible = this.visible;
    this.visible = new Map();
    this.version += 1;
    for (const write of writes.toReversed()) this.#apply(write, write.after, write.before, write.jsonBefore);
    try {
      return read();
    } finally {
      for (const write of writes) this.#apply(write, write.before, write.after, write.jsonAfter);
      this.visible = visible;
      this.version += 1;
    }
  }

  /** The oldest timestamp that `asOf` can go back to. */
  get oldestTs() {
    return this.#history.floor;
  }

  /**
   * Run `read` on the documents as they were at an earlier time, between two commits.
   *
   * @template T
   * @param {bigint} ts  at or above `oldestTs`
   * @param {() => T} read  writes nothing
   * @returns {T}
   */
  asOf(ts, read) {
    const changes = this.#history.changesSince(ts);
    if (changes.length === 0) return read();
    const { visible, log } = this;
    const wasOpen = this.#open;
    const mark = this.savepoint();
    this.#beginWrite();
    this.visible = new Map();
    this.log = [];
    try {
      for (const { table: name, pk, id, ct, json } of changes) {
        const table = this.#tables.get(name);
        const now = this.rowAt(pk);
        if (table === undefined || (now?.json ?? null) === json) continue;
        const [from, to] = [now?.json ?? null, json].map((text) => (text === null ? null : JSON.parse(text)));
        this.#apply({ table, pk, id, ct }, from, to, json);
      }
      return read();
    } finally {
      [this.visible, this.log] = [visible, log];
      this.rollback(mark);
      if (!wasOpen) {
        this.#database.exec("ROLLBACK"); // nothing is left to commit, and nobody must wait for the disk
        this.#open = false;
      }
    }
  }

  /* ---- small facts ---- */

  /** @returns {number} how many rows SQLite has written since the file was opened */
  totalChanges() {
    return Number(this.#statements.totalChanges.get()?.n);
  }

  /** @param {string} key @returns {string | null} */
  meta(key) {
    const value = this.#statements.getMeta.get(key)?.value;
    return typeof value === "string" ? value : null;
  }

  /** @param {string} key @param {string} value */
  setMeta(key, value) {
    this.#beginWrite();
    this.#statements.setMeta.run(key, value);
  }

  /**
   * @param {string} session
   * @param {number} request
   * @returns {string | null} what `setOutcome` stored
   */
  outcome(session, request) {
    const outcome = this.#statements.getOutcome.get(session, request)?.outcome;
    return typeof outcome === "string" ? outcome : null;
  }

  /**
   * @param {string} session
   * @param {number} request
   * @param {string} outcome
   */
  setOutcome(session, request, outcome) {
    this.#beginWrite();
    this.#statements.setOutcome.run(session, request, this.#now(), outcome);
  }

  /**
   * Forget one page of old outcomes.
   *
   * @param {number} before  ms since the epoch
   */
  pruneOutcomes(before) {
    const oldest = this.#statements.oldestOutcome.get();
    if (oldest === undefined || Number(oldest.at) >= before) return;
    this.#beginWrite();
    this.#statements.pruneOutcomes.run(before);
  }
}

const randomPool = new Uint8Array(4096);
let poolPosition = randomPool.length;

/** @returns {Uint8Array} 16 bytes, taken from a pool since one call for a few bytes costs as much as one for thousands */
function randomBytes16() {
  if (poolPosition === randomPool.length) {
    randomFillSync(randomPool);
    poolPosition = 0;
  }
  return randomPool.slice(poolPosition, (poolPosition += 16));
}

const EMPTY_KEY = Buffer.alloc(0);
const LAST_KEY = Buffer.from([0xff]); // no key begins with this byte

/**
 * @param {number} tableNumber
 * @param {Uint8Array} internal  of a document's id
 * @returns {number} where the document lies
 */
export function rowNumber(tableNumber, internal) {
  let place = 0;
  for (let i = 0; i < PLACE_BYTES; i++) place = place * 256 + /** @type {number} */ (internal[i]);
  return tableNumber * PLACES + place;
}

/** @param {{ pk: number }} row @returns {boolean} whether it is the first that its table ever had */
export function isFirstOfTable({ pk }) {
  return pk % PLACES === 1;
}

/** @param {() => void} attempt */
function orIgnore(attempt) {
  try {
    attempt();
  } catch {
    // what it was for is so already
  }
}
