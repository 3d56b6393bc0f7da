/** Reads what the scheduler is asked for, with Convex's refusals. */

import { CallError } from "../errors.mjs";
import { idProblem } from "../ids.mjs";

const MAX_SECONDS = 2 ** 64;

/**
 * @param {unknown} ts  seconds since the epoch; what is no number has become null on the way
 * @returns {number} ms, with the microseconds that the seconds' fraction still holds
 * @throws {CallError}
 */
export function scheduledMs(ts) {
  if (typeof ts !== "number") {
    throw new CallError(`Invalid arguments for \`scheduler\`: invalid type: ${typeName(ts)}, expected f64`);
  }
  if (ts < 0) throw refused("value is negative");
  if (ts >= MAX_SECONDS) throw refused("value is either too big or NaN");
  return Math.round(ts * 1e6) / 1e3;
}

/**
 * @param {unknown} id  of a job to cancel
 * @returns {string} an id, of whatever table
 * @throws {CallError}
 */
export function jobId(id) {
  if (typeof id !== "string") {
    throw new CallError(
      `Invalid arguments for \`db.cancel_job\`: invalid type: ${typeName(id)}, expected a string`,
    );
  }
  const problem = idProblem(id);
  if (problem === null) return id;
  throw new CallError(`Invalid argument \`id\` for \`db.cancel_job\`: Unable to decode ID: ${problem}`);
}

/** @param {string} reason */
function refused(reason) {
  return new CallError(`Invalid arguments for \`ts\`: cannot convert float seconds to Duration: ${reason}`);
}

/** @param {unknown} ts  as serde names it */
function typeName(ts) {
  if (ts === null || ts === undefined) return "null";
  return typeof ts === "string" ? `string ${JSON.stringify(ts)}` : typeof ts;
}
