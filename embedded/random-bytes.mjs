/** Random bytes, taken from a pool: asking the system for a few costs as much as asking for thousands. */

import { randomFillSync } from "node:crypto";

const pool = new Uint8Array(4096);
let used = pool.length;

/**
 * @param {number} count  at most the pool's 4096
 * @returns {Uint8Array} of its own memory
 */
export function randomBytesOf(count) {
  if (used + count > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  return pool.slice(used, (used += count));
}
