/** Documents and index rows in SQLite: writes that can be undone, reads as of before them, and the clocks that never go backwards. */

import { randomBytesOf } from "../random-bytes.mjs";
import { Documents, writePlace } from "./documents.mjs";
import { inFieldOrder } from "./field-order.mjs";
import { History } from "./history.mjs";
import { encodeId } from "./ids.mjs";
import { indexKey, sameKey } from "./index-keys.mjs";
import { createLayout, prepareAll } from "./layout.mjs";
import { openDatabase } from "./sqlite.mjs";
import { Tables } from "./tables.mjs";
import { Transaction } from "./transaction.mjs";

/**
 * @typedef {import("./values.mjs").Encoded} Encoded
 * @typedef {import("./values.mjs").EncodedObject} EncodedObject
 * @typedef {EncodedObject & { _id: string, _creationTime: number }} Document
 *
 * @typedef {import("./documents.mjs").Row} Row
 * @typedef {import("./tables.mjs").Index} Index
 * @typedef {import("./tables.mjs").Table} Table
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
 *
 * @typedef {object} Version  of a document, to be stored
 * @property {Document} document  with resolved timestamps
 * @property {string} json  its text
 * @property {string} [visible]  its text as the writing mutation sees it, if that differs
 */

const INTERNAL_BYTES = 16; // of a document's id
const CREATION_TIME_STEP = 1 / 4096; // ms; between documents that are made within one ms
const NS_PER_MS = 1_000_000n;
const CLOCKS = "clocks"; // "<newest timestamp> <newest creation time>"

/** @param {Document} document  with resolved timestamps, its fields in order @returns {Version} */
export function versionOf(document) {
  return { document, json: JSON.stringify(document) };
}

export class Store extends Documents {
  /**
   * @param {{ file: string, synchronous: "full" | "normal", now?: () => number }} options  now: ms since the epoch
   * @throws {OperatorError}
   */
  constructor({ file, synchronous, now = Date.now }) {
    const { database, format } = openDatabase(file, synchronous);
    createLayout(database, format);
    const statements = prepareAll(database);
    super(statements, (number) => this.#tables.numbered(number));
    this.#database = database;
    this.#now = now;
    this.#statements = statements;
    this.#transaction = new Transaction(database, statements);
    this.#tables = new Tables(statements, {
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
  #transaction;
  #lastCreationTime = 0;

  /* ---- transactions ---- */

  /** The timestamp that the next commit will have: above all before, at or above the clock. */
  nextTs() {
    const clock = BigInt(Math.max(this.#now(), Math.ceil(this.#lastCreationTime))) * NS_PER_MS;
    return clock > this.ts ? clock : this.ts + 1n;
  }

  /** Open a savepoint. @returns {{ log: number }} for `rollback` */
  savepoint() {
    this.#transaction.savepoint();
    return { log: this.log.length };
  }

  /** Keep what was written since the innermost savepoint. */
  release() {
    this.#transaction.release();
  }

  /**
   * Undo what was written since the innermost savepoint.
   *
   * @param {{ log: number }} mark
   */
  rollback(mark) {
    if (!this.#transaction.rollback()) return;
    this.forgetRows();
    for (const write of this.log.splice(mark.log).reverse()) this.#restoreVisible(write);
    if (this.#tables.changed) this.#tables.reload();
    this.version += 1;
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
    if (!this.#transaction.isOpen) return;
    this.#statements.setMeta.run(CLOCKS, `${this.ts} ${this.#lastCreationTime}`);
    this.#transaction.commit();
    this.#tables.changed = false;
  }

  /** Drop everything since the last commit. */
  abort() {
    this.#transaction.abort();
    this.forgetRows();
    this.#tables.changed = false;
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

  #beginWrite() {
    this.#transaction.begin();
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

  /* ---- documents ---- */

  /**
   * @param {Table} table
   * @param {EncodedObject} value  without system fields
   * @returns {Document} with them, its fields in order; nothing is written yet
   */
  newDocument(table, value) {
    const internal = randomBytesOf(INTERNAL_BYTES);
    writePlace(table.nextPlace++, internal);
    this.#lastCreationTime = Math.max(this.#now(), this.#lastCreationTime + CREATION_TIME_STEP);
    const system = { _creationTime: this.#lastCreationTime, _id: encodeId(table.number, internal) };
    return inFieldOrder({ ...system, ...value, ...system }); // first too, where they mostly belong
  }

  /**
   * @param {Table} table
   * @param {Version} after  of a document from `newDocument`
   */
  insert(table, { document, json, visible }) {
    const place = /** @type {{ pk: number }} */ (this.locate(document._id));
    this.#write(
      {
        table,
        pk: place.pk,
        id: document._id,
        ct: document._creationTime,
        before: null,
        after: document,
        jsonBefore: null,
        jsonAfter: json,
        visibleBefore: undefined,
      },
      visible,
    );
  }

  /**
   * @param {Table} table
   * @param {Row} row  as it is stored now
   * @param {Version | null} after  null: delete
   * @param {Document} [before]  what is in `row`
   */
  replace(table, row, after, before = JSON.parse(row.json)) {
    this.#write(
      {
        table,
        pk: row.pk,
        id: row.id,
        ct: row.ct,
        before,
        after: after?.document ?? null,
        jsonBefore: row.json,
        jsonAfter: after?.json ?? null,
        visibleBefore: this.visible.get(row.id),
      },
      after?.visible,
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
    const { insertDoc, updateDoc, deleteDoc, insertKey, moveKey, deleteKey } = this.#statements;
    if (json === null) {
      this.forgetRows(pk);
      deleteDoc.run(pk);
    } else {
      this.keepRow({ pk, id, ct, json });
      if (from === null) insertDoc.run(pk, id, ct, json);
      else updateDoc.run(json, pk);
    }
    for (const index of table.indexes) {
      if (from === null) insertKey.run(index.id, indexKey(index, /** @type {Document} */ (to)), pk);
      else if (to === null) deleteKey.run(index.id, indexKey(index, from));
      else if (!sameKey(index, from, to)) moveKey.run(indexKey(index, to), index.id, indexKey(index, from));
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
    const wasOpen = this.#transaction.isOpen;
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
      if (!wasOpen) this.#transaction.drop();
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
