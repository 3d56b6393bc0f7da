/** Counts failures by key, so that a script can fail a given number of times and then succeed. */

const KEPT = 10_000; // keys; the oldest is forgotten first

export class Tally {
  /** @type {Map<string, number>} */
  #counts = new Map();

  /**
   * Count once more and say whether that is still within `times`.
   * @param {string} key
   * @param {number} times
   */
  within(key, times) {
    const count = (this.#counts.get(key) ?? 0) + 1;
    this.#counts.delete(key); // so that it moves to the end
    this.#counts.set(key, count);
    if (this.#counts.size > KEPT) {
      const [oldest = ""] = this.#counts.keys();
      this.#counts.delete(oldest);
    }
    return count <= times;
  }
}
