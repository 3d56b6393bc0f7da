/** What actions may use, with Convex's numbers; but 64 MB of memory for each of them cannot be told apart here. */

/**
 * @typedef {object} ActionLimits
 * @property {number} seconds  that one action may take
 * @property {number} running  actions at a time
 * @property {number} waitMs  how long the next one waits for a place
 * @property {number} heapMb  of all actions of a thread together
 */

/** @type {Readonly<ActionLimits>} */
export const CONVEX_ACTION_LIMITS = Object.freeze({ seconds: 600, running: 64, waitMs: 10_000, heapMb: 256 });

const LIMIT_VARIABLE = "ACTIONS_USER_TIMEOUT_SECS";

/**
 * @param {Record<string, string | undefined>} environment  the host's
 * @returns {number} seconds that one action may take
 * @throws {RangeError} the variable is no positive number; one line for the operator
 */
export function actionSeconds(environment) {
  const text = environment[LIMIT_VARIABLE];
  if (text === undefined || text === "") return CONVEX_ACTION_LIMITS.seconds;
  const seconds = Number(text);
  if (seconds > 0 && seconds <= 86_400) return seconds;
  throw new RangeError(
    `${LIMIT_VARIABLE} must be a number of seconds, above 0 and up to 86400, not '${text}'`,
  );
}
