/** Describes what an action threw in the form Convex gives it to clients. */

import { inspect } from "node:util";
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
  } = thrown instanceof Error ? thrown : { name: "", message: printed(thrown) };
  return serverError(uncaughtText({ name, message, stack }, mapper), convexErrorData(thrown));
}

/**
 * What was thrown outside of the action's promise chain, by the handler of a timer for one.
 *
 * @param {unknown} thrown
 */
export function describeEscape(thrown) {
  return serverError(`uncaughtException: ${thrown instanceof Error ? thrown.message : printed(thrown)}`);
}

/**
 * @param {unknown} thrown
 * @returns {string | undefined} JSON text; the registration has serialized it where the error left its function
 */
function convexErrorData(thrown) {
  if (typeof thrown !== "object" || thrown === null || !("ConvexErrorSymbol" in thrown)) return undefined;
  return "data" in thrown && typeof thrown.data === "string" ? thrown.data : undefined;
}

/** @param {unknown} thrown  no error */
function printed(thrown) {
  return typeof thrown === "string" ? thrown : inspect(thrown);
}
