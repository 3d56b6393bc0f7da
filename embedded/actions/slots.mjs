/** Lets so many in at a time; the others wait in line, most of them not for ever. */

export class Slots {
  /**
   * @param {number} count
   * @param {number} waitMs  how long one waits in line
   */
  constructor(count, waitMs) {
    this.#free = count;
    this.#waitMs = waitMs;
  }

  #free;
  #waitMs;
  /** @type {Set<(granted: boolean) => void>} */
  #line = new Set();

  /**
   * @param {{ patient: boolean }} how  patient: waits as long as it takes
   * @returns {Promise<boolean> | boolean} whether there was a place within the time; each place is given back with `release`
   */
  take({ patient }) {
    if (this.#free > 0) {
      this.#free -= 1;
      return true;
    }
    return new Promise((resolve) => {
      const timer = patient ? undefined : setTimeout(() => leave(false), this.#waitMs);
      const leave = (/** @type {boolean} */ granted) => {
        clearTimeout(timer);
        this.#line.delete(leave);
        resolve(granted);
      };
      this.#line.add(leave);
    });
  }

  release() {
    const [first] = this.#line;
    if (first === undefined) this.#free += 1;
    else first(true);
  }
}
