/** Cron specs: what a crons module declares, and when each is due (UTC). */

import { canonicalPath } from "../paths.mjs";
import { CronExpressionError, nextOccurrence, parseCronExpression } from "./cron-expression.mjs";

/**
 * @typedef {"sunday" | "monday" | "tuesday" | "wednesday" | "thursday" | "friday" | "saturday"} Weekday
 * @typedef {{ type: "interval", seconds?: number, minutes?: number, hours?: number }
 *   | { type: "hourly", minuteUTC?: number }
 *   | { type: "daily", hourUTC: number, minuteUTC?: number }
 *   | { type: "weekly", dayOfWeek: Weekday, hourUTC: number, minuteUTC?: number }
 *   | { type: "monthly", day: number, hourUTC: number, minuteUTC?: number }
 *   | { type: "cron", cron: string }} Schedule  as `crons.export()` writes it
 * @typedef {object} CronSpec
 * @property {string} name
 * @property {string} path  canonical
 * @property {string} args  JSON text of a one-element array
 * @property {Schedule} schedule
 */

const SECOND_MS = 1000;
/** Their numbers, from Sunday's 0. @type {ReadonlyMap<string, number>} */
export const WEEKDAYS = new Map(
  ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"].map((day, i) => [day, i]),
);

/** A crons module that Convex refuses; the message is one line. */
export class CronError extends Error {}

/**
 * @param {string | null} json  what `crons.default.export()` returned; null: the functions folder has no crons
 * @param {(path: string) => "query" | "mutation" | "action" | null} kindOf  a function of the same folder
 * @returns {CronSpec[]}
 * @throws {CronError}
 */
export function parseCrons(json, kindOf) {
  if (json === null) return [];
  const declared = /** @type {{ name: string, args: unknown[], schedule: Schedule }[]} */ (JSON.parse(json));
  return Object.entries(declared).map(([name, { name: target, args, schedule }]) => {
    checkIdentifier(name);
    const path = canonicalPath(target);
    const kind = kindOf(path);
    if (kind === null) {
      throw new CronError(`The cron job '${name}' schedules a function that does not exist: ${target}`);
    }
    if (kind === "query") {
      throw new CronError(
        `The cron job '${name}' schedules a query function, only actions and mutations can be scheduled: ${target}`,
      );
    }
    checkSchedule(name, schedule);
    return { name, path, args: JSON.stringify(args), schedule };
  });
}

/** @param {string} name */
function checkIdentifier(name) {
  const [bad] = /[^\x20-\x7e]/u.exec(name) ?? [];
  if (bad === undefined) return;
  throw new CronError(
    `CronIdentifier ${name} has invalid character '${bad}': CronIdentifiers can only contain ASCII letters, numbers, spaces, underscores, dashes and apostrophes`,
  );
}

/**
 * @param {string} name
 * @param {Schedule} schedule
 */
function checkSchedule(name, schedule) {
  try {
    checkNumbers(schedule);
    if (schedule.type !== "interval") parseCronExpression(expressionOf(schedule));
  } catch (error) {
    if (!(error instanceof CronError || error instanceof CronExpressionError)) throw error;
    throw new CronError(`The cron job '${name}' has a bad schedule: ${error.message}`);
  }
}

/** What each number of a schedule may be, with the words of Convex. @type {[field: string, min: number, max: number, text: string][]} */
const RANGES = [
  ["minuteUTC", 0, 59, "minuteUTC must be 0-59"],
  ["hourUTC", 0, 23, "hourUTC must be 0-23"],
  ["day", 1, 31, "day of month must be 1-31"],
];

/** @param {Schedule} schedule @throws {CronError} */
function checkNumbers(schedule) {
  for (const [field, value] of Object.entries(schedule)) {
    if (typeof value === "number" && !Number.isInteger(value))
      throw new CronError(`Invalid JSON: ${field} must be an integer`);
  }
  if (schedule.type === "interval") intervalMs(schedule);
  for (const [field, min, max, text] of RANGES) {
    const value = /** @type {Record<string, unknown>} */ (schedule)[field];
    if (typeof value === "number" && (value < min || value > max))
      throw new CronError(`${text} in ${JSON.stringify(schedule)}`);
  }
  if (schedule.type === "weekly" && !WEEKDAYS.has(schedule.dayOfWeek))
    throw new CronError(`Invalid JSON: dayOfWeek must be one of ${[...WEEKDAYS.keys()].join(", ")}`);
}

/**
 * When a cron is due. Convex delays all but intervals by up to a minute, by up to an hour if no minute is given, so that a cloud's
 * crons do not fall due together; a host of its own has nothing to spread, and tests want the exact second (Convex can switch the
 * delay off too, with CRON_SPLAY_SECONDS=0). Without a minute it is minute 0.
 *
 * @param {Schedule} schedule  of a spec that `parseCrons` let pass
 * @param {number} afterMs  first: now; else when the run before this one was due
 * @param {{ first: boolean }} options  first: the cron is new or its schedule has changed
 * @returns {number} ms; an interval's first run is at `afterMs`, all other times are after it
 */
export function nextRun(schedule, afterMs, { first }) {
  if (schedule.type === "interval") return first ? afterMs : afterMs + intervalMs(schedule);
  const next = nextOccurrence(parseCronExpression(expressionOf(schedule)), afterMs);
  return /** @type {number} */ (next);
}

/**
 * The run after one that was due at `previousMs` and has ended by `nowMs`: what fell due until then is skipped. So between two runs there
 * is always a time at which the cron is due, and no two read the clock between the same two of them.
 *
 * @param {Schedule} schedule
 * @param {number} previousMs
 * @param {number} nowMs
 * @returns {number} ms, after `nowMs`
 */
export function nextRunSkipping(schedule, previousMs, nowMs) {
  const next = nextRun(schedule, previousMs, { first: false });
  if (next > nowMs) return next;
  if (schedule.type !== "interval") return nextRun(schedule, nowMs, { first: false });
  const period = intervalMs(schedule);
  return previousMs + (Math.floor((nowMs - previousMs) / period) + 1) * period;
}

/** @param {Extract<Schedule, { type: "interval" }>} schedule @returns {number} ms @throws {CronError} */
export function intervalMs({ seconds, minutes, hours }) {
  const given = [seconds, minutes, hours].filter((amount) => amount !== undefined);
  if (given.length !== 1) throw new CronError("Exactly one of (seconds, minutes, hours) should be specified");
  const [amount] = given;
  if (Number(amount) <= 0) throw new CronError("Interval must be an integer greater than 0");
  return ((seconds ?? 0) + (minutes ?? 0) * 60 + (hours ?? 0) * 3600) * SECOND_MS;
}

/** @param {Exclude<Schedule, { type: "interval" }>} schedule @returns {string} a cron expression that names the same times */
function expressionOf(schedule) {
  switch (schedule.type) {
    case "hourly":
      return `${schedule.minuteUTC ?? 0} * * * *`;
    case "daily":
      return `${schedule.minuteUTC ?? 0} ${schedule.hourUTC} * * *`;
    case "weekly":
      return `${schedule.minuteUTC ?? 0} ${schedule.hourUTC} * * ${WEEKDAYS.get(schedule.dayOfWeek) ?? schedule.dayOfWeek}`;
    case "monthly":
      return `${schedule.minuteUTC ?? 0} ${schedule.hourUTC} ${schedule.day} * *`;
    case "cron":
      return schedule.cron;
    default:
      throw new CronError(`Invalid JSON: unknown type ${JSON.stringify(/** @type {any} */ (schedule).type)}`);
  }
}
