/** The text of failures that the host itself gives for a call, in the form clients know from Convex. */

import { randomFillSync } from "node:crypto";
import { endText } from "./engine/errors.mjs";
import { textInFieldOrder } from "./engine/field-order.mjs";

const PREFIX = /^\[Request ID: [^\n]*\] Server Error\n/; // a client may have named its request as it likes

const ID_BYTES = 8;
/** Random bytes for many ids: asking for those of one alone costs as much. */
const pool = Buffer.alloc(128 * ID_BYTES);
let used = pool.length;

/** A new request id: 16 hex digits. */
export function requestId() {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += ID_BYTES;
  return pool.toString("hex", used - ID_BYTES, used);
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
