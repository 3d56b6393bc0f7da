/** Describes what an action threw in the form Convex gives it to clients. */

import { uncaughtText } from "../engine/errors.mjs";
import { serverError } from "../failures.mjs";

/**
 * @param {unknown} thrown
 * @param {import("../engine/errors.mjs").StackMapper} mapper
 * @returns {import("../engine-client.mjs").Failure}
 */
export function describeError(thrown, mapper) {
  const {
    name,
    message,
    stack = "",
  } = thrown instanceof Error ? thrown : { name: "Error", message: String(thrown) };
  return serverError(uncaughtText({ name, message, stack }, mapper), convexErrorData(thrown));
}

/**
 * What was thrown outside of the action's promise chain, in a timer or a promise that nobody awaits.
 *
 * @param {string} event  the process' name for it
 * @param {unknown} thrown
 */
export function describeEscape(event, thrown) {
  return serverError(`${event}: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
}

/**
 * @param {unknown} thrown
 * @returns {string | undefined} JSON text; the registration has serialized it where the error left its function
 */
function convexErrorData(thrown) {
  if (typeof thrown !== "object" || thrown === null || !("ConvexErrorSymbol" in thrown)) return undefined;
  return "data" in thrown && typeof thrown.data === "string" ? thrown.data : undefined;
}
