/**
 * When a scheduled function that met a conflict, or another fault of the system, runs again.
 *
 * Kept in memory: what waits when the host ends is due at once when it starts again.
 */

/** @typedef {"conflict" | "system" | "cron"} RetryKind  conflict: at the commit of a scheduled mutation; system: it could not run; cron: either */

/** First and longest wait, before chance shortens it; the numbers are Convex's. @type {Record<RetryKind, [firstMs: number, longestMs: number]>} */
const WAITS = {
  conflict: [100, 60_000],
  system: [500, 2 * 3600_000],
  cron: [500, 15_000],
};

/**
 * @param {RetryKind} kind
 * @param {number} failures  before this one
 * @param {number} chance  from 0 to 1
 * @returns {number} ms
 */
export function retryDelay(kind, failures, chance) {
  const [first, longest] = WAITS[kind];
  return Math.floor(Math.min(first * 2 ** failures, longest) * chance);
}

export class Retries {
  /** @param {() => number} random  from 0 to 1 */
  constructor(random) {
    this.#random = random;
  }

  #random;
  /** @type {Map<string, { failures: number, at: number }>} */
  #waiting = new Map();

  /** Ids of the jobs and crons that failed and have not run since. */
  get ids() {
    return this.#waiting;
  }

  /**
   * @param {string} id
   * @param {RetryKind} kind
   * @param {number} now
   */
  failed(id, kind, now) {
    const failures = this.#waiting.get(id)?.failures ?? 0;
    this.#waiting.set(id, { failures: failures + 1, at: now + retryDelay(kind, failures, this.#random()) });
  }

  /** @param {string} id  of what has run, or will not */
  forget(id) {
    this.#waiting.delete(id);
  }

  /** @param {string} id @returns {number} ms at which it may run; the past for what has not failed */
  at(id) {
    return this.#waiting.get(id)?.at ?? -Infinity;
  }
}
