/**
 * The virtual clock: time that stands still until somebody advances it.
 *
 * It is one number in memory that all threads share, ms since the epoch. The engine thread alone moves it, and only once what ran at a
 * time is committed, so nobody ever sees a time that a crash could take back.
 */

/** Timestamps are nanoseconds in 64 bits, which end in 2262. */
export const LAST_TIME_MS = Date.UTC(2262, 0, 1);

const ISO = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d))?$/;

/**
 * @param {number} startMs  earlier than what the file has seen: the engine starts at that
 * @returns {Float64Array} one element
 */
export function makeClock(startMs) {
  const clock = new Float64Array(new SharedArrayBuffer(Float64Array.BYTES_PER_ELEMENT));
  clock[0] = startMs;
  return clock;
}

/**
 * @param {Float64Array | null} clock  null: the machine's
 * @returns {() => number} ms since the epoch
 */
export function reader(clock) {
  return clock === null ? Date.now : () => /** @type {number} */ (clock[0]);
}

/** Ms that run evenly and mean the same on every thread, whatever is done to the machine's clock. */
export function wallTime() {
  return performance.timeOrigin + performance.now();
}

/**
 * Read a moment that somebody wrote down.
 *
 * @param {unknown} value  ms since the epoch, or an ISO date or time with its zone
 * @returns {number | null} whole ms; null for anything else, and for times that no timestamp can have
 */
export function parseMoment(value) {
  const ms = typeof value === "string" && ISO.test(value) ? Date.parse(value) : value;
  return typeof ms === "number" && Number.isInteger(ms) && ms >= 0 && ms <= LAST_TIME_MS ? ms : null;
}
