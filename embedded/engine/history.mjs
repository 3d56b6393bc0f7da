/**
 * What the last commits changed, so that a query can be answered as of a moment before them.
 *
 * A ring in memory, bounded in bytes and in age. It keeps texts that the writes have made anyway, so a write pays for one small object.
 */

/**
 * @typedef {import("./store.mjs").Write} Write
 * @typedef {import("./tables.mjs").Table} Table
 *
 * @typedef {object} Change  of one document
 * @property {string} table  by name: a rolled-back batch makes the tables anew
 * @property {number} pk
 * @property {string} id
 * @property {number} ct
 * @property {string | null} json  as it was before; null: it was not there
 *
 * @typedef {{ ts: bigint, at: number, bytes: number, changes: Change[] }} Commit  at: ms since the epoch
 */

const MAX_BYTES = 8 * 1024 * 1024; // of texts, at two bytes for each of their characters at most
const MAX_AGE_MS = 10 * 60 * 1000;
const CHANGE_BYTES = 128; // of a change beside its text
const COMPACT_AT = 1024; // forgotten commits at the front, before the array is cut

export class History {
  /** @param {bigint} ts  of the newest commit, as of which and after which queries can be answered */
  constructor(ts) {
    this.#floor = ts;
  }

  /** @type {Commit[]} */
  #commits = [];
  #first = 0;
  #bytes = 0;
  #floor;

  /** The oldest timestamp that can be gone back to. */
  get floor() {
    return this.#floor;
  }

  /**
   * @param {bigint} ts
   * @param {number} at  ms since the epoch
   * @param {readonly Write[]} writes
   */
  add(ts, at, writes) {
    let bytes = 0;
    const changes = writes.map(({ table, pk, id, ct, jsonBefore }) => {
      bytes += CHANGE_BYTES + 2 * (jsonBefore?.length ?? 0);
      return { table: table.name, pk, id, ct, json: jsonBefore };
    });
    this.#commits.push({ ts, at, bytes, changes });
    this.#bytes += bytes;
    this.#forget(at - MAX_AGE_MS);
  }

  /** @param {number} before  ms since the epoch */
  #forget(before) {
    for (;;) {
      const oldest = this.#commits[this.#first];
      if (oldest === undefined || (oldest.at >= before && this.#bytes <= MAX_BYTES)) break;
      this.#floor = oldest.ts;
      this.#bytes -= oldest.bytes;
      oldest.changes = [];
      this.#first += 1;
    }
    if (this.#first < COMPACT_AT) return;
    this.#commits.splice(0, this.#first);
    this.#first = 0;
  }

  /** Forget the commits after `ts`, which never became durable. @param {bigint} ts */
  truncate(ts) {
    while (this.#commits.length > this.#first && /** @type {Commit} */ (this.#commits.at(-1)).ts > ts) {
      this.#bytes -= /** @type {Commit} */ (this.#commits.pop()).bytes;
    }
    if (this.#floor > ts) this.#floor = ts;
  }

  /**
   * @param {bigint} ts  at or above `floor`
   * @returns {Change[]} each document that was changed since, as it was then
   */
  changesSince(ts) {
    /** @type {Map<number, Change>} */
    const oldest = new Map();
    for (let i = this.#commits.length - 1; i >= this.#first; i--) {
      const commit = /** @type {Commit} */ (this.#commits[i]);
      if (commit.ts <= ts) break;
      for (const change of commit.changes.toReversed()) oldest.set(change.pk, change);
    }
    return [...oldest.values()];
  }
}
