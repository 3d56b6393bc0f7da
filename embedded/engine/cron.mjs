/** Cron specs and the instants they name (UTC). */

/**
 * @typedef {{ type: string, [key: string]: any }} Schedule
 * @typedef {{ name: string, path: string, args: string, schedule: Schedule }} CronSpec  path canonical; args: JSON text of a one-element array
 */

/** A crons module that Convex refuses; the message is one line. */
export class CronError extends Error {}

/** @param {string | null} json what `crons.default.export()` returned; null: no crons @returns {CronSpec[]} @throws {CronError} */
export function parseCrons(json) { return []; }
/** @param {Schedule} schedule @param {number} afterMs  first: now; else the previous scheduled time @param {{ first: boolean }} options @returns {number} ms */
export function nextRun(schedule, afterMs, options) { return afterMs; }
