/**
 * Keeps what the last mutations read and wrote, for the conflict matrix. Only made with `--record`: nothing is noted without it.
 *
 * Keys are kept as texts with one character for each byte, which compare as the bytes do.
 */

import { Reads } from "./reads.mjs";

/** The oldest records give way above either bound. */
const MAX_RECORDS = 10_000;
export const MAX_BYTES = 64 * 1024 * 1024;

const ITEM_BYTES = 64; // what a key, a range or an id costs beside its characters

/**
 * @typedef {object} Recorded  one run of a mutation that was committed
 * @property {string} path
 * @property {boolean} scheduled
 * @property {number} arrived  ms; only differences count
 * @property {string} ts  of its commit, decimal nanoseconds
 * @property {[index: number, low: string, high: string | null][]} ranges  read, by index, sorted and apart; high: exclusive, null: to the end
 * @property {string[]} ids  of documents that were looked up
 * @property {[index: number, key: string][]} keys  index rows that came or went
 * @property {[table: string, id: string][]} documents  written
 * @property {number} touched  subscriptions whose results it made stale
 *
 * @typedef {object} Recording
 * @property {Recorded[]} records  oldest first
 * @property {number} dropped  that gave way
 * @property {Record<number, string>} indexes  "table.index" by number
 * @property {Record<number, string>} tables  names by number, as ids have it
 *
 * @typedef {import("./store.mjs").Write} StoreWrite
 * @typedef {import("./read-set.mjs").Write} Write
 */

export class Recorder {
  /** @param {{ records?: number, bytes?: number }} [limits] */
  constructor({ records = MAX_RECORDS, bytes = MAX_BYTES } = {}) {
    this.#limits = { records, bytes };
  }

  #limits;
  /** @type {{ record: Recorded, bytes: number }[]} */
  #kept = [];
  #bytes = 0;
  #dropped = 0;
  /** The run whose commit comes next. @type {Pick<Recorded, "path" | "scheduled" | "arrived"> & { reads: Reads } | null} */
  #open = null;

  /** @returns {Reads} for a call that begins */
  reads() {
    return new Reads();
  }

  /**
   * A mutation has run and is to be committed.
   *
   * @param {{ path: string, scheduled: boolean, arrived: number, reads: Reads | null }} run
   */
  begin({ reads, ...run }) {
    this.#open = reads === null ? null : { ...run, reads };
  }

  /**
   * It is committed.
   *
   * @param {bigint} ts
   * @param {readonly Write[]} writes
   * @param {number} touched  subscriptions
   */
  commit(ts, writes, touched) {
    if (this.#open === null) return;
    const { path, scheduled, arrived, reads } = this.#open;
    this.#open = null;
    /** @type {Recorded["ranges"]} */
    const ranges = [];
    for (const [index, read] of reads.readSet.ranges) {
      for (const { low, high } of read) ranges.push([index, text(low), high === null ? null : text(high)]);
    }
    /** @type {Recorded["keys"]} */
    const keys = [];
    for (const write of writes) {
      for (const { indexId, oldKey, newKey } of write.keys) {
        if (oldKey !== null) keys.push([indexId, text(oldKey)]);
        if (newKey !== null && !(oldKey?.equals(newKey) ?? false)) keys.push([indexId, text(newKey)]);
      }
    }
    const ids = [...reads.readSet.documents];
    const documents = writes.map(({ table, id }) => /** @type {[string, string]} */ ([table, id]));
    this.#keep({ path, scheduled, arrived, ts: String(ts), ranges, ids, keys, documents, touched });
  }

  /** @param {Recorded} record */
  #keep(record) {
    const { ranges, ids, keys, documents } = record;
    const items = 1 + ranges.length + ids.length + keys.length + documents.length;
    let bytes = items * ITEM_BYTES;
    for (const [, low, high] of ranges) bytes += low.length + (high?.length ?? 0);
    for (const [, key] of keys) bytes += key.length;
    this.#kept.push({ record, bytes });
    this.#bytes += bytes;
    let over = Math.max(0, this.#kept.length - this.#limits.records);
    for (let i = 0; i < this.#kept.length; i++) {
      if (i >= over && this.#bytes <= this.#limits.bytes) break;
      this.#bytes -= /** @type {{ bytes: number }} */ (this.#kept[i]).bytes;
      over = Math.max(over, i + 1);
    }
    if (over > 0) this.#kept.splice(0, over);
    this.#dropped += over;
  }

  /** @param {Iterable<import("./store.mjs").Table>} tables @returns {Recording} */
  recording(tables) {
    /** @type {Record<number, string>} */
    const indexes = {};
    /** @type {Record<number, string>} */
    const names = {};
    for (const { name, number, byId, byCreationTime, indexes: declared, sides } of tables) {
      for (const index of [byId, byCreationTime, ...declared]) indexes[index.id] = `${name}.${index.name}`;
      names[number] = name;
      for (const side of sides) {
        if ("readSetId" in side) indexes[side.readSetId] = `${name}.${side.definition.name}`;
      }
    }
    return {
      records: this.#kept.map(({ record }) => record),
      dropped: this.#dropped,
      indexes,
      tables: names,
    };
  }

  /** Forget everything. @returns {number} how many runs that were */
  clear() {
    const { length } = this.#kept;
    this.#kept = [];
    this.#bytes = this.#dropped = 0;
    return length;
  }
}

/** @param {Buffer} key */
function text(key) {
  return key.toString("latin1");
}
