/** Feeds the engine with the mutations of one socket, in their order, and only while the client takes what they answer. */

/**
 * @typedef {import("../calls.mjs").AnyCall} AnyCall
 * @typedef {import("../engine-client.mjs").Listener} Listener
 */

/** Enough to fill the engine's batches, few enough that their results fit into the memory while nobody reads them. */
export const MAX_RUNNING = 16;

export class MutationQueue {
  /**
   * @param {(call: AnyCall, listener: Listener) => void} run
   * @param {() => boolean} isFull  whether the client has much to read
   */
  constructor(run, isFull) {
    this.#run = run;
    this.#isFull = isFull;
  }

  #run;
  #isFull;
  #running = 0;
  /** @type {{ call: AnyCall, listener: Listener }[]} */
  #waiting = [];

  /** Mutations without an answer. */
  get size() {
    return this.#running + this.#waiting.length;
  }

  /**
   * @param {AnyCall} call
   * @param {Listener} listener
   */
  add(call, listener) {
    this.#waiting.push({ call, listener });
    this.wake();
  }

  /** Go on, if the client has read. */
  wake() {
    while (this.#waiting.length > 0 && this.#running < MAX_RUNNING && !this.#isFull()) {
      const { call, listener } = /** @type {{ call: AnyCall, listener: Listener }} */ (this.#waiting.shift());
      this.#running += 1;
      this.#run(call, (reply) => {
        this.#running -= 1;
        listener(reply);
        this.wake();
      });
    }
  }

  /** Forget what has not begun. */
  clear() {
    this.#waiting = [];
  }
}
