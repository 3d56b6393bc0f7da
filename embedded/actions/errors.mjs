/** Describes what an action threw in the form Convex gives it to clients. */

import { serverError } from "../failures.mjs";

/**
 * @param {unknown} thrown
 * @param {string} [prefix]  said before the error's own text
 * @returns {import("../engine-client.mjs").Failure}
 */
export function describeError(thrown, prefix) {
  const error = thrown instanceof Error ? thrown : null;
  const text = error === null ? String(thrown) : `${error.name}: ${error.message}`;
  const uncaught = prefix === undefined ? `Uncaught ${text}` : `${prefix}: ${error?.message ?? text}`;
  return serverError(uncaught, convexErrorData(thrown));
}

/**
 * @param {unknown} thrown
 * @returns {string | undefined} JSON text; the registration has serialized it where the error left its function
 */
function convexErrorData(thrown) {
  if (typeof thrown !== "object" || thrown === null || !("ConvexErrorSymbol" in thrown)) return undefined;
  return "data" in thrown && typeof thrown.data === "string" ? thrown.data : undefined;
}
