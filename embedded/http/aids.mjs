/** The routes under /api/host/: test aids that Convex does not have, for the admin key alone. */

import { LAST_TIME_MS, parseMoment } from "../clock.mjs";
import { conflictMatrix } from "../conflict-matrix.mjs";
import { withoutRequestId } from "../failures.mjs";
import { FaultError, readFaults } from "../faults.mjs";
import { parseJsonObject, readBody } from "./body.mjs";
import { HttpError } from "./errors.mjs";

/**
 * @typedef {import("./api.mjs").Host} Host
 * @typedef {import("./api.mjs").Request} Request
 * @typedef {import("./api.mjs").Route} Route
 */

const DEFAULT_WINDOW_MS = 50;
const MAX_WINDOW_MS = 10_000; // no mutation of Convex runs longer

/** @type {Record<string, Route>} */
export const AIDS_POST = {
  "/api/host/faults": async (host, request) => {
    await requireAdmin(host, request);
    try {
      host.faults.set(readFaults(parseJsonObject(await readBody(request))));
    } catch (error) {
      if (!(error instanceof FaultError)) throw error;
      throw new HttpError(400, "BadFaults", error.message);
    }
    return faultsText(host);
  },
  "/api/host/conflicts/clear": async (host, request) => {
    await requireAdmin(host, request);
    return JSON.stringify({ cleared: await recording(host, { clear: true }) });
  },
  "/api/host/clock": async (host, request) => {
    await requireAdmin(host, request);
    const target = readTarget(parseJsonObject(await readBody(request)));
    return JSON.stringify(await virtual(host).advance(target));
  },
};

/** @type {Record<string, Route>} */
export const AIDS_GET = {
  "/api/host/faults": async (host, request) => {
    await requireAdmin(host, request);
    return faultsText(host);
  },
  "/api/host/conflicts": async (host, request, url) => {
    await requireAdmin(host, request);
    const windowMs = readWindow(url.searchParams.get("window"));
    return JSON.stringify(await conflictMatrix(await recording(host, {}), windowMs));
  },
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
function faultsText({ faults }) {
  return JSON.stringify({ ...faults.settings, counts: faults.counts });
}

/** @param {Host} host @param {{ clear?: boolean }} request @returns {Promise<any>} */
async function recording({ engine }, request) {
  const reply = await engine.ask({ op: "recording", ...request });
  if (!reply.ok) throw new HttpError(400, "NotRecording", withoutRequestId(reply.message).trimEnd());
  return JSON.parse(reply.value);
}

/** @param {string | null} text */
function readWindow(text) {
  if (text === null) return DEFAULT_WINDOW_MS;
  const windowMs = /^\d{1,6}$/.test(text) ? Number(text) : NaN;
  if (windowMs >= 1 && windowMs <= MAX_WINDOW_MS) return windowMs;
  throw new HttpError(400, "BadWindow", `'window' must be a whole number of ms from 1 to ${MAX_WINDOW_MS}`);
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
