/** The engine's hand on the virtual clock: it moves within a batch, and the other threads see it move when the batch is committed. */

const KEY = "virtualClock"; // in the store's meta table: the time that the clock had reached

export class VirtualClock {
  /** @param {Float64Array} shared  see clock.mjs */
  constructor(shared) {
    this.#shared = shared;
    this.#now = /** @type {number} */ (shared[0]);
  }

  #shared;
  #now;

  /** Ms since the epoch. */
  now = () => this.#now;

  /**
   * Begin no earlier than the newest time that the file has seen.
   *
   * @param {import("./store.mjs").Store} store
   */
  resume(store) {
    this.advance(Number(store.meta(KEY) ?? 0));
    this.advance(Math.ceil(Number(store.ts) / 1e6));
    this.publish();
  }

  /**
   * It stands at whole milliseconds, as what functions see of a clock: what is due between two of them is due at the later one.
   *
   * @param {number} to  ms; a time that is past changes nothing
   */
  advance(to) {
    this.#now = Math.max(this.#now, Math.ceil(to));
  }

  /** Write down the time that was reached, as part of the open batch. @param {import("./store.mjs").Store} store */
  save(store) {
    store.setMeta(KEY, String(this.#now));
  }

  /** The batch is committed. */
  publish() {
    this.#shared[0] = this.#now;
  }

  /** The batch is undone. */
  rewind() {
    this.#now = /** @type {number} */ (this.#shared[0]);
  }
}
