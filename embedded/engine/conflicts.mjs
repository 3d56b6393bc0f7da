/**
 * Makes mutations conflict at random, as they do on Convex when what they read has changed before their commit.
 *
 * The host runs one mutation after the other, so none of them ever conflicts by itself. Here one that has written is now and then undone
 * at its end and run again, which shows handlers that count on running once: effects outside of the database, state in module variables.
 */

import { seededRandom } from "../random.mjs";
import { conflictOver } from "./errors.mjs";

/** How often Convex runs a client's mutation again before it gives up (UDF_EXECUTOR_OCC_MAX_RETRIES). */
export const MAX_RERUNS = 4;

export class Conflicts {
  /** @param {{ rate: number, seed: number }} options  rate: from 0 to 1, of all runs that wrote */
  constructor({ rate, seed }) {
    this.#rate = rate;
    this.random = seededRandom(seed);
  }

  #rate;
  /** @type {() => number} from 0 up to 1, the same for the same seed */
  random;
  /** How many runs were undone. */
  count = 0;
  /** What the last of them threw; a function that throws a conflict of its own is not run again at once. @type {Error | null} */
  last = null;

  /**
   * Let a mutation through, or not.
   *
   * @param {readonly import("./store.mjs").Write[]} writes  of this run
   * @throws {import("./errors.mjs").SystemError} the mutation must be undone
   */
  strike(writes) {
    if (writes.length === 0 || this.random() >= this.#rate) return;
    this.count += 1;
    this.last = conflictOver(writes.find(({ table }) => !table.name.startsWith("_"))?.table.name);
    throw this.last;
  }
}
