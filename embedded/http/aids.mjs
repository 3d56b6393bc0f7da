/** The routes under /api/host/: test aids that Convex does not have, for the admin key alone. */

import { LAST_TIME_MS, parseMoment } from "../clock.mjs";
import { parseJsonObject, readBody } from "./body.mjs";
import { HttpError } from "./errors.mjs";

/**
 * @typedef {import("./api.mjs").Host} Host
 * @typedef {import("./api.mjs").Request} Request
 * @typedef {import("./api.mjs").Route} Route
 */

/** @type {Record<string, Route>} */
export const AIDS_POST = {
  "/api/host/clock": async (host, request) => {
    await requireAdmin(host, request);
    const target = readTarget(parseJsonObject(await readBody(request)));
    return JSON.stringify(await virtual(host).advance(target));
  },
};

/** @type {Record<string, Route>} */
export const AIDS_GET = {
  "/api/host/clock": async (host, request) => {
    await requireAdmin(host, request);
    return JSON.stringify({ now: virtual(host).now });
  },
};

/** @param {Host} host @param {Request} request */
async function requireAdmin({ authenticator }, request) {
  const { admin } = await authenticator.fromHeader(request.headers.authorization);
  if (!admin) throw new HttpError(403, "Forbidden", "/api/host is for the admin key only");
}

/** @param {Host} host */
function virtual({ time }) {
  if (time === null)
    throw new HttpError(
      400,
      "ClockNotVirtual",
      "This host has the machine's clock: start it with --clock virtual",
    );
  return time;
}

/**
 * @param {Record<string, unknown>} body
 * @returns {(now: number) => number} ms
 */
function readTarget({ advanceMs, to, ...others }) {
  const moment = parseMoment(to);
  const [other] = Object.keys(others);
  if (other !== undefined) throw badClock(`there is no '${other}'`);
  if ((advanceMs === undefined) === (to === undefined)) throw badClock("give one of 'advanceMs' and 'to'");
  if (to !== undefined) {
    if (moment === null) throw badClock("'to' must be ms since the epoch or an ISO time with its zone");
    return (now) => {
      if (moment < now)
        throw badClock(`it is ${new Date(now).toISOString()} already, and the clock never goes back`);
      return moment;
    };
  }
  if (typeof advanceMs !== "number" || !Number.isInteger(advanceMs) || advanceMs < 0)
    throw badClock("'advanceMs' must be a whole number of ms, 0 or more");
  return (now) => {
    if (now + advanceMs > LAST_TIME_MS) throw badClock("the clock ends in 2262");
    return now + advanceMs;
  };
}

/** @param {string} message */
function badClock(message) {
  return new HttpError(400, "BadClock", message);
}
