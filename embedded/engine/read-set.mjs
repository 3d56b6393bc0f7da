/**
 * What queries read, and which of them a commit touched.
 *
 * A read set is ranges of index keys and ids of documents. It may grow to cover more than was read (a query then runs once for
 * nothing), never less.
 */

import { RangeTree } from "./range-tree.mjs";

/**
 * @typedef {{ low: Buffer, high: Buffer | null }} Range  low: inclusive; high: exclusive, null: to the end of the index
 * @typedef {{ indexId: number, oldKey: Buffer | null, newKey: Buffer | null }} KeyChange  null: no such row before, or after
 * @typedef {object} Write
 * @property {string} id
 * @property {string} table
 * @property {readonly KeyChange[]} keys  one for each index of the table, those whose key stayed as it was too
 */

const MAX_RANGES = 512; // in one index; a query that reads more point by point is as good as one that reads the whole stretch

export class ReadSet {
  /** @type {Map<number, Range[]>} */
  #ranges = new Map();
  /** @type {Set<string>} */
  #documents = new Set();

  /**
   * @param {number} indexId
   * @param {Buffer} low  inclusive
   * @param {Buffer | null} high  exclusive; null: to the end of the index
   */
  addRange(indexId, low, high) {
    if (high !== null && Buffer.compare(low, high) >= 0) return;
    const ranges = this.#ranges.get(indexId);
    if (ranges === undefined) {
      this.#ranges.set(indexId, [{ low, high }]);
      return;
    }
    ranges.push({ low, high });
    if (ranges.length > MAX_RANGES) this.#ranges.set(indexId, coarsen(mergeRanges(ranges)));
  }

  /** @param {string} id  that was looked up, whether it was there or not */
  addDocument(id) {
    this.#documents.add(id);
  }

  /** @returns {ReadonlyMap<number, readonly Range[]>} by index; sorted, without overlaps */
  get ranges() {
    for (const [indexId, ranges] of this.#ranges) {
      if (ranges.length > 1) this.#ranges.set(indexId, mergeRanges(ranges));
    }
    return this.#ranges;
  }

  /** @returns {ReadonlySet<string>} */
  get documents() {
    return this.#documents;
  }
}

/**
 * @param {Range[]} ranges
 * @returns {Range[]} sorted, those that touch joined
 */
function mergeRanges(ranges) {
  ranges.sort((a, b) => Buffer.compare(a.low, b.low));
  /** @type {Range[]} */
  const merged = [];
  for (const range of ranges) {
    const last = merged.at(-1);
    if (last === undefined || (last.high !== null && Buffer.compare(range.low, last.high) > 0)) {
      merged.push({ ...range });
    } else if (last.high !== null && (range.high === null || Buffer.compare(range.high, last.high) > 0)) {
      last.high = range.high;
    }
  }
  return merged;
}

/**
 * @param {Range[]} ranges  sorted
 * @returns {Range[]} at most half of `MAX_RANGES`, each covering neighbours and the gaps between them
 */
function coarsen(ranges) {
  const neighbours = Math.ceil(ranges.length / (MAX_RANGES / 2));
  /** @type {Range[]} */
  const coarse = [];
  for (let i = 0; i < ranges.length; i += neighbours) {
    const last = /** @type {Range} */ (ranges[Math.min(i + neighbours, ranges.length) - 1]);
    coarse.push({ low: /** @type {Range} */ (ranges[i]).low, high: last.high });
  }
  return coarse;
}

/**
 * The read sets of all subscriptions.
 *
 * @template T  names a subscription
 */
export class ReadSetRegistry {
  /** @type {Map<T, ReadSet>} */
  #readSets = new Map();
  /** @type {Map<number, RangeTree<T>>} */
  #trees = new Map();
  /** @type {Map<string, Set<T>>} */
  #readers = new Map();

  /**
   * @param {T} token
   * @param {ReadSet} readSet  complete; takes the place of what the token read before
   */
  set(token, readSet) {
    this.delete(token);
    this.#readSets.set(token, readSet);
    for (const [indexId, ranges] of readSet.ranges) {
      const tree = getOrMake(this.#trees, indexId, () => new RangeTree());
      for (const { low, high } of ranges) tree.add(low, high, token);
    }
    for (const id of readSet.documents) getOrMake(this.#readers, id, () => new Set()).add(token);
  }

  /** @param {T} token */
  delete(token) {
    const readSet = this.#readSets.get(token);
    if (readSet === undefined) return;
    this.#readSets.delete(token);
    for (const [indexId, ranges] of readSet.ranges) {
      const tree = /** @type {RangeTree<T>} */ (this.#trees.get(indexId));
      for (const { low, high } of ranges) tree.remove(low, high, token);
      if (tree.isEmpty) this.#trees.delete(indexId);
    }
    for (const id of readSet.documents) {
      const readers = /** @type {Set<T>} */ (this.#readers.get(id));
      readers.delete(token);
      if (readers.size === 0) this.#readers.delete(id);
    }
  }

  /** @param {number} indexId @returns {boolean} whether any token has read in that index, so that the keys of a write matter */
  readsIndex(indexId) {
    return this.#trees.has(indexId);
  }

  /**
   * @param {Iterable<Write>} writes  with their keys in the indexes that are read at least
   * @returns {Set<T>} the tokens that may have read something else, had they run after these writes
   */
  touchedBy(writes) {
    /** @type {Set<T>} */
    const touched = new Set();
    for (const { id, keys } of writes) {
      for (const token of this.#readers.get(id) ?? []) touched.add(token);
      for (const { indexId, oldKey, newKey } of keys) {
        const tree = this.#trees.get(indexId);
        if (tree === undefined) continue;
        if (oldKey !== null) tree.collect(oldKey, touched);
        if (newKey !== null && (oldKey === null || !oldKey.equals(newKey))) tree.collect(newKey, touched);
      }
    }
    return touched;
  }
}

/**
 * @template K, V
 * @param {Map<K, V>} map
 * @param {K} key
 * @param {() => V} make
 */
function getOrMake(map, key, make) {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}
