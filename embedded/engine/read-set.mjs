/** What a query read, and which queries a commit touched. */

/**
 * @typedef {{ indexId: number, oldKey: Buffer | null, newKey: Buffer | null }} KeyChange  null: no such row before or after
 * @typedef {{ id: string, table: string, keys: readonly KeyChange[] }} Write
 */

export class ReadSet {
  /** @param {number} indexId @param {Buffer} low inclusive @param {Buffer | null} high exclusive; null: to the end */
  addRange(indexId, low, high) {}
  /** @param {string} id */
  addDocument(id) {}
}

/** @template T */
export class ReadSetRegistry {
  /** @param {T} token @param {ReadSet} readSet  replaces what the token read before; not changed afterwards */
  set(token, readSet) {}
  /** @param {T} token */
  delete(token) {}
  /** @param {Iterable<Write>} writes @returns {Set<T>} */
  touchedBy(writes) { return new Set(); }
}
