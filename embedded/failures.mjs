/** The text of failures that the host itself gives for a call, in the form clients know from Convex. */

import { endText } from "./engine/errors.mjs";
import { textInFieldOrder } from "./engine/field-order.mjs";
import { randomBytesOf } from "./random-bytes.mjs";

const PREFIX = /^\[Request ID: [^\n]*\] Server Error\n/; // a client may have named its request as it likes

/** A new request id: 16 hex digits. */
export function requestId() {
  return Buffer.from(randomBytesOf(8)).toString("hex");
}

/**
 * @param {string} message
 * @param {string} [data]  JSON text
 * @param {string[]} [logLines]
 * @returns {import("./engine-client.mjs").Failure}
 */
export function serverError(message, data, logLines = []) {
  return {
    ok: false,
    message: `[Request ID: ${requestId()}] Server Error\n${endText(message)}`,
    logLines,
    ...(data === undefined ? {} : { data: textInFieldOrder(data, JSON.parse(data)) }),
  };
}

/**
 * @param {import("./engine-client.mjs").Failure} failure
 * @param {string} id  of the request that it answers
 * @returns {import("./engine-client.mjs").Failure}
 */
export function failureOf(failure, id) {
  const text = withoutRequestId(failure.message);
  if (text === failure.message) return failure; // one of the system, which has no such head
  return { ...failure, message: `[Request ID: ${id}] Server Error\n${text}` };
}

/** @param {string} message  of a failure; what it says without the request's id */
export function withoutRequestId(message) {
  return message.replace(PREFIX, "");
}
